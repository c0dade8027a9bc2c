# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What an embedding program gives by mistake is refused at the door, in a sentence that helps."""

import math
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from opscore.runtime.errors import DefinitionNotFound, InvalidDocument, LimitExceeded
from tests.runtime.world import World

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
        with pytest.raises(TypeError, match="1 is no text"):
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
        with pytest.raises(DefinitionNotFound, match="a document is given as a mapping, not as its text"):
            await node.trigger('{"id": "empty", "tasks": []}')
        with pytest.raises(DefinitionNotFound, match="'empty' does not exist; save it first"):
            await node.trigger("empty")


async def test_a_schedule_names_a_workflow_that_is_saved(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(InvalidDocument, match="workflowId: expected the id of a saved workflow; save the document"):
            await node.create_schedule(EMPTY, cron="* * * * *")  # type: ignore[arg-type]
        assert node.schedules().items == ()
