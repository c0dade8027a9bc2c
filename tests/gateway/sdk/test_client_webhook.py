"""The webhook as the client sends it, again and again where it has to."""

import types

import httpx
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.gateway.agentkit import webhook
from opscore.gateway.sdk import client as sdk
from opscore.gateway.sdk.client import OpscoreClient

STARTED_AT = 1_700_000_000.0
EVERY_MINUTE = Backoff(initial_s=60.0, coefficient=1.0, max_s=60.0, jitter=0.0)


async def test_a_webhook_that_is_sent_for_long_is_signed_anew_before_it_is_too_old(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures: list[str] = []

    def now() -> float:
        return STARTED_AT + autojump_clock.current_time()

    def take(request: httpx.Request) -> httpx.Response:
        timestamp, signature = (request.headers[f"x-agentkit-{name}"] for name in ("timestamp", "signature"))
        signatures.append(webhook.verify("secret", timestamp, signature, request.content, now()))
        return httpx.Response(200 if trio.current_time() >= 900.0 else 503, json={})

    monkeypatch.setattr(sdk, "time", types.SimpleNamespace(time=now))
    transport = httpx.MockTransport(take)
    async with OpscoreClient(
        "http://opscore.test", retry_for_s=3_600.0, backoff=EVERY_MINUTE, transport=transport
    ) as client:
        await client.notify("REGISTER", {"agentId": "a-1"}, secret="secret")
    assert len(signatures) == 16
    assert [len({*signatures[start : start + 4]}) for start in (0, 4, 8, 12)] == [1, 1, 1, 1], "known as a repetition"
    assert len({*signatures}) == 4
