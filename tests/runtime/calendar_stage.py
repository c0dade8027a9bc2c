"""The stage of the schedules' tests: a world at noon, and what its journal says of runs that started by themselves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opscore.runtime import codec
from opscore.runtime.limits import Limits
from opscore.runtime.models import Record, Schedule
from opscore.runtime.node import Node
from opscore.runtime.store import JOURNAL_TABLE
from tests.runtime.world import World, check_rows

HOUR_S = 3_600.0
EMPTY = {"id": "w", "tasks": []}
"""A run of it is over as soon as it has begun."""
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()


def at_noon(path: Path, **limits: Any) -> World:
    world = World(path, limits=Limits(**limits), look=check_rows)
    jump(world, NOON - world.clock.now())
    return world


def jump(world: World, seconds: float) -> None:
    """Set the wall clock."""
    world.clock.shift(seconds)


def started(world: World) -> list[tuple[str, float, str]]:
    """Every due time that started a run, by the journal: of which schedule, when, which session. While no node runs."""
    return [(line.entity_id, line.data["dueAt"], line.session_id or "") for line in lines(world, "schedule.fired")]


def lines(world: World, kind: str) -> list[Record]:
    with world.rows() as view:
        records = [codec.decode_row(stored.body, Record) for _, stored in view.scan(JOURNAL_TABLE)]
    return [line for line in records if line.kind == kind]


def due_times(world: World, schedule_id: str = "s") -> list[float]:
    """The due times of a schedule that started a run, in the order of their commits."""
    found = started(world)
    assert len({session_id for _, _, session_id in found}) == len(found)
    return [due_at for each, due_at, _ in found if each == schedule_id]


async def scheduled(node: Node, schedule_id: str = "s", workflow: Any = EMPTY, **fields: Any) -> Schedule:
    if not {"cron", "at"} & set(fields):
        fields["cron"] = "0 * * * *"
    await node.save_definition(workflow)
    return await node.create_schedule(workflow["id"], schedule_id=schedule_id, **fields)
