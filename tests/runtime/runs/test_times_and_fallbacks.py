# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Limits of time for tasks and runs, and what a run does where a task fails for good."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.limits import Limits
from opscore.runtime.models import Move, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, check_rows, ended, hire, join, one_task, only_task

NEVER = {"retry": {"maxRetries": 0}}


async def failure_of(node: Node, document: dict[str, Any]) -> tuple[str, str]:
    session = await ended(node, await begin(node, document))
    assert session.error is not None
    return session.error.code, session.error.message


async def test_a_task_nobody_can_take_fails_at_its_schedule_to_start_timeout_and_names_what_is_missing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        started = trio.current_time()
        found = await failure_of(node, one_task(agentCapability="rare", scheduleToStartSeconds=30))
        assert found == (
            "schedule_to_start",
            "task 'only' failed: no agent with the capability 'rare' took it within 30 s",
        )
        assert 30 <= trio.current_time() - started < 31


async def test_a_task_that_waited_for_its_key_in_vain_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        await join(node, "a")
        await join(node, "b")
        await begin(node, one_task(concurrencyKey="door"))
        waited = await ended(node, await begin(node, one_task(concurrencyKey="door", scheduleToStartSeconds=30)))
        assert waited.error is not None
        assert waited.error.message == (
            "task 'only' failed: no agent with the capability 'work' took it within 30 s; "
            "its concurrencyKey 'door' allows one open attempt at a time"
        )


@pytest.mark.parametrize(
    ("who", "named"), [({"agentId": "x"}, "agent 'x'"), ({"agentCapability": None}, "the session's agent")]
)
async def test_who_alone_may_take_a_task_is_named_where_it_does_not(
    tmp_path: Path, autojump_clock: MockClock, who: dict[str, Any], named: str
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "x", state="active")
        document = {"id": "w", "tasks": [{"taskId": "only", "scheduleToStartSeconds": 30, **who}]}
        session = await ended(node, await begin(node, document, agent_id="x"))
        assert session.error is not None
        assert session.error.message == f"task 'only' failed: {named} did not take it within 30 s"


async def test_schedule_to_close_bounds_all_attempts_together(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        retry = {"maxRetries": 9, "initialDelaySeconds": 40, "jitter": False}
        session = await begin(node, one_task(scheduleToCloseSeconds=30, retry=retry))
        await node.fail(only_task(node, session).task_id, 1, "the first")
        failed = await ended(node, session, within_s=31)
        assert failed.error is not None
        assert failed.error.code == "schedule_to_close"
        assert "within 30 s; its last failure: the first" in failed.error.message


async def test_an_attempt_that_is_out_when_its_task_has_to_close_fails_then(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(scheduleToCloseSeconds=30))
        failed = await ended(node, session, within_s=31)
        assert failed.error is not None
        assert (failed.error.code, only_task(node, session).attempt) == ("schedule_to_close", 1)
        assert failed.error.message == "task 'only' failed: it did not end within 30 s"


async def test_of_an_attempts_own_time_and_that_of_its_task_the_first_that_is_over_decides(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        document = one_task(scheduleToCloseSeconds=30, timeoutSeconds=20, retry={"maxRetries": 0})
        session = await begin(node, document)
        world.fill(full=True)
        await trio.sleep(35)
        world.fill(full=False)
        failed = await ended(node, session, within_s=5)
        assert failed.error is not None
        assert failed.error.code == "timeout"


@pytest.mark.parametrize("limit", [{"scheduleToCloseSeconds": 30}, {"scheduleToStartSeconds": 30}, {}])
async def test_what_had_to_end_while_its_run_was_paused_is_given_to_nobody_when_it_is_resumed(
    tmp_path: Path, autojump_clock: MockClock, limit: dict[str, Any]
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        document = {**one_task(**limit), **({} if limit else {"sessionTimeoutSeconds": 30})}
        session = await begin(node, document)
        await node.steer(session.session_id, Move.PAUSE)
        await join(node, "a")
        await trio.sleep(60)
        await node.steer(session.session_id, Move.RESUME)
        failed = await ended(node, session, within_s=1)
        assert failed.error is not None
        assert failed.error.code == (
            f"schedule_to_{'close' if 'Close' in str(limit) else 'start'}" if limit else "session_timeout"
        )
        assert only_task(node, session).attempt == 0


async def test_silence_longer_than_its_heartbeats_allow_is_a_failure_and_spends_a_retry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(heartbeatSeconds=10, retry={"initialDelaySeconds": 50, "jitter": False}))
        await trio.sleep(60)
        assert only_task(node, session).status is TaskStatus.DISPATCHED, "it counts from the first sign of life"
        for _ in range(3):
            await node.heartbeat(only_task(node, session).task_id, 1)
            await trio.sleep(9)
        await trio.sleep(2)
        task = only_task(node, session)
        assert (task.status, task.retries, task.error and task.error.code) == (
            TaskStatus.PENDING_RETRY,
            1,
            "heartbeat_timeout",
        )


async def test_a_run_longer_than_its_own_timeout_fails_and_its_agent_is_stopped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await hire(node, "a")
        document = {**one_task(), "sessionTimeoutSeconds": 60}
        document["tasks"].append({"taskId": "late", "agentCapability": "nobody"})
        started = trio.current_time()
        assert await failure_of(node, document) == ("session_timeout", "it took longer than 60 s")
        assert 60 <= trio.current_time() - started < 61


async def test_a_timeout_that_passed_while_the_node_was_away_comes_when_it_is_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        session = await begin(node, {**one_task(), "sessionTimeoutSeconds": 60})
    await trio.sleep(100)
    async with world.node() as node:
        assert (await ended(node, session, within_s=1)).status is SessionStatus.FAILED


async def test_a_fallback_is_done_in_place_of_what_failed_and_answers_for_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(), look=check_rows)
    tasks = [
        {"taskId": "risky", "agentCapability": "risky", "fallbackTaskId": "safe", **NEVER},
        {"taskId": "safe", "agentCapability": "work"},
    ]
    async with world.node() as node:
        await join(node, "a", "risky")
        await hire(node, "b", result="by the safe way")
        session = await begin(node, {"id": "w", "tasks": tasks})
        await node.fail(node.session(session.session_id).tasks[0].task_id, 1, "no")
        done = await ended(node, session)
        assert (done.status, done.result) == (SessionStatus.COMPLETED, {"risky": "by the safe way"})


async def test_a_failure_that_may_be_is_gone_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    tasks = [
        {"taskId": "extra", "agentCapability": "risky", "continueOnFailure": True, **NEVER},
        {"taskId": "main", "agentCapability": "work"},
    ]
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a", "risky")
        await hire(node, "b", result=7)
        session = await begin(node, {"id": "w", "tasks": tasks})
        await node.fail(node.session(session.session_id).tasks[0].task_id, 1, "no")
        done = await ended(node, session)
        assert (done.status, done.result) == (SessionStatus.COMPLETED, {"main": 7})
