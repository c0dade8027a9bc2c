"""What can be asked of a node about schedules: runs that start by themselves."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from opscore.runtime import due_times, schedule_rows, triggering, views
from opscore.runtime.addresses import hint
from opscore.runtime.calls import Calls, chosen
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
from opscore.runtime.identity import new_id, unusable
from opscore.runtime.models import Missed, Schedule
from opscore.runtime.schedule_messages import ScheduleChanged
from opscore.runtime.store import Submission
from opscore.runtime.tables import SCHEDULES
from opscore.runtime.triggering import Trigger
from opscore.runtime.typed_tables import Versioned
from opscore.runtime.values import copied
from opscore.runtime.views import Page

AT_MAX: Final = 253_402_300_799.0
"""The last second of the year 9999; no calendar shows a later one."""

_CONTENT: Final = ("workflow_id", "payload", "agent_id", "cron", "at", "time_zone", "missed")
"""What two schedules under one id have to agree in, to be one."""


class ScheduleCalls(Calls):
    """Schedules."""

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
            workflow_id: the id of a saved workflow; each run follows what that stands for when it starts.
            cron: when, again and again: minute, hour, day of month, month and day of week, with the second before them
                if there are six; as Debian's cron reads them.
            at: when, once; Unix seconds. Exactly one of both is given.
            time_zone: whose clock `cron` is matched with, by its name in the IANA database.
            missed: what becomes of due times that pass while the node is down, or can't start a run.
            payload: the input of every run; JSON values, 256 KiB at most.
            agent_id: the agent of every run.
            schedule_id: its id; the same content under an id that exists answers the schedule that is there.

        Raises:
            InvalidDocument: with every fault.
            DefinitionNotFound, AgentNotFound, LimitExceeded: as `trigger`; there may be `schedules_max` schedules.
            ScheduleExists: the id stands for another schedule.
            NotReady: the node takes nothing new.
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
        # Before it is compared with what is there: what is none of this can't be.
        strange = tuple(_type_faults(schedule))
        if strange:
            raise InvalidDocument("schedule", strange)
        if schedule.at is not None and abs(schedule.at) <= AT_MAX:
            # As its row has it: a whole number is the same time.
            schedule = attrs.evolve(schedule, at=float(schedule.at))
        for _ in range(RACES_MAX):
            before = self._schedule(schedule.schedule_id).row
            if before is not None:
                if _content(before) != _content(schedule):
                    raise ScheduleExists(schedule.schedule_id)
                return before
            whole = self._admitted(schedule)
            try:
                await self._commit_schedule(whole.schedule_id, schedule_rows.created(whole))
            except Superseded:
                continue
            return whole
        raise NotReady(f"schedule {schedule.schedule_id!r} is changed by too many at once", retry_after_s=1.0)

    def schedule(self, schedule_id: str) -> Schedule:
        """Return a schedule.

        Raises:
            ScheduleNotFound: there is none.
        """
        return self._there(self._schedule(schedule_id), schedule_id)

    def schedules(
        self, *, limit: int = 100, cursor: str | None = None, workflow_id: str | None = None
    ) -> Page[Schedule]:
        """List schedules by id.

        Raises:
            InvalidDocument: the limit is not from 1 to 500.
        """
        return self._read(lambda view: views.schedules(view, limit=limit, cursor=cursor, workflow_id=workflow_id))

    def coming(self, schedule: Schedule, count: int) -> list[float]:
        """When a schedule is due next, `count` times at most: Unix seconds; nothing while it is paused."""
        try:
            return due_times.coming(schedule, count)
        except InvalidDocument:
            # This machine does not know its zone; the next one was told when it did.
            return [] if schedule.next_due_at is None else [schedule.next_due_at]

    async def pause_schedule(self, schedule_id: str, *, paused: bool = True) -> Schedule:
        """Keep a schedule from starting runs, or let it go on; what was due meanwhile is over.

        Raises:
            ScheduleNotFound: there is none.
            InvalidDocument: it is to go on, and this machine does not know its time zone.
        """

        def turned(before: Schedule, version: int, now: float) -> tuple[Schedule, Submission]:
            after = schedule_rows.paused(before, now)
            return after, schedule_rows.pausing(after, version, now)

        return await self._change(schedule_id, turned, lambda before: before.paused == paused)

    async def delete_schedule(self, schedule_id: str) -> None:
        """Forget a schedule; the runs that it has started go on.

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
        """Change a schedule unless it is as wanted; if it changed underneath, decide again."""
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
            # Also where nobody can say what became of it: who is told looks behind it.
            hint(self._core.addresses.schedules, ScheduleChanged(schedule_id=schedule_id))

    def _schedule(self, schedule_id: str) -> Versioned[Schedule]:
        return self._read(lambda view: SCHEDULES.read(view, schedule_id))

    def _there(self, found: Versioned[Schedule], schedule_id: str) -> Schedule:
        if found.row is None:
            raise ScheduleNotFound(schedule_id)
        return found.row

    def _admitted(self, schedule: Schedule) -> Schedule:
        """Check a new schedule, and say when it is due first."""
        if self._not_ready is not None:
            raise NotReady(self._not_ready)
        found = self._faults(schedule)
        if found:
            raise InvalidDocument("schedule", tuple(found))
        core, now = self._core, schedule.created_at
        trigger = Trigger(definition=schedule.workflow_id, payload=schedule.payload, agent_id=schedule.agent_id)
        # What could not be triggered now is no schedule either.
        self._read(lambda view: triggering.prepare(view, trigger, core.library, core.limits, now, core.clock.random))
        count = self._read(lambda view: view.count(SCHEDULES.name))
        if count >= core.limits.schedules_max:
            raise LimitExceeded("schedules_max", core.limits.schedules_max, count + 1)
        next_due_at = schedule.at if schedule.at is not None else due_times.of(schedule).after(now)
        return attrs.evolve(schedule, next_due_at=next_due_at)

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
    """What is of another kind than it should be, which a host without a type checker may give."""
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
    """Stands for what a schedule says, however its payload's fields are ordered."""
    return digest({name: getattr(schedule, name) for name in _CONTENT})


def _never(_: Schedule) -> bool:
    return False
