"""Templates: JSON values whose strings hold expressions."""

from typing import Any

import pytest

from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed, ExpressionInvalid
from opscore.runtime.expressions.bounds import EXPRESSION_CHARACTERS_MAX, TEMPLATE_CHARACTERS_MAX
from opscore.runtime.expressions.expression import compile_template, template_faults
from opscore.runtime.limits import NESTING_MAX
from tests.runtime.expressions.expression_scope import SCOPE, exactly

TEMPLATES: list[tuple[Any, Any]] = [
    ("${input.n}", 4),
    ("${ input.list }", [1, 2, 3]),
    ("n=${input.n}, f=${input.f}, ${input.half}", "n=4, f=4.0, 0.5"),
    ("${input.none}|${input.yes}|${input.text}", "null|true|é"),
    ("${input.list} ${tasks.scan.result}", '[1,2,3] {"found":2}'),
    (" ${input.n}", " 4"),
    ("${input.n}${input.n}", "44"),
    ("$${input.n} is ${input.n}", "${input.n} is 4"),
    ("$$${input.n}", "$${input.n}"),
    ("cost: $5 {} }", "cost: $5 {} }"),
    ("${'}'}", "}"),
    ("${\"}\" + '{'}", "}{"),
    ("${'\\'}'}!", "'}!"),
    ("${r'\\d}'}", "\\d}"),
    ("${'''a'}\n'''}", "a'}\n"),
    ("${{'a': {'b': 1}}.a}", {"b": 1}),
    ("${1 // }\n + 1}", 2),
    ("${1 // `a` }\n + 1} ${2 // `b }\n}", "2 2"),
    ("${{'a//b': 1}.`a//b`}", 1),
    ("${{'a-b.c /d': {'e': '`}`'}}.`a-b.c /d`}", {"e": "`}`"}),
    ("${''}${''}", ""),
    ({"a": ["${input.n}", {"b": "${input.f}"}], "c": None, "${input.n}": 1},
     {"a": [4, {"b": 4.0}], "c": None, "${input.n}": 1}),
    (["x", 1, {"y": []}], ["x", 1, {"y": []}]),
    ({"a": "$${x}"}, {"a": "${x}"}),
]  # fmt: skip


@pytest.mark.parametrize(("template", "expected"), TEMPLATES)
def test_a_template_is_filled_in(template: Any, expected: Any) -> None:
    assert list(template_faults(template)) == []
    assert exactly(compile_template(template).evaluate(SCOPE), expected)


def test_a_template_without_expressions_is_constant() -> None:
    parameters = {"a": ["text", 1]}
    constant = compile_template(parameters)
    assert constant.constant
    assert constant.evaluate({}) is parameters
    assert compile_template("$${x}").constant
    assert not compile_template(["${1}"]).constant


def test_only_what_holds_expressions_is_built_anew() -> None:
    parameters = {"fixed": [{"a": 1}], "filled": "${input.n}"}
    assert compile_template(parameters).evaluate(SCOPE)["fixed"] is parameters["fixed"]


FAULTY: dict[str, Any] = {
    "steps": [{"text": "ok"}, {"text": "${imput.n} and ${1 +}"}, "a ${input"],
    "deep": {"x": "${'a'"},
}


def test_every_fault_of_a_template_is_found_with_its_path() -> None:
    assert list(template_faults(FAULTY)) == [
        ("steps[1].text", "there is no 'imput'; did you mean 'input'?, at character 3"),
        ("steps[1].text", "it ends too early, at character 21"),
        ("steps[2]", "this ${ has no closing }, at character 3"),
        ("deep.x", "this ${ has no closing }, at character 1"),
    ]
    with pytest.raises(ExpressionInvalid) as refused:
        compile_template(FAULTY)
    assert (refused.value.path, refused.value.position) == ("steps[1].text", 3)
    with pytest.raises(ExpressionInvalid) as refused:
        compile_template("${")
    assert refused.value.path == ""


def test_an_expression_that_is_too_long_is_not_looked_for_any_further() -> None:
    assert list(template_faults("${'" + "a" * EXPRESSION_CHARACTERS_MAX + "'}")) == [
        ("", "this ${ has no closing } within 2,048 characters, at character 1")
    ]


def test_a_template_that_fails_says_where() -> None:
    with pytest.raises(ExpressionFailed, match=r'^a\[1\]: input has no field "x"$'):
        compile_template({"a": [1, "${input.x}"]}).evaluate(SCOPE)
    with pytest.raises(ExpressionFailed, match=r'^input has no field "x"$'):
        compile_template("${input.x}").evaluate(SCOPE)


def test_the_expressions_of_one_template_share_its_bounds() -> None:
    each = "${'" + "a" * 1_000 + "'}"
    assert list(template_faults([each] * (TEMPLATE_CHARACTERS_MAX // 1_002))) == []
    ((path, message),) = template_faults([each] * (TEMPLATE_CHARACTERS_MAX // 1_002 + 2))
    assert (path, message) == ("[8]", "the expressions of one value have at most 8,192 characters")

    scope = {"input": {"s": "a" * 100_000, "l": list(range(5_000))}}
    assert len(compile_template("${input.s}${input.s}").evaluate(scope)) == 200_000
    with pytest.raises(ExpressionExhausted, match="a result has at most 262,144 bytes"):
        compile_template(["${input.s}"] * 3).evaluate(scope)
    with pytest.raises(ExpressionExhausted, match="takes more than 100,000 steps"):
        compile_template(["${input.l.all(x, x >= 0)}"] * 10).evaluate(scope)


def test_a_template_that_nests_too_deep_is_refused() -> None:
    nested: Any = "${1}"
    for _ in range(NESTING_MAX + 50):
        nested = [nested]
    ((path, message),) = template_faults(nested)
    assert path == "[0]" * (NESTING_MAX + 1)
    assert message == f"nesting_max allows {NESTING_MAX} levels"
