"""One GET to a source of collateral, within bounds of size and time.

What a source says is signed by the vendor and verified at each appraisal, so TLS has only the system's
authorities and nothing is pinned: whoever stands in between can withhold or serve what is older and still
valid, as the source itself can, but not forge.
"""

from __future__ import annotations

import functools
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strongroom.attestation.collateral.errors import (
    COLLATERAL_ANSWER,
    COLLATERAL_NOT_FOUND,
    COLLATERAL_SOURCE,
    COLLATERAL_UNREACHABLE,
)
from strongroom.errors import ConfigError, EvidenceError, UnreachableError

if TYPE_CHECKING:
    import httpx

STEP_SECONDS: Final = 5.0
"""For each step on the network: to connect, to send, to receive the next bytes."""

TOTAL_SECONDS: Final = 15.0
"""For one answer."""

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_MAX_URL: Final = 512
_OK: Final = 200
_NOT_FOUND: Final = (404, 461, 462)
"""461 and 462 are a PCCS's own: it does not know the platform, or has no certificates of it."""
_TOO_MANY: Final = 429
_SERVER_FAULT: Final = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with status 200.

    Attributes:
        url: What was asked.
        headers: By name in lower case.
        body: Not decoded.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, *names: str) -> str:
        """The first of these headers that is there.

        Raises:
            EvidenceError: `collateral-answer-invalid`.
        """
        found = [self.headers[name.lower()] for name in names if name.lower() in self.headers]
        if not found:
            raise EvidenceError(COLLATERAL_ANSWER, f"{self.url}: no header {names[0]}")
        return found[0]


class Web:
    """Asks one kind of source. Safe to share between threads.

    Args:
        step_seconds: Most seconds for each step on the network.
        total_seconds: Most seconds for the body of an answer.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        step_seconds: float = STEP_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step_seconds = step_seconds
        self._total_seconds = total_seconds
        self._clock = clock

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        """The system's authorities, or those of the file that SSL_CERT_FILE names."""
        return ssl.create_default_context()

    def get(self, url: str, *, limit: int) -> Answer:
        """Ask, and take at most `limit` bytes.

        A redirection is refused, wherever it leads: none of these services uses one, and it could lead to a
        service inside the network of the relying party.

        Raises:
            EvidenceError: `collateral-not-found` or `collateral-answer-invalid`.
            UnreachableError: `collateral-unreachable`.
        """
        import httpx

        try:
            with (
                httpx.Client(trust_env=False, timeout=self._step_seconds, verify=self._tls) as client,
                client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                _check_status(url, response.status_code)
                body = self._body(url, response, limit)
                return Answer(url, dict(response.headers), body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise UnreachableError(COLLATERAL_UNREACHABLE, f"{url}: {type(error).__name__}") from error

    def _body(self, url: str, response: httpx.Response, limit: int) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise EvidenceError(COLLATERAL_ANSWER, f"{url}: the body is encoded, which was not asked for")
        end = self._clock() + self._total_seconds
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > limit:
                raise EvidenceError(COLLATERAL_ANSWER, f"{url}: size", expected=f"at most {limit} bytes")
            if self._clock() > end:
                raise UnreachableError(COLLATERAL_UNREACHABLE, f"{url}: the answer takes too long")
        return bytes(body)


def base_url(text: str, *, suffix: str = "") -> str:
    """The address of a source, without a slash at its end.

    Args:
        text: `https://HOST[:PORT][/PATH]`; `http://` for this machine only.
        suffix: A path at the end that is left out, where people commonly write it.

    Raises:
        ConfigError: `collateral-source-invalid`.
    """
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(COLLATERAL_SOURCE, found=_printable(text)) from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL)
    extra = parts.query or parts.fragment or parts.username is not None or "@" in parts.netloc
    clean = text.isascii() and text.isprintable() and " " not in text and len(text) <= _MAX_URL
    if not (host and secure and clean) or extra:
        raise ConfigError(COLLATERAL_SOURCE, found=_printable(text))
    return text.rstrip("/").removesuffix(suffix).rstrip("/")


def _check_status(url: str, status: int) -> None:
    if status == _OK:
        return
    if status in _NOT_FOUND:
        raise EvidenceError(COLLATERAL_NOT_FOUND, url, found=f"HTTP {status}")
    if status == _TOO_MANY or status >= _SERVER_FAULT:
        raise UnreachableError(COLLATERAL_UNREACHABLE, url, found=f"HTTP {status}")
    raise EvidenceError(COLLATERAL_ANSWER, url, found=f"HTTP {status}", expected=f"HTTP {_OK}")


def _printable(text: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text[:100])
