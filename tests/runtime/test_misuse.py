# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What an embedding program gives by mistake is refused at the door, in a sentence that helps."""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from opscore.runtime.errors import DefinitionNotFound, InvalidDocument, LimitExceeded
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node, open_node
from tests.runtime.world import World, begin

EMPTY: dict[str, Any] = {"id": "empty", "tasks": []}


async def test_an_agent_has_an_id_and_names_of_what_it_can_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        for identity in ("", "  "):
            with pytest.raises(InvalidDocument, match="is empty or blank"):
                await node.register_agent(identity)
        with pytest.raises(LimitExceeded, match="id_bytes_max allows 128, found 129"):
            await node.register_agent("x" * 129)
        with pytest.raises(InvalidDocument, match="surrogate"):
            await node.register_agent("\ud800")
        with pytest.raises(TypeError, match="1 is not a string"):
            await node.register_agent("a", capabilities=[1])  # type: ignore[list-item]
        assert node.agents().items == ()


@pytest.mark.parametrize("timestamp", ["now", True, math.nan, math.inf])
async def test_a_report_has_a_time_that_is_a_number(tmp_path: Path, autojump_clock: MockClock, timestamp: Any) -> None:
    async with World(tmp_path).node() as node:
        await node.register_agent("a")
        with pytest.raises(InvalidDocument, match="timestamp: expected Unix seconds, found"):
            await node.report_state("a", "idle", timestamp=timestamp)
        assert await node.report_state("a", "idle", timestamp=1)


async def test_a_workflow_that_is_given_as_text_is_told_from_an_id(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(DefinitionNotFound, match="pass a document as a mapping and not as its text"):
            await node.trigger('{"id": "empty", "tasks": []}')
        with pytest.raises(DefinitionNotFound, match="'empty' does not exist; save it first"):
            await node.trigger("empty")


async def test_a_schedule_names_a_workflow_that_is_saved(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(InvalidDocument, match="workflowId: expected the id of a saved workflow; save the document"):
            await node.create_schedule(EMPTY, cron="* * * * *")  # type: ignore[arg-type]
        assert node.schedules().items == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"definition": None}, "expected the id of a saved workflow, or a document as a mapping, found None"),
        (
            {"definition": ["empty"]},
            r"expected the id of a saved workflow, or a document as a mapping, found \['empty'\]",
        ),
        ({"business_key": 5}, "expected a string as a business key, found 5"),
        ({"idempotency": "k"}, "expected an IdempotencyKey as idempotency, found 'k'"),
        ({"labels": ["a"]}, r"expected a mapping of strings as labels, found \['a'\]"),
    ],
)
async def test_an_argument_of_another_type_is_named(
    tmp_path: Path, autojump_clock: MockClock, given: dict[str, Any], said: str
) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(TypeError, match=said):
            await node.trigger(**{"definition": EMPTY, **given})
        assert node.sessions().items == ()


async def test_runs_are_found_by_texts(tmp_path: Path, autojump_clock: MockClock) -> None:
    wrong: Any = ["a"]
    async with World(tmp_path).node() as node:
        with pytest.raises(TypeError, match="expected a mapping of strings as labels, found"):
            node.sessions(labels=wrong)
        with pytest.raises(TypeError, match="expected a string as the value of a label, found"):
            node.sessions(labels={"a": wrong})
        by_number: Any = {1: "a"}
        with pytest.raises(TypeError, match="expected a string as the name of a label, found 1"):
            node.sessions(labels=by_number)
        with pytest.raises(TypeError, match="expected a string as a business key, found"):
            node.sessions(business_key=wrong)


async def test_a_run_is_waited_for_by_its_id(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        session: Any = await begin(node, EMPTY)
        for call in (node.wait(session), node.wait_briefly(session, 1)):
            with pytest.raises(TypeError, match="expected a string as an id, found Session"):
                await call


async def test_a_schedule_has_texts_and_times_of_unix(tmp_path: Path, autojump_clock: MockClock) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"at": datetime(2030, 1, 1, tzinfo=UTC)}, "at: expected Unix seconds, found datetime.datetime"),
        ({"at": True}, "at: expected Unix seconds, found True"),
        ({"at": -math.inf}, "at: expected a time before the year 10000, found -inf"),
        ({"cron": 5}, r"cron: expected a cron expression such as '0 6 \* \* \*', found 5"),
        (
            {"cron": "* * * * *", "time_zone": None},
            "timeZone: expected a time zone such as 'Europe/Berlin', found None",
        ),
    ]
    async with World(tmp_path).node() as node:
        await node.save_definition(EMPTY)
        await node.create_schedule("empty", cron="* * * * *", schedule_id="there")
        for schedule_id in ("new", "there"):
            for given, said in wrong:
                with pytest.raises(InvalidDocument, match=said):
                    await node.create_schedule("empty", schedule_id=schedule_id, **given)
        with pytest.raises(InvalidDocument, match="at: expected a time before the year 10000"):
            await node.create_schedule("empty", at=10**400)
        assert [each.schedule_id for each in node.schedules().items] == ["there"]


def circle() -> list[Any]:
    found: list[Any] = [1]
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (math.nan, ValueError, "^nan is not JSON$"),
        ({"rows": [1, {"n": -math.inf}]}, ValueError, r"^-inf is not JSON, at rows\[1\].n$"),
        ({"rows": (1, {2})}, TypeError, r"^set is not JSON, at rows\[1\]$"),
        ({"a": {(1, 2): 3}}, TypeError, r"^expected names that are strings, found \(1, 2\), at a$"),
        ({1: {"a": object()}}, TypeError, r"^object is not JSON, at 1\.a$"),
        (["\ud800"], ValueError, r"^this text holds half of a surrogate pair, at \[0\]$"),
        ([10**5_000], ValueError, r"^this number is too large, at \[0\]$"),
        (circle(), ValueError, "^it contains itself, or nests too deeply$"),
    ],
    ids=["nan", "inf", "set", "name", "object", "surrogate", "number", "circle"],
)
async def test_a_value_that_is_no_json_is_told_with_its_place(
    tmp_path: Path, autojump_clock: MockClock, value: Any, kind: type[Exception], said: str
) -> None:
    async with World(tmp_path).node() as node:
        calls: list[Callable[[Node], Awaitable[object]]] = [
            lambda node: node.trigger(EMPTY, payload=value),
            lambda node: node.create_schedule("empty", cron="* * * * *", payload=value),
            lambda node: node.complete("ses_1.0", 1, value),
        ]
        for call in calls:
            with pytest.raises(kind, match=said):
                await call(node)


@pytest.mark.parametrize("limits", [{"lease_s": 5}, {}, Limits, 5])
async def test_limits_that_are_none_are_refused_before_anything_is_opened(tmp_path: Path, limits: Any) -> None:
    with pytest.raises(TypeError, match=r"expected limits as in opscore.Limits\(lease_s=60.0\), found"):
        async with open_node(tmp_path / "data", limits=limits):
            raise AssertionError("it is open")
    assert not (tmp_path / "data").exists()
