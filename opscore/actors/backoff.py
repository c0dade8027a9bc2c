"""Exponential backoff: how long to wait before the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from random import Random


@attrs.frozen(kw_only=True)
class Backoff:
    """Exponential backoff with jitter.

    With `jitter` 1.0 it is the "full jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015).
    """

    initial_s: float = attrs.field(default=0.1, validator=attrs.validators.ge(0.0))
    """Ceiling of the first delay, in seconds."""
    coefficient: float = attrs.field(default=2.0, validator=attrs.validators.ge(1.0))
    """Factor by which the ceiling grows with each failure."""
    max_s: float = attrs.field(default=30.0, validator=attrs.validators.ge(0.0))
    """Upper limit of the ceilings, in seconds. An actor that runs this long without failing starts afresh."""
    jitter: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)])
    """Random share of the delay: with 1.0 it is drawn from 0 to the ceiling, with 0.0 it is always the ceiling."""

    def ceiling_s(self, failures: int) -> float:
        """Return the ceiling of the delay, in seconds.

        Args:
            failures: Failures in a row, counted from 1.
        """
        assert failures >= 1, "failures are counted from 1"
        try:
            grown = self.initial_s * self.coefficient ** (failures - 1)
        except OverflowError:
            # An initial delay of zero stays zero, however often it is multiplied.
            grown = self.max_s if self.initial_s else 0.0
        return min(grown, self.max_s)

    def delay_s(self, failures: int, random: Random) -> float:
        """Return the delay before the next attempt, in seconds.

        Args:
            failures: Failures in a row, counted from 1.
            random: Source of the jitter.
        """
        ceiling_s = self.ceiling_s(failures)
        return ceiling_s * (1.0 - self.jitter * random.random())
