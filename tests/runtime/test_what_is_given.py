# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a host without a type checker gives: it is taken for what it says, or refused before anything is written."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from opscore.runtime.agents.directory import Listing
from opscore.runtime.errors import InvalidDocument, OpscoreError
from opscore.runtime.models import AgentSource, Missed, Move, SessionStatus
from opscore.runtime.node import Node
from tests.runtime.calendar_stage import EMPTY
from tests.runtime.world import World, begin, check_rows, ended, join, one_task

NO_TEXT: list[Any] = ["\ud800", b"bytes", 7, object(), ["a list"]]


async def register(node: Node, **given: Any) -> Any:
    return await node.register_agent("n", **{"capabilities": ["work"], **given})


async def schedule(node: Node, **given: Any) -> Any:
    return await node.create_schedule("w", cron="0 * * * *", schedule_id="n", **given)


async def test_a_text_that_names_a_choice_is_the_choice(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await node.save_definition(EMPTY)
        assert (await schedule(node, missed="all")).missed is Missed.ALL
        assert (await register(node, source="agentkit")).source is AgentSource.AGENTKIT
        session = await begin(node)
        steered = await node.steer(session.session_id, "cancel")  # type: ignore[arg-type]
        assert steered.status is SessionStatus.CANCELLED
    async with world.node() as node:
        assert (node.schedule("n").missed, node.agent("n").source) == (Missed.ALL, AgentSource.AGENTKIT)


@pytest.mark.parametrize("wrong", ["never", "ALL", "", None, 1, ["all"], {"a": 1}])
async def test_what_names_no_choice_is_refused_with_those_that_there_are(
    tmp_path: Path, autojump_clock: MockClock, wrong: Any
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.save_definition(EMPTY)
        session = await begin(node)
        with pytest.raises(InvalidDocument, match=r"missed: expected one of skip, once, all, found "):
            await schedule(node, missed=wrong)
        with pytest.raises(InvalidDocument, match=r"source: expected one of api, agentkit, local, found "):
            await register(node, source=wrong)
        with pytest.raises(
            InvalidDocument, match=r"move: expected one of cancel, pause, resume, retry, reset, terminate, found "
        ):
            await node.steer(session.session_id, wrong)
        assert (node.schedules().items, node.agents().items) == ((), ())
        assert node.session(session.session_id).session == session


async def test_a_directory_of_no_known_source_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    @attrs.frozen
    class Strange:
        source: Any

        async def listing(self) -> Listing:
            raise AssertionError("it is not asked")

    async with World(tmp_path).node() as node:
        with pytest.raises(InvalidDocument, match="source: expected one of"):
            await node.reconcile(Strange("elsewhere"))


async def test_an_id_that_is_no_text_is_refused_in_a_sentence(tmp_path: Path, autojump_clock: MockClock) -> None:
    wrong: Any = 5
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(agentCapability="nobody's"))
        reads: list[Callable[[Any], object]] = [node.agent, node.session, node.task, node.definition]
        for read in reads:
            with pytest.raises(TypeError, match="expected a string as an id, found 5"):
                read(wrong)
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(node.register_agent, wrong, contact_endpoint="http://127.0.0.1:9"),
            partial(node.report_state, wrong, "idle"),
            partial(node.claim, wrong),
            partial(node.complete, wrong, 1),
            partial(node.signal, wrong, "go"),
            partial(node.signal, session.session_id, wrong),
            partial(node.signal, session.session_id, "go", signal_id=wrong),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=r"expected a string.*, found 5"):
                await call()


@pytest.mark.parametrize("wrong", NO_TEXT)
async def test_what_is_no_text_is_refused_and_no_actor_sees_it(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(agentCapability="nobody's"))
        calls: list[Callable[[], Awaitable[Any]]] = [
            *(partial(register, node, **{name: wrong}) for name in ("name", "version", "contact_endpoint")),
            partial(register, node, capabilities=["work", wrong]),
            partial(node.report_state, "a", wrong),
            partial(node.steer, session.session_id, Move.PAUSE, reason=wrong),
        ]
        for call in calls:
            with pytest.raises((ValueError, TypeError)) as caught:
                await call()
            assert not isinstance(caught.value, OpscoreError)
        if not isinstance(wrong, int):
            with pytest.raises(InvalidDocument, match="timestamp"):
                await node.report_state("a", "idle", timestamp=wrong)
        assert [agent.agent_id for agent in node.agents().items] == ["a"]
        assert node.session(session.session_id).session.status is not SessionStatus.PAUSED
    assert "failed" not in caplog.text


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_result_that_a_call_gives_is_read_as_json_and_may_be_changed_by_who_gave_it(
    tmp_path: Path, autojump_clock: MockClock, *, restarts: bool
) -> None:
    gate = {"taskId": "gate", "type": "signal"}
    each = {"taskId": "each", "type": "delay", "forEach": "${tasks.find.result.rows}", "parameters": {"seconds": 0}}
    outputs = {"rows": "${tasks.find.result.rows}", "by": "${tasks.find.result.by['7']}"}
    tasks = [{"taskId": "find", "agentCapability": "work"}, gate, each]
    workflow = {"id": "w", "tasks": tasks, "outputs": outputs}
    result: dict[str, Any] = {"rows": ([1], 2), "by": {7: "seven"}}
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        session = await begin(node, workflow)
        granted = await node.claim("a", wait_s=1.0)
        assert granted is not None
        await node.complete(granted.assignment.task_id, granted.assignment.attempt, result)
        result["rows"][0].append("changed")
        if not restarts:
            await node.signal(session.session_id, "gate")
            session = await ended(node, session)
    async with world.node() as node:
        if restarts:
            await node.signal(session.session_id, "gate")
            session = await ended(node, session)
        assert (session.error, session.result) == (None, {"rows": [[1], 2], "by": "seven"})
