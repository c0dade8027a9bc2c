"""A trio run that goes on only while it is pumped, for drivers of a world that are not coroutines.

It is a guest run under virtual time whose host is a queue. Between two ticks nothing happens and no time passes. A tick
with nothing to do makes time jump to the next deadline, so it is only run when that is wanted.
"""

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.testing import MockClock

if TYPE_CHECKING:
    import outcome

STANDSTILL_TICKS: Final = 200_000
"""The number of ticks without any time passing after which the run counts as stuck."""


class PumpedRun:
    """A run of an async function, under its own clock.

    It begins at once, and has to be pumped to its end, because trio allows one run per thread.

    Args:
        async_fn: the function to run.
        instruments: trio instruments, which are called at every step.
    """

    def __init__(
        self, async_fn: Callable[[], Awaitable[Any]], *, instruments: Sequence[trio.abc.Instrument] = ()
    ) -> None:
        self._ticks: deque[Callable[[], object]] = deque()
        self._thread = threading.get_ident()
        self._strayed = False
        self._outcome: outcome.Outcome[Any] | None = None
        self._clock = MockClock(autojump_threshold=0)
        trio.lowlevel.start_guest_run(
            async_fn,
            run_sync_soon_threadsafe=self._soon,
            run_sync_soon_not_threadsafe=self._ticks.append,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
            clock=self._clock,
            instruments=list(instruments),
        )

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._outcome is not None

    def pump(self, until: Callable[[], bool]) -> None:
        """Let the run go on until a condition holds, or the run ends.

        Raises:
            BaseException: the exception with which the run ended.
        """
        still, before = 0, self._clock.current_time()
        while not until():
            if self._outcome is not None:
                self._outcome.unwrap()
                return
            # With an autojump threshold of 0, trio polls for I/O inline; otherwise it would wait in a thread.
            assert self._ticks, "the run waits for a thread"
            assert not self._strayed, "a thread took part in the run"
            self._ticks.popleft()()
            now = self._clock.current_time()
            still, before = (still + 1, now) if now == before else (0, now)
            assert still < STANDSTILL_TICKS, "the run goes on and on at one moment"

    def _soon(self, tick: Callable[[], object]) -> None:
        if threading.get_ident() != self._thread:
            self._strayed = True
            raise RuntimeError("a simulation uses no threads")
        self._ticks.append(tick)

    def _done(self, result: "outcome.Outcome[Any]") -> None:
        self._outcome = result
