# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a push answered, and what that decides."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.limits import Limits
from opscore.runtime.models import Assignment, SessionStatus, TaskStatus
from opscore.runtime.timers import LISTENS_S
from tests.runtime.world import ACCEPTED, World, begin, check_rows, ended, join, lease_of, one_task, only_task, quiet


@pytest.mark.parametrize(
    "body",
    [
        {"status": "completed", "result": 7},
        {"status": "success", "data": {"status": "completed", "result": 7}},
    ],
)
async def test_a_push_answer_that_says_completed_completes_the_task(
    tmp_path: Path, autojump_clock: MockClock, body: object
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=200, body=body))
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        assert (await ended(node, session, within_s=1)).result == {"only": 7}


@pytest.mark.parametrize(
    "fact",
    [NotReached(reason="refused"), Answered(status=404), Answered(status=429), Answered(status=503)],
    ids=["refused", "404", "429", "503"],
)
async def test_an_attempt_not_delivered_goes_back_to_the_queue_and_its_agent_is_suspected_for_ever_longer(
    tmp_path: Path, autojump_clock: MockClock, fact: Fact
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(fact, fact, fact, ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        waits = []
        for suspicions in (1, 2, 3):
            assert node.agent("a").suspicions == suspicions
            task = only_task(node, session)
            assert (task.status, task.retries, task.bounces) == (TaskStatus.READY, 0, suspicions)
            waits.append(node.agent("a").suspected_until - world.clock.now())
            await trio.sleep(waits[-1] + 0.01)
        assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, (1, 2, 4), strict=True))
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        assert [each.attempt for each in world.messenger.delivered] == [1, 2, 3, 4]


async def test_a_suspected_agent_is_not_tried_before_the_time_that_it_asked_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=503, retry_after_s=120), ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(119)
        assert len(world.messenger.delivered) == 1
        await trio.sleep(2)
        assert only_task(node, session).attempt == 2


async def test_a_suspected_agents_next_report_ends_the_suspicion(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=503, retry_after_s=3_000), ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.report_state("a", "idle")
        await quiet()
        assert only_task(node, session).attempt == 2
        assert node.agent("a").suspicions == 0


async def test_a_task_that_one_agent_does_not_take_goes_to_the_next_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answer = lambda assignment: Answered(status=404) if assignment.agent_id == "a" else ACCEPTED
    async with world.node() as node:
        await join(node, "a")
        await join(node, "b")
        session = await begin(node, agent_id="a")
        assert [each.agent_id for each in world.messenger.delivered] == ["a", "b"]
        assert only_task(node, session).agent_id == "b"


async def test_another_client_error_is_a_failure_that_keeps_the_answer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Answered(status=422, body="no such tool"), ACCEPTED)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        task = only_task(node, session)
        assert (task.status, task.retries) == (TaskStatus.PENDING_RETRY, 1)
        assert task.error is not None
        assert task.error.code == "http_422"
        assert "no such tool" in task.error.message


@pytest.mark.parametrize("fact", [Answered(status=500), Broken(reason="reset")], ids=["500", "broken"])
async def test_an_unknown_outcome_leaves_the_agent_a_minute_to_show_life_and_then_is_a_loss(
    tmp_path: Path, autojump_clock: MockClock, fact: Fact
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(fact)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(59)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        await trio.sleep(1.1 + LISTENS_S)
        task = only_task(node, session)
        assert (task.status, task.retries, task.bounces) == (TaskStatus.READY, 0, 1)


async def test_an_unknown_outcome_ends_nothing_while_the_agent_shows_life(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answers(Broken(reason="reset"))
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await trio.sleep(30)
        await node.report_state("a", "active")
        await trio.sleep(600)
        assert only_task(node, session).status is TaskStatus.RUNNING


async def test_a_delivery_that_raises_has_an_unknown_outcome_and_harms_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def answer(_: Assignment) -> Fact:
        raise RuntimeError("a way that breaks its promise")

    world = World(tmp_path, look=check_rows)
    world.messenger.answer = answer
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        lease = lease_of(node, "a")
        assert lease is not None
        assert lease.expires_at == world.clock.now() + 60
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_a_task_that_reaches_nobody_spends_a_retry_after_as_many_attempts_as_the_limit_says(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(dispatch_attempts_max=4))
    world.messenger.answers(Answered(status=503))
    async with world.node() as node:
        await join(node, "a")
        session = await ended(node, await begin(node, one_task(retry={"maxRetries": 1})))
        assert session.status is SessionStatus.FAILED
        assert session.error is not None
        assert session.error.code == "undelivered"
        task = only_task(node, session)
        assert (task.attempt, task.retries) == (8, 2)


async def test_nothing_is_handed_over_any_more_once_the_deliveries_were_stopped_because_the_node_ends(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    handed: list[Assignment] = []

    async def work(assignment: Assignment) -> None:
        handed.append(assignment)

    async with World(tmp_path).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        node._core.courier.cancel_all()  # noqa: SLF001 (its end does that a moment before it stops its actors)
        session = await begin(node)
        assert (handed, only_task(node, session).status) == ([], TaskStatus.DISPATCHED)
