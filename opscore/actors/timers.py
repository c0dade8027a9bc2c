"""The timers of a system: one heap of deadlines, served by one task."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger("opscore.actors")
_SLACK = 128
"""The heap is swept when it has this many entries more than twice what the last sweep left."""


class Expiring(Protocol):
    """Something with a deadline."""

    done: bool

    def expire(self) -> None:
        """Act on the deadline; called at most once, and only if not `done`."""
        ...


class Timer:
    """A call at a later time, which can be cancelled."""

    __slots__ = ("_callback", "done")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.done = False
        """Whether the call was made or cancelled."""
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Cancel the call; no effect if it was made already."""
        self.done = True
        # The timer may stay in the heap for long, and must not keep the callback alive.
        self._callback = None

    def expire(self) -> None:
        """Make the call."""
        self.done = True
        assert self._callback is not None, "a cancelled timer does not expire"
        self._callback()


class Timers:
    """Deadlines in one heap, so that each costs a push and not a cancel scope.

    An entry that is done before its deadline stays in the heap until it reaches the top or a sweep removes it.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Expiring]] = []
        self._order = itertools.count().__next__
        self._now = trio.lowlevel.current_clock().current_time
        self._sweep_at = _SLACK
        self._scope = trio.CancelScope(deadline=math.inf)
        # A copy of the scope's deadline, which is cheaper to read.
        self._earliest = math.inf

    def add(self, delay_s: float, due: Expiring) -> None:
        """Expire something after a delay in seconds, unless it is done by then. Infinity means never.

        Raises:
            ValueError: The delay is NaN.
        """
        deadline = self._now() + delay_s
        if math.isnan(deadline):
            # NaN compares as neither before nor after any other deadline, which would break the heap's order.
            msg = f"a delay must be a number of seconds, not {delay_s!r}"
            raise ValueError(msg)
        heapq.heappush(self._heap, (deadline, self._order(), due))
        if deadline < self._earliest:
            self._earliest = self._scope.deadline = deadline
        if len(self._heap) > self._sweep_at:
            self._sweep()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call a function after a delay in seconds."""
        timer = Timer(callback)
        self.add(delay_s, timer)
        return timer

    def __len__(self) -> int:
        """Return the number of deadlines in the heap, including those already done."""
        return len(self._heap)

    async def run(self) -> None:
        """Serve deadlines until cancelled."""
        while True:
            self._earliest = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=self._earliest) as self._scope:
                await trio.sleep_forever()
            self._expire_due(self._now())

    def _expire_due(self, now: float) -> None:
        dues = []
        while self._heap and self._heap[0][0] <= now:
            dues.append(heapq.heappop(self._heap)[2])
        # Deadlines that these calls add wait for the next round, however early they are due.
        for due in dues:
            if due.done:
                continue
            try:
                due.expire()
            except Exception:
                # An error in one callback must not stop all other timers of the system.
                _LOGGER.exception("a timer raised")

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[2].done]
        heapq.heapify(self._heap)
        self._sweep_at = 2 * len(self._heap) + _SLACK
