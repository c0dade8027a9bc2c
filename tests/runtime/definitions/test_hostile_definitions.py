"""Documents made to hurt: deep, wide, cyclic, or full of names to compare. Each is judged at a bounded cost."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from opscore.runtime.definitions.definition import parse
from opscore.runtime.errors import FAULT_CHARACTERS_MAX, FAULTS_MAX, Fault, InvalidDocument
from opscore.runtime.limits import Limits

LIMITS = Limits()
STEPS_MAX = 2_000_000
"""Function calls that judging one document may take: some seconds on a slow machine, never minutes."""


class TooDear(BaseException):
    """The judgement took more steps than it may."""


def judged(document: Any) -> tuple[Fault, ...]:
    """The faults of a document, found within the steps allowed: time itself would measure the machine."""
    steps = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event == "call"
        if steps > STEPS_MAX:
            raise TooDear

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse(document, LIMITS)
    except InvalidDocument as refusal:
        return refusal.faults
    finally:
        sys.setprofile(before)
    return ()


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def workflow(*tasks: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "w", "tasks": list(tasks), **fields}


WRAPS = pytest.mark.parametrize("wrap", [lambda it: [it], lambda it: {"x": it}], ids=["lists", "objects"])


@WRAPS
@pytest.mark.parametrize("levels", [98, 400, 900, 100_000])
def test_a_document_that_nests_too_deeply_is_refused_naming_the_limit(wrap: Callable[[Any], Any], levels: int) -> None:
    for document in (
        workflow({"taskId": "a", "parameters": {"p": nested(levels, wrap)}}),
        workflow({"taskId": "a", "metadata": {"p": nested(levels, wrap)}}, {"taskId": nested(levels, wrap)}),
        nested(levels + 4, wrap),
    ):
        (fault,) = judged(document)
        assert fault.message == "nesting_max allows 100 levels"


@WRAPS
def test_a_document_that_nests_as_deeply_as_it_may_is_valid(wrap: Callable[[Any], Any]) -> None:
    assert judged(workflow({"taskId": "a", "parameters": {"p": nested(96, wrap)}})) == ()


def test_a_document_that_holds_itself_is_refused() -> None:
    parameters: dict[str, Any] = {}
    parameters["self"] = parameters
    (fault,) = judged(workflow({"taskId": "a", "parameters": parameters}))
    assert fault.message == "nesting_max allows 100 levels"


def test_a_document_that_unfolds_into_millions_of_values_is_refused() -> None:
    (fault,) = judged(workflow({"taskId": "a", "parameters": {"p": nested(30, lambda it: [it, it])}}))
    assert fault.message == "document_values_max allows 50,000 values"


def test_two_deep_tasks_that_are_alike_are_told_apart_without_being_compared() -> None:
    tasks = [{"taskId": "a", "parameters": {"p": nested(90, lambda it: [it])}} for _ in range(400)]
    assert {fault.message for fault in judged(workflow(*tasks))} == {"'a' is used 400 times"}


def test_a_cycle_of_a_thousand_tasks_is_found_and_named_in_part() -> None:
    tasks = [{"taskId": f"t{number}", "nextTaskId": f"t{(number + 1) % 1_000}"} for number in range(1_000)]
    (fault,) = judged(workflow(*tasks))
    assert fault.path == "tasks"
    assert fault.message.startswith("the tasks form a cycle: t0 → t1 → t2 → ")
    assert fault.message.endswith("… (1,000 tasks)")


def test_a_chain_of_a_thousand_tasks_is_valid_in_each_way_to_write_it() -> None:
    keys = [f"t{number}" for number in range(1_000)]
    assert judged(workflow(*({"taskId": key} for key in keys))) == ()
    forwards = [{"taskId": key, "nextTaskId": after} for key, after in zip(keys, [*keys[1:], None], strict=True)]
    assert judged(workflow(*forwards)) == ()
    backwards = [
        {"taskId": key, "dependsOn": before} for key, before in zip(keys, [[], *([k] for k in keys)], strict=False)
    ]
    assert judged(workflow(*reversed(backwards))) == ()


def test_as_many_edges_as_a_document_can_hold_are_judged() -> None:
    keys = [f"t{number}" for number in range(300)]
    tasks = [{"taskId": key, "dependsOn": keys[:number]} for number, key in enumerate(keys)]
    assert judged(workflow(*tasks)) == ()
    definition = parse(workflow(*tasks), LIMITS)
    assert len(definition.dependents["t0"]) == 299


def test_one_task_too_many_and_twenty_thousand_are_refused_alike() -> None:
    for count in (1_001, 20_000):
        (fault,) = judged(workflow(*[{"taskId": 5}] * count))
        assert fault == Fault(path="tasks", message=f"tasks_max allows 1,000 tasks, found {count:,}")


def test_of_a_document_full_of_faults_a_bounded_number_is_told() -> None:
    found = judged(workflow({"taskId": "a", "dependsOn": [*range(20_000), *map(str, range(20_000))]}))
    assert len(found) == FAULTS_MAX


def test_names_that_are_almost_right_by_the_hundred_cost_no_comparing_without_end() -> None:
    tasks = [{"taskId": f"task_number_{number}", "dependsOn": [f"tosk_nomber_{number}"]} for number in range(1_000)]
    found = judged(workflow(*tasks))
    assert len(found) == 1_000
    assert sum("did you mean" in fault.message for fault in found) == 20


def test_of_unknown_fields_by_the_thousand_a_bounded_number_is_told() -> None:
    found = judged(workflow(**{f"field_{number}": 1 for number in range(40_000)}))
    assert 0 < len(found) <= FAULTS_MAX
    assert all(len(fault.message) <= FAULT_CHARACTERS_MAX for fault in found)


@pytest.mark.parametrize(
    "document",
    [
        {"id": "x" * 1_000_000, "tasks": []},
        workflow(name="x" * 1_000_000),
        workflow({"taskId": "x" * 500_000, "nextTaskId": "y" * 500_000}),
        workflow({"taskId": "a", "parameters": "x" * 1_000_000}),
        workflow({"taskId": "a", "parameters": {"x" * 1_000_000: "${y}"}}),
        workflow({"taskId": "a", "x" * 1_000_000: 1}),
        workflow({"taskId": "a", "priority": [1] * 40_000}),
    ],
    ids=["id", "name", "edge", "parameters", "parameter's name", "field", "priority"],
)
def test_a_fault_never_quotes_more_than_a_little_of_what_it_found(document: Any) -> None:
    found = judged(document)
    assert found
    assert all(len(fault.path) + len(fault.message) <= 2 * FAULT_CHARACTERS_MAX for fault in found)


def test_a_huge_string_in_the_parameters_is_valid() -> None:
    assert judged(workflow({"taskId": "a", "parameters": {"x": "x" * 1_000_000}})) == ()
