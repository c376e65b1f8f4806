"""Verification: recorded evidence of real hardware, simulated evidence, and one test for each way to fail."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation import initdata
from strongroom.attestation.claims import Anchor
from strongroom.attestation.evidence import DCAP_KINDS, Evidence, EvidenceKind
from strongroom.attestation.roots import INTEL_ROOT_SHA256
from strongroom.attestation.verify import TrustRoots, verify_evidence
from strongroom.errors import EvidenceError
from strongroom_simulator.collateral import VALIDITY, make_collateral
from strongroom_simulator.pki import Pki
from strongroom_simulator.quotes import (
    QE_SVN,
    SGX_DEBUG,
    SGX_KSS,
    TD_DEBUG,
    QuotingEnclave,
    enclave_report,
    td_report,
)
from strongroom_simulator.state import SimulatorState

Vector = Callable[[str], tuple[Evidence, int]]
CodeOf = Callable[..., str | None]

NOW = 1_800_000_000  # the time at which the fixture `pki` was made
DAY = 86400
INTEL = TrustRoots()
INIT_DATA = b"the init-data"
REPORT_DATA = bytes(range(64))
SIZE = {EvidenceKind.SGX: 32, EvidenceKind.TDX: 48}

RECORDED = {
    "SGX_v3_00A067110000": "ConfigurationAndSWHardeningNeeded",
    "SGX_v3_00606A000000_cef42f35": "SWHardeningNeeded",
    "SGX_v3_00606A000000_133e2998": "OutOfDate",
    "TDX_v4_00806F050000": "UpToDate",
    "TDX_v4_B0C06F000000": "UpToDate",
    "TDX_v4_00A06D080000": "OutOfDate",
    "TDX_v5_90C06F000000": "UpToDate",
}


def report(kind: EvidenceKind, config_id: bytes | None = None, **changes: Any) -> bytes:
    make = enclave_report if kind is EvidenceKind.SGX else td_report
    digest = initdata.digest(INIT_DATA) if config_id is None else config_id
    return make(b"\x11" * SIZE[kind], digest, REPORT_DATA, **changes)


def simulated(pki: Pki, kind: EvidenceKind, *, body: bytes | None = None, **collateral: Any) -> Evidence:
    enclave = QuotingEnclave(pki, kind, os.urandom)
    quote = enclave.quote(report(kind) if body is None else body)
    return Evidence(kind, quote, make_collateral(pki, kind, NOW, **collateral), INIT_DATA)


def pinned(pki: Pki) -> TrustRoots:
    return TrustRoots(simulated=frozenset({pki.root_sha256}), intel=False)


# Recorded evidence


@pytest.mark.parametrize(("name", "status"), RECORDED.items())
def test_recorded_evidence_verifies_at_its_time(name: str, status: str, vector: Vector) -> None:
    evidence, now = vector(name)
    claims = verify_evidence(evidence, INTEL, now)
    assert claims.kind is evidence.kind
    assert (claims.anchor, claims.root_sha256) == (Anchor.INTEL, INTEL_ROOT_SHA256)
    assert claims.tcb_status == status
    assert (claims.simulated, claims.debug) == (False, False)
    assert claims.expires > now
    assert claims.fmspc.upper() == name.split("_")[2]


def test_claims_of_a_recorded_sgx_quote(vector: Vector) -> None:
    claims = verify_evidence(*_with_roots(vector("SGX_v3_00A067110000")))
    assert claims.measurement == "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    assert claims.signer == "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
    assert claims.report_data == b"Hello, world!".ljust(64, b"\0")
    assert claims.init_data_digest == bytes(48)
    assert claims.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert (claims.product_id, claims.svn) == (0, 0)
    assert claims.expires == 1751620772


def test_claims_of_a_recorded_tdx_quote(vector: Vector) -> None:
    claims = verify_evidence(*_with_roots(vector("TDX_v4_00A06D080000")))
    mrtd, *registers = claims.measurement.split(":")
    assert mrtd.startswith("21e8dead92d6c69d")
    assert [register[:8] for register in registers] == ["395aefe7", "fc4b0f84", "193edd32", "0" * 8]
    assert claims.init_data_digest.hex().startswith("889abf4718f037e3")
    assert claims.report_data.hex().startswith("26cae1c77185617f")


def _with_roots(recorded: tuple[Evidence, int]) -> tuple[Evidence, TrustRoots, int]:
    return recorded[0], INTEL, recorded[1]


@pytest.mark.parametrize("name", ["SGX_v3_00A067110000", "TDX_v4_B0C06F000000"])
def test_recorded_evidence_is_refused_when_its_collateral_has_expired(name: str, vector: Vector) -> None:
    evidence, now = vector(name)
    expires = verify_evidence(evidence, INTEL, now).expires
    with pytest.raises(EvidenceError) as caught:
        verify_evidence(evidence, INTEL, expires + 40 * DAY)
    assert caught.value.code == "evidence-expired"


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_evidence_is_refused_before_its_collateral_was_issued(
    name: str, vector: Vector, code_of: CodeOf
) -> None:
    evidence, now = vector(name)
    assert code_of(verify_evidence, evidence, INTEL, now - 90 * DAY) == "evidence-expired"


def test_a_recorded_debug_enclave_is_refused(testdata: Path, vector: Vector, code_of: CodeOf) -> None:
    """Its platform is of the family of a vector whose collateral fits."""
    quote = (testdata / "vectors" / "negative" / "occlum_sgx_quote.dat").read_bytes()
    good, now = vector("SGX_v3_00606A000000_cef42f35")
    assert code_of(verify_evidence, replace(good, quote=quote), INTEL, now) == "evidence-debug"


def test_a_recorded_platform_older_than_all_levels_is_refused(testdata: Path, code_of: CodeOf) -> None:
    folder = testdata / "vectors" / "negative"
    collateral = json.loads((folder / "tdx_quote_outdated_collateral.json").read_text())
    evidence = Evidence(EvidenceKind.TDX, (folder / "tdx_quote_outdated").read_bytes(), collateral)
    assert code_of(verify_evidence, evidence, INTEL, 1_772_323_200) == "evidence-tcb-unknown"


def test_recorded_evidence_is_refused_without_intels_root(vector: Vector, pki: Pki, code_of: CodeOf) -> None:
    evidence, now = vector("SGX_v3_00A067110000")
    assert code_of(verify_evidence, evidence, pinned(pki), now) == "evidence-untrusted-root"


# Simulated evidence


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_simulated_evidence_verifies_under_a_pinned_root(kind: EvidenceKind, pki: Pki) -> None:
    claims = verify_evidence(simulated(pki, kind), pinned(pki), NOW)
    assert (claims.kind, claims.anchor, claims.simulated) == (kind, Anchor.SIMULATED, True)
    assert claims.root_sha256 == pki.root_sha256
    assert claims.measurement == "11" * SIZE[kind]
    assert claims.report_data == REPORT_DATA
    assert claims.init_data_digest == initdata.digest(INIT_DATA)
    assert (claims.tcb_status, claims.advisories, claims.debug) == ("UpToDate", (), False)
    assert claims.svn == (1 if kind is EvidenceKind.SGX else 0)
    assert claims.expires == NOW + VALIDITY
    assert claims.fmspc == "51d000000000"


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_evidence_of_the_simulators_state_folder_verifies(kind: EvidenceKind, tmp_path: Path) -> None:
    state = SimulatorState.open(tmp_path / "simulator", now=lambda: NOW)
    evidence = state.quote(kind, b"\x22" * SIZE[kind], bytes(48), REPORT_DATA)
    claims = verify_evidence(evidence, TrustRoots(frozenset({state.root_sha256})), NOW)
    assert (claims.measurement, claims.simulated) == ("22" * SIZE[kind], True)


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_simulated_evidence_is_refused_under_intels_root(
    kind: EvidenceKind, pki: Pki, code_of: CodeOf
) -> None:
    assert code_of(verify_evidence, simulated(pki, kind), INTEL, NOW) == "evidence-untrusted-root"


def test_simulated_evidence_of_another_root_is_refused(pki: Pki, code_of: CodeOf) -> None:
    other = Pki.create(NOW, os.urandom)
    evidence = simulated(other, EvidenceKind.SGX)
    assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-untrusted-root"


@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_a_pinned_root_put_on_top_of_a_foreign_chain_does_not_help(
    kind: EvidenceKind, pki: Pki, code_of: CodeOf
) -> None:
    """The attacker shows the root that is pinned, but has signed with keys of his own."""
    other = simulated(Pki.create(NOW, os.urandom), kind)
    assert other.collateral is not None
    genuine = make_collateral(pki, kind, NOW)
    mixed = dict(other.collateral) | {"tcb_info_issuer_chain": genuine["tcb_info_issuer_chain"]}
    assert (
        code_of(verify_evidence, replace(other, collateral=mixed), pinned(pki), NOW) == "evidence-unverified"
    )
    whole = replace(other, collateral=genuine)
    assert code_of(verify_evidence, whole, pinned(pki), NOW) == "evidence-unverified"


def test_intels_root_put_on_top_of_a_simulated_chain_does_not_help(
    vector: Vector, pki: Pki, code_of: CodeOf
) -> None:
    genuine, now = vector("SGX_v3_00A067110000")
    forged = replace(genuine, quote=simulated(pki, EvidenceKind.SGX).quote)
    assert code_of(verify_evidence, forged, INTEL, now) == "evidence-unverified"


def test_intels_root_never_counts_as_simulated(vector: Vector) -> None:
    evidence, now = vector("SGX_v3_00A067110000")
    claims = verify_evidence(evidence, TrustRoots(frozenset({INTEL_ROOT_SHA256})), now)
    assert claims.anchor is Anchor.INTEL


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded"])
def test_a_status_is_reported_not_judged(status: str, pki: Pki) -> None:
    evidence = simulated(pki, EvidenceKind.SGX, status=status, advisories=["SIM-2", "SIM-1", "SIM-2"])
    claims = verify_evidence(evidence, pinned(pki), NOW)
    assert (claims.tcb_status, claims.advisories) == (status, ("SIM-1", "SIM-2"))


@pytest.mark.parametrize("kind", DCAP_KINDS)
class TestRefusals:
    """Each test breaks one thing in evidence that would verify."""

    def test_expired(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        evidence = simulated(pki, kind)
        assert code_of(verify_evidence, evidence, pinned(pki), NOW + VALIDITY - 1) is None
        assert code_of(verify_evidence, evidence, pinned(pki), NOW + VALIDITY + 1) == "evidence-expired"

    @pytest.mark.parametrize("now", [-1, 0, 2**40 + 1, 2**64])
    def test_absurd_time(self, kind: EvidenceKind, now: int, pki: Pki, code_of: CodeOf) -> None:
        assert code_of(verify_evidence, simulated(pki, kind), pinned(pki), now) == "evidence-expired"

    def test_no_collateral(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        evidence = replace(simulated(pki, kind), collateral=None)
        assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-no-collateral"

    def test_debug(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        change = (
            {"flags": 5 | SGX_KSS | SGX_DEBUG}
            if kind is EvidenceKind.SGX
            else {"attributes": 1 << 28 | TD_DEBUG}
        )
        evidence = simulated(pki, kind, body=report(kind, **change))
        assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-debug"

    def test_revoked_level(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        evidence = simulated(pki, kind, status="Revoked")
        assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-revoked"

    def test_revoked_certificate(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        evidence = simulated(pki, kind, revoked=[pki.pck.certificate.serial_number])
        assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-unverified"

    def test_old_quoting_enclave(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        good = simulated(pki, kind)
        old = QuotingEnclave(pki, kind, os.urandom, svn=0).quote(report(kind))
        assert code_of(verify_evidence, replace(good, quote=old), pinned(pki), NOW) == "evidence-tcb-unknown"
        outdated = QuotingEnclave(pki, kind, os.urandom, svn=QE_SVN - 1).quote(report(kind))
        claims = verify_evidence(replace(good, quote=outdated), pinned(pki), NOW)
        assert claims.tcb_status == "OutOfDate"

    def test_changed_body(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        good = simulated(pki, kind)
        for place in (8, 48 + 64, 48 + 383):
            quote = bytearray(good.quote)
            quote[place] ^= 1
            broken = replace(good, quote=bytes(quote))
            assert code_of(verify_evidence, broken, pinned(pki), NOW) is not None

    @pytest.mark.parametrize("size", [0, 1, 47, 48, 431, 1000])
    def test_truncated(self, kind: EvidenceKind, size: int, pki: Pki, code_of: CodeOf) -> None:
        good = simulated(pki, kind)
        broken = replace(good, quote=good.quote[:size])
        assert code_of(verify_evidence, broken, pinned(pki), NOW) == "evidence-malformed"

    @pytest.mark.parametrize(
        ("name", "text", "code"),
        [
            ("tcb_info_issuer_chain", "", "evidence-malformed"),
            ("tcb_info_issuer_chain", "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
             "evidence-malformed"),
            ("tcb_info_issuer_chain", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
             "evidence-untrusted-root"),
            ("tcb_info", "{}", "evidence-malformed"),
            ("qe_identity", "[]", "evidence-malformed"),
            ("tcb_info_signature", "00" * 64, "evidence-unverified"),
            ("qe_identity_signature", "zz", "evidence-malformed"),
            ("qe_identity_issuer_chain", "", "evidence-unverified"),
            ("pck_crl", "", "evidence-unverified"),
            ("root_ca_crl", "00", "evidence-unverified"),
        ],
    )  # fmt: skip
    def test_broken_collateral(
        self, kind: EvidenceKind, name: str, text: str, code: str, pki: Pki, code_of: CodeOf
    ) -> None:
        good = simulated(pki, kind)
        assert good.collateral is not None
        broken = replace(good, collateral={**good.collateral, name: text})
        assert code_of(verify_evidence, broken, pinned(pki), NOW) == code

    def test_edited_tcb_info(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        evidence = simulated(pki, kind, status="OutOfDate")
        assert evidence.collateral is not None
        better = evidence.collateral["tcb_info"].replace("OutOfDate", "UpToDate")
        forged = replace(evidence, collateral={**evidence.collateral, "tcb_info": better})
        assert code_of(verify_evidence, forged, pinned(pki), NOW) == "evidence-unverified"

    def test_other_kind(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        (other,) = set(DCAP_KINDS) - {kind}
        mislabelled = replace(simulated(pki, kind), kind=other)
        assert code_of(verify_evidence, mislabelled, pinned(pki), NOW) == "evidence-malformed"

    def test_other_init_data(self, kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
        evidence = replace(simulated(pki, kind), init_data=b"another")
        assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-init-data"

    def test_init_data_of_a_tee_that_was_started_without(
        self, kind: EvidenceKind, pki: Pki, code_of: CodeOf
    ) -> None:
        evidence = simulated(pki, kind, body=report(kind, b""))
        assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-init-data"
        assert verify_evidence(replace(evidence, init_data=None), pinned(pki), NOW).init_data_digest == bytes(
            48
        )


def test_config_id_counts_only_with_key_separation(pki: Pki, code_of: CodeOf) -> None:
    """Without the KSS attribute its place in an SGX report is reserved, and means nothing."""
    evidence = simulated(pki, EvidenceKind.SGX, body=report(EvidenceKind.SGX, flags=5))
    assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-init-data"
    bare = replace(evidence, init_data=None)
    assert verify_evidence(bare, pinned(pki), NOW).init_data_digest == bytes(48)


def test_config_id_must_be_the_digest_and_zeros(pki: Pki, code_of: CodeOf) -> None:
    longer = report(EvidenceKind.SGX, initdata.digest(INIT_DATA) + b"\x01")
    evidence = simulated(pki, EvidenceKind.SGX, body=longer)
    assert code_of(verify_evidence, evidence, pinned(pki), NOW) == "evidence-init-data"


def test_a_td_with_run_time_registers_has_another_measurement(pki: Pki) -> None:
    body = bytearray(report(EvidenceKind.TDX))
    first = 584 - 64 - 4 * 48
    body[first + 2 * 48] = 0xAA
    claims = verify_evidence(simulated(pki, EvidenceKind.TDX, body=bytes(body)), pinned(pki), NOW)
    assert claims.measurement == ":".join(["11" * 48, "00" * 48, "00" * 48, "aa" + "00" * 47, "00" * 48])


def test_zeros_may_follow_a_quote(pki: Pki) -> None:
    """Some hosts hand over a whole buffer. A quote is malleable there: its hash is no identity."""
    good = simulated(pki, EvidenceKind.SGX)
    longer = replace(good, quote=good.quote + bytes(3000))
    assert verify_evidence(longer, pinned(pki), NOW) == verify_evidence(good, pinned(pki), NOW)


def test_messages_of_the_library_are_made_printable(pki: Pki) -> None:
    good = simulated(pki, EvidenceKind.SGX)
    assert good.collateral is not None
    identity = json.loads(good.collateral["qe_identity"]) | {"id": "\x1b[31m" + "x" * 1000}
    broken = replace(good, collateral={**good.collateral, "qe_identity": json.dumps(identity)})
    with pytest.raises(EvidenceError) as caught:
        verify_evidence(broken, pinned(pki), NOW)
    assert str(caught.value).isprintable()
    assert len(caught.value.detail) <= 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", DCAP_KINDS)
def test_mutants_of_a_quote_never_say_something_else(kind: EvidenceKind, pki: Pki, code_of: CodeOf) -> None:
    """Whatever verifies after a change says exactly what the genuine quote says."""
    rng = random.Random(8)
    good = simulated(pki, kind)
    expected = verify_evidence(good, pinned(pki), NOW)
    refused = 0
    for _ in range(4_000):
        quote = bytearray(good.quote)
        for _ in range(rng.choice([1, 1, 2, 5])):
            place = rng.randrange(len(quote))
            quote[place] = rng.randrange(256)
        if rng.random() < 0.1:
            del quote[rng.randrange(len(quote)) :]
        try:
            claims = verify_evidence(replace(good, quote=bytes(quote)), pinned(pki), NOW)
        except EvidenceError:
            refused += 1
        else:
            assert claims == expected
    assert refused > 2_000


@pytest.mark.slow
def test_mutants_of_the_collateral_never_say_something_better(pki: Pki) -> None:
    rng = random.Random(9)
    good = simulated(pki, EvidenceKind.SGX, status="OutOfDate", advisories=["SIM-1"])
    assert good.collateral is not None
    expected = verify_evidence(good, pinned(pki), NOW)
    refused = 0
    for _ in range(4_000):
        name = rng.choice(sorted(good.collateral))
        text = good.collateral[name]
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice('09azAZ{}[]",: -=') + text[at + rng.choice([0, 1, 9]) :]
        try:
            claims = verify_evidence(
                replace(good, collateral={**good.collateral, name: text}), pinned(pki), NOW
            )
        except EvidenceError:
            refused += 1
        else:
            assert claims == expected
    assert refused > 2_000
