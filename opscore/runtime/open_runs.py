"""The unfinished runs of a node: how many there are, and how many of them stand below each that was triggered."""

from collections import Counter
from collections.abc import Iterable


class OpenRuns:
    """Ids of runs; their actors may say more than once that they began, or ended."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._below: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ids)

    def update(self, session_ids: Iterable[str]) -> None:
        """Note that these are unfinished."""
        for session_id in session_ids:
            self.add(session_id)

    def add(self, session_id: str) -> None:
        """Note that a run is unfinished."""
        if session_id not in self._ids:
            self._ids.add(session_id)
            root = root_of(session_id)
            if root != session_id:
                self._below[root] += 1

    def discard(self, session_id: str) -> None:
        """Note that a run has ended, or never began."""
        if session_id in self._ids:
            self._ids.remove(session_id)
            root = root_of(session_id)
            if root != session_id:
                self._below[root] -= 1
                if not self._below[root]:
                    del self._below[root]

    def beside(self, session_id: str) -> int:
        """How many runs are unfinished below the one that was triggered, be it this one or one above it."""
        return self._below[root_of(session_id)]


def root_of(session_id: str) -> str:
    """The run that was triggered, of which one was begun: a run is named after the task that it is for."""
    return session_id.partition("-")[0]
