"""Schemas of inputs: what is refused when a workflow is saved, and that no schema or input costs without bound."""

import time
from typing import Any

import pytest

from opscore.runtime.definitions.definition import parse
from opscore.runtime.definitions.input_schemas import FAULTS_MAX, check_input
from opscore.runtime.errors import FAULT_CHARACTERS_MAX, Fault, InvalidDocument
from opscore.runtime.expressions.expression import compile_expression
from opscore.runtime.limits import Limits

SECONDS_MAX = 2.0
"""Of processor time, for one check on a slow machine; without a bound, those here take minutes."""


def saving_faults(schema: Any) -> tuple[Fault, ...]:
    try:
        parse({"id": "w", "tasks": [], "inputSchema": schema}, Limits())
    except InvalidDocument as refusal:
        return refusal.faults
    return ()


def input_faults(schema: Any, value: Any) -> tuple[Fault, ...]:
    try:
        check_input(schema, value)
    except InvalidDocument as refusal:
        return refusal.faults
    return ()


def nested(levels: int, value: Any = None) -> Any:
    found: Any = {} if value is None else value
    for _ in range(levels):
        found = {"x": found}
    return found


# --- saving -------------------------------------------------------------------------------------------------

REFUSED = {
    "a type that is none": ({"type": "text"}, "inputSchema.type"),
    "a reference to elsewhere": ({"$ref": "https://example.org/x.json"}, "inputSchema.$ref"),
    "a reference to nothing": ({"$ref": "#/$defs/nowhere"}, "inputSchema.$ref"),
    "a reference to what is no schema": ({"$ref": "#/type", "type": "object"}, "inputSchema.$ref"),
    "a reference into a list by a name": ({"$ref": "#/allOf/x", "allOf": [True]}, "inputSchema.$ref"),
    "a reference to an anchor that is not there": ({"$dynamicRef": "#nope"}, "inputSchema.$dynamicRef"),
    "a reference into what is no schema": (
        {"$ref": "#/examples/0", "examples": [{"$ref": "https://example.org/x.json"}]},
        "inputSchema.$ref",
    ),
    "a pattern of a property that is called as data are": (
        {"properties": {"default": {"pattern": "("}}},
        "inputSchema.properties.default.pattern",
    ),
    "a pattern in a list of schemas": (
        {"anyOf": [True, {"not": {"pattern": "("}}]},
        "inputSchema.anyOf[1].not.pattern",
    ),
    "an identity of a part": ({"properties": {"x": {"$id": "http://["}}}, "inputSchema.properties.x.$id"),
    "a pattern that is none": ({"properties": {"x": {"pattern": "("}}}, "inputSchema.properties.x.pattern"),
    "a pattern of names": ({"patternProperties": {"x": {}}}, "inputSchema.patternProperties"),
    "what was not looked at": ({"unevaluatedProperties": False}, "inputSchema.unevaluatedProperties"),
    "more levels than are looked at": (nested(60, {"type": "string"}), "inputSchema"),
    "more schemas than are looked at": (
        {"allOf": [{"properties": {"a": {"type": "string"}}}] * 9_000},
        "inputSchema",
    ),
}


@pytest.mark.parametrize(("schema", "path"), REFUSED.values(), ids=REFUSED.keys())
def test_a_schema_that_could_not_be_asked_is_a_fault(schema: dict[str, Any], path: str) -> None:
    assert [fault.path for fault in saving_faults(schema)] == [path]


UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
IBAN = "^[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}$"
PATTERNS = {
    "a UUID": (UUID, "01234567-89ab-cdef-0123-456789abcdef"),
    "an IBAN": (IBAN, "DE89370400440532013000"),
    "an e-mail address": (r"^[^@\s]{1,64}@[^@\s]{1,255}\.[a-zA-Z]{2,}$", "x" * 64 + "@" + "y" * 200 + ".example"),
    "an address, in capitals too": (r"(?i)^[a-z0-9._%+-]+@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,63}$", "A.b@c.example.org"),
    "as many characters as a name has": ("^[a-zA-Z0-9_-]{1,64}$", "x" * 64),
    "as many characters as a column has": ("^[a-z]{1,255}$", "x" * 255),
    "a time": (r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$", "2027-01-31T12:00:00.5Z"),
    "braces that repeat nothing": (r"^\x{41}[{9}]\Q{999}{999}\E$", "A{{999}{999}"),
}


@pytest.mark.parametrize(("pattern", "text"), PATTERNS.values(), ids=PATTERNS.keys())
def test_an_ordinary_pattern_is_taken_and_tried_in_a_schema_and_in_an_expression(pattern: str, text: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    assert saving_faults(schema) == ()
    assert input_faults(schema, text) == ()
    (fault,) = input_faults(schema, "?" + text)
    assert "does not match" in fault.message
    scope = {"input": {"text": text, "pattern": pattern}}
    assert compile_expression("input.text.matches(input.pattern)").evaluate(scope) is True


@pytest.mark.parametrize(("pattern", "text"), [("^[😀-🙏]$", "😃"), ("я" * 400, "я" * 400), ('^"\\\\$', '"\\')])
def test_a_pattern_of_any_characters_is_taken_and_tried(pattern: str, text: str) -> None:
    assert saving_faults({"pattern": pattern}) == ()
    assert input_faults({"pattern": pattern}, text) == ()
    assert input_faults({"pattern": pattern}, "?") != ()


def test_a_list_of_texts_is_tried_with_the_steps_of_one_check() -> None:
    assert input_faults({"items": {"pattern": UUID}}, ["01234567-89ab-cdef-0123-456789abcdef"] * 1_000) == ()


def test_patterns_that_together_take_long_to_read_are_refused_when_saved() -> None:
    began = time.process_time()
    faults = saving_faults({"allOf": [{"pattern": r"\pL{10}" + str(number)} for number in range(100)]})
    assert time.process_time() - began < SECONDS_MAX
    assert faults[0].path == "inputSchema.allOf[19].pattern"
    assert faults[0].message == "reading it, and the patterns before it, takes too many steps"


TAKEN = {
    "references": {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"items": {"$ref": "#"}}}},
    "a reference into a list": {"$ref": "#/allOf/1", "allOf": [True, {"type": "object"}]},
    "anchors": {"$anchor": "top", "properties": {"x": {"$ref": "#top"}}},
    "properties that are called as keywords are": {
        "properties": {"unevaluatedItems": {"type": "string"}, "patternProperties": {}},
    },
    "a reference to a property that is called as data are": {
        "properties": {"y": {"$ref": "#/properties/const"}, "const": {"type": "string"}},
    },
    "data that look like schemas": {
        "properties": {"x": {"default": {"pattern": "("}}, "y": {"enum": [{"$ref": "x"}]}},
        "examples": [{"pattern": "*.log", "patternProperties": {}}, {"x": {"$id": "http://["}}],
        "anyOf": [{"const": {"$ref": "https://example.org/x.json"}}, True],
    },
    "the levels that are looked at": {"properties": {"x": {"properties": nested(36, {})}}},
}


@pytest.mark.parametrize("schema", TAKEN.values(), ids=TAKEN.keys())
def test_what_a_schema_may_say_is_taken_and_asked(schema: dict[str, Any]) -> None:
    assert saving_faults(schema) == ()
    check_input(schema, {"x": {}})


def test_repeated_objects_are_compared_at_a_bounded_cost() -> None:
    began = time.process_time()
    assert saving_faults({"required": [{"n": number} for number in range(20_000)]})
    assert time.process_time() - began < SECONDS_MAX


# --- inputs -------------------------------------------------------------------------------------------------

LARGE = {"x": list(range(40_000))}
ITSELF = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#"}
DEAR = {
    "a reference to itself": ({"$ref": "#"}, 1, "leads too deep"),
    "a reference to what names its dialect": (ITSELF, 1, "leads too deep"),
    "what is not what it is not": ({"not": {"$ref": "#"}}, 1, "leads too deep"),
    "twice as much at every level": (
        {"properties": {"x": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "required": ["y"]},
        nested(20),
        "takes too many steps",
    ),
    "a large value told of often": ({"anyOf": [{"type": "integer"}] * 2_000}, LARGE, "is not valid under any"),
    "a long text told of often": ({"anyOf": [{"type": "integer"}] * 2_000}, "x" * 250_000, "is not valid under any"),
    "a large value compared often": (
        {"anyOf": [{"$ref": "#/$defs/a"}] * 1_000, "$defs": {"a": {"const": [LARGE]}}},
        [{**LARGE, "y": 0}],
        "too many steps",
    ),
    "many items compared often": (
        {"anyOf": [{"uniqueItems": True, "maxItems": 1}] * 1_000},
        [float(number) for number in range(40_000)],
        "too many steps",
    ),
    "a long text matched often": ({"anyOf": [{"pattern": "^(a|a)*b"}] * 1_000}, "a" * 200_000, "too many steps"),
    "a pattern that takes long": ({"pattern": "[ab]*a([ab]{9}){99}x"}, "ab" * 50_000, "too many steps"),
    "texts that each take long": ({"items": {"pattern": "[ab]*a[ab]{999}x"}}, ["ab" * 50] * 1_000, "too many steps"),
}


@pytest.mark.parametrize(("schema", "value", "said"), DEAR.values(), ids=DEAR.keys())
def test_a_schema_that_costs_too_much_refuses_and_holds_nobody_up(schema: Any, value: Any, said: str) -> None:
    assert saving_faults(schema) == ()
    began = time.process_time()
    (fault,) = input_faults(schema, value)
    assert time.process_time() - began < SECONDS_MAX
    assert said in fault.message
    assert len(fault.message) <= FAULT_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("items", "twice"),
    [
        ([1, 1.0], True),
        ([0, -0.0, 5], True),
        ([{"a": [2.0], "b": 1}, {"b": 1, "a": [2]}], True),
        ([1, True, "1", 1.5, None, "1.0"], False),
        ([2**53 + 1, float(2**53)], False),
        ([[1], [True]], False),
    ],
)
def test_items_that_are_the_same_are_found_however_their_numbers_are_written(items: list[Any], *, twice: bool) -> None:
    faults = input_faults({"uniqueItems": True}, items)
    assert [fault.message for fault in faults] == ["an item occurs more than once"] * twice


def test_what_one_input_cost_is_not_missed_by_the_next() -> None:
    schema, value = {"items": {"type": "integer", "minimum": 0}}, list(range(30_000))
    for _ in range(3):
        assert input_faults(schema, value) == ()


def test_as_deep_an_input_as_a_schema_follows_is_taken() -> None:
    assert input_faults({"properties": {"x": {"$ref": "#"}}}, nested(45)) == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "null is not of type 'object'"), (True, "true is not of type 'object'"), ("None", "'None' is not")],
)
def test_a_fault_names_values_as_json_does(value: Any, said: str) -> None:
    (fault,) = input_faults({"type": "object"}, value)
    assert fault.message.startswith(said)


def test_an_input_has_as_many_faults_as_are_told_and_each_is_short() -> None:
    faults = input_faults({"items": {"type": "string"}}, [*range(300)])
    assert len(faults) == FAULTS_MAX
    assert faults[7] == Fault(path="[7]", message="7 is not of type 'string'")
    (long,) = input_faults({"enum": ["x" * 2_000]}, "y" * 2_000)
    assert len(long.message) <= FAULT_CHARACTERS_MAX
    assert "yyy…'" in long.message


def test_arithmetic_that_has_no_result_refuses_the_input() -> None:
    (fault,) = input_faults({"multipleOf": 1e-300}, 10**400)
    assert "can't be applied" in fault.message
