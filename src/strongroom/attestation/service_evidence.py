"""What workers show to clients: evidence over a nonce or a beacon, a document for each worker (rules 4, 5).

The report data binds the keyset, the nonce, the init-data and the worker's receipt key. See
docs/reference/evidence.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation import initdata
from strongroom.attestation.beacon import NONCE_SIZE, SignedBeacon
from strongroom.attestation.errors import SERVICE_EVIDENCE_MALFORMED
from strongroom.attestation.evidence import MAX_DOCUMENT as MAX_EVIDENCE
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.fields import MODEL_NAME, SHA384, SIGNING_KEY, Fields, parse_object
from strongroom.codec import b64, jcs

SERVE_PURPOSE: Final = "strongroom-serve/1"
BROKER_PURPOSE: Final = "strongroom-broker/1"
REPORT_DATA_SIZE: Final = 64

MAX_SERVICE_EVIDENCE: Final = MAX_EVIDENCE + 24 * 1024
"""Largest document of one worker in bytes."""

MAX_WORKERS: Final = 32
MAX_EVIDENCE_LIST: Final = 4 * 1024 * 1024
"""Largest list in bytes; genuine evidence takes about 40 KiB for each worker."""

_NAMES: Final = ("worker", "evidence", "nonce", "beacon", "keyset", "receipt_key")


def serve_report_data(keyset_digest: str, nonce: bytes, init_data: bytes, receipt_key: str) -> bytes:
    """Report data of a worker's evidence for clients (rule 4).

    Args:
        keyset_digest: `sha384:...` of the keyset that the worker serves.
        nonce: 32 bytes of the client, or the beacon's `evidence_nonce`.
        init_data: Exact bytes of the worker's init-data.
        receipt_key: The worker's own receipt key, `ed25519+mldsa65:...`.

    Returns:
        SHA-384 of a JCS object, zero-padded to 64 bytes.
    """
    return _report_data(
        {
            "purpose": SERVE_PURPOSE,
            "keyset": keyset_digest,
            "nonce": b64.encode_url(nonce),
            "init_data": f"sha384:{initdata.digest(init_data).hex()}",
            "receipt_key": receipt_key,
        }
    )


def broker_report_data(keyset_digest: str, broker_key: str) -> bytes:
    """Report data of the evidence of a broker that runs in a TEE itself (rule 2).

    Args:
        keyset_digest: `sha384:...` of the keyset that the broker signed.
        broker_key: The broker's signing key, `ed25519+mldsa65:...`.

    Returns:
        SHA-384 of a JCS object, zero-padded to 64 bytes.
    """
    return _report_data({"purpose": BROKER_PURPOSE, "keyset": keyset_digest, "broker_key": broker_key})


def _report_data(value: dict[str, str]) -> bytes:
    return hashlib.sha384(jcs.canonical(value)).digest().ljust(REPORT_DATA_SIZE, b"\0")


@dataclass(frozen=True, slots=True)
class ServiceEvidence:
    """One worker's document. Not verified.

    Attributes:
        worker: Name of the worker: letters, digits, dot, underscore, hyphen.
        evidence: Its evidence, with init-data.
        nonce: The 32 bytes that the report data carries.
        beacon: The newest beacon that the worker has from its broker, `None` if it has none. The nonce comes
            from it, unless a client gave one.
        keyset: Digest of the keyset that it serves, `sha384:...`.
        receipt_key: Its receipt key, `ed25519+mldsa65:...`.

    Raises:
        EvidenceError: `service-evidence-malformed`.
    """

    worker: str
    evidence: Evidence
    nonce: bytes
    beacon: SignedBeacon | None
    keyset: str
    receipt_key: str

    def __post_init__(self) -> None:
        _read(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The document as an object."""
        return {
            "worker": self.worker,
            "evidence": self.evidence.to_json(),
            "nonce": b64.encode_url(self.nonce),
            "beacon": None if self.beacon is None else self.beacon.to_json(),
            "keyset": self.keyset,
            "receipt_key": self.receipt_key,
        }

    def to_json_bytes(self) -> bytes:
        """The document as canonical bytes."""
        return jcs.canonical(self.to_json())

    @classmethod
    def from_json(cls, value: object) -> ServiceEvidence:
        """Read a decoded document.

        Raises:
            EvidenceError: `service-evidence-malformed`, or a code of the evidence or the beacon.
        """
        return cls._of(_read(value))

    @classmethod
    def parse(cls, data: bytes) -> ServiceEvidence:
        """Read a document.

        Raises:
            EvidenceError: `service-evidence-malformed`, or a code of the evidence or the beacon.
        """
        fields = parse_object(
            SERVICE_EVIDENCE_MALFORMED, "service evidence", data, limit=MAX_SERVICE_EVIDENCE, names=_NAMES
        )
        return cls.from_json({name: fields.raw(name) for name in _NAMES})

    @classmethod
    def _of(cls, fields: Fields) -> ServiceEvidence:
        beacon = fields.raw("beacon")
        return cls(
            worker=fields.raw("worker"),
            evidence=Evidence.from_json(fields.raw("evidence")),
            nonce=fields.blob("nonce", limit=NONCE_SIZE),
            beacon=None if beacon is None else SignedBeacon.from_json(beacon),
            keyset=fields.raw("keyset"),
            receipt_key=fields.raw("receipt_key"),
        )


@dataclass(frozen=True, slots=True)
class EvidenceList:
    """The documents of the workers that a front end knows, at most 32."""

    workers: tuple[ServiceEvidence, ...]

    def to_json_bytes(self) -> bytes:
        """The served document."""
        return jcs.canonical({"workers": [worker.to_json() for worker in self.workers]})

    @classmethod
    def parse(cls, data: bytes) -> EvidenceList:
        """Read a served document, at most 4 MiB.

        Raises:
            EvidenceError: `service-evidence-malformed`, or a code of an evidence or a beacon.
        """
        fields = parse_object(
            SERVICE_EVIDENCE_MALFORMED, "evidence list", data, limit=MAX_EVIDENCE_LIST, names=("workers",)
        )
        workers = fields.raw("workers")
        if not isinstance(workers, list) or len(workers) > MAX_WORKERS:
            raise fields.error("workers is not a list", expected=f"at most {MAX_WORKERS} entries")
        return cls(tuple(ServiceEvidence.from_json(worker) for worker in workers))


def _read(value: object) -> Fields:
    fields = Fields(SERVICE_EVIDENCE_MALFORMED, "service evidence", value, _NAMES)
    fields.text("worker", MODEL_NAME)
    fields.blob("nonce", limit=NONCE_SIZE, exact=True)
    fields.text("keyset", SHA384)
    fields.text("receipt_key", SIGNING_KEY)
    return fields
