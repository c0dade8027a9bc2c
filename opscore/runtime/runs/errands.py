"""What a session's actor does beside its mailbox: each errand is tried until it succeeds.

An errand that is lost with its actor is rebuilt from rows.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from opscore.actors.actor import Context
from opscore.actors.errors import ActorError
from opscore.runtime.errors import Refusal, StoreError

AT_ONCE: Final = 32
"""Errands of one run at a time; it may wait for thousands of child runs."""
AGAIN_S: Final = 1.0
"""How long to wait before an errand is tried again."""


@attrs.define
class Errands:
    """The errands of one run.

    Args:
        has_room: returns whether the node has room for many of them; else each run has one at a time.
    """

    _has_room: Callable[[], bool]
    _waiting: deque[Callable[[], Awaitable[None]]] = attrs.field(factory=deque, init=False)
    under_way: int = attrs.field(default=0, init=False)
    """How many are done at the moment."""

    def add(self, context: Context[Any], errand: Callable[[], Awaitable[None]], on_rest: Callable[[], None]) -> None:
        """Do something beside the mailbox, until it succeeds.

        Args:
            context: the actor's; it is not kept, nor is `on_rest`, because the actor keeps its errands.
            errand: what to do.
            on_rest: called whenever fewer errands are done than before.
        """
        self._waiting.append(errand)
        # Each takes a trio task, so one has to do while the node begins as many runs as it may.
        if self.under_way < (AT_ONCE if self._has_room() else 1):
            self.under_way += 1
            context.start_soon(self._run, context, on_rest)

    async def _run(self, context: Context[Any], on_rest: Callable[[], None]) -> None:
        try:
            while self._waiting:
                errand = self._waiting.popleft()
                try:
                    await errand()
                except (StoreError, Refusal, ActorError) as error:
                    context.log.warning("a step for a child run is tried again in %g s: %s", AGAIN_S, error)
                    self._waiting.append(errand)
                    await trio.sleep(AGAIN_S)
        finally:
            self.under_way -= 1
            on_rest()
