# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a local function knows of its attempt while it works: whose it is, how much time is left, how far it is."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore import current_task
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.errors import LimitExceeded
from opscore.runtime.journal.tables import LEASES
from opscore.runtime.limits import Limits
from opscore.runtime.messages.to_agent import Heartbeat
from opscore.runtime.models import Assignment, Session, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.storage.lmdb_snapshot import LmdbSnapshot
from opscore.runtime.store import Stored
from opscore.runtime.timers import LISTENS_S
from tests.runtime.world import (
    Strike,
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

ONCE: dict[str, Any] = {"retry": {"maxRetries": 0}}


def progress_of(node: Node, session: Session) -> Any:
    """How far the run's single task is, by both views of it, which agree."""
    task_id = only_task(node, session).task_id
    found = node.session(session.session_id).progress
    assert set(found) <= {task_id}
    shown = node.task_view(task_id)
    assert shown.task == only_task(node, session)
    assert shown.progress == found.get(task_id)
    return shown.progress


async def test_a_function_has_its_attempt_at_hand_in_whatever_it_calls_and_starts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seen: list[Assignment] = []

    async def deep() -> None:
        await trio.lowlevel.checkpoint()
        seen.append(current_task().assignment)

    async def work(assignment: Assignment) -> None:
        await deep()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deep)
        seen.append(assignment)

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await ended(node, await node.trigger(one_task(parameters={"n": 1})))
        first, second, handed = seen
        assert first is second is handed
        assert (handed.session_id, handed.attempt, handed.parameters) == (session.session_id, 1, {"n": 1})


async def test_each_function_sees_its_own_attempt_also_where_one_waits_for_the_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seen: dict[str, list[str]] = {}

    async with World(tmp_path, look=check_rows).node() as node:

        async def work(assignment: Assignment) -> None:
            own = seen.setdefault(assignment.agent_id, [])
            own.append(current_task().assignment.agent_id)
            if assignment.agent_id == "a":
                await ended(node, await node.trigger(one_task("below", agentId="b")))
            await trio.sleep(1)
            own.append(current_task().assignment.agent_id)

        for agent_id in ("a", "b", "c"):
            await node.register_agent(agent_id, handler=work)
        sessions = [await node.trigger(one_task(agent_id, agentId=agent_id)) for agent_id in ("a", "c")]
        for session in sessions:
            await ended(node, session)
    assert seen == {agent_id: [agent_id, agent_id] for agent_id in ("a", "b", "c")}


async def test_outside_of_a_task_there_is_none(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(RuntimeError, match="no current task"):
        current_task()
    async with World(tmp_path).node() as node:
        await hire(node, "a")
        await ended(node, await node.trigger(one_task()))
        with pytest.raises(RuntimeError, match="no current task"):
            current_task()


async def test_the_first_heartbeat_of_a_function_starts_its_task_and_each_renews_the_lease(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    looks: list[tuple[TaskStatus, float]] = []

    async with world.node() as node:

        def look(agent_id: str) -> None:
            lease = lease_of(node, agent_id)
            assert lease is not None
            looks.append((node.task(lease.task_id).status, lease.expires_at - world.clock.now()))

        async def work(assignment: Assignment) -> None:
            await trio.sleep(5)
            look(assignment.agent_id)
            for _ in range(2):
                await current_task().heartbeat()
                look(assignment.agent_id)
                await trio.sleep(5)

        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await ended(node, await node.trigger(one_task(leaseSeconds=20)))
    assert looks == [(TaskStatus.DISPATCHED, 15), (TaskStatus.RUNNING, 20), (TaskStatus.RUNNING, 20)]
    assert world.records("a") == [
        "agent.registered",
        "agent.started",
        "agent.renewed",
        "agent.delivered",
    ], "a heartbeat is committed as any other agent's is"
    assert session.status is SessionStatus.COMPLETED


@pytest.mark.parametrize("lease_s", [7, 900], ids=["a short lease", "a long lease"])
async def test_a_function_that_falls_silent_fails_its_attempt_and_one_that_does_not_goes_on(
    tmp_path: Path, autojump_clock: MockClock, lease_s: int
) -> None:
    ends: list[str] = []

    async def work(assignment: Assignment) -> str:
        for _ in range(assignment.parameters["beats"]):
            await current_task().heartbeat()
            await trio.sleep(9)
        try:
            await trio.sleep(assignment.parameters["then"])
        except trio.Cancelled:
            ends.append("cancelled")
            raise
        return "done"

    times = {"heartbeatSeconds": 10, "leaseSeconds": lease_s, **ONCE}
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await node.trigger(one_task("lively", parameters={"beats": 10, "then": 0}, **times))
        assert (await ended(node, session)).result == {"only": "done"}
        began = trio.current_time()
        session = await node.trigger(one_task("silent", parameters={"beats": 2, "then": 500}, **times))
        failed = await ended(node, session)
        assert failed.error is not None
        assert failed.error.code == "heartbeat_timeout"
        assert trio.current_time() - began == pytest.approx(19 + LISTENS_S, abs=0.1), (
            "the lease of a function that runs is no life"
        )
        await quiet()
        assert ends == ["cancelled"]
        assert lease_of(node, "a") is None


async def test_a_function_that_never_sends_a_heartbeat_is_bound_by_its_timeout_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def work(assignment: Assignment) -> str:
        await trio.sleep(assignment.parameters["seconds"])
        return "done"

    times = {"heartbeatSeconds": 10, "leaseSeconds": 30, "timeoutSeconds": 100, **ONCE}
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await node.trigger(one_task("in_time", parameters={"seconds": 95}, **times))
        assert (await ended(node, session)).result == {"only": "done"}
        failed = await ended(node, await node.trigger(one_task("late", parameters={"seconds": 105}, **times)))
        assert failed.error is not None
        assert failed.error.code == "timeout"


async def test_progress_is_what_was_said_last_of_the_attempt_that_is_out(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def work(assignment: Assignment) -> None:
        said: list[Any] = ["before"]
        await trio.sleep(1)
        await current_task().progress(said)
        said.append("changed later")
        await trio.sleep(1)
        await current_task().heartbeat()
        await trio.sleep(1)
        await current_task().progress(0.5)
        await trio.sleep(1)
        raise ValueError("once more")

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        policy = {"maxRetries": 1, "initialDelaySeconds": 1, "jitter": False}
        session = await begin(node, one_task(retry=policy))
        await trio.sleep(0.5)
        for _ in range(2):
            shown = []
            for _ in range(5):
                shown.append(progress_of(node, session))
                await trio.sleep(1)
            assert shown == [None, ["before"], ["before"], 0.5, None], "and a new attempt starts without"
        assert (await ended(node, session)).status is SessionStatus.FAILED
        assert progress_of(node, session) is None


async def test_an_agent_that_is_no_function_says_how_far_it_is_with_its_heartbeats(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        task_id = only_task(node, session).task_id
        lease = await node.heartbeat(task_id, 1, progress={"done": 1})
        assert lease == lease_of(node, "a")
        assert progress_of(node, session) == {"done": 1}
        await node.heartbeat(task_id, 1)
        await node.report_state("a", "active")
        assert progress_of(node, session) == {"done": 1}
    async with world.node() as node:
        assert progress_of(node, session) == {"done": 1}, "it is durable"
        await node.complete(task_id, 1)
        assert progress_of(node, session) is None


@pytest.mark.parametrize(
    ("value", "refusal", "says"),
    [
        ("x" * 99, LimitExceeded, "progress_bytes_max allows 100, found 101"),
        ([[[[[[]]]]]], LimitExceeded, "nesting_max"),
        ({1, 2}, TypeError, "JSON"),
        (float("nan"), ValueError, "JSON"),
    ],
    ids=["size", "depth", "set", "nan"],
)
async def test_progress_that_can_not_be_kept_is_refused_and_the_function_may_go_on(
    tmp_path: Path, autojump_clock: MockClock, value: Any, refusal: type[Exception], says: str
) -> None:
    async def work(assignment: Assignment) -> str:
        await current_task().progress("x" * 98)
        with pytest.raises(refusal, match=says):
            await current_task().progress(value)
        await trio.sleep(2)
        return "done"

    async with World(tmp_path, look=check_rows, limits=Limits(progress_bytes_max=100, nesting_max=4)).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await begin(node, one_task(**ONCE))
        await trio.sleep(1)
        assert progress_of(node, session) == "x" * 98
        assert (await ended(node, session)).result == {"only": "done"}


@pytest.mark.parametrize(
    ("times", "left_s"),
    [({"timeoutSeconds": 30}, 30), ({"timeoutSeconds": 30, "scheduleToCloseSeconds": 25}, 15), ({}, 3_600)],
    ids=["its timeout", "what is left for the task", "the default"],
)
async def test_a_function_knows_how_much_time_is_left_to_it(
    tmp_path: Path, autojump_clock: MockClock, times: dict[str, Any], left_s: float
) -> None:
    seen: list[float] = []

    async def work(assignment: Assignment) -> None:
        assert assignment.timeout_s == pytest.approx(left_s)
        task = current_task()
        seen.append(task.time_left_s())
        await trio.sleep(10)
        seen.append(task.time_left_s())
        try:
            await trio.sleep_forever()
        finally:
            seen.append(task.time_left_s())

    async with World(tmp_path, look=check_rows).node() as node:
        session = await begin(node, one_task(**times, **ONCE))
        await trio.sleep(10)
        await node.register_agent("a", capabilities=["work"], handler=work)
        await ended(node, session)
        await quiet()
    assert seen == pytest.approx([left_s, left_s - 10, 0])


def fill(world: World, strike: Strike) -> None:
    world.fill(full=True)


def crash(world: World, strike: Strike) -> None:
    strike.armed = True


@pytest.mark.parametrize("befall", [fill, crash])
async def test_a_heartbeat_that_can_not_be_taken_at_once_waits_and_does_not_fail_its_function(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    befall: Callable[[World, Strike], None],
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, AgentActor, Heartbeat)

    async def work(assignment: Assignment) -> str:
        await trio.sleep(1)
        await current_task().progress("half")
        await trio.sleep(10)
        return "done"

    with caplog.at_level(logging.WARNING, "opscore.local"):
        async with world.node() as node:
            await node.register_agent("a", capabilities=["work"], handler=work)
            session = await begin(node, one_task(**ONCE))
            befall(world, strike)
            await trio.sleep(3.5)
            world.fill(full=False)
            await trio.sleep(3)
            assert progress_of(node, session) == "half"
            assert (await ended(node, session)).result == {"only": "done"}
    assert "is sent again" in caplog.text


async def test_a_session_reads_the_leases_of_those_tasks_alone_that_are_out(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(assignment: Assignment) -> None:
        await current_task().progress(assignment.parameters["index"])
        if assignment.parameters["index"] >= 50:
            await trio.sleep_forever()

    document = one_task(forEach="${input}", concurrency=2, parameters={"index": "${index}"})
    async with World(tmp_path).node() as node:
        for agent_id in ("a", "b"):
            await node.register_agent(agent_id, capabilities=["work"], handler=work)
        session = await begin(node, document, payload=list(range(500)))
        read: list[str] = []
        get = LmdbSnapshot.get

        def counting(view: LmdbSnapshot, table: str, key: bytes) -> Stored | None:
            if table == LEASES.name:
                read.append(key.decode())
            return get(view, table, key)

        monkeypatch.setattr(LmdbSnapshot, "get", counting)
        found = node.session(session.session_id)
        shown = {task.item: found.progress.get(task.task_id) for task in found.tasks if task.item is not None}
        assert shown == {**dict.fromkeys(range(50)), 50: 50, 51: 51}
        assert sorted(read) == ["a", "b"]
