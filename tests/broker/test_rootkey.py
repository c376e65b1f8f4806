"""Root keys, real ones: a file, a software TPM, SoftHSM through PKCS#11, and KMS as moto plays it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pkcs11
import pytest
from moto import mock_aws

from soft_tpm import MISSING, SoftTpm
from strongroom.broker.configured import root_key
from strongroom.broker.rootkey import FileRootKey, RootKey
from strongroom.broker.rootkey_kms import KmsRootKey
from strongroom.broker.rootkey_pkcs11 import Pkcs11RootKey
from strongroom.broker.rootkey_tpm import TpmRootKey
from strongroom.broker.store import Store
from strongroom.config import RootConfig
from strongroom.errors import StrongroomError

SOFTHSM = next(
    (
        p
        for p in map(Path, ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"))
        if p.exists()
    ),
    None,
)
SECRET = b"a data key of exactly 32 bytes!!"
PCRS = "sha256:7,14,16"
KINDS = ("file", "tpm", "pkcs11", "kms")

needs_tpm = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
needs_hsm = pytest.mark.skipif(SOFTHSM is None, reason="not installed: softhsm2")


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftTpm]:
    made = SoftTpm(tmp_path_factory.mktemp("tpm"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A token with a few keys. SoftHSM reads its configuration once in a process."""
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    pins = ["--so-pin", "0000", "--pin", "canary-pin"]
    command = ["softhsm2-util", "--init-token", "--free", "--label", "strongroom", *pins]
    subprocess.run(command, check=True, capture_output=True)
    token = pkcs11.lib(str(SOFTHSM)).get_token(token_label="strongroom")
    with token.open(user_pin="canary-pin", rw=True) as session:
        secret = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
        for label, size, template in (
            ("root", 256, secret),
            ("other", 256, secret),
            ("short", 128, secret),
            ("loose", 256, {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: True}),
            ("open", 256, {pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: False}),
        ):
            session.generate_key(pkcs11.KeyType.AES, size, label=label, store=True, template=template)
    yield str(SOFTHSM)
    del os.environ["SOFTHSM2_CONF"]


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], KmsRootKey]]:
    """Makes a key in KMS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("kms", region_name="eu-central-1")

        def make() -> KmsRootKey:
            return KmsRootKey.connect(client.create_key()["KeyMetadata"]["Arn"], region="eu-central-1")

        yield make


@pytest.fixture(
    params=["file", pytest.param("tpm", marks=needs_tpm), pytest.param("pkcs11", marks=needs_hsm), "kms"]
)
def root(request: pytest.FixtureRequest) -> RootKey:
    if request.param == "tpm":
        return TpmRootKey(PCRS, tcti=request.getfixturevalue("tpm").tcti)
    if request.param == "pkcs11":
        return Pkcs11RootKey(request.getfixturevalue("hsm"), "strongroom", "root", pin="canary-pin")
    if request.param == "kms":
        made: RootKey = request.getfixturevalue("kms")()
        return made
    return FileRootKey(bytes(range(32)))


# What all of them promise.


def test_what_is_wrapped_unwraps(root: RootKey) -> None:
    for secret in (SECRET, b"x", SECRET * 2):
        wrapped = root.wrap(secret, "root/s/1")
        assert secret not in wrapped or secret == b"x"
        assert root.unwrap(wrapped, "root/s/1") == secret


def test_wrapping_twice_gives_different_bytes(root: RootKey) -> None:
    assert root.wrap(SECRET, "root/s/1") != root.wrap(SECRET, "root/s/1")


def test_another_context_does_not_open(root: RootKey, refused) -> None:
    wrapped = root.wrap(SECRET, "root/s/1")
    with refused("secret-unreadable"):
        root.unwrap(wrapped, "root/s/2")


def test_changed_and_cut_bytes_do_not_open(root: RootKey) -> None:
    wrapped = root.wrap(SECRET, "root/s/1")
    middle = len(wrapped) // 2
    for changed in (
        b"",
        wrapped[:-1],
        wrapped[:middle],
        wrapped[:middle] + bytes([wrapped[middle] ^ 1]) + wrapped[middle + 1 :],
        wrapped[:-1] + bytes([wrapped[-1] ^ 1]),
        b"{}",
        b"[]",
        bytes(100),
    ):
        with pytest.raises(StrongroomError) as caught:
            root.unwrap(changed, "root/s/1")
        assert caught.value.code in {"secret-unreadable", "root-key-unavailable"}


def test_its_name_tells_no_secret(root: RootKey) -> None:
    assert root.name.split(":")[0] in KINDS
    assert "canary" not in root.name
    assert bytes(range(32)).hex() not in root.name


# A file.


def test_two_files_have_two_names_and_do_not_open_each_other(refused) -> None:
    one, two = FileRootKey(bytes(32)), FileRootKey(bytes([1]) * 32)
    assert one.name != two.name
    with refused("secret-unreadable"):
        two.unwrap(one.wrap(SECRET, "c"), "c")


# A TPM.


@needs_tpm
@pytest.mark.system
def test_a_tpm_unseals_only_while_the_pcrs_are_the_same(tmp_path: Path, refused) -> None:
    tpm = SoftTpm(tmp_path)
    try:
        root = TpmRootKey(PCRS, tcti=tpm.tcti)
        wrapped = root.wrap(SECRET, "c")
        tpm.run("tpm2_pcrextend", f"15:sha256={'11' * 32}")  # not one of ours
        assert root.unwrap(wrapped, "c") == SECRET
        tpm.run("tpm2_pcrextend", f"14:sha256={'11' * 32}")
        with refused("root-key-unavailable"):
            root.unwrap(wrapped, "c")
        again = root.wrap(SECRET, "c")
        assert root.unwrap(again, "c") == SECRET
        with refused("root-key-unavailable"):
            root.unwrap(wrapped, "c")
    finally:
        tpm.stop()


@needs_tpm
@pytest.mark.system
def test_a_store_outlives_an_update_that_changes_the_pcrs(tmp_path: Path, refused) -> None:
    """Another root key is let in before it; after it, the store is sealed anew under the new values."""
    spare = FileRootKey(bytes(32))
    folder = tmp_path / "tpm"
    folder.mkdir()
    tpm = SoftTpm(folder)
    try:
        root = TpmRootKey(PCRS, tcti=tpm.tcti)
        with Store.open(tmp_path / "s", roots=[root]) as store:
            key = store.signing_key.raw()
        Store.open(tmp_path / "s", roots=[spare, root]).close()
        tpm.run("tpm2_pcrextend", f"7:sha256={'22' * 32}")
        with refused("root-key-unavailable"):
            Store.open(tmp_path / "s", roots=[root])
        Store.open(tmp_path / "s", roots=[root, spare]).close()
        with Store.open(tmp_path / "s", roots=[root]) as store:
            assert store.signing_key.raw() == key
    finally:
        tpm.stop()


@needs_tpm
@pytest.mark.system
def test_another_tpm_does_not_unseal(tpm: SoftTpm, tmp_path: Path, refused) -> None:
    other = SoftTpm(tmp_path)
    try:
        one, two = (TpmRootKey(PCRS, tcti=each.tcti) for each in (tpm, other))
        assert one.name != two.name
        assert one.name == TpmRootKey("sha256:0", tcti=tpm.tcti).name
        with refused("root-key-unavailable"):
            two.unwrap(one.wrap(SECRET, "c"), "c")
    finally:
        other.stop()


@needs_tpm
@pytest.mark.system
def test_a_tpm_that_is_gone(tmp_path: Path, refused) -> None:
    tpm = SoftTpm(tmp_path)
    root = TpmRootKey(PCRS, tcti=tpm.tcti)
    tpm.stop()
    with refused("root-key-unavailable"):
        root.wrap(SECRET, "c")


@pytest.mark.parametrize("pcrs", ["", "7", "sha1:7", "sha256:", "sha256:24", "sha256:7,", "sha256:7;id"])
def test_pcrs_that_are_none(pcrs: str, refused) -> None:
    with refused("root-key-config"):
        TpmRootKey(pcrs)


def test_without_the_programs_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StrongroomError, match="tpm2-tools") as caught:
        TpmRootKey(PCRS)
    assert caught.value.code == "root-key-unavailable"


# PKCS#11.


@needs_hsm
def test_a_key_that_may_leave_the_module_is_refused(hsm: str, refused) -> None:
    for label in ("loose", "open", "short"):
        with refused("root-key-config"):
            Pkcs11RootKey(hsm, "strongroom", label, pin="canary-pin")


@needs_hsm
def test_another_key_of_the_module_does_not_open(hsm: str, refused) -> None:
    one, two = (Pkcs11RootKey(hsm, "strongroom", label, pin="canary-pin") for label in ("root", "other"))
    assert one.name != two.name
    with refused("secret-unreadable"):
        two.unwrap(one.wrap(SECRET, "c"), "c")


@needs_hsm
@pytest.mark.parametrize(
    ("token", "key", "pin"),
    [
        ("strongroom", "missing", "canary-pin"),
        ("missing", "root", "canary-pin"),
        ("strongroom", "root", "canary-wrong"),
    ],
)
def test_what_is_not_in_the_module(hsm: str, token: str, key: str, pin: str) -> None:
    with pytest.raises(StrongroomError) as caught:
        Pkcs11RootKey(hsm, token, key, pin=pin)
    assert caught.value.code == "root-key-unavailable"
    assert "canary" not in str(caught.value)


def test_a_module_that_is_none(tmp_path: Path, refused) -> None:
    with refused("root-key-unavailable"):
        Pkcs11RootKey(str(tmp_path / "missing.so"), "t", "k", pin="1")


# KMS.


def test_another_key_of_kms_does_not_open(kms) -> None:
    one, two = kms(), kms()
    assert one.name != two.name
    with pytest.raises(StrongroomError) as caught:
        two.unwrap(one.wrap(SECRET, "c"), "c")
    # AWS says IncorrectKeyException, moto AccessDeniedException.
    assert caught.value.code in {"secret-unreadable", "root-key-unavailable"}


def test_the_context_is_the_encryption_context(kms) -> None:
    root = kms()
    wrapped = root.wrap(SECRET, "root/s/1")
    client = boto3.client("kms", region_name="eu-central-1")
    answer = client.decrypt(CiphertextBlob=wrapped, EncryptionContext={"strongroom": "root/s/1"})
    assert answer["Plaintext"] == SECRET


def test_a_key_that_kms_does_not_have(kms, refused) -> None:
    wrapped = kms().wrap(SECRET, "c")
    arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    with refused("root-key-unavailable"):
        KmsRootKey.connect(arn, region="eu-central-1").unwrap(wrapped, "c")


def test_kms_that_does_not_answer(monkeypatch, refused) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary")
    root = KmsRootKey.connect("key", region="eu-central-1", endpoint="http://127.0.0.1:1")
    with pytest.raises(StrongroomError) as caught:
        root.wrap(SECRET, "c")
    assert caught.value.code == "root-key-unavailable"
    assert "canary" not in str(caught.value)


def test_kms_without_a_region(monkeypatch, tmp_path: Path, refused) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with refused("root-key-config"):
        KmsRootKey.connect("key")


# As configured.


def test_each_kind_is_made_as_configured(tmp_path: Path, kms) -> None:
    path = tmp_path / "root.key"
    path.write_bytes(bytes(32))
    path.chmod(0o600)
    assert root_key(RootConfig(kind="file", path=str(path)), "t").name == FileRootKey(bytes(32)).name
    made = kms()
    arn = made.name.removeprefix("kms:")
    assert root_key(RootConfig(kind="kms", key=arn, region="eu-central-1"), "t").name == made.name


@needs_tpm
def test_a_tpm_as_configured(tpm: SoftTpm) -> None:
    assert root_key(RootConfig(kind="tpm", pcrs=PCRS, tcti=tpm.tcti), "t").name.startswith("tpm:")


@needs_hsm
def test_a_module_as_configured(hsm: str, tmp_path: Path, refused) -> None:
    pin = tmp_path / "pin"
    pin.write_text("canary-pin\n")
    pin.chmod(0o600)
    config = RootConfig(kind="pkcs11", module=hsm, token="strongroom", key="root", pin_file=str(pin))
    assert root_key(config, "t").name == "pkcs11:strongroom/root"
    pin.chmod(0o644)
    with refused("key-file-exposed"):
        root_key(config, "t")


@pytest.mark.parametrize(
    "config",
    [
        RootConfig(kind="file"),
        RootConfig(kind="file", path="p", pcrs="sha256:7"),
        RootConfig(kind="tpm"),
        RootConfig(kind="tpm", pcrs="sha256:7", path="p"),
        RootConfig(kind="pkcs11", module="m", token="t", key="k"),
        RootConfig(kind="pkcs11", module="m", token="t", key="k", pin_file="p", region="r"),
        RootConfig(kind="kms", region="r"),
        RootConfig(kind="kms", key="k", tcti="device:/dev/tpmrm0"),
    ],
)
def test_keys_that_are_missing_or_of_no_use(config: RootConfig, refused) -> None:
    with refused("root-key-config"):
        root_key(config, "broker.root")


@pytest.mark.parametrize(
    ("module", "extra", "config"),
    [
        ("pkcs11", "pkcs11", RootConfig(kind="pkcs11", module="m", token="t", key="k", pin_file="pin")),
        ("boto3", "kms", RootConfig(kind="kms", key="k", region="r")),
    ],
)
def test_without_its_extra_a_kind_says_so(
    module: str, extra: str, config: RootConfig, monkeypatch, tmp_path: Path
) -> None:
    assert importlib.util.find_spec(module) is not None
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    Path("pin").write_text("1")
    Path("pin").chmod(0o600)
    with pytest.raises(StrongroomError, match=rf"strongroom\[{extra}\]") as caught:
        root_key(config, "broker.root")
    assert caught.value.code == "root-key-config"
