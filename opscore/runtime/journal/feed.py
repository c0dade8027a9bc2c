"""Waiting for commits: the journal wakes listeners after the commit that they wait for."""

import contextlib
from collections.abc import Iterator

import trio

from opscore.runtime.errors import NotReady
from opscore.runtime.journal.tables import AGENTS, LEASES, OPEN_SESSIONS
from opscore.runtime.store import Delete, Submission

_ENDS = frozenset({LEASES.name, OPEN_SESSIONS.name})
"""Tables in which only the deletion of a row wakes listeners; in others, any change does."""


class Feed:
    """Events ("bells") by row: a commit that changes the row rings its bells, and the listeners read the rows."""

    def __init__(self) -> None:
        self._bells: dict[tuple[str, bytes], set[trio.Event]] = {}
        self._listeners = 0
        self._next_commit = trio.Event()
        self._closed: str | None = None

    def publish(self, submission: Submission) -> None:
        """Ring the bells of each session that a submission ends, and of each agent that it changes or frees."""
        if not self._bells:
            return
        for write in submission.writes:
            if isinstance(write, Delete) or write.table not in _ENDS:
                for bell in self._bells.pop((write.table, write.key), ()):
                    bell.set()

    def committed(self) -> None:
        """Wake those who wait for any commit."""
        if self._next_commit.statistics().tasks_waiting:
            self._next_commit.set()
            self._next_commit = trio.Event()

    async def next_commit(self) -> bool:
        """Wait for the next commit. Returns `True`, so that a caller can tell this from a wait that was given up.

        Raises:
            NotReady: the node has stopped, so there will be none.
        """
        self._refuse_closed()
        await self._next_commit.wait()
        self._refuse_closed()
        return True

    def listen(self, session_id: str) -> contextlib.AbstractContextManager[trio.Event]:
        """Return a context with a bell for a session's end. Enter it before reading the rows, so as to miss nothing.

        Raises:
            NotReady: the node has stopped.
        """
        return self._hung_up((OPEN_SESSIONS.name, session_id.encode()))

    def listen_to_agent(self, agent_id: str) -> contextlib.AbstractContextManager[trio.Event]:
        """Return a context with a bell for changes of an agent's row, and for the end of its lease.

        Raises:
            NotReady: the node has stopped.
        """
        key = agent_id.encode()
        return self._hung_up((AGENTS.name, key), (LEASES.name, key))

    @contextlib.contextmanager
    def _hung_up(self, *places: tuple[str, bytes]) -> Iterator[trio.Event]:
        self._refuse_closed()
        bell = trio.Event()
        for place in places:
            self._bells.setdefault(place, set()).add(bell)
        self._listeners += 1
        try:
            yield bell
        finally:
            self._listeners -= 1
            for place in places:
                bells = self._bells.get(place, set())
                bells.discard(bell)
                if not bells:
                    self._bells.pop(place, None)

    def close(self, reason: str) -> None:
        """Ring every bell, and refuse every listener from now on, because nothing will be committed any more."""
        self._closed = reason
        self._next_commit.set()
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    def _refuse_closed(self) -> None:
        if self._closed is not None:
            raise NotReady(self._closed)

    def statistics(self) -> int:
        """Return how many listeners wait."""
        return self._listeners
