"""The server that is killed: the gateway on a real node, with failpoints and, if asked for, a planted bug.

`python -m tests.crash.server` loads everything, then waits for one line: a JSON object of the fields of `Orders`. It
says `listening PORT`, and `struck PHASE` right before a failpoint strikes.
"""

import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
from starlette.types import ASGIApp
from typed_settings import SecretStr

from opscore.gateway.keys.keys import KeyRing
from opscore.gateway.outbound import outbound
from opscore.gateway.outbound.contacts import ContactPolicy
from opscore.gateway.outbound.push import Push
from opscore.gateway.routes.app import build_app
from opscore.gateway.server import server
from opscore.gateway.server.server import Drain
from opscore.gateway.settings.config import Settings
from opscore.gateway.wire.requests import Gateway
from opscore.runtime.hosting import Guest
from opscore.runtime.journal.writer import ThreadWriter, Writer
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node, open_node
from opscore.runtime.store import Store
from tests.crash import bugs
from tests.crash.failpoints import FailingApp, FailingDelivery, FailingWriter, Failpoint, Moment, say

API_KEY: Final = "a-key-with-every-scope"
MAP_BYTES: Final = 256 * 1024**2
LIMITS: Final = Limits(sessions_open_max=150, unknown_outcome_lease_s=0.5, claim_grace_s=2.0)
"""Few open runs, so that none waits for long, and short timeouts for agents that show no life."""


@attrs.frozen(kw_only=True)
class Orders:
    """The orders that a server reads from its one line."""

    data: str
    moment: str | None = None
    after: int = 1
    delay_s: float = 0.0
    bug: str | None = None


def serve(orders: Orders) -> int:
    """Serve until killed, or told to stop."""
    failpoint = Failpoint(
        moment=None if orders.moment is None else Moment(orders.moment),
        after=orders.after,
        delay_s=orders.delay_s,
        say=lambda phase: say(f"struck {phase}"),
    )
    settings = Settings(data=Path(orders.data), api_key=SecretStr(API_KEY), port=0)
    keys = KeyRing(settings.data, configured=API_KEY)

    def build(guest: Guest[Node], drain: Drain) -> ASGIApp:
        drain.on_begin(guest.value.drain)
        return FailingApp(build_app(Gateway(guest=guest, drain=drain, keys=keys, settings=settings)), failpoint)

    return server.run(
        lambda: open_failing_node(settings, failpoint, orders.bug),
        build,
        port=settings.port,
        on_listening=lambda address: say(f"listening {address.port}"),
    )


@asynccontextmanager
async def open_failing_node(settings: Settings, failpoint: Failpoint, bug: str | None) -> AsyncIterator[Node]:
    """Open the node that the gateway serves, with its ports wrapped."""
    async with outbound.open_client() as client:
        way = bugs.planted_way(bug, Push(client, ContactPolicy(), timeout_s=settings.push_timeout_s))
        async with open_node(
            settings.data,
            ways=(FailingDelivery(way, failpoint),),
            limits=LIMITS,
            map_bytes=MAP_BYTES,
            make_writer=_writers(failpoint, bug),
        ) as node:
            failpoint.passed(Moment.RECOVERY_DONE)
            failpoint.recovering = False
            yield node


def _writers(failpoint: Failpoint, bug: str | None) -> Callable[[Store], Writer]:
    def make(store: Store) -> Writer:
        bugs.spoil_opened(bug, store)
        failpoint.passed(Moment.RECOVERY_BEGUN)
        return FailingWriter(bugs.planted_writer(bug, ThreadWriter(store), store), failpoint)

    return make


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    line = sys.stdin.readline()
    sys.exit(serve(Orders(**json.loads(line))) if line else 0)
