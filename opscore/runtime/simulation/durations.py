"""How long the runs of a world took by its own time, whatever the wall clock of the node showed meanwhile."""

from collections.abc import Callable
from typing import Final

from opscore.runtime.simulation.rows import Commit
from opscore.runtime.tables import SESSIONS

_ROUNDING_S: Final = 1e-3
"""Wall times are large numbers, whose last digits are less than this."""


class Durations:
    """Follows when runs begin and end, in virtual seconds.

    A run is stamped by the clock of the node's machine, which may be set at any time, also between a stamp and the
    commit that has it.

    Args:
        now: wall time, by that clock.
        elapsed: virtual seconds since the beginning of the world.
    """

    def __init__(self, now: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        # Since when the clock has been ahead of virtual time by how much; the newest comes last.
        self._ahead = [(0.0, now() - elapsed())]
        self._began: dict[str, float] = {}
        self.of: dict[str, float] = {}
        """How long each run took that has ended, by its id; of one that was tried again, to its last end."""

    def clock_moved(self, seconds: float) -> None:
        """The wall clock was set forward, or back."""
        self._ahead.append((self._elapsed(), self._ahead[-1][1] + seconds))

    def follow(self, commit: Commit) -> None:
        """Note the runs that a commit begins, ends, or begins anew."""
        for change in commit.of(SESSIONS.name):
            session = change.after
            if session is None:
                continue
            if change.before is None:
                self._began[change.key] = self._virtual(session.created_at)
            self.of.pop(change.key, None)
            if session.ended_at is not None:
                self.of[change.key] = max(0.0, self._virtual(session.ended_at) - self._began[change.key])

    def _virtual(self, at: float) -> float:
        """When it was that the wall clock showed a time, which was not long ago: the last time that it did."""
        until = self._elapsed()
        for since, ahead in reversed(self._ahead):
            virtual = at - ahead
            if since - _ROUNDING_S <= virtual <= until + _ROUNDING_S:
                return min(virtual, until)
            until = since
        return self._elapsed()
