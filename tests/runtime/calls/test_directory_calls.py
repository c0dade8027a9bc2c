# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""A node and a directory of agents: who is registered and forgotten, and what is said while the list is under way."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.agents.directory import Listing, Reconciled
from opscore.runtime.calls import directory_calls
from opscore.runtime.errors import AgentNotFound, InvalidDocument, LimitExceeded, NotReady, StoreFull
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent
from opscore.runtime.models import AgentSource, Registration, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.store import Outcomes, Submission
from tests.runtime.world import (
    LoopWriter,
    Strike,
    World,
    begin,
    check_rows,
    hire,
    join,
    only_task,
    quiet,
    writers_of,
)

KIT = AgentSource.AGENTKIT


def said(agent_id: str, version: str = "1", **fields: Any) -> Registration:
    given: dict[str, Any] = {"capabilities": ("work",), **fields}
    return attrs.evolve(Registration(agent_id=agent_id, version=version, source=KIT), **given)


@attrs.define
class Kit:
    """A directory that answers what it is told to; `under_way` runs between the question and the answer."""

    agents: tuple[Registration, ...] = ()
    under_way: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint
    asked: int = 0

    @property
    def source(self) -> AgentSource:
        return KIT

    async def listing(self) -> Listing:
        self.asked += 1
        found = Listing(agents=self.agents)
        await self.under_way()
        return found


async def webhook(node: Node, agent_id: str, version: str = "1") -> None:
    await node.register_agent(agent_id, version=version, capabilities=["work"], source=KIT)


def versions(node: Node) -> dict[str, str]:
    return {agent.agent_id: agent.version for agent in node.agents().items}


@asynccontextmanager
async def knowing(tmp_path: Path, *agent_ids: str) -> AsyncIterator[Node]:
    """A node that has heard of these agents by webhook."""
    async with World(tmp_path, look=check_rows).node() as node:
        for agent_id in agent_ids:
            await webhook(node, agent_id)
        yield node


async def test_agents_are_registered_described_anew_and_forgotten_as_they_are_listed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path, "same", "anew", "gone") as node:
        came = await node.reconcile(Kit((said("same"), said("anew", "2"), said("new"))))
        assert (set(came.registered), came.forgotten, came.failed) == ({"anew", "new"}, ("gone",), ())
        assert versions(node) == {"anew": "2", "new": "1", "same": "1"}
        assert node.agent("new") == attrs.evolve(node.agent("new"), source=KIT, name="new", state="unknown")


async def test_a_list_without_news_writes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    kit = Kit((said("a"), said("b", metadata={"n": [1, {"m": None}]}, contact_endpoint="http://b/", name="Bea")))
    async with world.node() as node:
        await node.reconcile(kit)
        await node.report_state("a", "idle")
        await node.set_cordon("b", cordoned=True)
        before = node.statistics().journal.submissions
        for _ in range(10):
            assert await node.reconcile(kit) == Reconciled()
        assert node.statistics().journal.submissions == before
    async with world.node() as node:
        assert await node.reconcile(kit) == Reconciled(), "what is stored reads as it was listed"


async def test_who_is_described_anew_keeps_its_state_its_cordon_and_its_work(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path, "a") as node:
        await node.report_state("a", "idle")
        session = await node.trigger({"id": "w", "tasks": [{"taskId": "only", "agentCapability": "work"}]})
        assert await node.claim("a", wait_s=1) is not None
        await node.set_cordon("a", cordoned=True)
        await node.reconcile(Kit((said("a", "2"),)))
        agent = node.agent("a")
        assert (agent.version, agent.state, agent.cordoned) == ("2", "idle", True)
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_who_is_no_longer_listed_loses_its_work_to_another_without_a_retry_spent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path, "gone") as node:
        session = await begin(node)
        assert await node.claim("gone", wait_s=1) is not None
        await node.reconcile(Kit())
        await join(node, "b")
        task = only_task(node, session)
        assert (task.agent_id, task.attempt, task.retries) == ("b", 2, 0)


async def test_whom_somebody_else_introduced_is_left_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        await node.register_agent("api", version="0")
        got = await hire(node, "local")
        assert await node.reconcile(Kit((said("api", "9"), said("local", "9")))) == Reconciled()
        assert await node.reconcile(Kit()) == Reconciled()
        assert {agent.agent_id: agent.source for agent in node.agents().items} == {
            "api": AgentSource.API,
            "local": AgentSource.LOCAL,
        }
        await begin(node)
        assert len(got) == 1, "its function is still there"


# --- what is said while the list is under way ---------------------------------------------------------------


async def test_who_registers_while_the_list_is_under_way_is_not_forgotten(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path, "known") as node:

        async def two_webhooks() -> None:
            await webhook(node, "known", "2")
            await webhook(node, "new")

        assert await node.reconcile(Kit(under_way=two_webhooks)) == Reconciled()
        assert versions(node) == {"known": "2", "new": "1"}
        assert set((await node.reconcile(Kit())).forgotten) == {"known", "new"}, "the next list is newer"


async def test_who_is_described_anew_while_the_list_is_under_way_is_not_set_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path, "a") as node:
        kit = Kit((said("a", "1"),), under_way=lambda: webhook(node, "a", "2"))
        assert await node.reconcile(kit) == Reconciled()
        assert versions(node) == {"a": "2"}


async def registered_and_gone(node: Node) -> None:
    await webhook(node, "a")
    await node.deregister_agent("a")


async def never_registered(node: Node) -> None:
    with pytest.raises(AgentNotFound):
        await node.deregister_agent("a")


@pytest.mark.parametrize("happens", [registered_and_gone, never_registered])
async def test_a_deregistration_while_the_list_is_under_way_is_not_undone(
    tmp_path: Path, autojump_clock: MockClock, happens: Callable[[Node], Awaitable[None]]
) -> None:
    async with knowing(tmp_path) as node:
        kit = Kit((said("a"),), under_way=lambda: happens(node))
        assert await node.reconcile(kit) == Reconciled()
        assert versions(node) == {}


async def test_a_deregistration_of_a_known_agent_while_the_list_is_under_way_is_not_undone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path, "a") as node:
        kit = Kit((said("a", "2"),), under_way=lambda: node.deregister_agent("a"))
        assert await node.reconcile(kit) == Reconciled()
        assert versions(node) == {}


class SlowWriter(LoopWriter):
    """Applies nothing while it is held."""

    held: trio.Event | None = None

    async def apply(self, batch: list[Submission]) -> Outcomes:  # type: ignore[override]
        if self.held is not None:
            await self.held.wait()
        return await super().apply(batch)


async def test_a_registration_that_had_begun_before_the_list_was_asked_for_counts(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = writers_of(SlowWriter, monkeypatch)
    async with knowing(tmp_path, "a") as node, trio.open_nursery() as nursery:
        (writer,) = writers
        writer.held = trio.Event()
        # Its commit is to come: the rows still say that AgentKit introduced the agent.
        nursery.start_soon(node.register_agent, "a")
        await quiet()
        nursery.start_soon(node.reconcile, Kit())
        await quiet()
        writer.held.set()
        await quiet()
        assert node.agent("a").source is AgentSource.API


@pytest.mark.parametrize("listed", [(), (said("a", "2"),)], ids=["not listed", "listed"])
async def test_a_registration_that_its_caller_has_given_up_counts_once_it_is_made(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, listed: tuple[Registration, ...]
) -> None:
    writers = writers_of(SlowWriter, monkeypatch)
    async with knowing(tmp_path, "a") as node, trio.open_nursery() as nursery:
        (writer,) = writers
        writer.held = trio.Event()
        with trio.move_on_after(1):
            await node.register_agent("a", version="0")
        # Nobody waits for it any more, and its commit is still to come.
        nursery.start_soon(node.reconcile, Kit(listed))
        await quiet()
        writer.held.set()
        await quiet()
        assert (node.agent("a").source, node.agent("a").version) == (AgentSource.API, "0")


async def test_a_deregistration_while_an_agent_is_being_registered_as_listed_comes_after_that(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = writers_of(SlowWriter, monkeypatch)
    async with knowing(tmp_path) as node, trio.open_nursery() as nursery:
        (writer,) = writers
        writer.held = trio.Event()
        nursery.start_soon(node.reconcile, Kit((said("a"),)))
        await quiet()
        # There is no row yet, and all the same it is not unknown.
        nursery.start_soon(node.deregister_agent, "a")
        await quiet()
        writer.held.set()
        await quiet()
        assert versions(node) == {}


async def test_of_many_changes_each_looks_at_what_was_said_until_its_turn(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_calls, "AT_ONCE_MAX", 1)
    writers = writers_of(SlowWriter, monkeypatch)
    async with knowing(tmp_path, "gone-1", "gone-2") as node, trio.open_nursery() as nursery:
        (writer,) = writers
        writer.held = trio.Event()
        nursery.start_soon(node.reconcile, Kit((said("new-1"), said("new-2"))))
        await quiet()
        # The first agent's commit is under way, the others wait for their turn.
        for call in (node.deregister_agent, lambda agent_id: webhook(node, agent_id, "2")):
            nursery.start_soon(_quietly, call, "new-2" if call == node.deregister_agent else "gone-2")
        await quiet()
        writer.held.set()
        await quiet()
        assert versions(node) == {"gone-2": "2", "new-1": "1"}


async def _quietly(call: Callable[[str], Awaitable[None]], agent_id: str) -> None:
    try:
        await call(agent_id)
    except AgentNotFound:
        await trio.lowlevel.checkpoint()


# --- what goes wrong ----------------------------------------------------------------------------------------


async def test_what_a_directory_raises_comes_out_and_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise ConnectionError("away")

    async with knowing(tmp_path, "a") as node:
        with pytest.raises(ConnectionError, match="away"):
            await node.reconcile(Kit(under_way=fail))
        assert versions(node) == {"a": "1"}
        assert (await node.reconcile(Kit())).forgotten == ("a",), "nothing is remembered of it"


async def test_an_agent_that_can_not_be_registered_keeps_no_other_from_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = Limits(capabilities_max=2, value_bytes_max=50)
    async with World(tmp_path, limits=limits).node() as node:
        came = await node.reconcile(
            Kit(
                (
                    said("a/b"),
                    said("many", capabilities=("1", "2", "3")),
                    said("large", metadata={"text": "x" * 100}),
                    said("nan", metadata={"n": float("nan")}),
                    said("fine"),
                )
            )
        )
        assert came.registered == ("fine",)
        assert {agent_id: type(error) for agent_id, error in came.failed} == {
            "a/b": InvalidDocument,
            "many": LimitExceeded,
            "large": LimitExceeded,
            "nan": ValueError,
        }
        assert versions(node) == {"fine": "1"}


async def test_an_agent_whose_actor_crashes_keeps_no_other_from_being_forgotten(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike = Strike(monkeypatch, AgentActor, to_agent.Deregister)
    async with knowing(tmp_path, "a", "b", "c") as node:
        strike.armed = True
        came = await node.reconcile(Kit())
        assert len(came.forgotten) == 2
        ((failed, error),) = came.failed
        assert isinstance(error, ActorFailed)
        assert set(versions(node)) == {failed}
        assert (await node.reconcile(Kit())).forgotten == (failed,)


async def test_a_full_store_is_told_for_each_agent_and_tried_again_with_the_next_list(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, kit = World(tmp_path), Kit((said("a"), said("b")))
    async with world.node() as node:
        world.fill(full=True)
        came = await node.reconcile(kit)
        assert {agent_id: type(error) for agent_id, error in came.failed} == {"a": StoreFull, "b": StoreFull}
        world.fill(full=False)
        assert set((await node.reconcile(kit)).registered) == {"a", "b"}


async def test_more_agents_than_are_read_or_changed_at_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_calls, "PAGE", 3)
    monkeypatch.setattr(directory_calls, "AT_ONCE_MAX", 4)
    agents = tuple(said(f"{number:02}") for number in range(20))
    async with knowing(tmp_path) as node:
        assert len((await node.reconcile(Kit(agents))).registered) == 20
        assert await node.reconcile(Kit(agents)) == Reconciled()
        assert len((await node.reconcile(Kit(agents[:5]))).forgotten) == 15
        assert len(versions(node)) == 5


async def test_a_node_that_drains_ends_no_list_by_itself_and_still_registers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with knowing(tmp_path) as node:
        node.drain()
        assert (await node.reconcile(Kit((said("a"),)))).registered == ("a",)
        with pytest.raises(NotReady):
            await node.claim("a")
