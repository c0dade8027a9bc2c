"""Who waits for what to become durable: woken by the journal, after the commit."""

import contextlib
from collections.abc import Iterator

import trio

from opscore.runtime.store import Delete, Submission
from opscore.runtime.tables import OPEN_SESSIONS


class Feed:
    """Bells by session. A bell rings when a commit ends its session; then its listener reads the rows."""

    def __init__(self) -> None:
        self._bells: dict[bytes, set[trio.Event]] = {}
        self._next_commit = trio.Event()

    def publish(self, submission: Submission) -> None:
        """Ring for each session that a submission has taken from the unfinished ones."""
        if not self._bells:
            return
        for write in submission.writes:
            if isinstance(write, Delete) and write.table == OPEN_SESSIONS.name:
                for bell in self._bells.pop(write.key, ()):
                    bell.set()

    def committed(self) -> None:
        """Ring for whoever waits for any commit."""
        if self._next_commit.statistics().tasks_waiting:
            self._next_commit.set()
            self._next_commit = trio.Event()

    async def next_commit(self) -> bool:
        """Wait for a commit that comes after now; answers `True`, so that a wait that was given up can be told."""
        await self._next_commit.wait()
        return True

    @contextlib.contextmanager
    def listen(self, session_id: str) -> Iterator[trio.Event]:
        """Hang up a bell before reading the rows, so that nothing slips between the look and the wait."""
        bell, key = trio.Event(), session_id.encode()
        self._bells.setdefault(key, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells.get(key)
            if bells is not None:
                bells.discard(bell)
                if not bells:
                    del self._bells[key]

    def statistics(self) -> int:
        """How many listeners wait."""
        return sum(len(bells) for bells in self._bells.values())
