"""New ids: ordered by time, and never the same twice."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime.identity import new_id


@settings(deadline=None)
@given(earlier=st.floats(0, 4e9), later=st.floats(0, 4e9), seed=st.integers(0, 2**32))
def test_ids_sort_as_the_milliseconds_in_which_they_were_made(earlier: float, later: float, seed: int) -> None:
    first, second = sorted((earlier, later))
    rng = random.Random(seed)
    ids = new_id("ses", first, rng), new_id("ses", second, rng)
    if int(first * 1000) < int(second * 1000):
        assert ids[0] < ids[1]
    assert len(ids[0]) == len(ids[1]) == len("ses_") + 26


def test_ids_of_the_same_instant_never_meet() -> None:
    rng = random.Random(0)
    assert len({new_id("ses", 1_700_000_000.0, rng) for _ in range(10_000)}) == 10_000


def test_an_id_is_its_prefix_and_letters_that_no_one_mistakes() -> None:
    prefix, _, rest = new_id("ses", 1_700_000_000.0, random.Random(0)).partition("_")
    assert prefix == "ses"
    assert set(rest) <= set("0123456789abcdefghjkmnpqrstvwxyz")
