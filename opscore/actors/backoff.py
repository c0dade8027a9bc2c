"""How long to wait before the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from random import Random


@attrs.frozen(kw_only=True)
class Backoff:
    """Exponential backoff with jitter.

    The jittered form is "full jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015), scaled by `jitter`.
    """

    initial_s: float = attrs.field(default=0.1, validator=attrs.validators.ge(0.0))
    """Ceiling of the first delay, in seconds."""
    coefficient: float = attrs.field(default=2.0, validator=attrs.validators.ge(1.0))
    """Factor from one ceiling to the next."""
    max_s: float = attrs.field(default=30.0, validator=attrs.validators.ge(0.0))
    """No ceiling is above this, in seconds; whoever ran this long without failing starts afresh."""
    jitter: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)])
    """Share of the ceiling that is random: 1.0 draws from the whole of it, 0.0 from nothing."""

    def ceiling_s(self, failures: int) -> float:
        """Return the longest delay after that many failures in a row, in seconds.

        Args:
            failures: Failures in a row, counted from 1.
        """
        assert failures >= 1, "failures are counted from 1"
        try:
            grown = self.initial_s * self.coefficient ** (failures - 1)
        except OverflowError:
            # A zero initial delay stays zero however often it is doubled.
            grown = self.max_s if self.initial_s else 0.0
        return min(grown, self.max_s)

    def delay_s(self, failures: int, random: Random) -> float:
        """Return the delay to wait after that many failures in a row, in seconds.

        Args:
            failures: Failures in a row, counted from 1.
            random: Where the jitter comes from.
        """
        ceiling_s = self.ceiling_s(failures)
        return ceiling_s * (1.0 - self.jitter * random.random())
