"""Measures how long the runs of a world took in virtual time, whatever the node's wall clock showed."""

from collections.abc import Callable
from typing import Final

from opscore.runtime.journal.tables import SESSIONS
from opscore.runtime.simulation.rows import Commit

_ROUNDING_S: Final = 1e-3
"""A bound on the rounding error of wall times, which are large numbers."""


class Durations:
    """Follows when runs begin and end, in virtual seconds.

    The times in a run's row are from the wall clock of the node's machine, which may be set at any time, even between
    the moment when a time is taken and its commit.

    Args:
        now: returns the wall time of that clock.
        elapsed: returns the virtual seconds since the beginning of the world.
    """

    def __init__(self, now: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        # Pairs of a virtual time and how far the wall clock has been ahead of virtual time since then, newest last.
        self._ahead = [(0.0, now() - elapsed())]
        self._began: dict[str, float] = {}
        self.of: dict[str, float] = {}
        """The duration of each run that has ended, by its id; for a retried run, until its last end."""

    def clock_moved(self, seconds: float) -> None:
        """Note that the wall clock was set forward, or back by negative seconds."""
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
        """Return the last virtual time at which the wall clock showed this time."""
        until = self._elapsed()
        for since, ahead in reversed(self._ahead):
            virtual = at - ahead
            if since - _ROUNDING_S <= virtual <= until + _ROUNDING_S:
                return min(virtual, until)
            until = since
        return self._elapsed()
