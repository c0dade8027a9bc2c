"""The times of the events that invariants look at, by the node's wall clock, corrected when that is set."""

import math
from collections.abc import Callable


class Marks:
    """Times of the wall clock, which are shifted together with it when it is set.

    Args:
        now: returns the wall time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.opened_at = 0.0
        """When the current or last process began to open."""
        self.calm_since = 0.0
        """Since when the node has been undisturbed; in the future while it is disturbed."""
        self.full_until = 0.0
        """When the number of unfinished runs was last at its limit."""
        self.clock_moved_at = -math.inf
        """When the clock was last set."""
        self.froze_at = self.thawed_at = -math.inf
        """The beginning and the end of the last freeze."""
        self.touched: dict[str, float] = {}
        """When a commit last changed each agent, its lease, or each session."""
        self.granted: dict[str, float] = {}
        """When each agent got its current or last lease."""
        self.renewed: dict[str, float] = {}
        """When each agent's lease last began or was renewed."""
        self.claimed_at: dict[str, float] = {}
        """When an agent last claimed work."""
        self.heard: dict[str, float] = {}
        """When an agent last registered or reported."""
        self.gates_moved: dict[str, float] = {}
        """When a lease behind each gate last began or ended, by the gate's name."""
        self.begun: dict[str, list[float]] = {}
        """When the attempts behind each gate with a limit per interval began, by the gate's name."""

    def calm_for(self, seconds: float) -> bool:
        """Whether the node has been undisturbed for this long."""
        return self.now() - self.calm_since >= seconds

    def clock_moved_within(self, seconds: float) -> bool:
        """Whether the clock was set within the last seconds."""
        return self.now() - self.clock_moved_at < seconds

    def froze(self, seconds: float) -> None:
        """Note that a freeze of this length has just ended."""
        self.thawed_at = self.now()
        self.froze_at = self.thawed_at - seconds

    def shift(self, seconds: float) -> None:
        """Shift all times, because the clock was set forward, or back by negative seconds."""
        self.clock_moved_at = self.now()
        self.opened_at += seconds
        self.calm_since += seconds
        self.full_until += seconds
        self.froze_at += seconds
        self.thawed_at += seconds
        for noted in (self.touched, self.granted, self.renewed, self.claimed_at, self.heard, self.gates_moved):
            noted.update({name: at + seconds for name, at in noted.items()})
        for name, times in self.begun.items():
            self.begun[name] = [at + seconds for at in times]
