"""The due times of a cron expression in a time zone.

`cronsim` parses the expression and yields the readings of a clock that it matches, as Debian's cron does. What becomes
of a reading that the zone's clock shows twice, or never, is decided here (ADR 15).
"""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from opscore.runtime.schedules import zones

CHARACTERS_MAX: Final = 256
"""Length of an expression."""

_FIELDS: Final = (
    ("second", "0–59"),
    ("minute", "0–59"),
    ("hour", "0–23"),
    ("day of month", "1–31, L for the last day, LW for the last weekday"),
    ("month", "1–12 or JAN–DEC"),
    ("day of week", "0–7 or SUN–SAT, 5L for the last Friday, MON#2 for the second Monday"),
)
_SHOWN_MAX: Final = 40
_ANY_DAY: Final = datetime(2000, 1, 1)  # noqa: DTZ001 (a reading of a clock has no zone)
_SECOND: Final = timedelta(seconds=1)


def faults(text: str) -> list[str]:
    """Return what is wrong with an expression; nothing if it can be due."""
    if len(text) > CHARACTERS_MAX:
        return [f"expected {CHARACTERS_MAX} characters at most"]
    fields = text.split()
    names = _FIELDS[-len(fields) :]
    if len(fields) not in (len(_FIELDS), len(_FIELDS) - 1):
        wanted = "minute, hour, day of month, month, day of week; a sixth one before them is the second"
        return [f"expected five fields, {wanted}: found {len(fields)}"]
    found = [
        f"the {name} {field[:_SHOWN_MAX]!r} is not understood; expected {values}, each also in lists 1,3, "
        "ranges 1-5 and steps */2, or * for every one"
        for place, ((name, values), field) in enumerate(zip(names, fields, strict=True))
        if not _is_read([field if each == place else "*" for each in range(len(fields))])
    ]
    if not found and (not _is_read(fields) or next(CronSim(text, _ANY_DAY), None) is None):
        return ["there is no such day within 50 years"]
    return found


def _is_read(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), _ANY_DAY)
    except CronSimError:
        return False
    return True


class Cron:
    """The due times of an expression, in whole seconds.

    An expression whose minute or hour begins with `*` repeats at intervals: it is due whenever the clock shows a
    matching reading, so twice for a reading that is shown twice, and never for one that is never shown. Any other
    expression names times of day: each is due once on every matching day, when the clock first shows it, or at the
    moment at which the clock is put forward past it.

    Args:
        text: the expression.
        zone: the zone whose clock it is matched against.

    Raises:
        ValueError: it can't be read; `faults` says why.
    """

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        if not _is_read(text.split()):
            raise ValueError(f"{text[:CHARACTERS_MAX]!r} is not a cron expression")
        self._text = text
        self._zone = zone
        minute, hour = text.split()[-5:-3]
        self._at_intervals = minute.startswith("*") or hour.startswith("*")

    def after(self, at: float) -> float | None:
        """Return the first due time after a moment, or None if none comes within 50 years."""
        since = math.floor(at)
        found = self._interval_after(since) if self._at_intervals else self._time_of_day_after(at, since)
        return None if found is None else float(found)

    def _time_of_day_after(self, at: float, since: int) -> int | None:
        due_times = (zones.moment(self._zone, shown) for shown in self._matches(zones.reading(self._zone, since)))
        # Readings that the clock shows a second time, or was put forward past, have been due already.
        return next((due_at for due_at in due_times if due_at > at), None)

    def _interval_after(self, since: int) -> int | None:
        start, shown = since, zones.reading(self._zone, since)
        while (match := next(self._matches(shown), None)) is not None:
            due_at = start + round((match - shown).total_seconds())
            change = zones.changed(self._zone, since, due_at)
            if change is None:
                return due_at
            # From the change on, the clock shows other readings; the search includes the first of them.
            since, start, shown = change, change - 1, zones.reading(self._zone, change) - _SECOND
        return None

    def _matches(self, after: datetime) -> Iterator[datetime]:
        """Yield the matching readings after one, regardless of the zone."""
        return CronSim(self._text, after)
