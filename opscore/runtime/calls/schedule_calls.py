"""Calls on a node about schedules, which start runs by themselves."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from opscore.runtime import views
from opscore.runtime.calls.calls import Calls, chosen
from opscore.runtime.core import RACES_MAX
from opscore.runtime.definitions.definition import digest
from opscore.runtime.errors import (
    Fault,
    InvalidDocument,
    LimitExceeded,
    NotReady,
    ScheduleExists,
    ScheduleNotFound,
    Superseded,
)
from opscore.runtime.evolving import evolve
from opscore.runtime.identity import new_id, unusable
from opscore.runtime.journal.tables import SCHEDULES
from opscore.runtime.journal.typed_tables import Versioned
from opscore.runtime.messages.addresses import hint
from opscore.runtime.messages.to_schedules import ScheduleChanged
from opscore.runtime.models import Missed, Schedule
from opscore.runtime.runs import definition_rows, triggering
from opscore.runtime.runs.triggering import Trigger
from opscore.runtime.schedules import due_times, schedule_rows
from opscore.runtime.store import Snapshot, Submission
from opscore.runtime.values import copied
from opscore.runtime.views import Page

AT_MAX: Final = 253_402_300_799.0
"""The last second of the year 9999, the last that `datetime` can show."""

_CONTENT: Final = ("workflow_id", "payload", "agent_id", "cron", "at", "time_zone", "missed")
"""The fields in which two schedules under one id have to agree to count as the same."""


class ScheduleCalls(Calls):
    """Calls about schedules."""

    async def create_schedule(
        self,
        workflow_id: str,
        *,
        cron: str | None = None,
        at: float | None = None,
        time_zone: str = "UTC",
        missed: Missed = Missed.ONCE,
        payload: Any = None,
        agent_id: str | None = None,
        schedule_id: str | None = None,
    ) -> Schedule:
        """Have runs of a saved workflow start by themselves. Once this returns, no crash can lose the schedule.

        Args:
            workflow_id: the id of a saved workflow; each run follows the revision that is saved when it starts.
            cron: the times of a repeated schedule, read as Debian's cron does: minute, hour, day of month, month and
                day of week, with the second before them if there are six fields.
            at: the time of a single run, in Unix seconds. Give exactly one of `cron` and `at`.
            time_zone: the IANA name of the zone whose clock `cron` is matched against.
            missed: what becomes of due times that pass while the node is down, or can't start a run.
            payload: the input of every run; JSON values, `value_bytes_max` (256 KiB) at most.
            agent_id: the agent of every run.
            schedule_id: its id; made up if not given. The same content under an existing id returns that schedule.

        Returns:
            the schedule, with its next due time.

        Raises:
            InvalidDocument: an argument has faults; the error lists them all.
            DefinitionNotFound, AgentNotFound: as `trigger`.
            LimitExceeded: as `trigger`, or there are `schedules_max` schedules already.
            ScheduleExists: the id belongs to a schedule with other content.
            NotReady: the node accepts nothing new.
            ValueError, TypeError: the payload is not JSON, or an id is not a string.
        """
        now = self._core.clock.now()
        schedule = Schedule(
            schedule_id=schedule_id if schedule_id is not None else new_id("sch", now, self._core.clock.random),
            workflow_id=workflow_id,
            payload=copied(payload, self._core.limits),
            agent_id=agent_id,
            cron=cron,
            at=at,
            time_zone=time_zone,
            missed=chosen(Missed, missed, "schedule", "missed"),
            created_at=now,
        )
        # Before the comparison with an existing schedule, which needs values of the right types.
        strange = tuple(_type_faults(schedule))
        if strange:
            raise InvalidDocument("schedule", strange)
        if schedule.at is not None and abs(schedule.at) <= AT_MAX:
            # As in its row, so that a whole number counts as the same time.
            schedule = evolve(schedule, at=float(schedule.at))
        for _ in range(RACES_MAX):
            before = self._schedule(schedule.schedule_id).row
            if before is not None:
                if _content(before) != _content(schedule):
                    raise ScheduleExists(schedule.schedule_id)
                return before
            whole, saved = self._admitted(schedule)
            try:
                await self._commit_schedule(whole.schedule_id, schedule_rows.created(whole) + saved)
            except Superseded:
                continue
            return whole
        raise NotReady(f"schedule {schedule.schedule_id!r} is changed by too many at once", retry_after_s=1.0)

    def schedule(self, schedule_id: str) -> Schedule:
        """Return a schedule.

        Args:
            schedule_id: the schedule.

        Raises:
            ScheduleNotFound: there is none.
        """
        return self._there(self._schedule(schedule_id), schedule_id)

    def schedules(
        self, *, limit: int = 100, cursor: str | None = None, workflow_id: str | None = None
    ) -> Page[Schedule]:
        """Return a page of schedules, by id.

        Args:
            limit: the most schedules to return, from 1 to 500. A page may have fewer, or none, without being the last.
            cursor: `next_cursor` of the page before.
            workflow_id: only those that start this workflow.

        Raises:
            InvalidDocument: the limit is not from 1 to 500.
        """
        return self._read(lambda view: views.schedules(view, limit=limit, cursor=cursor, workflow_id=workflow_id))

    def coming(self, schedule: Schedule, count: int) -> list[float]:
        """Return the next due times of a schedule, in Unix seconds; none while it is paused.

        Args:
            schedule: the schedule, as a call has returned it.
            count: the most due times to return.
        """
        try:
            return due_times.coming(schedule, count)
        except InvalidDocument:
            # This machine does not know the zone; the next due time was stored by one that did.
            return [] if schedule.next_due_at is None else [schedule.next_due_at]

    async def pause_schedule(self, schedule_id: str, *, paused: bool = True) -> Schedule:
        """Pause a schedule, or resume it. Due times that passed while it was paused start nothing.

        Args:
            schedule_id: the schedule.
            paused: whether it is to be paused; False resumes it.

        Returns:
            the schedule as it is then.

        Raises:
            ScheduleNotFound: there is none.
            InvalidDocument: it is to be resumed, and this machine does not know its time zone.
        """

        def turned(before: Schedule, version: int, now: float) -> tuple[Schedule, Submission]:
            after = schedule_rows.paused(before, now)
            return after, schedule_rows.pausing(after, version, now)

        return await self._change(schedule_id, turned, lambda before: before.paused == paused)

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; the runs that it has started go on.

        Args:
            schedule_id: the schedule.

        Raises:
            ScheduleNotFound: there is none.
        """
        await self._change(
            schedule_id, lambda before, version, now: (before, schedule_rows.deleted(before, version, now)), _never
        )

    # --- in common ----------------------------------------------------------------------------------------

    async def _change(
        self,
        schedule_id: str,
        change: Callable[[Schedule, int, float], tuple[Schedule, Submission]],
        is_so: Callable[[Schedule], bool],
    ) -> Schedule:
        """Change a schedule unless it is as wanted already; decide again if another change came first."""
        for _ in range(RACES_MAX):
            found = self._schedule(schedule_id)
            before = self._there(found, schedule_id)
            if is_so(before):
                return before
            after, submission = change(before, found.version, self._core.clock.now())
            try:
                await self._commit_schedule(schedule_id, submission)
            except Superseded:
                continue
            return after
        raise NotReady(f"schedule {schedule_id!r} is changed by too many at once", retry_after_s=1.0)

    async def _commit_schedule(self, schedule_id: str, submission: Submission) -> None:
        try:
            await self._core.addresses.journal.commit(submission)
        finally:
            # Also when the outcome of the commit is unknown: the schedules' actor then reads the row after it.
            hint(self._core.addresses.schedules, ScheduleChanged(schedule_id=schedule_id))

    def _schedule(self, schedule_id: str) -> Versioned[Schedule]:
        return self._read(lambda view: SCHEDULES.read(view, schedule_id))

    def _there(self, found: Versioned[Schedule], schedule_id: str) -> Schedule:
        if found.row is None:
            raise ScheduleNotFound(schedule_id)
        return found.row

    def _admitted(self, schedule: Schedule) -> tuple[Schedule, Submission]:
        """Check a new schedule; return it with its first due time, and what it requires of its workflow."""
        if self._not_ready is not None:
            raise NotReady(self._not_ready)
        found = self._faults(schedule)
        if found:
            raise InvalidDocument("schedule", tuple(found))
        core, now = self._core, schedule.created_at
        trigger = Trigger(definition=schedule.workflow_id, payload=schedule.payload, agent_id=schedule.agent_id)

        def read(view: Snapshot) -> Submission:
            # A schedule whose run could not be triggered now is refused.
            triggering.prepare(view, trigger, core.library, core.limits, now, core.clock.random)
            return definition_rows.scheduled(view, schedule.workflow_id)

        saved = self._read(read)
        count = self._read(lambda view: view.count(SCHEDULES.name))
        if count >= core.limits.schedules_max:
            raise LimitExceeded("schedules_max", core.limits.schedules_max, count + 1)
        next_due_at = schedule.at if schedule.at is not None else due_times.of(schedule).after(now)
        return evolve(schedule, next_due_at=next_due_at), saved

    def _faults(self, schedule: Schedule) -> list[Fault]:
        found = due_times.faults(schedule.cron, schedule.time_zone)
        workflow_id: Any = schedule.workflow_id
        if not isinstance(workflow_id, str):
            message = "expected the id of a saved workflow; save the document first, with save_definition"
            found.append(Fault(path="workflowId", message=message))
        id_bytes_max = self._core.limits.id_bytes_max
        wrong = unusable(schedule.schedule_id)
        if wrong is not None:
            found.append(Fault(path="scheduleId", message=f"this id {wrong}"))
        elif len(schedule.schedule_id.encode()) > id_bytes_max:
            found.append(Fault(path="scheduleId", message=f"expected {id_bytes_max} bytes at most"))
        if (schedule.cron is None) is (schedule.at is None):
            found.append(Fault(path="", message="exactly one of cron and at must be given"))
        if schedule.at is not None:
            late_s = self._core.limits.schedule_late_s
            if schedule.at > AT_MAX:
                found.append(Fault(path="at", message="expected a time before the year 10000"))
            elif schedule.at <= schedule.created_at - late_s:
                found.append(Fault(path="at", message=f"it lies more than {late_s:g} s in the past"))
        return found


def _type_faults(schedule: Any) -> Iterator[Fault]:
    """Yield a fault for each argument of the wrong type, such as a host without a type checker may pass."""
    if schedule.cron is not None and not isinstance(schedule.cron, str):
        yield Fault(path="cron", message=f"expected a cron expression such as '0 6 * * *', found {schedule.cron!r}")
    if schedule.at is not None and (not isinstance(schedule.at, int | float) or isinstance(schedule.at, bool)):
        yield Fault(path="at", message=f"expected Unix seconds, found {schedule.at!r}")
    elif schedule.at is not None and not -math.inf < schedule.at < math.inf:
        yield Fault(path="at", message=f"expected a time before the year 10000, found {schedule.at}")
    if not isinstance(schedule.time_zone, str):
        message = f"expected a time zone such as 'Europe/Berlin', found {schedule.time_zone!r}"
        yield Fault(path="timeZone", message=message)


def _content(schedule: Schedule) -> str:
    """Return a digest of a schedule's content, independent of the order of fields in its payload."""
    return digest({name: getattr(schedule, name) for name in _CONTENT})


def _never(_: Schedule) -> bool:
    return False
