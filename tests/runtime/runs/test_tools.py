# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Tasks that are the call of a tool: its answer is their result, and no call is made twice by itself."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.limits import Limits
from opscore.runtime.models import Assignment, Session, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, check_rows, ended, hire, join, one_task, only_task, quiet

CALL = {"tool": "adder", "arguments": {"a": "${input.a}", "b": 2}}
UNKNOWN = Broken(reason="the connection broke")
CUT_OFF = Answered(status=200, cut_off="the connection broke")


async def never(_: object) -> Fact:
    await trio.sleep_forever()
    raise AssertionError("it is for ever")


def tool(**fields: Any) -> dict[str, Any]:
    retry = {"maxRetries": 1, "initialDelaySeconds": 1, "jitter": False}
    return one_task(type="tool", **{"parameters": CALL, "retry": retry, **fields})


async def called(world: World, node: Node, fact: Fact, **fields: Any) -> Session:
    """Have a tool called that answers so; answers the run as it is soon after."""
    world.messenger.answers(fact)
    await join(node, "a")
    session = await begin(node, tool(**fields), payload={"a": 1})
    await trio.sleep(30)
    return node.session(session.session_id).session


async def test_a_tool_is_called_with_its_arguments_and_its_answer_is_the_result(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        session = await called(world, node, Answered(status=200, body={"status": "success", "data": {"sum": 3}}))
        assert (session.status, only_task(node, session).result) == (SessionStatus.COMPLETED, {"sum": 3})
        (assignment,) = world.messenger.delivered
        assert assignment.tool
        assert assignment.parameters == {"tool": "adder", "arguments": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"status": "error", "message": "no sum", "error_code": "LOCAL_FAILED"}, "no sum", "LOCAL_FAILED"),
        ({"status": "error"}, "the tool answered {'status': 'error'}", "tool_failed"),
    ],
)  # fmt: skip
async def test_a_tool_that_answers_an_error_has_failed_and_is_tried_again(
    tmp_path: Path, autojump_clock: MockClock, body: dict[str, Any], message: str, code: str
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        session = await called(world, node, Answered(status=200, body=body))
        task = only_task(node, session)
        assert (task.status, task.attempt, task.retries) == (TaskStatus.FAILED, 2, 2)
        assert task.error is not None
        assert (task.error.message, task.error.code) == (message, code)


@pytest.mark.parametrize(
    "fact", [UNKNOWN, CUT_OFF, Answered(status=500, body={"detail": "it broke"}), Answered(status=504)]
)
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_call_of_which_nobody_knows_whether_it_was_made_is_made_again_only_where_that_does_no_harm(
    tmp_path: Path, autojump_clock: MockClock, fact: Fact, idempotent: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        session = await called(world, node, fact, idempotent=idempotent)
        task = only_task(node, session)
        assert len(world.messenger.delivered) == task.attempt == (2 if idempotent else 1)
        assert session.error is not None
        assert session.error.code == "outcome_unknown"
        assert session.error.message.startswith("task 'only' failed: it is unknown whether the tool was called: ")


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("heartbeats", [{}, {"heartbeatSeconds": 5}])
async def test_a_call_that_takes_too_long_is_made_again_only_where_that_does_no_harm(
    tmp_path: Path, autojump_clock: MockClock, idempotent: bool, heartbeats: dict[str, Any]
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        world.messenger.answer = never
        await join(node, "a")
        session = await begin(node, tool(timeoutSeconds=20, idempotent=idempotent, **heartbeats), payload={"a": 1})
        if heartbeats:
            await node.heartbeat(only_task(node, session).task_id, 1)
        await trio.sleep(22)
        await node.report_state("a", "idle")
        failed = await ended(node, session, within_s=60)
        assert len(world.messenger.delivered) == only_task(node, failed).attempt == (2 if idempotent else 1)
        assert failed.error is not None
        assert failed.error.code == "outcome_unknown"


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_local_tool_that_takes_too_long_is_called_again_only_where_that_does_no_harm(
    tmp_path: Path, autojump_clock: MockClock, idempotent: bool
) -> None:
    calls: list[int] = []

    async def slow(task: Assignment) -> None:
        calls.append(task.attempt)
        await trio.sleep(100)

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=slow)
        session = await begin(node, tool(timeoutSeconds=5, idempotent=idempotent), payload={"a": 1})
        failed = await ended(node, session, within_s=60)
        assert calls == ([1, 2] if idempotent else [1])
        assert failed.error is not None
        assert failed.error.code == "outcome_unknown"


@pytest.mark.parametrize("fact", [NotReached(reason="connection refused"), Answered(status=503), Answered(status=404)])
async def test_a_call_that_reached_nobody_goes_back_into_the_line(
    tmp_path: Path, autojump_clock: MockClock, fact: Fact
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        world.messenger.answers(fact, Answered(status=200, body={"status": "success", "data": 1}))
        await join(node, "a")
        session = await ended(node, await begin(node, tool(), payload={"a": 1}))
        assert (session.status, only_task(node, session).retries) == (SessionStatus.COMPLETED, 0)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_restart_makes_no_call_again_that_may_have_been_made(
    tmp_path: Path, autojump_clock: MockClock, idempotent: bool
) -> None:
    world = World(tmp_path, limits=Limits(unknown_outcome_lease_s=60.0), look=check_rows)
    async with world.node() as node:
        world.messenger.answer = never
        await join(node, "a")
        session = await begin(node, tool(idempotent=idempotent), payload={"a": 1})
        world.sever()
    world.messenger.answers(Answered(status=200, body={"status": "success", "data": 1}))
    async with world.node() as node:
        await quiet()
        assert len(world.messenger.delivered) == 1
        await trio.sleep(61)
        await node.report_state("a", "idle")
        session = await ended(node, session, within_s=60)
        assert len(world.messenger.delivered) == (2 if idempotent else 1)
        assert session.status is (SessionStatus.COMPLETED if idempotent else SessionStatus.FAILED)


async def test_a_call_may_take_longer_than_a_lease(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)

    async def slow(_: object) -> Fact:
        await trio.sleep(100)
        return Answered(status=200, body={"status": "success", "data": "late"})

    async with world.node() as node:
        world.messenger.answer = slow
        await join(node, "a")
        session = await ended(node, await begin(node, tool(leaseSeconds=10, timeoutSeconds=200), payload={"a": 1}))
        assert (session.status, only_task(node, session).attempt) == (SessionStatus.COMPLETED, 1)


async def test_an_agent_that_leaves_during_a_call_leaves_its_outcome_unknown(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        world.messenger.answer = never
        await join(node, "a")
        session = await begin(node, tool(), payload={"a": 1})
        await node.deregister_agent("a")
        session = await ended(node, session, within_s=5)
        assert session.error is not None
        assert session.error.code == "outcome_unknown"
        await quiet()
        assert world.messenger.cancelled == 1


async def test_local_functions_are_tools_as_well(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        got = await hire(node, "a", result=3)
        session = await ended(node, await begin(node, tool(), payload={"a": 1}))
        assert (only_task(node, session).result, got[0].tool) == (3, True)


@pytest.mark.parametrize("call", [{"tool": "${input.a}"}, {"tool": "x", "arguments": "${input.a}"}])
async def test_what_is_no_call_fails_before_anybody_is_asked(
    tmp_path: Path, autojump_clock: MockClock, call: dict[str, Any]
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await ended(node, await begin(node, tool(parameters=call), payload={"a": 1}))
        assert session.error is not None
        assert (session.error.code, only_task(node, session).attempt) == ("expression_failed", 0)
