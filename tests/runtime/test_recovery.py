# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a restart makes of what was under way: nothing acknowledged is missing, nothing is done that was done."""

from pathlib import Path

import lmdb
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.delivery import Answered, Fact
from opscore.runtime.errors import StaleAttempt, StoreDamaged
from opscore.runtime.models import Assignment, SessionStatus, TaskStatus
from tests.runtime.world import (
    SAMPLE,
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


async def test_unfinished_runs_go_on_after_a_restart_from_the_task_they_were_at(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", "test_capability")
        session = await begin(node, SAMPLE)
        await node.complete(node.session(session.session_id).tasks[0].task_id, 1, "first")
        world.sever()
    async with world.node() as node:
        assert node.statistics().open_sessions == 1
        await join(node, "b", "another_capability")
        await node.complete(node.session(session.session_id).tasks[1].task_id, 1, "second")
        assert (await ended(node, session)).result == {"step_2": "second"}
    assert [each.task_key for each in world.messenger.delivered] == ["step_1", "step_2"]
    async with world.node() as node:
        assert node.statistics().open_sessions == 0


async def test_a_retry_delay_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"initialDelaySeconds": 100, "jitter": False}))
        await node.fail(only_task(node, session).task_id, 1, "no")
        await node.report_state("a", "idle")
        await trio.sleep(60)
        world.sever()
    async with world.node() as node:
        await trio.sleep(39)
        assert only_task(node, session).status is TaskStatus.PENDING_RETRY
        await trio.sleep(2)
        assert only_task(node, session).attempt == 2
        world.sever()


async def test_a_retry_delay_that_ended_while_the_node_was_away_ends_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(retry={"initialDelaySeconds": 100, "jitter": False}))
        await node.fail(only_task(node, session).task_id, 1, "no")
        await node.report_state("a", "idle")
    await trio.sleep(1_000)
    async with world.node() as node:
        await quiet()
        assert only_task(node, session).attempt == 2


@pytest.mark.parametrize("away_s", [10, 99, 101, 5_000])
async def test_a_remote_attempt_gets_a_full_lease_after_a_restart_however_long_the_node_was_away(
    tmp_path: Path, autojump_clock: MockClock, away_s: float
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=100, timeoutSeconds=1_000))
        world.sever()
    await trio.sleep(away_s)
    async with world.node() as node:
        await quiet()
        lease = lease_of(node, "a")
        assert lease is not None
        assert lease.expires_at == pytest.approx(world.clock.now() + 100)
        assert lease.timeout_at >= lease.expires_at
        await trio.sleep(99)
        task = only_task(node, session)
        assert (task.status, task.attempt) == (TaskStatus.DISPATCHED, 1)
        await node.complete(task.task_id, 1, "it went on meanwhile")
        assert (await ended(node, session)).status is SessionStatus.COMPLETED
    assert len(world.messenger.delivered) == 1, "what was delivered is not delivered again"


async def test_a_deadline_further_away_than_a_full_lease_stands_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, one_task(leaseSeconds=100, timeoutSeconds=1_000))
        timeout_at = world.clock.now() + 1_000
    async with world.node() as node:
        await quiet()
        lease = lease_of(node, "a")
        assert lease is not None
        assert lease.timeout_at == pytest.approx(timeout_at)
        assert only_task(node, session).attempt == 1


async def test_an_attempt_without_evidence_of_delivery_is_delivered_again_under_the_same_number(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def never(_: Assignment) -> Fact:
        await trio.sleep_forever()
        raise AssertionError("nobody wakes it")

    world = World(tmp_path, look=check_rows)
    world.messenger.answer = never
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, payload=[1])
        world.sever()
    world.messenger.answers(Answered(status=200, body={"status": "completed", "result": 1}))
    async with world.node() as node:
        assert (await ended(node, session)).result == {"only": 1}
    first, again = world.messenger.delivered
    assert first == again


async def test_the_attempt_of_a_local_function_ends_as_lost_by_a_restart_and_spends_no_retry(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)

    async def forever(_: Assignment) -> None:
        await trio.sleep_forever()

    async with world.node() as node:
        await node.register_agent("local", capabilities=["work"], handler=forever)
        session = await begin(node)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        world.sever()
    async with world.node() as node:
        await quiet()
        task = only_task(node, session)
        assert (task.status, task.retries, task.bounces) == (TaskStatus.READY, 0, 1)
        await trio.sleep(1_000)
        assert only_task(node, session).attempt == 1, "the function is not there yet"
        got = await hire(node, "local")
        assert (await ended(node, session)).status is SessionStatus.COMPLETED
        assert [each.attempt for each in got] == [2]


async def test_a_restart_before_the_commit_of_a_result_runs_the_task_again_and_after_it_does_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        task_id = only_task(node, session).task_id
        await node.complete(task_id, 1, "kept")
        world.sever()
    async with world.node() as node:
        assert (await ended(node, session)).result == {"only": "kept"}
        with pytest.raises(StaleAttempt):
            await node.complete(task_id, 1, "again")
    assert world.records(task_id).count("task.completed") == 1


async def test_a_suspicion_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=503, retry_after_s=100), Answered(status=202))
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(50)
    async with world.node() as node:
        await trio.sleep(49)
        assert only_task(node, session).attempt == 1
        await trio.sleep(2)
        assert only_task(node, session).attempt == 2


async def test_agents_stand_after_a_restart_as_they_did_before(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "idle")
        await join(node, "busy", state="active")
        await join(node, "cordoned")
        await node.set_cordon("cordoned", cordoned=True)
        before = node.agents().items
        world.sever()
    async with world.node() as node:
        assert node.agents().items == before
        for _ in range(3):
            await begin(node)
        assert [each.agent_id for each in world.messenger.delivered] == ["idle"]


async def test_what_is_being_delivered_when_the_node_closes_ends_first_and_is_not_done_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        got = await hire(node, "local", result="in time")
        session = await begin(node)
    async with world.node() as node:
        assert (await ended(node, session)).result == {"only": "in time"}
    assert len(got) == 1


async def test_a_run_with_a_damaged_row_keeps_no_other_from_going_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        damaged, sound = [await begin(node, one_task(name)) for name in ("damaged", "sound")]
        task_id = only_task(node, damaged).task_id
    with lmdb.open(str(world.path), max_dbs=32) as environment, environment.begin(write=True) as transaction:
        table = environment.open_db(b"tasks", transaction)
        value = bytearray(transaction.get(task_id.encode(), db=table) or b"")
        value[-1] ^= 1
        transaction.put(task_id.encode(), bytes(value), db=table)
    async with world.node() as node:
        await hire(node, "able", "work")
        assert (await ended(node, sound)).status is SessionStatus.COMPLETED
        with pytest.raises(StoreDamaged, match=task_id):
            node.session(damaged.session_id)
