"""The HTTP server of a witness: `POST /add-checkpoint` (C2SP tlog-witness).

uvicorn.run(create_app(witness), host="127.0.0.1", port=8480)
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from strongroom.broker.http_body import read_body
from strongroom.broker.witness import Fork, SizeConflict, Witness
from strongroom.broker.witness_client import ADD_CHECKPOINT, SIZE_TYPE
from strongroom.codec.tlog import MAX_TEXT
from strongroom.errors import StrongroomError

_SERVER_FAULT: Final = 500
_logger = logging.getLogger("strongroom.witness")


def create_app(witness: Witness) -> Starlette:
    """The application. Closing the witness is the caller's."""

    async def add_checkpoint(request: Request) -> Response:
        """POST /add-checkpoint."""
        try:
            lines = await run_in_threadpool(witness.add_checkpoint, await read_body(request, MAX_TEXT))
        except SizeConflict as conflict:
            # As a header, because Starlette would add a character set to a media type of text.
            return Response(f"{conflict.size}\n", conflict.status, headers={"Content-Type": SIZE_TYPE})
        except Fork as fork:
            _logger.critical("a log forked; both its checkpoints are kept:\n%s", _evidence(fork).decode())
            return PlainTextResponse(_evidence(fork), fork.status)
        except StrongroomError as error:
            _logger.warning("refused: %s", error)
            shown = error.kind.title if error.status >= _SERVER_FAULT else str(error)
            return PlainTextResponse(f"{shown}\n", error.status)
        return PlainTextResponse(lines)

    return Starlette(routes=[Route(ADD_CHECKPOINT, add_checkpoint, methods=["POST"])])


def _evidence(fork: Fork) -> bytes:
    return b"\n".join(fork.evidence)
