"""Cron expressions in time zones, held against clocks that are looked at minute by minute."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime.schedules import cron
from opscore.runtime.schedules.cron import Cron
from tests.runtime.clock_watching import EXPRESSIONS, HOUR_S, Simple, around_a_change, by_hand

BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"
LORD_HOWE = "Australia/Lord_Howe"


def shown(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next due times, as the clock of the zone shows them, from a reading of it that is given with its offset."""
    times, at = Cron(expression, ZoneInfo(zone)), datetime.fromisoformat(after).timestamp()
    found = []
    for _ in range(count):
        due_at = times.after(at)
        assert due_at is not None
        assert due_at > at
        found.append(datetime.fromtimestamp(due_at, ZoneInfo(zone)).strftime("%d %H:%M%z"))
        at = due_at
    return found


# --- the clock is put forward -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "zone", "after", "due"),
    [
        ("30 2 * * *", BERLIN, "2026-03-28T12:00:00+01:00", ["29 03:00+0200", "30 02:30+0200"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00:00-05:00", ["08 03:00-0400", "09 02:30-0400"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00:00+10:30", ["04 02:30+1100", "05 02:15+1100"]),
        # Several that the clock is put forward past are due at that one moment, once.
        ("0,20,40 2 * * *", BERLIN, "2026-03-28T12:00:00+01:00", ["29 03:00+0200", "30 02:00+0200"]),
        ("0 2,3 * * *", BERLIN, "2026-03-28T12:00:00+01:00", ["29 03:00+0200", "30 02:00+0200"]),
        ("0 1-4 * * *", BERLIN, "2026-03-29T00:30:00+01:00", ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]),
    ],
)
def test_a_time_of_day_that_does_not_exist_is_due_when_the_clock_is_put_forward(
    expression: str, zone: str, after: str, due: list[str]
) -> None:
    assert shown(expression, zone, after, len(due)) == due


@pytest.mark.parametrize(
    ("expression", "zone", "after", "due"),
    [
        ("*/30 * * * *", BERLIN, "2026-03-29T01:10:00+01:00", ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"]),
        ("0 */2 * * *", NEW_YORK, "2026-03-08T00:00:00-05:00", ["08 04:00-0400", "08 06:00-0400"]),
        ("*/15 * * * *", LORD_HOWE, "2026-10-04T01:40:00+10:30", ["04 01:45+1030", "04 02:30+1100", "04 02:45+1100"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00:00+01:00", ["30 02:00+0200", "30 02:30+0200"]),
    ],
)
def test_what_comes_at_intervals_goes_on_with_the_next_time_that_exists(
    expression: str, zone: str, after: str, due: list[str]
) -> None:
    assert shown(expression, zone, after, len(due)) == due


# --- the clock is set back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "zone", "after", "due"),
    [
        ("30 2 * * *", BERLIN, "2026-10-24T12:00:00+02:00", ["25 02:30+0200", "26 02:30+0100"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00:00-04:00", ["01 01:30-0400", "02 01:30-0500"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00:00+11:00", ["05 01:45+1100", "06 01:45+1030"]),
        # Asked between the two: the second one is not due either.
        ("30 2 * * *", BERLIN, "2026-10-25T02:15:00+01:00", ["26 02:30+0100"]),
        ("0,20,40 2 * * *", BERLIN, "2026-10-25T02:30:00+02:00", ["25 02:40+0200", "26 02:00+0100"]),
    ],
)
def test_a_time_of_day_that_exists_twice_is_due_the_first_time(
    expression: str, zone: str, after: str, due: list[str]
) -> None:
    assert shown(expression, zone, after, len(due)) == due


@pytest.mark.parametrize(
    ("expression", "zone", "after", "due"),
    [
        ("*/30 * * * *", BERLIN, "2026-10-25T02:10:00+02:00", ["25 02:30+0200", "25 02:00+0100", "25 02:30+0100"]),
        ("0 * * * *", NEW_YORK, "2026-11-01T00:30:00-04:00", ["01 01:00-0400", "01 01:00-0500", "01 02:00-0500"]),
        ("*/15 * * * *", LORD_HOWE, "2026-04-05T01:40:00+11:00", ["05 01:45+1100", "05 01:30+1030", "05 01:45+1030"]),
        ("0 */2 * * *", LORD_HOWE, "2026-04-05T00:00:00+11:00", ["05 02:00+1030", "05 04:00+1030"]),
    ],
)
def test_what_comes_at_intervals_comes_both_times(expression: str, zone: str, after: str, due: list[str]) -> None:
    assert shown(expression, zone, after, len(due)) == due


# --- any expression, any change -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(expression=EXPRESSIONS, place=around_a_change(), hours=st.integers(1, 60))
def test_due_times_are_those_that_somebody_finds_who_looks_at_the_clock_every_minute(
    expression: Simple, place: tuple[ZoneInfo, int], hours: int
) -> None:
    zone, since = place
    until = since + hours * HOUR_S
    times, found = Cron(expression.text, zone), []
    due_at = times.after(since)
    while due_at is not None and due_at <= until:
        found.append(int(due_at))
        due_at = times.after(due_at)
    assert found == list(by_hand(expression, zone, since, until))
    assert found == sorted(set(found))


@settings(deadline=None)
@given(expression=EXPRESSIONS, place=around_a_change(), fraction=st.floats(0, 0.999))
def test_a_due_time_comes_after_the_moment_that_is_asked_about_also_within_a_second(
    expression: Simple, place: tuple[ZoneInfo, int], fraction: float
) -> None:
    zone, since = place
    times = Cron(expression.text, zone)
    assert times.after(since + fraction) == times.after(since)


def test_a_sixth_field_before_the_others_is_the_second() -> None:
    times = Cron("*/20 30 2 * * *", ZoneInfo("UTC"))
    found, at = [], 0.0
    for _ in range(4):
        at = times.after(at) or 0.0
        found.append(at - (2 * HOUR_S + 30 * 60))
    assert found == [0.0, 20.0, 40.0, 24.0 * HOUR_S]


def test_an_expression_that_is_due_once_in_decades_is_found_and_one_that_never_is_ends() -> None:
    rare = Cron("0 0 * 2 MON#5", ZoneInfo("UTC"))
    assert rare.after(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) == datetime(2044, 2, 29, tzinfo=UTC).timestamp()
    assert Cron("0 0 */20 * 1L", ZoneInfo("UTC")).after(0.0) is None


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("61 * * * *", ["the minute '61' is not understood; expected 0–59"]),
        ("* 24 * * *", ["the hour '24' is not understood; expected 0–23"]),
        ("* * 0 * *", ["the day of month '0' is not understood; expected 1–31"]),
        ("* * * 13 *", ["the month '13' is not understood; expected 1–12 or JAN–DEC"]),
        ("* * * * 8", ["the day of week '8' is not understood; expected 0–7 or SUN–SAT"]),
        ("60 * * * * *", ["the second '60' is not understood; expected 0–59"]),
        ("a */0 5-1 * *", ["the minute 'a'", "the hour '*/0'", "the day of month '5-1'"]),
        ("", ["expected five fields, minute, hour, day of month, month, day of week"]),
        ("@daily", ["found 1"]),
        ("* * * *", ["found 4"]),
        ("* * * * * * *", ["found 7"]),
        ("0 0 31 2 *", ["no such day within 50 years"]),
        ("0 0 */20 * 1L", ["no such day within 50 years"]),
        ("9" * 5_000 + " * * * *", ["expected 256 characters at most"]),
    ],
)
def test_each_field_that_is_wrong_is_named_with_what_it_may_be(expression: str, words: list[str]) -> None:
    found = cron.faults(expression)
    assert len(found) == len(words)
    for fault, said in zip(found, words, strict=True):
        assert said in fault
    if words != ["no such day within 50 years"] or "31 2" in expression:
        with pytest.raises(ValueError, match="is not a cron expression"):
            Cron(expression[:256], ZoneInfo("UTC"))


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123456789*/,-#LW MONJANé٣ \t?", max_size=30) | st.text(max_size=300))
def test_any_text_is_an_expression_or_has_faults(text: str) -> None:
    found = cron.faults(text)
    if found:
        assert all(re.search(r"expected|there is no such day", fault) for fault in found)
    else:
        assert Cron(text, ZoneInfo(BERLIN)).after(1_700_000_000.0) is not None
