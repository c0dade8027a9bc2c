# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What agents say of themselves, and what that does to the attempts they hold."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.delivery import Answered, Fact
from opscore.runtime.errors import AgentNotFound, InvalidDocument, LimitExceeded, StaleAttempt, TaskNotFound
from opscore.runtime.limits import Limits
from opscore.runtime.models import Assignment, SessionStatus, TaskStatus
from opscore.runtime.timers import LISTENS_S
from tests.runtime.world import (
    ACCEPTED,
    ENDPOINT,
    World,
    begin,
    check_rows,
    ended,
    join,
    one_task,
    only_task,
    quiet,
)

# --- leases -----------------------------------------------------------------------------------------------


async def test_an_attempt_whose_agent_falls_silent_is_lost_and_spends_no_retry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=100))
        await trio.sleep(99)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        await trio.sleep(1.1 + LISTENS_S)
        assert node.agent("a").suspicions == 1
        lost = only_task(node, session)
        assert (lost.status, lost.attempt, lost.retries) == (TaskStatus.READY, 1, 0)
        assert lost.error is not None
        assert lost.error.code == "lost"
        await join(node, "b")
        again = only_task(node, session)
        assert (again.status, again.attempt, again.agent_id) == (TaskStatus.DISPATCHED, 2, "b")


@pytest.mark.parametrize("sign", ["heartbeat", "report"])
async def test_a_heartbeat_or_an_active_report_renews_the_lease_and_starts_the_task(
    tmp_path: Path, autojump_clock: MockClock, sign: str
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=100))
        task = only_task(node, session)
        for _ in range(5):
            await trio.sleep(90)
            if sign == "heartbeat":
                lease = await node.heartbeat(task.task_id, 1)
                assert lease.expires_at == world.clock.now() + 100
            else:
                await node.report_state("a", "Busy")
            assert only_task(node, session).status is TaskStatus.RUNNING
        await node.set_cordon("a", cordoned=True)
        await trio.sleep(101)
        assert only_task(node, session).status is TaskStatus.READY


async def test_an_attempt_longer_than_its_timeout_fails_although_its_agent_shows_life(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(timeoutSeconds=250, leaseSeconds=100, retry={"maxRetries": 0}))
        for _ in range(4):
            await trio.sleep(60)
            await node.heartbeat(only_task(node, session).task_id, 1)
        failed = await ended(node, session, within_s=11)
        assert failed.status is SessionStatus.FAILED
        assert failed.error is not None
        assert failed.error.code == "timeout"
        with pytest.raises(StaleAttempt):
            await node.heartbeat(only_task(node, session).task_id, 1)


# --- stale attempts ---------------------------------------------------------------------------------------


async def test_whatever_names_a_past_attempt_is_refused_and_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=10))
        await trio.sleep(11)
        await join(node, "b")
        task = only_task(node, session)
        assert task.attempt == 2
        with pytest.raises(StaleAttempt):
            await node.complete(task.task_id, 1, "late")
        with pytest.raises(StaleAttempt):
            await node.fail(task.task_id, 1, "late")
        with pytest.raises(StaleAttempt):
            await node.heartbeat(task.task_id, 1)
        with pytest.raises(StaleAttempt):
            await node.complete(task.task_id, 3, "early")
        with pytest.raises(TaskNotFound):
            await node.complete("ses_nowhere.0", 1)
        assert only_task(node, session) == task
        await node.complete(task.task_id, 2, "in time")
        assert (await ended(node, session)).result == {"only": "in time"}
        with pytest.raises(StaleAttempt):
            await node.complete(task.task_id, 2, "twice")
        assert node.session(session.session_id).session.result == {"only": "in time"}


async def test_a_push_answer_of_a_past_attempt_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def late(assignment: Assignment) -> Fact:
        if assignment.attempt == 1:
            await trio.sleep(50)
            return Answered(status=200, body={"status": "completed", "result": "late"})
        return ACCEPTED

    world = World(tmp_path, look=check_rows)
    world.messenger.answer = late
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task())
        await node.fail(only_task(node, session).task_id, 1, "no", retryable=True)
        await node.report_state("a", "idle")
        await trio.sleep(5)
        assert only_task(node, session).attempt == 2
        await trio.sleep(100)
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_a_report_that_names_another_attempt_or_task_ends_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        task = only_task(node, session)
        for details in (
            {"opscore_task_id": task.task_id, "opscore_attempt": 7},
            {"opscore_task_id": "ses_other.0", "opscore_attempt": 1},
            {"opscore_attempt": 7},
        ):
            await node.report_state("a", "idle", details=details)
            await node.report_state("a", "error", details=details)
        assert only_task(node, session) == task


# --- reports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "IDLE", "finished"])
async def test_active_then_idle_without_naming_the_task_completes_it_with_the_reports_result(
    tmp_path: Path, autojump_clock: MockClock, state: str
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.report_state("a", "active")
        await node.report_state("a", state, details={"result": {"n": 1}})
        assert (await ended(node, session)).result == {"only": {"n": 1}}
        assert node.agent("a").state == state.lower()


async def test_an_idle_report_that_proves_nothing_ends_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.report_state("a", "idle")
        await node.report_state("a", "finished")
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        assert len(world.messenger.delivered) == 1


@pytest.mark.parametrize("with_attempt", [True, False])
async def test_a_report_that_names_the_first_attempt_completes_it_without_an_active_report(
    tmp_path: Path, autojump_clock: MockClock, with_attempt: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        details: dict[str, Any] = {"opscore_task_id": only_task(node, session).task_id, "result": 5}
        await node.report_state("a", "idle", details=details | ({"opscore_attempt": 1} if with_attempt else {}))
        assert (await ended(node, session)).result == {"only": 5}


async def test_a_later_attempt_named_without_its_number_needs_an_active_report(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=10))
        await trio.sleep(60)
        task = only_task(node, session)
        assert task.attempt > 1
        named = {"opscore_task_id": task.task_id}
        await node.report_state("a", "idle", details=named)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        await node.report_state("a", "active")
        await node.report_state("a", "idle", details=named)
        assert (await ended(node, session)).status is SessionStatus.COMPLETED


async def test_an_error_report_of_the_lease_holder_is_a_failure(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.report_state("a", "error", details={"message": "out of ink"})
        task = only_task(node, session)
        assert (task.status, task.retries) == (TaskStatus.PENDING_RETRY, 1)
        assert task.error is not None
        assert "out of ink" in task.error.message
        await trio.sleep(100)
        assert only_task(node, session).status is TaskStatus.READY, "an agent in error is given no work"


@pytest.mark.parametrize("state", ["offline", "initializing"])
async def test_an_agent_that_goes_offline_or_starts_anew_loses_its_attempt_without_a_retry_spent(
    tmp_path: Path, autojump_clock: MockClock, state: str
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.report_state("a", state)
        task = only_task(node, session)
        assert (task.status, task.retries, task.bounces) == (TaskStatus.READY, 0, 1)
        await node.report_state("a", "idle")
        await quiet()
        assert only_task(node, session).attempt == 2


async def test_an_agent_deregistered_with_work_loses_it_to_another_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await join(node, "b")
        await node.deregister_agent("a")
        await quiet()
        task = only_task(node, session)
        assert (task.agent_id, task.attempt, task.retries) == ("b", 2, 0)
        with pytest.raises(AgentNotFound):
            node.agent("a")
        with pytest.raises(AgentNotFound):
            await node.report_state("a", "idle")


async def test_a_report_older_than_the_newest_is_acknowledged_and_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", state=None)
        now = world.clock.now()
        assert await node.report_state("a", "idle", timestamp=now)
        session = await begin(node)
        assert not await node.report_state("a", "offline", timestamp=now - 0.001)
        assert node.agent("a").state == "idle"
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        assert await node.report_state("a", "active", timestamp=now), "equal is accepted"
    assert world.records("a") == [
        "agent.registered",
        "agent.reported",
        "agent.delivered",
        "agent.report_stale",
        "agent.started",
    ]


async def test_a_timestamp_in_the_future_is_clamped_to_half_a_minute_ahead(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a", state=None)
        now = world.clock.now()
        await node.report_state("a", "active", timestamp=now + 1e9)
        assert node.agent("a").reported_at == now + 30
        assert not await node.report_state("a", "idle", timestamp=now + 29)
        await trio.sleep(31)
        assert await node.report_state("a", "idle", timestamp=world.clock.now())


async def test_registering_again_forgets_the_order_of_reports_and_keeps_state_and_cordon(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a")
        await node.set_cordon("a", cordoned=True)
        await node.report_state("a", "active", timestamp=world.clock.now())
        again = await node.register_agent("a", capabilities=["other"], contact_endpoint=ENDPOINT)
        assert (again.state, again.cordoned, again.capabilities) == ("active", True, ("other",))
        assert await node.report_state("a", "idle", timestamp=1.0)


async def test_another_state_is_kept_in_lower_case_and_counts_as_active(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.report_state("a", " Thinking ")
        assert node.agent("a").state == "thinking"
        assert only_task(node, session).status is TaskStatus.RUNNING
        for state in ("", "   ", "x" * 65):
            with pytest.raises(InvalidDocument):
                await node.report_state("a", state)


@pytest.mark.parametrize("agent_id", ["", "  ", "x" * 129, "é" * 65])
async def test_an_agents_id_is_neither_empty_nor_longer_than_128_bytes(
    tmp_path: Path, autojump_clock: MockClock, agent_id: str
) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(LimitExceeded if agent_id.strip() else InvalidDocument):
            await node.register_agent(agent_id)


async def test_a_result_too_large_to_store_fails_the_attempt_for_good(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(value_bytes_max=100))
    world.messenger.answers(Answered(status=200, body={"status": "completed", "result": "x" * 200}))
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        failed = await ended(node, session)
        assert failed.error is not None
        assert failed.error.code == "result_too_large"


async def test_what_an_attempt_failed_by_is_taken_at_any_length_and_cut(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"maxRetries": 0}))
        await node.fail(only_task(node, session).task_id, 1, "x" * 1_000_000, code="c" * 1_000_000)
        error = only_task(node, session).error
        assert error is not None
        assert (len(error.message), len(error.code)) == (4_000, 4_000)


@pytest.mark.parametrize("agent_id", ["team/a", ".", "..", "a\n"])
async def test_an_agents_id_can_stand_in_a_path(tmp_path: Path, autojump_clock: MockClock, agent_id: str) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(InvalidDocument, match="agentId"):
            await node.register_agent(agent_id)
