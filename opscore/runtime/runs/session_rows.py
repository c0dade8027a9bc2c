"""A run's rows: reading them with their version, and the submissions that change them."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from opscore.runtime.codec import encode_json
from opscore.runtime.definitions.scopes import apart
from opscore.runtime.errors import Superseded
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import (
    LEASES,
    OPEN_SESSIONS,
    SESSIONS,
    SIGNALS,
    TASKS,
    OpenSession,
    record,
    tasks_of,
)
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.models import Record, Session, Signal, Task, TaskStatus
from opscore.runtime.runs.lifecycle import KIND_DEAD, KIND_DISCARDED
from opscore.runtime.runs.run import Run, Step, tallied
from opscore.runtime.store import ABSENT, Delete, Put, Snapshot, Submission


@attrs.frozen(kw_only=True)
class Told:
    """What the records of a step say in addition to its changes."""

    reason: str | None = None
    """The reason that was given for it."""
    previous: int
    """The version of the run's commit before; `ABSENT` if the run begins."""
    revived: bool = False
    """The run is retried: a task that fails again at once is recorded as failed, not as discarded."""


def read_run(view: Snapshot, *, session_id: str, library: Library) -> tuple[Run | None, int, int]:
    """Read a run, the version that guards it (`ABSENT` once it has ended), and the version of its newest commit."""
    session = SESSIONS.read(view, session_id)
    if session.row is None:
        return None, ABSENT, ABSENT
    tasks = tasks_of(view, session_id)
    run = run_of(session.row, [task for task, _ in tasks], view, library)
    guard = OPEN_SESSIONS.read(view, session_id).version
    return run, guard, max(guard, session.version, *(version for _, version in tasks))


def run_of(session: Session, tasks: Sequence[Task], view: Snapshot, library: Library) -> Run:
    """Build a run from its rows."""
    steps, items = apart(tasks)
    definition = library.find(view, session.definition_key)
    signals = signals_of(view, session.session_id) if definition.signals else []
    return Run(
        session=session,
        tasks=steps,
        items=items,
        tallies={ordinal: tallied(line) for ordinal, line in items.items()},
        signals=tuple(signal for signal in signals if signal.taken_by is None),
        definition=definition,
    )


def signals_of(view: Snapshot, session_id: str) -> list[Signal]:
    """Read the signals of a session, taken or not, in the order in which they came."""
    return sorted((row for row, _ in SIGNALS.scan(view, prefix=f"{session_id}.")), key=lambda signal: signal.number)


def signal_of(view: Snapshot, session_id: str, signal_id: str) -> Signal | None:
    """Read one signal of a session."""
    return SIGNALS.read(view, f"{session_id}.{signal_id}").row


def difference(before: Run | None, step: Step, version: int, now: float, limits: Limits, told: Told) -> Submission:
    """Return the submission of a step's changes, each of which is also a journal record."""
    after = step.run
    session_id = after.session.session_id
    writes: list[Put | Delete] = [TASKS.put(task) for task in step.changed]
    writes += [SIGNALS.put(signal) for signal in step.signals]
    if before is None or before.session is not after.session:
        gathered = after.definition.outputs is None
        writes.append(SESSIONS.put(_bounded(after.session, limits) if gathered else after.session))
    if before is not None and before.ended and not after.ended:
        told = evolve(told, revived=True)
    records: list[Record] = []
    stood = before
    for part in step.parts or (step,):
        records += _records_of(stood, part, now, told)
        stood = part.run
    writes.append(
        OPEN_SESSIONS.delete(session_id) if after.ended else OPEN_SESSIONS.put(OpenSession(session_id=session_id))
    )
    return Submission(
        expects=(OPEN_SESSIONS.expect(session_id, version),),
        writes=tuple(writes),
        records=tuple(record(line) for line in records),
    )


def _records_of(before: Run | None, step: Step, now: float, told: Told) -> Iterator[Record]:
    """Yield a record for each change. The reason is in the session's record, or else in those of the tasks."""
    alone = before is not None and before.session is step.run.session
    reason = told.reason if alone else None
    for task in step.changed:
        yield _task_record(task, None if before is None else before.find(task.task_id), now, told, reason)
    waiting = set() if before is None else {signal.number for signal in before.signals}
    for signal in step.signals:
        if signal.number not in waiting:
            yield _signal_record(signal, now, told)
    if not alone:
        yield _session_record(step.run.session, now, told)


def steering_guard(view: Snapshot, *, run: Run, step: Step) -> Submission:
    """Return the preconditions and writes in other rows of a step that comes from outside, or by time.

    The lease of an attempt that is taken from its agent becomes revoked, because the agent may be busy with it for a
    while. A run that had ended must still exist when it is retried.

    Raises:
        Superseded: it no longer exists.
    """
    found = Submission()
    if run.ended:
        session_id = run.session.session_id
        ended = SESSIONS.read(view, session_id)
        if ended.row is None:
            raise Superseded(SESSIONS.name, session_id)
        found = Submission(expects=(SESSIONS.expect(session_id, ended.version),))
    for task in step.revoked:
        held = LEASES.read(view, task.agent_id or "")
        if held.row is not None and (held.row.task_id, held.row.attempt) == (task.task_id, task.attempt):
            found += Submission(
                expects=(LEASES.expect(held.row.agent_id, held.version),),
                writes=(LEASES.put(evolve(held.row, revoked=True)),),
            )
    return found


def _bounded(session: Session, limits: Limits) -> Session:
    """Leave a gathered result that is too large out of the session's row; the rows of the tasks hold it."""
    if session.result is None or len(encode_json(session.result)) <= limits.value_bytes_max:
        return session
    return evolve(session, result=None)


def _task_record(task: Task, before: Task | None, now: float, told: Told, reason: str | None) -> Record:
    data: dict[str, Any] = {
        "taskKey": task.key,
        "attempt": task.attempt,
        "agentId": task.agent_id,
        "previous": told.previous,
    }
    # The error of an earlier attempt stays in the row, but is not part of this record.
    is_news = before is None or task.error is not before.error or task.status is TaskStatus.FAILED
    if task.error is not None and is_news:
        data["error"] = attrs.asdict(task.error)
    kind = f"task.{task.status}"
    if before is not None and before.status is task.status and before.dead is not task.dead and not told.revived:
        kind = KIND_DEAD if task.dead else KIND_DISCARDED
    data |= {} if reason is None else {"reason": reason}
    return Record(
        at=now,
        entity="task",
        entity_id=task.task_id,
        session_id=task.session_id,
        kind=kind,
        data=data,
    )


def _signal_record(signal: Signal, now: float, told: Told) -> Record:
    return Record(
        at=now,
        entity="signal",
        entity_id=signal.signal_id,
        session_id=signal.session_id,
        kind="signal.received",
        data={"name": signal.name, "takenBy": signal.taken_by, "previous": told.previous},
    )


def _session_record(session: Session, now: float, told: Told) -> Record:
    why = {} if told.reason is None else {"reason": told.reason}
    return Record(
        at=now,
        entity="session",
        entity_id=session.session_id,
        session_id=session.session_id,
        kind=f"session.{session.status}",
        data={"workflowId": session.workflow_id, "previous": told.previous, **why},
    )
