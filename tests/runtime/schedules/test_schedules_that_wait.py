# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What keeps a schedule from starting its run, for a while or for good, keeps no other one waiting."""

import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.runtime.errors import (
    InvalidDocument,
    NotReady,
)
from opscore.runtime.journal.tables import AGENTS, DEFINITIONS, SCHEDULES
from opscore.runtime.messages import to_session
from opscore.runtime.models import Missed
from opscore.runtime.node import Node
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.schedules.schedules import SchedulesActor
from opscore.runtime.store import Snapshot, Submission
from tests.runtime.calendar_stage import EMPTY, HOUR_S, NOON, at_noon, due_times, jump, lines, scheduled
from tests.runtime.world import ended, hire, join, one_task, quiet


def remove(node: Node, submission: Submission) -> Awaitable[int]:
    return node._core.addresses.journal.commit(submission)  # noqa: SLF001 (no call deletes a definition)


@pytest.mark.parametrize("gone", ["definition", "agent"])
async def test_a_due_time_whose_definition_or_agent_is_gone_has_failed_and_the_schedule_goes_on(
    tmp_path: Path, autojump_clock: MockClock, gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        await scheduled(node, workflow={"id": "w", "tasks": []}, agent_id="a")
        await scheduled(node, "other", workflow={"id": "other", "tasks": []})
        if gone == "agent":
            await node.deregister_agent("a")
        else:
            await remove(node, Submission(writes=(DEFINITIONS.delete("w"),)))
        await trio.sleep(3.5 * HOUR_S)
        found = node.schedule("s")
        assert (found.next_due_at, found.fired, found.last_due_at) == (NOON + 4 * HOUR_S, 0, None)
        assert found.last_error is not None
        assert found.last_error.code == f"{gone}_not_found"
        assert node.schedule("other").fired == 3
        await join(node, "a")
        await node.save_definition(EMPTY)
        await trio.sleep(HOUR_S)
        assert (node.schedule("s").fired, node.schedule("s").last_error) == (1, None)
    assert [line.data["dueAt"] for line in lines(world, "schedule.failed")] == [
        NOON + hour * HOUR_S for hour in (1, 2, 3)
    ]
    assert caplog.text.count("its due time starts no run") == 1


async def test_a_due_time_waits_while_as_many_runs_are_unfinished_as_may_be(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = at_noon(tmp_path, sessions_open_max=1)
    async with world.node() as node:
        await node.save_definition(one_task("slow"))
        waiting = await node.trigger("slow")
        await scheduled(node)
        await trio.sleep(1.1 * HOUR_S)
        found = node.schedule("s")
        assert (found.next_due_at, found.fired) == (NOON + HOUR_S, 0)
        assert found.last_error is not None
        assert found.last_error.code == "queue_full"
        await hire(node, "late")
        await ended(node, waiting)
        await trio.sleep(90)
        assert (node.schedule("s").fired, node.schedule("s").last_error) == (1, None)
    assert due_times(world) == [NOON + HOUR_S]
    assert caplog.text.count("its run waits") == 1
    assert caplog.text.count("schedules start no runs") == 1


@pytest.mark.parametrize(("missed", "hours"), [(Missed.SKIP, []), (Missed.ONCE, [2]), (Missed.ALL, [1, 2])])
async def test_a_due_time_that_finds_a_full_disk_waits_and_counts_as_missed_after_a_minute(
    tmp_path: Path, autojump_clock: MockClock, missed: Missed, hours: list[int]
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, missed=missed)
        world.fill(full=True)
        await trio.sleep(2.5 * HOUR_S)
        assert node.schedule("s").next_due_at == NOON + HOUR_S
        world.fill(full=False)
        await trio.sleep(90)
    assert due_times(world) == [NOON + hour * HOUR_S for hour in hours]


async def test_a_schedule_that_always_fails_keeps_no_other_waiting(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = at_noon(tmp_path)
    original: Callable[..., Any] = SchedulesActor._read  # noqa: SLF001 (where a bug would strike)

    def read(actor: SchedulesActor, view: Any, schedule_id: str) -> Any:
        if schedule_id == "poison":
            raise RuntimeError("struck by the test")
        return original(actor, view, schedule_id)

    monkeypatch.setattr(SchedulesActor, "_read", read)
    async with world.node() as node:
        await scheduled(node, "poison", cron="* * * * *")
        await scheduled(node, "sound", cron="* * * * *")
        await trio.sleep(600.5)
        assert node.schedule("sound").fired == 10
        found = node.schedule("poison").last_error
        assert found is not None
        assert "struck by the test" in found.message
        assert node._core.addresses.down() is None  # noqa: SLF001 (the actor lives)
    assert caplog.text.count("schedule poison: its run waits: struck by the test") == 1


async def test_a_schedule_whose_zone_is_not_known_any_more_waits_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        made = await scheduled(node)
        await scheduled(node, "sound")
        strange = attrs.evolve(made, time_zone="Europe/Atlantis")
        await remove(node, Submission(writes=(SCHEDULES.put(strange),)))
        await trio.sleep(1.5 * HOUR_S)
        found = node.schedule("s")
        assert (found.fired, found.next_due_at) == (0, NOON + HOUR_S)
        assert found.last_error is not None
        assert "Europe/Atlantis" in found.last_error.message
        assert node.schedule("sound").fired == 1
        await node.pause_schedule("s")
        with pytest.raises(InvalidDocument, match="Europe/Atlantis"):
            await node.pause_schedule("s", paused=False)
        await node.delete_schedule("s")


async def test_a_node_that_drains_starts_no_run(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node)
        node.drain()
        await trio.sleep(1.5 * HOUR_S)
        assert node.sessions().items == ()
        with pytest.raises(NotReady):
            await node.create_schedule("w", cron="* * * * *")
    async with world.node() as node:
        await quiet()
        assert len(node.sessions().items) == 1


async def test_a_damaged_schedule_keeps_no_other_waiting(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node)
        await scheduled(node, "sound")
        broken = attrs.evolve(SCHEDULES.put(node.schedule("s")), body=b"{}")
        await remove(node, Submission(writes=(broken,)))
        await trio.sleep(1.5 * HOUR_S)
        assert node.schedule("sound").fired == 1
    with world.rows() as view:
        assert AGENTS.read(view, "nobody").row is None


async def test_what_a_schedule_starts_is_decided_at_the_moment_that_its_record_tells(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, read = at_noon(tmp_path), SchedulesActor._read  # noqa: SLF001 (where it decides)

    def read_and_stand_still(self: SchedulesActor, view: Snapshot, schedule_id: str) -> Any:
        found = read(self, view, schedule_id)
        autojump_clock.jump(90 if found is not None else 0)
        return found

    monkeypatch.setattr(SchedulesActor, "_read", read_and_stand_still)
    async with world.node() as node:
        await scheduled(node, missed=Missed.SKIP)
        await trio.sleep(1.5 * HOUR_S)
    assert [line.at - line.data["dueAt"] for line in lines(world, "schedule.fired")] == [pytest.approx(0.0, abs=1.0)]


async def test_nothing_is_remembered_of_a_schedule_that_is_deleted_before_it_hears_of_its_run(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, missed=Missed.ALL)
    jump(world, 2.5 * HOUR_S)
    original, taken = SchedulesActor._take, []  # noqa: SLF001 (nobody else says which actor it is)

    async def take(actor: SchedulesActor, schedule_id: str) -> None:
        taken.append(actor)
        await original(actor, schedule_id)

    start = SessionActor.routes[to_session.Start]
    assert start is not None

    async def started(actor: Any, message: Any) -> Any:
        session = await start(actor, message)
        if node.schedules().items:
            await node.delete_schedule("s")
            await trio.sleep(1)
        return session

    monkeypatch.setattr(SchedulesActor, "_take", take)
    monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.routes, to_session.Start: started}))
    async with world.node() as node:
        await trio.sleep(60)
        assert node.schedules().items == ()
        assert taken
        assert taken[0]._standings == {}  # noqa: SLF001


async def test_a_due_time_that_has_failed_leaves_nothing_to_the_garbage_collector(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        await scheduled(node, agent_id="a", cron="* * * * *")
        await node.deregister_agent("a")
        await trio.sleep(120)
        gc.collect()
        gc.disable()
        try:
            await trio.sleep(30 * 60)
            assert gc.collect() < 30
        finally:
            gc.enable()
    assert len(lines(world, "schedule.failed")) >= 30
