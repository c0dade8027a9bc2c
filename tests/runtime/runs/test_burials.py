# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Which tasks are dead letters: those by which a run failed, and none that did no harm."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from opscore.runtime.models import Move, SessionStatus
from tests.runtime.runs.test_dead_letters import NEVER, findings, listed
from tests.runtime.world import World, begin, check_rows, ended, join, quiet


async def test_a_task_that_was_buried_after_its_fallback_failed_is_sound(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tasks = [
        {"taskId": "only", "agentCapability": "work", "fallbackTaskId": "instead", **NEVER},
        {"taskId": "instead", "agentCapability": "work", **NEVER},
    ]
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "tasks": tasks})
        for ordinal in (0, 1):
            await node.fail(f"{session.session_id}.{ordinal}", 1, "no")
            await node.report_state("a", "idle")
            await quiet()
        await ended(node, session)
        assert len(listed(node)) == 2
    assert world.records(f"{session.session_id}.0")[-1] == "task.dead"
    assert findings(world) == []


async def test_a_fallback_whose_failure_did_no_harm_is_no_dead_letter_of_what_failed_after_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tasks = [
        {"taskId": "a", "agentCapability": "work", "fallbackTaskId": "b", "continueOnFailure": True, **NEVER},
        {"taskId": "b", "agentCapability": "work", **NEVER},
        {"taskId": "c", "agentCapability": "work", "dependsOn": ["a"], **NEVER},
    ]
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "tasks": tasks})
        for ordinal in (0, 1, 2):
            await node.fail(f"{session.session_id}.{ordinal}", 1, "no")
            await node.report_state("a", "idle")
            await quiet()
        assert (await ended(node, session)).status is SessionStatus.FAILED
        assert listed(node) == [f"{session.session_id}.2"]
        await node.replay(f"{session.session_id}.2")
        await quiet()
        await node.complete(f"{session.session_id}.2", 2, "done")
        assert (await ended(node, session)).result == {"c": "done"}
        assert listed(node) == []


@pytest.mark.parametrize("rescued", [True, False])
async def test_a_step_whose_fallback_is_out_when_its_run_fails_is_a_dead_letter_only_if_that_fails_too(
    tmp_path: Path, autojump_clock: MockClock, *, rescued: bool
) -> None:
    tasks = [
        {"taskId": "a", "agentCapability": "work", "fallbackTaskId": "b", "dependsOn": [], **NEVER},
        {"taskId": "b", "agentCapability": "work", **NEVER},
        {"taskId": "c", "agentCapability": "other", "dependsOn": [], **NEVER},
    ]
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        await join(node, "o", "other")
        session = await begin(node, {"id": "w", "tasks": tasks})
        a, b, c = (f"{session.session_id}.{ordinal}" for ordinal in range(3))
        await node.fail(a, 1, "no")
        await node.report_state("a", "idle")
        await quiet()
        await node.fail(c, 1, "no")
        await quiet()
        assert listed(node) == [c]
        await (node.complete(b, 1, "instead") if rescued else node.fail(b, 1, "no"))
        await node.report_state("a", "idle")
        await node.report_state("o", "idle")
        assert (await ended(node, session)).status is SessionStatus.FAILED
        assert sorted(listed(node)) == ([c] if rescued else [a, b, c])
        if rescued:
            await node.replay(c)
            await quiet()
            await node.complete(c, 2, "done")
            assert (await ended(node, session)).status is SessionStatus.COMPLETED
            assert listed(node) == []


async def test_a_run_that_is_cancelled_leaves_no_dead_letter_that_nobody_could_replay(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tasks = [
        {"taskId": "only", "agentCapability": "work", "fallbackTaskId": "instead", **NEVER},
        {"taskId": "instead", "agentCapability": "work"},
    ]
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "tasks": tasks})
        await node.fail(f"{session.session_id}.0", 1, "no")
        await node.steer(session.session_id, Move.CANCEL)
        assert (await ended(node, session)).status is SessionStatus.CANCELLED
        assert listed(node) == []


async def test_a_dead_letter_that_is_tried_again_and_fails_at_once_is_told_as_failed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tasks = [
        {"taskId": "a", "agentCapability": "work", "parameters": {"x": "${input.missing}"}, "fallbackTaskId": "b"},
        {"taskId": "b", "agentCapability": "work", **NEVER},
    ]
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "tasks": tasks}, payload={})
        await node.fail(f"{session.session_id}.1", 1, "no")
        await ended(node, session)
        await node.steer(session.session_id, Move.RETRY)
    assert world.records(f"{session.session_id}.0") == ["task.failed", "task.dead", "task.failed"]
    assert findings(world) == []
