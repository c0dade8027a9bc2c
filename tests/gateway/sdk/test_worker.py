"""The agent of the SDK before a real server: what it reports, when it stops, and what it lives through."""

import asyncio
import contextlib
import functools
import gc
import math
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import opscore
from opscore.actors.backoff import Backoff
from opscore.gateway.sdk.client import ClientError, OpscoreClient, ProblemError
from tests.gateway.gateway_process import API_KEY, PATIENCE_S, GatewayProcess, name, one_task

ONCE: dict[str, Any] = {"retry": {"maxRetries": 0}}
Work = Callable[[opscore.Assignment], Awaitable[Any]]


def client_of(server: GatewayProcess, key: str = API_KEY) -> OpscoreClient:
    return OpscoreClient(server.url, key, retry_for_s=math.inf, backoff=Backoff(initial_s=0.05, max_s=0.2))


class Stage:
    """A client of the server, and a capability that no other test has."""

    def __init__(self, client: OpscoreClient) -> None:
        self.client = client
        self.capability = name("cap")
        self.agent_id = name("agent")

    @contextlib.asynccontextmanager
    async def working(self, work: Work) -> AsyncIterator[trio.CancelScope]:
        """An agent at work; it is cancelled at the end of the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(self.client.work, self.agent_id, work, capabilities=[self.capability]))
            yield nursery.cancel_scope
            nursery.cancel_scope.cancel()

    async def triggered(self, payload: Any = None, **fields: Any) -> str:
        return (await self.client.trigger(None, one_task(self.capability, **fields), payload)).session_id

    async def task(self, session_id: str) -> dict[str, Any]:
        """The run's task, once the run has ended."""
        return dict((await self.client.session(session_id, wait_s=PATIENCE_S))["tasks"][0])

    async def done(self, payload: Any = None, **fields: Any) -> dict[str, Any]:
        return await self.task(await self.triggered(payload, **fields))


@pytest.fixture
async def stage(server: GatewayProcess) -> AsyncIterator[Stage]:
    async with client_of(server) as client:
        with trio.fail_after(2 * PATIENCE_S):
            yield Stage(client)


async def double(task: opscore.Assignment) -> Any:
    return 2 * task.input


async def test_it_does_one_task_after_the_other_and_knows_of_each(stage: Stage) -> None:
    seen: list[opscore.Assignment] = []

    async def work(task: opscore.Assignment) -> Any:
        assert opscore.current_task().assignment is task
        assert 0 < opscore.current_task().time_left_s() <= 50
        seen.append(task)
        return {"twice": 2 * task.input}

    async with stage.working(work):
        fields: dict[str, Any] = {"name": "The only", "parameters": {"a": 1}, "timeoutSeconds": 50, "leaseSeconds": 60}
        ends = [await stage.done(number, **fields) for number in (1, 2)]
    assert [(task["status"], task["result"]) for task in ends] == [
        ("completed", {"twice": 2}),
        ("completed", {"twice": 4}),
    ]
    first = seen[0]
    assert (first.task_id, first.task_key, first.name, first.attempt) == (ends[0]["taskId"], "only", "The only", 1)
    assert (first.agent_id, first.parameters, first.input, first.tool) == (stage.agent_id, {"a": 1}, 1, False)
    assert (first.lease_s, first.timeout_s) == (60, 50)


def test_it_works_under_asyncio_as_well(server: GatewayProcess) -> None:
    async def main() -> Any:
        async with client_of(server) as client:
            capability, agent_id = name("cap"), name("agent")
            agent = asyncio.create_task(client.work(agent_id, double, capabilities=[capability]))
            session = await client.trigger(None, one_task(capability), 21)
            task = (await client.session(session.session_id, wait_s=PATIENCE_S))["tasks"][0]
            agent.cancel()
            with pytest.raises(asyncio.CancelledError):
                await agent
            return task["result"], (await client.agent_state(agent_id))["state"]

    assert asyncio.run(main()) == (42, "offline")


@pytest.mark.parametrize(
    ("raised", "error", "attempts"),
    [
        (opscore.TaskFailed("no paper", code="paper"), {"code": "paper", "message": "no paper"}, 2),
        (opscore.TaskFailed("gone", retryable=False), {"code": "task_failed", "message": "gone"}, 1),
        (KeyError("a"), {"code": "task_failed", "message": "KeyError: 'a'"}, 2),
        (ExceptionGroup("", [ValueError("a")]), {"code": "task_failed", "message": "ValueError: a"}, 2),
        (ValueError("a" * 2_000_000), {"code": "task_failed", "message": "ValueError: " + "a" * 3_987 + "…"}, 2),
    ],
    ids=["with a code", "for good", "anything", "a group", "with a long text"],
)
async def test_what_its_function_raises_fails_the_attempt_and_it_goes_on(
    stage: Stage, raised: Exception, error: dict[str, str], attempts: int
) -> None:
    async def work(task: opscore.Assignment) -> Any:
        if task.input == "fail":
            raise raised
        return "done"

    async with stage.working(work):
        task = await stage.done("fail", retry={"maxRetries": 1, "initialDelaySeconds": 0.1})
        assert (task["status"], task["error"], task["attempt"]) == ("failed", error, attempts)
        assert (await stage.done("again"))["result"] == "done"


@pytest.mark.parametrize(
    ("result", "code", "message"),
    [
        (object(), "task_failed", "the result is not JSON"),
        (math.nan, "task_failed", "the result is not JSON"),
        ("x" * 300_000, "result_too_large", "the result was refused: .*value_bytes_max"),
        ("x" * 5_000_000, "result_too_large", "the result was refused: "),
    ],
    ids=["an object", "no number", "a large one", "a huge one"],
)
async def test_a_result_that_can_not_be_taken_fails_the_attempt_for_good(
    stage: Stage, result: Any, code: str, message: str
) -> None:
    async def work(task: opscore.Assignment) -> Any:
        return result if task.input == "bad" else "done"

    async with stage.working(work):
        task = await stage.done("bad")
        assert (task["status"], task["error"]["code"], task["attempt"]) == ("failed", code, 1)
        assert re.match(message, task["error"]["message"])
        assert (await stage.done("good"))["result"] == "done"


async def test_progress_is_shown_and_heartbeats_go_on_by_themselves(stage: Stage) -> None:
    may_end = trio.Event()

    async def work(task: opscore.Assignment) -> None:
        assert task.lease_s == 5
        await opscore.current_task().progress({"done": 3, "of": 10})
        await may_end.wait()

    async with stage.working(work):
        session_id = await stage.triggered(leaseSeconds=5, heartbeatSeconds=0.6, **ONCE)
        # More than three times as long as its workflow allows it to be silent.
        await trio.sleep(2)
        task = (await stage.client.session(session_id))["tasks"][0]
        assert (task["status"], task["progress"]) == ("running", {"done": 3, "of": 10})
        may_end.set()
        assert (await stage.task(session_id))["status"] == "completed"


async def until_running(stage: Stage, session_id: str) -> None:
    while (await stage.client.session(session_id))["tasks"][0]["status"] != "running":
        await trio.sleep(0.02)


@pytest.mark.parametrize("heeds", ["its cancellation", "what it is told"])
async def test_the_function_is_stopped_once_its_run_is_cancelled(stage: Stage, heeds: str) -> None:
    stopped: list[str] = []

    async def work(task: opscore.Assignment) -> Any:
        if task.input == "short":
            return "done"
        try:
            while True:
                await trio.sleep(0.1)
                if heeds == "what it is told":
                    with trio.CancelScope(shield=True):
                        await opscore.current_task().heartbeat()
        except (trio.Cancelled, opscore.StaleAttempt) as error:
            stopped.append(type(error).__name__)
            raise

    async with stage.working(work):
        session_id = await stage.triggered("long", heartbeatSeconds=0.6)
        await until_running(stage, session_id)
        await stage.client.steer(session_id, "cancel")
        assert (await stage.done("short"))["result"] == "done"
    assert stopped == (["Cancelled"] if heeds == "its cancellation" else ["StaleAttempt"])
    assert (await stage.task(session_id))["status"] == "cancelled"


async def test_an_attempt_that_takes_too_long_is_cancelled_and_the_next_begins(stage: Stage) -> None:
    async def work(task: opscore.Assignment) -> Any:
        if task.attempt == 1:
            await trio.sleep_forever()
        return task.attempt

    async with stage.working(work):
        task = await stage.done(timeoutSeconds=0.5, retry={"maxRetries": 1, "initialDelaySeconds": 0.1})
    assert (task["result"], task["retries"]) == (2, 1)


async def test_who_cancels_it_has_the_attempt_given_back_with_no_retry_spent(stage: Stage) -> None:
    async def forever(task: opscore.Assignment) -> None:
        assert task.input == 7
        await trio.sleep_forever()

    async with stage.working(forever) as agent:
        session_id = await stage.triggered(7)
        await until_running(stage, session_id)
        agent.cancel()
    async with stage.working(double):
        task = await stage.task(session_id)
    assert (task["result"], task["attempt"], task["retries"]) == (14, 2, 0)


async def test_an_agent_that_was_deregistered_registers_again(stage: Stage) -> None:
    async with stage.working(double):
        assert (await stage.done(1))["result"] == 2
        await stage.client.deregister_agent(stage.agent_id)
        assert (await stage.done(2))["result"] == 4


async def test_what_the_server_refuses_for_good_comes_out_of_it(stage: Stage, server: GatewayProcess) -> None:
    async with client_of(server, "no-key-of-this-server") as client:
        with pytest.raises(ProblemError) as refused:
            await client.work(stage.agent_id, double, capabilities=["x"])
    assert refused.value.status == 401
    with pytest.raises(TypeError, match="capabilities"):
        await stage.client.work(stage.agent_id, double, capabilities="x")
    async with OpscoreClient("http://127.0.0.1:9") as client:
        with pytest.raises(ClientError):
            await client.work(stage.agent_id, double, capabilities=["x"])


async def test_a_call_that_is_cancelled_while_its_body_is_sent_leaves_nothing_behind() -> None:
    """Trio would warn of a generator that nobody exhausted, and warnings are errors here."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with OpscoreClient(f"http://127.0.0.1:{deaf.getsockname()[1]}") as client:
            with trio.move_on_after(0.5) as given_up:
                # More than both ends of a connection that nobody reads take.
                await client.complete("t-1", 1, "x" * 50_000_000)
        assert given_up.cancelled_caught
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
