"""Pausing a run whose actor keeps crashing, so that it neither takes the others down nor keeps their agents.

This is decided on rows alone, because the actor that would decide it is the one that crashes. Its open attempts are
taken back: nothing that their agents say could be committed, and an agent whose lease never ends works no more. What
was taken back before ends without the run's actor, and is left as it is.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from opscore.runtime.definitions.definition import AT_THE_END, TaskDefinition
from opscore.runtime.delivery import unknown_call
from opscore.runtime.errors import StoreError
from opscore.runtime.lease_rows import release_of
from opscore.runtime.library import Library
from opscore.runtime.lifecycle import SESSION_TABLE, SessionEvent, TaskEvent
from opscore.runtime.models import Failure, Lease, Record, Session, SessionStatus, Task
from opscore.runtime.releasing import earliest, start_by
from opscore.runtime.run import moved
from opscore.runtime.store import Expect, Put, Snapshot, Submission
from opscore.runtime.tables import LEASES, OPEN_SESSIONS, SESSIONS, TASKS, OpenSession, record
from opscore.runtime.transitions import CRASHED
from opscore.runtime.waiting import rank_anew


@attrs.frozen(kw_only=True)
class Quarantine:
    """What to commit, and whose attempts that ends."""

    submission: Submission
    taken_back: tuple[Lease, ...]


def decided(view: Snapshot, session_id: str, cause: str, now: float, library: Library) -> Quarantine | None:
    """Pause a run and take its open attempts back; nothing where it has ended."""
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
    """What a task is; a definition that can't be read keeps no run from being paused."""
    try:
        return library.find(view, session.definition_key).tasks[task.ordinal]
    except StoreError:
        return None


def _line(at: float, entity: str, entity_id: str, session_id: str, kind: str, data: Mapping[str, Any]) -> Put:
    line = Record(at=at, entity=entity, entity_id=entity_id, session_id=session_id, kind=kind, data=dict(data))
    return record(line)


def paused(session: Session) -> Session:
    """Pause a run whose actor keeps crashing, so that it can't take the others down."""
    status = SESSION_TABLE.get((session.status, SessionEvent.PAUSE))
    return session if status is None else attrs.evolve(session, status=status, reason=CRASHED)


def _taken_back(task: Task, session: Session, lease: Lease, definition: TaskDefinition | None, now: float) -> Task:
    """Take an open attempt back from its agent, because the run's actor can't be asked what came of it.

    Args:
        task: whose attempt it is.
        session: its run.
        lease: the attempt's.
        definition: what the task is, if that can be read.
        now: the time.
    """
    error = Failure(message="the run was paused because its actor kept crashing", code="lost")
    if lease.tool and lease.delivered and not lease.idempotent:
        unknown = unknown_call(error.message)
        return moved(task, TaskEvent.FAIL, error=unknown, retries=task.retries + 1, ended_at=now)
    # What undoes a run is done again where that failed or was cancelled: it was called for by that.
    ends_the_run = definition is not None and definition.role in AT_THE_END
    if ends_the_run or (session.error is None and session.cancelled_at is None):
        waits_until = None if definition is None else start_by(definition, now)
        due_at = earliest(waits_until, task.closes_at)
        return moved(task, TaskEvent.REQUEUE, error=error, due_at=due_at, ready_at=now, rank=rank_anew(task, now))
    return moved(task, TaskEvent.CANCEL, error=error, ended_at=now)
