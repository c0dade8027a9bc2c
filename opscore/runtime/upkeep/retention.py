"""Retention: which finished sessions, journal records, signatures and definitions may be removed.

Each function reads one snapshot and returns what may be removed as a bounded submission. Its preconditions guard what
was decided on, so that a change in between takes precedence. Nothing unfinished is ever removed.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Final

import attrs

from opscore.runtime.errors import StoreDamaged
from opscore.runtime.journal.tables import (
    DEFINITIONS_BY_REVISION,
    IDEMPOTENCY,
    IDEMPOTENCY_BY_SESSION,
    JOURNAL_TRIMMED,
    MARKS,
    RECORDS,
    REVISIONS,
    SESSIONS,
    SESSIONS_BY_DEFINITION,
    SESSIONS_ENDED,
    SIGNALS,
    SIGNATURES,
    SIGNATURES_BY_TIME,
    TASKS,
    Mark,
    is_waited_for,
)
from opscore.runtime.journal.typed_tables import named, time_at
from opscore.runtime.limits import Limits
from opscore.runtime.store import JOURNAL_TABLE, Delete, Expect, Put, Snapshot, Stored, Submission, Vacant, sound

REMOVED_AT_ONCE: Final = 200
"""About how many rows one commit removes; a session is removed as a whole."""
LOOKED_AT_ONCE: Final = 1_000
"""Index entries that are read before other tasks get their turn."""

_log = logging.getLogger("opscore.retention")


@attrs.frozen(kw_only=True)
class Sweep:
    """The finished sessions that may be removed, from one part of the index."""

    submission: Submission | None = None
    sessions: int = 0
    """How many finished sessions it removes."""
    definition_keys: frozenset[str] = frozenset()
    """The definitions of those sessions, which may no longer be needed."""
    after: bytes | None = None
    """Where to continue; None if everything has been looked at."""
    kept: int = 0
    """How many sessions before that place stay."""


def sessions(view: Snapshot, *, now: float, limits: Limits, after: bytes | None = None, kept: int = 0) -> Sweep:
    """Return the finished sessions that are too old or too many, oldest first, with their tasks and idempotency keys.

    A session whose idempotency key still counts stays, because the same request must get the same answer. A child run
    stays while its parent's task waits for it, because a paused parent reads how it ended once it is resumed. No
    younger session is removed in the place of one that stays.

    Args:
        view: the rows.
        now: wall time.
        limits: for how long, and how many, sessions are kept.
        after: where to continue.
        kept: how many sessions before that place stay.
    """
    surplus = _surplus(view.count(SESSIONS_ENDED.name), limits.sessions_ended_max)
    expects: list[Expect | Vacant] = []
    deletes: list[Delete] = []
    keys: set[str] = set()
    removed, last, more = 0, after, False
    for looked, (line, session_id) in enumerate(SESSIONS_ENDED.sound_lines(view, after=after)):
        ended_at = time_at(line)
        if kept + removed >= surplus and not _over(ended_at, limits.sessions_keep_s, now):
            break
        if looked == LOOKED_AT_ONCE or len(deletes) >= REMOVED_AT_ONCE:
            more = True
            break
        last = line
        try:
            found = _session(view, session_id, keyed=ended_at + limits.idempotency_keep_s > now)
        except StoreDamaged:
            _log.exception("session %s stays", session_id)
            found = None
        if found is None:
            kept += 1
            continue
        expects += found.guards
        deletes += found.deletes
        keys.add(found.definition_key)
        removed += 1
    submission = Submission(expects=tuple(expects), writes=tuple(deletes)) if deletes else None
    return Sweep(
        submission=submission,
        sessions=removed,
        definition_keys=frozenset(keys),
        after=last if more else None,
        kept=kept,
    )


@attrs.frozen(kw_only=True)
class _Session:
    guards: list[Expect]
    deletes: list[Delete]
    definition_key: str


def _session(view: Snapshot, session_id: str, *, keyed: bool) -> _Session | None:
    scopes = [scope for _, scope in IDEMPOTENCY_BY_SESSION.lines(view, prefix=named(session_id))]
    session = SESSIONS.read(view, session_id)
    if session.row is None or (keyed and scopes) or is_waited_for(view, session.row):
        return None
    tasks = [Delete(TASKS.name, key) for key, _ in view.scan(TASKS.name, prefix=f"{session_id}.".encode())]
    signals = [Delete(SIGNALS.name, key) for key, _ in view.scan(SIGNALS.name, prefix=f"{session_id}.".encode())]
    # Another session may be taking over a key whose time is over at this moment.
    keys = [IDEMPOTENCY.expect(scope, IDEMPOTENCY.read(view, scope).version) for scope in scopes]
    return _Session(
        guards=[SESSIONS.expect(session_id, session.version), *keys],
        deletes=[SESSIONS.delete(session_id), *tasks, *signals, *map(IDEMPOTENCY.delete, scopes)],
        definition_key=session.row.definition_key,
    )


def revision_keys(view: Snapshot, *, after: bytes | None = None) -> list[str]:
    """Return the next page of keys of definition revisions."""
    return [key.decode() for key, _ in itertools.islice(sound(view, REVISIONS.name, after=after), REMOVED_AT_ONCE)]


def revision(view: Snapshot, definition_key: str) -> Submission | None:
    """Return the removal of a definition's revision, if no session uses it and no workflow id refers to it.

    A run that begins with the revision at the same time has it as a precondition, so only one of the two is applied.
    """
    unused = (
        Vacant(SESSIONS_BY_DEFINITION.name, named(definition_key)),
        Vacant(DEFINITIONS_BY_REVISION.name, named(definition_key)),
    )
    found = REVISIONS.read(view, definition_key)
    if found.row is None or any(next(view.scan(each.table, prefix=each.prefix), None) for each in unused):
        return None
    return Submission(
        expects=(*unused, REVISIONS.expect(definition_key, found.version)), writes=(REVISIONS.delete(definition_key),)
    )


def records(view: Snapshot, *, now: float, limits: Limits) -> Submission | None:
    """Return the removal of the oldest records that are too old or too many, with the mark of how far it goes."""
    damaged: list[bytes] = []
    page = list(itertools.islice(sound(view, JOURNAL_TABLE, on_damaged=damaged.append), REMOVED_AT_ONCE))
    surplus = _surplus(view.count(JOURNAL_TABLE), limits.records_max)
    gone = list(_records_over(page, surplus, now, limits))
    if not gone:
        return None
    mark = MARKS.put(Mark(name=JOURNAL_TRIMMED, sequence=gone[-1].version))
    last = page[len(gone) - 1][0]
    # A damaged record is as old as the records around it.
    keys = [*(key for key, _ in page[: len(gone)]), *(key for key in damaged if key < last)]
    return Submission(writes=(*(Delete(JOURNAL_TABLE, key) for key in keys), mark))


def _records_over(page: list[tuple[bytes, Stored]], surplus: float, now: float, limits: Limits) -> Iterator[Stored]:
    for number, (key, stored) in enumerate(page):
        if number >= surplus and not _over(RECORDS.decode(key, stored).at, limits.records_keep_s, now):
            return
        yield stored


def signatures(view: Snapshot, *, now: float, limits: Limits) -> Submission | None:
    """Return the removal of the oldest signatures, whose replays are refused by now because of their timestamp."""
    lines = itertools.islice(SIGNATURES_BY_TIME.sound_lines(view), REMOVED_AT_ONCE)
    expired = [key for line, key in lines if _over(time_at(line), limits.signature_keep_s, now)]
    writes: tuple[Put | Delete, ...] = tuple(map(SIGNATURES.delete, expired))
    return Submission(writes=writes) if writes else None


def _surplus(count: int, count_max: int) -> int:
    """Return by how many a count exceeds its limit; a limit of 0 means none."""
    return max(0, count - count_max) if count_max else 0


def _over(since: float, keep_s: float, now: float) -> bool:
    """Whether something has been kept for long enough; a time of 0 keeps it for ever."""
    return bool(keep_s) and since + keep_s <= now
