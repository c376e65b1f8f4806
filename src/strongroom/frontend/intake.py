"""How much of request bodies the front end takes in: at once, in all, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from strongroom.config import MEBIBYTE
from strongroom.frontend.asgi import Receive, Scope, read_body
from strongroom.frontend.errors import BODY_TIMEOUT, SERVICE_BUSY, UnreadBodyError

# What a piece costs beside its bytes: a body that comes byte by byte is mostly that.
_PIECE = 64


class Intake:
    """Reads bodies within bounds.

    Args:
        max_body: Largest body in bytes.
        timeout: Seconds in which a body must be there in full.
        budget: Bytes of bodies that may be held at once, by all requests together.
        max_reading: Bodies that may be read at once.
    """

    def __init__(
        self,
        *,
        max_body: int,
        timeout: float = 30.0,
        budget: int = 512 * MEBIBYTE,
        max_reading: int = 4096,
    ) -> None:
        self._max_body = max_body
        self._timeout = timeout
        self._budget = budget
        self._max_reading = max_reading
        self._held = 0
        self._reading = 0

    @property
    def held(self) -> int:
        """Bytes counted now."""
        return self._held

    @asynccontextmanager
    async def body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """Read a body; its bytes count until the context ends, because they stay in memory until then.

        Raises:
            FrontendError: `request-too-large`, `request-timeout`, `service-busy` or `bad-request`.
            ClientGoneError: The client went away.
        """
        claimed = 0

        def claim(size: int) -> None:
            nonlocal claimed
            size += _PIECE
            if self._held + size > self._budget:
                raise UnreadBodyError(SERVICE_BUSY, "too many bytes of bodies are held")
            self._held += size
            claimed += size

        if self._reading >= self._max_reading:
            raise UnreadBodyError(SERVICE_BUSY, "too many bodies are read")
        try:
            self._reading += 1
            try:
                async with asyncio.timeout(self._timeout):
                    body = await read_body(scope, receive, self._max_body, claim)
            except TimeoutError:
                raise UnreadBodyError(BODY_TIMEOUT, expected=f"within {self._timeout:g} s") from None
            finally:
                self._reading -= 1
            yield body
        finally:
            self._held -= claimed
