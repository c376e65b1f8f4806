"""The verdict: what a client has found out about a service, once nothing speaks against sealing to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.attestation.claims import Anchor, Claims
from strongroom.attestation.keyset import CLASSICAL_RELEASE, SIGNATURE_SUITE, Keyset
from strongroom.attestation.workers import TrustedWorker
from strongroom.errors import StrongroomError

SIMULATED_WARNING: Final = "SIMULATED evidence: not protection"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A service that may be sealed to, until `valid_until`.

    Attributes:
        service: Name of the service.
        epoch: Epoch of its keyset.
        simulated: Whether any of the evidence is simulated. Then nothing is protected.
        anchors: Who vouches for the hardware, the attested broker's included, sorted.
        measurements: Measurements of the workers, sorted.
        tcb_statuses: TCB statuses of the workers, sorted.
        advisories: Security advisories that apply to the workers, sorted.
        keyset_digest: `sha384:...` of the keyset's exact bytes.
        keyset: The keyset; seal to its `key_configs` and to nothing else.
        custodian_attested: Whether the key broker's own evidence passed.
        workers: How many workers' evidence passed.
        receipt_keys: Receipt keys of those workers, sorted.
        warnings: What a user should know, the gravest first.
        valid_until: Unix time after which the service must be appraised again.
    """

    service: str
    epoch: int
    simulated: bool
    anchors: tuple[Anchor, ...]
    measurements: tuple[str, ...]
    tcb_statuses: tuple[str, ...]
    advisories: tuple[str, ...]
    keyset_digest: str
    keyset: Keyset
    custodian_attested: bool
    workers: int
    receipt_keys: tuple[str, ...]
    warnings: tuple[str, ...]
    valid_until: int

    @classmethod
    def of(
        cls,
        keyset: Keyset,
        custodian: Claims | None,
        workers: Sequence[TrustedWorker],
        refused: Sequence[tuple[str, StrongroomError]],
    ) -> Verdict:
        """Sum up an appraisal in which nothing was refused that had to hold.

        Args:
            keyset: The keyset that was accepted.
            custodian: Claims of the key broker, if it is attested.
            workers: The workers that passed, at least one.
            refused: Name and error of each worker that did not pass.
        """
        claims = [worker.claims for worker in workers]
        vouching = claims if custodian is None else [*claims, custodian]
        simulated = any(claim.simulated for claim in vouching)
        receipt_keys = sorted({worker.receipt_key for worker in workers})
        return cls(
            service=keyset.service,
            epoch=keyset.epoch,
            simulated=simulated,
            anchors=tuple(sorted({claim.anchor for claim in vouching})),
            measurements=tuple(sorted({claim.measurement for claim in claims})),
            tcb_statuses=tuple(sorted({claim.tcb_status for claim in claims if claim.tcb_status})),
            advisories=tuple(sorted({advisory for claim in claims for advisory in claim.advisories})),
            keyset_digest=keyset.digest(),
            keyset=keyset,
            custodian_attested=custodian is not None,
            # By receipt key, which the evidence binds: a document sent twice is one worker.
            workers=len(receipt_keys),
            receipt_keys=tuple(receipt_keys),
            warnings=tuple(_warnings(keyset, custodian, workers, refused, simulated=simulated)),
            valid_until=_valid_until(keyset, custodian, workers),
        )

    @property
    def key_release(self) -> str:
        """How the private keys travel to workers, in words: `post-quantum` or `classical`."""
        return "classical" if self.keyset.key_release == CLASSICAL_RELEASE else "post-quantum"

    @property
    def label(self) -> str:
        """`SIMULATED` or `ATTESTED`, to be shown wherever the service is named."""
        return "SIMULATED" if self.simulated else "ATTESTED"

    def to_json(self) -> dict[str, Any]:
        """The verdict for machines. The keys themselves are left out; the digest stands for them."""
        return {
            "verdict": self.label,
            "service": self.service,
            "epoch": self.epoch,
            "simulated": self.simulated,
            "anchors": [str(anchor) for anchor in self.anchors],
            "measurements": list(self.measurements),
            "tcb_statuses": list(self.tcb_statuses),
            "advisories": list(self.advisories),
            "keyset": self.keyset_digest,
            "suites": list(self.keyset.suites),
            "signature_suite": SIGNATURE_SUITE,
            "models": {
                name: {"version": model.version, "manifest": model.manifest}
                for name, model in self.keyset.models.items()
            },
            "release_policy": self.keyset.release_policy,
            "broker_key": self.keyset.broker_key,
            "key_custodian": self.keyset.key_custodian,
            "custodian_attested": self.custodian_attested,
            "key_release": self.key_release,
            "workers": self.workers,
            "receipt_keys": list(self.receipt_keys),
            "warnings": list(self.warnings),
            "valid_until": self.valid_until,
        }

    def __str__(self) -> str:
        workers = f"{self.workers} worker" + ("" if self.workers == 1 else "s")
        return f"{self.label}: service {self.service}, epoch {self.epoch}, {workers}"


def _valid_until(keyset: Keyset, custodian: Claims | None, workers: Sequence[TrustedWorker]) -> int:
    # One worker's evidence is enough, so the verdict lives as long as the freshest.
    ends = [keyset.not_after, max(min(worker.fresh_until, worker.claims.expires) for worker in workers)]
    if custodian is not None:
        ends.append(custodian.expires)
    return min(ends)


def _warnings(
    keyset: Keyset,
    custodian: Claims | None,
    workers: Sequence[TrustedWorker],
    refused: Sequence[tuple[str, StrongroomError]],
    *,
    simulated: bool,
) -> Iterator[str]:
    if simulated:
        yield SIMULATED_WARNING
    if custodian is None:
        yield f"key custodian unattested: {keyset.key_custodian}"
    if not keyset.post_quantum_configs:
        yield "requests: classical"
    if keyset.key_release == CLASSICAL_RELEASE:
        yield "key release: classical"
    if any(worker.witnesses == 0 for worker in workers):
        yield "release log: no witness"
    newest = max(worker.epoch for worker in workers)
    if newest > keyset.epoch:
        yield f"keyset of epoch {keyset.epoch}, but the broker is at epoch {newest}"
    for name, error in refused:
        yield f"worker {name} not counted: {error}"
