"""What a worker shows to clients, and the beacons that it takes from its broker (design, rules 4, 5 and 6).

The report data binds the keyset that this worker has rebuilt, a nonce, the init-data and its receipt key.
The nonce comes from a client, or from the broker's beacon.
"""

from __future__ import annotations

from strongroom.attestation.beacon import NONCE_SIZE, Beacon, SignedBeacon
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.serving import ServiceEvidence, serve_report_data
from strongroom.crypto.sign import VerifyingKey
from strongroom.worker.errors import BEACON_REFUSED, NONCE_INVALID, WorkerError
from strongroom.worker.quoter import Quoter


class Beacons:
    """Takes beacons of one service of one broker, forwards only.

    Args:
        service: Name of the service.
        broker_key: The key that the init-data names.
    """

    def __init__(self, service: str, broker_key: VerifyingKey) -> None:
        self._service = service
        self._broker_key = broker_key
        self._latest: tuple[SignedBeacon, Beacon] | None = None

    @property
    def newest(self) -> SignedBeacon | None:
        """The last one that was taken."""
        return None if self._latest is None else self._latest[0]

    def accept(self, document: bytes) -> tuple[SignedBeacon, Beacon]:
        """Check a beacon as the broker served it.

        Raises:
            WorkerError: `beacon-refused`: of another service, or older than one that was taken before.
            CryptoError: `signature-invalid`.
            EvidenceError: `beacon-malformed`.
        """
        signed = SignedBeacon.parse(document)
        beacon = signed.verify(self._broker_key)
        if beacon.service != self._service:
            raise WorkerError(BEACON_REFUSED, "service", found=beacon.service, expected=self._service)
        if self._latest is not None:
            latest = self._latest[1]
            if beacon.epoch < latest.epoch or beacon.time < latest.time:
                raise WorkerError(BEACON_REFUSED, "it is older than the one before")
        self._latest = signed, beacon
        return self._latest


class EvidenceSource:
    """Makes this worker's evidence for clients.

    Args:
        quoter: The launcher's side, which alone can quote.
        init_data: Exact bytes of the init-data.
        worker: Name of this worker.
        receipt_key: Text of its receipt key, `ed25519+mldsa65:...`.
    """

    def __init__(self, quoter: Quoter, init_data: bytes, worker: str, receipt_key: str) -> None:
        self._quoter = quoter
        self._init_data = init_data
        self._worker = worker
        self._receipt_key = receipt_key

    def over_beacon(self, beacon: SignedBeacon, keyset: str) -> ServiceEvidence:
        """Evidence for all who send no nonce.

        Args:
            beacon: A beacon that was accepted.
            keyset: Digest of the keyset, `sha384:...`.

        Raises:
            EvidenceError: No quote could be had.
        """
        return self._make(beacon.evidence_nonce, beacon, keyset)

    def over_nonce(self, nonce: bytes, beacon: SignedBeacon | None, keyset: str) -> ServiceEvidence:
        """Evidence for one client.

        Args:
            nonce: The client's.
            beacon: The newest that was accepted; it goes along, and shows which epochs the broker had.
            keyset: Digest of the keyset, `sha384:...`.

        Raises:
            WorkerError: `nonce-invalid`: it has not 32 bytes.
            EvidenceError: No quote could be had.
        """
        if len(nonce) != NONCE_SIZE:
            raise WorkerError(NONCE_INVALID, found=f"{len(nonce)} bytes", expected=f"{NONCE_SIZE} bytes")
        return self._make(nonce, beacon, keyset)

    def _make(self, nonce: bytes, beacon: SignedBeacon | None, keyset: str) -> ServiceEvidence:
        made = self._quoter.quote(serve_report_data(keyset, nonce, self._init_data, self._receipt_key))
        evidence = Evidence(made.kind, made.quote, made.collateral, self._init_data)
        return ServiceEvidence(self._worker, evidence, nonce, beacon, keyset, self._receipt_key)
