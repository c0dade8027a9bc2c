"""Pausing a run whose actor keeps crashing, so that it neither takes other runs down nor keeps its agents busy.

This is decided on rows alone, because the actor that would otherwise decide is the one that crashes. The run's open
attempts are taken back: what their agents report could not be committed, and an agent whose lease never ends gets no
more work. Leases that were revoked before end without the run's actor, and stay as they are.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from opscore.runtime.agents.lease_rows import release_of
from opscore.runtime.definitions.definition import AT_THE_END, TaskDefinition
from opscore.runtime.delivery import unknown_call
from opscore.runtime.errors import StoreError
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import LEASES, OPEN_SESSIONS, SESSIONS, TASKS, OpenSession, record
from opscore.runtime.lease import Lease
from opscore.runtime.library import Library
from opscore.runtime.models import Failure, Record, Session, SessionStatus, Task
from opscore.runtime.runs.lifecycle import SESSION_TABLE, SessionEvent, TaskEvent
from opscore.runtime.runs.releasing import earliest, start_by
from opscore.runtime.runs.run import moved
from opscore.runtime.runs.transitions import CRASHED
from opscore.runtime.store import Expect, Put, Snapshot, Submission
from opscore.runtime.waiting import rank_anew


@attrs.frozen(kw_only=True)
class Quarantine:
    """What to commit, and the leases of the attempts that this ends."""

    submission: Submission
    taken_back: tuple[Lease, ...]


def decided(view: Snapshot, session_id: str, cause: str, now: float, library: Library) -> Quarantine | None:
    """Decide how to pause a run and take back its open attempts; return None if the run has ended."""
    session = SESSIONS.read(view, session_id).row
    guard = OPEN_SESSIONS.read(view, session_id)
    if session is None or guard.row is None:
        return None
    standing = paused(session)
    previous = guard.version
    data: Mapping[str, Any] = {
        "workflowId": session.workflow_id,
        "reason": standing.reason,
        "cause": cause,
        "previous": previous,
    }
    expects: list[Expect] = [OPEN_SESSIONS.expect(session_id, guard.version)]
    writes = [SESSIONS.put(standing), OPEN_SESSIONS.put(OpenSession(session_id=session_id))]
    records: list[Put] = [_line(now, "session", session_id, session_id, f"session.{SessionStatus.PAUSED}", data)]
    held = [
        (lease, version) for lease, version in LEASES.scan(view) if lease.session_id == session_id and not lease.revoked
    ]
    deletes = [delete for lease, _ in held for delete in release_of(lease)]
    for lease, version in held:
        expects.append(LEASES.expect(lease.agent_id, version))
        task = TASKS.read(view, lease.task_id).row
        if task is not None:
            after = _taken_back(task, session, lease, _definition_of(view, session, task, library), now)
            writes.append(TASKS.put(after))
            told = {
                "taskKey": after.key,
                "attempt": after.attempt,
                "agentId": after.agent_id,
                "previous": previous,
                "error": None if after.error is None else attrs.asdict(after.error),
            }
            records.append(_line(now, "task", after.task_id, session_id, f"task.{after.status}", told))
    return Quarantine(
        submission=Submission(expects=tuple(expects), writes=(*writes, *deletes), records=tuple(records)),
        taken_back=tuple(lease for lease, _ in held),
    )


def _definition_of(view: Snapshot, session: Session, task: Task, library: Library) -> TaskDefinition | None:
    """Return a task's definition, or None if it can't be read, which must not keep the run from being paused."""
    try:
        return library.find(view, session.definition_key).tasks[task.ordinal]
    except StoreError:
        return None


def _line(at: float, entity: str, entity_id: str, session_id: str, kind: str, data: Mapping[str, Any]) -> Put:
    line = Record(at=at, entity=entity, entity_id=entity_id, session_id=session_id, kind=kind, data=dict(data))
    return record(line)


def paused(session: Session) -> Session:
    """Return a run as paused for its crashes; one that can't be paused is returned unchanged."""
    status = SESSION_TABLE.get((session.status, SessionEvent.PAUSE))
    return session if status is None else evolve(session, status=status, reason=CRASHED)


def _taken_back(task: Task, session: Session, lease: Lease, definition: TaskDefinition | None, now: float) -> Task:
    """Return a task after its open attempt was taken back, because the run's actor can't decide about the attempt.

    Args:
        task: the task.
        session: its run.
        lease: the lease of the attempt.
        definition: the task's definition, if that can be read.
        now: the time.
    """
    error = Failure(message="the run was paused because its actor kept crashing", code="lost")
    if lease.tool and lease.delivered and not lease.idempotent:
        unknown = unknown_call(error.message)
        return moved(task, TaskEvent.FAIL, error=unknown, retries=task.retries + 1, ended_at=now)
    # Compensations and `onFailure` go back in line even in a run that failed or was cancelled, because they end it.
    ends_the_run = definition is not None and definition.role in AT_THE_END
    if ends_the_run or (session.error is None and session.cancelled_at is None):
        waits_until = None if definition is None else start_by(definition, now)
        due_at = earliest(waits_until, task.closes_at)
        return moved(task, TaskEvent.REQUEUE, error=error, due_at=due_at, ready_at=now, rank=rank_anew(task, now))
    return moved(task, TaskEvent.CANCEL, error=error, ended_at=now)
