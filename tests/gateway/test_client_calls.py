"""What can come of one call of the SDK."""

import asyncio
import json
from functools import partial

import pytest
import trio

from opscore.gateway.client import OpscoreClient, Unreachable
from tests.gateway.raw_server import Sent, answer, raw_server
from tests.gateway.scripted_server import Answer, scripted_server

CLAIMS = 120
"""More than the connections that an HTTP client takes by itself."""


def test_an_answer_that_can_not_be_decoded_is_unreachable_and_sent() -> None:
    async def ask() -> None:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(Unreachable) as raised:
                await client.health()
        assert raised.value.sent

    with scripted_server(Answer(text=b"no gzip", headers={"Content-Encoding": "gzip"})) as server:
        asyncio.run(ask())  # Trio warns of what httpx leaves behind then.


async def test_a_heartbeat_waits_for_no_claim_however_many_wait() -> None:
    hold = trio.Event()
    life = json.dumps({"leaseExpiresAt": "2030-01-01T00:00:00Z"}).encode()

    async def handle(stream: trio.SocketStream, sent: Sent) -> None:
        is_claim = "/claim" in sent.first_line
        if is_claim:
            await hold.wait()
        await stream.send_all(answer(204) if is_claim else answer(200, life))

    async with raw_server(handle) as server, OpscoreClient(server.url, timeout_s=10.0) as client:
        with trio.fail_after(30.0):
            async with trio.open_nursery() as nursery:
                for number in range(CLAIMS):
                    nursery.start_soon(partial(client.claim, f"a-{number}", wait_s=10.0))
                while len(server.sent) < CLAIMS:
                    await trio.sleep(0.01)
                assert await client.heartbeat("t-1", 1) == "2030-01-01T00:00:00Z"
                hold.set()
