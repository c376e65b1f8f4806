"""Problem details (RFC 9457) from a service, as our errors."""

from __future__ import annotations

from typing import Final

import msgspec

from strongroom.client.errors import SERVICE_ANSWER_INVALID, SERVICE_REFUSED
from strongroom.errors import EXIT_FAILED, ErrorCode, RequestError, registered
from strongroom.forms import ready

UNKNOWN_KEY: Final = "https://iana.org/assignments/http-problem-types#ohttp-key"
_MOST = 64 * 1024
_LONGEST = 500


@ready
class _Problem(msgspec.Struct):
    type: str = "about:blank"
    title: str = ""
    code: str = ""
    detail: str = ""
    remedy: str = ""
    found: str | None = None
    expected: str | None = None


def _read(body: bytes) -> _Problem | None:
    if len(body) > _MOST:
        return None
    try:
        return msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: a text that is not UTF-8
        return None


def is_unknown_key(body: bytes) -> bool:
    """Whether a problem says that the workers do not have the key of the request (RFC 9458, section 5.3)."""
    problem = _read(body)
    return problem is not None and problem.type == UNKNOWN_KEY


def error_of(status: int, body: bytes, *, sealed: bool = False) -> RequestError:
    """The error that a service's answer stands for, `sealed` or in the clear.

    Texts of the service are cut and made printable.
    """
    error = _error_of(status, body)
    error.sealed = sealed
    return error


def _error_of(status: int, body: bytes) -> RequestError:
    problem = _read(body)
    if problem is None:
        return RequestError(SERVICE_ANSWER_INVALID, found=f"HTTP status {status}", expected="problem details")
    known = registered().get(problem.code)
    kind = known or ErrorCode(
        code=_clean(problem.code) or SERVICE_REFUSED.code,
        title=_clean(problem.title) or SERVICE_REFUSED.title,
        status=status,
        exit_code=EXIT_FAILED,
        remedy=_clean(problem.remedy) or SERVICE_REFUSED.remedy,
    )
    found = None if problem.found is None else _clean(problem.found)
    expected = None if problem.expected is None else _clean(problem.expected)
    return RequestError(kind, _clean(problem.detail), found=found, expected=expected)


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])
