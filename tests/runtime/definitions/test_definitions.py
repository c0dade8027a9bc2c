"""Workflow documents: what is valid and what becomes of it; every fault, at its path, and all at once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime import codec
from opscore.runtime.definitions.definition import Definition, RetryPolicy, parse, restore
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.limits import Limits

LIMITS = Limits()
SAMPLE = """
{"id": "sample_workflow_id", "name": "Sample Load Test Workflow", "version": "1.0",
 "tasks": [
  {"taskId": "step_1", "name": "First Step", "agentCapability": "test_capability",
   "parameters": {"message": "This is the first step."}, "nextTaskId": "step_2"},
  {"taskId": "step_2", "name": "Second Step", "agentCapability": "another_capability",
   "parameters": {"value": 123}, "nextTaskId": null}]}
"""


def workflow(*tasks: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "w", "tasks": list(tasks), **fields}


def faults(document: Any, limits: Limits = LIMITS) -> dict[str, str]:
    with pytest.raises(InvalidDocument) as refusal:
        parse(document, limits)
    found = {fault.path: fault.message for fault in refusal.value.faults}
    assert len(found) == len(refusal.value.faults), "each of these documents has one fault at a path"
    return found


def edges(*tasks: Any) -> dict[str, tuple[str, ...]]:
    return {task.key: task.depends_on for task in parse(workflow(*tasks), LIMITS).tasks}


# --- what is valid ------------------------------------------------------------------------------------------


def test_ops_cores_own_sample_is_valid_as_it_is() -> None:
    definition = parse(codec.decode_json(SAMPLE), LIMITS)
    assert (definition.workflow_id, definition.name, definition.version) == (
        "sample_workflow_id", "Sample Load Test Workflow", "1.0",
    )  # fmt: skip
    first, second = definition.tasks
    assert (first.key, first.name, first.capability) == ("step_1", "First Step", "test_capability")
    assert (first.parameters, second.parameters) == ({"message": "This is the first step."}, {"value": 123})
    assert (first.depends_on, second.depends_on) == ((), ("step_1",))
    assert definition.dependents == {"step_1": (second,), "step_2": ()}
    assert definition.document == codec.decode_json(SAMPLE)


def test_a_task_says_no_more_than_its_id() -> None:
    (task,) = parse(workflow({"taskId": "a"}), LIMITS).tasks
    assert (task.name, task.capability, task.agent_id, task.parameters) == ("a", None, None, {})
    assert (task.retry, task.timeout_s, task.lease_s, task.priority) == (RetryPolicy(), 3_600.0, 900.0, 0)


def test_a_document_without_tasks_is_valid() -> None:
    assert parse(workflow(), LIMITS).tasks == ()


def test_a_document_without_edges_runs_in_listed_order() -> None:
    assert edges({"taskId": "b"}, {"taskId": "a"}, {"taskId": "c"}) == {"b": (), "a": ("b",), "c": ("a",)}


def test_a_next_task_of_null_is_no_edge() -> None:
    assert edges({"taskId": "a", "nextTaskId": None}, {"taskId": "b", "nextTaskId": None}) == {"a": (), "b": ("a",)}


def test_tasks_that_depend_on_nothing_by_their_own_word_run_side_by_side() -> None:
    assert edges({"taskId": "a", "dependsOn": []}, {"taskId": "b", "dependsOn": []}) == {"a": (), "b": ()}


def test_edges_are_written_from_either_side() -> None:
    forwards = edges({"taskId": "b"}, {"taskId": "a", "nextTaskId": "b", "dependsOn": []})
    backwards = edges({"taskId": "b", "dependsOn": ["a"]}, {"taskId": "a"})
    both = edges({"taskId": "b", "dependsOn": ["a"]}, {"taskId": "a", "nextTaskId": "b"})
    assert forwards == backwards == both == {"a": (), "b": ("a",)}


def test_defaults_hold_for_every_task_that_says_nothing_else() -> None:
    defaults = {"retry": {"maxRetries": 1, "jitter": False}, "timeoutSeconds": 7, "leaseSeconds": 5, "priority": 2}
    own = {"taskId": "b", "retry": {"maxRetries": 9}, "timeoutSeconds": 8, "priority": 0}
    first, second = parse(workflow({"taskId": "a"}, own, defaults=defaults), LIMITS).tasks
    assert (first.retry, first.timeout_s, first.lease_s, first.priority) == (
        RetryPolicy(max_retries=1, jitter=False), 7.0, 5.0, 2,
    )  # fmt: skip
    assert (second.retry, second.timeout_s, second.lease_s, second.priority) == (
        RetryPolicy(max_retries=9, jitter=False), 8.0, 5.0, 0,
    )  # fmt: skip


def test_a_retry_policy_is_read_field_by_field() -> None:
    retry = {
        "maxRetries": 7, "initialDelaySeconds": 0.5, "backoffCoefficient": 1.5, "maxDelaySeconds": 9, "jitter": False,
        "nonRetryable": ["x", "y"],
    }  # fmt: skip
    (task,) = parse(workflow({"taskId": "a", "retry": retry}), LIMITS).tasks
    assert task.retry == RetryPolicy(
        max_retries=7, initial_delay_s=0.5, backoff_coefficient=1.5, max_delay_s=9.0, jitter=False,
        non_retryable=("x", "y"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("who", "needs"), [({}, True), ({"agentCapability": "c"}, False), ({"agentId": "x"}, False)], ids=str
)
def test_an_agent_must_be_named_where_a_task_names_nobody(who: dict[str, str], needs: bool) -> None:
    assert parse(workflow({"taskId": "a", **who}), LIMITS).needs_agent is needs


def test_the_digest_names_the_content_whatever_the_order_of_its_fields() -> None:
    one, other = {"id": "w", "tasks": [], "name": "n"}, {"name": "n", "tasks": [], "id": "w"}
    assert parse(one, LIMITS).digest == parse(other, LIMITS).digest
    assert parse(one, LIMITS).digest != parse({**one, "name": "m"}, LIMITS).digest


def test_a_stored_document_is_restored_whatever_the_limits_say_today() -> None:
    document = workflow({"taskId": "a"}, {"taskId": "b", "shape": "a field that was valid once"})
    restored = restore(document, Limits(tasks_max=1))
    assert [task.key for task in restored.tasks] == ["a", "b"]


@settings(deadline=None)
@given(data=st.data(), count=st.integers(1, 8))
def test_a_valid_document_restored_is_the_same_definition(data: st.DataObject, count: int) -> None:
    tasks = [
        {"taskId": f"t{number}", "dependsOn": data.draw(st.lists(st.sampled_from(range(number)), unique=True))}
        if number
        else {"taskId": "t0", "dependsOn": []}
        for number in range(count)
    ]
    for task in tasks:
        task["dependsOn"] = [f"t{number}" for number in task["dependsOn"]]
    document = workflow(*data.draw(st.permutations(tasks)))
    parsed = parse(document, LIMITS)
    assert parsed == restore(codec.decode_json(codec.encode_json(document)), LIMITS)
    assert {task.key: set(task.depends_on) for task in parsed.tasks} == {
        str(task["taskId"]): set(task["dependsOn"]) for task in tasks
    }


# --- every kind of fault, at its path -----------------------------------------------------------------------

A, B = {"taskId": "a"}, {"taskId": "b"}
TYPE = "is not of type"

ONE_FAULT: dict[str, tuple[Any, str, str]] = {
    "no object": ([], "", "[] is not of type 'object'"),
    "nothing": (None, "", TYPE),
    "no id": ({"tasks": []}, "", "id must be given"),
    "no tasks": ({"id": "w"}, "", "tasks must be given"),
    "an empty document": ({}, "", "id and tasks must be given"),
    "an empty id": (workflow(id=""), "id", "'' should be non-empty"),
    "an id that is a number": (workflow(id=5), "id", "5 is not of type 'string'"),
    "a long id": (workflow(id="é" * 65), "id", "id_bytes_max allows 128 bytes, found 130"),
    "a version that is a number": (workflow(version=1.0), "version", TYPE),
    "tasks that are no list": (workflow(tasks={}), "tasks", TYPE),
    "a task that is no object": (workflow("a"), "tasks[0]", TYPE),
    "a task without id": (workflow(A, {"name": "n"}), "tasks[1]", "taskId must be given"),
    "a task id that is a number": (workflow({"taskId": 5}), "tasks[0].taskId", TYPE),
    "a long task id": (workflow({"taskId": "é" * 65}), "tasks[0].taskId", "id_bytes_max allows 128 bytes, found 130"),
    "parameters that are no object": (workflow({**A, "parameters": [1]}), "tasks[0].parameters", TYPE),
    "a type nobody knows": (workflow({**A, "type": "human"}), "tasks[0].type", "'human' is not one of ['agent',"),
    "a priority beyond 9": (
        workflow({**A, "priority": 10}), "tasks[0].priority",
        "10 is greater than the maximum of 9",
    ),
    "a priority that is true": (workflow({**A, "priority": True}), "tasks[0].priority", TYPE),
    "no time at all": (workflow({**A, "timeoutSeconds": 0}), "tasks[0].timeoutSeconds", "0 is less than or equal to"),
    "a time that is text": (workflow({**A, "leaseSeconds": "7"}), "tasks[0].leaseSeconds", TYPE),
    "a negative count": (workflow({**A, "retry": {"maxRetries": -1}}), "tasks[0].retry.maxRetries", "-1 is less than"),
    "half a retry": (workflow({**A, "retry": {"maxRetries": 0.5}}), "tasks[0].retry.maxRetries", TYPE),
    "a shrinking backoff": (
        workflow({**A, "retry": {"backoffCoefficient": 0.5}}), "tasks[0].retry.backoffCoefficient", "0.5 is less than",
    ),
    "a jitter that is text": (workflow({**A, "retry": {"jitter": "false"}}), "tasks[0].retry.jitter", TYPE),
    "a code that is a number": (
        workflow({**A, "retry": {"nonRetryable": [5]}}), "tasks[0].retry.nonRetryable[0]",
        TYPE,
    ),
    "a fault in the defaults": (workflow(defaults={"priority": "high"}), "defaults.priority", TYPE),
    "capability and agent": (
        workflow({**A, "agentCapability": "c", "agentId": "x"}), "tasks[0]", "agentCapability and agentId exclude",
    ),
    "an edge to nowhere": (
        workflow(A, {"taskId": "task_b", "dependsOn": ["a", "tusk_b"]}), "tasks[1].dependsOn[1]",
        "no task is called 'tusk_b'; did you mean 'task_b'?",
    ),
    "a next task that is nowhere": (
        workflow({**A, "nextTaskId": "zzz"}), "tasks[0].nextTaskId",
        "no task is called 'zzz'",
    ),
    "an edge that is a number": (workflow({**A, "dependsOn": [5]}), "tasks[0].dependsOn[0]", TYPE),
    "an edge named twice": (workflow(A, {**B, "dependsOn": ["a", "a"]}), "tasks[1].dependsOn", "'a' is named 2 times"),
    "a task behind itself": (workflow({**A, "nextTaskId": "a"}), "tasks", "the tasks form a cycle: a → a"),
    "a cycle": (
        workflow({**A, "nextTaskId": "b"}, {**B, "nextTaskId": "c"}, {"taskId": "c", "nextTaskId": "a"}), "tasks",
        "the tasks form a cycle: a → b → c → a",
    ),
    "edges that disagree": (
        workflow({**A, "nextTaskId": "b"}, {**B, "dependsOn": ["c"]}, {"taskId": "c"}), "tasks[0].nextTaskId",
        "'b' has a dependsOn that does not name 'a': the two disagree",
    ),
    "a task that nothing leads to": (
        workflow({**A, "nextTaskId": "c"}, B, {"taskId": "c"}), "tasks[1]", "'b' is never reached from the first task",
    ),
    "too many tasks": (workflow(*[A] * 1_001), "tasks", "tasks_max allows 1,000 tasks, found 1,001"),
    "a misspelt field": (
        workflow(nmae="n"), "", "unknown field 'nmae'; did you mean 'name'?",
    ),
    "a misspelt field of a task": (
        workflow({**A, "agentCapabilty": "c"}), "tasks[0]",
        "unknown field 'agentCapabilty'; did you mean 'agentCapability'?",
    ),
    "a misspelt field of a retry": (
        workflow({**A, "retry": {"maxRetry": 1}}), "tasks[0].retry",
        "unknown field 'maxRetry'; did you mean 'maxRetries'?",
    ),
    "a field like no other": (workflow(zzz=1), "", "unknown field 'zzz'"),
    "an expression": (
        workflow({**A, "parameters": {"x": [{"y": "${input.}"}]}}), "tasks[0].parameters.x[0].y",
        "expected",
    ),
    "a number JSON can't say": (
        workflow({**A, "timeoutSeconds": float("nan")}), "tasks[0].timeoutSeconds",
        "nan is not JSON",
    ),
    "a value JSON can't say": (workflow({**A, "parameters": {"x": {1}}}), "tasks[0].parameters.x", "set is not JSON"),
    "a name that is no string": (
        workflow({**A, "parameters": {5: 1}}), "tasks[0].parameters",
        "names that are strings",
    ),
    "half a surrogate pair": (workflow({**A, "parameters": {"x": "\ud800"}}), "tasks[0].parameters.x", "surrogate"),
    "half a surrogate pair in a name": (
        workflow({**A, "parameters": {"\ud800": 1}}), "tasks[0].parameters",
        "surrogate",
    ),
    "a number beyond writing": (
        workflow({**A, "parameters": {"x": 1 << 20_000}}), "tasks[0].parameters.x",
        "too large",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("document", "path", "message"), ONE_FAULT.values(), ids=ONE_FAULT.keys())
def test_each_fault_is_named_at_its_path(document: Any, path: str, message: str) -> None:
    found = faults(document)
    assert list(found) == [path]
    assert message in found[path]


def test_every_cycle_is_named() -> None:
    document = workflow(
        {**A, "nextTaskId": "b"}, {**B, "nextTaskId": "a"}, {"taskId": "c", "dependsOn": ["c"]}, {"taskId": "d"}
    )
    with pytest.raises(InvalidDocument) as caught:
        parse(document, LIMITS)
    assert [fault.message for fault in caught.value.faults] == [
        "the tasks form a cycle: a → b → a",
        "the tasks form a cycle: c → c",
    ]


def test_an_id_used_twice_is_named_at_each_place() -> None:
    assert faults(workflow(A, B, A)) == {
        "tasks[0].taskId": "'a' is used 2 times",
        "tasks[2].taskId": "'a' is used 2 times",
    }


def test_every_fault_is_reported_at_once() -> None:
    document = workflow(
        {"taskId": 5, "type": "tol"},
        {"taskId": "b", "dependsOn": ["nobody", 7], "retry": {"maxRetries": "3"}},
        {"taskId": "b", "parameters": {"x": "${y}"}},
        "no task",
        version=2,
        tsaks=[],
    )
    assert set(faults(document)) == {
        "", "version", "tasks[0].taskId", "tasks[0].type", "tasks[1].dependsOn[0]", "tasks[1].dependsOn[1]",
        "tasks[1].retry.maxRetries", "tasks[1].taskId", "tasks[2].parameters.x", "tasks[2].taskId", "tasks[3]",
    }  # fmt: skip


def test_each_field_that_should_not_be_there_is_a_fault_of_its_own_that_names_it() -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse(workflow({**A, "nmae": 1, "priorty": True}, zzz=1), LIMITS)
    assert [(fault.path, fault.field) for fault in caught.value.faults] == [
        ("", "zzz"), ("tasks[0]", "nmae"), ("tasks[0]", "priorty"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "faulty"),
    [
        (None, {"": "parameters.tool must be given: the name of the tool"}),
        ({"tool": "t", "args": {}}, {".args": "a task of type 'tool' takes tool and arguments"}),
        ({"tool": 1}, {".tool": "expected the name of the tool"}),
        ({"tool": "t", "arguments": [1]}, {".arguments": "expected an object, or one ${…} that gives one"}),
        ({"tool": "t", "arguments": {"x": "${input}"}}, {}),
        ({"tool": "${input.tool}", "arguments": "${input.arguments}"}, {}),
    ],
)
def test_a_task_of_type_tool_says_what_to_call(parameters: Any, faulty: dict[str, str]) -> None:
    document = workflow({**A, "type": "tool", "parameters": parameters, "idempotent": True})
    if not faulty:
        assert parse(document, LIMITS).tasks[0].idempotent
        return
    where = "tasks[0].parameters"
    assert faults(document) == {f"{where}{path}": message for path, message in faulty.items()}


@pytest.mark.parametrize("kind", ["agent", "signal", "workflow"])
def test_only_tools_are_idempotent_or_not(kind: str) -> None:
    document = workflow(
        {
            "taskId": "a",
            "type": kind,
            "idempotent": True,
            "parameters": {"workflowId": "x"} if kind == "workflow" else {},
        }
    )
    assert faults(document) == {"tasks[0].idempotent": f"it means nothing to a task of type {kind!r}"}


def test_text_for_people_may_hold_what_looks_like_an_expression() -> None:
    people = {"name": "costs ${5}", "description": "${x}", "labels": {"x": "${y}"}, "metadata": {"x": ["${y}"]}}
    assert isinstance(parse(workflow({**A, **people}), LIMITS), Definition)


def test_an_expression_where_none_can_stand_is_refused_too() -> None:
    assert list(faults(workflow({**A, "agentCapability": "${input.kind}"}))) == ["tasks[0].agentCapability"]


def test_the_limits_are_the_hosts_own() -> None:
    limits = Limits(tasks_max=1, nesting_max=5, id_bytes_max=3)
    assert faults(workflow(A, B), limits) == {"tasks": "tasks_max allows 1 tasks, found 2"}
    assert faults(workflow({"taskId": "abcd"}), limits) == {"tasks[0].taskId": "id_bytes_max allows 3 bytes, found 4"}
    assert faults(workflow({**A, "parameters": {"x": [[1]]}}), limits) == {
        "tasks[0].parameters.x[0][0]": "nesting_max allows 5 levels"
    }


def test_the_faults_of_a_document_always_come_in_the_same_order() -> None:
    document = workflow({"taskId": "b", "x": 1}, {"taskId": "b", "y": 1}, z=1)
    with pytest.raises(InvalidDocument) as refusal:
        parse(document, LIMITS)
    assert [fault.path for fault in refusal.value.faults] == [
        "",
        "tasks[0]",
        "tasks[0].taskId",
        "tasks[1]",
        "tasks[1].taskId",
    ]


def test_validating_changes_nothing_in_the_document() -> None:
    document = codec.decode_json(SAMPLE)
    parse(document, LIMITS)
    assert document == codec.decode_json(SAMPLE)


@pytest.mark.parametrize("workflow_id", ["f/1", "..", "a\tb"])
def test_a_workflows_id_can_stand_in_a_path(workflow_id: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        parse({"id": workflow_id, "tasks": []}, Limits())
    assert [fault.path for fault in refused.value.faults] == ["id"]
