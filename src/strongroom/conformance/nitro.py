"""Cases of AWS Nitro Enclaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.codec import cbor
from strongroom.conformance.case import Case
from strongroom.conformance.subject import Subject
from strongroom_simulator.nitro import NitroPlatform

_PCRS = {number: bytes([number + 1]) * 48 for number in range(3)} | {8: b"\x08" * 48}
_USER_DATA = bytes(range(64))
_MEASUREMENT = ":".join(_PCRS[number].hex() for number in range(3))


def cases(platform: NitroPlatform, other: NitroPlatform, now: int) -> Iterator[Case]:
    """All cases; the policy pins the root of the first platform."""
    payload = platform.payload(_PCRS, _USER_DATA, now)
    settings = {
        "kinds": [EvidenceKind.NITRO],
        "measurements": {EvidenceKind.NITRO: [_MEASUREMENT]},
        "allow_simulated": True,
        "simulated_roots": [platform.root_sha256],
    }
    evidence = Evidence(EvidenceKind.NITRO, platform.document(payload))
    good = Subject("nitro", evidence, settings, now, _USER_DATA)
    yield good.accepted()
    yield good.policy(
        "simulated", "simulated evidence is not allowed", "policy-simulated", allow_simulated=False
    )
    yield good.policy(
        "root-unpinned",
        "another root is pinned",
        "evidence-untrusted-root",
        simulated_roots=[other.root_sha256],
    )
    yield good.case("report-data", "other user data is demanded", "policy-report-data", report_data=bytes(64))
    yield good.case(
        "report-data-short",
        "the demanded user data is shorter",
        "policy-report-data",
        report_data=_USER_DATA[:32],
    )
    yield good.case(
        "init-data",
        "init-data comes along, which nothing binds",
        "evidence-init-data",
        evidence=replace(evidence, init_data=b"version = 1"),
    )
    yield from _of_the_payload(good, platform, payload)
    yield from _of_the_envelope(good, platform, payload)
    yield from _of_the_certificates(good, platform, other, payload)
    for name, at in (("before", now - 10), ("after", now + 3 * 3600 + 1), ("negative", -1)):
        yield good.case(f"clock-{name}", "the signer is not valid at the time", "evidence-expired", at=at)


def _of_the_payload(good: Subject, platform: NitroPlatform, payload: dict[str, Any]) -> Iterator[Case]:
    def changed(name: str, changes: str, expected: str, **members: Any) -> Case:
        return good.quote(name, changes, expected, platform.document(payload | members))

    for number in range(3):
        pcrs = _PCRS | {number: b"\x99" * 48}
        yield changed(f"pcr{number}", f"PCR{number} has another value", "policy-measurement", pcrs=pcrs)
    debug = {**good.settings, "measurements": {EvidenceKind.NITRO: [":".join(["00" * 48] * 3)]}}
    zeros = platform.document(payload | {"pcrs": dict.fromkeys(range(3), bytes(48))})
    yield replace(good, settings=debug).quote("debug", "it is a debug enclave", "policy-debug", zeros)
    yield changed(
        "replayed", "the document is of another occasion", "policy-report-data", user_data=bytes(64)
    )
    yield changed("no-user-data", "it binds nothing", "policy-report-data", user_data=None)
    yield changed("digest", "another digest is named", "evidence-algorithm", digest="SHA256")
    for member in ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"):
        left = {name: value for name, value in payload.items() if name != member}
        yield good.quote(
            f"no-{member}", f"{member} is missing", "evidence-malformed", platform.document(left)
        )
    for name, members in (
        ("timestamp", {"timestamp": "now"}),
        ("pcrs-empty", {"pcrs": {}}),
        ("pcr-short", {"pcrs": _PCRS | {0: b"\1" * 32}}),
        ("pcr-number", {"pcrs": _PCRS | {32: bytes(48)}}),
        ("cabundle-empty", {"cabundle": []}),
        ("user-data-long", {"user_data": bytes(513)}),
        ("more", {"more": 1}),
    ):
        yield changed(f"form-{name}", "the payload has another form", "evidence-malformed", **members)


def _of_the_envelope(good: Subject, platform: NitroPlatform, payload: dict[str, Any]) -> Iterator[Case]:
    document = good.evidence.quote
    stranger = replace(platform, key=ec.generate_private_key(ec.SECP384R1()))
    yield good.quote("other-key", "another key has signed", "evidence-signature", stranger.document(payload))
    es256 = platform.signed(cbor.encode({1: -7}), cbor.encode(payload))
    yield good.quote("algorithm", "another algorithm is named", "evidence-algorithm", es256)
    yield good.quote("no-document", "it is no document", "evidence-malformed", cbor.encode([1, 2, 3]))
    yield good.quote("trailing", "a byte follows", "evidence-malformed", document + b"\0")
    yield from good.flips(range(len(document) - 90, len(document), 17), "evidence-signature", "signature")
    user_data = document.index(_USER_DATA)
    yield from good.flips(range(user_data, user_data + 64, 21), "evidence-signature", "user data")
    yield from good.lengths((0, 1, 100, len(document) - 1), "evidence-malformed")


def _of_the_certificates(
    good: Subject, platform: NitroPlatform, other: NitroPlatform, payload: dict[str, Any]
) -> Iterator[Case]:
    def der(certificate: Any) -> bytes:
        return bytes(certificate.public_bytes(Encoding.DER))

    root = der(platform.root)
    for name, members, expected in (
        ("authority-foreign", {"cabundle": [root, der(other.authority)]}, "evidence-chain"),
        ("root-foreign", {"cabundle": [der(other.root), der(platform.authority)]}, "evidence-untrusted-root"),
        ("signer-foreign", {"certificate": der(other.signer)}, "evidence-chain"),
        ("signer-is-root", {"certificate": root, "cabundle": [root]}, "evidence-signature"),
        ("not-a-certificate", {"certificate": b"0\0"}, "evidence-certificate"),
        (
            "authority-twice",
            {"cabundle": [root, der(platform.authority), der(platform.authority)]},
            "evidence-chain",
        ),
    ):
        document = platform.document(payload | members)
        yield good.quote(name, "other certificates come along", expected, document)
