"""What may be stored as a payload or a result: JSON, within a size and a depth."""

import json
from collections import OrderedDict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime import codec
from opscore.runtime.delivery import Completed, Delivered, Failed
from opscore.runtime.errors import LimitExceeded
from opscore.runtime.limits import Limits
from opscore.runtime.models import Failure, Session
from opscore.runtime.values import check_value, checked, deep_copy, walk

LIMITS = Limits()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        outer: Any = [value] if level % 2 else {"x": value}
        value = outer
    return value


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, {"a": [1, 2.5, None, "é"]}], ids=repr)
def test_any_json_may_be_stored(value: Any) -> None:
    check_value(value, LIMITS)


def test_a_value_is_measured_as_the_json_that_is_stored() -> None:
    check_value("x" * (256 * 1024 - 2), LIMITS)
    with pytest.raises(LimitExceeded) as refusal:
        check_value("x" * (256 * 1024 - 1), LIMITS)
    assert (refusal.value.limit, refusal.value.allowed, refusal.value.found) == ("value_bytes_max", 262_144, 262_145)
    with pytest.raises(LimitExceeded):
        check_value("é" * (128 * 1024), LIMITS)


@pytest.mark.parametrize("levels", [101, 500, 50_000])
def test_a_value_that_nests_too_deeply_is_refused_naming_the_limit(levels: int) -> None:
    with pytest.raises(LimitExceeded) as refusal:
        check_value(nested(levels), LIMITS)
    assert (refusal.value.limit, refusal.value.found) == ("nesting_max", levels)


def test_a_value_that_nests_as_deeply_as_it_may_is_stored_and_read_also_from_a_deep_stack() -> None:
    check_value(nested(100), LIMITS)
    session = Session(session_id="s", workflow_id="w", definition_key="k", payload=nested(100), created_at=0.0)

    def deeper(frames: int) -> Session:
        return deeper(frames - 1) if frames else codec.decode_row(codec.encode_row(session), Session)

    assert deeper(400) == session


def test_a_wide_value_with_many_brackets_is_not_a_deep_one() -> None:
    check_value([[{}] for _ in range(10_000)], LIMITS)


def test_what_is_not_json_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (float("nan"), "\ud800", loop):
        with pytest.raises(ValueError):  # noqa: PT011 (each in the encoder's own words)
            check_value(value, LIMITS)
    for strange in ({1, 2}, object(), b"bytes"):
        with pytest.raises(TypeError):
            check_value(strange, LIMITS)


def test_a_result_that_can_be_stored_stays_as_it_is() -> None:
    assert checked(Completed(result=[1]), LIMITS) == Completed(result=[1])
    assert checked(Delivered(), LIMITS) == Delivered()
    assert checked(Failed(error=Failure(message="m")), LIMITS) == Failed(error=Failure(message="m"))


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ("x" * 300_000, "result_too_large"),
        (nested(101), "result_too_large"),
        (nested(5_000), "result_too_large"),
        ({1}, "result_not_json"),
        (float("inf"), "result_not_json"),
        ("\ud800", "result_not_json"),
    ],
    ids=["long", "deep", "very deep", "set", "infinity", "half a surrogate pair"],
)
def test_a_result_that_cannot_be_stored_is_a_failure_that_is_not_retried(result: Any, code: str) -> None:
    failed = checked(Completed(result=result), LIMITS)
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.retryable) == (code, False)


def test_a_walk_visits_every_value_in_the_documents_order_and_says_where_it_stands() -> None:
    document = {"a": [1, {"b": 2}], "c": "x"}
    visited = [(str(place) if place else "", depth) for place, depth, _ in walk(document)]
    assert visited == [("", 0), ("a", 1), ("a[0]", 2), ("a[1]", 2), ("a[1].b", 3), ("c", 1)]


@settings(deadline=None, max_examples=200)
@given(value=JSON)
def test_a_copy_is_the_same_value_and_shares_nothing_that_can_change(value: Any) -> None:
    before = repr(value)
    copy = deep_copy(value)
    assert repr(copy) == before
    for _, _, inner in walk(copy):
        if isinstance(inner, dict | list):
            inner.clear()
    assert repr(value) == before


class _Text(str):
    __slots__ = ()


class _Number(float):
    """As those of NumPy are."""

    __slots__ = ()


class _Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    "value",
    [
        (1, [2]),
        {"pair": ({"deep": (1,)},)},
        {3: "three", None: "none", True: "yes", 1.5: "half"},
        _Text("x"),
        {_Text("name"): 1},
        _Number(0.5),
        [_Level.HIGH],
        OrderedDict(a=1),
    ],
    ids=repr,
)
def test_a_copy_is_what_json_has_and_what_a_row_gives_back(value: Any) -> None:
    copy = deep_copy(value)
    assert repr(copy) == repr(json.loads(json.dumps(value)))
    session = Session(session_id="s", workflow_id="w", definition_key="k", payload=copy, created_at=0.0)
    assert repr(codec.decode_row(codec.encode_row(session), Session)) == repr(session)
