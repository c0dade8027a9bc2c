# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""A batch that fails in a way nobody foresaw, or whose outcome is unknown, while others stand in line behind it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import CommitUnanswered, CommitUncertain, NotReady, StoreFull
from opscore.runtime.node import Node
from opscore.runtime.store import Outcomes, Submission
from tests.runtime.world import LoopWriter, World, begin, join, one_task, only_task, quiet, writers_of

FAILS_AFTER_S = 1.0


class FailingWriter(LoopWriter):
    """Fails once, when it is told to, after a while."""

    error: BaseException | None = None

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        if self.error is None:
            return await super().apply(batch)
        error, self.error = self.error, None
        await trio.sleep(FAILS_AFTER_S)
        raise error


async def register(node: Node, agent_id: str, ends: dict[str, object]) -> None:
    try:
        await node.register_agent(agent_id, capabilities=["work"])
        ends[agent_id] = "accepted"
    except (CommitUnanswered, CommitUncertain, NotReady) as error:
        ends[agent_id] = type(error)


async def fail_under_way(node: Node, writer: FailingWriter, error: BaseException, ends: dict[str, object]) -> None:
    """Have one agent's commit fail while the other's, whose actor waits as well, stands in line behind it."""
    for agent_id in ("first", "behind"):
        await register(node, agent_id, {})
    writer.error = error
    async with trio.open_nursery() as nursery:
        nursery.start_soon(register, node, "first", ends)
        await quiet()
        nursery.start_soon(register, node, "behind", ends)
        await trio.sleep(60)


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FailingWriter]:
    return writers_of(FailingWriter, monkeypatch)


async def test_a_batch_that_fails_unforeseen_is_told_to_its_own_and_the_node_goes_on(
    tmp_path: Path, autojump_clock: MockClock, writers: list[FailingWriter]
) -> None:
    ends: dict[str, object] = {}
    with trio.fail_after(1_000):
        async with World(tmp_path).node() as node:
            await fail_under_way(node, writers[0], MemoryError("once"), ends)
            assert node.ready() is None
            again: dict[str, object] = {}
            await register(node, "first", again)
    assert ends == {"first": CommitUnanswered, "behind": "accepted"}
    assert again == {"first": "accepted"}


async def test_a_commit_whose_outcome_is_unknown_stops_the_node_whoever_stands_in_line(
    tmp_path: Path, autojump_clock: MockClock, writers: list[FailingWriter]
) -> None:
    ends: dict[str, object] = {}
    with trio.fail_after(1_000), pytest.raises(CommitUncertain):
        async with World(tmp_path).node() as node:
            await fail_under_way(node, writers[0], CommitUncertain("disk", "Input/output error"), ends)
    # Whoever stood in line is refused, or cut off with the node; nothing of theirs is applied.
    assert ends.get("behind") in (None, NotReady)


class ShakyWriter(LoopWriter):
    """While it is shaky every batch fails, one in doubt and the next for want of room."""

    shaky = False
    batches = 0

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        if not self.shaky:
            return await super().apply(batch)
        self.batches += 1
        await trio.lowlevel.checkpoint()
        raise MemoryError("the writer broke") if self.batches % 2 else StoreFull("the world", "for a while")


async def test_a_lease_that_can_not_be_ended_is_tried_again_each_second_and_not_more_and_more_often(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writers_of(ShakyWriter, monkeypatch)
    async with World(tmp_path).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=30))
        made[0].shaky = True
        await trio.sleep(30 + 300)
        assert made[0].batches < 3 * 300
        made[0].shaky = False
        await trio.sleep(5)
        assert only_task(node, session).bounces == 1
