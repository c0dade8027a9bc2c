# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""A disk that says nothing for minutes: who waits is told so, and what was committed all the same has its effects."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.actors.errors import ActorError, AskTimeout
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.delivery import Answered, Fact
from opscore.runtime.errors import CommitUnanswered, CommitUncertain, QueueFull
from opscore.runtime.journal.tables import AGENTS, LEASES
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages import to_agent, to_session
from opscore.runtime.models import Assignment, Move, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.store import Outcomes, Submission
from tests.runtime.runs.test_sub_runs import child_of, parent
from tests.runtime.world import (
    ACCEPTED,
    LoopWriter,
    Strike,
    World,
    begin,
    ended,
    hire,
    join,
    lease_of,
    one_task,
    only_task,
    quiet,
    writers_of,
)

STALL_S = 200.0
"""Longer than anybody waits for an answer."""


class StallingWriter(LoopWriter):
    """Stalls before the next batch, or the next that writes a table, and applies it then, once it is told to."""

    stalls_s = 0.0
    stalls_at: str | None = None
    uncertain_after = False
    breaks_after: str | None = None
    """Applies the next batch that writes this table, and fails in a way nobody foresaw."""

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        tables = {write.table for submission in batch for write in submission.writes}
        stalls_s = self.stalls_s if self.stalls_at is None or self.stalls_at in tables else 0.0
        if stalls_s:
            self.stalls_s = 0.0
            with trio.CancelScope(shield=True):
                await trio.sleep(stalls_s)
            if self.uncertain_after:
                raise CommitUncertain("the disk", "input/output error")
        outcomes = await super().apply(batch)
        if self.breaks_after in tables:
            self.breaks_after = None
            raise MemoryError
        return outcomes


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[StallingWriter]:
    return writers_of(StallingWriter, monkeypatch)


async def test_a_retry_that_was_committed_while_nobody_waited_any_more_still_comes(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    async with World(tmp_path).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"maxRetries": 1, "jitter": False}))
        writers[0].stalls_s = STALL_S
        with contextlib.suppress(ActorError, CommitUnanswered):
            await node.fail(only_task(node, session).task_id, 1, "it broke")
        await trio.sleep(STALL_S)
        await node.report_state("a", "idle")
        await trio.sleep(60)
        task = only_task(node, session)
        assert (task.attempt, task.status) == (2, TaskStatus.DISPATCHED)


@pytest.mark.parametrize("kind", ["push", "claim", "local"])
async def test_an_attempt_has_its_time_from_when_it_is_handed_over_however_long_the_disk_took(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter], kind: str
) -> None:
    async with World(tmp_path).node() as node, trio.open_nursery() as nursery:

        async def work(_: Assignment) -> str:
            await trio.sleep(50)
            return "done"

        async def claim() -> None:
            granted = await node.claim("a", wait_s=60) or await node.claim("a", wait_s=60)
            assert granted is not None
            await trio.sleep(50)
            await node.complete(granted.assignment.task_id, 1, "done")

        if kind == "local":
            await node.register_agent("a", capabilities=["work"], handler=work)
        else:
            await join(node, "a", push=kind == "push")
        if kind == "claim":
            nursery.start_soon(claim)
            await quiet()
        writers[0].stalls_at, writers[0].stalls_s = LEASES.name, 62.0
        with contextlib.suppress(AskTimeout):
            await node.trigger(one_task(leaseSeconds=55, timeoutSeconds=55, retry={"maxRetries": 0}))
        await trio.sleep(75 if kind == "local" else 33)
        (session,) = node.sessions().items
        if kind == "push":
            assert only_task(node, session).attempt == 1
            await trio.sleep(50)
            await node.complete(only_task(node, session).task_id, 1, "done")
        done = await ended(node, session)
        assert (done.status, done.result) == (SessionStatus.COMPLETED, {"only": "done"})
        assert only_task(node, done).attempt == 1


async def test_an_attempt_has_its_time_also_where_the_disk_takes_long_to_give_it_that(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    async with World(tmp_path).node() as node, trio.open_nursery() as nursery:

        async def stall_again() -> None:
            await trio.sleep(10)
            writers[0].stalls_s = 60.0

        await join(node, "a")
        writers[0].stalls_at, writers[0].stalls_s = LEASES.name, 20.0
        nursery.start_soon(stall_again)
        session = await node.trigger(one_task(leaseSeconds=15, timeoutSeconds=15, retry={"maxRetries": 0}))
        await trio.sleep(60 + 12)
        assert only_task(node, session).attempt == 1
        await node.complete(only_task(node, session).task_id, 1, "done")
        assert (await ended(node, session)).result == {"only": "done"}


async def test_an_attempt_has_its_time_also_where_its_run_takes_long_to_describe_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe: Any = SessionActor.routes[to_session.Describe]

    async def slowly(actor: Any, message: to_session.Describe) -> Any:
        await trio.sleep(20)
        return await describe(actor, message)

    monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.routes, to_session.Describe: slowly}))
    # What was granted is not heard, and its agent starts anew: it has to ask for what it hands over.
    strike = Strike(monkeypatch, AgentActor, to_agent.LeaseGranted)
    strike.armed = True
    left_s = list[float]()

    def note_left(_: object) -> Fact:
        lease = lease_of(node, "a")
        assert lease is not None
        left_s.append(lease.expires_at - node.now())
        return ACCEPTED

    world = World(tmp_path)
    world.messenger.answer = note_left
    async with world.node() as node:
        await join(node, "a")
        await begin(node, one_task(leaseSeconds=30))
        await trio.sleep(25)
        assert strike.struck
        assert left_s == [pytest.approx(30)]


async def test_what_began_once_its_commit_was_through_counts_from_then_also_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    limit = DispatchLimit(per_interval=1, interval_s=60.0)
    world = World(tmp_path, limits=Limits(capability_limits={"work": limit}))
    async with world.node() as node:
        for agent_id in "ab":
            await join(node, agent_id)
        writers[0].stalls_at, writers[0].stalls_s = LEASES.name, 100.0
        with contextlib.suppress(AskTimeout):
            await node.trigger(one_task("v"))
        await trio.sleep(80)
        assert len(world.messenger.delivered) == 1
    async with world.node() as node:
        session = await begin(node, one_task("w"))
        await trio.sleep(45)
        assert only_task(node, session).status is TaskStatus.READY
        await trio.sleep(20)
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_a_run_that_was_committed_while_nobody_waited_any_more_still_runs(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a", result="done")
        writers[0].stalls_s = STALL_S
        with pytest.raises(AskTimeout):
            await node.trigger(one_task())
        await trio.sleep(STALL_S)
        (session,) = node.sessions().items
        assert (await ended(node, session)).status is SessionStatus.COMPLETED


async def test_a_run_that_was_given_up_while_nobody_waited_any_more_is_called_off(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    async with World(tmp_path).node() as node:
        await node.save_definition(one_task("below"))
        retry = {"maxRetries": 1, "initialDelaySeconds": 0}
        session = await begin(node, parent(timeoutSeconds=30, retry=retry))
        child = child_of(node, session)
        writers[0].stalls_s = STALL_S
        await trio.sleep(30 + STALL_S + 10)
        assert child_of(node, session) != child, "it was tried again"
        assert node.session(child.session_id).session.status is SessionStatus.CANCELLED


async def test_a_function_whose_run_was_cancelled_while_nobody_waited_any_more_is_stopped(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    ends: list[str] = []

    async def work(_: Assignment) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ends.append("stopped")

    async with World(tmp_path).node() as node:
        await node.register_agent("local", capabilities=["work"], handler=work)
        session = await begin(node)
        writers[0].stalls_s = STALL_S
        with pytest.raises((AskTimeout, CommitUnanswered)):
            await node.steer(session.session_id, Move.CANCEL)
        await trio.sleep(STALL_S + 10)
        assert node.session(session.session_id).session.status is SessionStatus.CANCELLED
        assert ends == ["stopped"]
        assert lease_of(node, "local") is None


async def test_an_attempt_that_was_granted_while_nobody_waited_any_more_is_delivered(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await begin(node)
        writers[0].stalls_s, writers[0].stalls_at = STALL_S, LEASES.name
        await join(node, "a")
        await trio.sleep(STALL_S + 60)
        assert lease_of(node, "a") is not None
        assert [assignment.attempt for assignment in world.messenger.delivered] == [1]


async def test_an_attempt_whose_grant_was_committed_and_said_to_have_failed_is_delivered(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await begin(node)
        writers[0].breaks_after = LEASES.name
        await join(node, "a")
        await trio.sleep(5)
        assert [assignment.attempt for assignment in world.messenger.delivered] == [1]


async def test_an_agent_whose_report_was_committed_while_nobody_waited_any_more_is_given_work(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a", state=None)
        writers[0].stalls_s = STALL_S
        await _report_of(node, "a")
        await trio.sleep(STALL_S)
        await begin(node)
        assert [assignment.attempt for assignment in world.messenger.delivered] == [1]


@pytest.mark.parametrize("fails", ["stalls", "breaks"])
async def test_an_agent_whose_suspicion_was_committed_while_nobody_waited_any_more_is_tried_again(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter], fails: str
) -> None:
    world = World(tmp_path)

    def refuse(_: Assignment) -> Fact:
        world.messenger.answers(ACCEPTED)
        if fails == "stalls":
            writers[0].stalls_s = STALL_S
        else:
            writers[0].breaks_after = AGENTS.name
        return Answered(status=503, retry_after_s=2 * STALL_S)

    world.messenger.answer = refuse
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(2 * STALL_S - 1)
        assert node.agent("a").suspicions == 1
        assert only_task(node, session).attempt == 1
        await trio.sleep(2)
        assert only_task(node, session).attempt == 2


async def test_a_run_whose_start_is_in_doubt_counts_among_the_unfinished(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    async with World(tmp_path, limits=Limits(sessions_open_max=1)).node() as node:
        await node.save_definition(one_task())
        writers[0].stalls_s = STALL_S
        with pytest.raises(AskTimeout):
            await node.trigger("one")
        with pytest.raises(QueueFull):
            await node.trigger("one")
        await trio.sleep(STALL_S)
        assert len(node.sessions().items) == 1
        assert node.statistics().open_sessions == 1


async def test_a_node_that_stops_while_its_disk_stalls_ends_once_it_answers(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    with trio.fail_after(STALL_S + 600):
        async with World(tmp_path).node() as node, trio.open_nursery() as nursery:
            for name in ("a", "b"):
                await join(node, name, state=None)
            began = trio.current_time()
            writers[0].stalls_s = STALL_S
            # The second one stands in line behind the first, which is under way.
            for name in ("a", "b"):
                nursery.start_soon(_report_of, node, name)
                await quiet()
            nursery.cancel_scope.cancel()
    assert STALL_S <= trio.current_time() - began < STALL_S + 600


async def _report_of(node: Node, name: str) -> None:
    with contextlib.suppress(ActorError, CommitUnanswered):
        await node.report_state(name, "idle")


async def test_a_commit_in_doubt_is_what_a_host_learns_also_when_it_was_leaving(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    async def leave() -> None:
        with trio.CancelScope() as scope:
            async with World(tmp_path).node() as node, trio.open_nursery() as nursery:
                await join(node, "a", state=None)
                writers[0].stalls_s, writers[0].uncertain_after = 2.0, True
                nursery.start_soon(_report_of, node, "a")
                await quiet()
                scope.cancel()

    with pytest.raises(CommitUncertain):
        await leave()


async def test_the_time_of_a_run_comes_also_where_the_clock_was_set_back_while_the_disk_stalled(
    tmp_path: Path, autojump_clock: MockClock, writers: list[StallingWriter]
) -> None:
    tasks = [*one_task()["tasks"], {"taskId": "gate", "type": "signal"}]
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "sessionTimeoutSeconds": 100, "tasks": tasks})
        began_at = world.clock.now()
        await trio.sleep(90)
        writers[0].stalls_s = 25.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.signal, session.session_id, "gate")
            await trio.sleep(15)
            world.clock.shift(-80)
        assert world.clock.now() < began_at + 100
        session = await ended(node, session, within_s=100)
        assert session.error is not None
        assert session.error.code == "session_timeout"
        assert world.clock.now() - began_at == pytest.approx(100, abs=1)
