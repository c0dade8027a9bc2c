# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Runs that begin as tasks of others: how many may, of a workflow that is saved anew meanwhile, and with what input."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_session
from opscore.runtime.models import Move, SessionStatus, TaskStatus
from opscore.runtime.runs.session import SessionActor
from tests.runtime.world import World, begin, check_rows, ended, hire, one_task, quiet

NEVER = {"retry": {"maxRetries": 0}}
WAITS = {"id": "below", "tasks": [{"taskId": "go", "type": "signal"}]}
TWO_RUNS = {
    "id": "above",
    "tasks": [{"taskId": "each", "type": "workflow", "forEach": [1, 2], "parameters": {"workflowId": "below"}}],
}


async def test_runs_that_have_begun_outlive_a_restart_also_where_there_are_as_many_as_may_be(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(runs_below_max=2), look=check_rows)
    async with world.node() as node:
        await node.save_definition(WAITS)
        session = await begin(node, TWO_RUNS)
        assert [task.status.value for task in node.session(session.session_id).tasks] == ["running"] * 3
    async with world.node() as node:
        await trio.sleep(60)
        assert node.session(session.session_id).session.error is None
        assert [task.status.value for task in node.session(session.session_id).tasks] == ["running"] * 3


async def test_runs_that_have_begun_outlive_a_pause_of_the_one_above_also_where_there_are_as_many_as_may_be(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=Limits(runs_below_max=2), look=check_rows).node() as node:
        await node.save_definition(WAITS)
        session = await begin(node, TWO_RUNS)
        below = [task.child_session_id for task in node.session(session.session_id).tasks if task.child_session_id]
        await node.steer(session.session_id, Move.PAUSE)
        await quiet()
        await node.steer(session.session_id, Move.RESUME)
        await quiet()
        assert [node.session(each).session.status for each in below] == [SessionStatus.STARTED] * 2
        for each in below:
            await node.signal(each, "go", payload=1)
        assert (await ended(node, session)).result == {"each": [{"go": 1}, {"go": 1}]}


async def test_a_run_begins_also_where_what_it_follows_is_saved_and_rolled_back_meanwhile(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = one_task("below")
    task = {"taskId": "sub", "type": "workflow", "parameters": {"workflowId": "below"}}
    rolled_back: list[str] = []
    async with World(tmp_path, look=check_rows).node() as node:
        original: Any = SessionActor.routes[to_session.Start]

        async def start(actor: Any, message: to_session.Start) -> Any:
            # Between the look at what the run is to follow, and its commit.
            if message.session.parent_task_id is not None and not rolled_back:
                rolled_back.append(message.session.session_id)
                await node.save_definition({**one, "version": "2"})
                await node.save_definition(one)
            return await original(actor, message)

        monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.routes, to_session.Start: start}))
        await node.save_definition(one)
        await hire(node, "a")
        session = await begin(node, {"id": "above", "tasks": [task]})
        await trio.sleep(1_000)
        assert rolled_back
        assert node.session(session.session_id).session.status is SessionStatus.COMPLETED


@pytest.mark.parametrize("part", [{"a": "x" * 250_000, "b": "${input}"}, [[[[[[[[[["${input}"]]]]]]]]]]])
async def test_the_payload_of_a_run_that_another_began_is_within_the_limits_of_a_payload(
    tmp_path: Path, autojump_clock: MockClock, part: Any
) -> None:
    payload: Any = "y" * 250_000
    if isinstance(part, list):
        for _ in range(95):
            payload = [payload]
        payload = [payload[0]]
    parameters = {"workflowId": "below", "input": part}
    document = {"id": "above", "tasks": [{"taskId": "sub", "type": "workflow", "parameters": parameters, **NEVER}]}
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(WAITS)
        session = await begin(node, document, payload=payload)
        (task,) = node.session(session.session_id).tasks
        assert task.error is not None
        assert (task.status, task.error.code) == (TaskStatus.FAILED, "limit_exceeded")


async def test_a_run_that_has_begun_is_looked_at_when_it_ends_and_not_before(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    due: Any = SessionActor.routes[to_session.Due]

    async def look(actor: Any, message: to_session.Due) -> None:
        looked_at.append(message.what)
        await due(actor, message)

    monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.routes, to_session.Due: look}))
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(WAITS)
        session = await begin(node, TWO_RUNS)
        items = node.session(session.session_id).tasks[1:]
        assert looked_at == []
        for item in items:
            await node.signal(item.child_session_id or "", "go")
            await quiet()
        assert looked_at == [item.task_id for item in items]
        assert (await ended(node, session)).status is SessionStatus.COMPLETED
