"""Trust roots for fuzzing: all there can be, so that what stands behind the check of the root is reached."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Final

from strongroom.attestation.roots import TrustRoots


class _Every(frozenset[str]):
    """A set that holds everything, and lists nothing."""

    def __contains__(self, item: object) -> bool:
        return isinstance(item, str)

    def __or__(self, other: AbstractSet[Any]) -> _Every:
        return self


EVERY: Final = _Every()
"""Each digest is pinned. Nothing else in the repository may be like this."""

ANY: Final = TrustRoots(simulated=EVERY, intel=True, amd=True, aws=True, nvidia=True, tpm_keys=EVERY)
"""Evidence verifies up to whatever root it brings along."""
