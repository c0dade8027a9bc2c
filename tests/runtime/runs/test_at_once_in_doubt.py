# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What was to begin at once in a commit of which nobody knows for a while whether it happened."""

import contextlib
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorError
from opscore.runtime.errors import OpscoreError
from opscore.runtime.journal.tables import TASKS
from opscore.runtime.models import TaskStatus
from tests.runtime.runs.test_at_once import chain
from tests.runtime.test_stalled_disk import StallingWriter
from tests.runtime.world import World, check_rows, ended, hire, join, lease_of, one_task, writers_of


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[StallingWriter]:
    return writers_of(StallingWriter, monkeypatch)


@pytest.mark.parametrize("last", ["offline", "active"])
async def test_what_an_agent_says_of_an_attempt_that_its_run_does_not_know_of_yet_counts(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter], last: str
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        writers[0].breaks_after = TASKS.name
        with contextlib.suppress(ActorError, OpscoreError):
            await node.complete(f"{session.session_id}.0", 1)
        assert node.session(session.session_id).tasks[1].is_out
        await trio.sleep(0.3)
        # Its row has changed: it reads again, and knows of its next attempt before the run does.
        await node.report_state("a", "idle")
        await node.report_state("a", last)
        await trio.sleep(20)
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY
        assert lease_of(node, "a") is None


@pytest.mark.parametrize("stall_s", [119.0, 120.5, 120.9, 121.5, 150.0])
async def test_an_attempt_that_was_given_along_while_the_disk_was_silent_is_handed_over_once_and_as_it_is(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter], stall_s: float
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        done = await hire(node, "a")
        await node.trigger(chain())
        writers[0].stalls_s = stall_s
        await trio.sleep(stall_s + 30)
        assert [(each.attempt, each.agent_id) for each in done] == [(1, "a"), (1, "a")]


@pytest.mark.parametrize("stall_s", [119.0, 120.5, 121.5, 150.0])
async def test_a_run_that_began_with_its_task_given_out_while_the_disk_was_silent_is_done_once(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter], stall_s: float
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        done = await hire(node, "a")
        writers[0].stalls_s = stall_s
        with contextlib.suppress(ActorError, OpscoreError):
            await node.trigger(one_task())
        await trio.sleep(stall_s + 30)
        assert [each.attempt for each in done] == [1]
        await ended(node, await node.trigger(one_task()))
