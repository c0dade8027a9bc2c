"""Expressions: what they say, what they refuse and why, and what they read."""

from typing import Any

import pytest

from opscore.runtime.definitions.definition import parse
from opscore.runtime.errors import ExpressionFailed, ExpressionInvalid
from opscore.runtime.expressions.bounds import DEPTH_MAX, EXPRESSION_CHARACTERS_MAX, NODES_MAX
from opscore.runtime.expressions.expression import compile_expression, compile_template
from opscore.runtime.limits import Limits
from tests.runtime.expressions.expression_scope import SCOPE, exactly


def value(text: str) -> Any:
    return compile_expression(text).evaluate(SCOPE)


def failure(text: str) -> str:
    expression = compile_expression(text)
    with pytest.raises(ExpressionFailed) as failed:
        expression.evaluate(SCOPE)
    return str(failed.value)


def refusal(text: str) -> str:
    with pytest.raises(ExpressionInvalid) as refused:
        compile_expression(text)
    return str(refused.value)


# --- what it says -------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    # Paths
    "input.n": 4,
    'input["a-b"]': 1,
    "input.`a-b`": 1,
    "tasks.scan.result.found": 2,
    'tasks["a b"].status': "failed",
    "input.list[1]": 2,
    "input.list[1.0]": 2,
    "input.none": None,
    "item.id + index": 7,
    "has(input.none)": True,
    "has(tasks.scan.result.score)": False,
    "has(input.orders[1].paid) ? 'paid' : 'open'": "open",
    # Numbers, however they were written
    "1.0 == 1": True,
    "input.n == input.f": True,
    "input.n + 1": 5,
    "input.f + 1": 5.0,
    "input.f + 1 == 5": True,
    "7 / 2": 3,
    "-7 / 2": -3,
    "7.0 / 2": 3.5,
    "-7 % 3": -1,
    "input.f % 3": 1,
    "1 < 1.5 && 2 >= 2.0": True,
    "2.0 in input.list": True,
    "-input.half": -0.5,
    "int('12') + int(1.9)": 13,
    "double('1e3')": 1000.0,
    "dyn(1) == 1.0 && bool('true') && bool(true)": True,
    "string(4.0) + string(0.25) + string(true)": "40.25true",
    "-9223372036854775808": -(2**63),
    # Text
    "size(input.text) + input.text.size()": 2,
    "'ab'.contains('b') && 'ab'.startsWith('a') && 'ab'.endsWith('b')": True,
    "'2026-11-26'.matches('^[0-9]{4}-[0-9]{2}')": True,
    "matches('abc', 'x')": False,
    "r'\\d' + \"\\u00e9\"": "\\dé",
    "'b' > 'a'": True,
    # Lists and objects
    "[1, 2] + [3]": [1, 2, 3],
    "{'a': input.n, 'b': [input.half]}": {"a": 4, "b": [0.5]},
    "'found' in tasks.scan.result": True,
    "[1, [2.0]] == [1.0, [2]]": True,
    "[true] == [1]": False,
    "'1' == 1": False,
    # Decisions overlook what fails beside them
    "false && 1 / 0 > 0": False,
    "1 / 0 > 0 && false": False,
    "1 / 0 > 0 || true": True,
    "true || input.nope": True,
    "input.yes ? 1 : input.nope": 1,
    # Walks
    "input.orders.all(o, o.price > 1)": True,
    "input.orders.exists(o, o.paid)": True,
    "input.orders.exists_one(o, o.price > 10)": True,
    "input.orders.filter(o, o.price > 10).map(o, o.id)": ["b"],
    "input.list.map(x, x > 1, x * 10)": [20, 30],
    "tasks.scan.result.map(name, name)": ["found"],
    "[].all(x, x)": True,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), VALUES.items())
def test_an_expression_has_a_value(text: str, expected: Any) -> None:
    assert exactly(value(text), expected)


FAILURES = {
    "tasks.scan.result.score": 'tasks.scan.result has no field "score"',
    'tasks["a b"].result': 'tasks["a b"] has no field "result"',
    "tasks.other.status": 'tasks has no field "other"',
    "has(tasks.other.result)": 'tasks has no field "other"',
    "input.n.x": 'input.n has no field "x": it is a number',
    "input.orders[0].x.y": 'input.orders[…] has no field "x"',
    "has(input.n.x)": "input.n has no fields: it is a number",
    "input.list[3]": "input.list has no item 3: it has 3 items, counted from 0",
    "input.list[-1]": "input.list has no item -1: it has 3 items, counted from 0",
    "input.list[0.5]": "a list index takes whole numbers, not 0.5",
    "input['list']['x']": "a list index takes whole numbers, not text",
    "input[1]": "input is an object: expected the name of a field, not a number",
    "session.id": "session does not exist here",
    "1 / 0": "division by zero",
    "1.0 / 0.0": "division by zero",
    "1 % 0": "division by zero",
    "9223372036854775807 + 1": "a whole number does not fit 64 bits",
    "-9223372036854775808 / -1": "a whole number does not fit 64 bits",
    "input.big": "a whole number does not fit 64 bits",
    "[input.big]": "a whole number does not fit 64 bits",
    "input.big - input.big": "a whole number does not fit 64 bits",
    "int(1e30)": "a whole number does not fit 64 bits",
    "input.huge * 10": "a number is too large for a double",
    "double('1e999')": "a number is too large for a double",
    "double('nan')": '"nan" is not a number',
    "int('1_0')": '"1_0" is not a whole number',
    "'a' + 1": "+ does not take text and a number",
    "1 < 'a'": "< does not take a number and text",
    "7.5 % 2": "% takes whole numbers, not 7.5",
    "-'a'": "- takes a number, not text",
    "!1": "! takes booleans, not a number",
    "1 ? 2 : 3": "?: takes booleans, not a number",
    "input.yes && 1": "&& takes booleans, not a number",
    "1 in 'abc'": "in takes a list or an object, not text",
    "size(1)": "size takes text, a list or an object, not a number",
    "string([1])": "string takes text, a number or a boolean, not a list",
    "'a'.matches('(')": '"(" is not a pattern: missing ): (',
    "{string(1): 1, '1': 2}": 'an object has "1" twice',
    "{input.text + 'x': 1, input.n: 2}": "the names of an object must be text, not a number",
    "input.n.map(x, x)": "input.n is neither a list nor an object: it is a number",
    "input.list.filter(x, x)": "a condition takes booleans, not a number",
    "[1, 'a'].exists(x, x + 1 == 9)": "+ does not take text and a number",
}


@pytest.mark.parametrize(("text", "message"), FAILURES.items())
def test_an_expression_without_a_value_says_why(text: str, message: str) -> None:
    assert failure(text) == message


REFUSALS = {
    "": "it ends too early, at character 1",
    "input.n +": "it ends too early, at character 10",
    "input.n\n+ $": "unexpected '$', at character 11",
    "1 2": "unexpected '2', at character 3",
    "imput.n": "there is no 'imput'; did you mean 'input'?, at character 1",
    "1 + env.HOME": "there is no 'env', at character 5",
    "input.list.map(x, y)": "there is no 'y', at character 19",
    "input.list.map(x, x) + x": "there is no 'x', at character 24",
    "now()": "there is no function 'now', at character 4",
    "_f(1)": "there is no function '_f', at character 3",
    "input._in_(1)": "there is no function '_in_', at character 11",
    ".size('a')": "there is no function '.size'; did you mean 'size'?, at character 6",
    "input()": "there is no function 'input'; did you mean 'int'?, at character 6",
    "random()": "there is no function 'random', at character 7",
    "sizee('a')": "there is no function 'sizee'; did you mean 'size'?, at character 6",
    "size('a', 'b')": "size is written size(value), at character 5",
    "contains('a', 'b')": "contains is written text.contains(text), at character 9",
    "'1'.int()": "int is written int(value), at character 8",
    "input.list.map(x)": "map is written a.map(x, …), at character 15",
    "timestamp('2026-01-01T00:00:00Z')": "timestamp() is not supported: JSON has no such values, at character 10",
    "b'a'": "bytes is not supported: JSON has no such value, at character 1",
    "1u": "an unsigned number is not supported: JSON has no such value, at character 1",
    "1e999": "this number is too large, at character 1",
    "99999999999999999999": "invalid int literal, at character 1",
    "{1: 2}": "the names of an object must be strings, at character 2",
    "Thing{a: 1}": "messages are not supported: write an object as {'name': value}, at character 1",
    "tasks": 'tasks must be followed by a literal task id, as in tasks.scan or tasks["scan"], at character 1',
    "tasks[input.n]": (
        'tasks must be followed by a literal task id, as in tasks.scan or tasks["scan"], at character 1'
    ),
    "[1].all(x, [2].all(y, true))": "a macro can't be used in the body of another macro, at character 19",
    "[1].map(item, item)": "'item' is taken: give the variable another name, at character 8",
    "'\udc80'": "the text holds half of a surrogate pair",
    "(" * 40 + "1" + ")" * 40: f"it nests deeper than {DEPTH_MAX} levels",
    "+".join(["1"] * 40): f"it nests deeper than {DEPTH_MAX} levels",
    "[" + ",".join(["1"] * NODES_MAX) + "]": f"an expression has at most {NODES_MAX} operations, names and constants",
    "'" + "a" * EXPRESSION_CHARACTERS_MAX + "'": "an expression has at most 2,048 characters",
}


@pytest.mark.parametrize(("text", "message"), REFUSALS.items())
def test_what_is_no_expression_is_refused_in_plain_words(text: str, message: str) -> None:
    assert refusal(text) == message


READS: dict[str, tuple[set[str], set[str]]] = {
    "1 + 1": (set(), set()),
    "input.a == item": ({"input", "item"}, set()),
    'tasks.scan.result.x + tasks["a b"].status': ({"tasks"}, {"scan", "a b"}),
    "has(tasks.scan)": ({"tasks"}, {"scan"}),
    "input.list.map(x, x + index).size() > 0 ? error.code : session.id": (
        {"input", "index", "error", "session"}, set(),
    ),
    "input.list.filter(x, x in tasks.scan.result)": ({"input", "tasks"}, {"scan"}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reads"), READS.items())
def test_an_expression_tells_what_it_reads(text: str, reads: tuple[set[str], set[str]]) -> None:
    for compiled in (compile_expression(text), compile_template({"a": ["${" + text + "}"]})):
        assert (set(compiled.names), set(compiled.task_keys)) == reads


def test_an_expression_is_a_value_with_its_text() -> None:
    expression = compile_expression("input.n")
    assert expression.text == "input.n"
    assert expression == compile_expression("input.n")
    with pytest.raises(AttributeError):
        expression.text = "input.f"  # type: ignore[misc]


def test_an_expression_is_compiled_once_while_it_is_in_use() -> None:
    document = {"id": "w", "tasks": [{"taskId": "a", "agentCapability": "c", "when": "${input.once == 'compiled'}"}]}
    first, second = (parse(document, Limits()).by_key["a"].when for _ in range(2))
    assert first is second is compile_expression("input.once == 'compiled'")


def test_a_condition_has_to_be_a_boolean() -> None:
    assert compile_expression("input.n > 3").holds(SCOPE)
    assert not compile_expression("input.n > 4").holds(SCOPE)
    with pytest.raises(ExpressionFailed, match="a condition takes booleans, not a number"):
        compile_expression("input.n").holds(SCOPE)


def test_what_is_read_of_the_scope_is_taken_over_as_it_is() -> None:
    assert value("input.orders") is SCOPE["input"]["orders"]
    assert value("input")["big"] == 2**70
