"""A node behind a server: what `opscore serve` runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from opscore.gateway import outbound, server
from opscore.gateway.agentkit import AgentKit
from opscore.gateway.app import build_app
from opscore.gateway.config import Settings
from opscore.gateway.contacts import ContactPolicy
from opscore.gateway.keys import KeyRing
from opscore.gateway.protocol import ServerLimits
from opscore.gateway.push import Push
from opscore.gateway.requests import Gateway
from opscore.gateway.server import Address, Drain
from opscore.runtime.hosting import Guest
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node, open_node

if TYPE_CHECKING:
    from opscore.runtime.delivery import Delivery


def serve(settings: Settings, keys: KeyRing, on_listening: Callable[[Address], object]) -> int:
    """Serve until told to stop.

    Returns:
        the exit code.

    Raises:
        CannotListen: the address can't be listened on.
        StoreError: the data directory can't be opened, or a commit's outcome is unknown.
    """

    def build(guest: Guest[Node], drain: Drain) -> ASGIApp:
        drain.on_begin(guest.value.drain)
        return build_app(Gateway(guest=guest, drain=drain, keys=keys, settings=settings))

    return server.run(
        lambda: open_serving_node(settings),
        build,
        host=settings.host,
        port=settings.port,
        limits=server_limits(settings),
        on_listening=on_listening,
    )


@asynccontextmanager
async def open_serving_node(settings: Settings) -> AsyncIterator[Node]:
    """A node with the gateway's ways to agents: AgentKit for those that it introduced, then direct push."""
    async with outbound.open_client() as client:
        ways: list[Delivery] = []
        if settings.agentkit_api_url:
            ways.append(AgentKit(client, settings.agentkit_api_url, timeout_s=settings.push_timeout_s))
        ways.append(Push(client, ContactPolicy(settings.push_allow), timeout_s=settings.push_timeout_s))
        async with open_node(
            settings.data, ways=ways, limits=node_limits(settings), map_bytes=settings.map_bytes
        ) as node:
            yield node


def node_limits(settings: Settings) -> Limits:
    """What of the configuration concerns the node."""
    return Limits(
        lease_s=settings.lease_s, sessions_open_max=settings.sessions_open_max, agent_ttl_s=settings.agent_ttl_s
    )


def server_limits(settings: Settings) -> ServerLimits:
    """What of the configuration concerns the server."""
    return ServerLimits(
        header_bytes_max=settings.header_bytes_max,
        request_head_timeout_s=settings.request_head_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        drain_s=settings.drain_s,
    )
