# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Due times: each comes once, in order, also after a crash, and a far one costs nothing."""

import gc
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.journal.commit_line import CommitLine, Journal
from opscore.runtime.messages import to_agent, to_timers
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.models import Move, TaskStatus
from opscore.runtime.timers import TimersActor, TimersStatistics
from tests.runtime.world import Strike, World, begin, check_rows, hire, join, lease_of, one_task, only_task, quiet


async def test_leases_of_many_agents_end_each_at_its_own_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        lengths = {f"a{seconds}": float(seconds) for seconds in (40, 10, 30, 20)}
        for name, seconds in lengths.items():
            await join(node, name, name)
            await begin(node, one_task(name, agentCapability=name, leaseSeconds=seconds))
            await node.set_cordon(name, cordoned=True)
        ended: dict[str, float] = {}
        began = trio.current_time()
        while len(ended) < len(lengths):
            await trio.sleep(1)
            for name in lengths:
                if lease_of(node, name) is None:
                    ended.setdefault(name, trio.current_time() - began)
        assert ended == {name: pytest.approx(seconds, abs=1.5) for name, seconds in lengths.items()}


async def test_a_lease_that_was_renewed_does_not_end_at_its_first_time(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    looked = Strike(monkeypatch, AgentActor, to_agent.LeaseDue)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=100))
        looked.armed = True
        await trio.sleep(90)
        await node.heartbeat(only_task(node, session).task_id, 1)
        await trio.sleep(90)
        assert looked.struck == [], "the timer was moved"
        assert only_task(node, session).status is TaskStatus.RUNNING


@pytest.mark.parametrize("message", [to_timers.ArmLease, to_timers.ArmDue, to_timers.ArmSuspicion])
async def test_a_time_that_a_crash_kept_from_being_set_comes_all_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, message: type
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, TimersActor, message)
    async with world.node() as node:
        await join(node, "a")
        strike.armed = True
        session = await begin(node, one_task(leaseSeconds=20, retry={"initialDelaySeconds": 20, "jitter": False}))
        if message is to_timers.ArmDue:
            await node.fail(only_task(node, session).task_id, 1, "no")
            await node.report_state("a", "idle")
        await trio.sleep(60)
        assert len(strike.struck) == 1
        assert only_task(node, session).attempt >= 2


async def test_a_crash_of_the_timers_moves_no_time(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, TimersActor, to_timers.ArmSuspicion)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=100))
        await trio.sleep(50)
        strike.armed = True
        node._core.addresses.timers.tell(to_timers.ArmSuspicion(agent_id="a", due_at=0.0))  # noqa: SLF001
        await trio.sleep(49)
        assert strike.struck
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        await node.set_cordon("a", cordoned=True)
        await trio.sleep(2)
        assert only_task(node, session).status is TaskStatus.READY


async def test_an_agent_without_room_for_its_lease_is_made_to_look_at_it_later(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        ref = node._core.addresses.agent("a")  # noqa: SLF001 (only there can a mailbox be filled)
        monkeypatch.setattr(ref.mailbox, "limit", 0)
        session = await begin(node)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        assert world.messenger.delivered == []
        monkeypatch.undo()
        await trio.sleep(3)
        await quiet()
        assert len(world.messenger.delivered) == 1


def test_a_time_that_is_put_off_again_and_again_takes_the_room_of_one() -> None:
    timers = TimersActor(
        addresses=Addresses(
            journal=Journal(CommitLine()), agent_spec=_nobody, session_spec=_nobody, new_session_spec=_nobody
        )
    )
    for second in range(5_000):
        timers.arm_lease(to_timers.ArmLease(agent_id="a", due_at=900.0 + second))
        timers.arm_lease(to_timers.ArmLease(agent_id="b", due_at=900.0 + second))
    assert timers.statistics() == TimersStatistics(armed=2, queued=2)


def test_times_that_are_waited_for_no_longer_take_no_room() -> None:
    timers = TimersActor(
        addresses=Addresses(
            journal=Journal(CommitLine()), agent_spec=_nobody, session_spec=_nobody, new_session_spec=_nobody
        )
    )
    timers.arm_due(to_timers.ArmDue(session_id="waits", what="waits", due_at=500.0))
    for number in range(5_000):
        timers.arm_due(to_timers.ArmDue(session_id=f"s{number}", what="t", due_at=86_400.0))
        timers.arm_due(to_timers.ArmDue(session_id=f"s{number}", what="t", due_at=None))
    found = timers.statistics()
    assert found.armed == 1
    assert found.queued < 1_000


async def test_a_run_that_has_ended_leaves_no_time_that_it_had(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        timers = next(
            each
            for each in gc.get_objects()
            if isinstance(each, TimersActor) and each._addresses is node._core.addresses  # noqa: SLF001
        )
        await hire(node, "a")
        step = {"agentCapability": "work", "scheduleToStartSeconds": 86_400, "scheduleToCloseSeconds": 86_400}
        told = {"taskId": "told", "type": "signal", "timeoutSeconds": 86_400}
        document = {"id": "w", "sessionTimeoutSeconds": 86_400, "tasks": [{"taskId": "done", **step}, told]}
        sessions = [await begin(node, document) for _ in range(5)]
        await trio.sleep(10)
        assert timers.statistics().armed == 2 * len(sessions), "each run's own time, and that of its signal"
        for session in sessions[1:]:
            await node.signal(session.session_id, "told")
        await node.steer(sessions[0].session_id, Move.CANCEL)
        await trio.sleep(1)
        assert timers.statistics().armed == 0


def _nobody(identity: str) -> NoReturn:
    raise AssertionError(f"nobody is addressed here, and {identity} was")
