# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Tasks that are runs of another workflow: begun once, waited for, tried again, and called off with their parent."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.journal.tables import OPEN_SESSIONS
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_session
from opscore.runtime.models import Move, Session, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.runs.sub_runs import BEGINNINGS_MAX, SubRuns
from opscore.runtime.store import Snapshot
from tests.runtime.world import Strike, World, begin, check_rows, ended, hire, join, one_task, quiet

NEVER = {"retry": {"maxRetries": 0}}


def parent(**fields: Any) -> dict[str, Any]:
    task = {"taskId": "sub", "type": "workflow", "parameters": {"workflowId": "below", "input": {"x": 1}}, **fields}
    return {"id": "above", "tasks": [task]}


def child_of(node: Node, session: Session) -> Session:
    (task,) = node.session(session.session_id).tasks
    assert task.child_session_id is not None
    return node.session(task.child_session_id).session


async def test_a_run_that_completed_is_not_done_again_because_what_it_answers_is_too_large(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        tasks = [{"taskId": f"t{number}", "agentCapability": "work", "dependsOn": []} for number in range(3)]
        await node.save_definition({"id": "below", "tasks": tasks})
        done = await hire(node, "a", result="x" * 100_000)
        session = await ended(node, await begin(node, parent()))
        assert session.error is not None
        assert session.error.code == "result_too_large"
        assert len(done) == 3


async def test_a_task_that_is_a_run_answers_its_result(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below"))
        got = await hire(node, "a", result=42)
        session = await begin(node, parent())
        child = child_of(node, session)
        assert (child.workflow_id, child.payload, child.depth) == ("below", {"x": 1}, 1)
        assert (await ended(node, session)).result == {"sub": {"only": 42}}
        assert [task.input for task in got] == [{"x": 1}]
        await quiet()
        assert node.statistics().open_sessions == 0


async def test_a_failed_run_is_tried_again_as_a_run_of_its_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await node.save_definition(one_task("below", **NEVER))
        await join(node, "a")
        session = await begin(node, parent(retry={"initialDelaySeconds": 5, "jitter": False}))
        first = child_of(node, session)
        await node.fail(f"{first.session_id}.0", 1, "not yet")
        await node.report_state("a", "idle")
        await quiet()
        task = node.session(session.session_id).tasks[0]
        assert (task.status, task.retries) == (TaskStatus.PENDING_RETRY, 1)
        await trio.sleep(6)
        second = child_of(node, session)
        assert second.session_id != first.session_id
        await node.complete(f"{second.session_id}.0", 1, "now")
        assert (await ended(node, session)).result == {"sub": {"only": "now"}}


async def test_cancelling_a_run_cancels_what_it_waits_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below"))
        session = await begin(node, parent())
        child = child_of(node, session)
        await node.steer(session.session_id, Move.CANCEL)
        await quiet()
        called_off = node.session(child.session_id).session
        assert (called_off.status, called_off.reason) == (
            SessionStatus.CANCELLED,
            "no run waits for it any more",
        )


async def test_a_run_that_is_cancelled_by_itself_fails_the_task_above_for_good(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below"))
        session = await begin(node, parent())
        await node.steer(child_of(node, session).session_id, Move.CANCEL)
        failed = await ended(node, session)
        assert failed.error is not None
        assert (failed.error.code, failed.error.message) == ("cancelled", "task 'sub' failed: the run was cancelled")


async def test_a_run_that_takes_too_long_for_the_task_above_is_called_off(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below"))
        session = await begin(node, parent(timeoutSeconds=30, **NEVER))
        child = child_of(node, session)
        failed = await ended(node, session, within_s=31)
        assert failed.error is not None
        assert failed.error.message == "task 'sub' failed: its run took longer than 30 s"
        await quiet()
        assert node.session(child.session_id).session.status is SessionStatus.CANCELLED


async def test_a_workflow_that_is_not_saved_fails_the_task_that_names_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        failed = await ended(node, await begin(node, parent()), within_s=5)
        assert failed.error is not None
        assert failed.error.code == "workflow_not_found"
        told = "task 'sub' failed: workflow definition 'below' does not exist; save it first"
        assert failed.error.message == told


async def test_a_run_that_cannot_begin_fails_its_task_also_where_the_store_takes_that_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(passivate_s=0.5), look=check_rows)
    async with world.node() as node:
        session = await node.trigger(parent())
        world.fill(full=True)
        await trio.sleep(5)
        world.fill(full=False)
        failed = await ended(node, session, within_s=5)
        assert failed.error is not None
        assert failed.error.code == "workflow_not_found"


async def test_what_a_run_gave_up_whose_actor_is_given_up_itself_is_called_off_all_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_: SubRuns, __: str) -> None:
        """The errand of an actor that crashes before it is done."""

    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below"))
        session, other = await begin(node, parent()), await begin(node, parent())
        await quiet()
        with monkeypatch.context() as patch:
            patch.setattr(SubRuns, "call_off", lost)
            await node.steer(session.session_id, Move.CANCEL)
            await quiet()
        child = child_of(node, session)
        assert child.status is SessionStatus.STARTED
        for each in (session, other):
            await node._core._quarantine(each.session_id, RuntimeError("crashed too often"))  # noqa: SLF001 (as its supervisor does)
        await quiet()
        assert child_of(node, session).status is SessionStatus.CANCELLED
        assert child_of(node, other).status is SessionStatus.STARTED, "that one is waited for"


@pytest.mark.parametrize("move", [Move.RESUME, Move.RESET])
async def test_a_run_that_is_resumed_when_nobody_waits_for_it_any_more_is_called_off(
    move: Move, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        """What could not be said to an actor that was given up."""

    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below"))
        session, other = await begin(node, parent()), await begin(node, parent())
        await quiet()
        child, wanted = child_of(node, session), child_of(node, other)
        with monkeypatch.context() as patch:
            patch.setattr(SubRuns, "call_off", lost)
            patch.setattr(SubRuns, "have_them_look_above", lost)
            for each in (child, wanted, session):
                await node._core._quarantine(each.session_id, RuntimeError("crashed too often"))  # noqa: SLF001 (as its supervisor does)
            await node.steer(session.session_id, Move.CANCEL)
            await quiet()
        assert child_of(node, session).status is SessionStatus.PAUSED
        resumed = await node.steer(child.session_id, move)
        assert (resumed.status, resumed.reason) == (SessionStatus.CANCELLED, "no run waits for it any more")
        goes_on = await node.steer(wanted.session_id, move)
        assert goes_on.status in {SessionStatus.STARTED, SessionStatus.RUNNING}, "that one is waited for"


async def test_runs_that_start_themselves_come_to_an_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    endless = {"id": "below", "tasks": [{**parent()["tasks"][0], **NEVER}]}
    async with World(tmp_path, limits=Limits(runs_depth_max=5), look=check_rows).node() as node:
        await node.save_definition(endless)
        failed = await ended(node, await begin(node, endless), within_s=5)
        assert failed.error is not None
        assert "runs_depth_max" in failed.error.message
        assert len(node.sessions(limit=100).items) == 6


async def test_a_run_that_begins_ever_more_of_itself_fails_before_it_fills_the_node(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    step = parent()["tasks"][0]
    bomb = {"id": "below", "tasks": [{**step, "taskId": f"part-{number}", "dependsOn": []} for number in range(10)]}
    most = 0

    def look(view: Snapshot) -> None:
        nonlocal most
        most = max(most, view.count(OPEN_SESSIONS.name))

    async with World(tmp_path, limits=Limits(runs_below_max=500), look=look).node() as node:
        await node.save_definition(bomb)
        failed = await ended(node, await begin(node, bomb), within_s=60)
        assert failed.error is not None
        assert "runs_below_max allows 500, found" in failed.error.message
        assert failed.error.code == "too_many_runs"
        assert all(task.retries <= 1 for task in node.session(failed.session_id).tasks), "no other try would help"
        await quiet()
        assert most <= 1 + 500 + BEGINNINGS_MAX
        assert node.statistics().open_sessions == 0


async def test_the_bound_on_what_one_run_begins_holds_up_no_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, limits=Limits(runs_below_max=2), look=check_rows).node() as node:
        await hire(node, "a", result=1)
        await node.save_definition(one_task("below"))
        sessions = [await begin(node, parent(**NEVER)) for _ in range(10)]
        for session in sessions:
            assert (await ended(node, session, within_s=60)).status is SessionStatus.COMPLETED


async def test_a_run_that_is_tried_again_while_an_errand_of_it_ends_goes_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, parent(**NEVER))
        failed = await ended(node, session)
        assert failed.status is SessionStatus.FAILED
        await node.save_definition(one_task("below"))
        await hire(node, "a", result=1)
        # It looks for runs that nobody waits for any more, and finds none, while it is tried again.
        ref = node._core.addresses.session(session.session_id)  # noqa: SLF001 (nobody else may say so)
        ref.tell(to_session.AnnounceSession())
        await node.steer(session.session_id, Move.RETRY)
        assert (await ended(node, session, within_s=60)).status is SessionStatus.COMPLETED


@pytest.mark.parametrize("message", [to_session.Start, to_session.Due])
async def test_a_crash_keeps_no_run_from_beginning_and_none_from_being_noticed(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, message: type
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, SessionActor, message, at=lambda _, said: getattr(said, "what", "").endswith(".0"))
    if message is to_session.Start:
        strike = Strike(monkeypatch, SessionActor, message, at=lambda _, said: said.session.depth == 1)
    async with world.node() as node:
        await node.save_definition(one_task("below"))
        await hire(node, "a", result=1)
        strike.armed = True
        session = await begin(node, parent())
        assert (await ended(node, session, within_s=60)).status is SessionStatus.COMPLETED
        assert len(strike.struck) == 1


async def test_a_restart_begins_what_had_not_begun_and_notices_what_ended_meanwhile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await node.save_definition(one_task("below"))
        await join(node, "a")
        session = await begin(node, parent())
        child = child_of(node, session)
        await node.steer(session.session_id, Move.PAUSE)
        await node.complete(f"{child.session_id}.0", 1, "done")
        await ended(node, child)
        assert node.session(session.session_id).tasks[0].status is TaskStatus.RUNNING
    async with world.node() as node:
        await node.steer(session.session_id, Move.RESUME)
        assert (await ended(node, session, within_s=5)).result == {"sub": {"only": "done"}}
