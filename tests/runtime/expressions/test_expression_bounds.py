"""Bounds of expressions: nothing that anyone may write takes long, and what goes beyond a bound says which."""

import gc
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from opscore.runtime import codec
from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed, ExpressionInvalid
from opscore.runtime.expressions.bounds import EXPRESSION_CHARACTERS_MAX, ITEMS_MAX, RESULT_BYTES_MAX
from opscore.runtime.expressions.expression import compile_expression, template_faults
from opscore.runtime.limits import NESTING_MAX, Limits

HOLDS_THE_LOOP_S = 0.05


def largest(item: Any) -> list[Any]:
    """A list of this, as large as a payload may be."""
    return [item] * ((Limits().value_bytes_max - 2) // (len(codec.encode_json(item)) + 1))


def nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


LARGEST: dict[str, Any] = {
    "ones": largest(1),
    "empty": largest([]),
    "combs": largest(nested(NESTING_MAX - 3)),
    "objects": [{"a": index, "b": "x"} for index in range(9_000)],
    "numbers": list(range(ITEMS_MAX)),
    "doubles": [index + 0.1 for index in range(ITEMS_MAX)],
    "texts": ["a" * 20 + str(index) for index in range(9_000)],
    "names": {f"a{index:05}": index for index in range(ITEMS_MAX)},
    "text": "a" * (Limits().value_bytes_max - 2),
    "noise": "abbabaaabab" * 1_000,
    "random": "".join(random.Random(1).choices("ab", k=20_000)),
    "quotes": '"' * 130_000,
}
TWINS = json.loads(json.dumps(LARGEST))
HUGE = {"input": LARGEST, "item": TWINS, "tasks": {f"t{index}": {"result": LARGEST["ones"]} for index in range(1_000)}}

PATTERNS = [
    "(a+)+$b", "(a|b)*a(a|b){13}x", "[ab]*a[ab]{999}x", "(a?){999}(a){999}b", ".*.*.*.*.*x", r"\\pL" * 150,
    r"(\\pL{100}\\pN{100}){9}", "(" * 200 + "a" + ")" * 200, "(.*)" * 100 + "x", "." * 400, r"\\W\\D\\S" * 60, "x",
    "(a|b|ab)*c", r"(\\w+\\s*)+$x", "(?i)" + "é" * 200, "|".join(f"[ab]*a[ab]{{{900 + n}}}x" for n in range(20)),
    # Repeats within one another, and beside one another.
    "(([ab]{10}){10}){10}" * 9 + "x", "[ab]*a(([ab]{4}){15}){15}x", "(?:(?:[ab]{1,10}){1,10}){1,10}x",
    "[ab]*a(.{99}b){9}x", "((a?){31}){31}" * 9, "a{1,999}" * 9 + "x", "k{0,100}" * 40, "(?i)" + "[é-я]{1,999}" * 3,
    ".*a" + ".{999}" * 8 + "x", ".*a(a|b|ab){999}x", r"(\\pL\\PL|[^\\pL]){9}", "[" * 400, "[[:a" * 100, "(" * 400,
]  # fmt: skip

HOSTILE = [
    "input.numbers.all(x, x >= 0)",
    "input.numbers.all(x, x.nope == 1)",
    "input.numbers.all(x, x.a || x.b || x.c || x.d)",
    "input.numbers.exists(x, input.numbers[x] < 0)",
    "input.numbers.exists(x, x in input.numbers && false)",
    "input.numbers.map(x, x)",
    "input.numbers.map(x, input)",
    "input.numbers.map(x, [])",
    "input.numbers.map(x, {'a': x, 'b': [x]})",
    "input.numbers.map(x, string(x))",
    "input.doubles.map(x, string(x))",
    "input.doubles.map(x, x * x)",
    "input.doubles.map(x, x * x * x * x * x / 3.0 + 1.5 - x)",
    "input.texts.map(x, x + x)",
    "input.texts.all(x, x.matches('a+[0-9]+'))",
    "input.names.map(k, input.names[k])",
    "input.numbers" + ".filter(x, true)" * 9,
    "'a' in input.texts",
    " || ".join(["0 in input.ones"] * 10),
    "[1] in input.empty",
    *(f"input.{name} == item.{name}" for name in LARGEST),
    *(f"[input.{name}]" for name in LARGEST),
    *(f"{{'a': [[item.{name}]]}}.a" for name in LARGEST),
    "[" + ",".join(["input.ones"] * 150) + "]",
    "[" + ",".join(f"tasks.t{index}.result" for index in range(90)) + "]",
    "input.numbers + input.numbers",
    "+".join(["input.text"] * 20),
    "input.numbers.map(x, input.text + 'a')",
    "input.numbers.all(x, input.text < input.text + 'a')",
    "input.numbers.all(x, !input.text.contains('b'))",
    " || ".join(["input.text.contains('" + "a" * 100 + "b')"] * 9),
    " || ".join(["input.noise.contains('" + "ab" * 40 + "b')"] * 9),
    "int(input.text)",
    "double(input.text)",
    "'a'.matches(input.text)",
    *(f"input.text.matches('{pattern}')" for pattern in PATTERNS),
    *(f"input.noise.matches('{pattern}')" for pattern in PATTERNS),
    *(f"input.random.matches('{pattern}')" for pattern in PATTERNS),
    *(f"input.numbers.all(x, !'abababab'.matches('{pattern}'))" for pattern in PATTERNS),
]


@pytest.fixture(scope="module")
def quiet_memory() -> Iterator[None]:
    """The collector would walk the largest values there are, again and again, in the time that is measured."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quiet_memory")
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:60])
def test_no_expression_holds_the_event_loop(text: str) -> None:
    """The processor's time in the best of some tries: the work is measured, not what else the machine does."""
    taken = []
    for _ in range(5):
        began = time.thread_time()
        try:
            compile_expression(text).evaluate(HUGE)
        except ExpressionFailed:
            pass
        except ExpressionInvalid:
            pytest.fail("a hostile expression is evaluated, or it proves nothing")
        taken.append(time.thread_time() - began)
    assert min(taken) < HOLDS_THE_LOOP_S


UNREADABLE = [
    *("(" * 2_000, "[" * 2_000, "{" * 2_000, "$" * 2_000, "é" * 2_000, "a b " * 500, "'" * 2_000, "f(" * 1_000),
    *("a?" * 1_000, "a?b:" * 500, "-" * 2_000 + "1", "!" * 2_000 + "true", "input" + ".a" * 1_000, "$\n" * 1_000),
    *("&&".join(["true"] * 300), "||".join(["a&&b"] * 300), "[" + ",".join(["[1]"] * 500) + "]"),
    *("[" + ",".join(["a.all(x,x)"] * 150) + "]", "{" + ",".join(["'a':1"] * 300) + "}", "<".join(["1"] * 1_000)),
]


@pytest.mark.parametrize("text", UNREADABLE, ids=lambda text: text[:20])
def test_no_text_takes_long_to_read(text: str) -> None:
    taken = []
    for _ in range(5):
        began = time.thread_time()
        faults = list(template_faults("${" + text + "}"))
        taken.append(time.thread_time() - began)
        assert sum(len(message) for _, message in faults) < 2 * EXPRESSION_CHARACTERS_MAX
    assert min(taken) < HOLDS_THE_LOOP_S


EXHAUSTED = {
    "input.ones.map(x, x)": f"input.ones has {len(LARGEST['ones']):,} items, and map takes at most 10,000",
    "[input.text, input.text]": f"a result has at most {RESULT_BYTES_MAX:,} bytes as JSON",
    "input.text + input.text": "a text may have at most 262,144 characters",
    "input.numbers + [1]": "a list that is made may have at most 10,000 items",
    "'a'.matches(input.text)": "a pattern has at most 500 characters",
    "[[[[[input.combs[0]]]]]]": "a result nests at most 100 levels",
    "input.numbers.all(x, x in input.numbers)": "it takes more than 100,000 steps; read less, or go over fewer items",
    # Neither decides over a bound, whatever stands beside it.
    "true || input.ones.all(x, true) || input.ones.map(x, x) == []": None,
    "input.ones.all(x, true) || true": f"input.ones has {len(LARGEST['ones']):,} items, and all takes at most 10,000",
    "[1, 2].exists(y, y == 2 || input.text + input.text == '')": "a text may have at most 262,144 characters",
}


@pytest.mark.parametrize(("text", "message"), EXHAUSTED.items())
def test_what_goes_beyond_a_bound_says_which(text: str, message: str | None) -> None:
    expression = compile_expression(text)
    if message is None:
        assert expression.evaluate(HUGE) is True
        return
    with pytest.raises(ExpressionExhausted) as exhausted:
        expression.evaluate(HUGE)
    assert str(exhausted.value) == message


def test_the_largest_payload_can_be_passed_on_and_put_into_an_object() -> None:
    for name in ("ones", "empty", "text"):
        payload = LARGEST[name]
        assert compile_expression(f"input.{name}").evaluate(HUGE) is payload
    orders = compile_expression("{'orders': input.objects}").evaluate(HUGE)
    assert orders == {"orders": LARGEST["objects"]}
