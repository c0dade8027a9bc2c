# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""AgentKit changes at random, its webhooks take their time and get lost, and slow lists cross with them."""

import random
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.agents.directory import Listing
from opscore.runtime.errors import AgentNotFound
from opscore.runtime.models import AgentSource, Registration
from opscore.runtime.node import Node
from tests.runtime.world import World

IDS = ("a", "b", "c")
LOOKS = 300
LOOK_S = 0.5


@attrs.define
class Kit:
    """A directory whose agents come, go and change until `over`, each change with its webhook.

    Attributes:
        there: The versions of the agents that it has.
        changes: How often each agent has changed.
        told: The change of each that the node has acknowledged the webhook of.
    """

    node: Node
    rng: random.Random
    there: dict[str, str] = attrs.field(factory=dict)
    changes: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(IDS, 0))
    told: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(IDS, 0))
    over: bool = False

    @property
    def source(self) -> AgentSource:
        return AgentSource.AGENTKIT

    async def listing(self) -> Listing:
        await self._some_time()
        found = Listing(
            agents=tuple(
                Registration(agent_id=agent_id, version=version, source=self.source)
                for agent_id, version in self.there.items()
            )
        )
        await self._some_time()
        return found

    async def change(self, agent_id: str) -> None:
        """Change one agent again and again; a webhook is sent once the one before has been answered."""
        while not self.over:
            await self._some_time()
            self.changes[agent_id] += 1
            change = self.changes[agent_id]
            if agent_id in self.there and self.rng.random() < 0.5:
                del self.there[agent_id]
            else:
                self.there[agent_id] = str(change)
            if self.rng.random() < 0.3:
                continue
            version = self.there.get(agent_id)
            await self._some_time()
            if version is not None:
                await self.node.register_agent(agent_id, version=version, source=self.source)
            else:
                with suppress(AgentNotFound):
                    await self.node.deregister_agent(agent_id)
            self.told[agent_id] = change

    async def _some_time(self) -> None:
        await trio.sleep(self.rng.uniform(0, 3))


def versions(node: Node) -> dict[str, str]:
    return {agent.agent_id: agent.version for agent in node.agents().items}


@pytest.mark.parametrize("seed", range(20))
async def test_what_a_webhook_has_said_holds_against_every_list_that_may_be_older(
    tmp_path: Path, autojump_clock: MockClock, seed: int
) -> None:
    async with World(tmp_path).node() as node:
        kit = Kit(node, random.Random(seed))

        async def poll() -> None:
            while not kit.over:
                await node.reconcile(kit)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            for each in IDS:
                nursery.start_soon(kit.change, each)
            for _ in range(LOOKS):
                await trio.sleep(LOOK_S)
                for each in IDS:
                    if kit.told[each] == kit.changes[each]:
                        assert versions(node).get(each) == kit.there.get(each), f"{each} after {trio.current_time()} s"
            kit.over = True
        await node.reconcile(kit)
        assert versions(node) == kit.there, "one list more, and whatever was lost is known"
