"""SEV-SNP: real reports verify; of simulated ones each check alone refuses."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mutants import mutate_bytes
from strongroom.attestation import initdata
from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.roots import AMD_ROOT_KEYS, TrustRoots
from strongroom.attestation.snp import verify
from strongroom.attestation.snp_report import REPORT_SIZE, SnpReport, tcb_parts
from strongroom.errors import EvidenceError
from strongroom_simulator.snp import TCB, Guest, SnpPlatform

NOW = 1_800_000_000
DAY = 24 * 3600
REAL = ("SNP_milan_trustee", "SNP_milan_trustee_vlek", "SNP_genoa_azure")
NO_AMD = TrustRoots(amd=False)
GUEST = Guest(measurement=b"\x11" * 48, report_data=b"\x22" * 64, guest_svn=7, id_key_digest=b"\x33" * 48)


@dataclasses.dataclass(frozen=True)
class Real:
    """Recorded evidence and the time at which it was good."""

    evidence: Evidence
    now: int


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, testdata: Path) -> Real:
    return _real(testdata, request.param)


def _real(testdata: Path, name: str) -> Real:
    vector = json.loads((testdata / f"vectors/evidence/{name}.json").read_text())
    pem = {key: _pem(base64.b64decode(vector[key])) for key in ("ek", "ask", "ark")}
    collateral = {"vek": pem["ek"], "chain": pem["ask"] + pem["ark"]}
    return Real(Evidence(EvidenceKind.SNP, base64.b64decode(vector["report"]), collateral), vector["now"])


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def platform() -> SnpPlatform:
    return SnpPlatform.create(NOW, b"\x44" * 64, rsa_bits=2048)


@pytest.fixture(scope="module")
def other() -> SnpPlatform:
    """Another vendor's chip."""
    return SnpPlatform.create(NOW, b"\x55" * 64, rsa_bits=2048)


def _roots(platform: SnpPlatform) -> TrustRoots:
    return TrustRoots(simulated=frozenset({platform.root_sha256}))


def _verify(
    platform: SnpPlatform, quote: bytes, *, now: int = NOW, init_data: bytes | None = None, **collateral: Any
) -> Claims:
    parts = platform.collateral() | collateral
    return verify(Evidence(EvidenceKind.SNP, quote, parts, init_data), _roots(platform), now)


# ---- real reports


def test_real_reports_verify(real: Real) -> None:
    claims = verify(real.evidence, TrustRoots(), real.now)
    assert claims.anchor is Anchor.AMD
    assert claims.product in {"Milan", "Genoa"}
    assert set(claims.tcb) == {"bootloader", "tee", "snp", "microcode"}
    assert (claims.debug, claims.migratable, claims.revocation_checked) == (False, False, False)
    assert len(claims.report_data) == 64
    assert len(claims.measurement) == 96
    assert claims.expires > real.now


@pytest.mark.parametrize(
    ("name", "product", "tcb"),
    [
        ("SNP_milan_trustee", "Milan", {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}),
        ("SNP_milan_trustee_vlek", "Milan", {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 217}),
        ("SNP_genoa_azure", "Genoa", {"bootloader": 10, "tee": 0, "snp": 23, "microcode": 84}),
    ],
)
def test_what_real_reports_say_of_their_platforms(
    testdata: Path, name: str, product: str, tcb: dict[str, int]
) -> None:
    real = _real(testdata, name)
    claims = verify(real.evidence, TrustRoots(), real.now)
    assert (claims.product, dict(claims.tcb)) == (product, tcb)


def test_no_byte_of_a_real_report_can_change(real: Real) -> None:
    for place in range(REPORT_SIZE):
        quote = bytearray(real.evidence.quote)
        quote[place] ^= 1 << place % 8
        with pytest.raises(EvidenceError):
            verify(dataclasses.replace(real.evidence, quote=bytes(quote)), TrustRoots(), real.now)


def test_amds_own_certificates_are_known(real: Real) -> None:
    evidence = dataclasses.replace(real.evidence, collateral={"vek": real.evidence.collateral["vek"]})
    assert verify(evidence, TrustRoots(), real.now) == verify(real.evidence, TrustRoots(), real.now)
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify(evidence, TrustRoots(amd=False), real.now)


def test_a_real_report_is_refused_without_amds_root(real: Real) -> None:
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify(real.evidence, NO_AMD, real.now)


def test_a_real_report_is_refused_after_its_certificates_life(real: Real) -> None:
    with pytest.raises(EvidenceError, match="evidence-expired"):
        verify(real.evidence, TrustRoots(), real.now + 3650 * DAY)


def test_certificates_that_do_not_hold_are_refused(testdata: Path) -> None:
    """Recorded VCEKs whose signature is not AMD's."""
    real = _real(testdata, "SNP_milan_trustee")
    for name in ("vcek-invalid-legacy.der", "vcek-invalid-new.der"):
        vek = _pem((testdata / "vectors/negative" / name).read_bytes())
        collateral = {"vek": vek, "chain": real.evidence.collateral["chain"]}
        with pytest.raises(EvidenceError, match="evidence-chain"):
            verify(Evidence(EvidenceKind.SNP, real.evidence.quote, collateral), TrustRoots(), real.now)


def test_the_pinned_keys_are_those_of_amds_roots(testdata: Path) -> None:
    from strongroom.attestation.certificates import key_sha256, parse_chain

    for product in ("Milan", "Genoa", "Turin"):
        pem = (testdata / f"vectors/amd/{product.lower()}_ask_ark_asvk.pem").read_text()
        keys = {AMD_ROOT_KEYS.get(key_sha256(each)) for each in parse_chain(pem, "chain")}
        assert product in keys


# ---- simulated reports: what is said, and each check alone


def test_a_simulated_report_verifies_under_its_own_root_only(platform: SnpPlatform) -> None:
    crl = platform.revocation_list(NOW).hex()
    init_data = b"version = 1"
    guest = dataclasses.replace(GUEST, host_data=hashlib.sha256(init_data).digest(), vmpl=2, migratable=True)
    claims = _verify(platform, platform.report(guest), init_data=init_data, crl=crl)
    assert claims.simulated
    assert claims.root_sha256 == platform.root_sha256
    assert (claims.product, dict(claims.tcb), claims.svn) == ("Milan", dict(TCB), 7)
    assert (claims.measurement, claims.signer) == ("11" * 48, "33" * 48)
    assert (claims.report_data, claims.init_data_digest) == (b"\x22" * 64, initdata.digest(init_data))
    assert (claims.privilege, claims.migratable, claims.debug) == (2, True, False)
    assert claims.revocation_checked
    assert claims.expires == NOW + 365 * DAY
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify(Evidence(EvidenceKind.SNP, platform.report(GUEST), platform.collateral()), TrustRoots(), NOW)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_versions_2_to_5_are_read(platform: SnpPlatform, version: int) -> None:
    assert _verify(platform, platform.report(GUEST, version=version)).product == "Milan"


@pytest.mark.parametrize("version", [0, 1, 6])
def test_other_versions_are_refused(platform: SnpPlatform, version: int) -> None:
    with pytest.raises(EvidenceError, match="evidence-format"):
        _verify(platform, platform.report(GUEST, version=version))


def test_a_debug_guest_is_told(platform: SnpPlatform) -> None:
    assert _verify(platform, platform.report(dataclasses.replace(GUEST, debug=True))).debug


def test_without_collateral_nothing_verifies(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match="evidence-no-collateral"):
        verify(Evidence(EvidenceKind.SNP, platform.report(GUEST)), _roots(platform), NOW)


@pytest.mark.parametrize("size", [0, REPORT_SIZE - 1, REPORT_SIZE + 1])
def test_a_report_of_another_size_is_refused(platform: SnpPlatform, size: int) -> None:
    with pytest.raises(EvidenceError, match="evidence-malformed"):
        _verify(platform, platform.report(GUEST).ljust(size, b"\0")[:size])


def test_something_after_the_signature_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match="after its signature"):
        _verify(platform, platform.report(GUEST)[:-1] + b"\1")


def test_another_signature_algorithm_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match=r"signature.*evidence-algorithm"):
        _verify(platform, _resigned(platform, {0x34: 2}))


def test_an_unknown_signing_key_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match=r"signing key.*evidence-algorithm"):
        _verify(platform, _resigned(platform, {0x48: 7 << 2}))


def test_an_unknown_processor_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match=r"processor.*evidence-format"):
        _verify(platform, _resigned(platform, {0x188: 0x17}))


def test_a_vlek_report_under_a_vcek_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match="evidence-key"):
        _verify(platform, _resigned(platform, {0x48: 1 << 2}))


def test_another_chips_signature_is_refused(platform: SnpPlatform) -> None:
    stranger = platform.with_key(ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(EvidenceError, match="evidence-signature"):
        _verify(platform, stranger.report(GUEST))


def test_a_report_of_another_product_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match=r"product.*evidence-platform"):
        _verify(platform, _resigned(platform, {0x189: 0x11}))


def test_a_certificate_for_another_product_is_refused(platform: SnpPlatform) -> None:
    """An ARK-Genoa that has signed the VCEK of a Milan."""
    odd = SnpPlatform.create(NOW, platform.chip_id, product="Genoa", rsa_bits=2048)
    mixed = dataclasses.replace(odd, product="Milan")
    report = mixed.report(GUEST, version=2)
    assert _verify(odd, report).product == "Genoa"
    renamed = platform.certified(NOW, product="Genoa")
    with pytest.raises(EvidenceError, match="product of the certificate"):
        _verify(renamed, renamed.report(GUEST, version=2))


@pytest.mark.parametrize("part", sorted(TCB))
def test_other_firmware_than_the_certificates_is_refused(platform: SnpPlatform, part: str) -> None:
    newer = dataclasses.replace(platform, tcb={**TCB, part: TCB[part] + 1})
    with pytest.raises(EvidenceError, match="evidence-tcb-mismatch"):
        _verify(platform, newer.report(GUEST))


def test_the_report_is_cut_at_the_places_of_the_specification(platform: SnpPlatform) -> None:
    report = SnpReport.parse(platform.report(GUEST))
    sizes = (report.report_data, report.measurement, report.host_data, report.id_key_digest, report.chip_id)
    assert [len(part) for part in sizes] == [64, 48, 32, 48, 64]


def test_another_chip_is_refused(platform: SnpPlatform) -> None:
    elsewhere = dataclasses.replace(platform, chip_id=b"\x45" * 64)
    with pytest.raises(EvidenceError, match=r"chip.*evidence-platform"):
        _verify(platform, elsewhere.report(GUEST))


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_chip_id_may_be_short_or_in_der(platform: SnpPlatform, size: int, *, wrapped: bool) -> None:
    chip_id = b"\x46" * size
    chip = dataclasses.replace(platform, chip_id=chip_id)
    certified = chip.certified(NOW, hardware_id=bytes((4, size)) * wrapped + chip_id)
    assert _verify(certified, certified.report(GUEST)).product == "Milan"
    stranger = dataclasses.replace(certified, chip_id=b"\x47" * size)
    with pytest.raises(EvidenceError, match=r"chip.*evidence-platform"):
        _verify(certified, stranger.report(GUEST))


@pytest.mark.parametrize("hardware_id", [b"\0", bytes(7), bytes(9), b"\4\x09" + bytes(8), bytes(66)])
def test_a_chip_id_of_another_form_is_refused(platform: SnpPlatform, hardware_id: bytes) -> None:
    chip = dataclasses.replace(platform, chip_id=bytes(64)).certified(NOW, hardware_id=hardware_id)
    with pytest.raises(EvidenceError, match=r"chip.*evidence-platform"):
        _verify(chip, chip.report(GUEST))


def test_a_signer_on_another_curve_is_refused(platform: SnpPlatform) -> None:
    chip = platform.certified(NOW, key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(EvidenceError, match=r"curve.*evidence-key"):
        _verify(chip, chip.report(GUEST))


def test_a_simulated_root_of_no_product_is_refused(platform: SnpPlatform) -> None:
    odd = SnpPlatform.create(NOW, platform.chip_id, product="Rome", rsa_bits=2048)
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        _verify(odd, odd.report(GUEST, version=2))


def test_other_init_data_is_refused(platform: SnpPlatform) -> None:
    with pytest.raises(EvidenceError, match="evidence-init-data"):
        _verify(platform, platform.report(GUEST), init_data=b"other")


def test_without_init_data_none_is_claimed(platform: SnpPlatform) -> None:
    guest = dataclasses.replace(GUEST, host_data=b"\x01" * 32)
    assert _verify(platform, platform.report(guest)).init_data_digest == bytes(48)


def test_a_root_that_is_not_pinned_is_refused(platform: SnpPlatform, other: SnpPlatform) -> None:
    evidence = Evidence(EvidenceKind.SNP, other.report(GUEST), other.collateral())
    with pytest.raises(EvidenceError, match="evidence-untrusted-root"):
        verify(evidence, _roots(platform), NOW)


def test_a_chain_of_two_vendors_is_refused(platform: SnpPlatform, other: SnpPlatform) -> None:
    chain = _text(other.authority) + _text(platform.root)
    with pytest.raises(EvidenceError, match="evidence-chain"):
        _verify(platform, platform.report(GUEST), chain=chain)


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_of_certificates_is_refused(platform: SnpPlatform, number: int) -> None:
    chain = "".join([_text(platform.authority), _text(platform.root), _text(platform.root)][:number])
    with pytest.raises(EvidenceError, match=r"number.*evidence-certificate"):
        _verify(platform, platform.report(GUEST), chain=chain)
    with pytest.raises(EvidenceError, match=r"number.*evidence-certificate"):
        _verify(platform, platform.report(GUEST), vek=_text(platform.signer) * 2)


@pytest.mark.parametrize("now", [NOW - 2 * DAY, NOW + 3651 * DAY, -1, 2**40])
def test_outside_the_certificates_life_it_is_refused(platform: SnpPlatform, now: int) -> None:
    with pytest.raises(EvidenceError, match="evidence-expired"):
        _verify(platform, platform.report(GUEST), now=now)


# ---- the revocation list


def test_a_revoked_authority_is_refused(platform: SnpPlatform) -> None:
    crl = platform.revocation_list(NOW, (platform.authority.serial_number,)).hex()
    with pytest.raises(EvidenceError, match="evidence-revoked"):
        _verify(platform, platform.report(GUEST), crl=crl)


def test_a_number_of_the_chips_own_certificate_says_nothing(platform: SnpPlatform) -> None:
    """The root's list is of what the root has issued; AMD numbers all chips' certificates 0."""
    crl = platform.revocation_list(NOW, (platform.signer.serial_number,)).hex()
    assert _verify(platform, platform.report(GUEST), crl=crl).revocation_checked


def test_an_old_list_is_refused(platform: SnpPlatform) -> None:
    crl = platform.revocation_list(NOW).hex()
    with pytest.raises(EvidenceError, match=r"revocation list.*evidence-expired"):
        _verify(platform, platform.report(GUEST), crl=crl, now=NOW + 366 * DAY)


def test_a_list_of_another_root_is_refused(platform: SnpPlatform, other: SnpPlatform) -> None:
    """It has the same issuer's name, and another signature."""
    with pytest.raises(EvidenceError, match=r"signature.*evidence-crl"):
        _verify(platform, platform.report(GUEST), crl=other.revocation_list(NOW).hex())


@pytest.mark.parametrize("crl", ["", "zz", "3000", "00" * 100])
def test_what_is_no_list_is_refused(platform: SnpPlatform, crl: str) -> None:
    with pytest.raises(EvidenceError, match="evidence-crl"):
        _verify(platform, platform.report(GUEST), crl=crl)


# ---- parsing


def test_turin_lays_its_versions_out_differently() -> None:
    tcb = bytes(range(1, 9))
    assert tcb_parts(tcb, "Turin") == {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 8}
    assert tcb_parts(tcb, "Genoa") == {"bootloader": 1, "tee": 2, "snp": 7, "microcode": 8}


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, "Milan"),
        (0x19, 0x0F, "Milan"),
        (0x19, 0x10, "Genoa"),
        (0x19, 0x1F, "Genoa"),
        (0x19, 0xA0, "Genoa"),
        (0x19, 0xAF, "Genoa"),
        (0x1A, 0x00, "Turin"),
        (0x1A, 0x11, "Turin"),
        (0x19, 0x20, None),
        (0x19, 0xB0, None),
        (0x1A, 0x12, None),
        (0x18, 0x00, None),
    ],
)
def test_a_processor_tells_its_product(
    platform: SnpPlatform, family: int, model: int, product: str | None
) -> None:
    data = _resigned(platform, {0x188: family, 0x189: model})
    if product is None:
        with pytest.raises(EvidenceError, match="evidence-format"):
            SnpReport.parse(data)
    else:
        assert SnpReport.parse(data).product == product


def test_20000_mutants_give_our_errors_only(platform: SnpPlatform) -> None:
    rng = random.Random(7)
    genuine, accepted = platform.report(GUEST), 0
    for _ in range(10_000):
        accepted += _is_accepted(mutate_bytes(rng, genuine))
    for _ in range(10_000):  # of the right size, so that the fields are reached
        changed = bytearray(genuine)
        for _ in range(rng.randint(1, 4)):
            changed[rng.choice((rng.randrange(REPORT_SIZE), 0, 0x34, 0x48, 0x188, 0x189))] = rng.randrange(
                256
            )
        accepted += _is_accepted(bytes(changed))
    assert accepted > 1000


def _is_accepted(data: bytes) -> bool:
    try:
        report = SnpReport.parse(data)
    except EvidenceError:
        return False
    assert len(report.signed) == 0x2A0
    return True


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _resigned(platform: SnpPlatform, changes: dict[int, int]) -> bytes:
    """The report with other bytes at these places, signed anew."""
    body = bytearray(platform.report(GUEST)[:0x2A0])
    for place, value in changes.items():
        body[place] = value
    return platform.signed(bytes(body))
