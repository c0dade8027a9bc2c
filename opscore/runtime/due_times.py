"""What a schedule's due times are, and what is to be done about those that have passed: decided on values alone."""

import math
from collections.abc import Iterator
from typing import Final, Protocol

import attrs

from opscore.runtime import cron, zones
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, Schedule

_LOOKED_AT_FACTOR: Final = 4


class DueTimes(Protocol):
    """Due times, in order; a cron expression has them, and so has a single time."""

    def after(self, at: float) -> float | None:
        """The first one after a moment, if there is one."""


@attrs.frozen
class Once:
    """A single due time."""

    at: float

    def after(self, at: float) -> float | None:
        """That time, as long as it is to come."""
        return self.at if self.at > at else None


@attrs.frozen(kw_only=True)
class Decision:
    """What is to be done about a schedule that is due."""

    fires: float | None
    """The due time that starts a run now; nothing where none of those that have passed does."""
    next_due_at: float | None
    """What is due after that, which may have passed as well."""
    missed_from: float | None = None
    """Due times from here to the one that fires, or to the next one, were missed and start nothing."""
    counted_until: float = -math.inf
    """Once this is done: what is due up to here starts a run, it is among those that were counted."""


def of(schedule: Schedule) -> DueTimes:
    """The due times of a schedule.

    Raises:
        InvalidDocument: this machine can't tell, such as because it does not know the time zone.
    """
    if schedule.at is not None:
        return Once(schedule.at)
    assert schedule.cron is not None, "a schedule has a cron expression or a time"
    found = faults(schedule.cron, schedule.time_zone)
    if found:
        raise InvalidDocument("schedule", tuple(found))
    return cron.Cron(schedule.cron, zones.named(schedule.time_zone))


def faults(expression: str | None, time_zone: str) -> list[Fault]:
    """What is wrong with an expression and a time zone."""
    found = [] if expression is None else [Fault(path="cron", message=each) for each in cron.faults(expression)]
    try:
        zones.named(time_zone)
    except ValueError as error:
        found.append(Fault(path="timeZone", message=str(error)))
    return found


def coming(schedule: Schedule, count: int) -> list[float]:
    """The next due times, as many as there are and `count` at most; none while it is paused."""
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
        schedule: its `next_due_at` has come.
        now: wall time, in Unix seconds.
        limits: when a due time counts as missed, and how many of those start runs all the same.
        counted_until: what the decision before said, if that was done.

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
    """The first of the newest due times that have passed, of which `due_at` is the oldest; there may be millions.

    Looked for twice as far back each time, which finds what is due at intervals; then, where many are due close
    together and long ago, by bisection.
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
    """How many due times there are after one moment and until another; it stops counting at `count_max`."""
    return sum(1 for _ in _between(times, after, until, count_max))


def _between(times: DueTimes, after: float, until: float, count_max: int) -> Iterator[float]:
    due_at = times.after(after)
    while due_at is not None and due_at <= until and count_max > 0:
        yield due_at
        due_at, count_max = times.after(due_at), count_max - 1
