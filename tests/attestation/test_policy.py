"""The policy: strict reading, appraisal, and the comparison of two policies."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.policy import MAX_POLICY, Policy, decode_policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.reference_values import SignedReferenceValues
from strongroom.crypto.sign import SigningKey
from strongroom.errors import EXIT_USAGE, ConfigError, PolicyRefused

SGX, TDX = EvidenceKind.SGX, EvidenceKind.TDX
KEY = SigningKey.from_raw(b"\x01" * 64).verifying_key.text
TEXT = f"""
version = 1
kinds = ["sgx"]
allow_simulated = true
allow_debug = false
tcb_statuses = ["UpToDate"]
rejected_advisories = ["INTEL-SA-00615"]
min_svn = 1
max_evidence_age = 300
allow_unattested_broker = true
broker_key = "{KEY}"
service = "lite"
simulated_roots = ["sha256:{"aa" * 32}"]
[measurements]
sgx = ["{"11" * 32}"]
tdx = ["{"22" * 48}"]
"""
SMALLEST = f"""
version = 1
kinds = ["sgx"]
tcb_statuses = ["UpToDate"]
[measurements]
sgx = ["{"11" * 32}"]
"""
CLAIMS = Claims(
    kind=SGX,
    anchor=Anchor.SIMULATED,
    root_sha256="aa" * 32,
    measurement="11" * 32,
    signer="33" * 32,
    report_data=bytes(64),
    init_data_digest=bytes(48),
    tcb_status="UpToDate",
    advisories=("INTEL-SA-00001",),
    debug=False,
    product_id=0,
    svn=1,
    expires=1_000,
    fmspc="51d000000000",
)


def test_every_key_is_read() -> None:
    policy = Policy.parse(TEXT)
    assert policy == Policy(
        text=TEXT,
        kinds=frozenset({SGX}),
        measurements={SGX: frozenset({"11" * 32}), TDX: frozenset({"22" * 48})},
        tcb_statuses=frozenset({"UpToDate"}),
        allow_simulated=True,
        simulated_roots=frozenset({"aa" * 32}),
        allow_debug=False,
        rejected_advisories=frozenset({"INTEL-SA-00615"}),
        min_svn=1,
        max_evidence_age=300,
        allow_unattested_broker=True,
        broker_key=KEY,
        broker_measurements={},
        service="lite",
    )
    assert policy.roots.simulated == frozenset({"aa" * 32})
    assert policy.roots.intel


def test_what_is_left_out_is_strict() -> None:
    policy = Policy.parse(SMALLEST)
    assert [policy.allow_simulated, policy.allow_debug, policy.allow_unattested_broker] == [False] * 3
    assert (policy.simulated_roots, policy.broker_key, policy.service) == (frozenset(), None, None)
    assert policy.max_evidence_age == 600


def test_a_policy_that_is_built_by_hand_is_strict_too() -> None:
    policy = Policy("", frozenset(), {})
    assert policy.tcb_statuses == {"UpToDate"}
    assert (policy.max_vmpl, policy.min_svn, policy.max_evidence_age) == (0, 0, 600)
    assert policy.require_revocation is True
    allowed = {name for name in dir(policy) if name.startswith("allow_") and getattr(policy, name)}
    assert allowed == set()


def test_digest_is_over_the_exact_text() -> None:
    assert Policy.parse(TEXT).digest == "sha256:" + hashlib.sha256(TEXT.encode()).hexdigest()
    assert Policy.parse(TEXT + "# é\n").digest != Policy.parse(TEXT).digest
    assert Policy.parse(TEXT + "# é\n") == Policy.parse(TEXT)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("version = 1", "version = 2", "version"),
        ("version = 1", "", "version"),
        ('kinds = ["sgx"]', "", "kinds"),
        ('kinds = ["sgx"]', "kinds = []", "kinds"),
        ('kinds = ["sgx"]', 'kinds = ["sev"]', "kinds"),
        ('kinds = ["sgx"]', 'kinds = ["snp"]', "measurements.snp"),
        ('kinds = ["sgx"]', 'kinds = ["nitro"]', "measurements.nitro"),
        ("min_svn = 1", "max_vmpl = 4", "max_vmpl"),
        ("min_svn = 1", "max_vmpl = -1", "max_vmpl"),
        ("min_svn = 1", "tcb_floor = { Naples = {} }", "tcb_floor"),
        ("min_svn = 1", "tcb_floor = { Milan = { snp = 256 } }", "tcb_floor"),
        ("min_svn = 1", "tcb_floor = { Milan = { fmc = 1 } }", "fmc"),
        ("min_svn = 1", "allow_migration = 1", "allow_migration"),
        ('kinds = ["sgx"]', 'kinds = "sgx"', "kinds"),
        ('kinds = ["sgx"]', 'kinds = ["sgx", "tdx"]\n#', None),
        ('tcb_statuses = ["UpToDate"]', "", "tcb_statuses"),
        ('tcb_statuses = ["UpToDate"]', "tcb_statuses = []", "tcb_statuses"),
        ('tcb_statuses = ["UpToDate"]', 'tcb_statuses = ["Revoked"]', "tcb_statuses"),
        ("allow_debug = false", "allow_debug = 0", "allow_debug"),
        ("allow_debug = false", 'allow_debug = "false"', "allow_debug"),
        ("allow_debug = false", "allow_anything = true", "allow_anything"),
        ("min_svn = 1", "min_svn = -1", "min_svn"),
        ("min_svn = 1", "min_svn = 65536", "min_svn"),
        ("min_svn = 1", "min_svn = 1.5", "min_svn"),
        ("min_svn = 1", "min_svn = true", "min_svn"),
        ("max_evidence_age = 300", "max_evidence_age = 0", "max_evidence_age"),
        ("max_evidence_age = 300", "max_evidence_age = 604801", "max_evidence_age"),
        ("max_evidence_age = 300", "max_evidence_age = 1979-05-27", "max_evidence_age"),
        ('["INTEL-SA-00615"]', '["intel"]', "rejected_advisories"),
        (KEY, KEY[:-1], "broker_key"),
        (KEY, "ed25519+mldsa65:" + "A" * 42 + "B", "broker_key"),
        ('"lite"', '"Lite"', "service"),
        ("sha256:", "sha384:", "simulated_roots"),
        ('simulated_roots = ["sha256:' + "aa" * 32 + '"]', "", "simulated_roots"),
        ("aa" * 32, "AA" * 32, "simulated_roots"),
        ("11" * 32, "11" * 31, "measurements.sgx"),
        ("11" * 32, "11" * 32 + "\\n", "measurements.sgx"),
        ("22" * 48, "22" * 48 + ":" + "00" * 48, "measurements.tdx"),
        ('sgx = ["' + "11" * 32 + '"]', "", "measurements.sgx"),
        ('sgx = ["' + "11" * 32 + '"]', "sgx = []", "measurements.sgx"),
        ("[measurements]", "[other]", "other"),
        ("tdx = [", "sev = [", "sev"),
    ],
)  # fmt: skip
def test_a_file_that_leaves_something_open_is_no_policy(old: str, new: str, named: str | None) -> None:
    assert old in TEXT
    with_change = TEXT.replace(old, new, 1)
    if named is None:  # the second kind has measurements, too
        assert Policy.parse(with_change).kinds == {SGX, TDX}
        return
    with pytest.raises(ConfigError) as caught:
        Policy.parse(with_change)
    assert (caught.value.code, caught.value.exit_code) == ("policy-invalid", EXIT_USAGE)
    assert named in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml",
        "x = " + "1" * 5000,
        "x = " + "[" * 5000,
        "x" * (MAX_POLICY + 1),
        "é" * (MAX_POLICY // 2 + 1),
    ],
    ids=lambda text: text[:10],
)
def test_other_text_is_refused(text: str, code_of: Callable[..., str | None]) -> None:
    assert code_of(Policy.parse, text) == "policy-invalid"


def test_an_error_shows_nothing_that_a_terminal_would_obey() -> None:
    with pytest.raises(ConfigError) as caught:
        Policy.parse(SMALLEST + '"\\u001b[31m" = 1')
    assert str(caught.value).isprintable()


def test_load_keeps_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert Policy.load(path).digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_load_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml") as caught:
        Policy.load(tmp_path / "nowhere.toml")
    assert caught.value.code == "policy-unreadable"


@pytest.mark.parametrize("data", [b"\xff", b"#" * (MAX_POLICY + 1)], ids=["not UTF-8", "too long"])
def test_bytes_that_are_no_text_are_refused(
    data: bytes, tmp_path: Path, code_of: Callable[..., str | None]
) -> None:
    (tmp_path / "policy.toml").write_bytes(data)
    assert code_of(Policy.load, tmp_path / "policy.toml") == "policy-invalid"
    assert code_of(decode_policy, data) == "policy-invalid"


# Appraisal: good claims, one property changed


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"kind": TDX, "measurement": "22" * 48}, "policy-kind"),
        ({"root_sha256": "bb" * 32}, "policy-simulated-root"),
        ({"measurement": "22" * 48}, "policy-measurement"),
        ({"tcb_status": "OutOfDate"}, "policy-tcb-status"),
        ({"advisories": ("INTEL-SA-00615",)}, "policy-advisory"),
        ({"debug": True}, "policy-debug"),
        ({"svn": 0}, "policy-svn"),
        ({"expires": 500}, "policy-expired"),
        ({"report_data": b"\x01" * 64}, "policy-report-data"),
        ({"init_data_digest": b"\x01" * 48}, "policy-init-data"),
    ],
    ids=repr,
)
def test_one_property_alone_refuses(
    change: dict[str, Any], code: str | None, code_of: Callable[..., str | None]
) -> None:
    policy = Policy.parse(TEXT)
    changed = replace(CLAIMS, **change)
    bound = {"report_data": bytes(64), "init_data_digest": bytes(48)}
    assert code_of(policy.appraise, changed, now=500, **bound) == code


def test_simulated_evidence_is_refused_unless_the_policy_allows_it(
    code_of: Callable[..., str | None],
) -> None:
    strict = replace(Policy.parse(TEXT), allow_simulated=False)
    assert code_of(strict.appraise, CLAIMS, now=500) == "policy-simulated"
    assert code_of(strict.appraise, replace(CLAIMS, anchor=Anchor.INTEL), now=500) is None


def test_what_is_not_asked_for_is_not_compared(code_of: Callable[..., str | None]) -> None:
    changed = replace(CLAIMS, report_data=b"\x01" * 64, init_data_digest=b"\x01" * 48)
    assert code_of(Policy.parse(TEXT).appraise, changed, now=500) is None


def test_a_refusal_says_what_was_found_and_expected() -> None:
    with pytest.raises(PolicyRefused, match="found OutOfDate, expected UpToDate"):
        Policy.parse(TEXT).appraise(replace(CLAIMS, tcb_status="OutOfDate"), now=500)


def test_the_broker_has_measurements_of_its_own(code_of: Callable[..., str | None]) -> None:
    policy = Policy.parse(TEXT + f'[broker_measurements]\nsgx = ["{"44" * 32}"]\n')
    broker = policy.for_broker()
    assert code_of(broker.appraise, replace(CLAIMS, measurement="44" * 32), now=500) is None
    assert code_of(broker.appraise, CLAIMS, now=500) == "policy-measurement"
    assert code_of(policy.appraise, replace(CLAIMS, measurement="44" * 32), now=500) == "policy-measurement"


# Rule 3: what another policy admits beyond the own one


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'kinds = ["sgx"]',
            'kinds = ["sgx", "tdx"]',
            ("evidence of kind tdx", "tdx measurement " + "22" * 48),
        ),
        ('sgx = ["', f'sgx = ["{"12" * 32}", "', ("sgx measurement " + "12" * 32,)),
        ('["UpToDate"]', '["UpToDate", "OutOfDate"]', ("TCB status OutOfDate",)),
        ("allow_debug = false", "allow_debug = true", ("debug enclaves",)),
        ("aa" * 32 + '"]', "aa" * 32 + f'", "sha256:{"bb" * 32}"]', ("simulated root sha256:" + "bb" * 32,)),
        ('["INTEL-SA-00615"]', "[]", ("platforms with advisory INTEL-SA-00615",)),
        ("min_svn = 1", "min_svn = 0", ("security versions from 0",)),
    ],
)
def test_a_wider_policy_differs_in_that_one_thing(old: str, new: str, words: tuple[str, ...]) -> None:
    own, wider = Policy.parse(TEXT), Policy.parse(TEXT.replace(old, new, 1))
    assert own.differences(wider) == words
    assert wider.differences(own) == ()


PUBLISHER = SigningKey.generate()
DEMAND = f'[reference_values]\nkey = "{PUBLISHER.verifying_key.text}"\nname = "worker"\n'


def test_what_else_makes_a_policy_wider() -> None:
    own = Policy.parse(TEXT)
    classical = replace(own, allow_classical_release=True)
    assert own.differences(classical) == ("key release without post-quantum protection",)
    assert classical.differences(own) == ()
    publishing = Policy.parse(TEXT + DEMAND)
    (words,) = own.differences(publishing)
    assert PUBLISHER.verifying_key.text in words
    assert publishing.differences(own) == ()


def test_a_policy_without_a_publisher_takes_no_reference_values() -> None:
    signed = SignedReferenceValues(b"{}", b"")
    with pytest.raises(PolicyRefused, match="reference-values-foreign"):
        Policy.parse(TEXT).with_values(signed)


def test_a_policy_that_allows_simulated_evidence_is_wider() -> None:
    own = Policy.parse(TEXT.replace("allow_simulated = true", "allow_simulated = false"))
    words = own.differences(Policy.parse(TEXT))
    assert words == ("simulated evidence", "simulated root sha256:" + "aa" * 32)
    assert Policy.parse(TEXT).differences(own) == ()


def test_measurements_of_a_kind_that_is_not_accepted_do_not_widen() -> None:
    own = Policy.parse(SMALLEST)
    other = Policy.parse(SMALLEST + f'tdx = ["{"22" * 48}"]\n')
    assert own.differences(other) == ()


def test_what_concerns_only_the_client_does_not_differ() -> None:
    own = Policy.parse(TEXT)
    release = own.to_toml().replace(f'broker_key = "{KEY}"', "").replace('service = "lite"', "")
    other = Policy.parse(release.replace("max_evidence_age = 300", "max_evidence_age = 900"))
    assert own.differences(other) == ()


SNP_TEXT = """\
version = 1
kinds = ["snp"]
measurements = { snp = ["%s"] }
tcb_floor = { Turin = { fmc = 1, snp = 4 }, Milan = { snp = 24 } }
""" % ("33" * 48)


def test_a_policy_for_snp_guests_is_read_and_strict() -> None:
    policy = Policy.parse(SNP_TEXT)
    assert policy.tcb_floor == {"Turin": {"fmc": 1, "snp": 4}, "Milan": {"snp": 24}}
    assert (policy.max_vmpl, policy.allow_migration, policy.require_revocation) == (0, False, True)


def test_a_policy_for_snp_guests_needs_a_floor() -> None:
    """AMD publishes no status of its firmware: without a floor any version would do."""
    without = SNP_TEXT.replace("tcb_floor", "# tcb_floor")
    with pytest.raises(ConfigError, match="tcb_floor names no product"):
        Policy.parse(without)


AZURE_TEXT = f"""
version = 1
kinds = ["az-snp-vtpm", "tpm"]
measurements = {{ az-snp-vtpm = ["{"33" * 48}"] }}
tcb_floor = {{ Milan = {{ snp = 24 }} }}
tpm_keys = ["sha256:{"aa" * 32}"]

[pcrs]
4 = ["{"04" * 32}", "{"14" * 32}"]
23 = ["{"23" * 32}"]
"""


def test_a_policy_for_tpms_is_read_and_strict() -> None:
    policy = Policy.parse(AZURE_TEXT)
    assert policy.pcrs == {4: {"04" * 32, "14" * 32}, 23: {"23" * 32}}
    assert policy.roots.tpm_keys == policy.tpm_keys == {"aa" * 32}
    assert policy.measurements == {EvidenceKind.AZ_SNP: {"33" * 48}}
    assert Policy.parse(policy.to_toml()) == policy


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[pcrs]\n4", "[other]\n4", "other"),
        ("[pcrs]\n4", "[pcrs]\n24", "pcrs"),
        ("[pcrs]\n4", "[pcrs]\n-1", "pcrs"),
        ("[pcrs]\n4", "[pcrs]\nfour", "pcrs"),
        ("23 = [", "23 = []\n22 = [", "pcrs"),
        ("04" * 32, "04" * 31, "pcrs"),
        ("04" * 32, "AB" * 32, "pcrs"),
        ("tpm_keys", "# tpm_keys", "tpm_keys is empty"),
        ("sha256:aa", "aa", "tpm_keys"),
        ("tcb_floor", "# tcb_floor", "tcb_floor names no product"),
        ("measurements", "# measurements", "measurements"),
    ],
)
def test_a_policy_for_tpms_that_leaves_something_open_is_refused(old: str, new: str, named: str) -> None:
    assert old in AZURE_TEXT
    with pytest.raises(ConfigError, match=named):
        Policy.parse(AZURE_TEXT.replace(old, new, 1))


@pytest.mark.parametrize("kind", ["az-snp-vtpm", "tpm"])
def test_a_policy_for_tpms_needs_registers(kind: str) -> None:
    text = AZURE_TEXT.split("[pcrs]", maxsplit=1)[0].replace('["az-snp-vtpm", "tpm"]', f'["{kind}"]')
    with pytest.raises(ConfigError, match=f"pcrs is empty, but kinds has {kind}"):
        Policy.parse(text)


# Writing

hexes = {
    SGX: st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    TDX: st.from_regex(r"[0-9a-f]{96}", fullmatch=True),
    EvidenceKind.SNP: st.from_regex(r"[0-9a-f]{96}", fullmatch=True),
    EvidenceKind.NITRO: st.from_regex(r"[0-9a-f]{96}:[0-9a-f]{96}:[0-9a-f]{96}", fullmatch=True),
    EvidenceKind.AZ_SNP: st.from_regex(r"[0-9a-f]{96}", fullmatch=True),
    EvidenceKind.AZ_TDX: st.from_regex(r"[0-9a-f]{96}", fullmatch=True),
}
registers = st.dictionaries(
    st.integers(0, 23), st.frozensets(hexes[SGX], min_size=1, max_size=2), min_size=1, max_size=3
)
versions = st.integers(1, 255)
floors = st.dictionaries(
    st.sampled_from(["Milan", "Genoa", "Turin"]),
    st.dictionaries(st.sampled_from(["bootloader", "tee", "snp", "microcode"]), versions),
    min_size=1,
)


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(
    lists=st.fixed_dictionaries(
        {kind: st.frozensets(text, min_size=1, max_size=3) for kind, text in hexes.items()}
    ),
    kinds=st.frozensets(st.sampled_from(EvidenceKind), min_size=1),
    statuses=st.frozensets(st.sampled_from(["UpToDate", "OutOfDate", "SWHardeningNeeded"]), min_size=1),
    advisories=st.frozensets(st.from_regex(r"[A-Z0-9-]{1,64}", fullmatch=True), max_size=3),
    roots=st.frozensets(hexes[SGX], min_size=1, max_size=2),
    flags=st.tuples(*[st.booleans()] * 4),
    numbers=st.tuples(st.integers(0, 65535), st.integers(1, 604800), st.integers(0, 3)),
    floor=floors,
    pcrs=registers,
)
def test_written_text_reads_back(
    lists: Any,
    kinds: Any,
    statuses: Any,
    advisories: Any,
    roots: Any,
    flags: Any,
    numbers: Any,
    floor: Any,
    pcrs: Any,
) -> None:
    guests = not kinds.isdisjoint({EvidenceKind.SNP, EvidenceKind.AZ_SNP})
    extra: dict[str, Any] = {
        "pcrs": pcrs,
        "tpm_keys": roots,
        "tcb_floor": floor,
        "max_vmpl": numbers[2] if guests else 0,
        "allow_migration": guests and flags[0],
        "require_revocation": not guests or flags[1],
    }
    text = render_policy(
        kinds=kinds,
        measurements=lists,
        tcb_statuses=statuses,
        rejected_advisories=advisories,
        simulated_roots=roots,
        allow_simulated=flags[0],
        allow_debug=flags[1],
        allow_unattested_broker=flags[2],
        broker_key=KEY if flags[3] else None,
        broker_measurements=lists if flags[3] else None,
        service="lite" if flags[3] else None,
        min_svn=numbers[0],
        max_evidence_age=numbers[1],
        **extra,
    )
    policy = Policy.parse(text)
    assert policy == Policy(
        text="",
        kinds=kinds,
        measurements=lists,
        tcb_statuses=statuses,
        rejected_advisories=advisories,
        simulated_roots=roots,
        allow_simulated=flags[0],
        allow_debug=flags[1],
        allow_unattested_broker=flags[2],
        broker_key=KEY if flags[3] else None,
        broker_measurements=lists if flags[3] else {},
        service="lite" if flags[3] else None,
        min_svn=numbers[0],
        max_evidence_age=numbers[1],
        **extra,
    )
    assert policy.to_toml() == text


def test_written_text_says_simulated_plainly() -> None:
    assert "# SIMULATED evidence is accepted." in Policy.parse(TEXT).to_toml()
    assert "SIMULATED" not in Policy.parse(SMALLEST).to_toml()


def test_roots_can_be_given_as_they_stand_in_the_file() -> None:
    text = render_policy(
        kinds=[SGX],
        measurements={SGX: ["11" * 32]},
        allow_simulated=True,
        simulated_roots=["sha256:" + "aa" * 32],
    )
    assert Policy.parse(text).simulated_roots == {"aa" * 32}


def test_a_policy_that_would_not_read_back_is_not_written(code_of: Callable[..., str | None]) -> None:
    assert code_of(render_policy, kinds=[SGX], measurements={}) == "policy-invalid"
    open_string = {SGX: ['x"]\nallow_debug = true\n#']}
    assert code_of(render_policy, kinds=[SGX], measurements=open_string) == "policy-invalid"


@pytest.mark.slow
def test_mutants_raise_our_errors_only(
    mutants: Callable[..., Iterator[bytes]], survey: Callable[..., Any]
) -> None:
    def encode(value: Any) -> bytes:
        """JSON values are TOML values, and inline tables are tables: a changed policy is still TOML."""
        if not isinstance(value, dict):
            return json.dumps(value).encode()
        return "".join(f"{json.dumps(name)} = {_inline(item)}\n" for name, item in value.items()).encode()

    def parse(data: bytes) -> Policy:
        return Policy.parse(decode_policy(data))

    result = survey(parse, mutants(tomllib.loads(TEXT), encode, 20_000, seed=10))
    assert set(result.codes) == {"policy-invalid"}
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    for data, policy in result.accepted:
        assert policy.digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert Policy.parse(policy.to_toml()) == policy


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_inline(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return json.dumps(value)
