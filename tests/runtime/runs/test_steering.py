# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Runs that are cancelled, paused, resumed, tried again and reset while agents are at work."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed
from opscore.runtime.errors import SessionConflict, SessionNotFound, StaleAttempt
from opscore.runtime.messages import to_agent
from opscore.runtime.models import Assignment, Move, SessionStatus, TaskStatus
from opscore.runtime.runs.session import SessionActor
from tests.runtime.world import World, begin, check_rows, ended, hire, join, lease_of, one_task, only_task, quiet

NEVER = {"retry": {"maxRetries": 0}}


def saga() -> dict[str, Any]:
    """Two steps that are undone, and a third."""
    steps = [
        {"taskId": "book", "agentCapability": "work", "compensateTaskId": "unbook", **NEVER},
        {"taskId": "pay", "agentCapability": "work", "compensateTaskId": "refund", **NEVER},
        {"taskId": "ship", "agentCapability": "late", **NEVER},
    ]
    handlers = [{"taskId": key, "agentCapability": "work", **NEVER} for key in ("unbook", "refund", "tell")]
    return {"id": "saga", "tasks": [*steps, *handlers], "onFailure": "tell"}


def order_of(got: list[Assignment]) -> list[str]:
    return [assignment.task_key for assignment in got]


async def test_cancelling_stops_a_local_function_and_frees_its_agent_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    stopped: list[str] = []

    async def slow(task: Assignment) -> str:
        try:
            await trio.sleep(1_000 if task.input == "slow" else 1)
        except trio.Cancelled:
            stopped.append(task.task_id)
            raise
        return "done"

    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=slow)
        session = await begin(node, payload="slow")
        cancelled = await node.steer(session.session_id, Move.CANCEL, reason="nobody wants it")
        assert (cancelled.status, cancelled.reason) == (SessionStatus.CANCELLED, "nobody wants it")
        await quiet()
        assert stopped == [only_task(node, session).task_id]
        assert lease_of(node, "a") is None
        assert (await ended(node, await begin(node, payload="quick"), within_s=5)).status is SessionStatus.COMPLETED
        assert await node.steer(session.session_id, Move.CANCEL) == cancelled, "what is so already changes nothing"


@pytest.mark.parametrize("move", [Move.CANCEL, Move.RESET])
async def test_a_function_is_stopped_also_where_its_run_crashes_before_it_says_so(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, move: Move
) -> None:
    stopped: list[str] = []
    fallen: list[object] = []
    tell = SessionActor._tell_agent  # noqa: SLF001 (between the commit and the news there is no message)

    async def slow(task: Assignment) -> None:
        try:
            await trio.sleep(1_000)
        except trio.Cancelled:
            stopped.append(task.task_id)
            raise

    def fall(actor: SessionActor, agent_id: str, message: to_agent.LeaseGranted | to_agent.AnnounceAgent) -> None:
        if fallen or not isinstance(message, to_agent.AnnounceAgent):
            tell(actor, agent_id, message)
        else:
            fallen.append(message)
            raise RuntimeError("struck by the test")

    monkeypatch.setattr(SessionActor, "_tell_agent", fall)
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=slow)
        session = await begin(node)
        with pytest.raises(ActorFailed):
            await node.steer(session.session_id, move)
        await trio.sleep(1)
        assert fallen
        assert stopped == [only_task(node, session).task_id]


async def test_why_a_run_was_cancelled_stands_whatever_it_is_paused_for_while_it_is_undone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, saga())
        booked = node.session(session.session_id).tasks[0]
        await node.complete(booked.task_id, 1)
        await node.steer(session.session_id, Move.CANCEL, reason="the customer called")
        paused = await node.steer(session.session_id, Move.PAUSE, reason="audit")
        assert (paused.status, paused.reason) == (SessionStatus.PAUSED, "the customer called")
        resumed = await node.steer(session.session_id, Move.RESUME)
        assert (resumed.status, resumed.reason) == (SessionStatus.CANCELLING, "the customer called")
        told = [entry.record.data.get("reason") for entry in node.history(session.session_id).items]
        assert "audit" in told


async def test_late_results_of_a_cancelled_run_are_refused_and_its_agent_gets_work_once_it_lets_go(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        task = only_task(node, session)
        await node.heartbeat(task.task_id, 1)
        await node.steer(session.session_id, Move.CANCEL)
        waiting = await begin(node)
        assert only_task(node, waiting).status is TaskStatus.READY, "the agent is still busy with what was taken back"
        with pytest.raises(StaleAttempt, match="taken back"):
            await node.heartbeat(task.task_id, 1)
        with pytest.raises(StaleAttempt, match="taken back"):
            await node.complete(task.task_id, 1, "too late")
        await quiet()
        assert only_task(node, session).status is TaskStatus.CANCELLED
        assert only_task(node, waiting).agent_id == "a", "its answer said that it is done with it"


@pytest.mark.parametrize("says", ["idle", "error", "offline"])
async def test_a_report_lets_go_of_what_was_taken_back(tmp_path: Path, autojump_clock: MockClock, says: str) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.steer(session.session_id, Move.CANCEL)
        await node.report_state("a", "active")
        held = lease_of(node, "a")
        assert held is not None
        assert held.revoked
        await node.report_state("a", says)
        assert lease_of(node, "a") is None
        assert (only_task(node, session).status, only_task(node, session).retries) == (TaskStatus.CANCELLED, 0)


async def test_a_claimer_that_asks_again_is_done_with_what_was_taken_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        session = await begin(node)
        granted = await node.claim("a", wait_s=1, claim_id="same")
        assert granted is not None
        await node.steer(session.session_id, Move.CANCEL)
        other = await begin(node)
        again = await node.claim("a", wait_s=1, claim_id="same")
        assert again is not None
        assert again.assignment.session_id == other.session_id


async def test_what_was_taken_back_from_a_silent_agent_ends_with_its_lease(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=50))
        await node.steer(session.session_id, Move.CANCEL)
        await trio.sleep(49)
        assert lease_of(node, "a") is not None
        await trio.sleep(2)
        assert lease_of(node, "a") is None
        assert node.agent("a").suspected_until > 0, "it may have died with it"


async def test_a_restart_lets_nothing_of_a_cancelled_run_go_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await hire(node, "local")
        await join(node, "remote", "far")
        local = await begin(node)
        remote = await begin(node, one_task("far", agentCapability="far"))
        for session in (local, remote):
            await node.steer(session.session_id, Move.CANCEL)
        world.sever()
    async with world.node() as node:
        await quiet()
        assert lease_of(node, "local") is None
        assert {node.session(each.session_id).session.status for each in (local, remote)} == {SessionStatus.CANCELLED}
        await node.report_state("remote", "idle")
        assert lease_of(node, "remote") is None


async def test_cancelling_undoes_what_was_done_the_last_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await hire(node, "a")
        session = await begin(node, saga())
        await trio.sleep(10)
        cancelling = await node.steer(session.session_id, Move.CANCEL)
        assert cancelling.status is SessionStatus.CANCELLING
        assert (await ended(node, session)).status is SessionStatus.CANCELLED
        statuses = {task.key: task.status.value for task in node.session(session.session_id).tasks}
    assert order_of(got) == ["book", "pay", "refund", "unbook"]
    assert statuses == {
        "book": "completed", "pay": "completed", "ship": "cancelled",
        "unbook": "completed", "refund": "completed", "tell": "skipped",
    }  # fmt: skip


async def test_a_run_that_fails_is_undone_and_told_of_last(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await hire(node, "a")
        await join(node, "late", "late")
        session = await begin(node, saga())
        await trio.sleep(10)
        await node.fail(node.session(session.session_id).tasks[2].task_id, 1, "out of stock")
        failed = await ended(node, session)
        assert (failed.status, failed.error and failed.error.message) == (
            SessionStatus.FAILED,
            "task 'ship' failed: out of stock",
        )
        with pytest.raises(SessionConflict, match="compensated"):
            await node.steer(session.session_id, Move.RETRY)
    assert order_of(got) == ["book", "pay", "refund", "unbook", "tell"]


def saga_that_nobody_undoes() -> dict[str, Any]:
    document = saga()
    tasks = [task | {"agentCapability": "nobody"} if task["taskId"] == "refund" else task for task in document["tasks"]]
    return document | {"tasks": tasks}


@pytest.mark.parametrize("before", [(), (Move.PAUSE,), (Move.CANCEL,), (Move.CANCEL, Move.PAUSE)])
async def test_terminating_ends_a_run_that_nobody_can_undo_at_once(
    tmp_path: Path, autojump_clock: MockClock, before: tuple[Move, ...]
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await hire(node, "a")
        session = await begin(node, saga_that_nobody_undoes())
        await trio.sleep(10)
        for move in before:
            assert (await node.steer(session.session_id, move, reason="first")).status is not SessionStatus.CANCELLED
        await trio.sleep(10)
        over = await node.steer(session.session_id, Move.TERMINATE, reason="nobody refunds")
        assert over.status is SessionStatus.CANCELLED
        assert over.reason == ("first" if Move.CANCEL in before else "nobody refunds")
        assert await node.steer(session.session_id, Move.TERMINATE, reason="again") == over
        statuses = {task.key: task.status.value for task in node.session(session.session_id).tasks}
        told = [entry.record.data.get("reason") for entry in node.history(session.session_id).items]
        assert "nobody refunds" in told
        assert not node.dead_letters().items
        with pytest.raises(SessionConflict, match="only a failed session"):
            await node.steer(session.session_id, Move.RETRY)
    assert order_of(got) == ["book", "pay"]
    assert statuses == {
        "book": "completed", "pay": "completed", "ship": "cancelled",
        "unbook": "cancelled", "refund": "cancelled", "tell": "skipped",
    }  # fmt: skip


async def test_terminating_takes_what_undoes_a_run_from_its_agent(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await hire(node, "a")
        await join(node, "remote", "nobody")
        session = await begin(node, saga_that_nobody_undoes())
        await trio.sleep(10)
        await node.steer(session.session_id, Move.CANCEL)
        await quiet()
        (refund,) = (task for task in node.session(session.session_id).tasks if task.is_out)
        assert (refund.key, refund.agent_id) == ("refund", "remote")
        await node.steer(session.session_id, Move.TERMINATE)
        with pytest.raises(StaleAttempt, match="taken back"):
            await node.complete(refund.task_id, 1, "too late")
        await node.report_state("remote", "idle")
        assert lease_of(node, "remote") is None
    async with world.node() as node:
        await quiet()
        assert node.session(session.session_id).session.status is SessionStatus.CANCELLED


async def test_a_failed_run_is_tried_again_from_what_failed(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    document = {"id": "w", "tasks": [{"taskId": key, "agentCapability": key, **NEVER} for key in ("one", "two")]}
    async with world.node() as node:
        got = await hire(node, "a", "one", result=1)
        await join(node, "b", "two")
        session = await begin(node, document)
        await trio.sleep(5)
        second = node.session(session.session_id).tasks[1]
        await node.fail(second.task_id, 1, "not today")
        assert (await ended(node, session)).status is SessionStatus.FAILED
        assert node.statistics().open_sessions == 0
        again = await node.steer(session.session_id, Move.RETRY)
        assert (again.status, again.error, again.ended_at) == (SessionStatus.RUNNING, None, None)
        assert node.statistics().open_sessions == 1
        with pytest.raises(SessionConflict, match="only a failed session can be retried"):
            await node.steer(session.session_id, Move.RETRY)
        await node.report_state("b", "idle")
        await quiet()
        with pytest.raises(StaleAttempt):
            await node.complete(second.task_id, 1, "of the first try")
        await node.complete(second.task_id, 2, "of the second")
        assert (await ended(node, session)).result == {"two": "of the second"}
    assert order_of(got) == ["one"], "what was completed is not done again"
    assert world.records(session.session_id)[-3:] == ["session.failed", "session.running", "session.completed"]


async def test_a_paused_run_gives_out_nothing_and_holds_its_delays_until_it_is_resumed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    retry = {"retry": {"initialDelaySeconds": 5, "jitter": False}}
    document = {"id": "w", "tasks": [{"taskId": key, "agentCapability": "work", **retry} for key in ("one", "two")]}
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, document)
        paused = await node.steer(session.session_id, Move.PAUSE, reason="audit")
        assert (paused.status, paused.reason) == (SessionStatus.PAUSED, "audit")
        await node.fail(node.session(session.session_id).tasks[0].task_id, 1, "it may still end")
        await node.report_state("a", "idle")
        await trio.sleep(100)
        assert node.session(session.session_id).tasks[0].status is TaskStatus.PENDING_RETRY
        await node.steer(session.session_id, Move.RESUME)
        await quiet()
        first = node.session(session.session_id).tasks[0]
        assert (first.status, first.attempt) == (TaskStatus.DISPATCHED, 2)
        await node.steer(session.session_id, Move.PAUSE)
        await node.complete(first.task_id, 2)
        await node.report_state("a", "idle")
        await trio.sleep(100)
        assert [task.status.value for task in node.session(session.session_id).tasks] == ["completed", "pending"]
    async with world.node() as node:
        await trio.sleep(100)
        assert node.session(session.session_id).session.status is SessionStatus.PAUSED, "also across a restart"
        await node.steer(session.session_id, Move.RESUME)
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.DISPATCHED


async def test_resetting_gives_what_is_out_to_another_agent_and_refuses_the_first(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "stuck")
        session = await begin(node)
        await join(node, "fresh")
        await node.steer(session.session_id, Move.RESET)
        await quiet()
        task = only_task(node, session)
        assert (task.agent_id, task.attempt, task.retries, task.bounces) == ("fresh", 2, 0, 0)
        with pytest.raises(StaleAttempt, match="taken back"):
            await node.heartbeat(task.task_id, 1)
        assert lease_of(node, "stuck") is not None
        with pytest.raises(StaleAttempt, match="taken back"):
            await node.complete(task.task_id, 1, "late")
        assert lease_of(node, "stuck") is None, "it is done with what was taken back"
        await node.complete(task.task_id, 2, "in time")
        assert (await ended(node, session)).result == {"only": "in time"}


async def test_a_run_that_was_quarantined_goes_on_when_it_is_resumed(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node._core._quarantine(session.session_id, RuntimeError("it fell"))  # noqa: SLF001 (as when it keeps crashing)
        assert node.session(session.session_id).session.reason == "actor_crashed"
    async with world.node() as node:
        await node.report_state("a", "idle")
        await node.steer(session.session_id, Move.RESUME)
        await quiet()
        assert (only_task(node, session).status, only_task(node, session).attempt) == (TaskStatus.DISPATCHED, 2)


@pytest.mark.parametrize("move", [Move.PAUSE, Move.RESUME, Move.RESET, Move.CANCEL, Move.TERMINATE])
async def test_a_run_that_has_ended_is_steered_no_more(tmp_path: Path, autojump_clock: MockClock, move: Move) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a")
        session = await ended(node, await begin(node))
        with pytest.raises(SessionConflict, match="it is completed"):
            await node.steer(session.session_id, move)
        with pytest.raises(SessionNotFound):
            await node.steer("nowhere", move)
