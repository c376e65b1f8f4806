"""Trust roots: the tops of certificate chains that a relying party accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
"""SHA-256 of the DER of "Intel SGX Root CA", for SGX and TDX; its key is compiled into dcap-qvl."""


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """Roots up to which evidence may verify. A root that a service sends along is never trusted by itself.

    Attributes:
        simulated: SHA-256 of the DER of simulated roots, lower-case hex.
        intel: Whether Intel's root is trusted.
    """

    simulated: frozenset[str] = frozenset()
    intel: bool = True
