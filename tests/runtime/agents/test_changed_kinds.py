# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Agents that become something else while they have an attempt: it stays with whom it was handed to."""

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.agents.context import current_task
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import LEASES
from opscore.runtime.models import AgentSource, Assignment, Move, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.store import Submission
from tests.runtime.world import (
    World,
    begin,
    check_rows,
    ended,
    hire,
    join,
    lease_of,
    one_task,
    only_task,
    quiet,
)

LONG_S = 3_000.0
"""Longer than a lease, and shorter than a timeout."""


async def hire_for_long(node: Node, *, says: bool = False) -> list[str]:
    """Register a function as `a` that takes its time; returns what becomes of it."""
    came: list[str] = []

    async def work(_: Assignment) -> str:
        try:
            if says:
                await current_task().heartbeat()
            await trio.sleep(LONG_S)
        except trio.Cancelled:
            came.append("cancelled")
            raise
        came.append("done")
        return "done"

    await node.register_agent("a", capabilities=["work"], handler=work)
    return came


async def test_a_function_is_cancelled_with_its_run_also_once_its_id_is_registered_as_a_remote_agent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        came = await hire_for_long(node)
        session = await begin(node)
        await join(node, "a", state=None)
        await node.steer(session.session_id, Move.CANCEL)
        await quiet()
        assert came == ["cancelled"]
        assert lease_of(node, "a") is None


async def test_a_function_may_outlast_its_lease_also_once_its_id_is_registered_as_a_remote_agent(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        came = await hire_for_long(node)
        session = await begin(node, one_task(timeoutSeconds=2 * LONG_S))
        await join(node, "a", state=None)
        assert (await ended(node, session)).result == {"only": "done"}
        assert (came, only_task(node, session).attempt) == (["done"], 1)


async def test_what_a_remote_agent_was_sent_is_not_taken_for_a_function_of_that_id(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)

    async def hangs(_: Assignment) -> None:
        await trio.sleep_forever()

    world.messenger.answer = hangs  # type: ignore[assignment]
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        got = await hire(node, "a", result="anew")
        await trio.sleep(899)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        await trio.sleep(2)
        assert world.messenger.cancelled == 1, "nobody has heard of it for as long as its lease is"
        assert (await ended(node, session)).result == {"only": "anew"}
        assert [each.attempt for each in got] == [2]


@pytest.mark.parametrize("push", [False, True])
async def test_a_remote_attempt_outlives_a_restart_also_once_its_id_is_registered_as_a_function(
    tmp_path: Path, autojump_clock: MockClock, *, push: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=push)
        session = await begin(node, one_task(agentId="a"))
        if not push:
            assert await node.claim("a", wait_s=5) is not None
        task_id = only_task(node, session).task_id
        await node.heartbeat(task_id, 1)
        await hire(node, "a")
        assert node.agent("a").source is AgentSource.LOCAL
    async with world.node() as node:
        lease = lease_of(node, "a")
        assert lease is not None
        assert lease.expires_at >= world.clock.now() + lease.lease_s - 1
        await node.complete(task_id, 1, "done")
        assert (await ended(node, session)).result == {"only": "done"}


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("push", [False, True])
@pytest.mark.parametrize("says", [False, True])
async def test_the_attempt_of_a_function_ends_by_a_restart_also_once_its_id_is_registered_as_a_remote_agent(
    tmp_path: Path, autojump_clock: MockClock, *, says: bool, push: bool, killed: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await hire_for_long(node, says=says)
        session = await begin(node, one_task(agentCapability="work"))
        await join(node, "a", "other", push=push)
        assert lease_of(node, "a") is not None
        if killed:
            world.sever()
    async with world.node() as node:
        await quiet()
        task = only_task(node, session)
        assert (task.status, task.retries, task.bounces) == (TaskStatus.READY, 0, int(killed))
        assert lease_of(node, "a") is None


@pytest.mark.parametrize("local", [False, True])
async def test_who_has_an_attempt_of_an_earlier_release_is_told_by_what_its_agent_is(
    tmp_path: Path, autojump_clock: MockClock, *, local: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        if local:
            await hire_for_long(node, says=True)
        else:
            await join(node, "a")
        session = await begin(node)
        lease = lease_of(node, "a")
        assert lease is not None
        assert (lease.delivered, lease.function) == (True, local)
        world.sever()
    with open_store(tmp_path, map_bytes=world.map_bytes) as store:
        store.apply([Submission(writes=(LEASES.put(attrs.evolve(lease, function=None)),))])
    async with world.node() as node:
        await quiet()
        task = only_task(node, session)
        assert task.status is (TaskStatus.READY if local else TaskStatus.DISPATCHED)
        assert (lease_of(node, "a") is None) is local
