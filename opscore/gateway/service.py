"""A node behind a server, as `opscore serve` runs it."""

import contextlib
import logging
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
from starlette.types import ASGIApp

from opscore.gateway.agentkit.agentkit import AgentKit
from opscore.gateway.agentkit.discovery import AgentKitDirectory, Discovery
from opscore.gateway.keys.keys import KeyRing
from opscore.gateway.outbound import outbound
from opscore.gateway.outbound.contacts import ContactPolicy
from opscore.gateway.outbound.push import Push
from opscore.gateway.routes.app import build_app
from opscore.gateway.server import server
from opscore.gateway.server.protocol import ServerLimits
from opscore.gateway.server.server import Address, Drain
from opscore.gateway.settings.config import Settings
from opscore.gateway.settings.dispatch_settings import limits_by_kind
from opscore.gateway.wire.checks import Rules
from opscore.gateway.wire.requests import Gateway
from opscore.runtime.core import open_nursery
from opscore.runtime.hosting import Guest
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node, open_node

if TYPE_CHECKING:
    from opscore.runtime.delivery import Delivery

FILES_RESERVED: Final = 256
"""File descriptors for other things than clients' connections: the store, the listener, the first pushes."""

_log = logging.getLogger(__name__)


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
        limits=within_files(server_limits(settings)),
        on_listening=on_listening,
    )


@asynccontextmanager
async def open_serving_node(settings: Settings) -> AsyncIterator[Node]:
    """Open a node that reaches agents through AgentKit, if it introduced them, and else by direct push.

    If there is an AgentKit, its list of agents is fetched at intervals until the node drains.
    """
    contacts = ContactPolicy(settings.push_allow)
    async with outbound.open_client() as client:
        ways: list[Delivery] = []
        if settings.agentkit_api_url:
            ways.append(AgentKit(client, settings.agentkit_api_url, timeout_s=settings.push_timeout_s))
        ways.append(Push(client, contacts, timeout_s=settings.push_timeout_s))
        async with (
            open_node(settings.data, ways=ways, limits=node_limits(settings), map_bytes=settings.map_bytes) as node,
            open_nursery() as nursery,
        ):
            if settings.agentkit_api_url and settings.agentkit_poll_s:
                rules = Rules(limits=node.limits, contacts=contacts)
                directory = AgentKitDirectory(client, settings.agentkit_api_url, rules)
                nursery.start_soon(Discovery(node, directory, every_s=settings.agentkit_poll_s).run)
            yield node
            nursery.cancel_scope.cancel()


def node_limits(settings: Settings) -> Limits:
    """The node's part of the configuration."""
    limited = limits_by_kind(settings.dispatch_limits)
    return Limits(
        capability_limits=limited["capability"],
        workflow_limits=limited["workflow"],
        lease_s=settings.lease_s,
        sessions_open_max=settings.sessions_open_max,
        runs_below_max=settings.runs_below_max,
        sessions_keep_s=settings.sessions_keep_s,
        sessions_ended_max=settings.sessions_ended_max,
        records_keep_s=settings.records_keep_s,
        records_max=settings.records_max,
        agent_ttl_s=settings.agent_ttl_s,
    )


def server_limits(settings: Settings) -> ServerLimits:
    """The server's part of the configuration."""
    return ServerLimits(
        connections_max=settings.connections_max,
        header_bytes_max=settings.header_bytes_max,
        request_head_timeout_s=settings.request_head_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        drain_s=settings.drain_s,
    )


def within_files(limits: ServerLimits) -> ServerLimits:
    """Raise the limit on open files as far as the connections need, or accept fewer connections and log that.

    A connection beyond the limit gets its 503. A file beyond the limit would hit whatever opens the next one: the
    store, or a push to an agent, which would then look unreachable.
    """
    reserved = FILES_RESERVED + limits.refusals_max
    # Twice as many, if the system allows that: the other half is for pushes to agents.
    possible = _files(2 * limits.connections_max + reserved) - reserved
    if possible >= limits.connections_max:
        return limits
    possible = max(1, possible)
    _log.warning(
        "%d connections are possible, fewer than connections_max = %d: the limit on open files (ulimit -n) is too low",
        possible,
        limits.connections_max,
    )
    return attrs.evolve(limits, connections_max=possible)


def _files(wanted: int) -> int:
    """Raise the limit on open files towards the wanted number, as far as allowed; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < raised:
        # Some systems report an infinite hard limit, but enforce a lower one.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == resource.RLIM_INFINITY else soft
