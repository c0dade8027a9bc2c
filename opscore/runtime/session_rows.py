"""A run's rows: read at a version, and the submissions that change them."""

from typing import Any

import attrs

from opscore.runtime.codec import encode_json
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.models import Lease, Record, Session, Task
from opscore.runtime.store import ABSENT, Delete, Put, Snapshot, Submission
from opscore.runtime.tables import AGENTS, LEASES, OPEN_SESSIONS, SESSIONS, TASKS, OpenSession, record, tasks_of
from opscore.runtime.transitions import Run


def read_run(view: Snapshot, *, session_id: str, library: Library) -> tuple[Run | None, int]:
    """Read a run and the version that guards it (`ABSENT` once it has ended)."""
    session = SESSIONS.read(view, session_id).row
    if session is None:
        return None, ABSENT
    tasks = tuple(task for task, _ in tasks_of(view, session_id))
    run = Run(session=session, tasks=tasks, definition=library.find(view, session.definition_key))
    return run, OPEN_SESSIONS.read(view, session_id).version


def difference(before: Run | None, after: Run, version: int, now: float, limits: Limits) -> Submission:
    """Put together what changed between two runs; each change is also a journal record."""
    session_id = after.session.session_id
    known = {} if before is None else before.by_id
    changed = [task for task in after.tasks if known.get(task.task_id) is not task]
    writes: list[Put | Delete] = [TASKS.put(task) for task in changed]
    records = [_task_record(task, now) for task in changed]
    if before is None or before.session is not after.session:
        writes.append(SESSIONS.put(_bounded(after.session, limits)))
        records.append(_session_record(after.session, now))
    writes.append(
        OPEN_SESSIONS.delete(session_id) if after.ended else OPEN_SESSIONS.put(OpenSession(session_id=session_id))
    )
    return Submission(
        expects=(OPEN_SESSIONS.expect(session_id, version),),
        writes=tuple(writes),
        records=tuple(record(line) for line in records),
    )


def _bounded(session: Session, limits: Limits) -> Session:
    """Keep a gathered result out of the session's row where it is large: it stands in the tasks' rows as it is."""
    if session.result is None or len(encode_json(session.result)) <= limits.value_bytes_max:
        return session
    return attrs.evolve(session, result=None)


def _task_record(task: Task, now: float) -> Record:
    data: dict[str, Any] = {"taskKey": task.key, "attempt": task.attempt, "agentId": task.agent_id}
    if task.error is not None:
        data["error"] = attrs.asdict(task.error)
    return Record(
        at=now,
        entity="task",
        entity_id=task.task_id,
        session_id=task.session_id,
        kind=f"task.{task.status}",
        data=data,
    )


def _session_record(session: Session, now: float) -> Record:
    return Record(
        at=now,
        entity="session",
        entity_id=session.session_id,
        session_id=session.session_id,
        kind=f"session.{session.status}",
        data={"workflowId": session.workflow_id},
    )


def grant_of(lease: Lease, agent_version: int) -> Submission:
    """The dispatch's preconditions: the agent as it was when it was idle and uncordoned, and without lease."""
    return Submission(
        expects=(AGENTS.expect(lease.agent_id, agent_version), LEASES.expect(lease.agent_id, ABSENT)),
        writes=(LEASES.put(lease),),
    )
