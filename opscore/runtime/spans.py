"""The time that is left until a deadline, measured by trio's monotonic clock, which no change of the time affects."""

import attrs
import trio


@attrs.frozen
class Span:
    """The seconds that were left until a deadline at one moment."""

    left_s: float
    at: float
    """That moment, by trio's clock."""

    @classmethod
    def until(cls, until: float, now: float) -> "Span":
        """Return the span from now until a time of the wall clock, which currently shows `now`."""
        return cls(until - now, trio.current_time())

    def now_left_s(self, stood_still_s: float = 0.0) -> float:
        """Return the seconds that are left now, not counting the seconds during which the node stood still."""
        return self.left_s - max(0.0, trio.current_time() - self.at - stood_still_s)
