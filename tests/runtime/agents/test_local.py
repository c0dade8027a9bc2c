# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Agents that are functions of the host's own process."""

import functools
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import AgentNotFound
from opscore.runtime.models import Assignment, SessionStatus, TaskStatus
from tests.runtime.world import World, begin, check_rows, ended, hire, join, lease_of, one_task, only_task, quiet


async def test_a_function_gets_its_attempt_and_its_return_value_is_the_result(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)

    async def add(assignment: Assignment) -> int:
        await trio.sleep(1)
        return int(assignment.parameters["a"]) + int(assignment.input["b"])

    async with world.node() as node:
        await node.register_agent("adder", capabilities=["work"], handler=add)
        session = await node.trigger(one_task(parameters={"a": 1}), payload={"b": 2})
        assert (await ended(node, session)).result == {"only": 3}


async def test_a_function_that_raises_fails_its_attempt_and_is_called_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    calls: list[int] = []

    async def flaky(assignment: Assignment) -> str:
        calls.append(assignment.attempt)
        await trio.lowlevel.checkpoint()
        if len(calls) < 3:
            raise ValueError("not yet")
        return "now"

    async with world.node() as node:
        await node.register_agent("flaky", capabilities=["work"], handler=flaky)
        session = await ended(node, await node.trigger(one_task()))
        assert session.result == {"only": "now"}
        assert calls == [1, 2, 3]
        assert only_task(node, session).retries == 2


@pytest.mark.parametrize(
    "result", [{1, 2}, object(), float("nan"), "x" * 300_000], ids=["set", "object", "nan", "size"]
)
async def test_a_result_that_can_not_be_stored_fails_the_run_and_says_why(
    tmp_path: Path, autojump_clock: MockClock, result: Any
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await hire(node, "local", result=result)
        session = await ended(node, await node.trigger(one_task()), within_s=60)
        assert session.status is SessionStatus.FAILED
        assert session.error is not None
        assert session.error.code in ("result_not_json", "result_too_large")
        assert len(got) == 1


class _Number(float):
    """As those of NumPy are."""

    __slots__ = ()


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_a_function_returns_is_read_as_json_by_every_task_after_it_in_this_process_and_the_next(
    tmp_path: Path, autojump_clock: MockClock, *, restarts: bool
) -> None:
    async def work(assignment: Assignment) -> Any:
        await trio.lowlevel.checkpoint()
        if assignment.task_key == "find":
            return {"rows": (1, _Number(2.5)), "by": {7: "seven", None: "nobody"}}
        return assignment.parameters

    workflow = {
        "id": "w",
        "tasks": [
            {"taskId": "find", "agentCapability": "work"},
            {"taskId": "gate", "type": "signal"},
            {
                "taskId": "each",
                "agentCapability": "work",
                "forEach": "${tasks.find.result.rows}",
                "parameters": {"row": "${item}", "by": "${tasks.find.result.by['7']}"},
            },
        ],
    }
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await node.trigger(workflow)
        await quiet()
        if not restarts:
            await node.signal(session.session_id, "gate")
            session = await ended(node, session)
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        if restarts:
            await node.signal(session.session_id, "gate")
            session = await ended(node, session)
        assert session.error is None
        assert session.result == {"each": [{"row": 1, "by": "seven"}, {"row": 2.5, "by": "seven"}]}


async def test_a_function_may_take_longer_than_a_lease_but_not_than_its_timeout(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    ends: list[str] = []

    async def slow(assignment: Assignment) -> str:
        try:
            await trio.sleep(assignment.parameters["seconds"])
        except trio.Cancelled:
            ends.append("cancelled")
            raise
        return "done"

    async with world.node() as node:
        await node.register_agent("slow", capabilities=["work"], handler=slow)
        times = {"leaseSeconds": 10, "timeoutSeconds": 100, "retry": {"maxRetries": 0}}
        session = await ended(node, await node.trigger(one_task("in_time", parameters={"seconds": 95}, **times)))
        assert session.result == {"only": "done"}
        session = await ended(node, await node.trigger(one_task("late", parameters={"seconds": 105}, **times)))
        assert session.error is not None
        assert session.error.code == "timeout"
        await quiet()
        assert ends == ["cancelled"]
        assert lease_of(node, "slow") is None


async def test_a_function_whose_agent_is_deregistered_is_cancelled_and_its_task_goes_to_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    ends: list[str] = []

    async def work(_: Assignment) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ends.append("cancelled")

    async with world.node() as node:
        await node.register_agent("first", capabilities=["work"], handler=work)
        session = await begin(node)
        await node.deregister_agent("first")
        await quiet()
        assert ends == ["cancelled"]
        await hire(node, "second", result="done")
        done = await ended(node, session)
        assert done.result == {"only": "done"}
        assert only_task(node, session).attempt == 2


async def test_a_function_has_one_attempt_at_a_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    at_once = [0, 0]

    async def work(_: Assignment) -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await trio.sleep(1)
        at_once[0] -= 1

    async with world.node() as node:
        await node.register_agent("local", capabilities=["work"], handler=work)
        sessions = [await node.trigger(one_task()) for _ in range(5)]
        await trio.sleep(0.5)
        await node.register_agent("local", capabilities=["work"], handler=work)
        for session in sessions:
            await ended(node, session)
    assert at_once == [0, 1]


async def test_a_function_may_trigger_a_run_and_wait_for_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:

        async def parent(_: Assignment) -> Any:
            child = await node.trigger(one_task("child", agentCapability="child"))
            return (await node.wait(child.session_id)).result

        await node.register_agent("parent", capabilities=["work"], handler=parent)
        await hire(node, "child", "child", result=42)
        session = await ended(node, await node.trigger(one_task()))
        assert session.result == {"only": {"only": 42}}


async def test_a_function_that_is_replaced_takes_the_next_attempt(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        old = await hire(node, "local")
        await ended(node, await node.trigger(one_task()))
        new = await hire(node, "local")
        await ended(node, await node.trigger(one_task()))
        assert (len(old), len(new)) == (1, 1)


async def test_a_delivery_cut_off_by_its_attempts_end_reports_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)

    async def hang(_: Assignment) -> Any:
        await trio.sleep_forever()

    world.messenger.answer = hang
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=10))
        await node.set_cordon("a", cordoned=True)
        await trio.sleep(11)
        assert world.messenger.cancelled == 1
        assert node.statistics().deliveries == 0
        assert only_task(node, session).status is TaskStatus.READY


@pytest.mark.parametrize("handler", [len, "work"])
async def test_a_handler_that_is_not_async_is_refused_when_it_is_registered(
    tmp_path: Path, autojump_clock: MockClock, handler: Any
) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(TypeError, match="must be an async function"):
            await node.register_agent("a", handler=handler)
        with pytest.raises(AgentNotFound):
            node.agent("a")


async def test_one_text_is_not_taken_for_a_list_of_capabilities(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(TypeError, match="collection of names"):
            await node.register_agent("a", capabilities="work")


async def test_a_partial_and_an_object_with_an_async_call_are_handlers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    class Worker:
        async def __call__(self, assignment: Assignment) -> str:
            return "object"

    async def work(said: str, assignment: Assignment) -> str:
        return said

    async with World(tmp_path).node() as node:
        await node.register_agent("o", capabilities=["one"], handler=Worker())
        await node.register_agent("p", capabilities=["two"], handler=functools.partial(work, "partial"))
        for capability, result in (("one", "object"), ("two", "partial")):
            session = await begin(node, one_task(capability, agentCapability=capability))
            assert (await ended(node, session)).result == {"only": result}


async def test_what_a_function_does_to_its_arguments_reaches_neither_its_retry_nor_the_store(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    async def greedy(assignment: Assignment) -> str:
        seen.append((dict(assignment.parameters), dict(assignment.input)))
        assignment.parameters.clear()
        assignment.input["spoiled"] = True
        if len(seen) == 1:
            raise ValueError("once")
        return "done"

    world = World(tmp_path)
    async with world.node() as node:
        await node.register_agent("g", capabilities=["work"], handler=greedy)
        payload = {"given": [1]}
        session = await node.trigger(one_task(parameters={"n": 1}), payload=payload)
        payload["given"].append(2)
        await ended(node, session)
        assert seen == [({"n": 1}, {"given": [1]})] * 2
        assert node.session(session.session_id).session.payload == {"given": [1]}


async def test_a_document_that_its_sender_goes_on_changing_stays_what_it_was_when_it_was_sent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    document = one_task(parameters={"n": 0})
    world = World(tmp_path)
    async with world.node() as node:
        sessions = []
        for number in range(3):
            document["tasks"][0]["parameters"]["n"] = number
            sessions.append(await node.trigger(document))
        done = await hire(node, "able", "work")
        for session in sessions:
            await ended(node, session)
        assert sorted(each.parameters["n"] for each in done) == [0, 1, 2]


@pytest.mark.parametrize("said", ["half a pair: \udcff", "long " * 100_000], ids=["half a pair", "without end"])
async def test_an_error_whose_text_cannot_be_stored_as_it_is_fails_the_task_and_harms_nobody(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    caplog.set_level(logging.CRITICAL)  # The test workers could not pass such a text on either.

    async def clumsy(assignment: Assignment) -> None:
        raise ValueError(said)

    async with World(tmp_path).node() as node:
        await node.register_agent("c", capabilities=["work"], handler=clumsy)
        session = await ended(node, await begin(node, one_task(retry={"maxRetries": 0})))
        assert session.status is SessionStatus.FAILED
        assert session.error is not None
        assert len(session.error.message) < 5_000
