"""What has served its time: finished sessions, journal records, seen signatures and definitions that nobody needs.

Each function looks at one commit and answers what may go, as a bounded submission; what it decides on is guarded, so
that whatever happened meanwhile goes first. Nothing that is unfinished is ever removed.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Final

import attrs

from opscore.runtime.errors import StoreDamaged
from opscore.runtime.limits import Limits
from opscore.runtime.store import JOURNAL_TABLE, Delete, Expect, Put, Snapshot, Stored, Submission, Vacant, sound
from opscore.runtime.tables import (
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
from opscore.runtime.typed_tables import named, time_at

REMOVED_AT_ONCE: Final = 200
"""Rows removed in one commit, about; a session goes as a whole."""
LOOKED_AT_ONCE: Final = 1_000
"""Lines of an index looked at before others get their turn."""

_log = logging.getLogger("opscore.retention")


@attrs.frozen(kw_only=True)
class Sweep:
    """What may go, as far as was looked."""

    submission: Submission | None = None
    sessions: int = 0
    """How many finished sessions it removes."""
    definition_keys: frozenset[str] = frozenset()
    """What they ran by, which may be needed no longer."""
    after: bytes | None = None
    """Where to go on; nothing when everything has been looked at."""
    kept: int = 0
    """How many before that stay."""


def sessions(view: Snapshot, *, now: float, limits: Limits, after: bytes | None = None, kept: int = 0) -> Sweep:
    """The finished sessions that are too old or too many, the oldest first, with their tasks and idempotency keys.

    One whose idempotency key still counts stays: the same request must get the same answer. One that the task of
    another run still waits for stays as well: a run that is paused reads how it ended when it goes on. No younger one
    goes in the place of one that stays.

    Args:
        view: the rows.
        now: wall time.
        limits: how long, and how many, are kept.
        after: where to go on.
        kept: how many stay of those before that.
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
    # A key whose time is over may be taken by another session at this moment.
    keys = [IDEMPOTENCY.expect(scope, IDEMPOTENCY.read(view, scope).version) for scope in scopes]
    return _Session(
        guards=[SESSIONS.expect(session_id, session.version), *keys],
        deletes=[SESSIONS.delete(session_id), *tasks, *signals, *map(IDEMPOTENCY.delete, scopes)],
        definition_key=session.row.definition_key,
    )


def revision_keys(view: Snapshot, *, after: bytes | None = None) -> list[str]:
    """The next keys of definitions' revisions."""
    return [key.decode() for key, _ in itertools.islice(sound(view, REVISIONS.name, after=after), REMOVED_AT_ONCE)]


def revision(view: Snapshot, definition_key: str) -> Submission | None:
    """The revision of a definition, if no session ran by it and no workflow id stands for it.

    A run that begins by it at the same time has it as precondition, and one of the two goes first.
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
    """The oldest journal records that are too old or too many, with the mark of how far they went."""
    damaged: list[bytes] = []
    page = list(itertools.islice(sound(view, JOURNAL_TABLE, on_damaged=damaged.append), REMOVED_AT_ONCE))
    surplus = _surplus(view.count(JOURNAL_TABLE), limits.records_max)
    gone = list(_records_over(page, surplus, now, limits))
    if not gone:
        return None
    mark = MARKS.put(Mark(name=JOURNAL_TRIMMED, sequence=gone[-1].version))
    last = page[len(gone) - 1][0]
    # What can't be read any more is as old as what stands around it.
    keys = [*(key for key, _ in page[: len(gone)]), *(key for key in damaged if key < last)]
    return Submission(writes=(*(Delete(JOURNAL_TABLE, key) for key in keys), mark))


def _records_over(page: list[tuple[bytes, Stored]], surplus: float, now: float, limits: Limits) -> Iterator[Stored]:
    for number, (key, stored) in enumerate(page):
        if number >= surplus and not _over(RECORDS.decode(key, stored).at, limits.records_keep_s, now):
            return
        yield stored


def signatures(view: Snapshot, *, now: float, limits: Limits) -> Submission | None:
    """The oldest signatures whose replay the sender's own time stamp refuses by now."""
    lines = itertools.islice(SIGNATURES_BY_TIME.sound_lines(view), REMOVED_AT_ONCE)
    expired = [key for line, key in lines if _over(time_at(line), limits.signature_keep_s, now)]
    writes: tuple[Put | Delete, ...] = tuple(map(SIGNATURES.delete, expired))
    return Submission(writes=writes) if writes else None


def _surplus(count: int, count_max: int) -> int:
    """How many are too many; a limit of 0 is none."""
    return max(0, count - count_max) if count_max else 0


def _over(since: float, keep_s: float, now: float) -> bool:
    """Whether something has been kept long enough; a time of 0 keeps it for good."""
    return bool(keep_s) and since + keep_s <= now
