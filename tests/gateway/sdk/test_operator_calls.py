"""What the SDK's operators ask of runs: what is sent, and what a real server makes of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import get_args

import pytest

from opscore.actors.backoff import Backoff
from opscore.gateway.sdk import operator_calls
from opscore.gateway.sdk.client import OpscoreClient, ProblemError, Unreachable
from opscore.gateway.sdk.operator_calls import Move
from opscore.runtime import models
from tests.gateway.gateway_process import API_KEY, GatewayProcess, name, one_task
from tests.gateway.scripted_server import Answer, scripted_server

HANG_UP = Answer(hang_up=True)
STEERED = Answer(document={"sessionId": "s-1", "status": "paused"})
SIGNALLED = Answer(status=202, document={"sessionId": "s-1", "signalId": "drawn", "takenBy": None})
AT_ONCE = Backoff(initial_s=0.0)


@asynccontextmanager
async def an_operator(server: GatewayProcess) -> AsyncIterator[OpscoreClient]:
    async with OpscoreClient(server.url, API_KEY) as client:
        yield client


def test_a_client_may_make_every_move_there_is() -> None:
    assert set(get_args(Move)) == set(models.Move)


@pytest.mark.parametrize("move", ["cancel", "pause", "resume"])
async def test_a_move_that_may_be_made_twice_is_repeated_when_its_answer_was_lost(move: operator_calls.Move) -> None:
    with scripted_server(HANG_UP, STEERED) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            assert (await client.steer("s/1", move, reason="why"))["status"] == "paused"
    assert [call.path for call in server.asked] == [f"/v1/opscore/session/s%2F1/{move}"] * 2
    assert server.asked[0].document == {"reason": "why"}


@pytest.mark.parametrize("move", ["retry", "reset"])
async def test_a_move_that_would_mean_more_the_second_time_is_not_repeated(move: operator_calls.Move) -> None:
    with scripted_server(HANG_UP, STEERED) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            with pytest.raises(Unreachable):
                await client.steer("s-1", move)
    assert len(server.asked) == 1


async def test_a_signal_whose_answer_was_lost_is_sent_again_under_the_same_id_and_the_next_under_another() -> None:
    with scripted_server(HANG_UP, SIGNALLED) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            await client.signal("s-1", "go", {"n": 1})
            await client.signal("s-1", "go")
    first, again, other = [call.document for call in server.asked]
    assert first == again
    assert (first["name"], first["payload"]) == ("go", {"n": 1})
    assert first["signalId"] != other["signalId"]


async def test_a_run_is_steered_and_told_what_it_waits_for(server: GatewayProcess) -> None:
    async with an_operator(server) as client:
        definition = {"id": name("flow"), "tasks": [{"taskId": "approval", "type": "signal"}]}
        started = await client.trigger(None, definition)
        paused = await client.steer(started.session_id, "pause", reason="later")
        assert (paused["status"], paused["reason"]) == ("paused", "later")
        await client.steer(started.session_id, "resume")
        told = await client.signal(started.session_id, "approval", 5, signal_id="s-1")
        assert (told["signalId"], told["takenBy"]) == ("s-1", f"{started.session_id}.0")
        assert (await client.session(started.session_id, wait_s=10))["result"] == {"approval": 5}
        told = await client.history(started.session_id, limit=1)
        assert [item["kind"] for item in told["items"]] == ["session.completed"]
        told = await client.history(started.session_id, cursor=told["nextCursor"])
        assert "signal.received" in [item["kind"] for item in told["items"]]
        with pytest.raises(ProblemError) as refused:
            await client.steer(started.session_id, "cancel")
        assert (refused.value.status, refused.value.code) == (409, "session_conflict")


async def test_an_attempt_is_taken_from_its_agent_by_a_reset(server: GatewayProcess) -> None:
    async with an_operator(server) as client:
        capability = name("cap")
        agent_id = (await client.register_agent(capabilities=(capability,)))["agentId"]
        await client.trigger(None, one_task(capability))
        claim = await client.claim(agent_id, wait_s=10)
        assert claim is not None
        await client.steer(str(claim.task["sessionId"]), "reset")
        again = await client.claim(agent_id, wait_s=10)
        assert again is not None
        assert (again.task_id, again.attempt) == (claim.task_id, 2)
