"""Cases of SEV-SNP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.conformance.case import Case
from strongroom.conformance.subject import Subject
from strongroom_simulator.snp import TCB, Guest, SnpPlatform

_INIT_DATA = b'version = "0.1.0"\n'
_REPORT_DATA = bytes(range(64))
_DAY = 86400
GUEST = Guest(b"\x11" * 48, _REPORT_DATA, host_data=hashlib.sha256(_INIT_DATA).digest(), guest_svn=3)


def settings(platform: SnpPlatform, kind: EvidenceKind = EvidenceKind.SNP) -> dict[str, Any]:
    """A policy that accepts the platform."""
    return {
        "kinds": [kind],
        "measurements": {kind: [GUEST.measurement.hex()]},
        "tcb_floor": {platform.product: dict(TCB)},
        "allow_simulated": True,
        "simulated_roots": [platform.root_sha256],
        "min_svn": 3,
    }


def cases(platform: SnpPlatform, other: SnpPlatform, now: int) -> Iterator[Case]:
    """All cases; the policy pins the root of the first platform."""
    crl = platform.revocation_list(now)
    evidence = Evidence(EvidenceKind.SNP, platform.report(GUEST), platform.collateral(crl=crl), _INIT_DATA)
    good = Subject("snp", evidence, settings(platform), now, _REPORT_DATA)
    yield good.accepted()
    for version in (2, 4, 5):
        report = platform.report(GUEST, version=version)
        yield good.quote(f"version-{version}", f"the report is of version {version}", "accepted", report)
    yield from _of_the_policy(good, other)
    yield from _of_the_report(good, platform, other)
    yield from _of_the_platform(good, platform, now)
    yield from _of_the_certificates(good, platform, other, now)


def _of_the_policy(good: Subject, other: SnpPlatform) -> Iterator[Case]:
    yield good.policy(
        "measurement",
        "another measurement is listed",
        "policy-measurement",
        measurements={EvidenceKind.SNP: ["22" * 48]},
    )
    yield good.policy(
        "simulated", "simulated evidence is not allowed", "policy-simulated", allow_simulated=False
    )
    yield good.policy(
        "root-unpinned",
        "another root is pinned",
        "evidence-untrusted-root",
        simulated_roots=[other.root_sha256],
    )
    for part, version in TCB.items():
        floor = {"Milan": {**TCB, part: version + 1}}
        yield good.policy(f"floor-{part}", f"a newer {part} is demanded", "policy-tcb-floor", tcb_floor=floor)
    yield good.policy(
        "floor-product", "another product is accepted", "policy-tcb-floor", tcb_floor={"Genoa": {}}
    )
    yield good.policy("svn", "a higher security version is demanded", "policy-svn", min_svn=4)
    yield good.case(
        "report-data", "other report data is demanded", "policy-report-data", report_data=bytes(64)
    )


def _of_the_report(good: Subject, platform: SnpPlatform, other: SnpPlatform) -> Iterator[Case]:
    def with_guest(name: str, changes: str, expected: str, **changed: Any) -> Case:
        return good.quote(name, changes, expected, platform.report(replace(GUEST, **changed)))

    yield with_guest("other-code", "other code is measured", "policy-measurement", measurement=b"\x12" * 48)
    yield with_guest(
        "replayed", "the report is of another occasion", "policy-report-data", report_data=bytes(64)
    )
    yield with_guest("debug", "the host may debug the guest", "policy-debug", debug=True)
    yield with_guest("migration", "a migration agent may be associated", "policy-migration", migratable=True)
    yield with_guest("old-svn", "the guest has a lower security version", "policy-svn", guest_svn=2)
    yield with_guest(
        "host-data", "the guest was started with other init-data", "evidence-init-data", host_data=bytes(32)
    )
    for level in (1, 2, 3):
        yield with_guest(
            f"vmpl-{level}", f"level {level} has asked for the report", "policy-privilege", vmpl=level
        )
    yield good.case(
        "init-data",
        "other init-data comes along",
        "evidence-init-data",
        evidence=replace(good.evidence, init_data=_INIT_DATA + b"\n"),
    )
    for place, value, name, expected in (
        (0x00, 1, "version-1", "evidence-format"),
        (0x00, 6, "version-6", "evidence-format"),
        (0x34, 2, "algorithm", "evidence-algorithm"),
        (0x48, 1 << 2, "signed-by-vlek", "evidence-key"),
        (0x48, 7 << 2, "signed-by-nobody", "evidence-algorithm"),
        (0x188, 0x17, "family", "evidence-format"),
        (0x189, 0x11, "product", "evidence-platform"),
    ):
        body = bytearray(good.evidence.quote[:0x2A0])
        body[place] = value
        yield good.quote(
            name, f"byte {place:#x} is {value}, and signed", expected, platform.signed(bytes(body))
        )
    stranger = platform.with_key(ec.generate_private_key(ec.SECP384R1()))
    yield good.quote("other-key", "another key has signed", "evidence-signature", stranger.report(GUEST))
    yield good.quote(
        "other-vendor", "another vendor's chip has signed", "evidence-signature", other.report(GUEST)
    )
    yield from good.flips(range(0x50, 0x180, 37), "evidence-signature", "what the guest says")
    yield from good.flips(range(0x2A0, 0x2D0, 11), "evidence-signature", "signature")
    yield from good.flips((0x330, 1183), "evidence-malformed", "what follows the signature")
    yield from good.lengths((0, 1, 671, 1183, 1185, 2368), "evidence-malformed")


def _of_the_platform(good: Subject, platform: SnpPlatform, now: int) -> Iterator[Case]:
    for part, version in TCB.items():
        newer = replace(platform, tcb={**TCB, part: version + 1})
        yield good.quote(
            f"firmware-{part}",
            f"{part} is newer than the certificate",
            "evidence-tcb-mismatch",
            newer.report(GUEST),
        )
    elsewhere = replace(platform, chip_id=b"\x45" * 64)
    yield good.quote("chip", "the report is of another chip", "evidence-platform", elsewhere.report(GUEST))
    for name, made in (
        ("certificate-product", platform.certified(now, product="Genoa")),
        ("certificate-chip", platform.certified(now, hardware_id=b"\x45" * 64)),
        ("certificate-no-chip", platform.certified(now, hardware_id=b"\x45")),
    ):
        yield good.collateral(name, "the certificate is for another", "evidence-platform", vek=_vek(made))
    curve = platform.certified(now, key=ec.generate_private_key(ec.SECP256R1()))
    yield good.case(
        "curve",
        "the chip's key is on another curve",
        "evidence-key",
        evidence=replace(good.evidence, quote=curve.report(GUEST), collateral=_with_crl(good, curve)),
    )


def _of_the_certificates(
    good: Subject, platform: SnpPlatform, other: SnpPlatform, now: int
) -> Iterator[Case]:
    own, foreign = platform.collateral(), other.collateral()
    authority, root = (
        each.public_bytes(Encoding.PEM).decode() for each in (platform.authority, platform.root)
    )
    yield good.case(
        "no-collateral",
        "there is no collateral",
        "evidence-no-collateral",
        evidence=replace(good.evidence, collateral=None),
    )
    yield good.collateral(
        "no-chain", "its issuers do not come along, and are not AMD's", "evidence-chain", chain=None
    )
    yield good.collateral(
        "chain-foreign", "the chain is another vendor's", "evidence-untrusted-root", chain=foreign["chain"]
    )
    yield good.collateral(
        "chain-mixed",
        "the authority is another vendor's",
        "evidence-chain",
        chain=other.authority.public_bytes(Encoding.PEM).decode() + root,
    )
    yield good.collateral("chain-short", "the authority is missing", "evidence-certificate", chain=root)
    yield good.collateral(
        "chain-long", "a certificate is there twice", "evidence-certificate", chain=authority + root + root
    )
    yield good.collateral("chain-none", "the chain is no chain", "evidence-certificate", chain="x")
    yield good.collateral(
        "vek-foreign", "the chip's certificate is another vendor's", "evidence-chain", vek=foreign["vek"]
    )
    yield good.collateral(
        "vek-twice", "there are two chips' certificates", "evidence-certificate", vek=own["vek"] * 2
    )
    yield good.collateral("vek-none", "the chip's certificate is none", "evidence-certificate", vek="x")
    yield good.collateral("crl-missing", "there is no revocation list", "policy-revocation", crl=None)
    revoked = platform.revocation_list(now, (platform.authority.serial_number,))
    yield good.collateral("revoked", "the authority is revoked", "evidence-revoked", crl=revoked.hex())
    yield good.collateral(
        "crl-foreign", "the list is another vendor's", "evidence-crl", crl=other.revocation_list(now).hex()
    )
    yield good.collateral("crl-none", "the list is no list", "evidence-crl", crl="3000")
    yield good.collateral("crl-hex", "the list is not hexadecimal", "evidence-crl", crl="x")
    yield good.collateral(
        "crl-old",
        "the list is of two years ago",
        "evidence-expired",
        crl=platform.revocation_list(now - 730 * _DAY).hex(),
    )
    for name, at in (("before", now - 2 * _DAY), ("after", now + 3651 * _DAY), ("negative", -1)):
        yield good.case(
            f"clock-{name}", "the certificates are not valid at the time", "evidence-expired", at=at
        )


def _vek(platform: SnpPlatform) -> str:
    return platform.signer.public_bytes(Encoding.PEM).decode()


def _with_crl(good: Subject, platform: SnpPlatform) -> dict[str, str]:
    collateral = platform.collateral()
    return {**collateral, "crl": (good.evidence.collateral or {})["crl"]}
