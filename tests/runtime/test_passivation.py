# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Memory follows the work under way: what waits is on disk, and comes back when it is spoken to."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_session
from opscore.runtime.models import SessionStatus
from opscore.runtime.runs.session import SessionActor
from tests.runtime.world import Strike, World, begin, ended, hire, join, one_task, only_task, quiet


async def test_runs_that_wait_for_an_agent_and_agents_that_wait_for_work_hold_no_actor(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        empty = node.statistics().actors
        for number in range(20):
            await join(node, f"idle-{number}", "another")
        sessions = [await begin(node, one_task(f"waiting-{number}")) for number in range(20)]
        assert node.statistics().actors == empty + 40
        await trio.sleep(120)
        assert (node.statistics().actors, node.statistics().open_sessions) == (empty, 20)
        await hire(node, "able", "work")
        assert {(await ended(node, session)).status for session in sessions} == {SessionStatus.COMPLETED}


async def test_actors_that_are_to_go_at_once_and_are_needed_do_not_look_without_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=Limits(passivate_s=0.0)).node() as node:
        await join(node, "a")
        await begin(node)
        actors = {actor.name: actor.handled for actor in node._core.addresses.system.snapshot()}  # noqa: SLF001 (its actors)
        await trio.sleep(10)
        for actor in node._core.addresses.system.snapshot():  # noqa: SLF001
            assert actor.handled - actors[actor.name] <= 25, actor.name


async def test_a_run_and_an_agent_with_an_attempt_open_keep_their_actors(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        empty = node.statistics().actors
        await join(node, "a", "work")
        session = await begin(node, one_task())
        await trio.sleep(120)
        assert node.statistics().actors == empty + 2
        await node.complete(only_task(node, session).task_id, 1, "done")
        assert (await ended(node, session)).result == {"only": "done"}
        await trio.sleep(120)
        assert node.statistics().actors == empty


async def test_a_passivated_agent_that_reports_another_state_is_given_no_work(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a", "work")
        await trio.sleep(120)
        await node.report_state("a", "active")
        session = await begin(node, one_task())
        await trio.sleep(1)
        assert only_task(node, session).attempt == 0
        await node.report_state("a", "idle")
        await trio.sleep(1)
        assert only_task(node, session).attempt == 1


async def test_among_many_runs_one_that_waits_leaves_its_memory_at_once_and_goes_on_when_its_turn_comes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=Limits(passivate_beyond=3)).node() as node:
        empty = node.statistics().actors
        sessions = [await node.trigger(one_task()) for _ in range(20)]
        await quiet()
        assert node.statistics().actors == empty + 3
        await hire(node, "a")
        for session in sessions:
            await ended(node, session)
        await quiet()
        assert node.statistics().actors == empty + 1


async def test_among_many_runs_one_whose_actor_always_crashes_is_paused_as_well(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World(tmp_path, limits=Limits(passivate_beyond=3)).node() as node:
        for number in range(5):
            await join(node, f"busy-{number}", "another")
            await begin(node, one_task(f"long-{number}", agentCapability="another"))
        poison = await node.trigger(one_task("poison"))
        strike = Strike(
            monkeypatch,
            SessionActor,
            to_session.Offer,
            times=1_000,
            at=lambda actor, _: actor._session_id == poison.session_id,  # noqa: SLF001 (whom it strikes)
        )
        strike.armed = True
        other = await node.trigger(one_task())
        await hire(node, "a")
        assert (await ended(node, other, within_s=600)).status is SessionStatus.COMPLETED
        assert node.session(poison.session_id).session.reason == "actor_crashed"
        assert len(strike.struck) < 20
