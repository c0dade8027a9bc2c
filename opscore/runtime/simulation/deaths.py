"""When the process dies or stands still: between any two steps, also as it opens; and whether time goes on at all."""

from collections.abc import Callable
from typing import Final

import trio

from opscore.runtime.simulation.faults import Dice

TURNS_LOOKED_AT: Final = 2_000
TURNS_AT_ONCE_MAX: Final = 60_000
"""More than thousands of agents' actors get at one moment; a world of a dozen that does so stands still."""
_FREEZES: Final = "machine_freezes"
_OPENING: Final = ("process_dies_in_recovery", _FREEZES)
_OPEN: Final = ("process_dies", "process_restarts", _FREEZES)
BETWEEN_STEPS: Final = frozenset({*_OPENING, *_OPEN})
"""The faults that come between two steps."""


class Deaths(trio.abc.Instrument):
    """Counts the steps of every task until the one before which the process is gone."""

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
        """Learn whose process it is.

        Args:
            dice: when it dies.
            die: kills it; told what share of the batch under way is on the disk.
            stop: stops it in order.
            freeze: has it do nothing for a while.
            stands_still: told how many turns actors had at one moment, where that is more than anything needs.
        """
        self._dice, self._die, self._stop, self._freeze, self._stands_still = dice, die, stop, freeze, stands_still

    def begin(self, *, opening: bool) -> None:
        """A process opens, or is open."""
        self._left = self._drawn(_OPENING if opening else _OPEN)

    def _drawn(self, names: tuple[str, ...]) -> dict[str, int]:
        drawn = {name: self._dice.steps_until(name) for name in names}
        return {name: steps for name, steps in drawn.items() if steps is not None}

    def pause(self) -> None:
        """There is no process."""
        self._left = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
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
        """An actor gets its turn."""
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
        # Mostly the batch under way is there as a whole or not at all; several commits may be there in part.
        self._die(rng.choice((0.0, 0.0, 1.0, 1.0, rng.random())))
