# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Runs that start by themselves: once for every due time, whatever goes wrong between."""

import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.runtime import codec
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_session
from opscore.runtime.messages.to_schedules import ScheduleChanged
from opscore.runtime.models import Missed, Record, Schedule
from opscore.runtime.node import Node
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.schedules.due_times import Decision, decided
from opscore.runtime.schedules.schedules import COUNTED_MAX, SchedulesActor
from opscore.runtime.store import JOURNAL_TABLE
from tests.runtime.calendar_stage import HOUR_S, NOON, at_noon, due_times, jump, lines, scheduled, started
from tests.runtime.world import Strike, one_task, quiet

# --- due times ----------------------------------------------------------------------------------------------


async def test_a_run_starts_at_every_due_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        made = await scheduled(node, payload={"n": 1})
        assert (made.next_due_at, made.fired) == (NOON + HOUR_S, 0)
        await trio.sleep(3.5 * HOUR_S)
        sessions = node.sessions().items
        assert [session.created_at - NOON for session in reversed(sessions)] == [
            pytest.approx(hour * HOUR_S, abs=0.1) for hour in (1, 2, 3)
        ]
        assert {(session.workflow_id, session.status) for session in sessions} == {("w", "completed")}
        assert node.session(sessions[0].session_id).session.payload == {"n": 1}
        now = node.schedule("s")
        assert (now.next_due_at, now.last_due_at) == (NOON + 4 * HOUR_S, NOON + 3 * HOUR_S)
        assert (now.fired, now.last_session_id, now.last_error) == (3, sessions[0].session_id, None)
    assert due_times(world) == [NOON + hour * HOUR_S for hour in (1, 2, 3)]


async def test_a_run_that_a_schedule_started_is_told_from_others_by_the_journal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node)
        await node.trigger("w")
        await trio.sleep(1.5 * HOUR_S)
        session_id = node.schedule("s").last_session_id
    (line,) = lines(world, "schedule.fired")
    assert (line.entity, line.entity_id, line.session_id) == ("schedule", "s", session_id)
    assert line.data == {"dueAt": NOON + HOUR_S}


async def test_a_single_time_starts_one_run_and_the_schedule_is_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, at=NOON + 90.5)
        await trio.sleep(90)
        assert node.sessions().items == ()
        await trio.sleep(1)
        assert len(node.sessions().items) == 1
        await trio.sleep(20 * HOUR_S)
        assert len(node.sessions().items) == 1
        assert (node.schedule("s").next_due_at, node.schedule("s").fired) == (None, 1)


async def test_every_run_follows_the_definition_of_its_own_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, workflow=one_task("w"))
        await trio.sleep(1.5 * HOUR_S)
        await node.save_definition({**one_task("w"), "version": "2"})
        await trio.sleep(HOUR_S)
        newer, older = node.sessions().items
        assert newer.definition_key != older.definition_key


async def test_a_schedule_is_kept_by_the_clock_of_its_zone_across_a_change(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    jump(world, datetime(2026, 10, 24, tzinfo=UTC).timestamp() - NOON)
    async with world.node() as node:
        await scheduled(node, cron="30 2 * * *", time_zone="Europe/Berlin")
        await trio.sleep(4 * 24 * HOUR_S)
    shown = [datetime.fromtimestamp(due_at, UTC).strftime("%d %H:%M") for due_at in due_times(world)]
    assert shown == ["24 00:30", "25 00:30", "26 01:30", "27 01:30"]


async def test_a_wall_clock_that_jumps_ahead_is_noticed_within_half_a_minute(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node)
        await trio.sleep(10)
        jump(world, HOUR_S)
        await trio.sleep(31)
        assert len(node.sessions().items) == 1


async def test_a_wall_clock_that_is_set_back_brings_nothing_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node)
        await trio.sleep(1.5 * HOUR_S)
        jump(world, -HOUR_S)
        await trio.sleep(1.25 * HOUR_S)
        assert len(node.sessions().items) == 1
        await node.pause_schedule("s")
        assert (await node.pause_schedule("s", paused=False)).next_due_at == NOON + 2 * HOUR_S
        await trio.sleep(0.5 * HOUR_S)
    assert due_times(world) == [NOON + HOUR_S, NOON + 2 * HOUR_S]


async def test_a_node_without_schedules_sleeps(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    looks: list[float] = []
    original = SchedulesActor._look  # noqa: SLF001 (how often it looks is seen nowhere else)

    async def look(actor: SchedulesActor) -> float:
        looks.append(trio.current_time())
        return await original(actor)

    monkeypatch.setattr(SchedulesActor, "_look", look)
    async with world.node() as node:
        await trio.sleep(100 * HOUR_S)
        assert len(looks) == 1
        await scheduled(node, at=NOON + 101 * HOUR_S)
        await trio.sleep(1.5 * HOUR_S)
        assert len(node.sessions().items) == 1
        count = len(looks)
        await trio.sleep(100 * HOUR_S)
        assert len(looks) == count, "what is over wakes nobody"


async def test_many_schedules_that_are_due_at_once_all_start_their_runs(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        for number in range(300):
            await scheduled(node, f"s{number}")
        await trio.sleep(2.5 * HOUR_S)
        assert {node.schedule(f"s{number}").fired for number in range(300)} == {2}
    assert len(started(world)) == 600


# --- a node that was down -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "hours"),
    [(Missed.SKIP, []), (Missed.ONCE, [9]), (Missed.ALL, [1, 2, 3, 4, 5, 6, 7, 8, 9])],
)
async def test_what_was_missed_while_the_node_was_down_follows_the_policy(
    tmp_path: Path, autojump_clock: MockClock, missed: Missed, hours: list[int]
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, missed=missed)
    jump(world, 9.5 * HOUR_S)
    async with world.node() as node:
        await trio.sleep(60)
        assert len(node.sessions().items) == len(hours)
        await trio.sleep(HOUR_S)
    assert due_times(world) == [NOON + hour * HOUR_S for hour in (*hours, 10)]


async def test_missed_due_times_of_many_schedules_are_counted_a_few_at_a_time(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Passes(trio.abc.Instrument):
        number = 0

        def before_io_wait(self, _timeout: float) -> None:
            self.number += 1

    passes, counted = Passes(), Counter[int]()

    def watched(schedule: Schedule, now: float, limits: Limits, counted_until: float) -> Decision:
        counted[passes.number] += counted_until < (schedule.next_due_at or 0.0)
        return decided(schedule, now, limits, counted_until)

    monkeypatch.setattr("opscore.runtime.schedules.due_times.decided", watched)
    world = at_noon(tmp_path)
    async with world.node() as node:
        for number in range(40):
            await scheduled(node, f"s{number}", missed=Missed.ALL)
    jump(world, 3.5 * HOUR_S)
    trio.lowlevel.add_instrument(passes)
    async with world.node() as node:
        await trio.sleep(60)
    assert len(started(world)) == 120
    assert max(counted.values()) <= COUNTED_MAX


async def test_of_too_many_that_were_missed_the_newest_start_runs(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path, schedule_missed_max=3)
    async with world.node() as node:
        await scheduled(node, missed=Missed.ALL)
    jump(world, 9.5 * HOUR_S)
    async with world.node() as node:
        await quiet()
    assert due_times(world) == [NOON + hour * HOUR_S for hour in (7, 8, 9)]
    (line,) = lines(world, "schedule.missed")
    assert line.data == {"from": NOON + HOUR_S, "before": NOON + 7 * HOUR_S}


@pytest.mark.parametrize(("missed", "count"), [(Missed.SKIP, 0), (Missed.ONCE, 1), (Missed.ALL, 1)])
async def test_a_single_time_that_was_missed_starts_its_run_unless_it_is_to_be_skipped(
    tmp_path: Path, autojump_clock: MockClock, missed: Missed, count: int
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, at=NOON + 600, missed=missed)
    jump(world, HOUR_S)
    async with world.node() as node:
        await quiet()
        assert len(node.sessions().items) == count
        assert node.schedule("s").next_due_at is None
    assert len(lines(world, "schedule.missed")) == 1 - count


# --- crashes ------------------------------------------------------------------------------------------------


async def test_a_process_that_dies_at_any_commit_starts_one_run_for_each_due_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    wanted = [NOON + minute * 60 for minute in range(1, 21)]
    async with world.node() as node:
        await scheduled(node, cron="* * * * *", missed=Missed.ALL)
    for _ in range(20):
        async with world.node() as node:
            await trio.sleep(60 - world.clock.now() % 60)
            # The commit is on its way, or done and not yet followed.
            for _ in range(node._core.clock.random.randrange(12)):  # noqa: SLF001 (its own dice repeat)
                await trio.lowlevel.checkpoint()
            world.sever()
    async with world.node() as node:
        await quiet()
        assert len(node.sessions(limit=500).items) == len(due_times_of(node))
    assert due_times(world) == wanted


def due_times_of(node: Node) -> list[str]:
    with node._core.store.snapshot() as view:  # noqa: SLF001 (the journal is read beside the node)
        records = [codec.decode_row(stored.body, Record) for _, stored in view.scan(JOURNAL_TABLE)]
    return [line.entity_id for line in records if line.kind == "schedule.fired"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_of_what_begins_the_run_starts_it_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    world = at_noon(tmp_path)
    strike = Strike(monkeypatch, SessionActor, to_session.Start, after=after, times=3)
    async with world.node() as node:
        await scheduled(node)
        strike.armed = True
        await trio.sleep(1.5 * HOUR_S)
        assert len(strike.struck) == (1 if after else 3)
        strike.armed = False
        await trio.sleep(HOUR_S)
        assert len(node.sessions().items) == 2
        assert node.statistics().open_sessions == 0
    assert due_times(world) == [NOON + HOUR_S, NOON + 2 * HOUR_S]


async def test_a_crash_of_the_schedules_actor_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    strike = Strike(monkeypatch, SchedulesActor, ScheduleChanged)
    async with world.node() as node:
        strike.armed = True
        await scheduled(node)
        await trio.sleep(2.5 * HOUR_S)
        assert strike.struck
    assert due_times(world) == [NOON + HOUR_S, NOON + 2 * HOUR_S]


# --- the first commit of a run ------------------------------------------------------------------------------


def before_start(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """Do something between the decision to start a run and its first commit, once."""
    original, left = SessionActor.routes[to_session.Start], [act]
    assert original is not None

    async def handler(actor: Any, message: Any) -> Any:
        if left:
            await left.pop()()
        return await original(actor, message)

    monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.routes, to_session.Start: handler}))


async def test_a_start_that_nobody_waits_for_any_more_is_not_made_twice(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    before_start(monkeypatch, functools.partial(trio.sleep, 45))
    async with world.node() as node:
        await scheduled(node)
        await trio.sleep(1.5 * HOUR_S)
        assert len(node.sessions().items) == 1
        assert node.statistics().open_sessions == 0
    assert due_times(world) == [NOON + HOUR_S]


async def test_a_schedule_that_is_deleted_while_its_run_is_about_to_start_stays_deleted(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        before_start(monkeypatch, lambda: node.delete_schedule("s"))
        await scheduled(node)
        await trio.sleep(2.5 * HOUR_S)
        assert (node.schedules().items, node.sessions().items) == ((), ())
    assert world.records("s") == ["schedule.created", "schedule.deleted"]
