"""Cases of reference values that a publisher has signed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.reference_checks import ReferenceDemand
from strongroom.attestation.reference_values import VALUES_TYPE, ReferenceValues, SignedReferenceValues
from strongroom.codec import jcs
from strongroom.conformance.case import Case
from strongroom.conformance.subject import Subject
from strongroom.crypto.sign import SigningKey

_DAY = 86_400
_ED25519_BYTES = 64
_LISTED = "22" * 32
_SIGNATURE = "reference-values-signature"
_MALFORMED = "reference-values-malformed"


def cases(sgx: Subject, now: int) -> Iterator[Case]:
    """All cases.

    Args:
        sgx: Accepted evidence of SGX, by whose measurement alone these cases are decided.
        now: Unix time at which it was made.
    """
    kind = EvidenceKind.SGX
    publisher, other = SigningKey.generate(), SigningKey.generate()
    [measurement] = sgx.settings["measurements"][kind]
    values = ReferenceValues(
        publisher="Example Models",
        name="pictures",
        version=3,
        issued=now,
        not_before=now - _DAY,
        expires=now + _DAY,
        measurements={kind: {measurement: "pictures 1.4"}},
    )
    demand = ReferenceDemand(publisher.verifying_key.text, "pictures", 3)
    settings = {**sgx.settings, "measurements": {kind: [_LISTED]}, "reference_values": demand}
    good = replace(sgx, group="values", settings=settings, values=values.sign(publisher).to_json_bytes())

    def case(name: str, changes: str, expected: str, signed: SignedReferenceValues) -> Case:
        return good.case(name, changes, expected, values=signed.to_json_bytes())

    yield good.accepted()
    yield good.case("absent", "there is no file", "policy-measurement", values=b"")
    for name, changes, changed in (
        ("unlisted", "it lists another measurement", {kind: {"33" * 32: "pictures 1.3"}}),
        ("other-kind", "it lists the measurement for another kind", {EvidenceKind.SNP: {"33" * 48: "x"}}),
    ):
        signed = replace(values, measurements=changed).sign(publisher)
        yield case(name, changes, "policy-measurement", signed)
    for name, changes, first, end in (
        ("expired", "it has ended by then", now - _DAY, now),
        ("not-yet", "it begins later", now + 1, now + _DAY),
    ):
        signed = replace(values, not_before=first, expires=end).sign(publisher)
        yield case(name, changes, "policy-values-expired", signed)
    series = replace(values, name="sounds").sign(publisher)
    yield case("series", "it is of another series", "reference-values-foreign", series)
    yield good.policy(
        "unasked", "the policy names no publisher", "reference-values-foreign", reference_values=None
    )
    older = replace(values, version=2).sign(publisher)
    yield case("older", "its version is below the lowest accepted one", "reference-values-older", older)
    yield from _of_the_signature(good, values, publisher, other)
    yield from _of_the_form(good, values, publisher)


def _of_the_signature(
    good: Subject, values: ReferenceValues, publisher: SigningKey, other: SigningKey
) -> Iterator[Case]:
    payload, own = values.payload(), values.sign(publisher).signature
    flipped = bytes((*own[:-1], own[-1] ^ 1))
    mixed = own[:-_ED25519_BYTES] + other.sign(VALUES_TYPE, payload)[-_ED25519_BYTES:]
    for name, changes, signature in (
        ("another-key", "another publisher has signed it", other.sign(VALUES_TYPE, payload)),
        ("another-purpose", "it was signed as a keyset", publisher.sign("strongroom-keyset/2", payload)),
        ("unsigned", "there is no signature", b""),
        ("flip", "a bit of the signature", flipped),
        ("cut", "the last byte of the signature is missing", own[:-1]),
        ("half", "the Ed25519 half of the signature is another key's", mixed),
    ):
        signed = SignedReferenceValues(payload, signature)
        yield good.case(f"signature-{name}", changes, _SIGNATURE, values=signed.to_json_bytes())
    later = replace(values, version=4).payload()
    moved = SignedReferenceValues(later, own)
    yield good.case(
        "signature-moved",
        "the signature is that of another version",
        _SIGNATURE,
        values=moved.to_json_bytes(),
    )


def _of_the_form(good: Subject, values: ReferenceValues, publisher: SigningKey) -> Iterator[Case]:
    members: dict[str, Any] = json.loads(values.payload())
    for name, changed in (
        ("type", {"type": "strongroom-keyset/2"}),
        ("version", {"version": 0}),
        ("publisher", {"publisher": ""}),
        ("name", {"name": "Pictures"}),
        ("empty", {"measurements": {}}),
        ("kind", {"measurements": {"cca": {_LISTED: "x"}}}),
        ("length", {"measurements": {"sgx": {"22" * 31: "x"}}}),
        ("span", {"expires": members["not_before"]}),
        ("more", {"more": 1}),
    ):
        payload = jcs.canonical({**members, **changed})
        yield _signed(good, publisher, f"member-{name}", f"its {name} is not allowed", payload)
    spaced = json.dumps(members).encode()
    yield _signed(good, publisher, "spelling", "it is JSON in another spelling", spaced)
    file = values.sign(publisher).to_json_bytes()
    for name, changes, data in (
        ("file-cut", "the file is cut", file[:-2]),
        ("file-more", "the file has another member", file.replace(b"{", b'{"more":1,', 1)),
        ("file-list", "the file is a list", b"[" + file + b"]"),
    ):
        yield good.case(name, changes, _MALFORMED, values=data)


def _signed(good: Subject, publisher: SigningKey, name: str, changes: str, payload: bytes) -> Case:
    signed = SignedReferenceValues(payload, publisher.sign(VALUES_TYPE, payload))
    return good.case(name, changes, _MALFORMED, values=signed.to_json_bytes())
