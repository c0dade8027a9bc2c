from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.actors.backoff import Backoff


def test_ceilings_grow_by_the_coefficient_up_to_the_maximum() -> None:
    backoff = Backoff(initial_s=0.5, coefficient=3.0, max_s=10.0)
    assert [backoff.ceiling_s(failures) for failures in range(1, 6)] == [0.5, 1.5, 4.5, 10.0, 10.0]


@given(
    failures=st.integers(min_value=1, max_value=10**12),
    initial_s=st.floats(min_value=0.0, max_value=1e6),
    coefficient=st.floats(min_value=1.0, max_value=1e6),
    max_s=st.floats(min_value=0.0, max_value=1e6),
    jitter=st.floats(min_value=0.0, max_value=1.0),
    seed=st.integers(),
)
def test_delays_never_overflow_and_stay_between_nothing_and_the_ceiling(
    failures: int, initial_s: float, coefficient: float, max_s: float, jitter: float, seed: int
) -> None:
    backoff = Backoff(initial_s=initial_s, coefficient=coefficient, max_s=max_s, jitter=jitter)
    assert 0.0 <= backoff.delay_s(failures, Random(seed)) <= backoff.ceiling_s(failures) <= max_s


def test_without_jitter_the_delay_is_the_ceiling() -> None:
    backoff = Backoff(initial_s=0.5, jitter=0.0)
    assert [backoff.delay_s(failures, Random(1)) for failures in (1, 2)] == [0.5, 1.0]


def test_full_jitter_draws_from_the_whole_ceiling() -> None:
    random = Random(7)
    delays = [Backoff(initial_s=8.0).delay_s(1, random) for _ in range(200)]
    assert min(delays) < 1.0
    assert max(delays) > 7.0


def test_no_initial_delay_stays_none_however_often_it_is_doubled() -> None:
    assert Backoff(initial_s=0.0).ceiling_s(10**9) == 0.0


@pytest.mark.parametrize("bad", [{"initial_s": -1.0}, {"coefficient": 0.5}, {"max_s": -1.0}, {"jitter": 1.5}])
def test_values_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Backoff(**bad)
