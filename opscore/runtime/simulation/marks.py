"""When what invariants look at last happened, by the wall clock of the node, and as long ago when that is set."""

import math
from collections.abc import Callable


class Marks:
    """Times of the wall clock, which stay as long ago as they are when it is set.

    Args:
        now: wall time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.opened_at = 0.0
        """When the process that runs, or ran last, began to open."""
        self.calm_since = 0.0
        """Since when the node runs undisturbed; in the future while it is disturbed."""
        self.full_until = 0.0
        """When as many runs as may be were last unfinished."""
        self.clock_moved_at = -math.inf
        """When the clock was last set."""
        self.froze_at = self.thawed_at = -math.inf
        """When everything last stood still, from when on and until when."""
        self.touched: dict[str, float] = {}
        """When a commit last changed something of an agent or its lease, or of a session."""
        self.granted: dict[str, float] = {}
        """When each agent got the lease that it holds, or held last."""
        self.renewed: dict[str, float] = {}
        """When each agent last got its full lease, by being given an attempt or showing life."""
        self.claimed_at: dict[str, float] = {}
        """When an agent last said by a claim that it is idle."""
        self.heard: dict[str, float] = {}
        """When an agent last registered or reported."""
        self.gates_moved: dict[str, float] = {}
        """When a lease behind a gate last came or went, by its name."""
        self.begun: dict[str, list[float]] = {}
        """When attempts behind a gate began, of those that may begin only so often."""

    def calm_for(self, seconds: float) -> bool:
        """Whether the node has run undisturbed for so long."""
        return self.now() - self.calm_since >= seconds

    def clock_moved_within(self, seconds: float) -> bool:
        """Whether the clock was set so lately."""
        return self.now() - self.clock_moved_at < seconds

    def froze(self, seconds: float) -> None:
        """Everything stood still for so long, and goes on now."""
        self.thawed_at = self.now()
        self.froze_at = self.thawed_at - seconds

    def shift(self, seconds: float) -> None:
        """The clock was set, forward or back by negative seconds."""
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
