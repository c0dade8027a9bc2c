"""What the SDK repeats, and what it makes of the answer, where nobody knows whether the call before had its effect."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from opscore.actors.backoff import Backoff
from opscore.gateway.sdk import calls
from opscore.gateway.sdk.client import OpscoreClient, ProblemError
from tests.gateway.scripted_server import Answer, scripted_server


def unavailable(code: str) -> Answer:
    document = {"title": "Service Unavailable", "status": 503, "detail": "Not now.", "code": code}
    return Answer(status=503, document=document)


@pytest.mark.parametrize("code", sorted(calls.IN_DOUBT))
async def test_what_may_have_been_done_and_does_harm_twice_is_not_asked_for_again(code: str) -> None:
    with scripted_server(unavailable(code), Answer(document={})) as server:
        async with OpscoreClient(server.url, retry_for_s=30.0, backoff=Backoff(initial_s=0.001)) as client:
            with pytest.raises(ProblemError) as told:
                await client.steer("ses_x", "reset")
            await client.steer("ses_x", "cancel")
    assert told.value.code == code
    assert len(server.asked) == 2


@pytest.mark.parametrize("code", ["not_ready", "queue_full", "too_many_connections", "said_by_a_proxy"])
async def test_what_was_not_taken_is_asked_for_again_also_where_it_does_harm_twice(code: str) -> None:
    with scripted_server(unavailable(code), Answer(document={})) as server:
        async with OpscoreClient(server.url, retry_for_s=30.0, backoff=Backoff(initial_s=0.001)) as client:
            await client.steer("ses_x", "reset")
    assert len(server.asked) == 2


GONE = Answer(status=404, document={"status": 404, "detail": "It does not exist.", "code": "schedule_not_found"})


@pytest.mark.parametrize("lost", [Answer(hang_up=True), Answer(status=504), unavailable("stopped")])
async def test_what_is_gone_when_it_is_to_go_once_more_was_let_go_before(lost: Answer) -> None:
    with scripted_server(lost, GONE) as server:
        async with OpscoreClient(server.url, retry_for_s=30.0, backoff=Backoff(initial_s=0.001)) as client:
            await client.delete_schedule("s")
    assert len(server.asked) == 2


@pytest.mark.parametrize("before", [(), (unavailable("not_ready"),)])
async def test_what_was_never_there_can_not_go(before: tuple[Answer, ...]) -> None:
    with scripted_server(*before, GONE) as server:
        async with OpscoreClient(server.url, retry_for_s=30.0, backoff=Backoff(initial_s=0.001)) as client:
            with pytest.raises(ProblemError) as missing:
                await client.delete_schedule("s")
    assert missing.value.code == "schedule_not_found"
    assert len(server.asked) == 1 + len(before)


FULL = Answer(status=507, document={"status": 507, "detail": "The disk is full.", "code": "store_full"})
SAYINGS: dict[str, Callable[[OpscoreClient], Awaitable[Any]]] = {
    "complete": lambda client: client.complete("t-1", 1, {"pages": 2}),
    "fail": lambda client: client.fail("t-1", 1, "no paper"),
    "heartbeat": lambda client: client.heartbeat("t-1", 1),
    "report": lambda client: client.report_state("a-1", "idle"),
    "claim": lambda client: client.claim("a-1"),
    "register": lambda client: client.register_agent("a-1"),
    "register without an id": lambda client: client.register_agent(),
}


@pytest.mark.parametrize("saying", SAYINGS)
async def test_what_an_agent_says_is_said_again_until_there_is_room_for_it(saying: str) -> None:
    last = Answer(status=204) if saying == "claim" else Answer(document={"leaseExpiresAt": "2030-01-01T00:00:00Z"})
    with scripted_server(FULL, FULL, last) as server:
        async with OpscoreClient(server.url, retry_for_s=30.0, backoff=Backoff(initial_s=0.001)) as client:
            await SAYINGS[saying](client)
    assert len(server.asked) == 3
    assert server.asked[0] == server.asked[2]


async def test_new_work_for_which_there_is_no_room_is_refused_at_once() -> None:
    with scripted_server(FULL, Answer(status=202, document={})) as server:
        async with OpscoreClient(server.url, retry_for_s=30.0, backoff=Backoff(initial_s=0.001)) as client:
            with pytest.raises(ProblemError) as refused:
                await client.trigger("a-1", "w")
    assert (refused.value.code, len(server.asked)) == ("store_full", 1)
