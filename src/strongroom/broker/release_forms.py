"""The forms of released documents: exact members, types and bounds, no conversions."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec

from strongroom.broker.errors import RELEASE_INVALID
from strongroom.errors import BrokerError
from strongroom.forms import ready

MAX_EPOCHS: Final = 8
"""Most epochs of a service that are honoured at a time; their keys share one byte of key identifiers."""

_MAX_KEYS: Final = 8
_MAX_MODELS: Final = 64

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Signature = Annotated[str, msgspec.Meta(max_length=8 * 1024)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


@ready
class EnvelopeForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sealed to the one-time key."""

    payload: str
    log: Any = None  # the receipt of the release: see envelope


@ready
class SuiteForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A symmetric suite of an OHTTP key, by IANA numbers."""

    kdf: int
    aead: int


@ready
class KeyForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One OHTTP key with its private half."""

    key_id: Annotated[int, msgspec.Meta(ge=0, le=255)]
    kem: int
    private_key: _Text
    suites: Annotated[list[SuiteForm], msgspec.Meta(min_length=1, max_length=8)]


@ready
class KeysetModelForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model as the keyset names it."""

    version: _Text
    manifest: _Digest


@ready
class KeysetFieldsForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a keyset says beside its keys."""

    release_policy: _Digest
    models: Annotated[dict[_Text, KeysetModelForm], msgspec.Meta(max_length=_MAX_MODELS)]
    not_before: _Time
    not_after: _Time
    broker_key: _Text
    key_custodian: _Text
    key_release: _Text


@ready
class EpochForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of one epoch and what makes them a keyset."""

    epoch: _Count
    honoured_until: _Time
    keys: Annotated[list[KeyForm], msgspec.Meta(min_length=1, max_length=_MAX_KEYS)]
    keyset: KeysetFieldsForm
    keyset_signature: _Signature


@ready
class ServiceDocumentForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload that releases a service key."""

    type: str
    recipient: str
    service: str
    epochs: Annotated[list[EpochForm], msgspec.Meta(min_length=1, max_length=MAX_EPOCHS)]


@ready
class ModelDocumentForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload that releases a model key."""

    type: str
    recipient: str
    resource: str
    identity: _Text
    manifest: _Digest
    sealed: _Digest
    version_floor: _Time


Form = TypeVar("Form", bound=msgspec.Struct)


def convert(value: Any, form: type[Form]) -> Form:
    """Read a decoded JSON value as one of the forms.

    Raises:
        BrokerError: `release-invalid`.
    """
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError:
        # from None: the library's message could quote a member, and members are keys
        raise BrokerError(RELEASE_INVALID, f"not a {form.__name__.removesuffix('Form')}") from None
