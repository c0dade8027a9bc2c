"""The unfinished runs of a node: how many there are, and how many of them are below each triggered run."""

from collections import Counter
from collections.abc import Iterable


class OpenRuns:
    """The ids of unfinished runs. Adding and discarding are idempotent, because actors may report both repeatedly."""

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
        """Return how many runs are unfinished below the triggered run that this one belongs to, or is."""
        return self._below[root_of(session_id)]


def root_of(session_id: str) -> str:
    """Return the id of the triggered run that a run belongs to; the id of a child run begins with that of its task."""
    return session_id.partition("-")[0]
