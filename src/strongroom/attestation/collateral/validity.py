"""For how long collateral holds, by its own word, and whether it is that of an item.

Nothing is verified here. What this reads may be false; then verification refuses it later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

import msgspec
from cryptography import x509

from strongroom.attestation import certificates
from strongroom.attestation.collateral.errors import COLLATERAL_ANSWER
from strongroom.attestation.collateral.needs import AmdItem, DcapItem, Item, VcekItem
from strongroom.attestation.evidence import DCAP_COLLATERAL, MAX_COLLATERAL, EvidenceKind
from strongroom.attestation.snp_report import SigningKey
from strongroom.errors import EvidenceError
from strongroom.forms import ready

Parts = Mapping[str, str]

_AUTHORITY_NAME: Final = {SigningKey.VCEK: "SEV-", SigningKey.VLEK: "SEV-VLEK-"}
_QE_ID: Final = {EvidenceKind.SGX: "QE", EvidenceKind.TDX: "TD_QE"}
_SIGNATURE_DIGITS: Final = 128
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Period:
    """When something holds.

    Attributes:
        issued: Unix time from which on.
        expires: Unix time after which no more.
    """

    issued: int
    expires: int

    def holds(self, now: int) -> bool:
        """Whether it holds at a Unix time."""
        return self.issued <= now <= self.expires


@ready
class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    """What TCB info and QE identity have in common."""

    id: str
    issue_date: _Moment
    next_update: _Moment
    fmspc: str = ""


def period(parts: Parts) -> Period:
    """When all of these parts hold together.

    Raises:
        EvidenceError: `collateral-answer-invalid`; the message names the part.
    """
    found = [_period(name, text) for name, text in parts.items() if not name.endswith("_signature")]
    if not found:
        raise EvidenceError(COLLATERAL_ANSWER, "nothing in it")
    return Period(max(each.issued for each in found), min(each.expires for each in found))


def check(item: Item, parts: Parts) -> None:
    """Refuse parts that are not those of an item, or not readable, before they are kept under its name.

    Raises:
        EvidenceError: `collateral-answer-invalid`; the message names the part.
    """
    expected = _names(item)
    if parts.keys() != expected:
        raise EvidenceError(COLLATERAL_ANSWER, "parts", found=sorted(parts), expected=sorted(expected))
    if sum(map(len, parts.values())) > MAX_COLLATERAL:
        raise EvidenceError(COLLATERAL_ANSWER, "size", expected=f"at most {MAX_COLLATERAL}")
    if not all(text.isascii() for text in parts.values()):
        raise EvidenceError(COLLATERAL_ANSWER, "not ASCII")
    if isinstance(item, DcapItem):
        _check_dcap(item, parts)
    elif isinstance(item, AmdItem):
        _check_amd(item, parts)
    else:
        _check_vcek(item, parts)
    period(parts)


def _names(item: Item) -> frozenset[str]:
    if isinstance(item, DcapItem):
        return DCAP_COLLATERAL
    return frozenset({"vek"} if isinstance(item, VcekItem) else {"chain", "crl"})


_JSON: Final = ("tcb_info", "qe_identity")
_CRLS: Final = ("pck_crl", "root_ca_crl", "crl")


def _period(name: str, text: str) -> Period:
    if name in _JSON:
        statement = _statement(name, text)
        return _span([statement.issue_date], [statement.next_update])
    if name in _CRLS:
        crl = _crl(name, text)
        if crl.next_update_utc is None:
            raise EvidenceError(COLLATERAL_ANSWER, f"{name} does not say until when it holds")
        return _span([crl.last_update_utc], [crl.next_update_utc])
    chain = _chain(name, text)
    return _span((each.not_valid_before_utc for each in chain), (each.not_valid_after_utc for each in chain))


def _span(starts: Iterable[datetime], ends: Iterable[datetime]) -> Period:
    return Period(max(int(each.timestamp()) for each in starts), min(int(each.timestamp()) for each in ends))


def _statement(name: str, text: str) -> _Statement:
    try:
        return msgspec.json.decode(text, type=_Statement)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise EvidenceError(COLLATERAL_ANSWER, name) from None


def _crl(name: str, text: str) -> x509.CertificateRevocationList:
    try:
        data = bytes.fromhex(text)
        if len(data) > certificates.MAX_CRL:
            raise ValueError("too large")
        crl = x509.load_der_x509_crl(data)
        crl.issuer, crl.last_update_utc, crl.next_update_utc  # noqa: B018 -- what is parsed late
        return crl
    except Exception as error:  # as in `certificates.parse_certificate`
        raise EvidenceError(COLLATERAL_ANSWER, name) from error


def _chain(name: str, text: str) -> tuple[x509.Certificate, ...]:
    try:
        return certificates.parse_chain(text, name)
    except EvidenceError as error:
        raise EvidenceError(COLLATERAL_ANSWER, error.detail) from None


def _check_dcap(item: DcapItem, parts: Parts) -> None:
    tcb, qe = _statement("tcb_info", parts["tcb_info"]), _statement("qe_identity", parts["qe_identity"])
    facts = [
        ("FMSPC of the TCB info", tcb.fmspc.lower(), item.fmspc),
        ("TEE of the TCB info", tcb.id, item.tee.upper()),
        ("TEE of the QE identity", qe.id, _QE_ID[item.tee]),
    ]
    for name in ("tcb_info_signature", "qe_identity_signature"):
        digits = parts[name] if all(char in "0123456789abcdefABCDEF" for char in parts[name]) else ""
        facts.append((f"{name} in hexadecimal digits", str(len(digits)), str(_SIGNATURE_DIGITS)))
    issuer = _crl("pck_crl", parts["pck_crl"]).issuer.rfc4514_string()
    if f"PCK {item.authority.title()} CA" not in issuer:
        facts.append(("issuer of the PCK revocation list", issuer[:80], item.authority))
    _compare(facts)


def _check_amd(item: AmdItem, parts: Parts) -> None:
    chain = _chain("chain", parts["chain"])
    names = [f"{_AUTHORITY_NAME[item.key]}{item.product}", f"ARK-{item.product}"]
    _compare(
        [("names in the chain", str([certificates.common_name(each.subject) for each in chain]), str(names))]
    )
    if _crl("crl", parts["crl"]).issuer != chain[-1].subject:
        raise EvidenceError(COLLATERAL_ANSWER, "the revocation list is of another issuer")


def _check_vcek(item: VcekItem, parts: Parts) -> None:
    chain = _chain("vek", parts["vek"])
    if len(chain) != 1:
        raise EvidenceError(COLLATERAL_ANSWER, "vek", found=f"{len(chain)}", expected="one certificate")
    issuer = f"{_AUTHORITY_NAME[SigningKey.VCEK]}{item.product}"
    _compare([("issuer of the VCEK", certificates.common_name(chain[0].issuer), issuer)])


def _compare(facts: Iterable[tuple[str, str, str]]) -> None:
    for what, found, expected in facts:
        if found != expected:
            raise EvidenceError(COLLATERAL_ANSWER, what, found=_printable(found), expected=expected)


def _printable(text: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text[:100])
