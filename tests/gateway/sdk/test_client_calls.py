"""What can come of one call of the SDK."""

import asyncio
import json
from functools import partial

import httpx
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.gateway.sdk.client import OpscoreClient, ProblemError, Unreachable
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


async def test_a_claim_that_waited_for_long_when_the_server_went_is_made_again_all_the_same(
    autojump_clock: MockClock,
) -> None:
    asked: list[float] = []

    async def away_for_a_while(_request: httpx.Request) -> httpx.Response:
        asked.append(trio.current_time())
        if len(asked) == 1:
            await trio.sleep(50.0)
            raise httpx.ReadError("the server went")
        if trio.current_time() < 55.0:
            raise httpx.ConnectError("refused")
        return httpx.Response(204)

    every_second = Backoff(initial_s=1.0, coefficient=1.0, jitter=0.0)
    transport = httpx.MockTransport(away_for_a_while)
    async with OpscoreClient(
        "http://opscore.test", retry_for_s=10.0, backoff=every_second, transport=transport
    ) as client:
        assert await client.claim("a-1", wait_s=60.0) is None
    assert asked == [0.0, 51.0, 52.0, 53.0, 54.0, 55.0]
    assert autojump_clock.current_time() == 55.0


async def test_a_pause_of_nothing_is_no_leave_to_retry(autojump_clock: MockClock) -> None:
    statuses = iter([503, 200])
    transport = httpx.MockTransport(lambda _: httpx.Response(next(statuses), json={}))
    at_once = Backoff(initial_s=0.0)
    async with OpscoreClient("http://opscore.test", backoff=at_once, transport=transport) as client:
        with pytest.raises(ProblemError):
            await client.ready()
    assert autojump_clock.current_time() == 0.0


@pytest.mark.parametrize(("wait_s", "read_s"), [(0.0, 3.0), (20.0, 23.0), (3600.0, 63.0)])
async def test_only_an_answer_is_waited_for_longer_and_no_longer_than_a_server_waits(
    wait_s: float, read_s: float
) -> None:
    given: list[dict[str, float]] = []

    def note(request: httpx.Request) -> httpx.Response:
        given.append(request.extensions["timeout"])
        return httpx.Response(204)

    async with OpscoreClient("http://opscore.test", timeout_s=3.0, transport=httpx.MockTransport(note)) as client:
        await client.claim("a-1", wait_s=wait_s)
    assert given == [{"connect": 3.0, "read": read_s, "write": 3.0, "pool": 3.0}]


async def test_a_key_is_sent_without_the_end_of_the_line_that_it_stood_on() -> None:
    with scripted_server(Answer(document={})) as server:
        async with OpscoreClient(server.url, " a-key\r\n") as client:
            await client.health()
    assert server.asked[0].headers["authorization"] == "Bearer a-key"


@pytest.mark.parametrize("key", ["a-key\nanother", "sch\xfcssel", "nul\x00"])
def test_a_key_that_can_not_be_sent_is_refused_at_once_and_not_told(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as refused:
        OpscoreClient("http://127.0.0.1:1", key)
    assert key not in str(refused.value)
    assert repr(key) not in str(refused.value)


@pytest.mark.parametrize("key", ["order 17\n", " 17", "bestellung-\xfc", "17\x00"])
async def test_an_idempotency_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    with scripted_server(Answer(document={})) as server:
        async with OpscoreClient(server.url, retry_for_s=0.5) as client:
            with pytest.raises(ValueError, match="an idempotency key must"):
                await client.trigger(None, {"id": "w"}, idempotency_key=key)
    assert server.asked == []
