"""Promises about retention: it removes what is old enough, completely, and nothing else."""

import math
from collections.abc import Iterator
from typing import Final

from opscore.runtime.journal.tables import IDEMPOTENCY, JOURNAL_TRIMMED, REVISIONS, SESSIONS
from opscore.runtime.models import SESSION_ENDED, Session
from opscore.runtime.simulation.rows import Commit, Rows

DECIDED_WITHIN_S: Final = 400.0
"""How long a removal may take from its decision to its commit, because the disk may stall."""
GOES_WITHIN_S: Final = 200.0
"""How long a removal may take: retention looks once a minute, and may have looked just before."""


def key_is_over(session_id: str, rows: Rows) -> bool:
    """Whether an idempotency key that led to a session has expired."""
    session = rows.session(session_id)
    return session is not None and _over_for_s(session, rows.limits.idempotency_keep_s, rows) >= 0.0


def _over_for_s(session: Session, keep_s: float, rows: Rows) -> float:
    """Return by how many seconds a session has outlasted its keep time after its end; negative if it has not."""
    return -math.inf if session.ended_at is None else rows.now() - session.ended_at - keep_s


def what_goes_has_served_its_time(commit: Commit, rows: Rows) -> Iterator[str]:
    """A run is removed only if it has ended, is too old or one of too many, and no key or task needs it."""
    gone = [change.before for change in commit.of(SESSIONS.name) if change.after is None]
    if not gone:
        return
    ended = sorted(
        [session for session in (*rows.sessions.values(), *gone) if session.ended_at is not None],
        key=lambda session: (session.ended_at, session.session_id),
    )
    # One more than are too many, because an older run may have been retried since the decision.
    too_many = len(ended) - rows.limits.sessions_ended_max + 1 if rows.limits.sessions_ended_max else 0
    oldest = {session.session_id for session in ended[: max(0, too_many)]}
    for session in gone:
        if session.status not in SESSION_ENDED:
            yield f"session {session.session_id} is removed, and was {session.status}"
            continue
        keep_s = rows.limits.sessions_keep_s
        old = bool(keep_s) and _over_for_s(session, keep_s, rows) >= 0.0
        if not old and session.session_id not in oldest and "clock_moves" not in rows.faults:
            yield f"session {session.session_id} is removed {rows.now() - (session.ended_at or 0.0):g} s after its end"
        above = rows.tasks.get(session.parent_task_id or "")
        if above is not None and above.awaits and above.child_session_id == session.session_id:
            yield f"session {session.session_id} is removed, and {above.task_id} waits for it"
    for change in commit.of(IDEMPOTENCY.name):
        over = change.before is None or key_is_over(change.before.trigger.session_id, rows)
        if change.after is None and not over and "clock_moves" not in rows.faults:
            yield f"the key of session {change.before.trigger.session_id} is removed before its time"


def what_goes_goes_as_a_whole(commit: Commit, rows: Rows) -> Iterator[str]:
    """A run's tasks, signals and keys are removed together with it; tasks and signals never without it."""
    gone = {change.key for change in commit.of(SESSIONS.name) if change.after is None}
    for session_id in gone:
        if rows.every_task_of(session_id) or any(key.startswith(f"{session_id}.") for key in rows.signals):
            yield f"session {session_id} is removed, and something of it is left"
        if any(row.trigger.session_id == session_id for row in rows.idempotency.values()):
            yield f"session {session_id} is removed, and a key leads to it"
    for table in ("tasks", "signals"):
        for change in commit.of(table):
            if change.after is None and change.key.partition(".")[0] not in gone:
                yield f"{change.key} of {table} is removed, and its session is not"


def records_go_from_the_oldest_on(commit: Commit, rows: Rows) -> Iterator[str]:
    """The journal loses only its oldest records, and only if they are too old or too many."""
    removed = commit.removed_records
    if not removed:
        return
    keep_s, records_max = rows.limits.records_keep_s, rows.limits.records_max
    for sequence in sorted(removed):
        count = len(rows.journal)
        if not rows.journal or rows.journal[0][0] != sequence:
            yield f"record {sequence} is removed, and the oldest is {rows.journal[0][0] if rows.journal else 'none'}"
            return
        _, at = rows.journal.popleft()
        old = bool(keep_s) and at + keep_s <= rows.now()
        if not old and not (records_max and count > records_max) and "clock_moves" not in rows.faults:
            yield f"record {sequence} is removed {rows.now() - at:g} s after it was written, one of {count}"


def what_goes_of_the_journal_is_told(commit: Commit, rows: Rows) -> Iterator[str]:
    """A mark says up to where records were removed, so that readers of the journal learn what is missing."""
    if not commit.removed_records:
        return
    mark, last = rows.marks.get(JOURNAL_TRIMMED), max(commit.removed_records)
    if mark is None or mark.sequence != last:
        yield f"record {last} is removed, and the journal is marked as trimmed to {mark and mark.sequence}"


def what_is_needed_is_kept(commit: Commit, rows: Rows) -> Iterator[str]:
    """The content of a workflow is kept as long as a run uses it or it is saved under an id."""
    for change in commit.of(REVISIONS.name):
        if change.after is not None:
            continue
        followed = [each.session_id for each in rows.sessions.values() if each.definition_key == change.key]
        saved = [each.workflow_id for each in rows.saved.values() if each.definition_key == change.key]
        if followed or saved:
            yield f"the content that {', '.join((*saved, *followed))} need is removed"


def what_has_served_its_time_goes(rows: Rows) -> Iterator[str]:
    """In calm times a run that is too old or one of too many, and that nothing needs, is removed within minutes."""
    limits = rows.limits
    if not rows.calm_for(GOES_WITHIN_S) or not (limits.sessions_keep_s or limits.sessions_ended_max):
        return
    ended = sorted(
        [session for session in rows.sessions.values() if session.ended_at is not None],
        key=lambda session: (session.ended_at, session.session_id),
    )
    for_long = sum(1 for session in ended if _over_for_s(session, 0.0, rows) > GOES_WITHIN_S)
    too_many = for_long - limits.sessions_ended_max if limits.sessions_ended_max else 0
    for place, session in enumerate(ended):
        late = _over_for_s(session, limits.sessions_keep_s, rows) > GOES_WITHIN_S if limits.sessions_keep_s else False
        many = place < too_many
        above = rows.tasks.get(session.parent_task_id or "")
        # Its key may lead to another run by now, so every run is taken to have a key.
        keyed = _over_for_s(session, limits.idempotency_keep_s, rows) <= GOES_WITHIN_S
        needed = keyed or (above is not None and above.child_session_id == session.session_id)
        if (late or many) and not needed:
            yield f"session {session.session_id} ended {_over_for_s(session, 0.0, rows):g} s ago, and is still there"
