"""Errors as the KBS protocol reports them, with our stable code beside.

    {"type": "https://github.com/confidential-containers/kbs/errors/PolicyDeny", "detail": TEXT, "code": CODE}

Attesters in Rust attest again after 401 and give up after anything else, so every refusal is 401; 404 is for
what does not exist, 400 and 413 for bodies that nobody can read, 5xx for the broker's own trouble, which it
does not explain to the network.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from strongroom.broker.errors import (
    BODY_INVALID,
    BODY_TOO_LARGE,
    NO_EPOCH,
    RESOURCE_PATH,
    RESOURCE_UNKNOWN,
    SESSION_EXPIRED,
    SESSION_UNKNOWN,
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    TOKEN_MISSING,
)
from strongroom.errors import StrongroomError

TYPE_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"
_UNAUTHORIZED: Final = 401
_SERVER_FAULT: Final = 500


class Step(StrEnum):
    """A step of the protocol, with the error type of its refusals."""

    ATTEST = "AttestationError"
    RESOURCE = "PolicyDeny"


_RESOURCE_TYPES: Final = {
    TOKEN_MISSING.code: "TokenNotFound",
    SESSION_UNKNOWN.code: "TokenNotFound",
    SESSION_EXPIRED.code: "TokenVerifierError",
    TOKEN_INVALID.code: "TokenVerifierError",
    TOKEN_EXPIRED.code: "TokenVerifierError",
    RESOURCE_UNKNOWN.code: "PluginNotFound",
    NO_EPOCH.code: "PluginNotFound",
    RESOURCE_PATH.code: "InvalidRequestPath",
}
_KEEP_STATUS: Final = frozenset(
    kind.code for kind in (BODY_INVALID, BODY_TOO_LARGE, RESOURCE_UNKNOWN, NO_EPOCH, RESOURCE_PATH)
)


def kbs_error(error: StrongroomError, step: Step) -> tuple[int, dict[str, str]]:
    """HTTP status and JSON members for an error in a step of the protocol."""
    kind = _RESOURCE_TYPES.get(error.code, step.value) if step is Step.RESOURCE else step.value
    own_fault = error.status >= _SERVER_FAULT
    status = error.status if own_fault or error.code in _KEEP_STATUS else _UNAUTHORIZED
    detail = error.kind.title if own_fault else str(error)
    return status, {"type": TYPE_PREFIX + kind, "detail": detail, "code": error.code}
