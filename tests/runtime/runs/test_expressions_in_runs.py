# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Runs whose definition holds expressions: conditions, parameters, lists that are gone through, results, inputs."""

import functools
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import InvalidDocument
from opscore.runtime.models import Assignment, Move, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, check_rows, ended, hire, join

NEVER = {"retry": {"maxRetries": 0}}


def workflow(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "w",
        "tasks": [task if "type" in task else {"agentCapability": "work", **task} for task in tasks],
        **fields,
    }


def deep(levels: int, inmost: Any = 1) -> Any:
    """A value within as many lists."""
    return functools.reduce(lambda value, _: [value], range(levels), inmost)


async def echo(node: Node, agent_id: str = "a", *, seconds: float = 1.0) -> list[Assignment]:
    """Have an agent answer its parameters; returns what it gets."""
    got: list[Assignment] = []

    async def answer(task: Assignment) -> Any:
        got.append(task)
        await trio.sleep(seconds)
        if task.parameters.get("fails"):
            raise RuntimeError("told to fail")
        return task.parameters

    await node.register_agent(agent_id, capabilities=["work"], handler=answer)
    return got


async def statuses(node: Node, document: dict[str, Any], payload: Any = None) -> dict[str, str]:
    session = await ended(node, await begin(node, document, payload=payload))
    return {task.key: task.status.value for task in node.session(session.session_id).tasks}


async def test_a_condition_that_is_false_skips_its_task_and_what_depends_on_nothing_else(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    document = workflow(
        {"taskId": "look", "parameters": {"score": "${input.score}"}},
        {"taskId": "pass", "dependsOn": ["look"], "when": "tasks.look.result.score >= 5"},
        {"taskId": "fail", "dependsOn": ["look"], "when": "${tasks.look.result.score < 5}"},
        {"taskId": "after_fail", "dependsOn": ["fail"]},
        {"taskId": "join", "dependsOn": ["pass", "after_fail"]},
    )
    async with World(tmp_path, look=check_rows).node() as node:
        await echo(node)
        assert await statuses(node, document, {"score": 7}) == {
            "look": "completed", "pass": "completed", "fail": "skipped", "after_fail": "skipped", "join": "completed",
        }  # fmt: skip


async def test_parameters_hold_what_came_before_with_its_type(tmp_path: Path, autojump_clock: MockClock) -> None:
    document = workflow(
        {"taskId": "a", "parameters": {"list": "${input.list}"}},
        {"taskId": "b", "parameters": {"first": "${tasks.a.result.list[0]}", "text": "got ${tasks.a.result.list}!"}},
        outputs={"answer": "${tasks.b.result.first + 1}", "by": "${session.workflowId}"},
    )
    async with World(tmp_path, look=check_rows).node() as node:
        got = await echo(node)
        session = await ended(node, await begin(node, document, payload={"list": [1, "x"]}))
        assert [task.parameters for task in got] == [{"list": [1, "x"]}, {"first": 1, "text": 'got [1,"x"]!'}]
        assert session.result == {"answer": 2, "by": "w"}


async def test_an_attempt_that_is_delivered_again_has_the_same_parameters(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        session = await begin(node, workflow({"taskId": "a", "parameters": {"x": "${input.x}"}}), payload={"x": 5})
        first = await node.claim("a", wait_s=1, claim_id="c")
    async with world.node() as node:
        again = await node.claim("a", wait_s=1, claim_id="c")
        assert first is not None
        assert again is not None
        assert first.assignment == again.assignment
        assert again.assignment.parameters == {"x": 5}
        assert again.assignment.session_id == session.session_id


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (workflow({"taskId": "a", "when": "input.nothing"}), "expression_failed"),
        (workflow({"taskId": "a", "parameters": {"x": "${1 / input.zero}"}}), "expression_failed"),
        (workflow({"taskId": "a", "forEach": "${input.zero}"}), "expression_failed"),
        (workflow({"taskId": "a", "type": "delay", "parameters": {"seconds": "${input.text}"}}), "expression_failed"),
        (workflow({"taskId": "a"}, outputs="${tasks.a.result.nothing}"), "expression_failed"),
        (workflow({"taskId": "a"}, outputs={"a": "${tasks.a.result}", "note": "x" * 262_144}), "result_too_large"),
        (
            workflow({"taskId": "a", "parameters": {"x": deep(60)}}, outputs=deep(60, "${tasks.a.result}")),
            "result_too_large",
        ),
    ],
)
async def test_an_expression_without_a_value_fails_its_task_or_run_and_says_why(
    tmp_path: Path, autojump_clock: MockClock, document: dict[str, Any], code: str
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await echo(node)
        session = await ended(node, await begin(node, document, payload={"zero": 0, "text": "x"}))
        assert session.error is not None
        assert (session.status, session.error.code) == (SessionStatus.FAILED, code)


async def test_what_an_expression_lacks_can_be_fallen_back_from(tmp_path: Path, autojump_clock: MockClock) -> None:
    document = workflow(
        {"taskId": "a", "parameters": {"x": "${input.x}"}, "fallbackTaskId": "f"},
        {"taskId": "f", "parameters": {"why": "${error.code}"}},
    )
    async with World(tmp_path, look=check_rows).node() as node:
        await echo(node)
        session = await ended(node, await begin(node, document, payload={}))
        assert session.result == {"a": {"why": "expression_failed"}}


async def test_what_undoes_a_run_that_is_cancelled_may_read_the_error_that_there_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    document = workflow(
        {"taskId": "pay", "compensateTaskId": "refund"},
        {"taskId": "refund", "parameters": {"why": "${error.code}", "said": "${error.message}"}},
        {"taskId": "wait", "type": "signal", "dependsOn": ["pay"]},
    )
    async with World(tmp_path, look=check_rows).node() as node:
        got = await echo(node)
        session = await begin(node, document)
        await trio.sleep(5)
        await node.steer(session.session_id, Move.CANCEL)
        await ended(node, session)
        assert [task.parameters for task in got] == [{}, {"why": None, "said": None}]


# --- lists --------------------------------------------------------------------------------------------------


def each(values: Any, **fields: Any) -> dict[str, Any]:
    return workflow(
        {"taskId": "each", "forEach": values, "parameters": {"item": "${item}", "place": "${index}"}, **fields}
    )


async def test_a_list_is_gone_through_in_bounds_and_its_results_have_its_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    at_once: list[int] = []
    working = 0

    async def work(task: Assignment) -> Any:
        nonlocal working
        working += 1
        at_once.append(working)
        # What comes first takes longest, so that they end in the reverse of their order.
        await trio.sleep(10 - task.parameters["place"])
        working -= 1
        return task.parameters["item"] * 2

    async with world.node() as node:
        for number in range(5):
            await node.register_agent(f"a{number}", capabilities=["work"], handler=work)
        session = await ended(node, await begin(node, each("${input}", concurrency=3), payload=[1, 2, 3, 4, 5, 6]))
        assert session.result == {"each": [2, 4, 6, 8, 10, 12]}
        assert max(at_once) == 3
        items = [task for task in node.session(session.session_id).tasks if task.item is not None]
        assert [item.task_id for item in items] == [f"{session.session_id}.0.{place}" for place in range(6)]


async def test_an_empty_list_is_gone_through_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        assert (await ended(node, await begin(node, each([])), within_s=1)).result == {"each": []}


async def test_what_is_no_list_is_called_by_its_json_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        for payload, found in (("a, b", "a string"), ({"a": 1}, "an object"), (None, "null"), (True, "true or false")):
            session = await ended(node, await begin(node, each("${input}"), payload=payload))
            assert session.error is not None
            assert session.error.message == f"task 'each' failed: forEach: expected a list, found {found}"


async def test_an_item_that_fails_for_good_fails_the_task_once_what_is_out_has_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    document = workflow(
        {"taskId": "each", "forEach": [0, 1, 2, 3], "parameters": {"fails": "${item == 1}"}, "concurrency": 2, **NEVER}
    )
    async with World(tmp_path, look=check_rows).node() as node:
        for number in range(2):
            await echo(node, f"a{number}", seconds=5.0 + number)
        session = await ended(node, await begin(node, document))
        assert session.error is not None
        assert session.error.message == "task 'each' failed: item 1 failed: RuntimeError: told to fail"
        items = [task.status.value for task in node.session(session.session_id).tasks if task.item is not None]
        assert items in (
            ["completed", "failed"],
            ["completed", "failed", "completed"],
            ["completed", "failed", "cancelled"],
        )
        again = await node.steer(session.session_id, Move.RETRY)
        assert again.status is SessionStatus.RUNNING
        assert (await ended(node, session)).status is SessionStatus.FAILED


async def test_items_that_may_fail_leave_their_place_empty(tmp_path: Path, autojump_clock: MockClock) -> None:
    document = workflow(
        {
            "taskId": "each", "forEach": [0, 1, 2], "parameters": {"fails": "${item == 1}"}, "continueOnFailure": True,
            **NEVER,
        }
    )  # fmt: skip
    async with World(tmp_path, look=check_rows).node() as node:
        await echo(node)
        session = await ended(node, await begin(node, document))
        assert session.result == {"each": [{"fails": False}, None, {"fails": False}]}


async def test_a_restart_in_the_middle_of_a_list_repeats_nothing_that_was_done(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await echo(node, seconds=10)
        session = await begin(node, each(list("abcd"), concurrency=1))
        await trio.sleep(22)
    async with world.node() as node:
        more = await echo(node, seconds=10)
        done = await ended(node, session)
        assert [answer["item"] for answer in done.result["each"]] == list("abcd")
    assert [task.parameters["item"] for task in (*got, *more)] == list("abccd"), "the third died with its process"


async def test_cancelling_calls_the_items_of_a_list_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await echo(node, seconds=1_000)
        session = await begin(node, each([1, 2, 3]))
        cancelled = await node.steer(session.session_id, Move.CANCEL)
        assert cancelled.status is SessionStatus.CANCELLED
        assert {task.status for task in node.session(session.session_id).tasks} == {TaskStatus.CANCELLED}


async def test_a_list_of_runs_and_one_of_delays(tmp_path: Path, autojump_clock: MockClock) -> None:
    document = workflow(
        {"taskId": "rest", "type": "delay", "forEach": [5, 1], "parameters": {"seconds": "${item}"}},
        {
            "taskId": "runs", "type": "workflow", "forEach": ["x", "y"],
            "parameters": {"workflowId": "below", "input": {"from": "${item}"}},
        },
    )  # fmt: skip
    below = {"id": "below", "tasks": [], "outputs": "${input.from}"}
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(below)
        session = await ended(node, await begin(node, document), within_s=6)
        assert session.result == {"runs": ["x", "y"]}


async def test_a_long_list_costs_each_of_its_items_the_same(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def cost(node: Node, count: int) -> float:
        began = time.process_time()
        await ended(node, await begin(node, each(list(range(count)), concurrency=2)))
        return (time.process_time() - began) / count

    async with World(tmp_path).node() as node:
        await hire(node, "a")
        await hire(node, "b")
        await cost(node, 50)
        short, long = await cost(node, 200), await cost(node, 2_000)
        assert long < 3 * short


# --- input --------------------------------------------------------------------------------------------------


async def test_an_input_that_its_schema_does_not_allow_starts_nothing_and_every_fault_is_told(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    schema = {
        "type": "object",
        "required": ["order"],
        "properties": {
            "order": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
            "lines": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/line"}},
        },
        "$defs": {"line": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}}},
    }
    document = {"id": "w", "tasks": [], "inputSchema": schema}
    async with World(tmp_path, look=check_rows).node() as node:
        good = {"order": "AB-12", "lines": [{"count": 1}]}
        assert (await begin(node, document, payload=good)).status is SessionStatus.COMPLETED
        with pytest.raises(InvalidDocument) as refused:
            await node.trigger(document, payload={"order": "x", "lines": [{"count": 0}, {"count": 0}]})
        assert sorted(fault.path for fault in refused.value.faults) == [
            "lines", "lines[0].count", "lines[1].count", "order",
        ]  # fmt: skip
        with pytest.raises(InvalidDocument, match="'order' is a required property"):
            await node.trigger(document, payload={})
        assert len(node.sessions().items) == 1
