# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What happened in a run is read back from the journal, whatever else the journal is full of."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import InvalidDocument, SessionNotFound
from opscore.runtime.journal.following import JournalEntry
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import RECORDS, SESSIONS
from opscore.runtime.messages import to_session
from opscore.runtime.models import Move, Session
from opscore.runtime.node import Node
from opscore.runtime.runs import history
from opscore.runtime.runs.history import attempts_of
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.store import JOURNAL_TABLE, Snapshot
from tests.runtime.journal.test_opening import restored
from tests.runtime.world import MAP_BYTES, Strike, World, begin, check_rows, ended, hire, join, one_task, quiet

FIRST_RETRY: dict[str, Any] = {"retry": {"maxRetries": 1, "initialDelaySeconds": 5, "jitter": False}}
OWN = ("session", "task", "signal")


def whole(node: Node, session: Session, *, limit: int = 500) -> list[JournalEntry]:
    """Every record of a run, newest first, page by page."""
    entries: list[JournalEntry] = []
    cursor: str | None = None
    while True:
        page = node.history(session.session_id, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        entries += page.items
        cursor = page.next_cursor
        if cursor is None:
            return entries


def records_of(view: Snapshot, session_id: str) -> list[int]:
    """The same, found by reading the whole journal."""
    lines = [(stored.version, RECORDS.decode(key, stored)) for key, stored in view.scan(JOURNAL_TABLE, reverse=True)]
    return [number for number, line in lines if line.session_id == session_id and line.entity in OWN]


async def busy(node: Node, runs: int = 20) -> list[Session]:
    """Let runs fail, be tried again, steered, told and discarded, all at the same time."""
    await hire(node, "quick")
    await join(node, "slow", "slow")
    waiting = {"taskId": "go", "type": "signal"}
    sessions = []
    for number in range(runs):
        await trio.sleep(0.3)
        steps: list[dict[str, Any]] = [{"taskId": "a", "agentCapability": "work"}, waiting]
        sessions.append(await begin(node, {"id": f"w{number % 3}", "tasks": steps if number % 2 else steps[:1]}))
        if number % 2:
            await node.signal(sessions[-1].session_id, "go")
        if number % 5 == 0:
            await node.steer(sessions[-1].session_id, Move.PAUSE, reason="a while")
    for number, session in enumerate(sessions):
        if number % 5 == 0:
            await node.steer(session.session_id, Move.RESUME)
        await ended(node, session)
    failing = await begin(node, one_task("failing", agentCapability="slow", retry={"maxRetries": 0}))
    task_id = f"{failing.session_id}.0"
    await node.heartbeat(task_id, 1)
    await node.heartbeat(task_id, 1)
    await node.fail(task_id, 1, "no")
    await node.report_state("slow", "idle")
    await ended(node, await begin(node))
    await node.replay(task_id)
    await quiet()
    await node.fail(task_id, 2, "no again")
    await ended(node, await begin(node))
    await node.discard(task_id, "enough")
    return [*sessions, failing]


@pytest.mark.parametrize("limit", [1, 2, 7, 500])
async def test_a_history_has_every_record_of_its_run_whatever_stands_between(
    tmp_path: Path, autojump_clock: MockClock, limit: int
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        for session in await busy(node):
            with node._core.store.snapshot() as view:  # noqa: SLF001 (the journal as it is)
                expected = records_of(view, session.session_id)
            assert [entry.sequence for entry in whole(node, session, limit=limit)] == expected
            assert len(expected) >= 5


async def test_a_history_leaps_over_what_stands_between(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path).node() as node:
        await join(node, "slow", "slow")
        session = await begin(node, one_task(agentCapability="slow"))
        await hire(node, "quick")
        for _ in range(50):
            await ended(node, await begin(node))
        await node.complete(f"{session.session_id}.0", 1)
        for _ in range(50):
            await ended(node, await begin(node))
        monkeypatch.setattr(history, "SCANNED_MAX", 20)
        page = node.history(session.session_id)
        assert [entry.record.kind for entry in page.items] == [
            *("session.completed", "task.completed", "session.running", "task.dispatched", "session.started"),
            "task.ready",
        ]
        assert page.next_cursor is None


async def test_a_history_tells_who_had_each_attempt_when_it_began_and_why_it_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        begun_at = node.now()
        session = await begin(node, one_task(**FIRST_RETRY))
        task_id = f"{session.session_id}.0"
        await trio.sleep(1)
        await node.heartbeat(task_id, 1)
        await trio.sleep(1)
        await node.fail(task_id, 1, "no paper", code="printer")
        await node.report_state("a", "idle")
        await trio.sleep(6)
        await node.steer(session.session_id, Move.RESET)
        await node.report_state("a", "offline")
        await join(node, "b")
        await trio.sleep(1)
        await node.complete(task_id, 3, "done")
        told = [
            (each.number, each.agent_id, each.outcome, each.error and each.error["code"])
            for each in attempts_of(whole(node, session))
        ]
        assert told == [
            (1, "a", "failed", "printer"),
            (2, "a", "requeued", "reset"),
            (3, "b", "completed", None),
        ]
        first, *_ = attempts_of(whole(node, session))
        times = [(at or 0.0) - begun_at for at in (first.dispatched_at, first.started_at, first.ended_at)]
        assert times == pytest.approx([0, 1, 2], abs=0.01)
        assert (first.task_id, first.task_key) == (task_id, "only")


async def test_what_an_attempt_failed_by_is_not_said_of_the_one_after_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(**FIRST_RETRY))
        await node.fail(f"{session.session_id}.0", 1, "no paper", code="printer")
        await node.report_state("a", "idle")
        await trio.sleep(6)
        await node.steer(session.session_id, Move.CANCEL)
        entries = whole(node, session)
        told = [(each.number, each.outcome, each.error and each.error["code"]) for each in attempts_of(entries)]
        assert told == [(1, "failed", "printer"), (2, "cancelled", None)]
        with_error = {entry.record.kind for entry in entries if "error" in entry.record.data}
        assert with_error == {"task.pending_retry"}


async def test_a_page_of_a_history_says_of_no_attempt_that_it_ended_otherwise_than_it_did(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"initialDelaySeconds": 5, "jitter": False}))
        await node.fail(f"{session.session_id}.0", 1, "not yet")
        await trio.sleep(6)
        await node.report_state("a", "idle")
        await quiet()
        whole = {each.number: each.outcome for each in attempts_of(node.history(session.session_id).items)}
        assert whole == {1: "failed", 2: None}
        cursor: str | None = None
        while True:
            page = node.history(session.session_id, limit=2, cursor=cursor)
            for attempt in attempts_of(page.items):
                assert attempt.outcome in (None, whole[attempt.number])
            cursor = page.next_cursor
            if cursor is None:
                break


async def test_why_a_run_was_steered_is_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        session = await begin(node)
        await node.steer(session.session_id, Move.PAUSE, reason="lunch")
        await node.steer(session.session_id, Move.RESUME)
        await node.steer(session.session_id, Move.CANCEL, reason="nobody wants it")
        told = [
            (entry.record.kind, entry.record.data.get("reason"))
            for entry in reversed(whole(node, session))
            if entry.record.entity == "session"
        ]
        assert told == [
            ("session.started", None),
            ("session.paused", "lunch"),
            ("session.running", None),
            ("session.cancelled", "nobody wants it"),
        ]


async def test_why_a_run_was_reset_is_kept_with_what_that_changed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.steer(session.session_id, Move.RESET, reason="the agent hangs")
        told = [(entry.record.kind, entry.record.data.get("reason")) for entry in whole(node, session)]
        assert ("task.ready", "the agent hangs") in told
        assert len([reason for _, reason in told if reason is not None]) == 1


async def test_the_history_of_a_run_that_was_paused_over_its_actors_head_goes_back_to_its_begin(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path).node() as node:
        session = await begin(node)
        strike = Strike(monkeypatch, SessionActor, to_session.Offer, times=1_000)
        strike.armed = True
        await hire(node, "a")
        await trio.sleep(60)
        monkeypatch.setattr(history, "SCANNED_MAX", 20)
        page = node.history(session.session_id)
        assert [entry.record.kind for entry in page.items] == ["session.paused", "session.started", "task.ready"]
        assert (page.items[0].record.data["reason"], page.next_cursor) == ("actor_crashed", None)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_an_earlier_release_recorded_is_found_too(tmp_path: Path, number: int) -> None:
    path = restored(number, tmp_path)
    with open_store(path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        sessions = [row.session_id for row, _ in SESSIONS.scan(view)]
        for session_id in sessions:
            page = history.history(view, session_id, limit=500, cursor=None)
            assert page is not None
            assert [entry.sequence for entry in page.items] == records_of(view, session_id)
            assert page.next_cursor is None
        assert len(sessions) > 5


async def test_a_history_of_nothing_or_from_nowhere_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(SessionNotFound):
            node.history("nothing")
        session = await begin(node)
        for cursor in ("x", ".", ".5", "1.x", "-1.", "1" * 19 + "."):
            with pytest.raises(InvalidDocument, match="cursor"):
                node.history(session.session_id, cursor=cursor)
        assert node.history(session.session_id, cursor="0.").items == ()
