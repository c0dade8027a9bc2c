# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What can be asked of a node about schedules."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import (
    AgentNotFound,
    DefinitionNotFound,
    InvalidDocument,
    LimitExceeded,
    ScheduleExists,
    ScheduleNotFound,
)
from opscore.runtime.models import Missed, Schedule
from tests.runtime.calendar_stage import EMPTY, HOUR_S, NOON, at_noon, due_times, lines, scheduled, started
from tests.runtime.world import ended, hire, one_task


async def test_the_same_content_under_one_id_is_one_schedule_and_other_content_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        made = await scheduled(node, payload={"a": 1, "b": 2}, time_zone="Europe/Berlin")
        again = await scheduled(node, payload={"b": 2, "a": 1}, time_zone="Europe/Berlin")
        assert again == made
        others: list[dict[str, Any]] = [
            {"cron": "1 * * * *"}, {"payload": {"a": True, "b": 2}}, {"missed": Missed.ALL}
        ]  # fmt: skip
        for other in others:
            fields = {"payload": {"a": 1, "b": 2}, "time_zone": "Europe/Berlin", **other}
            with pytest.raises(ScheduleExists, match="'s' exists with other content"):
                await scheduled(node, **fields)
        await node.pause_schedule("s")
        assert (await scheduled(node, payload={"a": 1, "b": 2}, time_zone="Europe/Berlin")).paused
        await trio.sleep(1.5 * HOUR_S)
    assert len(lines(world, "schedule.created")) == 1


async def test_of_many_who_make_one_schedule_at_once_each_gets_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        found: list[Schedule] = []

        async def make() -> None:
            found.append(await node.create_schedule("w", cron="0 * * * *", schedule_id="s"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(make)
        assert len(found) == 20
        assert len(set(map(repr, found))) == 1
    assert len(lines(world, "schedule.created")) == 1


async def test_a_single_time_may_be_asked_for_again_after_it_has_passed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, at=NOON + 60)
        await trio.sleep(HOUR_S)
        assert (await scheduled(node, at=NOON + 60)).fired == 1
    assert len(started(world)) == 1


async def test_a_paused_schedule_starts_nothing_and_goes_on_with_what_comes_then(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, missed=Missed.ALL)
        paused = await node.pause_schedule("s")
        assert (paused.paused, paused.next_due_at) == (True, None)
        assert await node.pause_schedule("s") == paused
        await trio.sleep(3.5 * HOUR_S)
        assert node.sessions().items == ()
    async with world.node() as node:
        resumed = await node.pause_schedule("s", paused=False)
        assert (resumed.paused, resumed.next_due_at) == (False, NOON + 4 * HOUR_S)
        await trio.sleep(HOUR_S)
    assert due_times(world) == [NOON + 4 * HOUR_S]
    assert world.records("s") == ["schedule.created", "schedule.paused", "schedule.resumed", "schedule.fired"]


async def test_a_single_time_that_passes_while_it_is_paused_is_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, at=NOON + 60)
        await node.pause_schedule("s")
        await trio.sleep(HOUR_S)
        assert (await node.pause_schedule("s", paused=False)).next_due_at is None
        await trio.sleep(HOUR_S)
        assert node.sessions().items == ()


async def test_a_deleted_schedule_starts_nothing_and_its_runs_go_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, workflow=one_task("w"))
        await trio.sleep(1.5 * HOUR_S)
        await node.delete_schedule("s")
        await trio.sleep(3 * HOUR_S)
        (session,) = node.sessions().items
        await hire(node, "late")
        assert (await ended(node, session)).status == "completed"
        with pytest.raises(ScheduleNotFound):
            await node.delete_schedule("s")
        with pytest.raises(ScheduleNotFound):
            await node.pause_schedule("s")
        with pytest.raises(ScheduleNotFound):
            node.schedule("s")
        assert (await scheduled(node, workflow=one_task("w"), cron="5 * * * *")).fired == 0


async def test_schedules_are_listed_by_id_and_by_workflow(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, "b")
        await scheduled(node, "a", workflow={"id": "v", "tasks": []})
        drawn = await node.create_schedule("w", cron="0 0 1 1 *")
        assert drawn.schedule_id.startswith("sch_")
        first = node.schedules(limit=2)
        assert [row.schedule_id for row in first.items] == ["a", "b"]
        rest = node.schedules(limit=2, cursor=first.next_cursor)
        assert ([row.schedule_id for row in rest.items], rest.next_cursor) == ([drawn.schedule_id], None)
        assert [row.schedule_id for row in node.schedules(workflow_id="v").items] == ["a"]


async def test_every_fault_of_a_schedule_is_told_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        with pytest.raises(InvalidDocument) as refusal:
            await node.create_schedule("w", cron="61 * * * *", at=NOON - 61, time_zone="Berlin", schedule_id="a/b")
        found = {fault.path: fault.message for fault in refusal.value.faults}
        assert set(found) == {"cron", "timeZone", "scheduleId", "", "at"}
        assert "exactly one of cron and at" in found[""]
        assert "more than 60 s in the past" in found["at"]
        with pytest.raises(InvalidDocument, match="exactly one"):
            await node.create_schedule("w")
        for at in (float("inf"), float("nan"), 1e12):
            with pytest.raises(InvalidDocument, match="before the year 10000"):
                await node.create_schedule("w", at=at)
        with pytest.raises(InvalidDocument, match="128 bytes at most"):
            await node.create_schedule("w", at=NOON, schedule_id="x" * 129)


async def test_what_could_not_be_triggered_is_no_schedule(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path, schedules_max=1)
    async with world.node() as node:
        with pytest.raises(DefinitionNotFound, match=r"'w' does not exist; save it first$"):
            await node.create_schedule("w", cron="0 * * * *")
        await node.save_definition(EMPTY)
        with pytest.raises(AgentNotFound):
            await node.create_schedule("w", cron="0 * * * *", agent_id="nobody")
        await node.save_definition({"id": "needs", "tasks": [{"taskId": "a"}]})
        with pytest.raises(InvalidDocument, match="an agent must be named"):
            await node.create_schedule("needs", cron="0 * * * *")
        with pytest.raises(LimitExceeded, match="value_bytes_max"):
            await node.create_schedule("w", cron="0 * * * *", payload="x" * 300_000)
        await scheduled(node)
        with pytest.raises(LimitExceeded, match="schedules_max allows 1"):
            await scheduled(node, "another")


async def test_a_schedule_that_was_committed_while_nobody_waited_any_more_is_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        with trio.move_on_after(0):
            await node.create_schedule("w", cron="0 * * * *", schedule_id="s")
        await trio.sleep(1.5 * HOUR_S)
        assert node.schedule("s").fired == 1


async def test_the_same_schedule_made_again_changes_nothing_also_where_its_time_is_a_whole_number(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        at = int(world.clock.now()) + 1_000
        first = await scheduled(node, at=at)
        assert await node.create_schedule("w", at=at, schedule_id="s") == first
