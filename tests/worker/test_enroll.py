from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strongroom.attestation.initdata import InitData
from strongroom.broker import admin
from strongroom.broker.client import KbsClient
from strongroom.broker.release import ModelKey
from strongroom.broker.store import Store
from strongroom.crypto import agefile
from strongroom.crypto.notes import NoteSigner, NoteType
from strongroom.errors import StrongroomError
from strongroom.models.bundle import read_bundle, write_bundle
from strongroom.worker.enroll import MAX_SEALED, Enrolment, check_policy, open_bundle


@pytest.fixture
def service(rig: Any, double_tar: bytes) -> Any:
    rig.add_model(double_tar)
    rig.register()
    return rig


@pytest.fixture
def url(service: Any, kit: Any) -> Iterator[str]:
    with kit.broker_server(service.store) as address:
        yield address


@pytest.fixture
def enrolments() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def enrolment_of(enrolments: ExitStack) -> Callable[..., Enrolment]:
    """Makes enrolments, and closes their connections at the end."""

    def make(rig: Any, url: str, init_data: InitData | None = None) -> Enrolment:
        document = (init_data or rig.init_data).to_toml()
        made = Enrolment(KbsClient(url, "sgx", rig.quoter(document).quote), document)
        enrolments.callback(made.close)
        return made

    return make


def _code(refused: pytest.ExceptionInfo[StrongroomError]) -> str:
    return refused.value.code


def test_an_attested_worker_gets_keys_model_policy_and_beacon(
    service: Any, url: str, enrolment_of: Callable[..., Enrolment]
) -> None:
    enrolment = enrolment_of(service, url)
    enrolment.attest()
    epochs = enrolment.service_keys()
    assert [epoch.epoch for epoch in epochs] == [1]
    resource, path = next(iter(service.sealed.items()))
    assert enrolment.bundle(path, resource).manifest.name == "double"
    assert enrolment.release_policy().decode() == service.policy
    assert b"beacon" in enrolment.beacon()


def test_a_worker_takes_no_key_without_the_witness_of_its_init_data(
    service: Any, url: str, enrolment_of: Callable[..., Enrolment]
) -> None:
    """The broker asks no witness; a worker that was started to insist on one gets nothing to serve with."""
    witness = NoteSigner("witness.example/w1", NoteType.COSIGNATURE_V1, b"\x01" * 32).key.text
    watched = dataclasses.replace(service.init_data, witnesses=(witness,), witness_threshold=1)
    enrolment = enrolment_of(service, url, watched)
    enrolment.attest()
    with pytest.raises(StrongroomError) as at_service_key:
        enrolment.service_keys()
    resource, path = next(iter(service.sealed.items()))
    with pytest.raises(StrongroomError) as at_model_key:
        enrolment.bundle(path, resource)
    assert (_code(at_service_key), _code(at_model_key)) == ("log-unwitnessed", "log-unwitnessed")


def test_a_release_for_another_service_is_refused(
    service: Any, url: str, enrolment_of: Callable[..., Enrolment]
) -> None:
    enrolment = enrolment_of(service, url)
    enrolment.attest()
    enrolment._terms = dataclasses.replace(enrolment._terms, service="another")
    resource, path = next(iter(service.sealed.items()))
    with pytest.raises(StrongroomError) as refused:
        enrolment.bundle(path, resource)
    assert _code(refused) == "release-unlogged"


def test_without_attestation_there_is_no_key(
    service: Any, url: str, enrolment_of: Callable[..., Enrolment]
) -> None:
    with pytest.raises(StrongroomError) as refused:
        enrolment_of(service, url).service_keys()
    assert _code(refused) == "token-missing"


def test_a_worker_with_one_changed_line_gets_no_key(
    service: Any, url: str, enrolment_of: Callable[..., Enrolment]
) -> None:
    service.measurement = hashlib.sha256(b"worker, changed").digest()
    enrolment = enrolment_of(service, url)
    with pytest.raises(StrongroomError) as refused:
        enrolment.attest()
    assert _code(refused).startswith("policy-")
    with pytest.raises(StrongroomError) as refused:
        enrolment.service_keys()
    assert _code(refused) == "token-missing"


def test_init_data_that_the_evidence_does_not_carry_is_refused(service: Any, url: str) -> None:
    told = service.init_data
    quoter = service.quoter(dataclasses.replace(told, models=()).to_toml())
    enrolment = Enrolment(KbsClient(url, "sgx", quoter.quote), told.to_toml())
    with pytest.raises(StrongroomError) as refused:
        enrolment.attest()
    enrolment.close()
    assert "init-data" in _code(refused)


def test_a_broker_that_is_away_is_unreachable(service: Any, enrolment_of: Callable[..., Enrolment]) -> None:
    with pytest.raises(StrongroomError) as refused:
        enrolment_of(service, "http://127.0.0.1:9").attest()
    assert (_code(refused), refused.value.status) == ("broker-unreachable", 503)


def test_a_rogue_broker_is_refused(
    service: Any, kit: Any, tmp_path: Path, double_tar: bytes, enrolment_of: Callable[..., Enrolment]
) -> None:
    """It holds the same names, policy and model, admits the worker, and signs with a key of its own."""
    genuine = service.init_data
    with ExitStack() as stack:
        rogue_store = stack.enter_context(Store.open(tmp_path / "rogue"))
        rogue = dataclasses.replace(service, store=rogue_store, folder=tmp_path / "rogue", sealed={})
        rogue.add_model(double_tar)
        rogue.register()
        rogue_url = stack.enter_context(kit.broker_server(rogue_store))
        with pytest.raises(StrongroomError) as at_attestation:
            enrolment_of(service, rogue_url, genuine).attest()
        # Were it to admit the worker in spite of the init-data, what it signs would still not be taken:
        own = enrolment_of(rogue, rogue_url)
        own.attest()
        own.broker_key = enrolment_of(service, rogue_url, genuine).broker_key
        with pytest.raises(StrongroomError) as at_service_key:
            own.service_keys()
        resource, path = next(iter(service.sealed.items()))
        with pytest.raises(StrongroomError) as at_model_key:
            own.bundle(path, resource)
    assert _code(at_attestation) == "init-data-broker"
    assert _code(at_service_key) == "release-foreign-broker"
    assert _code(at_model_key) == "release-foreign-broker"


def test_a_model_that_the_init_data_does_not_name_is_refused(
    service: Any, url: str, enrolment_of: Callable[..., Enrolment]
) -> None:
    enrolment = enrolment_of(service, url, dataclasses.replace(service.init_data, models=()))
    enrolment.attest()
    resource, path = next(iter(service.sealed.items()))
    with pytest.raises(StrongroomError) as refused:
        enrolment.bundle(path, resource)
    assert _code(refused) == "init-data-model"


def test_a_missing_bundle_file_is_refused(
    service: Any, url: str, tmp_path: Path, enrolment_of: Callable[..., Enrolment]
) -> None:
    enrolment = enrolment_of(service, url)
    enrolment.attest()
    with pytest.raises(StrongroomError) as refused:
        enrolment.bundle(tmp_path / "nothing", next(iter(service.sealed)))
    assert _code(refused) == "bundle-refused"


def test_a_bundle_file_without_end_is_cut_off(
    service: Any, url: str, monkeypatch: Any, enrolment_of: Callable[..., Enrolment]
) -> None:
    monkeypatch.setattr("strongroom.worker.enroll.MAX_SEALED", 1000)
    enrolment = enrolment_of(service, url)
    enrolment.attest()
    with pytest.raises(StrongroomError, match="size"):
        enrolment.bundle(Path("/dev/zero"), next(iter(service.sealed)))
    assert MAX_SEALED > 1000


def test_malformed_init_data_is_refused() -> None:
    with pytest.raises(StrongroomError) as refused:
        Enrolment(KbsClient("http://127.0.0.1:9", "sgx", lambda _: None), b"[")  # type: ignore[arg-type, return-value]
    assert _code(refused) == "init-data-malformed"


# ---- the bundle and its key, each check alone


@pytest.fixture
def sealed(double_tar: bytes) -> tuple[bytes, ModelKey]:
    identity = agefile.generate_identity()
    data = agefile.seal(double_tar, agefile.recipient_of(identity))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    manifest = read_bundle(double_tar).manifest.digest
    return data, ModelKey("kbs:///default/model/double", identity, manifest, digest, 0)


def _bundle_refused(data: bytes, key: ModelKey) -> StrongroomError:
    with pytest.raises(StrongroomError) as refused:
        open_bundle(data, key)
    return refused.value


def test_the_bundle_that_the_key_names_is_opened(sealed: tuple[bytes, ModelKey]) -> None:
    assert open_bundle(*sealed).manifest.name == "double"


def test_another_file_is_refused(sealed: tuple[bytes, ModelKey]) -> None:
    data, key = sealed
    error = _bundle_refused(data + b"\0", key)
    assert (error.code, error.detail) == ("bundle-refused", "digest of the sealed file")


def test_another_identity_is_refused(sealed: tuple[bytes, ModelKey]) -> None:
    data, key = sealed
    error = _bundle_refused(data, dataclasses.replace(key, identity=agefile.generate_identity()))
    assert error.code == "bundle-refused"
    assert "does not open" in error.detail


def test_another_manifest_is_refused(sealed: tuple[bytes, ModelKey]) -> None:
    data, key = sealed
    error = _bundle_refused(data, dataclasses.replace(key, manifest="sha256:" + "0" * 64))
    assert (error.code, error.detail) == ("bundle-refused", "digest of the manifest")


def test_a_version_below_the_floor_is_refused(sealed: tuple[bytes, ModelKey]) -> None:
    data, key = sealed
    version = read_bundle(agefile.open_sealed(data, key.identity, limit=MAX_SEALED)).manifest.version
    assert open_bundle(data, dataclasses.replace(key, version_floor=int(version)))
    error = _bundle_refused(data, dataclasses.replace(key, version_floor=int(version) + 1))
    assert (error.code, error.detail, error.found) == ("bundle-refused", "version", version)


def test_a_version_that_is_no_number_counts_as_0(double_tar: bytes) -> None:
    old = read_bundle(double_tar)
    tar = write_bundle(msgspec.structs.replace(old.manifest, version="v9"), dict(old.files))
    identity = agefile.generate_identity()
    data = agefile.seal(tar, agefile.recipient_of(identity))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    manifest = read_bundle(tar).manifest.digest
    key = ModelKey("kbs:///default/model/double", identity, manifest, digest, 0)
    assert open_bundle(data, key).manifest.version == "v9"
    assert _bundle_refused(data, dataclasses.replace(key, version_floor=1)).detail == "version"


def test_a_model_of_somebody_else_for_the_same_recipient_is_refused(
    sealed: tuple[bytes, ModelKey], batched_tar: bytes
) -> None:
    """An age file does not say who made it: whoever knows the recipient can make one."""
    _, key = sealed
    forged = agefile.seal(batched_tar, agefile.recipient_of(key.identity))
    assert _bundle_refused(forged, key).detail == "digest of the sealed file"
    renamed = dataclasses.replace(key, sealed=f"sha256:{hashlib.sha256(forged).hexdigest()}")
    assert _bundle_refused(forged, renamed).detail == "digest of the manifest"


def test_what_is_no_bundle_is_refused(sealed: tuple[bytes, ModelKey]) -> None:
    _, key = sealed
    junk = agefile.seal(b"junk" * 1000, agefile.recipient_of(key.identity))
    key = dataclasses.replace(key, sealed=f"sha256:{hashlib.sha256(junk).hexdigest()}")
    assert _bundle_refused(junk, key).code == "bundle-malformed"


def test_no_refusal_shows_the_identity(sealed: tuple[bytes, ModelKey]) -> None:
    data, key = sealed
    for error in (
        _bundle_refused(b"", key),
        _bundle_refused(data, dataclasses.replace(key, manifest="sha256:" + "0" * 64)),
        _bundle_refused(data, dataclasses.replace(key, identity="AGE-SECRET-KEY-1NONSENSE")),
    ):
        assert "AGE-SECRET" not in str(error)


def test_the_policy_is_the_one_of_the_init_data() -> None:
    text = b"version = 1\n"
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert check_policy(text, digest) == text
    for bad in (text + b" ", b"", b"x" * 300_000):
        with pytest.raises(StrongroomError) as refused:
            check_policy(bad, digest)
        assert _code(refused) == "release-policy-refused"


def test_a_policy_over_the_bound_is_refused_though_its_digest_fits() -> None:
    text = b"#" * (256 * 1024 + 1)
    with pytest.raises(StrongroomError):
        check_policy(text, f"sha256:{hashlib.sha256(text).hexdigest()}")


def test_rotation_gives_both_epochs(service: Any, url: str, enrolment_of: Callable[..., Enrolment]) -> None:
    enrolment = enrolment_of(service, url)
    admin.rotate(service.store, service.init_data.service)
    enrolment.attest()
    assert [epoch.epoch for epoch in enrolment.service_keys()] == [2, 1]
