"""The history of a run: its records in the journal, and the attempts that they describe.

The journal holds the records of all runs in the order of commits. Each record of a run names the run's commit before
it, so that reading backwards skips the records of other runs. If a record names none, the journal is scanned.
"""

from collections.abc import Iterable
from typing import Any, Final

import attrs

from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.following import JournalEntry
from opscore.runtime.journal.tables import OPEN_SESSIONS, RECORDS, SESSIONS, sequence_key, tasks_of
from opscore.runtime.models import Record, TaskStatus
from opscore.runtime.store import JOURNAL_TABLE, Snapshot
from opscore.runtime.views import SCANNED_MAX, Page, check_limit

_OWN: Final = frozenset({"session", "task", "signal"})
"""The entities of a run's own records; reports and heartbeats are records of its agents."""
CLOCK_BACK_S: Final = 3_600.0
"""How far the clock may be set back during a run for its first records to be found still."""
_DIGITS_MAX: Final = 18
_ENDS: Final = {
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.PENDING_RETRY: "failed",
    TaskStatus.READY: "requeued",
    TaskStatus.CANCELLED: "cancelled",
}


@attrs.frozen(kw_only=True)
class Attempt:
    """One attempt of one task, as far as the records describe it."""

    task_id: str
    """The task."""
    task_key: str
    """The id that the definition gives the task."""
    number: int
    """Counts from 1."""
    agent_id: str | None
    """The agent that had it; None for a wait for a signal, a delay or a child run."""
    dispatched_at: float | None = None
    """When it was given to the agent, in Unix seconds, as the other times."""
    started_at: float | None = None
    """The first sign of life."""
    ended_at: float | None = None
    """When it was over; None while it is open."""
    outcome: str | None = None
    """`completed`, `failed`, `cancelled`, or `requeued`: lost, undelivered or taken back, which spends no retry."""
    error: dict[str, Any] | None = None
    """For an attempt that failed: `message` and `code`."""


def history(view: Snapshot, session_id: str, *, limit: int, cursor: str | None) -> Page[JournalEntry] | None:
    """Read a run's records, newest first; return None if there is no such run.

    Raises:
        InvalidDocument: the cursor is invalid, or the limit is out of range.
    """
    session = SESSIONS.read(view, session_id).row
    if session is None:
        return None
    check_limit(limit)
    back = _Back(view, session_id, session.created_at - CLOCK_BACK_S)
    back.place, back.link = _places(cursor) if cursor else (_newest(view, session_id) + 1, None)
    while not back.over and len(back.found) < limit and back.looked < SCANNED_MAX:
        back.read(limit)
    return Page(items=tuple(back.found), next_cursor=None if back.over else back.cursor)


class _Back:
    """Reading backwards through the journal.

    Args:
        view: a snapshot of the store.
        session_id: the run whose records are collected.
        since: no record of the run is older than this.
    """

    def __init__(self, view: Snapshot, session_id: str, since: float) -> None:
        self._view = view
        self._session_id = session_id
        self._since = since
        self.place = 0
        """The sequence number down to which, inclusive, the journal has been read."""
        self.link: int | None = None
        """The run's commit before the one whose records are being read; 0 if that is its first."""
        self.looked = 0
        self.over = False
        self.found: list[JournalEntry] = []

    @property
    def cursor(self) -> str:
        """The cursor from which the next page continues."""
        return f"{self.place}.{'' if self.link is None else self.link}"

    def read(self, limit: int) -> None:
        """Read on until the page is full, or records have been skipped, or there is nothing left."""
        for key, stored in self._view.scan(JOURNAL_TABLE, after=sequence_key(self.place), reverse=True):
            if len(self.found) == limit or self.looked == SCANNED_MAX:
                return
            self.looked += 1
            record = RECORDS.decode(key, stored)
            if record.session_id == self._session_id and record.entity in _OWN:
                self.found.append(JournalEntry(sequence=stored.version, record=record))
                self.place, self.link = stored.version, record.data.get("previous")
                continue
            if self.link == 0 or record.at < self._since:
                break
            leap, self.link = self.link, None
            if leap is not None:
                self.place = leap + 1
                return
            self.place = stored.version
        self.over = True


def _newest(view: Snapshot, session_id: str) -> int:
    """Return the newest commit that wrote the run's rows."""
    versions = (version for _, version in tasks_of(view, session_id))
    return max(SESSIONS.read(view, session_id).version, OPEN_SESSIONS.read(view, session_id).version, *versions, 0)


def _places(cursor: str) -> tuple[int, int | None]:
    place, _, link = cursor.partition(".")
    if not all(each.isdecimal() and len(each) <= _DIGITS_MAX for each in (place, link or "0")):
        raise InvalidDocument("query", (Fault(path="cursor", message="expected the cursor of a page of a history"),))
    return int(place), int(link) if link else None


def attempts_of(entries: Iterable[JournalEntry]) -> list[Attempt]:
    """Return the attempts that records describe, by task and number.

    An attempt may be incomplete if some of its records are on another page.

    Args:
        entries: records of one run, in any order.
    """
    found: dict[tuple[str, int], Attempt] = {}
    for entry in sorted(entries, key=lambda each: each.sequence):
        record = entry.record
        number = record.data.get("attempt")
        if record.entity == "task" and number:
            known = found.get((record.entity_id, number)) or Attempt(
                task_id=record.entity_id,
                task_key=record.data["taskKey"],
                number=number,
                agent_id=record.data.get("agentId"),
            )
            found[record.entity_id, number] = _told(known, record)
    return sorted(found.values(), key=lambda attempt: (attempt.task_id, attempt.number))


def _told(attempt: Attempt, record: Record) -> Attempt:
    status = record.kind.removeprefix("task.")
    if attempt.ended_at is not None:
        # Later records of the task do not concern this attempt any more.
        return attempt
    if status == TaskStatus.DISPATCHED:
        return evolve(attempt, dispatched_at=record.at)
    if status == TaskStatus.RUNNING:
        return evolve(attempt, started_at=record.at)
    requeued = status == TaskStatus.READY
    begun = attempt.dispatched_at is not None or attempt.started_at is not None
    if requeued and not begun and "error" not in record.data:
        # It may have failed before, in a record on another page, and its task is retried now.
        return attempt
    if status in _ENDS:
        error = record.data.get("error")
        return evolve(attempt, ended_at=record.at, outcome=_ENDS[TaskStatus(status)], error=error)
    return attempt
