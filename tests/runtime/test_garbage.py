# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What is over is freed at once: nothing of it waits for the garbage collector, which a busy host lets run seldom."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.limits import Limits
from opscore.runtime.models import Assignment, Move
from tests.runtime.world import World, begin, ended, hire, one_task, quiet

RUNS = 50


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def test_a_run_that_has_ended_leaves_nothing_to_the_garbage_collector(
    tmp_path: Path, autojump_clock: MockClock, no_collector: None
) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a")
        await ended(node, await begin(node))
        gc.collect()
        for _ in range(RUNS):
            await ended(node, await begin(node))
        await quiet()
        assert gc.collect() < RUNS


async def test_an_actor_that_was_passivated_leaves_nothing_to_the_garbage_collector(
    tmp_path: Path, autojump_clock: MockClock, no_collector: None
) -> None:
    async with World(tmp_path, limits=Limits(passivate_s=1.0)).node() as node:
        for agent in range(RUNS):
            await hire(node, f"agent-{agent}", "something-else")
            await node.trigger(one_task())
        gc.collect()
        await trio.sleep(10)
        assert node.statistics().open_sessions == RUNS
        assert node._core.addresses.sessions_active == 0  # noqa: SLF001 (nothing else says who is in memory)
        assert gc.collect() < RUNS


async def test_a_call_that_waits_in_vain_or_is_given_up_leaves_nothing_to_the_garbage_collector(
    tmp_path: Path, autojump_clock: MockClock, no_collector: None
) -> None:
    async with World(tmp_path).node() as node:
        await node.register_agent("a", capabilities=["nothing"])
        session = await node.trigger(one_task())

        async def waits() -> None:
            await node.wait_briefly(session.session_id, 1.0)
            await node.claim("a", wait_s=1.0)
            with trio.move_on_after(1.0):
                await node.wait(session.session_id)
            with trio.move_on_after(1.0):
                await node.claim("a", wait_s=30.0)

        await waits()
        await trio.sleep(60)
        gc.collect()
        for _ in range(RUNS):
            await waits()
        await trio.sleep(60)
        assert gc.collect() < RUNS


async def test_a_function_that_is_cancelled_leaves_nothing_to_the_garbage_collector(
    tmp_path: Path, autojump_clock: MockClock, no_collector: None
) -> None:
    async def work(_: Assignment) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    async with World(tmp_path).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)

        async def cancelled() -> None:
            session = await begin(node)
            await trio.sleep(1)
            await node.steer(session.session_id, Move.CANCEL)
            await trio.sleep(1)

        await cancelled()
        gc.collect()
        for _ in range(RUNS):
            await cancelled()
        await trio.sleep(60)
        assert gc.collect() < RUNS
