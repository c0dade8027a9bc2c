"""Wall time and seeded randomness, so that a simulated system owns both."""

from __future__ import annotations

import random
import time
from typing import Protocol

import trio


class Clock(Protocol):
    """Where a system takes its wall time and its randomness from."""

    random: random.Random
    """Where jitter comes from."""

    def now(self) -> float:
        """Return the wall time in Unix seconds."""
        ...


class SystemClock:
    """The machine's wall time, and randomness seeded by the operating system unless a seed is given."""

    def __init__(self, seed: int | None = None) -> None:
        # Jitter and tie-breaking need no secrecy, but they must be repeatable under a seed.
        self.random = random.Random(seed)

    def now(self) -> float:
        """Return the machine's wall time in Unix seconds."""
        return time.time()


class VirtualClock:
    """Wall time that follows trio's clock, for worlds whose time is simulated.

    Create it inside `trio.run`: its epoch is the moment of creation.
    """

    def __init__(self, epoch_s: float = 1_700_000_000.0, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self._offset_s = epoch_s - trio.current_time()

    def now(self) -> float:
        """Return the epoch plus the trio time that passed since creation, in seconds."""
        return self._offset_s + trio.current_time()

    def shift(self, seconds: float) -> None:
        """Set the wall clock forward, or back by negative seconds; trio's own goes on as it did."""
        self._offset_s += seconds
