"""Trust roots: the tops of certificate chains that a relying party accepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.errors import EVIDENCE_UNTRUSTED_ROOT
from strongroom.errors import EvidenceError

INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
"""SHA-256 of the DER of "Intel SGX Root CA", for SGX and TDX; its key is compiled into dcap-qvl."""


AMD_ROOT_KEYS: Final = {
    "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9": "Milan",
    "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831": "Genoa",
    "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08": "Turin",
}
"""SHA-256 of the public keys (SubjectPublicKeyInfo in DER) of AMD's roots (ARK), with their products."""

AWS_ROOT_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
"""SHA-256 of the DER of "aws.nitro-enclaves" G1."""

NVIDIA_ROOT_SHA256: Final = "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
"""SHA-256 of the DER of "NVIDIA Device Identity CA"."""


def untrusted_root(found: str, pinned: Iterable[str], *, vendor: str = "", what: str = "") -> EvidenceError:
    """The refusal of a root.

    Args:
        found: SHA-256 of the root's DER, lower-case hex.
        pinned: The digests that would be trusted.
        vendor: Whose root would be trusted too, for example `AMD's`; empty for nobody's.
        what: Whose root it is, where that is not plain.
    """
    trusted = [vendor] if vendor else []
    trusted += [f"sha256:{each}" for each in sorted(pinned)]
    expected = " or ".join(trusted) or "none"
    return EvidenceError(EVIDENCE_UNTRUSTED_ROOT, what, found=f"sha256:{found}", expected=expected)


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """Roots up to which evidence may verify. A root that a service sends along is never trusted by itself.

    Attributes:
        simulated: SHA-256 of the DER of simulated roots, lower-case hex.
        intel: Whether Intel's root is trusted.
        amd: Whether AMD's roots are trusted.
        aws: Whether the root of AWS Nitro Enclaves is trusted.
        nvidia: Whether NVIDIA's roots, for GPUs and for their reference values, are trusted.
        tpm_keys: SHA-256 of attestation keys of TPMs (SubjectPublicKeyInfo in DER), lower-case hex. Whoever
            pins one knows that a TPM holds it.
    """

    simulated: frozenset[str] = frozenset()
    intel: bool = True
    amd: bool = True
    aws: bool = True
    nvidia: bool = True
    tpm_keys: frozenset[str] = frozenset()
