"""What can come of one call of the SDK."""

import asyncio

import pytest

from opscore.gateway.client import OpscoreClient, Unreachable
from tests.gateway.scripted_server import Answer, scripted_server


def test_an_answer_that_can_not_be_decoded_is_unreachable_and_sent() -> None:
    async def ask() -> None:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(Unreachable) as raised:
                await client.health()
        assert raised.value.sent

    with scripted_server(Answer(text=b"no gzip", headers={"Content-Encoding": "gzip"})) as server:
        asyncio.run(ask())  # Trio warns of what httpx leaves behind then.
