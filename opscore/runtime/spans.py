"""How much was left of a time when it was heard of, by trio's clock, which nobody sets."""

import attrs
import trio


@attrs.frozen
class Span:
    """What was left of a time."""

    left_s: float
    at: float
    """When so much was left, by trio's clock."""

    @classmethod
    def until(cls, until: float, now: float) -> "Span":
        """What is left now of a time that ends at a time of the wall clock, which shows `now`."""
        return cls(until - now, trio.current_time())

    def now_left_s(self, stood_still_s: float = 0.0) -> float:
        """What is left of it, where for so long of the time since the node did nothing."""
        return self.left_s - max(0.0, trio.current_time() - self.at - stood_still_s)
