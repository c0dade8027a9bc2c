# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""A node whose real store runs full: what was accepted is finished out of the reserve, what is new waits outside."""

import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import StoreFull
from opscore.runtime.limits import Limits
from opscore.runtime.models import SessionStatus
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, ended, hire, one_task

SMALL = 4 * 1024**2
PAYLOAD = "x" * 20_000
LATE = one_task("late", agentCapability="late")


async def fill(node: Node) -> int:
    """Have runs begin and complete until the next is refused; answers how many did."""
    await hire(node, "busy")
    count = 0
    while True:
        try:
            session = await begin(node, one_task(), payload=PAYLOAD)
        except StoreFull:
            return count
        await ended(node, session)
        count += 1


async def test_a_node_with_a_full_store_finishes_what_it_accepted_and_takes_new_work_once_there_is_room(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits = Limits(sessions_keep_s=3_600.0, records_keep_s=3_600.0)
    world = World(tmp_path, limits=limits, map_bytes=SMALL)
    async with world.node() as node:
        accepted = [await begin(node, LATE, payload=PAYLOAD) for _ in range(5)]
        assert await fill(node) > 100
        with pytest.raises(StoreFull, match="the last 5% are kept"):
            await node.trigger(one_task(), payload=PAYLOAD)
        with pytest.raises(StoreFull):
            await node.save_definition({**LATE, "name": "another"})
    async with world.node() as node:
        # It opens, and an agent comes, works and reports, all out of the reserve.
        await hire(node, "late", "late", result={"done": True})
        for session in accepted:
            assert (await ended(node, session)).status is SessionStatus.COMPLETED
        with pytest.raises(StoreFull):
            await node.trigger(one_task(), payload=PAYLOAD)
        # Retention makes room out of it as well, and then new work is taken without anybody doing anything.
        await trio.sleep(3_700)
        await hire(node, "busy")
        assert (await ended(node, await begin(node, one_task(), payload=PAYLOAD))).status is SessionStatus.COMPLETED
        assert len(node.sessions(limit=500).items) == 1
    said = [each.getMessage() for each in caplog.records if "the last 5%" in each.getMessage() or "again" in each.msg]
    assert len(said) == 3, "once for each node, and not for each refusal"
    assert all(str(tmp_path) in each for each in said[:2])
    assert said[2] == "the store takes new work again"
