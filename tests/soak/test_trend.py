"""What counts as growth, and what does not."""

import random

import pytest

from tests.soak import verdict
from tests.soak.trend import Bound, Sample, line, trends

BOUND = Bound(floor=10.0, share=0.1, per_run=0.01)


def samples(values: list[float], *, runs_each: float = 10.0) -> list[Sample]:
    return [Sample(at=5.0 * n, runs=runs_each * n, figures={"x": value}) for n, value in enumerate(values)]


def grows(values: list[float], bound: Bound = BOUND) -> bool:
    return any(trend.is_too_much for trend in trends(samples(values), lambda _: bound))


def test_what_is_level_does_not_grow_however_it_jumps() -> None:
    rng = random.Random(1)
    assert not grows([100.0 + rng.uniform(-50.0, 50.0) for _ in range(200)])


def test_what_fills_up_at_first_and_is_level_then_does_not_grow() -> None:
    assert not grows([min(1_000.0, 20.0 * n) for n in range(150)])


def test_a_few_wild_samples_are_no_growth() -> None:
    assert not grows([100.0 if n % 5 else 100.0 + 50.0 * n for n in range(100)])


def test_a_little_with_each_run_is_growth_in_the_midst_of_noise() -> None:
    rng = random.Random(2)
    assert grows([100.0 + 0.5 * n + rng.uniform(-20.0, 20.0) for n in range(300)], Bound(floor=10.0, share=0.2))


def test_what_becomes_less_does_not_grow() -> None:
    assert not grows([1_000.0 - n for n in range(200)])


def test_too_few_samples_say_nothing() -> None:
    assert not grows([0.0, 100.0, 10_000.0, 1_000_000.0])


def test_what_was_not_there_at_first_counts_from_nothing() -> None:
    found = [*samples([0.0] * 60), *(Sample(at=300.0 + n, runs=600.0, figures={"new": 10.0 * n}) for n in range(60))]
    (trend,) = [each for each in trends(found, lambda _: BOUND) if each.name == "new"]
    assert trend.is_too_much


def test_the_line_is_that_of_most_samples() -> None:
    first, last = line([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 200.0, 3.0, 4.0])
    assert first == pytest.approx(0.0)
    assert last == pytest.approx(4.0)


def test_times_count_only_where_the_machine_is_the_soaks_own() -> None:
    slower = [Sample(at=5.0 * n, runs=0.0, figures={"a run p50": 0.1 * n}) for n in range(30)]
    assert verdict.of_samples(slower, timed=True)
    assert not verdict.of_samples(slower, timed=False)


def test_of_what_was_there_before_nothing_is_left_over() -> None:
    before = {"actors": 8.0, "threads": 4.0, "due times armed": 0.0, "instances: opscore.x.Y": 5.0, "objects": 1.0}
    assert verdict.left(before, {**before, "objects": 1_000_000.0}) == {}
    found = verdict.left(before, {**before, "actors": 9.0, "due times armed": 1.0, "instances: opscore.x.Y": 500.0})
    assert list(found) == ["actors", "due times armed", "instances: opscore.x.Y"]


def test_a_warning_that_nobody_expects_is_told_once_with_how_often_it_came() -> None:
    log = [{"level": "warning", "event": f"session ses_{n:08} is odd"} for n in range(5)]
    expected = {"level": "warning", "event": "schedule s-1: its due time starts no run: there is no agent 'a'"}
    (told,) = verdict.of_log([*log, expected], stood_still=False)
    assert told.startswith("logged 5 times")
