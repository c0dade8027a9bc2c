"""Decides between which steps the process dies or freezes, even while it opens, and notices when time stands still."""

from collections.abc import Callable
from typing import Final

import trio

from opscore.runtime.simulation.faults import Dice

TURNS_LOOKED_AT: Final = 2_000
TURNS_AT_ONCE_MAX: Final = 60_000
"""More turns than the actors of thousands of agents take at one moment; a small world that takes them is stuck."""
_FREEZES: Final = "machine_freezes"
_OPENING: Final = ("process_dies_in_recovery", _FREEZES)
_OPEN: Final = ("process_dies", "process_restarts", _FREEZES)
BETWEEN_STEPS: Final = frozenset({*_OPENING, *_OPEN})
"""The faults that happen between two steps."""


class Deaths(trio.abc.Instrument):
    """Counts the steps of all tasks until the one before which the process dies."""

    def __init__(self) -> None:
        self._dice: Dice
        self._die: Callable[[float], None]
        self._stop: Callable[[], None]
        self._freeze: Callable[[], None]
        self._stands_still: Callable[[int], None]
        self._left: dict[str, int] = {}
        self._turns = 0
        self._moved_at = 0
        self._time = 0.0

    def bind(
        self,
        dice: Dice,
        die: Callable[[float], None],
        stop: Callable[[], None],
        freeze: Callable[[], None],
        stands_still: Callable[[int], None],
    ) -> None:
        """Set the process that this instrument acts on.

        Args:
            dice: decides when it dies.
            die: kills the process; called with the share of the batch in progress that is on the disk.
            stop: stops the process gracefully.
            freeze: freezes the machine for a while.
            stands_still: called with the number of turns at one moment if it is impossibly high.
        """
        self._dice, self._die, self._stop, self._freeze, self._stands_still = dice, die, stop, freeze, stands_still

    def begin(self, *, opening: bool) -> None:
        """Draw the faults of a process that is opening, or that has opened."""
        self._left = self._drawn(_OPENING if opening else _OPEN)

    def _drawn(self, names: tuple[str, ...]) -> dict[str, int]:
        drawn = {name: self._dice.steps_until(name) for name in names}
        return {name: steps for name, steps in drawn.items() if steps is not None}

    def pause(self) -> None:
        """Cause no faults until the next process begins."""
        self._left = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step, and cause the fault that is due before it, if any."""
        for name, left in self._left.items():
            if left <= 1:
                self._dice.count(name)
                if name == _FREEZES:
                    self._left |= self._drawn((name,))
                    self._freeze()
                else:
                    self._left = {}
                    self._end(name)
                return
            self._left[name] = left - 1

    def count_turn(self) -> None:
        """Count an actor's turn, and check now and then that time goes on."""
        self._turns += 1
        if self._turns % TURNS_LOOKED_AT:
            return
        now = trio.current_time()
        if now != self._time:
            self._time, self._moved_at = now, self._turns
        elif self._turns - self._moved_at > TURNS_AT_ONCE_MAX:
            self._moved_at = self._turns
            self._stands_still(TURNS_AT_ONCE_MAX)

    def _end(self, name: str) -> None:
        if name == "process_restarts":
            self._stop()
            return
        rng = self._dice.rng(name)
        # Mostly the batch in progress is on the disk as a whole or not at all, sometimes in part.
        self._die(rng.choice((0.0, 0.0, 1.0, 1.0, rng.random())))
