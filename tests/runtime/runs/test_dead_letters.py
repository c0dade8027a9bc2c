# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Tasks that failed for good: found, tried again one by one or all of them, and laid aside with a reason."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime import codec
from opscore.runtime.errors import (
    DeadLetterNotFound,
    InvalidDocument,
    SessionConflict,
    SessionNotFound,
    StoreFull,
    Superseded,
)
from opscore.runtime.journal.opening import open_reader, open_store
from opscore.runtime.journal.tables import OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.limits import Limits
from opscore.runtime.models import Move, Record, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.store import JOURNAL_TABLE, Submission
from opscore.runtime.upkeep.verification import Verification
from tests.runtime.runs.test_sub_runs import child_of, parent
from tests.runtime.world import MAP_BYTES, World, begin, check_rows, ended, hire, join, one_task, only_task, quiet

NEVER = {"retry": {"maxRetries": 0}}


async def failed(node: Node, workflow_id: str = "one", code: str = "task_failed") -> str:
    """Let a run fail that agent `a` has; returns the id of its only task."""
    session = await begin(node, one_task(workflow_id, **NEVER))
    task = only_task(node, session)
    assert task.agent_id == "a"
    await node.fail(task.task_id, task.attempt, "no paper", code=code)
    await node.report_state("a", "idle")
    await trio.sleep(1)
    return task.task_id


def listed(node: Node, **filters: Any) -> list[str]:
    return [letter.task.task_id for letter in node.dead_letters(**filters).items]


def findings(world: World) -> list[str]:
    with open_reader(world.path) as reader, reader.snapshot() as view:
        check = Verification(view, indexed=True, on_progress=lambda _name, _count: None)
        return [str(finding) for finding in check.findings()]


async def test_dead_letters_are_listed_newest_first_by_workflow_and_code(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        first = await failed(node, code="printer")
        second = await failed(node, "other", code="printer")
        third = await failed(node, "other")
        assert listed(node) == [third, second, first]
        assert listed(node, code="printer") == [second, first]
        assert listed(node, workflow_id="other") == [third, second]
        assert listed(node, workflow_id="other", code="printer") == [second]
        assert listed(node, code="paper") == []
        page = node.dead_letters(limit=2)
        assert page.next_cursor is not None
        await node.replay(second)
        assert listed(node, cursor=page.next_cursor) == [first], "the place it names outlives its letter"
        assert node.dead_letter(first).session.workflow_id == "one"


@pytest.mark.parametrize("cursor", ["x", "zz.ses_1.0", "ses_1.0"])
async def test_a_cursor_of_another_list_is_refused(tmp_path: Path, autojump_clock: MockClock, cursor: str) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(InvalidDocument, match="cursor"):
            node.dead_letters(cursor=cursor)


async def test_a_replay_tries_its_run_again_from_what_failed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        task_id = await failed(node)
        session = await node.replay(task_id)
        assert (session.status, node.task(task_id).dead, listed(node)) == (SessionStatus.RUNNING, False, [])
        with pytest.raises(DeadLetterNotFound):
            await node.replay(task_id)
        await quiet()
        await node.complete(task_id, 2, "done")
        assert (await ended(node, session)).result == {"only": "done"}


async def test_a_replay_has_the_refusals_of_a_retry(tmp_path: Path, autojump_clock: MockClock) -> None:
    steps = [
        {"taskId": "book", "agentCapability": "work", "compensateTaskId": "unbook", **NEVER},
        {"taskId": "pay", "agentCapability": "pay", **NEVER},
        {"taskId": "unbook", "agentCapability": "work", **NEVER},
    ]
    async with World(tmp_path, look=check_rows).node() as node:
        await hire(node, "a")
        await join(node, "b", "pay")
        session = await begin(node, {"id": "w", "tasks": steps})
        await trio.sleep(2)
        dead = node.session(session.session_id).tasks[1]
        await node.fail(dead.task_id, 1, "no money")
        await ended(node, session)
        with pytest.raises(SessionConflict, match="compensated"):
            await node.replay(dead.task_id)
        with pytest.raises(DeadLetterNotFound):
            await node.replay(node.session(session.session_id).tasks[0].task_id)
        replayed = await node.replay_all()
        assert replayed.sessions == ()
        assert [(each.session_id, each.error.code) for each in replayed.refused] == [
            (session.session_id, "session_conflict")
        ]
        assert listed(node) == [dead.task_id], "what is refused stays"


async def test_a_run_that_nobody_waits_for_any_more_is_not_tried_again_but_the_one_above_it_is(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below", **NEVER))
        await join(node, "a")
        above = await begin(node, parent(**NEVER))
        below = child_of(node, above)
        await node.fail(f"{below.session_id}.0", 1, "not yet", code="early")
        await ended(node, above)
        with pytest.raises(SessionConflict, match=above.session_id):
            await node.replay(f"{below.session_id}.0")
        replayed = await node.replay_all(code="early")
        assert [each.session_id for each in replayed.sessions] == [above.session_id]
        assert [each.session_id for each in replayed.refused] == [below.session_id]
        await node.report_state("a", "idle")
        await quiet()
        other = child_of(node, above)
        assert other.session_id != below.session_id
        await node.complete(f"{other.session_id}.0", 1, "now")
        assert (await ended(node, above)).result == {"sub": {"only": "now"}}
        assert listed(node) == [f"{below.session_id}.0"]
        with pytest.raises(SessionConflict, match=f"{above.session_id}' is completed and waits for it no more"):
            await node.replay(f"{below.session_id}.0")
        await node.discard(f"{below.session_id}.0", "done by another run")
        assert listed(node) == []


async def test_who_replays_a_run_below_others_is_told_which_of_them_to_retry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(one_task("below", **NEVER))
        await node.save_definition(parent(**NEVER))
        await join(node, "a")
        above_it = {"taskId": "over", "type": "workflow", "parameters": {"workflowId": "above"}, **NEVER}
        top = await begin(node, {"id": "top", "tasks": [above_it]})
        below = child_of(node, child_of(node, top))
        await node.fail(f"{below.session_id}.0", 1, "not yet")
        await ended(node, top)
        with pytest.raises(SessionConflict, match=f"retry session '{top.session_id}', which begins it anew"):
            await node.replay(f"{below.session_id}.0")


async def test_who_replays_a_run_whose_parent_goes_on_is_told_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await node.save_definition(one_task("below", **NEVER))
        await join(node, "a")
        above = await begin(node, parent(retry={"maxRetries": 1}))
        below = child_of(node, above)
        await node.fail(f"{below.session_id}.0", 1, "not yet")
        await quiet()
        told = (
            f"'{above.session_id}' goes on, it is started; if that one fails, retry it, else discard its dead letters"
        )
        with pytest.raises(SessionConflict, match=told):
            await node.replay(f"{below.session_id}.0")
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store:
        gone = [SESSIONS.delete(above.session_id), TASKS.delete(f"{above.session_id}.0")]
        store.apply([Submission(writes=(*gone, OPEN_SESSIONS.delete(above.session_id)))])
    async with World(tmp_path).node() as node:
        with pytest.raises(SessionConflict, match=f"'{above.session_id}' is no longer kept, so discard"):
            await node.replay(f"{below.session_id}.0")


async def test_all_are_replayed_a_bounded_number_at_a_call_and_what_fails_again_is_no_endless_work(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(replays_max=2))
    async with world.node() as node:
        await join(node, "a")
        tasks = [await failed(node, "odd" if number % 2 else "even") for number in range(5)]
        cursor, rounds = None, []
        while True:
            replayed = await node.replay_all(cursor=cursor)
            rounds.append([session.session_id for session in replayed.sessions])
            for session in replayed.sessions:
                await quiet()
                out = next(task for task in map(node.task, tasks) if task.is_out)
                await node.fail(out.task_id, out.attempt, "again")
                await node.report_state("a", "idle")
                await quiet()
                assert session.session_id in {task_id.partition(".")[0] for task_id in tasks}
            cursor = replayed.next_cursor
            if cursor is None:
                break
        assert [len(each) for each in rounds] == [2, 2, 1]
        assert sorted(itertools.chain.from_iterable(rounds)) == sorted(task_id.partition(".")[0] for task_id in tasks)
        assert sorted(listed(node)) == sorted(tasks)
        replayed = await node.replay_all(workflow_id="odd")
        assert {session.workflow_id for session in replayed.sessions} == {"odd"}
        assert len(replayed.sessions) == 2


async def test_a_run_with_several_dead_letters_is_replayed_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    task: dict[str, Any] = {"dependsOn": [], **NEVER}
    tasks = [{"taskId": key, "agentCapability": key, **task} for key in ("x", "y")]
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a", "x")
        await join(node, "b", "y")
        session = await begin(node, {"id": "w", "tasks": tasks})
        for ordinal in (0, 1):
            await node.fail(f"{session.session_id}.{ordinal}", 1, "no")
        await ended(node, session)
        assert len(listed(node)) == 2
        replayed = await node.replay_all()
        assert ([each.session_id for each in replayed.sessions], replayed.refused) == ([session.session_id], ())
        assert listed(node) == []


async def test_what_the_store_does_not_take_stays_a_dead_letter(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        task_id = await failed(node)
        world.fill(full=True)
        with pytest.raises(StoreFull):
            await node.replay_all()
        with pytest.raises(StoreFull):
            await node.discard(task_id, "why")
        world.fill(full=False)
        assert listed(node) == [task_id]


async def test_a_discarded_dead_letter_is_gone_and_the_journal_keeps_why(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        task_id = await failed(node)
        other = await failed(node)
        before = node.session(task_id.partition(".")[0]).session
        task = await node.discard(task_id, "printed by hand")
        assert (task.dead, task.status, listed(node)) == (False, TaskStatus.FAILED, [other])
        assert node.session(before.session_id).session == before
        with pytest.raises(DeadLetterNotFound):
            await node.discard(task_id, "again")
        with pytest.raises(DeadLetterNotFound):
            node.dead_letter(task_id)
    with world.rows() as view:
        (record,) = [
            line
            for line in (codec.decode_row(stored.body, Record) for _, stored in view.scan(JOURNAL_TABLE))
            if line.kind == "task.discarded"
        ]
    assert (record.entity_id, record.data["reason"]) == (task_id, "printed by hand")
    assert findings(world) == []
    async with world.node() as node:
        assert listed(node) == [other]
        again = await node.steer(before.session_id, Move.RETRY)
        assert again.status is SessionStatus.RUNNING, "to discard it decides nothing about its run"


@pytest.mark.parametrize("reason", ["", "  \n"])
async def test_a_letter_is_discarded_for_a_reason(tmp_path: Path, autojump_clock: MockClock, reason: str) -> None:
    nothing: Any = None
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        task_id = await failed(node)
        with pytest.raises(InvalidDocument, match="reason: expected a reason why nobody has to look at it, found only"):
            await node.discard(task_id, reason)
        with pytest.raises(TypeError, match="expected a string as a reason, found None"):
            await node.discard(task_id, nothing)
        assert listed(node) == [task_id]


async def test_a_task_of_a_run_that_still_unwinds_is_discarded_only_once_that_has_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tasks = [
        {"taskId": "only", "agentCapability": "work", **NEVER},
        {"taskId": "tell", "agentCapability": "late", **NEVER},
    ]
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "tasks": tasks, "onFailure": "tell"})
        task_id = f"{session.session_id}.0"
        await node.fail(task_id, 1, "no")
        assert node.task(task_id).dead
        with pytest.raises(SessionConflict, match="failing"):
            await node.discard(task_id, "why")
        await hire(node, "b", "late")
        await ended(node, session)
        assert not (await node.discard(task_id, "why")).dead


async def test_a_dead_letter_goes_with_its_run_when_retention_removes_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(sessions_keep_s=100, idempotency_keep_s=0))
    async with world.node() as node:
        await join(node, "a")
        task_id = await failed(node)
        await trio.sleep(500)
        assert listed(node) == []
        with pytest.raises(DeadLetterNotFound):
            await node.discard(task_id, "why")


@pytest.mark.parametrize("move", ["discard", "replay"])
async def test_a_move_that_meets_the_removal_of_its_run_leaves_nothing_of_it_or_comes_first(
    tmp_path: Path, autojump_clock: MockClock, move: str
) -> None:
    moved: set[str] = set()
    removed: set[str] = set()
    async with World(tmp_path).node() as node:
        await join(node, "a")

        async def make(task_id: str) -> None:
            with contextlib.suppress(DeadLetterNotFound, SessionNotFound):
                await (node.discard(task_id, "why") if move == "discard" else node.replay(task_id))
                moved.add(task_id)

        async def remove(task_id: str) -> None:
            """As retention does."""
            with node._core.store.snapshot() as view:  # noqa: SLF001 (no call removes a run)
                session = SESSIONS.read(view, task_id.partition(".")[0])
            assert session.row is not None
            if session.row.status is SessionStatus.FAILED:
                guard = (SESSIONS.expect(session.row.session_id, session.version),)
                gone = (SESSIONS.delete(session.row.session_id), TASKS.delete(task_id))
                with contextlib.suppress(Superseded):
                    await node._core.addresses.journal.commit(Submission(expects=guard, writes=gone))  # noqa: SLF001
                    removed.add(task_id)

        tasks = [await failed(node) for _ in range(30)]
        for moment, task_id in enumerate(tasks):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(make, task_id)
                for _ in range(moment):
                    await trio.lowlevel.checkpoint()
                nursery.start_soon(remove, task_id)
        assert set() < moved < set(tasks), "they met"
        with node._core.store.snapshot() as view:  # noqa: SLF001 (orphans are seen in rows alone)
            left = {task.task_id for task, _ in TASKS.scan(view)}
            assert left == {f"{session.session_id}.0" for session, _ in SESSIONS.scan(view)}
            assert left.isdisjoint(removed)


async def test_a_run_that_failed_and_is_cancelled_while_it_is_undone_leaves_no_dead_letters(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    document = {
        "id": "w",
        "tasks": [
            {"taskId": "pay", "type": "delay", "parameters": {"seconds": 1}, "compensateTaskId": "refund"},
            {"taskId": "answer", "type": "signal", "timeoutSeconds": 5},
            {"taskId": "refund", "type": "delay", "parameters": {"seconds": 100}},
        ],
    }
    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, document)
        await trio.sleep(10)
        assert node.session(session.session_id).session.status is SessionStatus.FAILING
        await node.steer(session.session_id, Move.CANCEL)
        assert (await ended(node, session)).status is SessionStatus.CANCELLED
        assert [letter.task.key for letter in node.dead_letters().items] == []
