"""Clocks of places: what they show, when they show it, and when they are changed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.runtime.schedules import zones

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_zone_is_found_by_its_name() -> None:
    assert zones.named("Australia/Lord_Howe").key == "Australia/Lord_Howe"
    assert zones.named("UTC").key == "UTC"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("America/NewYork", "did you mean America/New_York?"),
    ],
)
def test_an_unknown_zone_is_told_with_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(ValueError, match="expected a time zone such as Europe/Berlin") as refusal:
        zones.named(name)
    assert near in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    ["", "Europe", "localtime", "posixrules", "../../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "x" * 9_999],
)
def test_what_is_no_name_of_a_zone_is_never_looked_up_as_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="expected a time zone"):
        zones.named(name)


@pytest.mark.parametrize(
    ("zone", "shown", "at"),
    [
        (BERLIN, "2026-07-01T12:00:00", "2026-07-01T10:00:00"),
        # Put forward from 02:00 to 03:00: what is never shown counts as the moment of the change.
        (BERLIN, "2026-03-29T02:00:00", "2026-03-29T01:00:00"),
        (BERLIN, "2026-03-29T02:59:59", "2026-03-29T01:00:00"),
        (BERLIN, "2026-03-29T03:00:00", "2026-03-29T01:00:00"),
        # Set back from 03:00 to 02:00: what is shown twice counts when it is shown first.
        (BERLIN, "2026-10-25T02:30:00", "2026-10-25T00:30:00"),
        (BERLIN, "2026-10-25T03:00:00", "2026-10-25T02:00:00"),
        # By half an hour: from 02:00 to 02:30, and from 02:00 to 01:30.
        (LORD_HOWE, "2026-10-04T02:15:00", "2026-10-03T15:30:00"),
        (LORD_HOWE, "2026-04-05T01:45:00", "2026-04-04T14:45:00"),
    ],
)
def test_a_clock_shows_a_reading_at_one_moment_that_counts(zone: ZoneInfo, shown: str, at: str) -> None:
    assert zones.moment(zone, local(shown)) == utc(at)


def test_a_change_is_found_to_the_second() -> None:
    change = utc("2026-03-29T01:00:00")
    assert zones.changed(BERLIN, utc("2026-01-01T00:00:00"), utc("2026-12-31T00:00:00")) == change
    assert zones.changed(BERLIN, change - 1, change) == change
    assert zones.changed(BERLIN, change, utc("2026-10-25T00:59:59")) is None
    assert zones.changed(BERLIN, change - 10, change - 1) is None


@given(zone=st.sampled_from([BERLIN, LORD_HOWE, ZoneInfo("Pacific/Apia")]), at=st.integers(0, 2**32))
def test_a_reading_comes_back_as_its_moment_or_the_one_at_which_it_was_shown_first(zone: ZoneInfo, at: int) -> None:
    found = zones.moment(zone, zones.reading(zone, at))
    assert found <= at
    assert zones.reading(zone, found) == zones.reading(zone, at)
