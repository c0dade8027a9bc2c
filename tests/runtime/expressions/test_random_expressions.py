"""Any expression over any JSON: it has a JSON value or fails, and the value is the one that CEL means."""

import json
import math
from typing import Any

from cel_expr_python import cel
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opscore.runtime.errors import ExpressionFailed
from opscore.runtime.expressions.expression import (
    Expression,
    Template,
    compile_expression,
    compile_template,
    template_faults,
)
from tests.runtime.expressions.expression_scope import SCOPE, exactly

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip

LEAVES = st.sampled_from([
    "input", "input.a", "input.b", "input['c']", "tasks.t.result", "tasks.t.result.a", "item", "index", "1", "0", "-2",
    "9223372036854775807", "2.0", "0.5", "1e308", "'a'", "''", "'12'", "true", "false", "null", "[]", "[1, 'a']", "{}",
    "{'a': 1}", "has(input.a)",
])  # fmt: skip
OPERATORS = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"]


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    unary = st.sampled_from(
        [
            "!({})",
            "-({})",
            "size({})",
            "int({})",
            "double({})",
            "string({})",
            "bool({})",
            "[{}]",
            "({}).a",
            "({}).size()",
        ]
    )
    walk = st.sampled_from(["({}).map(x, x)", "({}).all(x, x == 1)", "({}).exists(x, x > 1)", "({}).filter(x, x != 1)",
                            "({}).exists_one(x, x == 1)", "({}).map(x, [x, x])"])  # fmt: skip
    text = st.sampled_from(["({}).contains({})", "({}).startsWith({})", "({}).endsWith({})", "({}).matches({})"])
    return (
        st.builds(lambda form, a: form.format(a), unary | walk, inner)
        | st.builds(lambda form, a, b: form.format(a, b), text, inner, inner)
        | st.builds(lambda a, sign, b: f"({a}) {sign} ({b})", inner, st.sampled_from(OPERATORS), inner)
        | st.builds(lambda a, b: f"({a})[{b}]", inner, inner)
        | st.builds(lambda a, b, c: f"({a}) ? ({b}) : ({c})", inner, inner, inner)
        | st.builds(lambda a, b: f"{{'a': {a}, 'b': {b}}}", inner, inner)
    )


EXPRESSIONS = st.recursive(LEAVES, combined, max_leaves=8)


def scope_of(given_input: Any, result: Any, item: Any) -> dict[str, Any]:
    return {"input": given_input, "tasks": {"t": {"result": result}}, "item": item, "index": 3}


def is_json(found: Any) -> bool:
    match found:
        case None | bool() | str() | int():
            return True
        case float():
            return math.isfinite(found)
        case list():
            return type(found) is list and all(map(is_json, found))
        case dict():
            return type(found) is dict and all(isinstance(name, str) and is_json(found[name]) for name in found)
        case _:
            return False


def outcome(compiled: Expression | Template, scope: dict[str, Any]) -> Any:
    """The value, or the failure."""
    try:
        return compiled.evaluate(scope)
    except ExpressionFailed as error:
        return error


@settings(deadline=None, max_examples=200)
@given(EXPRESSIONS, JSON, JSON, JSON)
def test_an_expression_has_a_json_value_or_fails(text: str, one: Any, two: Any, three: Any) -> None:
    if list(template_faults("${" + text + "}")):
        return
    expression = compile_expression(text)
    before = json.dumps([one, two, three])
    found = outcome(expression, scope_of(one, two, three))
    again = outcome(expression, scope_of(one, two, three))
    if isinstance(found, ExpressionFailed):
        assert str(found) == str(again) != ""
    else:
        assert is_json(found)
        assert exactly(found, again)
    assert json.dumps([one, two, three]) == before, "the scope is only read"


PIECES = st.sampled_from(
    [
        "${",
        "}",
        "$",
        "{",
        "'",
        '"',
        "input",
        ".a",
        "+",
        "r'",
        "//",
        "\n",
        "'''",
        "\\",
        "1",
        "_f",
        "(",
        ")",
        "[",
        "]",
        "tasks",
        ",",
    ]
)


@settings(deadline=None, max_examples=200)
@given(st.text() | st.lists(PIECES).map("".join))
@example("$$${{")
def test_any_text_is_a_template_or_refused(text: str) -> None:
    faults = list(template_faults({"a": text}))
    if faults:
        assert {path for path, _ in faults} == {"a"}
        return
    template = compile_template({"a": text})
    # A space in its place keeps what stands around it from becoming a beginning.
    assert template.constant == ("${" not in text.replace("$${", " "))
    found = outcome(template, SCOPE)
    assert str(found).startswith("a: ") if isinstance(found, ExpressionFailed) else is_json(found)


def binary(operators: list[str], left: st.SearchStrategy[str], right: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda a, sign, b: f"({a} {sign} {b})", left, st.sampled_from(operators), right)


def formed(forms: list[str], *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda form, *texts: form.format(*texts), st.sampled_from(forms), *parts)


WHOLES: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["0", "1", "2", "-3", "input.n", "input.list[1]", "9223372036854775807", "input.o.a"])
        | binary(["+", "-", "*", "/", "%"], WHOLES, WHOLES)
        | formed(["size({})"], TEXTS | LISTS)
        | formed(["-({})", "int(string({}))"], WHOLES)
        | formed(["({} ? {} : {})"], TRUTHS, WHOLES, WHOLES)
    )
)
DOUBLES: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["0.5", "2.0", "input.f"])
        | binary(["+", "-", "*"], DOUBLES, DOUBLES)
        | formed(["({} / 0.3)", "(1.0 + {} / input.f)"], DOUBLES)
        | formed(["double({})"], WHOLES)
    )
)
"""Nothing infinite: that is a failure here, and a value in CEL."""
TEXTS: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["''", "'a'", "'ab'", "input.s", "'é'", "input.o.t"])
        | binary(["+"], TEXTS, TEXTS)
        | formed(["string({})"], WHOLES | TRUTHS | st.sampled_from(["0.5", "2.0", "input.f"]))
    )
)
LISTS: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["[]", "[1, 2]", "input.list"])
        | binary(["+"], LISTS, LISTS)
        | formed(["[{}, {}]"], WHOLES, WHOLES)
        | formed(["({}).map(x, x + {})", "({}).filter(x, x > {})", "({}).map(x, x != 1, x * {})"], LISTS, FLAT)
    )
)
FLAT: st.SearchStrategy[str] = st.sampled_from(["1", "input.n", "index", "size(input.s)"])
"""Small: Google's evaluator takes 2**63 - 1 for the nearest double before it compares, and CEL does not say so."""
TRUTHS: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["true", "false", "has(input.o.a)", "has(input.o.b)", "input.nope", "1 / 0 == 1"])
        | binary(["==", "!=", "<", "<=", ">", ">="], WHOLES, WHOLES)
        | binary(["==", "!=", "<", "<=", ">", ">="], FLAT, DOUBLES)
        | binary(["==", "<"], TEXTS, TEXTS)
        | binary(["==", "!="], LISTS, LISTS)
        | binary(["in"], WHOLES, LISTS)
        | binary(["&&", "||"], TRUTHS, TRUTHS)
        | formed(["!({})"], TRUTHS)
        | formed(["({}).contains({})", "({}).startsWith({})", "({}).endsWith({})", "({}).matches({})"], TEXTS, TEXTS)
        | formed(["({}).{}(x, 6 / x > {})"], LISTS, st.sampled_from(["all", "exists", "exists_one"]), FLAT)
    )
)
STRICT_SCOPE = {
    "input": {"n": 4, "f": 2.5, "s": "bab", "list": [3, 1, 0, 3], "o": {"a": 1, "t": "x"}}, "index": 2,
}  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(WHOLES | DOUBLES | TEXTS | LISTS | TRUTHS)
def test_where_googles_evaluator_has_a_value_it_is_the_same(text: str) -> None:
    """The library that reads expressions can evaluate them too, without bounds: it knows what CEL means."""
    if list(template_faults("${" + text + "}")):
        return
    theirs = googles(text, STRICT_SCOPE)
    ours = outcome(compile_expression(text), STRICT_SCOPE)
    if is_json(theirs):
        assert not isinstance(ours, ExpressionFailed), f"{ours}, where CEL says {theirs!r}"
        assert exactly(ours, theirs)


def googles(text: str, scope: dict[str, Any]) -> Any:
    """The value by that evaluator; something that is no JSON where it has none."""
    environment = cel.NewEnv(variables=dict.fromkeys(scope, cel.Type.DYN))
    try:
        found = environment.compile(text, disable_check=True).eval(data=scope)
        return object() if found.type() == cel.Type.ERROR else found.plain_value()
    except (RuntimeError, OverflowError, TypeError, ValueError):
        return object()
