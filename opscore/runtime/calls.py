"""What every call on a node stands on: the core, a snapshot to read, and the node's readiness."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from opscore.runtime.core import Core, open_nursery
from opscore.runtime.local import LocalAgents
from opscore.runtime.store import Snapshot

ResultT = TypeVar("ResultT")


class Calls:
    """The base of a node's calls."""

    def __init__(self, core: Core, local: LocalAgents) -> None:
        self._core = core
        self._local = local
        self._drained = trio.Event()
        self._not_ready: str | None = None

    def _read(self, read: Callable[[Snapshot], ResultT]) -> ResultT:
        with self._core.store.snapshot() as view:
            return read(view)

    async def unless_draining(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Do the work, but cancel it once the node drains, and answer nothing then."""
        result: ResultT | None = None
        async with open_nursery() as nursery:

            async def give_up() -> None:
                await self._drained.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            result = await work()
            nursery.cancel_scope.cancel()
        return result
