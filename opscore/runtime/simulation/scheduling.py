"""The order in which things happen, drawn from a seed: trio's tasks, and the actors that wait for their turn.

trio shuffles the tasks of each pass, and can do so by a seed, but has no public name for that: it is reached for here
and nowhere else. Time is virtual and jumps when nothing is left to do, so hours pass in milliseconds; for the same
reason nothing in a simulation may use a thread, whose work the clock would take for idleness.
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
    """Actors that wait for their turn, and get it in the order of a seed.

    Args:
        rng: who is next.
        counted: told of each turn.
    """

    def __init__(self, rng: random.Random, counted: Callable[[], None]) -> None:
        super().__init__()
        self._rng = rng
        self._counted = counted

    def popleft(self) -> Runnable:
        """Take any of them."""
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
        async_fn: what to run.
        seed: of the order.
        instruments: told of every step.
    """
    with ordered_by(seed):
        return trio.run(async_fn, clock=MockClock(autojump_threshold=0), instruments=list(instruments))


def stand_still(seconds: float) -> None:
    """Let time pass in which nobody does anything: what was to happen meanwhile happens afterwards."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock), "time is virtual here"
    clock.jump(seconds)


@contextlib.contextmanager
def ordered_by(seed: int | str) -> Iterator[None]:
    """Have trio draw its order from the seed for as long as the block lasts, and keep the runtime's log quiet.

    A simulation makes errors by the thousand, on purpose; what matters of them stands in its history.
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
