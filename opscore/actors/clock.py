"""Wall time and randomness, which a simulated system replaces with its own."""

from __future__ import annotations

import random
import time
from typing import Protocol

import trio


class Clock(Protocol):
    """A system's source of wall time and randomness."""

    random: random.Random
    """The source of jitter."""

    def now(self) -> float:
        """Return the wall time in Unix seconds."""
        ...


class SystemClock:
    """The machine's wall time, and randomness that the operating system seeds unless a seed is given."""

    def __init__(self, seed: int | None = None) -> None:
        # Jitter and tie-breaking need no cryptographic randomness, but must be repeatable with a seed.
        self.random = random.Random(seed)

    def now(self) -> float:
        """Return the machine's wall time in Unix seconds."""
        return time.time()


class VirtualClock:
    """Wall time that follows trio's clock, for simulated time.

    Create it inside `trio.run`: the moment of creation is `epoch_s`.
    """

    def __init__(self, epoch_s: float = 1_700_000_000.0, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self._offset_s = epoch_s - trio.current_time()

    def now(self) -> float:
        """Return `epoch_s` plus the trio time that has passed since creation, in seconds."""
        return self._offset_s + trio.current_time()

    def shift(self, seconds: float) -> None:
        """Set the wall clock forward, or back if `seconds` is negative; trio's clock does not change."""
        self._offset_s += seconds
