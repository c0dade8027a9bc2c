# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""A node that stood still, or whose clock was moved: nobody loses an attempt for a time in which nobody was heard."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.actors.errors import ActorFailed
from opscore.runtime.agents import leases
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.agents.agent_rows import AgentRows
from opscore.runtime.delivery import Answered
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.errors import CommitUnanswered
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent, to_dispatcher
from opscore.runtime.models import TaskStatus
from tests.runtime.calendar_stage import HOUR_S, jump
from tests.runtime.world import ACCEPTED, Strike, World, begin, check_rows, ended, join, one_task, only_task, quiet

STILL = one_task(leaseSeconds=60, timeoutSeconds=200, heartbeatSeconds=30)


async def test_an_agent_that_shows_life_keeps_its_attempt_whatever_the_clock_shows(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, STILL)
        task = only_task(node, session)
        for hours in (2.0, 0.0, -2.0, 0.0, 24.0):
            jump(world, hours * HOUR_S)
            for _ in range(3):
                await trio.sleep(12)
                await node.heartbeat(task.task_id, 1)
        await trio.sleep(25)
        failed = only_task(node, session)
        assert failed.retries == 1
        assert failed.error is not None
        assert failed.error.code == "timeout", "200 s have passed, and not a second less"
    told = [record for record in caplog.records if "stood still" in record.message]
    assert [record.levelno for record in told] == [logging.WARNING] * 3


async def test_what_an_agent_said_while_the_node_stood_still_is_heard(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        await join(node, "b")
        sessions = [await begin(node, STILL), await begin(node, STILL)]
        tasks = [only_task(node, session) for session in sessions]
        for task in tasks:
            await node.heartbeat(task.task_id, 1)
        await trio.sleep(25)
        autojump_clock.jump(500)
        await trio.sleep(1)
        await node.complete(tasks[0].task_id, 1, "done meanwhile")
        assert (await ended(node, sessions[0])).result == {"only": "done meanwhile"}
        assert only_task(node, sessions[1]).is_out
        await trio.sleep(31)
        silent = only_task(node, sessions[1])
        assert (silent.retries, silent.error and silent.error.code) == (1, "heartbeat_timeout")


@pytest.mark.parametrize("beyond_s", [-0.01, 0.01, 3.0])
async def test_what_an_agent_said_is_heard_where_the_node_stands_still_until_its_time_is_over(
    tmp_path: Path, autojump_clock: MockClock, beyond_s: float
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=25))
        await trio.sleep(5)
        lease = node.lease("a")
        assert lease is not None
        autojump_clock.jump(lease.expires_at - world.clock.now() + beyond_s)
        # As long as it takes until what came meanwhile is read.
        await trio.sleep(0.05)
        await node.report_state("a", "active")
        await trio.sleep(20)
        assert only_task(node, session).status is TaskStatus.RUNNING
        await trio.sleep(6)
        assert only_task(node, session).bounces == 1


def test_an_attempt_that_was_given_out_as_the_node_stood_still_is_listened_for() -> None:
    lease = Lease(
        agent_id="a",
        session_id="s",
        task_id="s.0",
        attempt=1,
        granted_at=95.0,
        expires_at=155.0,
        timeout_at=105.0,
        lease_s=60.0,
    )
    later = leases.put_off(lease, 100.0, 200.0, left_s=None, within_s=110.0)
    assert (later.expires_at, later.timeout_at) == (260.0, 200.0 + leases.SPEAK_S)


async def test_who_renewed_its_lease_as_it_was_due_is_heard_though_the_node_stands_still_before_it_is_looked_at(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=25))
        was_due_at = world.clock.now()
        await trio.sleep(20)
        await node.heartbeat(only_task(node, session).task_id, 1)
        # What the timers said as the lease was due has not been read yet when everything stands still.
        autojump_clock.jump(500)
        node._core.addresses.agent("a").tell(to_agent.LeaseDue(at=was_due_at))  # noqa: SLF001 (as the timers do)
        await trio.sleep(leases.SPEAK_S - 1)
        await node.report_state("a", "active")
        await trio.sleep(20)
        assert only_task(node, session).status is TaskStatus.RUNNING
        await trio.sleep(6)
        assert only_task(node, session).bounces == 1


async def test_a_clock_that_is_set_back_lets_no_dead_agent_keep_its_attempt(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=60))
        await trio.sleep(10)
        jump(world, -HOUR_S)
        # It is noticed within half a minute, and then the agent has its full time once more.
        await trio.sleep(31)
        assert only_task(node, session).bounces == 0
        await trio.sleep(62)
        assert only_task(node, session).bounces == 1


async def test_what_an_agent_reports_counts_again_once_the_clock_of_both_was_set_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", state=None)
        await node.report_state("a", "active", timestamp=world.clock.now())
        jump(world, -HOUR_S)
        await trio.sleep(1)
        await node.report_state("a", "idle", timestamp=world.clock.now())
        assert node.agent("a").state == "idle"
        await node.report_state("a", "active", timestamp=world.clock.now() - 5)
        assert node.agent("a").state == "idle", "from then on the order counts as before"


async def test_who_is_suspected_as_the_clock_is_set_back_is_tried_again_when_it_would_have_been(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=503, retry_after_s=120), ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(20)
        jump(world, -HOUR_S)
        await trio.sleep(97)
        assert only_task(node, session).attempt == 1
        await trio.sleep(35)
        assert only_task(node, session).attempt == 2


async def test_a_suspicion_that_is_over_does_not_come_again_with_a_clock_that_is_set_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=503, retry_after_s=20), ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        await begin(node)
        await trio.sleep(25)
        (task_id, attempt), suspicions = (world.messenger.delivered[-1].task_id, 2), node.agent("a").suspicions
        await node.complete(task_id, attempt)
        await trio.sleep(25)
        jump(world, -HOUR_S)
        await trio.sleep(31)
        assert node.agent("a").suspected_until <= world.clock.now()
        assert node.agent("a").suspicions == suspicions
    async with world.node() as node:
        session = await begin(node, one_task("w"))
        await trio.sleep(1)
        assert only_task(node, session).attempt == 1


async def test_a_suspicion_that_begins_after_the_clock_was_set_back_keeps_its_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        # What is waited for keeps the timers asleep, so that they notice nothing yet.
        await join(node, "b", "other")
        await begin(node, one_task("v", agentCapability="other", leaseSeconds=27))
        world.messenger.answers(Answered(status=503, retry_after_s=60), ACCEPTED)
        await join(node, "a")
        await trio.sleep(3)
        jump(world, -20)
        await trio.sleep(1)
        session = await begin(node, one_task("w", leaseSeconds=100))
        await trio.sleep(58)
        assert only_task(node, session).attempt == 1
        await trio.sleep(3)
        assert only_task(node, session).attempt == 2


@pytest.mark.parametrize("crashes", [False, True])
async def test_an_attempt_given_out_after_the_clock_was_set_back_keeps_its_time(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, AgentActor, to_agent.Heartbeat, after=True)
    strike.armed = False
    async with world.node() as node:
        await join(node, "b", "other")
        await begin(node, one_task("v", agentCapability="other", leaseSeconds=25))
        await join(node, "a")
        await trio.sleep(3)
        jump(world, -20)
        await trio.sleep(1)
        session = await begin(node, one_task("w", leaseSeconds=200, timeoutSeconds=60))
        strike.armed = crashes
        with pytest.raises(ActorFailed) if crashes else contextlib.nullcontext():
            await node.heartbeat(only_task(node, session).task_id, 1)
        await trio.sleep(58)
        assert only_task(node, session).is_out
        await trio.sleep(3)
        assert only_task(node, session).retries == 1


async def test_an_attempt_given_out_shortly_before_the_node_stood_still_keeps_its_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "b", "other")
        await begin(node, one_task("v", agentCapability="other", leaseSeconds=25))
        await trio.sleep(3)
        await join(node, "a")
        session = await begin(node, one_task("w", leaseSeconds=200, timeoutSeconds=300))
        await trio.sleep(1)
        autojump_clock.jump(500)
        await trio.sleep(100)
        await node.heartbeat(only_task(node, session).task_id, 1)
        # The timers had meant to sleep for 21 s more: so much of the 500 may have been nothing but that.
        await trio.sleep(177)
        assert only_task(node, session).retries == 0
        await trio.sleep(4)
        assert only_task(node, session).retries == 1


async def test_the_time_of_an_attempt_is_moved_once_though_nobody_knows_whether_that_is_committed(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, unanswered = AgentRows.commit, list[str]()

    async def doubtful(self: AgentRows, record_kind: str, **changes: Any) -> None:
        saved = self._agent, self._lease, self.as_of, self.attempt_left
        await commit(self, record_kind, **changes)
        if record_kind == "agent.given_time" and not unanswered:
            unanswered.append(record_kind)
            self._agent, self._lease, self.as_of, self.attempt_left = saved
            raise CommitUnanswered("the disk does not answer")

    monkeypatch.setattr(AgentRows, "commit", doubtful)
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task("w", timeoutSeconds=4_000))
        await trio.sleep(40)
        await node.heartbeat(only_task(node, session).task_id, 1)
        jump(world, -HOUR_S)
        for _ in range(49):
            await trio.sleep(80)
            await node.heartbeat(only_task(node, session).task_id, 1)
        assert unanswered
        await trio.sleep(45)
        assert only_task(node, session).retries == 1


@pytest.mark.parametrize("seconds", [100.0, -HOUR_S])
async def test_an_agent_is_as_fresh_as_it_was_lately_heard_whatever_the_clock_shows(
    tmp_path: Path, autojump_clock: MockClock, seconds: float
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(agent_ttl_s=60.0))
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(1)
        await node.report_state("a", "idle")
        jump(world, seconds)
        await node.complete(only_task(node, session).task_id, 1)
        await quiet()
        second = await begin(node, one_task("w"))
        await quiet()
        assert only_task(node, second).attempt == 1
        await node.complete(only_task(node, second).task_id, 1)
        await trio.sleep(61)
        await node.set_cordon("a", cordoned=True)
        await node.set_cordon("a", cordoned=False)
        third = await begin(node, one_task("x"))
        await trio.sleep(5)
        assert only_task(node, third).attempt == 0, "it has been silent for too long"


async def test_a_node_that_stands_still_while_it_opens_goes_on_where_it_was(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Any = DispatcherActor.routes[to_dispatcher.ReadRows]

    async def stand_still(actor: Any, message: to_dispatcher.ReadRows) -> None:
        autojump_clock.jump(HOUR_S)
        await trio.lowlevel.checkpoint()
        await read(actor, message)

    monkeypatch.setattr(
        DispatcherActor, "routes", Routes({**DispatcherActor.routes, to_dispatcher.ReadRows: stand_still})
    )
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        assert only_task(node, await begin(node)).attempt == 1
