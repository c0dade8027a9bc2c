"""AgentKit as far as its list of agents goes, over real HTTP, and a node that is brought up to date with it."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from opscore.gateway.agentkit.discovery import AgentKitDirectory, Discovery
from opscore.gateway.outbound import outbound
from opscore.gateway.outbound.contacts import ContactPolicy
from opscore.gateway.wire.checks import Rules
from opscore.runtime.models import AgentSource
from opscore.runtime.node import Node
from tests.gateway.gateway_process import PATIENCE_S
from tests.gateway.raw_server import Sent, answer, raw_server
from tests.runtime.world import World

EVERY_S = 30.0


def entry(agent_id: str, version: Any = "1", **fields: Any) -> dict[str, Any]:
    """An agent as AgentKit lists it."""
    return {
        "agentId": agent_id,
        "agentName": agent_id.title(),
        "version": version,
        "capabilities": ["work"],
        "contactEndpoint": "http://127.0.0.1:1/run",
        "metadata": None,
        **fields,
    }


def listed(*entries: Any, **fields: Any) -> bytes:
    """AgentKit's answer with these entries."""
    document = {"status": "success", "message": None, "data": list(entries), **fields}
    return answer(200, json.dumps(document).encode())


@attrs.define
class Kit:
    """AgentKit, a node that asks it, and what it is to say the next time.

    Attributes:
        says: The whole of its answer, or what takes its place.
        under_way: What happens once it has made up its mind, and before it answers.
    """

    world: World
    node: Node
    discovery: Discovery
    asked: list[Sent]
    says: bytes = attrs.field(factory=listed)
    under_way: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint

    async def hears(self, says: bytes) -> float:
        """Ask once, and be answered this; returns the pause until the next time."""
        self.says = says
        return await self.discovery.ask()

    def versions(self) -> dict[str, str]:
        return {agent.agent_id: agent.version for agent in self.node.agents().items}

    async def webhook(self, agent_id: str, version: str = "1") -> None:
        """Be told of an agent as AgentKit would list it."""
        said = entry(agent_id, version)
        await self.node.register_agent(
            agent_id,
            name=said["agentName"],
            version=said["version"],
            capabilities=said["capabilities"],
            contact_endpoint=said["contactEndpoint"],
            source=AgentSource.AGENTKIT,
        )


@asynccontextmanager
async def a_kit(tmp_path: Path, *known: str, allow: tuple[str, ...] = (), path: str = "") -> AsyncIterator[Kit]:
    """A node that has heard of these agents by AgentKit's webhook."""
    kits: list[Kit] = []

    async def handle(stream: trio.SocketStream, _: Sent) -> None:
        (kit,) = kits
        says = kit.says
        await kit.under_way()
        await stream.send_all(says)

    world = World(tmp_path)
    async with raw_server(handle) as server, outbound.open_client() as client, world.node() as node:
        rules = Rules(limits=node.limits, contacts=ContactPolicy(allow))
        directory = AgentKitDirectory(client, f"http://127.0.0.1:{server.port}{path}", rules)
        kit = Kit(world, node, Discovery(node, directory, every_s=EVERY_S), server.sent)
        kits.append(kit)
        for agent_id in known:
            await kit.webhook(agent_id)
        yield kit


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what comes over sockets, where trio's own time may stand still."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        await trio.lowlevel.checkpoint()
