"""The messages of the KBS protocol 0.4.0, as both sides see them.

    POST /kbs/v0/auth     {"version": "0.4.0", "tee": "sgx", "extra-params": ""}
    POST /kbs/v0/attest   {"init-data": {"format": "toml", "body": TEXT},
                           "runtime-data": {"nonce": BASE64, "tee-pubkey": JWK},
                           "tee-evidence": {"primary_evidence": {...}, "additional_evidence": ""}}

The primary evidence depends on the kind, see `primary_evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.runtime_data import RuntimeData
from strongroom.broker import primary_evidence
from strongroom.broker.errors import BODY_INVALID, TEE_UNSUPPORTED, VERSION_UNSUPPORTED
from strongroom.codec import jcs
from strongroom.errors import BrokerError, CodecError
from strongroom.forms import ready

VERSION: Final = "0.4.0"
COOKIE: Final = "kbs-session-id"
AUTH_PATH: Final = "/kbs/v0/auth"
ATTEST_PATH: Final = "/kbs/v0/attest"
RESOURCE_PREFIX: Final = "/kbs/v0/resource/"
BEACON_PREFIX: Final = "/strongroom/v1/beacon/"
POLICY_PREFIX: Final = "/strongroom/v1/policy/"
LOG_PREFIX: Final = "/strongroom/v1/log/"

MAX_AUTH: Final = 16 * 1024
MAX_ATTEST: Final = 1024 * 1024
NONCE_BYTES: Final = 32

_HASHES: Final = ["sha256", "sha384", "sha512"]


@ready
class AuthForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Body of /kbs/v0/auth."""

    version: str
    tee: str
    extra_params: str | dict[str, Any] = ""


@ready
class InitDataForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Init-data as the protocol carries it."""

    format: Literal["toml"]
    body: str


@ready
class RuntimeDataForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What the report data binds."""

    nonce: Annotated[str, msgspec.Meta(max_length=64)]
    tee_pubkey: dict[str, str]


@ready
class TeeEvidenceForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The evidence of the TEE and of its devices."""

    primary_evidence: dict[str, Any]
    additional_evidence: str = ""


@ready
class AttestForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Body of /kbs/v0/attest."""

    runtime_data: RuntimeDataForm
    tee_evidence: TeeEvidenceForm
    init_data: InitDataForm | None = None


_Form = TypeVar("_Form", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Attestation:
    """An answer to a challenge; nothing in it is verified.

    Attributes:
        nonce: The challenge, as it was sent.
        tee_pubkey: The attester's one-time key as a JWK.
        evidence: The evidence, with the init-data in it.
        additional_evidence: Evidence of devices, see `strongroom.attestation.devices`; empty for none.
    """

    nonce: str
    tee_pubkey: Mapping[str, str]
    evidence: Evidence
    additional_evidence: str = ""

    @property
    def runtime_data(self) -> RuntimeData:
        """What the evidence's report data must bind."""
        return RuntimeData(self.nonce, self.tee_pubkey, self.additional_evidence)


def report_data(nonce: str, tee_pubkey: Mapping[str, str], additional_evidence: str = "") -> bytes:
    """The 64 bytes that bind nonce, key and evidence of devices into the evidence."""
    return RuntimeData(nonce, tee_pubkey, additional_evidence).report_data()


def auth_body(tee: str) -> bytes:
    """The body that asks for a challenge."""
    return jcs.canonical(
        {"version": VERSION, "tee": tee, "extra-params": {"supported-hash-algorithms": _HASHES}}
    )


def attest_body(nonce: str, tee_pubkey: Mapping[str, str], evidence: Evidence) -> bytes:
    """The body that answers a challenge.

    Raises:
        BrokerError: `kbs-body-invalid`: the init-data is not UTF-8, or the quote not of its kind.
    """
    primary = primary_evidence.write(evidence)
    init_data = None
    if evidence.init_data is not None:
        try:
            init_data = {"format": "toml", "body": evidence.init_data.decode()}
        except UnicodeDecodeError as error:
            raise BrokerError(BODY_INVALID, "the init-data is not UTF-8") from error
    return jcs.canonical(
        {
            "init-data": init_data,
            "runtime-data": {"nonce": nonce, "tee-pubkey": dict(tee_pubkey)},
            "tee-evidence": {"primary_evidence": primary, "additional_evidence": ""},
        }
    )


def parse_auth(data: bytes) -> EvidenceKind:
    """Read the body of /kbs/v0/auth, at most 16 KiB.

    Returns:
        The kind of evidence that the attester will send.

    Raises:
        BrokerError: `kbs-body-invalid`, `kbs-version` or `tee-unsupported`.
    """
    form = _read(data, MAX_AUTH, AuthForm)
    if form.version != VERSION:
        raise BrokerError(VERSION_UNSUPPORTED, expected=VERSION)
    for kind in EvidenceKind:
        if kind == form.tee:
            return kind
    raise BrokerError(TEE_UNSUPPORTED, expected=", ".join(EvidenceKind))


def parse_attest(data: bytes, kind: EvidenceKind) -> Attestation:
    """Read the body of /kbs/v0/attest, at most 1 MiB.

    Args:
        data: The body.
        kind: The kind of evidence that the session announced.

    Raises:
        BrokerError: `kbs-body-invalid`.
        EvidenceError: `evidence-malformed` or `evidence-too-large`.
    """
    form = _read(data, MAX_ATTEST, AttestForm)
    init_data = None if form.init_data is None else form.init_data.body.encode()
    return Attestation(
        nonce=form.runtime_data.nonce,
        tee_pubkey=form.runtime_data.tee_pubkey,
        evidence=primary_evidence.read(kind, form.tee_evidence.primary_evidence, init_data),
        additional_evidence=form.tee_evidence.additional_evidence,
    )


def _read(data: bytes, limit: int, form: type[_Form]) -> _Form:
    try:
        value = jcs.parse(data, limit=limit, what="body")
    except CodecError as error:
        raise BrokerError(BODY_INVALID, str(error)) from error
    return _convert(value, form)


def _convert(value: Any, form: type[_Form]) -> _Form:
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise BrokerError(BODY_INVALID, str(error)) from error
