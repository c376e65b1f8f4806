"""The errors of Strongroom: one base class, one registry of stable codes.

Every failure that a user can meet has a code. The code, its HTTP status and its exit code are API: they are
declared once with `define`, next to the code that raises them, and listed in docs/reference/errors.md.

An error says what was wrong, what was expected and what to do. It never carries request data, model data
or keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_UNREACHABLE: Final = 4

_REGISTRY: dict[str, ErrorCode] = {}


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A stable kind of failure.

    Attributes:
        code: Kebab-case name, unique in the package, never renamed.
        title: One short sentence for people.
        status: HTTP status with which a server reports it.
        exit_code: Exit status with which the command line reports it.
        remedy: What the user can do.
    """

    code: str
    title: str
    status: int
    exit_code: int
    remedy: str


def define(code: str, title: str, *, status: int, remedy: str, exit_code: int = EXIT_FAILED) -> ErrorCode:
    """Declare an error code at import time.

    Raises:
        ValueError: The code is already taken.
    """
    if code in _REGISTRY:
        raise ValueError(f"error code {code!r} is defined twice")
    kind = ErrorCode(code, title, status, exit_code, remedy)
    _REGISTRY[code] = kind
    return kind


def registered() -> dict[str, ErrorCode]:
    """All codes of the modules imported so far, by name."""
    return dict(_REGISTRY)


class StrongroomError(Exception):
    """Base of all errors that Strongroom raises on purpose.

    Args:
        kind: The declared code.
        detail: What was wrong in this case. No payload, no key, no file content.
        found: What was found, if it is safe to show.
        expected: What was expected, if it is safe to show.
    """

    def __init__(
        self,
        kind: ErrorCode,
        detail: str = "",
        *,
        found: object = None,
        expected: object = None,
    ) -> None:
        self.kind = kind
        self.detail = detail
        self.found = None if found is None else str(found)
        self.expected = None if expected is None else str(expected)
        super().__init__(kind, detail, self.found, self.expected)

    @property
    def code(self) -> str:
        """The stable code, for example `hpke-open-failed`."""
        return self.kind.code

    @property
    def status(self) -> int:
        """The HTTP status for this error."""
        return self.kind.status

    @property
    def exit_code(self) -> int:
        """The exit status for this error."""
        return self.kind.exit_code

    @property
    def remedy(self) -> str:
        """What the user can do."""
        return self.kind.remedy

    def __str__(self) -> str:
        parts = [self.kind.title.rstrip(".")]
        if self.detail:
            parts.append(f": {self.detail.rstrip('.')}")
        facts = [
            f"{name} {value}"
            for name, value in (("found", self.found), ("expected", self.expected))
            if value is not None
        ]
        if facts:
            parts.append(f" ({', '.join(facts)})")
        return "".join(parts) + f" [{self.code}]"

    def to_problem(self) -> dict[str, object]:
        """This error as problem details (RFC 9457), with the stable `code` as an extension member."""
        problem: dict[str, object] = {
            "type": f"urn:strongroom:error:{self.code}",
            "title": self.kind.title,
            "status": self.status,
            "code": self.code,
            "remedy": self.remedy,
        }
        facts = {"detail": self.detail, "found": self.found, "expected": self.expected}
        return problem | {name: value for name, value in facts.items() if value}


class CodecError(StrongroomError):
    """Bytes are not what the format says, or exceed a bound."""


class CryptoError(StrongroomError):
    """A sealed message, key or signature does not hold."""


class EvidenceError(StrongroomError):
    """Evidence is malformed or does not verify up to a trusted root."""


class PolicyRefused(StrongroomError):  # noqa: N818 -- a refusal is a decision, not a fault
    """A policy refused good evidence. Exit code 3."""


class ModelError(StrongroomError):
    """A model, bundle or tensor is not usable."""


class BrokerError(StrongroomError):
    """The key broker refused or failed."""


class QueueError(StrongroomError):
    """The request queue refused or failed."""


class RequestError(StrongroomError):
    """A request to a service was answered with an error.

    Attributes:
        sealed: Whether it came out of a sealed answer: then a worker that passed the policy says so. Else it
            is the word of the front end, or of anybody on the way to it.
    """

    sealed: bool = False


class UnreachableError(StrongroomError):
    """A part could not be reached. Exit code 4."""


class ConfigError(StrongroomError):
    """A configuration file or command line is not usable. Exit code 2."""
