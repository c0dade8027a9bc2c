# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Whoever outlives a node: what waits for it, and what is asked of it once it has stopped."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import NotReady
from opscore.runtime.models import Move
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, ended, hire, join, one_task, quiet

STOPPED = "it has stopped"


async def followed(node: Node) -> None:
    async for _ in node.follow():
        pass


async def test_whoever_waits_when_the_node_stops_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def wait(name: str, call: Callable[[], Awaitable[Any]]) -> None:
        with pytest.raises(NotReady, match=STOPPED):
            await call()
        told.append(name)

    world = World(tmp_path)
    with trio.fail_after(100):
        async with trio.open_nursery() as outside, world.node() as node:
            await join(node, "a")
            session = await begin(node, one_task())
            waits: dict[str, Callable[[], Awaitable[Any]]] = {
                "wait": partial(node.wait, session.session_id),
                "wait_briefly": partial(node.wait_briefly, session.session_id, 10_000),
                "drain_agent": partial(node.drain_agent, "a", wait_s=10_000),
                "follow": partial(followed, node),
            }
            for name, call in waits.items():
                outside.start_soon(wait, name, call)
            await quiet()
            assert told == []
    assert set(told) == set(waits)
    # It was not the run that ended.
    async with world.node() as node:
        await node.steer(session.session_id, Move.CANCEL)
        await ended(node, session)


async def test_whoever_asks_a_node_that_has_stopped_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a")
        session = await begin(node, one_task())
        follower = node.follow()
        await anext(follower)
    asked: list[Callable[[], Awaitable[Any]]] = [
        partial(node.wait, session.session_id),
        partial(node.wait_briefly, session.session_id, 1),
        partial(node.trigger, one_task()),
        partial(node.claim, "a", wait_s=10),
        partial(node.drain_agent, "a", wait_s=10),
        partial(node.register_agent, "b"),
        partial(node.steer, session.session_id, Move.CANCEL),
        partial(anext, follower),
        partial(followed, node),
    ]
    for call in asked:
        with trio.fail_after(100), pytest.raises(NotReady, match=STOPPED):
            await call()
    with pytest.raises(NotReady, match=STOPPED):
        node.session(session.session_id)
    with pytest.raises(NotReady, match=STOPPED):
        node.abandon_claim("a", "clm_1")
    assert node.ready() == STOPPED
