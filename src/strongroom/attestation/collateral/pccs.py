"""Intel's statements from its provisioning service (PCS) or from a cache of it (PCCS), version 4.

    TCB info      GET /sgx|tdx/certification/v4/tcb?fmspc=F&update=standard     {"tcbInfo": {}, "signature"}
    QE identity   GET /sgx|tdx/certification/v4/qe/identity?update=standard     {"enclaveIdentity": {}, ...}
    PCK CRL       GET /sgx/certification/v4/pckcrl?ca=CA&encoding=der           DER, PEM or hex
    root CA CRL   GET /sgx/certification/v4/rootcacrl                           hex or DER; not at Intel's own

Issuer chains come in headers, as PEM with URL encoding. JSON is signed as text, so its text is cut out of the
answer and never encoded again.

Sources: Intel "Provisioning Certification Service" API, version 4; Intel "SGX and TDX Provisioning
Certificate Caching Service" design guide.
"""

from __future__ import annotations

import urllib.parse
from typing import Final, TypeVar

import msgspec

from strongroom.attestation.certificates import MAX_CRL
from strongroom.attestation.collateral.errors import COLLATERAL_ANSWER
from strongroom.attestation.collateral.needs import DcapItem
from strongroom.attestation.collateral.web import Answer, Web, base_url
from strongroom.errors import EvidenceError
from strongroom.forms import ready

INTEL_PCS: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""Where Intel's root says that its revocation list is: the PCS does not serve it."""

_VERSION: Final = "certification/v4"
_MAX_JSON: Final = 256 * 1024
_MAX_HEX: Final = 2 * MAX_CRL
_MAX_CHAIN: Final = 32 * 1024
_PEM: Final = b"-----BEGIN"
_SEQUENCE: Final = b"\x30"


@ready
class _TcbInfo(msgspec.Struct, frozen=True):
    statement: msgspec.Raw = msgspec.field(name="tcbInfo")
    signature: str


@ready
class _QeIdentity(msgspec.Struct, frozen=True):
    statement: msgspec.Raw = msgspec.field(name="enclaveIdentity")
    signature: str


class Pccs:
    """A PCCS or PCS.

    Args:
        url: Its address: `https://api.trustedservices.intel.com`, `https://pccs.example.org:8081`; with or
            without `/sgx/certification/v4`.
        web: Asks it.
        root_crl: Address of the root's revocation list, in DER; None for Intel's where `url` is Intel's, and
            for `rootcacrl` of the service itself else.

    Raises:
        ConfigError: `collateral-source-invalid`.
    """

    def __init__(self, url: str, web: Web, *, root_crl: str | None = None) -> None:
        self.url = base_url(url, suffix=f"/sgx/{_VERSION}")
        self._web = web
        own = INTEL_ROOT_CRL if self.url == INTEL_PCS else f"{self.url}/sgx/{_VERSION}/rootcacrl"
        self._root_crl = own if root_crl is None else base_url(root_crl)

    def fetch(self, item: DcapItem) -> dict[str, str]:
        """All parts of an item. What they say is for the caller to check, and for the verifier.

        Raises:
            EvidenceError: `collateral-not-found` or `collateral-answer-invalid`.
            UnreachableError: `collateral-unreachable`.
        """
        family = f"{self.url}/{item.tee}/{_VERSION}"
        tcb = self._web.get(f"{family}/tcb?fmspc={item.fmspc}&update=standard", limit=_MAX_JSON)
        qe = self._web.get(f"{family}/qe/identity?update=standard", limit=_MAX_JSON)
        address = f"{self.url}/sgx/{_VERSION}/pckcrl?ca={item.authority}&encoding=der"
        pck_crl = self._web.get(address, limit=_MAX_HEX)
        root_crl = self._web.get(self._root_crl, limit=_MAX_HEX)
        tcb_info, qe_identity = _signed(tcb, _TcbInfo), _signed(qe, _QeIdentity)
        return {
            "tcb_info": _text(tcb, tcb_info.statement),
            "tcb_info_signature": tcb_info.signature,
            # The first name is that of version 4, the second that of services which kept the older one.
            "tcb_info_issuer_chain": chain_of(tcb, "TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"),
            "qe_identity": _text(qe, qe_identity.statement),
            "qe_identity_signature": qe_identity.signature,
            "qe_identity_issuer_chain": chain_of(qe, "SGX-Enclave-Identity-Issuer-Chain"),
            "pck_crl": crl_hex(pck_crl),
            "pck_crl_issuer_chain": chain_of(pck_crl, "SGX-PCK-CRL-Issuer-Chain"),
            "root_ca_crl": crl_hex(root_crl),
        }


_Signed = TypeVar("_Signed", _TcbInfo, _QeIdentity)


def chain_of(answer: Answer, *names: str) -> str:
    """The PEM chain in a header, of which only the encoding is looked at.

    Raises:
        EvidenceError: `collateral-answer-invalid`.
    """
    value = answer.header(*names)
    text = urllib.parse.unquote(value, errors="replace") if len(value) <= _MAX_CHAIN else ""
    if not text.startswith(_PEM.decode()) or not text.isascii() or "\0" in text:
        raise EvidenceError(COLLATERAL_ANSWER, f"{answer.url}: {names[0]} is not a chain in PEM")
    return text


def crl_hex(answer: Answer) -> str:
    """A revocation list in DER, PEM or hexadecimal digits, as DER in lower-case digits.

    Raises:
        EvidenceError: `collateral-answer-invalid`.
    """
    body = answer.body
    try:
        if body.startswith(_PEM):
            der = _from_pem(body)
        elif body.startswith(_SEQUENCE):
            der = body
        else:
            der = bytes.fromhex(body.decode("ascii").strip('" \r\n'))
    except ValueError:
        der = b""
    if not der or len(der) > MAX_CRL:
        raise EvidenceError(COLLATERAL_ANSWER, f"{answer.url}: not a revocation list")
    return der.hex()


def _from_pem(data: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_crl

    return load_pem_x509_crl(data).public_bytes(Encoding.DER)


def _signed(answer: Answer, form: type[_Signed]) -> _Signed:
    try:
        return msgspec.json.decode(answer.body, type=form)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise EvidenceError(COLLATERAL_ANSWER, f"{answer.url}: not a signed statement") from None


def _text(answer: Answer, raw: msgspec.Raw) -> str:
    try:
        return bytes(raw).decode("ascii")
    except UnicodeDecodeError:
        raise EvidenceError(COLLATERAL_ANSWER, f"{answer.url}: not ASCII") from None
