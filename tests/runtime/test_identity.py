"""Ids: new ones are ordered by time and never the same twice; chosen ones can stand in a path."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime.identity import new_id, numbered, unusable


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


@settings(deadline=None)
@given(count=st.integers(1, 12_000))
def test_names_of_several_sort_as_they_are_listed(count: int) -> None:
    names = [numbered("ses_1", place, count) for place in range(count)]
    assert names == sorted(set(names))
    assert names[-1] == f"ses_1.{count - 1}"


@pytest.mark.parametrize(
    ("identity", "fault"),
    [
        ("", "is empty or blank"),
        (" \t\u2003", "is empty or blank"),
        ("a/b", 'contains "/"'),
        ("/", 'contains "/"'),
        (".", 'is "." or "..", which a path never keeps'),
        ("..", 'is "." or "..", which a path never keeps'),
        ("a\nb", "contains control characters"),
        ("a\x00", "contains control characters"),
        ("\x7fa", "contains control characters"),
        ("a\x85b", "contains control characters"),
        ("a\ud800", "contains half of a surrogate pair"),
    ],
    ids=ascii,
)
def test_an_id_that_could_not_stand_in_a_path_is_told_why(identity: str, fault: str) -> None:
    assert unusable(identity) == fault


@pytest.mark.parametrize(
    "identity", ["a", "...", ".a", "a..b", "a b", "Ärger & co? 100% #1", "a\\b", "🦜", "%2F", " a"]
)
def test_any_other_id_is_fine(identity: str) -> None:
    assert unusable(identity) is None


def test_a_new_id_is_usable() -> None:
    assert unusable(new_id("ses", 1_700_000_000.0, random.Random(0))) is None
