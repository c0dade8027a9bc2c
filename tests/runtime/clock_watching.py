"""When simple cron expressions are due, found by looking at the clock once a minute; and moments worth looking at."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st

from opscore.runtime.schedules import zones

ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns"),
    *("Asia/Beirut", "Africa/Casablanca", "Pacific/Apia", "UTC"),
)
HOUR_S = 3_600


@attrs.frozen
class Field:
    """A field of an expression, and what it means."""

    text: str
    values: frozenset[int]


def field_of(first: int, last: int) -> st.SearchStrategy[Field]:
    every = frozenset(range(first, last + 1))
    value = st.integers(first, last)
    step = st.integers(1, 30).map(lambda n: Field(f"*/{n}", frozenset(range(first, last + 1, n))))
    several = st.lists(value, min_size=1, max_size=5).map(lambda n: Field(",".join(map(str, n)), frozenset(n)))
    between = st.tuples(value, value).map(
        lambda pair: Field(f"{min(pair)}-{max(pair)}", frozenset(range(min(pair), max(pair) + 1)))
    )
    return st.one_of(st.just(Field("*", every)), step, several, between)


@attrs.frozen
class Simple:
    """An expression of minutes, hours and days of the week (Sunday is 0)."""

    minute: Field
    hour: Field
    weekday: Field

    @property
    def text(self) -> str:
        return f"{self.minute.text} {self.hour.text} * * {self.weekday.text}"

    @property
    def at_intervals(self) -> bool:
        return "*" in self.minute.text or "*" in self.hour.text

    def matches(self, reading: datetime) -> bool:
        weekday = reading.isoweekday() % 7
        return (
            reading.minute in self.minute.values and reading.hour in self.hour.values and weekday in self.weekday.values
        )


EXPRESSIONS = st.builds(Simple, field_of(0, 59), field_of(0, 23), field_of(0, 6))
MINUTE = timedelta(minutes=1)


def by_hand(expression: Simple, zone: ZoneInfo, since: int, until: int) -> Iterator[int]:
    """Every due time after one moment and until another: the clock is looked at once a minute."""
    early = since - 30 * HOUR_S
    seen, before = set(), None
    for at in range(early - early % 60, until + 1, 60):
        reading = datetime.fromtimestamp(at, zone).replace(tzinfo=None)
        passed = 0 if before is None else max(0, (reading - before) // MINUTE - 1)
        never_shown = [reading - MINUTE * back for back in range(1, passed + 1)]
        due = expression.matches(reading)
        if not expression.at_intervals:
            due = (due and reading not in seen) or any(map(expression.matches, never_shown))
        if due and at > since:
            yield at
        seen.add(reading)
        before = reading


@st.composite
def around_a_change(draw: st.DrawFn) -> tuple[ZoneInfo, int]:
    """A moment in the days around a change of a clock, where there is one."""
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    year = draw(st.integers(2008, 2030))
    begin = int(datetime(year, draw(st.integers(1, 12)), 1, tzinfo=UTC).timestamp())
    change = zones.changed(zone, begin, begin + 366 * 24 * HOUR_S) or begin
    return zone, change + draw(st.integers(-30 * HOUR_S, 5 * HOUR_S))
