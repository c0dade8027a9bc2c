"""The due times of a schedule, and what to do about those that have passed, as pure functions."""

import math
from collections.abc import Iterator
from typing import Final, Protocol

import attrs

from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, Schedule
from opscore.runtime.schedules import cron, zones

_LOOKED_AT_FACTOR: Final = 4


class DueTimes(Protocol):
    """Due times, in order: those of a cron expression, or a single time."""

    def after(self, at: float) -> float | None:
        """Return the first due time after a moment, if there is one."""


@attrs.frozen
class Once:
    """A single due time."""

    at: float

    def after(self, at: float) -> float | None:
        """Return the time if it is after a moment."""
        return self.at if self.at > at else None


@attrs.frozen(kw_only=True)
class Decision:
    """What to do about a schedule that is due."""

    fires: float | None
    """The due time that starts a run now; None if no due time that has passed does."""
    next_due_at: float | None
    """The due time after that, which may have passed as well."""
    missed_from: float | None = None
    """The first of the missed due times that start nothing; they end before the one that fires, or else the next."""
    counted_until: float = -math.inf
    """For the next decision: due times up to here start runs, because they are among the newest that were counted."""


def of(schedule: Schedule) -> DueTimes:
    """Return the due times of a schedule.

    Raises:
        InvalidDocument: they can't be computed, for example because this machine does not know the time zone.
    """
    if schedule.at is not None:
        return Once(schedule.at)
    assert schedule.cron is not None, "a schedule has a cron expression or a time"
    found = faults(schedule.cron, schedule.time_zone)
    if found:
        raise InvalidDocument("schedule", tuple(found))
    return cron.Cron(schedule.cron, zones.named(schedule.time_zone))


def faults(expression: str | None, time_zone: str) -> list[Fault]:
    """Return the faults of a cron expression and a time zone."""
    found = [] if expression is None else [Fault(path="cron", message=each) for each in cron.faults(expression)]
    try:
        zones.named(time_zone)
    except ValueError as error:
        found.append(Fault(path="timeZone", message=str(error)))
    return found


def coming(schedule: Schedule, count: int) -> list[float]:
    """Return the next due times of a schedule, at most `count`; none while it is paused."""
    found: list[float] = []
    due_at = schedule.next_due_at
    times = of(schedule) if due_at is not None else None
    while times is not None and due_at is not None and len(found) < count:
        found.append(due_at)
        due_at = times.after(due_at)
    return found


def decided(schedule: Schedule, now: float, limits: Limits, counted_until: float = -math.inf) -> Decision:
    """Decide what a schedule that is due does now.

    Args:
        schedule: the schedule, whose `next_due_at` has come.
        now: wall time, in Unix seconds.
        limits: say when a due time counts as missed, and how many missed ones start runs.
        counted_until: `counted_until` of the decision before, if that was carried out.

    Raises:
        InvalidDocument: as `of`.
    """
    due_at = schedule.next_due_at
    assert due_at is not None, "it is due"
    times = of(schedule)
    if due_at <= counted_until or now - due_at < limits.schedule_late_s:
        return Decision(fires=due_at, next_due_at=times.after(due_at), counted_until=counted_until)
    if schedule.missed is Missed.SKIP:
        kept = times.after(now - limits.schedule_late_s)
    else:
        count_max = 1 if schedule.missed is Missed.ONCE else max(1, limits.schedule_missed_max)
        kept = _newest(times, due_at, math.floor(now), count_max)
    missed_from = due_at if kept != due_at else None
    if kept is None or kept > now:
        return Decision(fires=None, next_due_at=kept, missed_from=missed_from)
    counted_until = now if schedule.missed is Missed.ALL else -math.inf
    return Decision(fires=kept, next_due_at=times.after(kept), missed_from=missed_from, counted_until=counted_until)


def _newest(times: DueTimes, due_at: float, now: int, count_max: int) -> float | None:
    """Return the oldest of the newest `count_max` due times that have passed since `due_at`; there may be millions.

    The search goes back twice as far each time, which finds regular due times. If many of them are close together and
    long ago, bisection follows.
    """
    if _count(times, due_at, now, count_max) < count_max:
        return due_at
    oldest, enough, too_few = math.floor(due_at), now - 60, now
    while enough > oldest and _count(times, enough, now, count_max) < count_max:
        enough, too_few = now - 2 * (now - enough), enough
    enough = max(enough, oldest)
    passed = list(_between(times, enough, now, _LOOKED_AT_FACTOR * count_max))
    if len(passed) < _LOOKED_AT_FACTOR * count_max:
        return passed[-count_max]
    while too_few - enough > 1:
        middle = (enough + too_few) // 2
        if _count(times, middle, now, count_max) >= count_max:
            enough = middle
        else:
            too_few = middle
    return times.after(enough)


def _count(times: DueTimes, after: float, until: float, count_max: int) -> int:
    """Count the due times after one moment and until another, up to `count_max`."""
    return sum(1 for _ in _between(times, after, until, count_max))


def _between(times: DueTimes, after: float, until: float, count_max: int) -> Iterator[float]:
    due_at = times.after(after)
    while due_at is not None and due_at <= until and count_max > 0:
        yield due_at
        due_at, count_max = times.after(due_at), count_max - 1
