"""Where an auditor reads a log: over HTTP, from a folder, or from the broker's own store.

All three have the parts of C2SP tlog-tiles by name, and nothing that comes from them is trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import httpx

from strongroom.broker import log_tiles
from strongroom.broker.log_errors import LOG_UNREACHABLE
from strongroom.broker.store import Store
from strongroom.errors import BrokerError, UnreachableError

_OK: Final = 200


class LogSource(Protocol):
    """Gives the parts of a log."""

    def read(self, path: str, *, limit: int) -> bytes:
        """A part by its name.

        Args:
            path: `checkpoint`, `tile/...`.
            limit: Most bytes that it may have.

        Raises:
            UnreachableError: `log-unreachable`: it is not there, cannot be read, or is larger.
            BrokerError: A code of the store.
        """


class StoreSource:
    """The log in a store of this machine."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, path: str, *, limit: int) -> bytes:  # noqa: ARG002 -- the store's own parts are bounded
        """A part by its name."""
        return log_tiles.read(self._store, path)


class FolderSource:
    """A log that was exported into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, *, limit: int) -> bytes:
        """A part by its name."""
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise UnreachableError(LOG_UNREACHABLE, f"{self._folder / path}: {error.strerror}") from error
        return _bounded(data, path, limit)


class HttpSource:
    """A log that is served over HTTP. Close it after use.

    Args:
        prefix: Its address, `http://...` or `https://...`.
        timeout: Seconds for each step on the network.
        transport: Another way to send requests.
    """

    def __init__(
        self, prefix: str, *, timeout: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._prefix = prefix.rstrip("/")
        self._client = httpx.Client(timeout=timeout, trust_env=False, transport=transport)

    def read(self, path: str, *, limit: int) -> bytes:
        """A part by its name."""
        url = f"{self._prefix}/{path}"
        data = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code != _OK:
                    raise UnreachableError(LOG_UNREACHABLE, url, found=f"HTTP {response.status_code}")
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(LOG_UNREACHABLE, f"{url}: {type(error).__name__}") from error
        return _bounded(bytes(data), path, limit)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _bounded(data: bytes, path: str, limit: int) -> bytes:
    if len(data) > limit:
        raise BrokerError(LOG_UNREACHABLE, f"{path} is too large", expected=f"at most {limit} bytes")
    return data
