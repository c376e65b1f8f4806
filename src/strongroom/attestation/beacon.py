"""The beacon: the broker's signed word on what time it is, over which workers make evidence (rule 5).

A client that sends no nonce of its own takes evidence whose nonce is SHA-256 of a beacon's payload: the
evidence cannot be older than the beacon.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from strongroom.attestation.errors import BEACON_MALFORMED
from strongroom.attestation.fields import SERVICE_NAME, Fields, parse_object
from strongroom.codec import b64, jcs
from strongroom.errors import EvidenceError

if TYPE_CHECKING:
    from strongroom.crypto.sign import VerifyingKey

BEACON_TYPE: Final = "strongroom-beacon/1"
"""Type of the payload, and purpose of its signature."""

MAX_PAYLOAD: Final = 1024
MAX_SIGNED: Final = 16 * 1024
NONCE_SIZE: Final = 32
_NAMES: Final = ("type", "service", "epoch", "time", "nonce")


@dataclass(frozen=True, slots=True)
class Beacon:
    """A point in time of the broker.

    Attributes:
        service: Name of the service.
        epoch: The newest epoch of the service.
        time: Unix time by the broker's clock.
        nonce: 32 random bytes.

    Raises:
        EvidenceError: `beacon-malformed`.
    """

    service: str
    epoch: int
    time: int
    nonce: bytes

    def __post_init__(self) -> None:
        _read(self._object())

    def payload(self) -> bytes:
        """The exact bytes that are signed."""
        return jcs.canonical(self._object())

    @property
    def evidence_nonce(self) -> bytes:
        """The nonce of evidence made over this beacon: SHA-256 of the payload."""
        return hashlib.sha256(self.payload()).digest()

    @classmethod
    def parse(cls, payload: bytes) -> Beacon:
        """Read a payload; only the exact bytes that `payload` would give are accepted.

        Raises:
            EvidenceError: `beacon-malformed`.
        """
        members = parse_object(BEACON_MALFORMED, "beacon", payload, limit=MAX_PAYLOAD, names=_NAMES)
        fields = _read({name: members.raw(name) for name in _NAMES})
        beacon = cls(
            service=fields.raw("service"),
            epoch=fields.raw("epoch"),
            time=fields.raw("time"),
            nonce=fields.blob("nonce", limit=NONCE_SIZE),
        )
        if beacon.payload() != payload:
            raise EvidenceError(BEACON_MALFORMED, "not in canonical form")
        return beacon

    def _object(self) -> dict[str, Any]:
        return {
            "type": BEACON_TYPE,
            "service": self.service,
            "epoch": self.epoch,
            "time": self.time,
            "nonce": b64.encode_url(self.nonce),
        }


@dataclass(frozen=True, slots=True)
class SignedBeacon:
    """A beacon as it is served: payload and the broker's signature, purpose `strongroom-beacon/1`."""

    payload: bytes
    signature: bytes

    @property
    def evidence_nonce(self) -> bytes:
        """The nonce of evidence made over this beacon: SHA-256 of the payload."""
        return hashlib.sha256(self.payload).digest()

    def to_json(self) -> dict[str, Any]:
        """The served document as an object."""
        return {"beacon": b64.encode_url(self.payload), "signature": b64.encode_url(self.signature)}

    def to_json_bytes(self) -> bytes:
        """The served document."""
        return jcs.canonical(self.to_json())

    @classmethod
    def from_json(cls, value: object) -> SignedBeacon:
        """Read a decoded document.

        Raises:
            EvidenceError: `beacon-malformed`.
        """
        return cls._of(Fields(BEACON_MALFORMED, "signed beacon", value, ("beacon", "signature")))

    @classmethod
    def parse(cls, data: bytes) -> SignedBeacon:
        """Read a served document. The payload stays unread until its signature has been checked.

        Raises:
            EvidenceError: `beacon-malformed`.
        """
        names = ("beacon", "signature")
        return cls._of(parse_object(BEACON_MALFORMED, "signed beacon", data, limit=MAX_SIGNED, names=names))

    @classmethod
    def _of(cls, fields: Fields) -> SignedBeacon:
        from strongroom.crypto.sign import SIGNATURE_SIZE

        return cls(
            payload=fields.blob("beacon", limit=MAX_PAYLOAD),
            signature=fields.blob("signature", limit=SIGNATURE_SIZE, exact=True),
        )

    def verify(self, broker_key: VerifyingKey) -> Beacon:
        """Check the broker's signature, then read the payload.

        Raises:
            CryptoError: `signature-invalid`.
            EvidenceError: `beacon-malformed`.
        """
        broker_key.verify(BEACON_TYPE, self.payload, self.signature, what="beacon")
        return Beacon.parse(self.payload)


def _read(value: object) -> Fields:
    fields = Fields(BEACON_MALFORMED, "beacon", value, _NAMES)
    fields.constant("type", BEACON_TYPE)
    fields.text("service", SERVICE_NAME)
    fields.integer("epoch", low=1)
    fields.integer("time")
    fields.blob("nonce", limit=NONCE_SIZE, exact=True)
    return fields
