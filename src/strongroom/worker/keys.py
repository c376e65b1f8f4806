"""The service keys that a worker holds: forward-only, sans-I/O.

1. Every keyset is of the service, broker key and release policy that the attested init-data names (design,
   rule 1; `strongroom.broker.release` has checked that the broker signed the very keyset that the keys make).
2. The newest keyset names every model that this worker serves, with the digest of its manifest. A keyset that
   promises clients another model than the one loaded here is not served under.
3. The newest epoch never runs backwards, and an epoch's keyset never changes.
4. Older epochs are honoured as long as the broker honours them, then their keys are dropped. One that names
   a loaded model with another version or manifest is left out: whoever seals to it was promised that other
   model, and is told to fetch the keys anew instead.

    keys = ServiceKeys(init_data, models={"lite0": manifest.digest})
    keys.accept(client.service_key(...))
    keys.gateway.open_request(sealed)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import Keyset, KeysetModel
from strongroom.broker.release import ServiceEpoch
from strongroom.crypto.ohttp import MAX_MESSAGE, Gateway
from strongroom.worker.errors import KEYS_REFUSED, WorkerError


class ServiceKeys:
    """The epochs that are honoured, and the gateway that opens requests with their keys.

    Other threads may read `gateway` and `current`: each change puts new immutable objects in place.

    Args:
        init_data: What this worker was started with.
        models: The models that it serves, as keysets name them.
        limit: Largest request that the gateway opens, in bytes.
    """

    def __init__(
        self, init_data: InitData, models: Mapping[str, KeysetModel], *, limit: int = MAX_MESSAGE
    ) -> None:
        self._init_data = init_data
        self._models = dict(models)
        self._limit = limit
        self._epochs: tuple[ServiceEpoch, ...] = ()
        self._newest = 0
        self._digests: dict[int, str] = {}
        self.gateway = Gateway((), limit=limit)

    @property
    def current(self) -> ServiceEpoch | None:
        """The newest epoch that is held."""
        return self._epochs[0] if self._epochs else None

    @property
    def epochs(self) -> tuple[int, ...]:
        """The numbers of the epochs that are held, newest first."""
        return tuple(epoch.epoch for epoch in self._epochs)

    @property
    def ends(self) -> tuple[int, ...]:
        """Unix times at which the epochs that are held end, newest epoch first."""
        return tuple(epoch.honoured_until for epoch in self._epochs)

    @property
    def newest(self) -> int:
        """The highest epoch ever accepted; 0 before the first."""
        return self._newest

    def accept(self, epochs: Sequence[ServiceEpoch], now: int) -> bool:
        """Hold exactly these epochs from now on.

        Args:
            epochs: What the broker released, newest first.
            now: Unix time; an epoch that is honoured no longer is left out.

        Returns:
            Whether anything changed.

        Raises:
            WorkerError: `service-keys-refused`; then nothing has changed.
        """
        live = tuple(epoch for epoch in epochs if now < epoch.honoured_until)
        if not live:
            raise WorkerError(KEYS_REFUSED, "no epoch is honoured any more")
        for epoch in live:
            self._check(epoch.keyset)
        if live[0].epoch < self._newest:
            raise WorkerError(KEYS_REFUSED, "epoch", found=live[0].epoch, expected=f"at least {self._newest}")
        self._check_models(live[0].keyset)
        live = (live[0], *(epoch for epoch in live[1:] if self._agrees(epoch.keyset)))
        before = self.epochs
        self._install(live)
        self._newest = live[0].epoch
        self._digests = {epoch.epoch: epoch.keyset.digest() for epoch in live}
        return self.epochs != before

    def drop_expired(self, now: int) -> tuple[int, ...]:
        """Drop the keys of epochs that are honoured no longer; return their numbers."""
        gone = tuple(epoch.epoch for epoch in self._epochs if now >= epoch.honoured_until)
        if gone:
            self._install(tuple(epoch for epoch in self._epochs if now < epoch.honoured_until))
        return gone

    def _install(self, epochs: tuple[ServiceEpoch, ...]) -> None:
        self.gateway = Gateway((key for epoch in epochs for key in epoch.keys), limit=self._limit)
        self._epochs = epochs

    def _check(self, keyset: Keyset) -> None:
        own = self._init_data
        for what, found, expected in (
            ("service", keyset.service, own.service),
            ("broker key", keyset.broker_key, own.broker_key),
            ("release policy", keyset.release_policy, own.release_policy),
        ):
            if found != expected:
                raise WorkerError(KEYS_REFUSED, what, found=found, expected=expected)
        known = self._digests.get(keyset.epoch)
        if known is not None and known != keyset.digest():
            raise WorkerError(KEYS_REFUSED, f"the keyset of epoch {keyset.epoch} has changed")

    def _agrees(self, keyset: Keyset) -> bool:
        """Whether it names no loaded model with another version or manifest; it may lack some."""
        return all(keyset.models.get(name, model) == model for name, model in self._models.items())

    def _check_models(self, keyset: Keyset) -> None:
        for name, model in self._models.items():
            if keyset.models.get(name) != model:
                raise WorkerError(KEYS_REFUSED, f"the keyset does not name the model {name} that is loaded")
