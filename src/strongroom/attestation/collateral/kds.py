"""AMD's certificates and revocation lists from its key distribution service (KDS).

    VCEK           GET /vcek/v1/PRODUCT/CHIP_ID?blSPL=N&teeSPL=N&snpSPL=N&ucodeSPL=N    DER; Turin: and fmcSPL
    authorities    GET /vcek|vlek/v1/PRODUCT/cert_chain                                PEM: ASK or ASVK, ARK
    revocation     GET /vcek|vlek/v1/PRODUCT/crl                                       DER

Source: AMD "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230),
chapter 4.
"""

from __future__ import annotations

from ssl import DER_cert_to_PEM_cert
from typing import Final

from strongroom.attestation.certificates import MAX_CERTIFICATE, MAX_CRL
from strongroom.attestation.collateral.errors import COLLATERAL_ANSWER
from strongroom.attestation.collateral.needs import AmdItem, VcekItem
from strongroom.attestation.collateral.web import Web, base_url
from strongroom.attestation.snp_report import tcb_parts
from strongroom.errors import EvidenceError

AMD_KDS: Final = "https://kdsintf.amd.com"

_MAX_CHAIN: Final = 32 * 1024
_NAMES: Final = {
    "bootloader": "blSPL",
    "tee": "teeSPL",
    "snp": "snpSPL",
    "microcode": "ucodeSPL",
    "fmc": "fmcSPL",
}


class Kds:
    """A key distribution service, or a cache of it with the same paths.

    Args:
        url: Its address, `https://kdsintf.amd.com`.
        web: Asks it.

    Raises:
        ConfigError: `collateral-source-invalid`.
    """

    def __init__(self, url: str, web: Web) -> None:
        self.url = base_url(url)
        self._web = web

    def fetch(self, item: AmdItem | VcekItem) -> dict[str, str]:
        """All parts of an item. What they say is for the caller to check, and for the verifier.

        Raises:
            EvidenceError: `collateral-not-found` or `collateral-answer-invalid`.
            UnreachableError: `collateral-unreachable`.
        """
        if isinstance(item, VcekItem):
            answer = self._web.get(f"{self.url}{vcek_path(item)}", limit=MAX_CERTIFICATE)
            return {"vek": DER_cert_to_PEM_cert(answer.body)}
        authority = f"{self.url}/{item.key.name.lower()}/v1/{item.product}"
        chain = self._web.get(f"{authority}/cert_chain", limit=_MAX_CHAIN)
        crl = self._web.get(f"{authority}/crl", limit=MAX_CRL)
        try:
            text = chain.body.decode("ascii")
        except UnicodeDecodeError:
            raise EvidenceError(COLLATERAL_ANSWER, f"{chain.url}: not a chain in PEM") from None
        return {"chain": text, "crl": crl.body.hex()}


def vcek_path(item: VcekItem) -> str:
    """Path and query of one chip's certificate for its firmware."""
    versions = tcb_parts(item.tcb, item.product)
    query = "&".join(f"{_NAMES[part]}={version}" for part, version in versions.items())
    return f"/vcek/v1/{item.product}/{item.chip_id.hex()}?{query}"
