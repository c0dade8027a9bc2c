# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What is taken, and what is put off, by a node that has as much to do as it may, or that drains."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed
from opscore.runtime.errors import NotReady, QueueFull
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_session
from opscore.runtime.runs.open_runs import OpenRuns
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.runs.triggering import IdempotencyKey
from tests.runtime.world import Strike, World, begin, ended, hire, one_task, quiet


async def test_what_a_key_started_is_answered_also_while_nothing_new_is_taken(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(sessions_open_max=1))
    key = IdempotencyKey(path="/", key="k", body={})
    async with world.node() as node:
        first = await begin(node, one_task(), idempotency=key)
        assert (await node.trigger(one_task(), idempotency=key)).session_id == first.session_id
        with pytest.raises(QueueFull):
            await node.trigger(one_task(), idempotency=IdempotencyKey(path="/", key="other", body={}))
        node.drain()
        assert (await node.trigger(one_task(), idempotency=key)).session_id == first.session_id
        with pytest.raises(NotReady):
            await node.trigger(one_task(), idempotency=IdempotencyKey(path="/", key="other", body={}))


async def test_no_more_runs_are_admitted_than_may_be_unfinished(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=Limits(sessions_open_max=2))
    async with world.node() as node:
        sessions = [await node.trigger(one_task()) for _ in range(2)]
        with pytest.raises(QueueFull):
            await node.trigger(one_task())
    async with world.node() as node:
        with pytest.raises(QueueFull):
            await node.trigger(one_task())
        await hire(node, "late")
        for session in sessions:
            await ended(node, session)
        await node.trigger(one_task())
        await quiet()
        assert node.statistics().open_sessions == 1


@pytest.mark.parametrize("begun", [True, False])
async def test_a_run_whose_actor_crashed_as_it_began_is_counted_if_it_has_begun(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    world = World(tmp_path, limits=Limits(sessions_open_max=1))
    strike = Strike(monkeypatch, SessionActor, to_session.Start, after=begun)
    discarded: list[str] = []
    discard = OpenRuns.discard

    def watched(runs: OpenRuns, session_id: str) -> None:
        discarded.append(session_id)
        discard(runs, session_id)

    monkeypatch.setattr(OpenRuns, "discard", watched)
    async with world.node() as node:
        strike.armed = True
        with pytest.raises(ActorFailed):
            await node.trigger(one_task())
        assert discarded == [], "it may have begun: its actor says so, or that it has not"
        await trio.sleep(10)
        assert node.statistics().open_sessions == int(begun)
