"""Where expressions may stand in workflow documents, and what they may read there."""

from typing import Any

import pytest

from opscore.runtime.definitions.definition import parse
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.limits import Limits

LIMITS = Limits()
A, B = {"taskId": "a"}, {"taskId": "b"}


def workflow(*tasks: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "w", "tasks": list(tasks), **fields}


def faults(document: Any) -> dict[str, str]:
    with pytest.raises(InvalidDocument) as refusal:
        parse(document, LIMITS)
    return {fault.path: fault.message for fault in refusal.value.faults}


EXPRESSIONS = {
    "a text that is no expression": ({"when": "1 +"}, "tasks[0].when"),
    "a name that does not exist": ({"when": "inptu.x"}, "tasks[0].when"),
    "an item without a list": ({"parameters": {"x": "${item}"}}, "tasks[0].parameters"),
    "an item in a condition": ({"forEach": [1], "when": "item > 1"}, "tasks[0].when"),
    "the error of no failure": ({"parameters": {"x": "${error.code}"}}, "tasks[0].parameters"),
    "a task that comes later": ({"when": "tasks.b.result"}, "tasks[0].when"),
    "a task that is not there": ({"forEach": "${tasks.c.result}"}, "tasks[0].forEach"),
    "a list that is a text": ({"forEach": "a, b"}, "tasks[0].forEach"),
    "a list within a text": ({"forEach": "x ${input}"}, "tasks[0].forEach"),
    "two lists in one text": ({"forEach": "${input}${input}"}, "tasks[0].forEach"),
    "a list that is not closed": ({"forEach": "${input"}, "tasks[0].forEach"),
    "a list of space": ({"forEach": " \n"}, "tasks[0].forEach"),
    "a bound without a list": ({"concurrency": 3}, "tasks[0].concurrency"),
    "no expression where one would change who works": ({"agentCapability": "${input}"}, "tasks[0].agentCapability"),
}


@pytest.mark.parametrize(("fields", "path"), EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_what_an_expression_can_not_be_or_read_is_told_at_its_path(fields: dict[str, Any], path: str) -> None:
    assert list(faults(workflow({**A, **fields}, B))) == [path]


def test_what_an_expression_can_read_is_valid() -> None:
    tasks = [
        {"taskId": "a", "fallbackTaskId": "f", "compensateTaskId": "c"},
        {"taskId": "b", "when": "${tasks.a.status == 'failed'}", "forEach": "${tasks.a.result}", "parameters": {
            "x": "${item} of ${index}", "y": "${tasks.a.error.code} ${session.id}",
        }},
        {"taskId": "f", "parameters": {"why": "${error.message}", "what": "${tasks.a.status}"}},
        {"taskId": "c", "parameters": {"of": "${tasks.b.result}"}},
    ]  # fmt: skip
    definition = parse(workflow(*tasks, outputs={"n": "${size(tasks.b.result)}"}), LIMITS)
    assert definition.by_key["b"].filled.task_keys == {"a"}


@pytest.mark.parametrize("text", ["${input}\n", " ${input}", "\n${ input }\n", "${{'}': input}['}']}\n"])
def test_space_around_the_list_that_is_gone_through_means_nothing(text: str) -> None:
    for_each = parse(workflow({**A, "forEach": text}), LIMITS).by_key["a"].for_each
    assert for_each is not None
    assert for_each.evaluate({"input": [1, 2]}) == [1, 2]


def test_a_fallback_reads_what_its_step_could_and_that_step_and_nothing_beside() -> None:
    tasks = [
        {"taskId": "a", "dependsOn": [], "fallbackTaskId": "f"},
        {"taskId": "b", "dependsOn": []},
        {"taskId": "f", "parameters": {"x": "${tasks.b.result}"}},
    ]
    assert list(faults(workflow(*tasks))) == ["tasks[2].parameters"]


def test_what_undoes_a_run_reads_every_task_but_itself() -> None:
    undo = {"taskId": "undo", "parameters": {"x": "${tasks.b.result}", "y": "${tasks.told.status}"}}
    told = {"taskId": "told", "parameters": {"x": "${tasks.b.result}", "y": "${tasks.undo.status}"}}
    steps = [{"taskId": "a", "compensateTaskId": "undo"}, B]
    parse(workflow(*steps, undo, told, onFailure="told"), LIMITS)
    of_itself = "${tasks.undo.status == 'pending' ? 1 : input.gone}"
    document = workflow(*steps, {**undo, "parameters": {"x": of_itself}}, told, onFailure="told")
    assert faults(document) == {"tasks[2].parameters": "task 'undo' is not over when this is evaluated"}
    document = workflow(*steps, undo, {**told, "concurrencyKey": "${tasks.told.status}"}, onFailure="told")
    assert faults(document) == {"tasks[3].concurrencyKey": "task 'told' is not over when this is evaluated"}


def test_the_expressions_of_a_document_are_bounded_together() -> None:
    tasks = [{"taskId": f"t{number}", "parameters": {"x": "${" + "1+" * 900 + "1}"}} for number in range(20)]
    assert "expression_characters_max allows 32,768" in faults(workflow(*tasks))[""]


def test_what_is_no_expression_counts_for_no_bound_of_theirs() -> None:
    document = workflow({"taskId": "a", "description": "such as ${tasks.b.result}: " + "x" * 40_000})
    assert parse(document, LIMITS).by_key["a"].filled.constant


KINDS = {
    "a type that is no name": ({"type": []}, "tasks[0].type"),
    "an agent for what no agent does": (
        {"type": "delay", "agentId": "x", "parameters": {"seconds": 1}},
        "tasks[0].agentId",
    ),
    "a delay that says nothing": ({"type": "delay"}, "tasks[0]"),
    "a delay of two kinds": (
        {"type": "delay", "parameters": {"seconds": 1, "until": "2030-01-01"}},
        "tasks[0].parameters",
    ),
    "a time that is none": ({"type": "delay", "parameters": {"until": "soon"}}, "tasks[0].parameters.until"),
    "a delay of less than nothing": ({"type": "delay", "parameters": {"seconds": -1}}, "tasks[0].parameters.seconds"),
    "a signal whose name is computed": (
        {"type": "signal", "parameters": {"name": "${input}"}},
        "tasks[0].parameters.name",
    ),
    "a workflow that names none": ({"type": "workflow", "parameters": {}}, "tasks[0].parameters"),
    "a workflow by a number": ({"type": "workflow", "parameters": {"workflowId": 5}}, "tasks[0].parameters.workflowId"),
}


@pytest.mark.parametrize(("fields", "path"), KINDS.values(), ids=KINDS.keys())
def test_what_a_kind_of_task_needs_and_has_no_use_for_is_told_at_its_path(fields: dict[str, Any], path: str) -> None:
    assert list(faults(workflow({"taskId": "a", **fields}))) == [path]


def test_what_expressions_read_is_told_beside_other_faults_unless_it_depends_on_those() -> None:
    document = workflow(
        {**A, "dependsOn": ["a"], "parameters": {"x": "${1 +}", "y": "${tasks.b.result + tasks.zz.result}"}},
        {**B, "dependsOn": ["tusk_a"], "when": "tasks.a.rezult"},
        {"taskId": "c", "parameters": {"z": "${error.message}"}},
    )
    with pytest.raises(InvalidDocument) as caught:
        parse(document, LIMITS)
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        ("tasks", "the tasks form a cycle: a → a"),
        ("tasks[0].parameters", "task 'zz' does not exist"),
        ("tasks[0].parameters.x", "it ends too early, at character 6"),
        ("tasks[1].dependsOn[0]", "no task is called 'tusk_a'"),
        ("tasks[1].when", "task 'a' has no field 'rezult'; did you mean 'result'?"),
        ("tasks[2].parameters", "'error' can't be read here, only input, session, tasks"),
    ]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("session.foo", "session has no field 'foo'"),
        ("session['workflowID']", "session has no field 'workflowID'; did you mean 'workflowId'?"),
        ("session.id.x", "session.id has no field 'x'"),
        ("tasks.a.rezult", "task 'a' has no field 'rezult'; did you mean 'result'?"),
        ("tasks['a'].status.x", "task 'a'.status has no field 'x'"),
        ("[1].map(x, tasks.a.error.foo)", "task 'a'.error has no field 'foo'"),
        ("has(tasks.a.rezult.x)", "task 'a' has no field 'rezult'; did you mean 'result'?"),
    ],
)
def test_fields_that_are_never_there_are_found_when_a_workflow_is_saved(expression: str, said: str) -> None:
    assert faults(reading(expression)) == {"tasks[1].parameters": said}


@pytest.mark.parametrize(
    "expression",
    [
        "tasks.a.result.whatever.that.is",
        "has(session.foo) || has(tasks.a.foo)",
        "tasks.a.error.code + session.workflowId + session['agentId']",
        "input.session.foo.tasks.a.foo",
        "{'session': {'foo': 1}}.session.foo",
    ],
)
def test_fields_that_may_be_there_are_no_faults(expression: str) -> None:
    parse(reading(expression), LIMITS)


def reading(expression: str) -> dict[str, Any]:
    return workflow({**A, "nextTaskId": "b"}, {**B, "parameters": {"x": f"${{{expression}}}"}})
