"""Following the journal: every committed record once, in order.

A follower holds nothing but its place. It reads a page of records from the store, and if there are none, it waits for
the next commit. So a slow follower costs no memory, delays no one and misses nothing.
"""

import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Self

import attrs

from opscore.runtime.errors import RecordsGone
from opscore.runtime.journal.tables import JOURNAL_TRIMMED, MARKS, RECORDS, sequence_key
from opscore.runtime.models import Record
from opscore.runtime.store import JOURNAL_TABLE, Snapshot, Store

PAGE: Final = 256
"""Records that are read at a time."""


@attrs.frozen(kw_only=True)
class JournalEntry:
    """A record of the journal, and the sequence number of its commit."""

    sequence: int
    """The sequence number; each record has one of its own, higher than those before it."""
    record: Record
    """The record."""


class Follower:
    """An asynchronous iterator over the records after a sequence number. It may be dropped at any time.

    Args:
        store: where the records are.
        after: the sequence number of the newest record that the caller already has; 0 for all.
        next_commit: waits for a commit; returns `False` when there will be no more.
        check: is called before each step, and raises if the step is not allowed.
    """

    def __init__(
        self, store: Store, *, after: int, next_commit: Callable[[], Awaitable[bool]], check: Callable[[], None]
    ) -> None:
        self._store = store
        self._next_commit = next_commit
        self._check = check
        self._page: deque[JournalEntry] = deque()
        self._read_to = after
        self.after = after
        """The sequence number of the newest record that it returned, after which another follower can continue."""

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> JournalEntry:
        """Wait for the next record.

        Raises:
            RecordsGone: retention has removed records that the follower has not read yet.
            StoreDamaged: the record is not what was written.
        """
        self._check()
        while not self._page:
            with self._store.snapshot() as view:
                self._page += self._next_page(view)
            if not self._page and not await self._next_commit():
                raise StopAsyncIteration
        entry = self._page.popleft()
        self.after = entry.sequence
        return entry

    def _next_page(self, view: Snapshot) -> list[JournalEntry]:
        trimmed = trimmed_to(view)
        if self._read_to < trimmed:
            raise RecordsGone(after=self._read_to, oldest=trimmed + 1)
        lines = itertools.islice(view.scan(JOURNAL_TABLE, after=sequence_key(self._read_to)), PAGE)
        page = [JournalEntry(sequence=stored.version, record=RECORDS.decode(key, stored)) for key, stored in lines]
        # An empty page means that there are no records up to the newest commit, which may have none of its own.
        self._read_to = page[-1].sequence if page else max(self._read_to, view.last_sequence())
        return page


def trimmed_to(view: Snapshot) -> int:
    """Return the sequence number up to which retention has removed records; 0 if it has removed none."""
    mark = MARKS.read(view, JOURNAL_TRIMMED).row
    return 0 if mark is None else mark.sequence
