# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Deleting saved workflows: what is refused, what goes on, and what is left in the store."""

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.calls.definition_calls import DefinitionCalls
from opscore.runtime.calls.schedule_calls import ScheduleCalls
from opscore.runtime.core import Core
from opscore.runtime.errors import DefinitionInUse, DefinitionNotFound
from opscore.runtime.journal.tables import DEFINITIONS, MARKS, REVISIONS
from opscore.runtime.runs import definition_rows
from tests.runtime.calendar_stage import EMPTY, HOUR_S, at_noon, scheduled
from tests.runtime.world import World, begin, ended, hire, one_task

WAITING = one_task("w", agentCapability="nobody yet")


def kept(world: World) -> tuple[list[str], list[str], list[str]]:
    """The ids of the saved workflows, their contents, and the marks; while no node runs."""
    with world.rows() as view:
        saved = [row.workflow_id for row, _ in DEFINITIONS.scan(view)]
        contents = [str(row.document["id"]) for row, _ in REVISIONS.scan(view)]
        return saved, contents, [row.name for row, _ in MARKS.scan(view)]


async def test_a_deleted_workflow_is_gone_and_starts_no_run(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await node.save_definition(WAITING)
        await node.save_definition(one_task("other"))
        await node.delete_definition("w")
        assert [each.workflow_id for each in node.definitions().items] == ["other"]
        for ask in (node.trigger, node.delete_definition, lambda each: node.create_schedule(each, cron="* * * * *")):
            with pytest.raises(DefinitionNotFound, match="'w' does not exist"):
                await ask("w")
        with pytest.raises(DefinitionNotFound):
            node.definition("w")
    assert kept(world)[:2] == (["other"], ["other"])
    async with world.node() as node:
        with pytest.raises(DefinitionNotFound):
            await node.trigger("w")
        assert (await node.save_definition(WAITING)).revision == 1


async def test_a_run_of_a_deleted_workflow_goes_on_and_its_content_goes_with_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path, sessions_keep_s=HOUR_S, idempotency_keep_s=0.0)
    async with world.node() as node:
        run = await begin(node, WAITING)
        await node.delete_definition("w")
    assert kept(world)[:2] == ([], ["w"])
    async with world.node() as node:
        assert len(node.session(run.session_id).tasks) == 1
        await hire(node, "late", "nobody yet")
        assert (await ended(node, run)).status == "completed"
        await trio.sleep(2 * HOUR_S)
        assert node.sessions().items == ()
    assert kept(world)[:2] == ([], [])


async def test_inline_workflows_under_ever_new_ids_leave_nothing_once_they_are_deleted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path, sessions_keep_s=HOUR_S, idempotency_keep_s=0.0)
    async with world.node() as node:
        for number in range(5):
            run = await node.trigger({"id": f"w-{number}", "tasks": []})
            await node.wait(run.session_id)
            await node.delete_definition(f"w-{number}")
        await trio.sleep(2 * HOUR_S)
    assert kept(world)[:2] == ([], [])


async def test_a_workflow_that_a_schedule_starts_is_not_deleted(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, "hourly")
        await scheduled(node, "other's", workflow={"id": "other", "tasks": []})
        with pytest.raises(DefinitionInUse, match="'w' is started by schedule 'hourly'; delete what starts it"):
            await node.delete_definition("w")
        await node.pause_schedule("hourly")
        with pytest.raises(DefinitionInUse):
            await node.delete_definition("w")
        assert node.definition("w")[0].workflow_id == "w"
        await node.delete_schedule("hourly")
        await node.delete_definition("w")
        assert [each.workflow_id for each in node.definitions().items] == ["other"]
    saved, contents, marks = kept(world)
    assert (saved, contents, [mark for mark in marks if mark.endswith(" w")]) == (["other"], ["other"], [])


async def test_a_schedule_that_is_over_keeps_no_workflow(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await scheduled(node, "once", at=world.clock.now() + HOUR_S)
        with pytest.raises(DefinitionInUse):
            await node.delete_definition("w")
        await trio.sleep(1.5 * HOUR_S)
        await node.delete_definition("w")
        assert node.schedule("once").fired == 1


async def test_a_schedule_is_found_behind_as_many_as_are_read_at_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definition_rows, "SCHEDULES_AT_ONCE", 2)
    world = at_noon(tmp_path)
    async with world.node() as node:
        for number in range(4):
            await scheduled(node, f"a-{number}", workflow={"id": "other", "tasks": []})
        await scheduled(node, "behind")
        with pytest.raises(DefinitionInUse, match="'behind'"):
            await node.delete_definition("w")
        with pytest.raises(DefinitionInUse, match=r"'other' is started by schedule 'a-0', 'a-1'; delete"):
            await node.delete_definition("other")


def beside(
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    name: str,
    act: Callable[[], Awaitable[object]],
    *,
    afterwards: bool = False,
) -> None:
    """Have something happen once, before a method of this kind begins, or before its caller goes on."""
    original, left = getattr(kind, name), [act]

    async def with_it(*arguments: Any, **named: Any) -> Any:
        if left and not afterwards:
            await left.pop()()
        found = await original(*arguments, **named)
        if left:
            await left.pop()()
        return found

    monkeypatch.setattr(kind, name, with_it)


async def test_a_schedule_that_is_created_before_a_deletion_is_committed_keeps_its_workflow(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        create = functools.partial(node.create_schedule, "w", cron="0 * * * *", schedule_id="s")
        beside(monkeypatch, DefinitionCalls, "_schedules_of", create, afterwards=True)
        with pytest.raises(DefinitionInUse, match="'s'"):
            await node.delete_definition("w")
        assert node.definition("w")[0].workflow_id == "w"


async def test_no_schedule_is_created_once_its_workflow_is_deleted(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        beside(monkeypatch, ScheduleCalls, "_commit_schedule", lambda: node.delete_definition("w"))
        with pytest.raises(DefinitionNotFound):
            await node.create_schedule("w", cron="0 * * * *")
        assert node.schedules().items == ()


async def test_many_schedules_of_one_workflow_are_created_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = at_noon(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                create = functools.partial(node.create_schedule, "w", cron="0 * * * *", schedule_id=f"s-{number}")
                nursery.start_soon(create)
        assert len(node.schedules().items) == 50


async def test_a_run_whose_workflow_is_deleted_before_it_begins_is_refused_or_has_its_content(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        beside(monkeypatch, Core, "start", lambda: node.delete_definition("w"))
        with pytest.raises(DefinitionNotFound):
            await node.trigger("w")
        inline = await node.trigger(EMPTY)
        assert (await ended(node, inline)).status == "completed"


async def test_a_task_that_starts_a_run_of_a_deleted_workflow_fails(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        below = {"taskId": "below", "type": "workflow", "parameters": {"workflowId": "w"}}
        await node.save_definition({"id": "above", "tasks": [below]})
        await node.delete_definition("w")
        session = await ended(node, await node.trigger("above"))
        assert session.error is not None
        assert session.error.code == "workflow_not_found"


async def test_content_that_was_displaced_is_kept_for_as_long_as_a_run_follows_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = at_noon(tmp_path, sessions_keep_s=HOUR_S, idempotency_keep_s=0.0)
    async with world.node() as node:
        for version in ("1", "2", "3"):
            assert (await node.save_definition({**WAITING, "version": version})).revision == int(version)
        run = await begin(node, "w")
        assert (await node.save_definition({**WAITING, "version": "4"})).revision == 4
    assert kept(world)[1] == ["w", "w"], "the present one, and that of the run"
    async with world.node() as node:
        await hire(node, "late", "nobody yet")
        assert (await ended(node, run)).status == "completed"
        await trio.sleep(2 * HOUR_S)
    assert kept(world)[1] == ["w"]


async def test_a_run_whose_content_is_displaced_before_it_begins_has_that_which_is_saved_then(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path).node() as node:
        await node.save_definition(EMPTY)
        beside(monkeypatch, Core, "start", lambda: node.save_definition({**EMPTY, "version": "2"}))
        run = await ended(node, await node.trigger("w"))
        assert run.definition_key == node.definition("w")[0].definition_key
