"""What the SDK's agents say, and what a real server makes of it."""

import functools
import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import httpx
import pytest
import trio

import opscore
from opscore.gateway.sdk import agent_calls
from opscore.gateway.sdk.client import OpscoreClient, ProblemError, StaleAttempt, Unreachable
from tests.gateway.gateway_process import API_KEY, GatewayProcess, name, one_task
from tests.gateway.raw_server import Sent, answer, raw_server
from tests.gateway.scripted_server import Answer, scripted_server

NO_TASK = Answer(status=204)
HANG_UP = Answer(hang_up=True)


class LosingOneAnswer(httpx.AsyncHTTPTransport):
    """A way to the server on which the first answer to a claim is lost."""

    lost = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if not self.lost and request.url.path.endswith("/claim"):
            self.lost = True
            await response.aread()
            raise httpx.ReadError("the connection broke")
        return response


async def test_an_attempt_whose_claim_had_no_answer_comes_with_the_next_claim(server: GatewayProcess) -> None:
    async with OpscoreClient(server.url, API_KEY, transport=LosingOneAnswer()) as client:
        capability = name("cap")
        agent_id = (await client.register_agent(capabilities=(capability,)))["agentId"]
        started = await client.trigger(None, one_task(capability))
        with pytest.raises(Unreachable):
            await client.claim(agent_id, wait_s=10)
        claim = await client.claim(agent_id)
        assert claim is not None
        assert (claim.task["sessionId"], claim.attempt) == (started.session_id, 1)


async def test_a_claim_after_one_without_an_answer_carries_its_id_and_the_one_after_that_another() -> None:
    with scripted_server(HANG_UP, NO_TASK) as server:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(Unreachable):
                await client.claim("a-1")
            for agent_id in ("a-2", "a-1", "a-1"):
                assert await client.claim(agent_id) is None
    first, other, again, next_one = [call.document["claimId"] for call in server.asked]
    assert first == again
    assert len({first, other, next_one}) == 3


async def test_a_claim_that_is_cancelled_counts_as_one_without_an_answer_and_of_two_at_once_each_has_its_own() -> None:
    release = trio.Event()

    async def handle(stream: trio.SocketStream, _: Sent) -> None:
        await release.wait()
        await stream.send_all(answer(204))

    async with raw_server(handle) as server, OpscoreClient(server.url) as client:
        with trio.fail_after(20.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(functools.partial(client.claim, "a-1", wait_s=10.0))
                while not server.sent:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(functools.partial(client.claim, "a-1", wait_s=10.0))
                nursery.start_soon(functools.partial(client.claim, "a-1", wait_s=10.0))
                while len(server.sent) < 3:
                    await trio.sleep(0.01)
                release.set()
    first, *both = [sent.document["claimId"] for sent in server.sent]
    assert first in both
    assert len(set(both)) == 2


async def test_an_id_that_the_caller_chose_is_his_to_choose_again() -> None:
    with scripted_server(HANG_UP, NO_TASK) as server:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(Unreachable):
                await client.claim("a-1", claim_id="mine")
            assert await client.claim("a-1") is None
    assert server.asked[0].document == {"claimId": "mine"}
    assert server.asked[1].document != {"claimId": "mine"}


class SetBack(datetime):
    """The clock of a machine that was set back by ten minutes."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) - timedelta(minutes=10)


async def test_what_an_agent_reports_counts_also_once_its_clock_was_set_back(
    server: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with OpscoreClient(server.url, API_KEY) as client:
        agent_id = (await client.register_agent())["agentId"]
        await client.report_state(agent_id, "active")
        monkeypatch.setattr(agent_calls, "datetime", SetBack)
        for state in ("idle", "active", "idle"):
            await client.report_state(agent_id, state)
            assert (await client.agent_state(agent_id))["state"] == state
        await client.report_state(agent_id, "error", timestamp=datetime.now(UTC) - timedelta(minutes=1))
        assert (await client.agent_state(agent_id))["state"] == "idle"


async def test_one_text_is_no_collection_of_capabilities() -> None:
    with scripted_server(NO_TASK) as server:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(TypeError, match="'gpu'"):
                await client.register_agent("a-1", capabilities="gpu")
    assert server.asked == []


async def test_a_late_result_of_an_agent_that_has_a_key_of_its_own_is_refused_as_stale(
    server: GatewayProcess, keys: dict[str, str]
) -> None:
    capability, other = name("cap"), name("agent")
    async with OpscoreClient(server.url, API_KEY) as client, OpscoreClient(server.url, keys["agent:eight"]) as eight:
        await eight.register_agent("eight", capabilities=[capability])
        await client.trigger(None, one_task(capability))
        claim = await eight.claim("eight", wait_s=10)
        assert claim is not None
        await client.register_agent(other, capabilities=[capability])
        await client.steer(str(claim.task["sessionId"]), "reset")
        assert await client.claim(other, wait_s=10) is not None
        with pytest.raises(ProblemError) as stale:
            await eight.complete(claim.task_id, claim.attempt, 5)
        assert (stale.value.status, stale.value.code) == (409, "stale_attempt")


async def test_an_agent_that_starts_anew_gives_back_what_it_had_and_gets_it_again(server: GatewayProcess) -> None:
    capability, agent_id = name("cap"), name("agent")
    for attempt in (1, 2):
        async with OpscoreClient(server.url, API_KEY) as client:
            await client.register_agent(agent_id, capabilities=[capability])
            await client.report_state(agent_id, "initializing")
            if attempt == 1:
                await client.trigger(None, one_task(capability))
            claim = await client.claim(agent_id, wait_s=10)
            assert claim is not None
            assert claim.attempt == attempt
            await client.heartbeat(claim.task_id, attempt)


@pytest.mark.parametrize(
    ("result", "refused"),
    [("x" * 300_000, ProblemError), ("x" * 2_000_000, ProblemError), (object(), TypeError), (math.nan, ValueError)],
    ids=["large", "huge", "object", "nan"],
)
async def test_a_result_that_can_not_be_taken_leaves_the_attempt_open(
    server: GatewayProcess, result: object, refused: type[Exception]
) -> None:
    async with OpscoreClient(server.url, API_KEY) as client:
        capability = name("cap")
        agent_id = (await client.register_agent(capabilities=[capability]))["agentId"]
        started = await client.trigger(None, one_task(capability))
        claim = await client.claim(agent_id, wait_s=10)
        assert claim is not None
        with pytest.raises(refused):
            await client.complete(claim.task_id, claim.attempt, result)
        await client.complete(claim.task_id, claim.attempt, "less")
        assert (await client.session(started.session_id, wait_s=10))["result"] == {"only": "less"}


@pytest.mark.parametrize(
    ("times", "every_s"),
    [({"leaseSeconds": 60}, 20), ({"leaseSeconds": 60, "heartbeatSeconds": 6}, 2), ({"heartbeatSeconds": 3_000}, 300)],
    ids=["by the lease", "by the task", "by the shorter"],
)
async def test_a_claim_says_how_often_its_agent_should_show_life(
    server: GatewayProcess, times: dict[str, int], every_s: float
) -> None:
    async with OpscoreClient(server.url, API_KEY) as client:
        capability = name("cap")
        agent_id = (await client.register_agent(capabilities=[capability]))["agentId"]
        await client.trigger(None, one_task(capability, **times))
        claim = await client.claim(agent_id, wait_s=10)
        assert claim is not None
        assert claim.heartbeat_s == times.get("heartbeatSeconds")
        assert claim.heartbeat_every_s == every_s


async def test_what_is_said_of_an_attempt_that_is_over_is_an_error_of_its_own_and_other_conflicts_are_not(
    server: GatewayProcess,
) -> None:
    async with OpscoreClient(server.url, API_KEY) as client:
        capability = name("cap")
        agent_id = (await client.register_agent(capabilities=[capability]))["agentId"]
        started = await client.trigger(None, one_task(capability))
        claim = await client.claim(agent_id, wait_s=10)
        assert claim is not None
        await client.steer(started.session_id, "cancel")
        for say in (client.heartbeat, client.complete, functools.partial(client.fail, error="no paper")):
            with pytest.raises(StaleAttempt, match="is not open") as refused:
                await say(claim.task_id, claim.attempt)
            assert (refused.value.status, refused.value.code) == (409, "stale_attempt")
            assert isinstance(refused.value, opscore.StaleAttempt)
            assert (refused.value.task_id, refused.value.attempt) == (claim.task_id, claim.attempt)
        with pytest.raises(ProblemError) as conflict:
            await client.steer(started.session_id, "retry")
        assert (type(conflict.value), conflict.value.status) == (ProblemError, 409)


async def test_nothing_is_remembered_of_an_agent_that_was_taken_off_the_register() -> None:
    with scripted_server(HANG_UP, Answer(status=202), Answer(status=204)) as server:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(Unreachable):
                await client.claim("a-1")
            await client.report_state("a-1", "idle")
            assert client._reported_at  # noqa: SLF001 (nobody else is told)
            await client.deregister_agent("a-1")
            assert client._reported_at == {}  # noqa: SLF001
            assert client._claims_unanswered == {}  # noqa: SLF001
