# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Draining an agent: it is given nothing more, and who waits is told the moment it has nothing in hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.calls.agent_calls import Draining
from opscore.runtime.errors import AgentNotFound
from opscore.runtime.models import Agent, Move, Session
from opscore.runtime.node import Node
from opscore.runtime.timers import LISTENS_S
from tests.runtime.world import World, begin, check_rows, join, one_task, only_task, quiet

LEASE_S = 100.0


@attrs.define
class Waiting:
    """A drain under way; `answer` is None until it has ended, at the time `at`."""

    answer: Draining | AgentNotFound | None = None
    at: float = 0.0


@asynccontextmanager
async def waiting(node: Node, agent_id: str = "a", *, wait_s: float = 1_000.0) -> AsyncIterator[Waiting]:
    """Drain an agent beside the test, which goes on once the drain waits."""
    found = Waiting()

    async def drain() -> None:
        try:
            found.answer = await node.drain_agent(agent_id, wait_s=wait_s)
        except AgentNotFound as error:
            found.answer = error
        found.at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        await quiet()
        yield found


def drained(found: Waiting) -> bool:
    assert isinstance(found.answer, Draining), found
    return found.answer.drained


@asynccontextmanager
async def at_work(tmp_path: Path) -> AsyncIterator[tuple[Node, Session]]:
    """A node whose only agent, `a`, holds a lease."""
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        yield node, await begin(node, one_task(leaseSeconds=LEASE_S))


async def test_an_agent_without_work_is_drained_at_once_and_given_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        found = await node.drain_agent("a")
        assert (found.drained, found.lease, found.agent) == (True, None, node.agent("a"))
        await begin(node)
        await trio.sleep(1_000)
        assert world.messenger.delivered == []
        await node.set_cordon("a", cordoned=False)
        await quiet()
        assert len(world.messenger.delivered) == 1


async def test_without_a_wait_a_drain_says_what_the_agent_has_in_hand(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with at_work(tmp_path) as (node, session):
        begun = trio.current_time()
        found = await node.drain_agent("a")
        assert trio.current_time() == begun
        assert found.lease is not None
        assert found.lease.task_id == only_task(node, session).task_id
        assert (found.drained, found.agent.cordoned) == (False, True)


async def completed(node: Node, session: Session) -> None:
    await node.complete(only_task(node, session).task_id, 1)


async def failed(node: Node, session: Session) -> None:
    await node.fail(only_task(node, session).task_id, 1, "no")


async def said_idle(node: Node, session: Session) -> None:
    await node.report_state("a", "active")
    await node.report_state("a", "idle")


async def started_anew(node: Node, session: Session) -> None:
    await node.report_state("a", "initializing")


async def fell_silent(node: Node, session: Session) -> None:
    await trio.sleep(LEASE_S + LISTENS_S)


async def let_go_of_what_was_cancelled(node: Node, session: Session) -> None:
    await node.report_state("a", "active")
    await node.steer(session.session_id, Move.CANCEL)
    await trio.sleep(1)
    assert node.lease("a") is not None, "the agent may be busy with it"
    await node.report_state("a", "idle")


@pytest.mark.parametrize("end", [completed, failed, said_idle, started_anew, fell_silent, let_go_of_what_was_cancelled])
async def test_a_drain_ends_the_moment_the_agents_lease_does(
    tmp_path: Path, autojump_clock: MockClock, end: Callable[[Node, Session], Awaitable[None]]
) -> None:
    async with at_work(tmp_path) as (node, session), waiting(node) as found:
        await trio.sleep(7)
        await node.report_state("a", "active")
        assert (found.answer, node.statistics().listeners) == (None, 1)
        await end(node, session)
        ended = trio.current_time()
        await quiet()
        assert drained(found)
        # Nobody looks now and then: it was woken.
        assert found.at == pytest.approx(ended, abs=1e-6)
        assert (node.lease("a"), node.statistics().listeners) == (None, 0)


async def test_a_drain_whose_wait_is_over_says_what_is_left(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_work(tmp_path) as (node, _):
        begun = trio.current_time()
        found = await node.drain_agent("a", wait_s=5)
        assert trio.current_time() == pytest.approx(begun + 5)
        assert not found.drained
        assert node.agent("a").cordoned, "it stays out of dispatch"


async def test_an_agent_that_is_put_back_is_waited_for_no_longer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_work(tmp_path) as (node, _):
        begun = trio.current_time()
        async with waiting(node) as found:
            await node.set_cordon("a", cordoned=False)
        assert found.at == begun
        assert not drained(found)


def test_an_agent_that_may_be_given_work_is_not_drained_even_if_it_has_none() -> None:
    agent = Agent(agent_id="a", name="a", registered_at=0.0)
    assert not Draining(agent=agent, lease=None).drained
    assert Draining(agent=attrs.evolve(agent, cordoned=True), lease=None).drained


async def test_an_agent_that_is_deregistered_meanwhile_is_unknown(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_work(tmp_path) as (node, _):
        async with waiting(node) as found:
            await node.deregister_agent("a")
        assert isinstance(found.answer, AgentNotFound)
        with pytest.raises(AgentNotFound):
            await node.drain_agent("a", wait_s=5)


async def test_a_drain_is_answered_early_when_the_node_drains(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_work(tmp_path) as (node, _):
        async with waiting(node) as found:
            node.drain()
        assert not drained(found)


async def test_several_may_wait_for_one_agent_and_for_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_work(tmp_path) as (node, session):
        await join(node, "b", "other")
        other = await begin(node, one_task("other", agentCapability="other"))
        async with waiting(node) as first, waiting(node) as second, waiting(node, "b") as third:
            assert node.statistics().listeners == 3
            await completed(node, session)
            await quiet()
            assert (drained(first), drained(second), third.answer) == (True, True, None)
            await completed(node, other)
        assert drained(third)


async def test_a_claim_that_waits_gets_nothing_once_its_agent_drains(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a", push=False)
        claims: list[object] = []

        async def claim() -> None:
            claims.append(await node.claim("a", wait_s=30))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim)
            await quiet()
            assert (await node.drain_agent("a", wait_s=5)).drained
            await begin(node)
        assert claims == [None]
