# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Agents that say they are done before they answer the push that brought the work, as who reports around it does."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.models import Assignment, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from tests.runtime.world import ACCEPTED, World, begin, check_rows, ended, join, lease_of, one_task, only_task, quiet

ANSWER_S = 10.0
DONE = Answered(status=200, body={"status": "completed", "result": "of the answer"})
TOOL = one_task(type="tool", parameters={"tool": "add", "arguments": {}}, retry={"maxRetries": 0})


def answering(world: World, fact: Fact, after_s: float = ANSWER_S) -> None:
    async def answer(_: Assignment) -> Fact:
        await trio.sleep(after_s)
        return fact

    world.messenger.answer = answer


async def say(node: Node, *states: str, **details: Any) -> None:
    for state in states:
        await node.report_state("a", state, details=details or None)
    await quiet()


@pytest.mark.parametrize("state", ["idle", "finished"])
@pytest.mark.parametrize(
    ("fact", "result"),
    [
        (DONE, "of the answer"),
        (ACCEPTED, None),
        (Broken(reason="it broke"), None),
        (Answered(status=503), None),
        (NotReached(reason="its proxy says so"), None),
    ],
)
async def test_the_result_of_an_agent_that_is_done_is_that_of_its_answer_if_it_has_one(
    tmp_path: Path, autojump_clock: MockClock, fact: Fact, result: Any, state: str
) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, fact)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await say(node, "active", state)
        assert only_task(node, session).status is TaskStatus.RUNNING
        found = await ended(node, session, within_s=ANSWER_S + 1)
        assert (found.status, found.result) == (SessionStatus.COMPLETED, {"only": result})
        assert (only_task(node, session).attempt, lease_of(node, "a"), node.agent("a").state) == (1, None, state)


async def test_a_report_that_has_the_result_ends_the_attempt_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, DONE)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await say(node, "active")
        await say(node, "idle", result=None)
        assert (await ended(node, session, within_s=1)).result == {"only": None}


async def test_an_answer_that_tells_of_a_failure_counts(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, Answered(status=400, body="no paper"))
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"maxRetries": 0}))
        await say(node, "active", "idle")
        assert (await ended(node, session, within_s=ANSWER_S + 1)).status is SessionStatus.FAILED


@pytest.mark.parametrize("other", [{"opscore_task_id": "another"}, {"opscore_attempt": 7}])
async def test_who_is_done_with_something_else_or_at_work_again_is_not_done(
    tmp_path: Path, autojump_clock: MockClock, other: dict[str, Any]
) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await say(node, "active")
        await say(node, "idle", **other)
        await trio.sleep(ANSWER_S + 1)
        assert only_task(node, session).status is TaskStatus.RUNNING
        await say(node, "active", "idle")
        second = await begin(node)
        await say(node, "active", "idle", "active")
        await trio.sleep(ANSWER_S + 1)
        assert [only_task(node, each).status.value for each in (session, second)] == ["completed", "running"]


async def test_what_was_done_is_not_done_again_after_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, DONE, after_s=1_000)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await say(node, "active", "idle")
        world.sever()
    async with world.node() as node:
        found = await ended(node, session, within_s=10)
        assert (found.status, found.result) == (SessionStatus.COMPLETED, {"only": None})
    assert len(world.messenger.delivered) == 1


@pytest.mark.parametrize("bound", [{"leaseSeconds": 5}, {"timeoutSeconds": 5}, {"heartbeatSeconds": 5}])
async def test_who_is_done_has_not_run_out_of_time(
    tmp_path: Path, autojump_clock: MockClock, bound: dict[str, Any]
) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, DONE, after_s=1_000)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(**bound))
        await say(node, "active", "idle")
        found = await ended(node, session, within_s=10)
        assert (found.status, found.result) == (SessionStatus.COMPLETED, {"only": None})


@pytest.mark.parametrize(
    ("fact", "status", "result"),
    [
        (Answered(status=200, body={"status": "success", "data": 3}), "completed", {"only": 3}),
        (Answered(status=200, body={"status": "error", "message": "no"}), "failed", None),
        (Answered(status=202), "completed", {"only": None}),
        (Broken(reason="it broke"), "completed", {"only": None}),
    ],
)
async def test_a_tool_answers_with_its_result_though_its_agent_has_reported(
    tmp_path: Path, autojump_clock: MockClock, fact: Fact, status: str, result: Any
) -> None:
    world = World(tmp_path, look=check_rows)
    answering(world, fact)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, TOOL)
        await say(node, "active", "idle")
        found = await ended(node, session, within_s=ANSWER_S + 1)
        assert (found.status.value, found.result) == (status, result)
