"""Draws the order of events from a seed: that of trio's tasks, and that of the actors that wait for their turn.

trio shuffles the tasks of each pass, and can do so by a seed, but has no public API for that; only this module uses the
private one. Time is virtual and jumps when nothing is left to do, so hours pass in milliseconds. Therefore nothing in a
simulation may use a thread, because the clock would take its work for idleness.
"""

import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

import trio
from trio.testing import MockClock

from opscore.actors.scheduler import Runnable

ResultT = TypeVar("ResultT")

_RUN: Final = trio._core._run  # noqa: SLF001 (there is no public way to trio's order)


class ShuffledTurns(deque[Runnable]):
    """A queue of the actors that wait for their turn, which takes them in random order.

    Args:
        rng: draws the next actor.
        counted: called at each turn.
    """

    def __init__(self, rng: random.Random, counted: Callable[[], None]) -> None:
        super().__init__()
        self._rng = rng
        self._counted = counted

    def popleft(self) -> Runnable:
        """Remove and return any actor."""
        self._counted()
        if len(self) > 1:
            self.rotate(self._rng.randrange(len(self)))
        return super().popleft()


def run(
    async_fn: Callable[[], Awaitable[ResultT]],
    *,
    seed: int | str,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> ResultT:
    """Run an async function under virtual time, in an order drawn from the seed.

    Args:
        async_fn: the function to run.
        seed: the seed of the order.
        instruments: trio instruments, which are called at every step.
    """
    with ordered_by(seed):
        return trio.run(async_fn, clock=MockClock(autojump_threshold=0), instruments=list(instruments))


def stand_still(seconds: float) -> None:
    """Let time pass without running any task; what was due meanwhile happens afterwards."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock), "time is virtual here"
    clock.jump(seconds)


@contextlib.contextmanager
def ordered_by(seed: int | str) -> Iterator[None]:
    """Make trio draw its order from the seed within the block, and silence the runtime's log.

    A simulation causes thousands of errors on purpose; those that matter are in its history.
    """
    log = logging.getLogger("opscore")
    before = (_RUN._ALLOW_DETERMINISTIC_SCHEDULING, _RUN._r, log.disabled, log.level)  # noqa: SLF001
    _RUN._ALLOW_DETERMINISTIC_SCHEDULING, _RUN._r = True, random.Random(f"{seed}/order")  # type: ignore[misc] # noqa: SLF001
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        _RUN._ALLOW_DETERMINISTIC_SCHEDULING, _RUN._r = before[:2]  # type: ignore[misc] # noqa: SLF001
        log.setLevel(before[3])
