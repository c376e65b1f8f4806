"""Evidence: what an attester hands over, as a typed value with its kind.

The JSON form (docs/reference/evidence.md):

    {"kind": "sgx", "quote": BASE64URL, "collateral": {NAME: TEXT, ...} | null, "init_data": BASE64URL | null}

and, of a TDX guest that shows what it has measured, `"event_log": BASE64URL`.

A quote's bytes are malleable outside its signed body. Never use a hash of them as an identity or replay key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from strongroom.attestation.errors import EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE
from strongroom.codec import b64, jcs
from strongroom.errors import CodecError, EvidenceError

MAX_QUOTE: Final = 64 * 1024
MAX_COLLATERAL: Final = 512 * 1024
MAX_INIT_DATA: Final = 64 * 1024
MAX_EVENT_LOG: Final = 192 * 1024
MAX_DOCUMENT: Final = 1024 * 1024
"""Largest JSON form in bytes; all parts at their limits fit."""

DCAP_COLLATERAL: Final = frozenset(
    {
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
    }
)
"""The parts of Intel's collateral, version 3: PEM chains, JSON texts as signed, the rest lower-case hex."""

SNP_COLLATERAL: Final = frozenset({"vek"})
"""What evidence of SNP needs: the VCEK or VLEK certificate in PEM. ASK (or ASVK) and ARK are known, if the
attester does not send them.
"""


class EvidenceKind(StrEnum):
    """Kind of TEE that made the evidence."""

    SGX = "sgx"
    TDX = "tdx"
    SNP = "snp"
    NITRO = "nitro"
    AZ_SNP = "az-snp-vtpm"
    """An Azure confidential VM on SNP; the names are those of the KBS protocol."""
    AZ_TDX = "az-tdx-vtpm"
    """An Azure confidential VM on TDX."""
    TPM = "tpm"
    """A machine with a TPM 2.0. It shows what was started and keeps no host from reading memory."""


DCAP_KINDS: Final = (EvidenceKind.SGX, EvidenceKind.TDX)
"""Kinds whose evidence is a quote of Intel's DCAP."""

INTEL_KINDS: Final = (*DCAP_KINDS, EvidenceKind.AZ_TDX)
"""Kinds whose evidence is or holds such a quote."""

SNP_KINDS: Final = (EvidenceKind.SNP, EvidenceKind.AZ_SNP)
"""Kinds whose evidence holds a report of AMD's SEV-SNP."""

TPM_KINDS: Final = (EvidenceKind.AZ_SNP, EvidenceKind.AZ_TDX, EvidenceKind.TPM)
"""Kinds whose evidence holds a quote of a TPM, virtual or not."""

_COLLATERAL: Final = {
    **dict.fromkeys(INTEL_KINDS, (DCAP_COLLATERAL, frozenset({"pck_certificate_chain"}))),
    EvidenceKind.SNP: (SNP_COLLATERAL, frozenset({"chain", "crl"})),
    EvidenceKind.AZ_SNP: (frozenset(), frozenset({"chain", "crl"})),
}
"""By kind, the names that collateral must have and those that it may have. The other kinds need none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence, not verified.

    Attributes:
        kind: Kind of TEE.
        quote: What the hardware signed, at most 64 KiB: an SGX or TDX quote, an SNP report, a Nitro
            document; for kinds with a TPM the JSON text of `tpm_forms`, in which that is.
        collateral: The vendor's statements that verification needs, by name; together at most 512 KiB.
        init_data: What the TEE was started with, at most 64 KiB; the quote carries its digest.
        event_log: TDX: what the guest has measured (CCEL), at most 192 KiB; the quote's registers bind it.

    Raises:
        EvidenceError: `evidence-too-large` or `evidence-malformed`.
    """

    kind: EvidenceKind
    quote: bytes
    collateral: Mapping[str, str] | None = None
    init_data: bytes | None = None
    event_log: bytes | None = None

    def __post_init__(self) -> None:
        _bound("quote", len(self.quote), MAX_QUOTE)
        if self.init_data is not None:
            _bound("init-data", len(self.init_data), MAX_INIT_DATA)
        if self.event_log is not None:
            _bound("event log", len(self.event_log), MAX_EVENT_LOG)
            if self.kind is not EvidenceKind.TDX:
                raise EvidenceError(EVIDENCE_MALFORMED, f"evidence of kind {self.kind} has no event log")
        if self.collateral is not None:
            _check_collateral(self.kind, self.collateral)

    def to_json(self) -> dict[str, Any]:
        """The JSON form as an object."""
        log = {} if self.event_log is None else {"event_log": b64.encode_url(self.event_log)}
        return {
            "kind": str(self.kind),
            "quote": b64.encode_url(self.quote),
            "collateral": None if self.collateral is None else dict(self.collateral),
            "init_data": None if self.init_data is None else b64.encode_url(self.init_data),
            **log,
        }

    def to_json_bytes(self) -> bytes:
        """The JSON form as canonical bytes."""
        return jcs.canonical(self.to_json())

    @classmethod
    def from_json(cls, value: object) -> Evidence:
        """Read the JSON form from a decoded object.

        Raises:
            EvidenceError: `evidence-malformed` or `evidence-too-large`.
        """
        if not isinstance(value, dict):
            raise EvidenceError(EVIDENCE_MALFORMED, "not a JSON object")
        if value.keys() - {"event_log"} != {"kind", "quote", "collateral", "init_data"}:
            raise EvidenceError(EVIDENCE_MALFORMED, "members other than kind, quote, collateral, init_data")
        init_data = value["init_data"]
        log = _bytes("event log", value["event_log"], MAX_EVENT_LOG) if "event_log" in value else None
        return cls(
            kind=_kind(value["kind"]),
            quote=_bytes("quote", value["quote"], MAX_QUOTE),
            collateral=value["collateral"],
            init_data=None if init_data is None else _bytes("init-data", init_data, MAX_INIT_DATA),
            event_log=log,
        )

    @classmethod
    def parse(cls, data: bytes) -> Evidence:
        """Read the JSON form from bytes.

        Raises:
            EvidenceError: `evidence-malformed` or `evidence-too-large`.
        """
        _bound("document", len(data), MAX_DOCUMENT)
        try:
            value = jcs.parse(data, limit=MAX_DOCUMENT, what="evidence")
        except CodecError as error:
            raise EvidenceError(EVIDENCE_MALFORMED, error.kind.title) from None
        return cls.from_json(value)


def _bound(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise EvidenceError(EVIDENCE_TOO_LARGE, what, found=f"{size} bytes", expected=f"at most {limit}")


def _kind(value: object) -> EvidenceKind:
    kinds = [kind for kind in EvidenceKind if kind == value]
    if not kinds:
        raise EvidenceError(EVIDENCE_MALFORMED, "unknown kind", expected=", ".join(EvidenceKind))
    return kinds[0]


def _bytes(what: str, value: object, limit: int) -> bytes:
    if not isinstance(value, str):
        raise EvidenceError(EVIDENCE_MALFORMED, f"{what} is not a base64url string")
    _bound(what, len(value) * 3 // 4, limit)
    try:
        return b64.decode_url(value, limit=limit, what=what)
    except CodecError as error:
        raise EvidenceError(EVIDENCE_MALFORMED, f"{what}: {error.kind.title}") from None


def _check_collateral(kind: EvidenceKind, value: object) -> None:
    if not isinstance(value, Mapping):
        raise EvidenceError(EVIDENCE_MALFORMED, "collateral is not a JSON object")
    if kind not in _COLLATERAL:
        raise EvidenceError(EVIDENCE_MALFORMED, f"evidence of kind {kind} has no collateral")
    needed, optional = _COLLATERAL[kind]
    if not needed <= value.keys() <= needed | optional:
        raise EvidenceError(
            EVIDENCE_MALFORMED,
            f"members of the collateral of kind {kind}",
            expected=", ".join(sorted(needed)),
        )
    size = 0
    for name, text in value.items():
        if not isinstance(text, str) or not text.isascii():
            raise EvidenceError(EVIDENCE_MALFORMED, f"collateral {name} is not an ASCII string")
        size += len(text)
        _bound("collateral", size, MAX_COLLATERAL)
