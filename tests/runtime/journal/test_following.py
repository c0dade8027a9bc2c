# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import RecordsGone
from opscore.runtime.journal.following import PAGE, Follower, JournalEntry
from opscore.runtime.journal.tables import RECORDS
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node
from opscore.runtime.store import JOURNAL_TABLE
from tests.runtime.world import World, begin, check_rows, ended, hire, one_task, quiet


async def _until_gone(follower: Follower) -> AsyncIterator[JournalEntry]:
    try:
        async for entry in follower:
            yield entry
    except RecordsGone:
        return


def journal(node: Node) -> list[JournalEntry]:
    """What a look at the store finds, to compare with."""
    with node._core.store.snapshot() as view:  # noqa: SLF001 (nothing else shows the rows of a running node)
        return [
            JournalEntry(sequence=int.from_bytes(key, "big"), record=RECORDS.decode(key, stored))
            for key, stored in view.scan(JOURNAL_TABLE)
        ]


async def test_every_record_is_given_once_in_order_whatever_is_committed_meanwhile(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    followed: dict[str, list[JournalEntry]] = {"from the start": [], "slow": [], "late": []}

    async def follow(node: Node, name: str, after: int, pause_s: float) -> None:
        async for entry in node.follow(after):
            followed[name].append(entry)
            await trio.sleep(pause_s)

    world = World(tmp_path, look=check_rows)
    async with world.node() as node, trio.open_nursery() as nursery:
        nursery.start_soon(follow, node, "from the start", 0, 0)
        nursery.start_soon(follow, node, "slow", 0, 0.05)
        await hire(node, "a")
        first = await begin(node, one_task())
        await ended(node, first)
        known = journal(node)[-1].sequence
        nursery.start_soon(follow, node, "late", known, 0.01)
        for _ in range(100):
            await begin(node, one_task())
            await trio.sleep(1.5)
        await trio.sleep(1_000)
        expected = journal(node)
        nursery.cancel_scope.cancel()
    assert len(expected) > 2 * PAGE
    assert followed["from the start"] == expected
    assert followed["slow"] == expected
    assert followed["late"] == [entry for entry in expected if entry.sequence > known]


async def test_a_follower_that_is_dropped_is_taken_up_from_its_place(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        for _ in range(5):
            await begin(node)
        expected, after = journal(node), 0
        seen: list[JournalEntry] = []
        while len(seen) < len(expected):
            follower = node.follow(after)
            seen.append(await anext(follower))
            after = follower.after
    assert seen == expected
    async with world.node() as node:
        assert await anext(node.follow(after - 1)) == expected[-1]


async def test_who_is_ahead_of_the_journal_waits_for_what_comes_after(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await begin(node)
        newest = journal(node)[-1].sequence
        with trio.move_on_after(10) as scope:
            await anext(node.follow(newest))
        assert scope.cancelled_caught
        got = []

        async def wait() -> None:
            got.append(await anext(node.follow(newest)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await quiet()
            assert got == []
            await begin(node)
        assert got[0].sequence > newest


async def test_followers_end_when_the_node_drains_with_everything_that_was_committed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seen = []

    async def follow(node: Node) -> None:
        seen.extend([entry async for entry in node.follow()])

    world = World(tmp_path)
    async with world.node() as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, node)
            await begin(node)
            node.drain()
        assert seen == journal(node)


async def test_who_asks_for_records_that_retention_has_removed_is_told_where_the_journal_begins(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(records_max=10))
    async with world.node() as node:
        for _ in range(PAGE):
            await begin(node)
        slow = node.follow()
        await anext(slow)
        await trio.sleep(61)
        kept = journal(node)
        assert len(kept) == 10
        with pytest.raises(RecordsGone, match=f"the journal goes back to {kept[0].sequence:,}") as gone:
            await anext(node.follow())
        assert gone.value.oldest == kept[0].sequence
        assert await anext(node.follow(gone.value.oldest - 1)) == kept[0]
        # What it had read already is given out first.
        read = [entry async for entry in _until_gone(slow)]
        assert read[-1].sequence < gone.value.oldest
