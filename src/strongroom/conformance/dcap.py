"""Cases of SGX and TDX."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from strongroom.attestation import initdata
from strongroom.attestation.evidence import MAX_QUOTE, Evidence, EvidenceKind
from strongroom.conformance.case import Case
from strongroom.conformance.subject import Subject
from strongroom_simulator.collateral import VALIDITY, make_collateral
from strongroom_simulator.pki import Pki, sign
from strongroom_simulator.quotes import (
    SGX_DEBUG,
    SGX_KSS,
    TD_DEBUG,
    QuotingEnclave,
    enclave_report,
    td_report,
)

INIT_DATA = b'version = "0.1.0"\n'
_REPORT_DATA = bytes(range(64))
_HEADER = 48
_REPORT = {EvidenceKind.SGX: 384, EvidenceKind.TDX: 584}
_SIZE = {EvidenceKind.SGX: 32, EvidenceKind.TDX: 48}
_SIGNED_TEXTS = ("tcb_info", "qe_identity")


def cases(pki: Pki, other: Pki, kind: EvidenceKind, now: int) -> Iterator[Case]:
    """All cases of a kind.

    Args:
        pki: The vendor whose root the policy pins.
        other: Another vendor.
        kind: `SGX` or `TDX`.
        now: Unix time at which both were made.
    """
    good = subject(pki, kind, now)
    yield good.accepted()
    yield from _of_the_policy(good, other)
    yield from _of_the_report(good, pki, kind)
    yield from _of_the_quote(good, pki, other, kind)
    yield from _of_the_collateral(good, pki, other, kind, now)
    yield from _of_the_clock(good)


def _report(kind: EvidenceKind, **changes: Any) -> bytes:
    make = enclave_report if kind is EvidenceKind.SGX else td_report
    parts: dict[str, Any] = {
        "measurement": b"\x11" * _SIZE[kind],
        "config_id": initdata.digest(INIT_DATA),
        "report_data": _REPORT_DATA,
    }
    return make(**(parts | changes))


def _quote(pki: Pki, kind: EvidenceKind, *, qe_svn: int | None = None, **changes: Any) -> bytes:
    enclave = (
        QuotingEnclave(pki, kind, os.urandom)
        if qe_svn is None
        else QuotingEnclave(pki, kind, os.urandom, svn=qe_svn)
    )
    return enclave.quote(_report(kind, **changes))


def subject(pki: Pki, kind: EvidenceKind, now: int) -> Subject:
    """Accepted evidence of a kind."""
    evidence = Evidence(kind, _quote(pki, kind), make_collateral(pki, kind, now), INIT_DATA)
    settings: dict[str, Any] = {
        "kinds": [kind],
        "measurements": {kind: ["11" * _SIZE[kind]]},
        "tcb_statuses": ["UpToDate"],
        "allow_simulated": True,
        "simulated_roots": [pki.root_sha256],
    }
    return Subject(str(kind), evidence, settings, now, _REPORT_DATA)


def _of_the_policy(good: Subject, other: Pki) -> Iterator[Case]:
    kind = good.evidence.kind
    another = EvidenceKind.TDX if kind is EvidenceKind.SGX else EvidenceKind.SGX
    measurement = {kind: ["22" * _SIZE[kind]]}
    yield good.policy(
        "measurement", "another measurement is listed", "policy-measurement", measurements=measurement
    )
    yield good.policy(
        "kind",
        "another kind is accepted",
        "policy-kind",
        kinds=[another],
        measurements={another: ["11" * _SIZE[another]]},
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
    for status in ("SWHardeningNeeded", "OutOfDate", "ConfigurationNeeded"):
        yield good.policy(
            f"status-{status}", f"only {status} is accepted", "policy-tcb-status", tcb_statuses=[status]
        )
    yield good.case(
        "report-data", "other report data is demanded", "policy-report-data", report_data=bytes(64)
    )
    yield good.case(
        "report-data-half",
        "the demanded report data differs in its last byte",
        "policy-report-data",
        report_data=_REPORT_DATA[:-1] + b"\0",
    )
    if kind is EvidenceKind.SGX:
        yield good.policy("svn", "a higher security version is demanded", "policy-svn", min_svn=2)


def _of_the_report(good: Subject, pki: Pki, kind: EvidenceKind) -> Iterator[Case]:
    def with_report(name: str, changes: str, expected: str, **changed: Any) -> Case:
        return good.quote(name, changes, expected, _quote(pki, kind, **changed))

    yield with_report(
        "other-code", "other code is measured", "policy-measurement", measurement=b"\x12" * _SIZE[kind]
    )
    yield with_report(
        "replayed", "the quote was made for another occasion", "policy-report-data", report_data=b"\x07" * 64
    )
    yield with_report(
        "no-init-data-digest", "the quote carries no init-data", "evidence-init-data", config_id=bytes(48)
    )
    debug = {"flags": SGX_KSS | SGX_DEBUG | 5} if kind is EvidenceKind.SGX else {"attributes": TD_DEBUG}
    yield with_report("debug", "it is a debug enclave", "evidence-debug", **debug)
    if kind is EvidenceKind.SGX:
        yield with_report("old-svn", "the enclave has no security version", "accepted", svn=0)
    for name, init_data in (
        ("other", b'version = "0.1.1"\n'),
        ("longer", INIT_DATA + b"\n"),
        ("empty", b""),
    ):
        yield good.case(
            f"init-data-{name}",
            "other init-data comes along",
            "evidence-init-data",
            evidence=replace(good.evidence, init_data=init_data),
        )


def _of_the_quote(good: Subject, pki: Pki, other: Pki, kind: EvidenceKind) -> Iterator[Case]:
    quote = good.evidence.quote
    body = _HEADER + _REPORT[kind]
    yield from good.flips((0, 1), "evidence-malformed", "version")
    yield from good.flips(range(_HEADER + 8, body, 71), "evidence-unverified", "report")
    yield from good.flips(range(body + 4, body + 68, 9), "evidence-unverified", "signature")
    yield from good.flips(range(body + 68, body + 132, 13), "evidence-unverified", "attestation key")
    yield from good.lengths((0, 1, _HEADER - 1, _HEADER, body - 1, body, body + 100), "evidence-malformed")
    yield good.quote("tail", "a byte follows the quote", "evidence-malformed", quote + b"\1")
    yield good.quote(
        "line-end",
        "a line of the certificate chain ends in a vertical tab",
        "evidence-malformed",
        quote.replace(b"\n-----END", b"\v-----END", 1),
    )
    with_other_root = QuotingEnclave(replace(pki, root=other.root), kind, os.urandom)
    yield good.quote(
        "root-in-quote",
        "the certificate chain ends in another root",
        "evidence-chain",
        with_other_root.quote(_report(kind)),
    )
    yield good.quote("zeros", "the quote is zeros", "evidence-malformed", bytes(len(quote)))
    yield good.quote(
        "other-vendor", "another vendor's platform has signed", "evidence-unverified", _quote(other, kind)
    )
    yield good.quote(
        "old-quoting-enclave",
        "the quoting enclave is out of date",
        "policy-tcb-status",
        _quote(pki, kind, qe_svn=1),
    )
    yield good.quote(
        "unknown-quoting-enclave",
        "the quoting enclave is older than all levels",
        "evidence-tcb-unknown",
        _quote(pki, kind, qe_svn=0),
    )
    header = bytearray(quote)
    struct.pack_into("<H", header, 2, 3)  # ECDSA on P-384
    yield good.quote("algorithm", "another algorithm is named", "evidence-unverified", bytes(header))
    document = good.evidence.to_json()
    document["quote"] = "A" * (MAX_QUOTE * 4 // 3 + 4)
    yield Case(
        f"{good.group}/oversize",
        "the quote is over its bound",
        "evidence-too-large",
        "document",
        {"document": json.dumps(document)},
    )


def _of_the_collateral(good: Subject, pki: Pki, other: Pki, kind: EvidenceKind, now: int) -> Iterator[Case]:
    own = good.evidence.collateral or {}
    foreign = make_collateral(other, kind, now)
    yield good.case(
        "no-collateral",
        "there is no collateral",
        "evidence-no-collateral",
        evidence=replace(good.evidence, collateral=None),
    )
    for part in ("pck_crl", "root_ca_crl"):
        yield good.collateral(
            f"{part}-foreign", f"{part} is another vendor's", "evidence-unverified", **{part: foreign[part]}
        )
        yield good.collateral(
            f"{part}-malformed", f"{part} is no revocation list", "evidence-unverified", **{part: "3000"}
        )
    for part in _SIGNED_TEXTS:
        changed = own[part].replace('DataNumber":17', 'DataNumber":18', 1)
        yield good.collateral(
            f"{part}-changed", f"{part} was changed", "evidence-unverified", **{part: changed}
        )
        signature = sign(other.tcb_signing.key, own[part].encode()).hex()
        yield good.collateral(
            f"{part}-signature",
            f"{part} is signed by another",
            "evidence-unverified",
            **{f"{part}_signature": signature},
        )
        yield good.collateral(f"{part}-empty", f"{part} is empty", "evidence-malformed", **{part: ""})
    yield good.collateral(
        "chain-foreign",
        "the chain of the TCB info is another vendor's",
        "evidence-untrusted-root",
        tcb_info_issuer_chain=foreign["tcb_info_issuer_chain"],
    )
    yield good.collateral(
        "chain-none", "the chain of the TCB info is no chain", "evidence-malformed", tcb_info_issuer_chain=""
    )

    def made(name: str, changes: str, expected: str, **collateral: Any) -> Case:
        return good.collateral(name, changes, expected, **make_collateral(pki, kind, now, **collateral))

    yield made("revoked-level", "the platform's level is revoked", "evidence-revoked", status="Revoked")
    for status in ("SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate"):
        yield made(f"level-{status}", f"the platform is {status}", "policy-tcb-status", status=status)
    serial = pki.pck.certificate.serial_number
    yield made(
        "revoked-pck", "the platform's certificate is revoked", "evidence-unverified", revoked=(serial,)
    )
    advised = make_collateral(pki, kind, now, advisories=["INTEL-SA-00615"])
    yield replace(good, settings={**good.settings, "rejected_advisories": ["INTEL-SA-00615"]}).collateral(
        "advisory", "a rejected advisory applies", "policy-advisory", **advised
    )


def _of_the_clock(good: Subject) -> Iterator[Case]:
    for name, at in (
        ("before", good.at - 2 * 3600),
        ("end", good.at + VALIDITY + 1),
        ("year", good.at + 366 * 86400),
        ("epoch", 0),
        ("negative", -1),
    ):
        yield good.case(f"clock-{name}", "the collateral is not valid at the time", "evidence-expired", at=at)
