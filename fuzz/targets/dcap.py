"""Quotes of SGX and TDX, the event log of a TDX guest, and what a quote says of its platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from fuzz.material import NOW, Material
from fuzz.roots import ANY
from fuzz.target import MAX_INPUT, Parser, join, split, time_of
from strongroom.attestation import ccel
from strongroom.attestation.collateral.needs import item_of, needs
from strongroom.attestation.dcap import choose_root
from strongroom.attestation.dcap_form import check_form
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.verify import verify_evidence
from strongroom.codec import b64, jcs


def _verify(kind: EvidenceKind, data: bytes) -> None:
    now, quote, collateral = split(data, 3)
    parts = jcs.parse(collateral, limit=MAX_INPUT)
    verify_evidence(Evidence(kind, quote, parts), ANY, time_of(now))


def _sgx(data: bytes) -> None:
    _verify(EvidenceKind.SGX, data)


def _tdx(data: bytes) -> None:
    _verify(EvidenceKind.TDX, data)


def _form(data: bytes) -> None:
    now, quote, root = split(data, 3)
    check_form(quote, root, time_of(now))


def _needs(data: bytes) -> None:
    kinds = list(EvidenceKind)
    needs(kinds[(data[0] if data else 0) % len(kinds)], data[1:])


def _name(data: bytes) -> None:
    item_of(data.decode("latin-1"))


def _event_log(data: bytes) -> None:
    events = ccel.parse(data)
    ccel.trimmed(data)
    ccel.replay(events)
    for event in events:
        ccel.describe(event)


def _input(now: int, quote: bytes, collateral: dict[str, Any]) -> bytes:
    return join(now.to_bytes(6), quote, json.dumps(collateral).encode())


def _quotes(material: Material, kind: EvidenceKind) -> Iterator[bytes]:
    evidence = Evidence.from_json(material.accepted(kind)["evidence"])
    yield _input(NOW, evidence.quote, dict(evidence.collateral or {}))
    for vector in material.vectors(f"{kind.upper()}_v*.json"):
        yield _input(vector["now"], bytes.fromhex(vector["quote"]), vector["collateral"])


def _sgx_quotes(material: Material) -> Iterator[bytes]:
    yield from _quotes(material, EvidenceKind.SGX)


def _tdx_quotes(material: Material) -> Iterator[bytes]:
    yield from _quotes(material, EvidenceKind.TDX)


def _quotes_with_root(material: Material) -> Iterator[bytes]:
    for seed in (*_sgx_quotes(material), *_tdx_quotes(material)):
        now, quote, collateral = split(seed, 3)
        _, root = choose_root(json.loads(collateral)["tcb_info_issuer_chain"], ANY)
        yield join(now, quote, root)


def _bare_quotes(material: Material) -> Iterator[bytes]:
    for number, kind in enumerate(EvidenceKind):
        quote = b64.decode_url(material.accepted(kind)["evidence"]["quote"], limit=MAX_INPUT)
        yield bytes([number]) + quote


def _names(_: Material) -> Iterator[bytes]:
    yield from (b"sgx-00a067110000-platform", b"snp-milan-vcek", b"snp-turin-" + b"0" * 16 + b"-" + b"1" * 16)


def _event_logs(material: Material) -> Iterator[bytes]:
    yield from material.files("tdx-eventlog/ccel_data.dat")
    head = bytes(4) + b"\x03\0\0\0" + bytes(20)
    body = b"Spec ID Event03\0" + bytes(4) + b"\0\x02\0\x02" + b"\x01\0\0\0\x0c\0\x30\0\0"
    log = head + len(body).to_bytes(4, "little") + body
    event = b"\x01\0\0\0\x08\0\0\x80\x01\0\0\0\x0c\0" + b"\x11" * 48 + b"\x04\0\0\0text"
    yield log + event * 3 + bytes(100)
    yield log + event.replace(b"\x04\0\0\0text", bytes(4)) * 900
    yield log + event + b"\xff" * 60_000


PARSERS: Final = (
    Parser("SGX quote with collateral", _sgx, _sgx_quotes),
    Parser("TDX quote with collateral", _tdx, _tdx_quotes),
    Parser("form of a quote", _form, _quotes_with_root),
    Parser("what a quote needs", _needs, _bare_quotes),
    Parser("name of collateral", _name, _names),
    Parser("event log", _event_log, _event_logs),
)
