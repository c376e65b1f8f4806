"""What happens when the reader of replies ends though the front end runs."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import pytest

from strongroom.config import BrokerConfig, Config, FrontendConfig, QueueConfig
from strongroom.errors import QueueError
from strongroom.frontend.errors import FrontendError
from strongroom.frontend.exchange import Exchange
from strongroom.frontend.server import http_server, serve_exchange
from strongroom.queue.errors import QUEUE_PROTOCOL

GATEWAY = "/.well-known/ohttp-gateway"
SEALED = {"content-type": "message/ohttp-req"}
BODY = b"\x02" + bytes(40)
CONFIG = Config(
    "pictures",
    QueueConfig("unix:///nowhere"),
    BrokerConfig("http://nowhere", "ed25519+mldsa65:"),
    frontend=FrontendConfig(listen="127.0.0.1:0"),
)


def code(response: httpx.Response) -> str:
    return str(json.loads(response.content)["code"])


@pytest.mark.parametrize("error", [QueueError(QUEUE_PROTOCOL), ValueError("secret")])
async def test_requests_that_wait_fail_at_once_and_later_ones_are_refused(
    frontend, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    frontend.queue.held = True
    waiting = asyncio.create_task(frontend.http.post(GATEWAY, content=BODY, headers=SEALED))
    while not frontend.queue.records:
        await asyncio.sleep(0)
    assert (await frontend.http.get("/v2/health/ready")).status_code == 200
    with caplog.at_level(logging.ERROR, "strongroom.frontend"):
        await frontend.queue.replies.put(error)
        async with asyncio.timeout(2):
            answer = await waiting
    assert (answer.status_code, code(answer)) == (503, "replies-lost")
    assert answer.headers["retry-after"] == "1"
    assert "[replies-lost]" in caplog.text
    assert "secret" not in caplog.text + answer.text
    later = await frontend.http.post(GATEWAY, content=BODY, headers=SEALED)
    assert (later.status_code, code(later)) == (503, "replies-lost")
    assert len(frontend.queue.records) == 1
    ready = await frontend.http.get("/v2/health/ready")
    assert (ready.status_code, code(ready)) == (503, "replies-lost")
    assert (await frontend.http.get("/v2/health/live")).status_code == 200


async def test_the_server_ends_with_the_failure(frontend) -> None:
    server = http_server(CONFIG, frontend.app, frontend.exchange)
    serving = asyncio.create_task(serve_exchange(server, frontend.exchange))
    while not server.started:
        await asyncio.sleep(0.01)
    await frontend.queue.replies.put(QueueError(QUEUE_PROTOCOL))
    async with asyncio.timeout(5):
        with pytest.raises(FrontendError, match="replies-lost"):
            await serving


async def test_the_end_of_the_context_is_no_failure(frontend, caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange(frontend.queue, frontend.queue.incoming(), "another", max_pending=1)
    async with exchange.running():
        await asyncio.sleep(0)
    exchange.check()
    assert caplog.text == ""
