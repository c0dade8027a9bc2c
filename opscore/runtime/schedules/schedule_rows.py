"""The submissions that change a schedule's row, each guarded by the version that it was decided on."""

from typing import Any

import attrs

from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import SCHEDULES, record
from opscore.runtime.models import Failure, Record, Schedule, Session
from opscore.runtime.schedules import due_times
from opscore.runtime.schedules.due_times import Decision
from opscore.runtime.store import ABSENT, Delete, Put, Submission


def created(schedule: Schedule) -> Submission:
    """Create a schedule."""
    data = {"workflowId": schedule.workflow_id, "nextDueAt": schedule.next_due_at}
    change = _changed(ABSENT, SCHEDULES.put(schedule), _line(schedule, schedule.created_at, "created", data))
    return change + Submission(new_work=True)


def deleted(schedule: Schedule, version: int, now: float) -> Submission:
    """Delete a schedule."""
    return _changed(version, SCHEDULES.delete(schedule.schedule_id), _line(schedule, now, "deleted", {}))


def paused(schedule: Schedule, now: float) -> Schedule:
    """Return the row as paused, or, if it is paused, as resumed: due times that passed meanwhile are skipped."""
    if not schedule.paused:
        return evolve(schedule, paused=True, next_due_at=None)
    # If the wall clock was set back, no due time may be repeated.
    since = max(now, schedule.last_due_at or now)
    return evolve(schedule, paused=False, next_due_at=due_times.of(schedule).after(since))


def pausing(schedule: Schedule, version: int, now: float) -> Submission:
    """Write a schedule that was just paused or resumed."""
    kind = "paused" if schedule.paused else "resumed"
    return _changed(version, SCHEDULES.put(schedule), _line(schedule, now, kind, {"nextDueAt": schedule.next_due_at}))


def fired(schedule: Schedule, version: int, decision: Decision, session: Session, now: float) -> Submission:
    """Note that a due time starts this session; this is part of the session's first commit."""
    after = evolve(
        schedule,
        next_due_at=decision.next_due_at,
        last_due_at=decision.fires,
        last_session_id=session.session_id,
        fired=schedule.fired + 1,
        last_error=None,
    )
    line = _line(schedule, now, "fired", {"dueAt": decision.fires}, session.session_id)
    return _changed(version, SCHEDULES.put(after), *_missed(schedule, decision, now), line)


def passed_over(schedule: Schedule, version: int, decision: Decision, now: float) -> Submission:
    """Note that due times were missed, none of which starts a run."""
    after = evolve(schedule, next_due_at=decision.next_due_at)
    return _changed(version, SCHEDULES.put(after), *_missed(schedule, decision, now))


def failed(schedule: Schedule, version: int, decision: Decision, error: Failure, now: float) -> Submission:
    """Note that no run can be started for a due time, now or later."""
    after = evolve(schedule, next_due_at=decision.next_due_at, last_error=error)
    line = _line(schedule, now, "failed", {"dueAt": decision.fires, "error": attrs.asdict(error)})
    return _changed(version, SCHEDULES.put(after), *_missed(schedule, decision, now), line)


def noted(schedule: Schedule, version: int, error: Failure) -> Submission:
    """Note why the due time that has come starts no run yet."""
    return _changed(version, SCHEDULES.put(evolve(schedule, last_error=error)))


def _missed(schedule: Schedule, decision: Decision, now: float) -> tuple[Put, ...]:
    if decision.missed_from is None:
        return ()
    before = decision.next_due_at if decision.fires is None else decision.fires
    return (_line(schedule, now, "missed", {"from": decision.missed_from, "before": before}),)


def _changed(version: int, write: Put | Delete, *lines: Put) -> Submission:
    return Submission(expects=(SCHEDULES.expect(write.key.decode(), version),), writes=(write,), records=lines)


def _line(schedule: Schedule, at: float, kind: str, data: dict[str, Any], session_id: str | None = None) -> Put:
    line = Record(
        at=at,
        entity="schedule",
        entity_id=schedule.schedule_id,
        session_id=session_id,
        kind=f"schedule.{kind}",
        data=data,
    )
    return record(line)
