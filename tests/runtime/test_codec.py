"""Between values and bytes: strict on the wire, exact on the disk."""

import contextlib
import gc
import math
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime import codec, models
from opscore.runtime.errors import FAULTS_MAX, Fault, InvalidDocument
from opscore.runtime.journal.tables import ALL_TABLES

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Point:
    name: str
    how_many: int | None = None
    weight_g: float | None = None
    is_open: bool = False
    tags: tuple[str, ...] = ()
    free: dict[str, Any] | None = None
    anything: Any = None
    odd_name: str = attrs.field(default="", metadata={"wire": "ODD"})


@attrs.frozen(kw_only=True)
class Shape:
    first_point: Point
    other_points: tuple[Point, ...] = ()
    last_point: Point | None = None


def read(document: Any, kind: type[T]) -> T:
    return codec.structure_wire(document, kind, "request")


def faults(document: Any, kind: type = Shape) -> dict[str, str]:
    with pytest.raises(InvalidDocument) as refusal:
        read(document, kind)
    return {fault.path: fault.message for fault in refusal.value.faults}


# --- the wire -----------------------------------------------------------------------------------------------


def test_names_are_camel_case_outside_and_snake_case_inside() -> None:
    point = read({"name": "n", "howMany": 3, "weightG": 1.5, "isOpen": True, "tags": ["a"], "ODD": "o"}, Point)
    assert point == Point(name="n", how_many=3, weight_g=1.5, is_open=True, tags=("a",), odd_name="o")
    assert codec.wire_converter().unstructure(point) == {
        "name": "n", "howMany": 3, "weightG": 1.5, "isOpen": True, "tags": ["a"], "free": None, "anything": None,
        "ODD": "o",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 5, "expected a string, found a number"),
        ("name", None, "expected a string, found null"),
        ("name", ["n"], "expected a string, found a list"),
        ("howMany", "7", "expected a whole number, found a string"),
        ("howMany", True, "expected a whole number, found true or false"),
        ("howMany", 7.0, "expected a whole number, found a number"),
        ("weightG", "7", "expected a number, found a string"),
        ("weightG", False, "expected a number, found true or false"),
        ("weightG", 10**400, "this number is too large"),
        ("weightG", math.nan, "nan is not JSON"),
        ("isOpen", "false", "expected true or false, found a string"),
        ("isOpen", 0, "expected true or false, found a number"),
        ("isOpen", None, "expected true or false, found null"),
        ("tags", "abc", "expected a list, found a string"),
        ("tags", {"0": "a"}, "expected a list, found an object"),
        ("tags", None, "expected a list, found null"),
        ("free", [], "expected an object, found a list"),
        ("free", "{}", "expected an object, found a string"),
    ],
)
def test_types_are_strict_and_nothing_is_converted(field: str, value: Any, message: str) -> None:
    assert faults({"name": "n", field: value}, Point) == {field: message}


def test_a_whole_number_is_a_number_too() -> None:
    weight = read({"name": "n", "weightG": 5}, Point).weight_g
    assert (weight, type(weight)) == (5.0, float)


def test_what_may_be_missing_may_be_null() -> None:
    document = {"name": "n", "howMany": None, "weightG": None, "free": None, "anything": None}
    assert read(document, Point) == Point(name="n")


def test_every_fault_is_reported_at_once_under_the_senders_own_names() -> None:
    document = {
        "firstPoint": {"name": 5, "ODD": 1, "tags": ["a", 2, None]},
        "otherPoints": [{"name": "n"}, {"howMany": 1.5}, 7],
        "lastPoint": "here",
    }
    assert faults(document) == {
        "firstPoint.name": "expected a string, found a number",
        "firstPoint.ODD": "expected a string, found a number",
        "firstPoint.tags[1]": "expected a string, found a number",
        "firstPoint.tags[2]": "expected a string, found null",
        "otherPoints[1].name": "this field is required",
        "otherPoints[1].howMany": "expected a whole number, found a number",
        "otherPoints[2]": "expected an object, found a number",
        "lastPoint": "expected an object, found a string",
    }


def test_a_document_that_is_refused_is_freed_at_once() -> None:
    document = {"firstPoint": {"name": 5}, "otherPoints": [{"howMany": "x"}]}

    def refused() -> None:
        with contextlib.suppress(InvalidDocument):
            read(document, Shape)

    refused()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            refused()
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_of_very_many_faults_the_first_thousand_are_told_and_that_there_are_more() -> None:
    with pytest.raises(InvalidDocument) as refusal:
        read({"name": 5, "tags": [None] * (FAULTS_MAX - 1)}, Point)
    assert len(refusal.value.faults) == FAULTS_MAX
    with pytest.raises(InvalidDocument) as refusal:
        read({"name": "n", "tags": ["a", *[None] * 200_000]}, Point)
    *told, last = refusal.value.faults
    assert [fault.path for fault in told] == [f"tags[{index}]" for index in range(1, FAULTS_MAX + 1)]
    assert last == Fault(path="", message=f"there are more than {FAULTS_MAX} faults; these are the first")
    assert str(refusal.value).startswith(f"the request has more than {FAULTS_MAX} faults: tags[1]: expected a string, ")


def test_a_list_is_read_no_further_than_its_thousandth_fault() -> None:
    cases = (
        ({"name": "n", "tags": ["a", *[1] * 10_000]}, Point),
        ({"firstPoint": {"name": "n"}, "otherPoints": [{"name": "n", "tags": [1, 2, 3]}] * 10_000}, Shape),
    )
    for document, kind in cases:
        with pytest.raises(InvalidDocument) as refusal:
            read(document, kind)
        assert _leaves(refusal.value.__cause__) < 2 * FAULTS_MAX


def _leaves(error: BaseException | None) -> int:
    return sum(map(_leaves, error.exceptions)) if isinstance(error, BaseExceptionGroup) else 1


def test_a_missing_field_is_named_as_the_sender_would_write_it() -> None:
    assert faults({}) == {"firstPoint": "this field is required"}
    assert faults({"firstPoint": {}}) == {"firstPoint.name": "this field is required"}


@pytest.mark.parametrize("document", [None, [], "text", 5, True])
def test_a_document_that_is_no_object_is_refused(document: Any) -> None:
    (message,) = faults(document).values()
    assert message.startswith("expected an object, found ")


def test_unknown_fields_are_ignored() -> None:
    assert read({"name": "n", "unheardOf": 1, "how_many": 5}, Point) == Point(name="n")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None)
@given(document=JSON)
def test_no_json_document_at_all_makes_the_wire_fail_in_another_way(document: Any) -> None:
    for kind in (Shape, Point):
        for given_document in (document, {"name": "n", "anything": document, "free": document, "firstPoint": document}):
            try:
                read(given_document, kind)
            except InvalidDocument as refusal:
                assert refusal.faults  # noqa: PT017 (that it may also be valid is the point)


# --- JSON ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(value=JSON)
def test_json_comes_back_as_it_went(value: Any) -> None:
    for encode in (codec.encode_json, codec.encode_shown):
        assert codec.decode_json(encode(value)) == value


def test_integers_of_any_size_stay_exact() -> None:
    for number in (2**53 + 1, -(2**64) - 1, 10**300 + 7):
        for encode in (codec.encode_json, codec.encode_shown):
            assert codec.decode_json(encode({"n": number})) == {"n": number}
        assert codec.decode_json(f"[{number}]".encode()) == [number]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_never_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.encode_json({"x": [number]})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b"{'a': 1}",
        b"[1,]",
        b"[01]",
        b"[+1]",
        b"[.5]",
        b'{"a" 1}',
        b"undefined",
        b"// nothing\n{}",
        b'"\x01"',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e400]",
        b"[" + b"9" * 5_000 + b"]",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        rb'"\ud800"',
        rb'{"\uDC00": 1}',
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"[" * 101 + b"1" + b"]" * 101,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:16]),
)
def test_what_is_not_quite_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the words are the parser's own, and many)
        codec.decode_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'"\ud83d\ude00"', "😀"),
        ('"😀"'.encode(), "😀"),
        (b"\xef\xbb\xbf{}", {}),
        (b" [1, 2.5e3, true, null]\n", [1, 2500.0, True, None]),
        (rb'"\\ud800"', "\\ud800"),
    ],
    ids=["escaped pair", "plain", "byte order mark", "white space", "an escaped backslash"],
)
def test_what_is_json_is_read(body: bytes, value: Any) -> None:
    assert codec.decode_json(body) == value


def test_a_name_that_an_object_gives_twice_is_refused_where_that_is_asked() -> None:
    assert codec.decode_json(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}
    assert codec.decode_json(b'[{"a": 1}, {"a": {"a": 2}}]', names_once=True) == [{"a": 1}, {"a": {"a": 2}}]
    with pytest.raises(ValueError, match="the name 'a' is given twice in one object"):
        codec.decode_json(b'{"x": [{"b": 2, "a": 1, "a": 3}]}', names_once=True)


# --- the disk -----------------------------------------------------------------------------------------------

FINITE = st.floats(allow_nan=False, allow_infinity=False)
OBJECT = st.dictionaries(st.text(), JSON, max_size=4)


def rows(kind: Any) -> st.SearchStrategy[Any]:
    """Any row of a kind: what its annotations allow, with JSON wherever they say anything may stand."""
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        Any: JSON,
        dict[str, Any]: OBJECT,
        dict[str, Any] | None: st.none() | OBJECT,
        list[Any] | None: st.none() | st.lists(JSON),
        float: FINITE,
        float | None: st.none() | FINITE,
    }
    fields = {field.name: field.type for field in attrs.fields(kind)}
    return st.builds(kind, **{name: by_type[of] if of in by_type else any_of(of) for name, of in fields.items()})


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    return rows(kind) if attrs.has(kind) else st.from_type(kind)


ROW_KINDS = sorted(
    {
        *(table.kind for table in ALL_TABLES),
        *(kind for kind in vars(models).values() if isinstance(kind, type) and attrs.has(kind)),
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", ROW_KINDS, ids=lambda kind: kind.__name__)
def test_every_row_comes_back_from_the_disk_as_it_went(kind: type) -> None:
    @settings(deadline=None, max_examples=40)
    @given(row=rows(kind))
    def comes_back(row: Any) -> None:
        again: Any = codec.decode_row(codec.encode_row(row), kind)
        assert again == row
        assert repr(again) == repr(row), "equal values of other types are other values"

    comes_back()


def test_what_a_row_holds_as_free_json_is_stored_untouched() -> None:
    payload: Any = {"1": [1, 1.0, True, None, "1", 2**80, {"": []}]}
    session = models.Session(session_id="s", workflow_id="w", definition_key="k", payload=payload, created_at=0.0)
    again = codec.decode_row(codec.encode_row(session), models.Session)
    assert repr(again.payload) == repr(payload)


def test_a_field_that_a_row_was_stored_without_has_its_default() -> None:
    task = models.Task(task_id="t", session_id="s", key="k", ordinal=0)
    body = codec.decode_json(codec.encode_row(task))
    del body["bounces"]
    assert codec.decode_row(codec.encode_json({**body, "since_gone": 1}), models.Task) == task


@pytest.mark.parametrize(
    ("field", "stored", "read"), [("key", 7, "7"), ("ordinal", "7", 7), ("ready_at", "1.5", 1.5), ("result", 1e5, 1e5)]
)
def test_a_field_that_was_stored_as_another_type_is_read_as_its_own(field: str, stored: Any, read: Any) -> None:
    task = models.Task(task_id="t", session_id="s", key="k", ordinal=0)
    body = codec.decode_json(codec.encode_row(task))
    again = codec.decode_row(codec.encode_json({**body, field: stored}), models.Task)
    assert again == attrs.evolve(task, **{field: read})


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"task_id": "t"', b"\xff", b'{"task_id": "t", "status": "none"}'])
def test_what_is_no_row_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, TypeError, LookupError, ExceptionGroup)):
        codec.decode_row(body, models.Task)


def test_a_row_that_holds_what_json_cannot_say_is_not_written() -> None:
    session = models.Session(session_id="s", workflow_id="w", definition_key="k", result=math.nan, created_at=0.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.encode_row(session)
