"""What is done about due times that have passed, by each policy; held against a plain list of all of them."""

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime.errors import InvalidDocument
from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, Schedule
from opscore.runtime.schedules import due_times
from opscore.runtime.schedules.cron import Cron

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
HOUR_S = 3_600.0
LIMITS = Limits(schedule_late_s=60.0, schedule_missed_max=5)


def schedule(**fields: Any) -> Schedule:
    given_one = {"cron": "0 * * * *"} if "at" not in fields else {}
    row = Schedule(schedule_id="s", workflow_id="w", created_at=0.0, **{**given_one, **fields})
    return row if row.next_due_at is not None else attrs.evolve(row, next_due_at=row.at or NOON)


def carried_out(row: Schedule, now: float, limits: Limits = LIMITS) -> tuple[list[float], float | None]:
    """Do what is decided until nothing is due; answers which due times started a run, and what is due next."""
    fired: list[float] = []
    due_at, counted_until = row.next_due_at, -1.0
    while due_at is not None and due_at <= now:
        decision = due_times.decided(attrs.evolve(row, next_due_at=due_at), now, limits, counted_until)
        if decision.fires is not None:
            fired.append(decision.fires)
        assert decision.next_due_at is None or decision.next_due_at > due_at
        due_at, counted_until = decision.next_due_at, decision.counted_until
    return fired, due_at


@pytest.mark.parametrize("missed", Missed)
def test_what_is_less_than_a_minute_late_starts_a_run_by_every_policy(missed: Missed) -> None:
    assert carried_out(schedule(missed=missed), NOON + 59.9) == ([NOON], NOON + HOUR_S)


def test_what_was_missed_is_skipped() -> None:
    row = schedule(missed=Missed.SKIP)
    assert carried_out(row, NOON + 60.0) == ([], NOON + HOUR_S)
    assert carried_out(row, NOON + 9.5 * HOUR_S) == ([], NOON + 10 * HOUR_S)
    # One that has just come due is not missed.
    assert carried_out(row, NOON + 9 * HOUR_S + 1) == ([NOON + 9 * HOUR_S], NOON + 10 * HOUR_S)


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    row = schedule(missed=Missed.ONCE)
    assert carried_out(row, NOON + 60.0) == ([NOON], NOON + HOUR_S)
    assert carried_out(row, NOON + 9.5 * HOUR_S) == ([NOON + 9 * HOUR_S], NOON + 10 * HOUR_S)
    assert carried_out(row, NOON + 9 * HOUR_S + 1) == ([NOON + 9 * HOUR_S], NOON + 10 * HOUR_S)


def test_each_that_was_missed_starts_a_run_in_order_the_newest_of_too_many() -> None:
    row = schedule(missed=Missed.ALL)
    hours = [NOON + hour * HOUR_S for hour in range(20)]
    assert carried_out(row, NOON + 4.5 * HOUR_S) == (hours[:5], hours[5])
    assert carried_out(row, NOON + 5.5 * HOUR_S) == (hours[1:6], hours[6])
    assert carried_out(row, NOON + 9 * HOUR_S + 1) == (hours[5:10], hours[10])


@pytest.mark.parametrize(
    ("missed", "fired"), [(Missed.SKIP, []), (Missed.ONCE, [NOON + 0.5]), (Missed.ALL, [NOON + 0.5])]
)
def test_a_single_time_that_was_missed_follows_the_policy_too(missed: Missed, fired: list[float]) -> None:
    assert carried_out(schedule(at=NOON + 0.5, missed=missed), NOON + 90.0) == (fired, None)
    assert carried_out(schedule(at=NOON + 0.5, missed=missed), NOON + 1.0) == ([NOON + 0.5], None)


def test_years_of_seconds_that_were_missed_are_decided_on_without_counting_them_all() -> None:
    now = NOON + 3 * 366 * 24 * HOUR_S
    row = schedule(cron="* * * * * *", missed=Missed.ALL)
    assert carried_out(row, now) == ([now - 4 + second for second in range(5)], now + 1)
    assert carried_out(attrs.evolve(row, missed=Missed.ONCE), now) == ([now], now + 1)


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/5 * * * *", "0 0 1 * *", "* * * 1 *"])
def test_the_newest_of_years_are_found_by_looking_at_few(cron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, looks, after = schedule(cron=cron, missed=Missed.ALL), 0, Cron.after

    def watched(times: Cron, at: float) -> float | None:
        nonlocal looks
        looks += 1
        return after(times, at)

    monkeypatch.setattr(Cron, "after", watched)
    decision = due_times.decided(row, NOON + 10 * 366 * 24 * HOUR_S, Limits(schedule_missed_max=100))
    assert decision.fires is not None
    assert looks < 3_500


def test_what_was_counted_once_is_not_counted_again_while_more_comes_due() -> None:
    row = schedule(cron="* * * * *", missed=Missed.ALL)
    first = due_times.decided(row, NOON + 300.0, Limits(schedule_missed_max=6))
    assert (first.fires, first.missed_from) == (NOON, None)
    # It took long, and more than six have passed by now; those counted before stay.
    then = attrs.evolve(row, next_due_at=first.next_due_at)
    second = due_times.decided(then, NOON + 900.0, Limits(schedule_missed_max=6), first.counted_until)
    assert (second.fires, second.missed_from) == (NOON + 60.0, None)
    assert due_times.decided(then, NOON + 900.0, Limits(schedule_missed_max=6)).fires == NOON + 600.0


def test_what_is_left_out_is_told_from_its_first() -> None:
    skipped = due_times.decided(schedule(missed=Missed.SKIP), NOON + 2.5 * HOUR_S, LIMITS)
    assert (skipped.missed_from, skipped.fires, skipped.next_due_at) == (NOON, None, NOON + 3 * HOUR_S)
    once = due_times.decided(schedule(missed=Missed.ONCE), NOON + 2.5 * HOUR_S, LIMITS)
    assert (once.missed_from, once.fires, once.next_due_at) == (NOON, NOON + 2 * HOUR_S, NOON + 3 * HOUR_S)


def test_what_comes_next_is_told_and_nothing_while_it_is_paused() -> None:
    assert due_times.coming(schedule(), 3) == [NOON, NOON + HOUR_S, NOON + 2 * HOUR_S]
    assert due_times.coming(schedule(at=NOON), 3) == [NOON]
    assert due_times.coming(attrs.evolve(schedule(paused=True), next_due_at=None), 3) == []


def test_a_schedule_whose_zone_this_machine_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(InvalidDocument, match="timeZone: expected a time zone"):
        due_times.of(schedule(time_zone="Europe/Atlantis"))


EXPRESSIONS = ("* * * * *", "*/7 * * * *", "0 */3 * * *", "15,45 8-18 * * MON-FRI", "30 2 * * *")


@settings(deadline=None, max_examples=200)
@given(
    expression=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    missed=st.sampled_from(Missed),
    count_max=st.integers(1, 40),
    away_s=st.floats(0, 3 * 24 * HOUR_S),
)
def test_after_any_time_away_each_policy_starts_what_a_plain_list_says(
    expression: str, zone: str, missed: Missed, count_max: int, away_s: float
) -> None:
    # The clocks of Berlin are changed within these days.
    begin = datetime(2026, 10, 24, tzinfo=UTC).timestamp()
    row = Schedule(schedule_id="s", workflow_id="w", created_at=begin, cron=expression, time_zone=zone, missed=missed)
    times, now = due_times.of(row), begin + away_s
    passed: list[float] = []
    due_at = times.after(begin)
    first = due_at
    while due_at is not None and due_at <= now:
        passed.append(due_at)
        due_at = times.after(due_at)
    on_time = [each for each in passed if now - each < LIMITS.schedule_late_s]
    wanted = {
        Missed.SKIP: on_time,
        Missed.ONCE: passed[-1:] if passed != on_time else passed,
        Missed.ALL: passed[-count_max:] if passed != on_time else passed,
    }[missed]
    limits = Limits(schedule_late_s=LIMITS.schedule_late_s, schedule_missed_max=count_max)
    assert carried_out(attrs.evolve(row, next_due_at=first), now, limits) == (wanted, due_at)
