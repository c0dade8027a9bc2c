# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Which function an agent has, whatever registers, deregisters and fails meanwhile: that of the commit that counts."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import AskTimeout
from opscore.runtime.agents.directory import Listing
from opscore.runtime.errors import AgentNotFound, StoreFull
from opscore.runtime.models import AgentSource
from opscore.runtime.store import Outcomes, Submission
from tests.runtime.test_stalled_disk import STALL_S, StallingWriter
from tests.runtime.world import LoopWriter, World, begin, check_rows, ended, hire, writers_of

SYNC_S = 0.005


class SyncingWriter(LoopWriter):
    """Takes as long as a sync, so that calls cross."""

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        await trio.sleep(SYNC_S)
        return await super().apply(batch)


class Nobody:
    """AgentKit, which lists nobody any more."""

    source = AgentSource.AGENTKIT

    async def listing(self) -> Listing:
        await trio.lowlevel.checkpoint()
        return Listing()


@pytest.mark.parametrize("listed", [False, True])
async def test_a_function_that_is_registered_while_its_id_is_deregistered_is_called(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    writers_of(SyncingWriter, monkeypatch)
    async with World(tmp_path).node() as node:
        if listed:
            await node.register_agent("a", source=AgentSource.AGENTKIT)
        else:
            await hire(node, "a", result="old")
        async with trio.open_nursery() as nursery:
            if listed:
                nursery.start_soon(node.reconcile, Nobody())
            else:
                nursery.start_soon(node.deregister_agent, "a")
            await trio.sleep(SYNC_S / 2)
            await hire(node, "a", result="new")
        assert node.agent("a").source is AgentSource.LOCAL
        assert (await ended(node, await begin(node), within_s=10)).result == {"only": "new"}


async def test_a_function_that_is_deregistered_while_it_is_registered_is_gone(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers_of(SyncingWriter, monkeypatch)
    async with World(tmp_path).node() as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hire, node, "a")
            await trio.sleep(SYNC_S / 2)
            nursery.start_soon(node.deregister_agent, "a")
        with pytest.raises(AgentNotFound):
            node.agent("a")
        got = await hire(node, "a")
        await ended(node, await begin(node))
        assert len(got) == 1


async def test_a_registration_that_is_refused_leaves_the_function_before_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await hire(node, "a", result="old")
        world.fill(full=True)
        with pytest.raises(StoreFull):
            await hire(node, "a", "other", result="new")
        world.fill(full=False)
        assert node.agent("a").capabilities == ("work",)
        assert (await ended(node, await begin(node))).result == {"only": "old"}


async def test_a_function_whose_registration_is_committed_while_nobody_waits_any_more_is_called(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = writers_of(StallingWriter, monkeypatch)
    async with World(tmp_path).node() as node:
        writers[-1].stalls_s = STALL_S
        with pytest.raises(AskTimeout):
            await hire(node, "a", result="done")
        await trio.sleep(STALL_S)
        assert node.agent("a").source is AgentSource.LOCAL
        assert (await ended(node, await begin(node), within_s=10)).result == {"only": "done"}
