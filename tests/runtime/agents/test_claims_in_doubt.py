# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Claims and what contradicts them: departures told late, reports that say otherwise, silence."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.limits import Limits
from opscore.runtime.messages.to_agent import LeaseGranted
from opscore.runtime.models import TaskStatus
from tests.runtime.world import Strike, World, begin, check_rows, join, only_task, quiet


async def test_a_claimer_without_an_id_that_leaves_takes_nothing_from_a_push_under_way(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", "work")
        session = await begin(node)
        await quiet()
        assert only_task(node, session).attempt == 1
        node.abandon_claim("a", "a ticket of nobody's")
        with trio.move_on_after(1):
            await node.claim("a", wait_s=30)
        await trio.sleep(5)
        assert (only_task(node, session).attempt, len(world.messenger.delivered)) == (1, 1)


async def test_the_late_news_of_a_claimer_that_left_does_not_reach_its_next_claim(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        got: list[object] = []

        async def claim(ticket: str) -> None:
            got.append(await node.claim("a", claim_id="c", wait_s=30, ticket=ticket))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim, "first")
            await trio.sleep(1)
            nursery.start_soon(claim, "second")
            await trio.sleep(1)
            node.abandon_claim("a", "first")
            await trio.sleep(1)
            session = await begin(node)
        assert [each is not None for each in got] == [False, True]
        node.abandon_claim("a", "first")
        await trio.sleep(5)
        assert only_task(node, session).attempt == 1


async def test_a_report_that_contradicts_a_waiting_claim_ends_it_and_stands(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: node.claim("a", wait_s=50))
            await trio.sleep(1)
            await node.report_state("a", "offline")
            await trio.sleep(1)
            assert node.agent("a").state == "offline"
            session = await begin(node)
            await trio.sleep(1)
            assert only_task(node, session).attempt == 0


async def test_an_agent_that_waits_with_a_claim_is_fresh_however_long_it_waits(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(agent_ttl_s=20.0))
    async with world.node() as node:
        await join(node, "a", push=False)
        async with trio.open_nursery() as nursery:

            async def claim() -> None:
                assert await node.claim("a", wait_s=60) is not None

            nursery.start_soon(claim)
            await trio.sleep(25)
            await begin(node)


@pytest.mark.parametrize("state", ["active", "error"])
async def test_an_agent_that_is_not_idle_after_all_is_not_handed_the_task_and_proves_nothing_about_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    world = World(tmp_path, look=check_rows)
    # The attempt is leased and handed to nobody yet: whatever the agent reports now is about something else.
    strike = Strike(monkeypatch, AgentActor, LeaseGranted)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        nursery.start_soon(lambda: node.claim("a", wait_s=30))
        await quiet()
        strike.armed = True
        session = await begin(node)
        await trio.sleep(1)
        await node.report_state("a", state)
        task = only_task(node, session)
        assert (task.status, task.retries, node.agent("a").state) == (TaskStatus.READY, 0, state)
        await node.report_state("a", "idle")
        assert only_task(node, session).status is TaskStatus.READY, "an idle report ends nothing here"


async def test_a_result_that_comes_before_the_news_of_its_own_lease_is_taken(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    original = AgentActor.handler_table[LeaseGranted]
    put_off: list[LeaseGranted] = []

    async def late(instance: AgentActor, said: LeaseGranted) -> None:
        """Have the news come later than everything else."""
        put_off.append(said)
        if len(put_off) == 1:
            instance.context.tell_after(1.0, said)
        else:
            await original(instance, said)

    monkeypatch.setattr(AgentActor, "routes", Routes({**AgentActor.handler_table, LeaseGranted: late}))
    async with world.node() as node:
        await join(node, "a", "work")
        session = await begin(node)
        await node.complete(only_task(node, session).task_id, 1, "early")
        assert (only_task(node, session).status, only_task(node, session).result) == (TaskStatus.COMPLETED, "early")
        await trio.sleep(5)
        assert len(put_off) == 2
        assert (only_task(node, session).attempt, world.messenger.delivered) == (1, [])
