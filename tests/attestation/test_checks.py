"""Each check of a policy refuses alone, with its own code, and names what it found and expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation import checks
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.gpu_checks import GpuDemand, GpusAre
from strongroom.errors import EXIT_REFUSED, PolicyRefused

SGX, TDX = EvidenceKind.SGX, EvidenceKind.TDX
CLAIMS = Claims(
    kind=SGX,
    anchor=Anchor.INTEL,
    root_sha256="00" * 32,
    measurement="11" * 32,
    signer="22" * 32,
    report_data=b"\x33" * 64,
    init_data_digest=b"\x44" * 48,
    tcb_status="UpToDate",
    advisories=("SA-1",),
    debug=False,
    product_id=0,
    svn=5,
    expires=1_000,
    fmspc="00" * 6,
)

# check, a change of the good claims that it alone notices, its code, what its error says
REFUSALS: list[tuple[checks.Check, dict[str, Any], str, str | None]] = [
    (checks.KindIs(frozenset({SGX})), {"kind": TDX}, "policy-kind", "tdx"),
    (checks.NotSimulated(allow=False), {"anchor": Anchor.SIMULATED}, "policy-simulated", None),
    (
        checks.SimulatedRootPinned(frozenset({"aa" * 32})),
        {"anchor": Anchor.SIMULATED, "root_sha256": "bb" * 32},
        "policy-simulated-root",
        "sha256:" + "bb" * 32,
    ),
    (
        checks.MeasurementIs({SGX: frozenset({"11" * 32})}),
        {"measurement": "12" * 32},
        "policy-measurement",
        "12" * 32,
    ),
    (
        checks.TcbStatusIs(frozenset({"UpToDate"})),
        {"tcb_status": "OutOfDate"},
        "policy-tcb-status",
        "OutOfDate",
    ),
    (checks.NoAdvisory(frozenset({"SA-9"})), {"advisories": ("SA-1", "SA-9")}, "policy-advisory", "SA-9"),
    (checks.NotDebug(allow=False), {"debug": True}, "policy-debug", None),
    (checks.SvnAtLeast(5), {"svn": 4}, "policy-svn", "4"),
    (checks.NotExpired(999), {"expires": 999}, "policy-expired", "999"),
    (checks.ReportDataIs(b"\x33" * 64), {"report_data": b"\x34" * 64}, "policy-report-data", "34" * 64),
    (checks.InitDataIs(b"\x44" * 48), {"init_data_digest": b"\x45" * 48}, "policy-init-data", "45" * 48),
]


@pytest.mark.parametrize(("check", "change", "code", "found"), REFUSALS, ids=lambda item: type(item).__name__)
def test_a_check_refuses_alone(
    check: checks.Check,
    change: dict[str, Any],
    code: str,
    found: str | None,
    code_of: Callable[..., str | None],
) -> None:
    assert code_of(check.verify, CLAIMS) is None
    with pytest.raises(PolicyRefused) as caught:
        check.verify(replace(CLAIMS, **change))
    assert (caught.value.code, caught.value.exit_code) == (code, EXIT_REFUSED)
    assert caught.value.found == found


def test_each_refusal_has_a_code_of_its_own() -> None:
    assert len({code for _, _, code, _ in REFUSALS}) == len(REFUSALS)


@pytest.mark.parametrize(("check", "change", "code", "found"), REFUSALS, ids=lambda item: type(item).__name__)
def test_no_other_check_refuses_the_same_change(
    check: checks.Check,
    change: dict[str, Any],
    code: str,
    found: str | None,
    code_of: Callable[..., str | None],
) -> None:
    # A change of the kind changes what the measurement is compared with, and of the anchor what a root is.
    changed = replace(CLAIMS, **change)
    codes = {code_of(other.verify, changed) for other, *_ in REFUSALS} - {None, code}
    assert codes <= {"policy-measurement", "policy-simulated", "policy-simulated-root"}


@pytest.mark.parametrize(
    "allowed",
    [
        checks.NotSimulated(allow=True),
        checks.SimulatedRootPinned(frozenset({"00" * 32})),
        checks.MeasurementIs({SGX: frozenset({"11" * 32, "12" * 32})}),
    ],
    ids=lambda check: type(check).__name__,
)
def test_simulated_evidence_under_a_pinned_root_can_pass(
    allowed: checks.Check, code_of: Callable[..., str | None]
) -> None:
    assert code_of(allowed.verify, replace(CLAIMS, anchor=Anchor.SIMULATED)) is None


def test_debug_can_be_allowed(code_of: Callable[..., str | None]) -> None:
    assert code_of(checks.NotDebug(allow=True).verify, replace(CLAIMS, debug=True)) is None


def test_a_measurement_counts_for_its_kind_only(code_of: Callable[..., str | None]) -> None:
    check = checks.MeasurementIs({TDX: frozenset({"11" * 32})})
    assert code_of(check.verify, CLAIMS) == "policy-measurement"


def test_an_error_of_an_empty_expectation_says_none() -> None:
    with pytest.raises(PolicyRefused, match="expected none"):
        checks.MeasurementIs({}).verify(CLAIMS)


SNP_CLAIMS = replace(
    CLAIMS,
    kind=EvidenceKind.SNP,
    tcb_status="",
    product="Milan",
    tcb={"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219},
    revocation_checked=False,
)
FLOOR = checks.TcbAtLeast({"Milan": {"bootloader": 4, "snp": 24}})


@pytest.mark.parametrize(
    ("check", "change", "code", "found"),
    [
        (FLOOR, {"product": "Genoa"}, "policy-tcb-floor", "Genoa"),
        (FLOOR, {"tcb": {**SNP_CLAIMS.tcb, "snp": 23}}, "policy-tcb-floor", "23"),
        (FLOOR, {"tcb": {**SNP_CLAIMS.tcb, "bootloader": 3}}, "policy-tcb-floor", "3"),
        (FLOOR, {"tcb": {}}, "policy-tcb-floor", "-1"),
        (checks.PrivilegeAtMost(1), {"privilege": 2}, "policy-privilege", "2"),
        (checks.NotMigratable(allow=False), {"migratable": True}, "policy-migration", None),
    ],
)
def test_a_check_of_snp_guests_refuses_alone(
    check: checks.Check, change: dict[str, Any], code: str, found: str | None
) -> None:
    good = replace(SNP_CLAIMS, privilege=1)
    check.verify(good)
    with pytest.raises(PolicyRefused) as caught:
        check.verify(replace(good, **change))
    assert (caught.value.code, caught.value.found) == (code, found)


TPM_CLAIMS = replace(CLAIMS, kind=EvidenceKind.TPM, root_sha256="aa", pcrs={4: "04", 7: "07"})
PCRS = checks.PcrsAre({4: frozenset({"04", "14"}), 7: frozenset({"07"})})


@pytest.mark.parametrize("kind", [EvidenceKind.TPM, EvidenceKind.AZ_SNP, EvidenceKind.AZ_TDX])
def test_registers_of_a_tpm_must_be_as_listed(kind: EvidenceKind) -> None:
    good = replace(TPM_CLAIMS, kind=kind)
    PCRS.verify(good)
    PCRS.verify(replace(good, pcrs={4: "14", 7: "07", 8: "anything"}))
    for pcrs, found in (({4: "05", 7: "07"}, "05"), ({4: "04", 7: "04"}, "04"), ({7: "07"}, None)):
        with pytest.raises(PolicyRefused) as caught:
            PCRS.verify(replace(good, pcrs=pcrs))
        assert (caught.value.code, caught.value.found) == ("policy-pcr", found)
    PCRS.verify(replace(CLAIMS, pcrs={}))  # an enclave has none


def test_the_key_of_a_tpm_must_be_pinned() -> None:
    checks.TpmKeyPinned(frozenset({"aa"})).verify(TPM_CLAIMS)
    checks.TpmKeyPinned(frozenset()).verify(replace(CLAIMS, kind=EvidenceKind.AZ_SNP))
    for keys in (frozenset(), frozenset({"bb"})):
        with pytest.raises(PolicyRefused, match="policy-tpm-key"):
            checks.TpmKeyPinned(keys).verify(TPM_CLAIMS)


def test_a_machine_with_a_tpm_is_measured_by_its_registers_alone() -> None:
    checks.MeasurementIs({}).verify(TPM_CLAIMS)
    for kind in (EvidenceKind.AZ_SNP, EvidenceKind.AZ_TDX):
        with pytest.raises(PolicyRefused, match="policy-measurement"):
            checks.MeasurementIs({}).verify(replace(TPM_CLAIMS, kind=kind))


def test_a_revocation_list_can_be_demanded() -> None:
    checks.RevocationChecked(required=False).verify(SNP_CLAIMS)
    checks.RevocationChecked(required=True).verify(replace(SNP_CLAIMS, revocation_checked=True))
    with pytest.raises(PolicyRefused, match="policy-revocation"):
        checks.RevocationChecked(required=True).verify(SNP_CLAIMS)


def test_newer_firmware_and_parts_without_a_floor_pass() -> None:
    FLOOR.verify(replace(SNP_CLAIMS, tcb={"bootloader": 5, "tee": 0, "snp": 25, "microcode": 0}))


def test_floors_are_for_snp_and_statuses_for_intel() -> None:
    FLOOR.verify(CLAIMS)
    status = checks.TcbStatusIs(frozenset({"UpToDate"}))
    for kind in (EvidenceKind.SNP, EvidenceKind.NITRO):
        status.verify(replace(CLAIMS, kind=kind, tcb_status=""))
    for kind in (SGX, TDX, EvidenceKind.AZ_TDX):
        with pytest.raises(PolicyRefused, match="policy-tcb-status"):
            status.verify(replace(CLAIMS, kind=kind, tcb_status=""))
    with pytest.raises(PolicyRefused, match="policy-tcb-floor"):
        FLOOR.verify(replace(SNP_CLAIMS, kind=EvidenceKind.AZ_SNP, tcb={}))


@pytest.mark.parametrize(
    ("own", "other", "words"),
    [
        (checks.KindIs(frozenset({SGX})), checks.KindIs(frozenset({SGX, TDX})), ["evidence of kind tdx"]),
        (
            FLOOR,
            checks.TcbAtLeast({"Milan": {"snp": 20}, "Turin": {}}),
            ["Milan bootloader from 0", "Milan snp from 20", "product Turin"],
        ),
        (
            PCRS,
            checks.PcrsAre({4: frozenset({"04", "14", "24"})}),
            ["PCR 4 24", "any value of PCR 7"],
        ),
        (
            checks.TpmKeyPinned(frozenset({"aa"})),
            checks.TpmKeyPinned(frozenset({"aa", "bb"})),
            ["TPM key sha256:bb"],
        ),
        (checks.PrivilegeAtMost(0), checks.PrivilegeAtMost(2), ["VMPL up to 2"]),
        (
            checks.NotMigratable(allow=False),
            checks.NotMigratable(allow=True),
            ["guests with a migration agent"],
        ),
        (
            checks.RevocationChecked(required=True),
            checks.RevocationChecked(required=False),
            ["evidence without a revocation list"],
        ),
        (checks.NotSimulated(allow=False), checks.NotSimulated(allow=True), ["simulated evidence"]),
        (
            checks.SimulatedRootPinned(frozenset()),
            checks.SimulatedRootPinned(frozenset({"aa"})),
            ["simulated root sha256:aa"],
        ),
        (
            checks.MeasurementIs({SGX: frozenset({"11"})}),
            checks.MeasurementIs({SGX: frozenset({"11", "12"}), TDX: frozenset({"13"})}),
            ["sgx measurement 12", "tdx measurement 13"],
        ),
        (
            checks.TcbStatusIs(frozenset({"UpToDate"})),
            checks.TcbStatusIs(frozenset({"UpToDate", "OutOfDate"})),
            ["TCB status OutOfDate"],
        ),
        (
            checks.NoAdvisory(frozenset({"SA-1"})),
            checks.NoAdvisory(frozenset()),
            ["platforms with advisory SA-1"],
        ),
        (checks.NotDebug(allow=False), checks.NotDebug(allow=True), ["debug enclaves"]),
        (checks.SvnAtLeast(2), checks.SvnAtLeast(1), ["security versions from 1"]),
        (
            GpusAre(GpuDemand(2, frozenset({"550"}), frozenset({"96"}), reference_values=True)),
            GpusAre(GpuDemand(1, frozenset({"550", "560"}), frozenset({"96", "97"}), reference_values=False)),
            ["a guest with 1 GPUs", "GPU driver 560", "GPU VBIOS 97", "GPUs without reference values"],
        ),
    ],
    ids=lambda item: type(item).__name__,
)
def test_a_check_names_what_another_admits_beyond_it(own: Any, other: Any, words: list[str]) -> None:
    assert list(own.wider(other)) == words
    assert list(own.wider(own)) == []
    assert list(other.wider(own)) == []
