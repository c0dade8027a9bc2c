# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""How a run moves on a node: retries, failures, and what an actor's crash must not change."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Actor
from opscore.actors.errors import ActorError
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.delivery import Answered, Fact
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.journal.commit_line import CommitLine
from opscore.runtime.journal.journal import JournalActor
from opscore.runtime.messages import to_agent, to_dispatcher, to_session, to_timers
from opscore.runtime.models import Assignment, Move, SessionStatus, TaskStatus
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.store import Submission
from opscore.runtime.timers import TimersActor
from tests.runtime.world import (
    SAMPLE,
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


async def failing(world: World) -> list[float]:
    """Have every delivery fail; returns when each was made."""
    made: list[float] = []

    def answer(_: Assignment) -> Fact:
        made.append(world.clock.now())
        return Answered(status=400)

    world.messenger.answer = answer
    await trio.lowlevel.checkpoint()
    return made


async def test_failures_are_retried_after_ever_longer_delays_and_then_fail_the_run(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    made = await failing(world)
    async with world.node() as node:
        await join(node, "a")
        policy = {"maxRetries": 4, "initialDelaySeconds": 10, "backoffCoefficient": 3, "maxDelaySeconds": 100}
        session = await ended(node, await begin(node, one_task(retry={**policy, "jitter": False})))
        assert session.status is SessionStatus.FAILED
        assert session.error is not None
        assert session.error.code == "http_400"
        task = only_task(node, session)
        assert (task.status, task.attempt, task.retries) == (TaskStatus.FAILED, 5, 5)
        waits = [late - early for early, late in itertools.pairwise(made)]
        assert waits == [pytest.approx(each, abs=0.01) for each in (10, 30, 90, 100)]


async def test_retry_delays_have_full_jitter_within_their_ceiling(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    made = await failing(world)
    async with world.node() as node:
        await join(node, "a")
        policy = {"maxRetries": 8, "initialDelaySeconds": 10, "backoffCoefficient": 1, "maxDelaySeconds": 10}
        await ended(node, await begin(node, one_task(retry=policy)))
    waits = [late - early for early, late in itertools.pairwise(made)]
    assert all(0 <= wait <= 10.01 for wait in waits)
    assert len({round(wait, 3) for wait in waits}) == 8


async def test_a_run_whose_failures_may_not_be_retried_fails_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node)
        await node.fail(only_task(node, session).task_id, 1, "broken for good", code="broken", retryable=False)
        failed = await ended(node, session, within_s=1)
        assert (failed.status, only_task(node, session).retries) == (SessionStatus.FAILED, 1)
        assert failed.error is not None
        assert failed.error.code == "broken"


async def test_a_runs_first_failure_lets_nothing_new_start_and_what_is_out_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    tasks = [
        {"taskId": "a", "name": "a", "agentCapability": "work", "parameters": {}, "retry": {"maxRetries": 0}},
        {"taskId": "b", "name": "b", "agentCapability": "work", "parameters": {}},
        {"taskId": "c", "name": "c", "agentCapability": "none", "parameters": {}},
        {"taskId": "d", "name": "d", "agentCapability": "work", "parameters": {}, "dependsOn": ["a", "b", "c"]},
    ]
    async with world.node() as node:
        await join(node, "one")
        await join(node, "two")
        session = await begin(node, {"id": "w", "name": "w", "tasks": tasks})
        first, second, third, fourth = node.session(session.session_id).tasks
        await node.fail(first.task_id, 1, "no")
        assert node.session(session.session_id).session.status is SessionStatus.FAILING
        await node.complete(second.task_id, 1, "still counts")
        assert (await ended(node, session)).status is SessionStatus.FAILED
        assert [task.status for task in node.session(session.session_id).tasks] == [
            TaskStatus.FAILED, TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.CANCELLED,
        ]  # fmt: skip
        assert (third.status, fourth.status) == (TaskStatus.READY, TaskStatus.PENDING)
        await join(node, "three", "none")
        assert {each.task_key for each in world.messenger.delivered} == {"a", "b"}


CRASHES = [
    (actor, message, after)
    for actor in (AgentActor, SessionActor, DispatcherActor, TimersActor, JournalActor)
    for message in actor.handler_table
    for after in (False, True)
    if message not in (to_agent.Register, to_dispatcher.ReadRows, to_timers.ReadDueTimes)
]


@pytest.mark.parametrize(("actor", "message", "after"), CRASHES, ids=lambda each: getattr(each, "__name__", str(each)))
async def test_an_actor_that_crashes_at_any_message_loses_no_run_and_repeats_no_transition(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    actor: type[Actor[Any]],
    message: type[Any],
    after: bool,
) -> None:
    strike = Strike(monkeypatch, actor, message, after=after)
    world = World(tmp_path, look=check_rows)
    answers = iter([Answered(status=503), Answered(status=400)])
    world.messenger.answer = lambda _: next(answers, Answered(status=200, body={"status": "completed"}))
    async with world.node() as node:
        await join(node, "remote", "test_capability")
        await hire(node, "local", "another_capability")
        strike.armed = True
        for _ in range(3):
            # A crash under a trigger is its caller's to know; what began goes on.
            with contextlib.suppress(ActorError):
                await node.trigger(SAMPLE)
        began = node.sessions().items
        assert began, "a crash takes the trigger it struck, not the others"
        for session in began:
            assert (await ended(node, session, within_s=60)).status is SessionStatus.COMPLETED
        await quiet()
        statistics = node.statistics()
        assert (statistics.open_sessions, statistics.deliveries, statistics.listeners) == (0, 0, 0)
    for session in began:
        assert world.records(session.session_id).count("session.completed") == 1
        for ordinal in (0, 1):
            assert world.records(f"{session.session_id}.{ordinal}").count("task.completed") == 1


async def test_a_lease_whose_news_a_crash_of_the_journal_took_is_delivered_all_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    # The journal falls while the agent's actor is told of its lease: both restart, and what was told is gone.
    told = Strike(monkeypatch, AgentActor, to_agent.LeaseGranted)
    read = JournalActor._read  # noqa: SLF001 (the journal takes no message that could be struck at)
    fallen: list[JournalActor] = []

    def fall(journal: JournalActor, *arguments: Any) -> None:
        if told.struck and not fallen:
            fallen.append(journal)
            raise RuntimeError("struck by the test")
        read(journal, *arguments)

    monkeypatch.setattr(JournalActor, "_read", fall)
    async with world.node() as node:
        await join(node, "a")
        told.armed = True
        session = await begin(node)
        await trio.sleep(10)
        assert told.struck
        assert fallen
        assert [each.attempt for each in world.messenger.delivered] == [1]
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_the_result_of_a_local_function_survives_a_crash_of_whoever_takes_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, AgentActor, to_agent.DeliveryEnded, times=3)
    async with world.node() as node:
        got = await hire(node, "local", result="once")
        strike.armed = True
        session = await ended(node, await node.trigger(one_task()), within_s=60)
        assert session.result == {"only": "once"}
        assert len(strike.struck) == 3
        assert len(got) == 1


async def test_a_run_whose_actor_always_crashes_is_paused_and_the_others_go_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    poisoned: list[str] = []
    strike = Strike(
        monkeypatch, SessionActor, to_session.Offer, times=1_000,
        at=lambda _, offer: offer.task_id.rpartition(".")[0] in poisoned,
    )  # fmt: skip
    async with world.node() as node:
        poison = await begin(node)
        poisoned.append(poison.session_id)
        strike.armed = True
        others = [await node.trigger(one_task()) for _ in range(3)]
        await hire(node, "local")
        for session in others:
            assert (await ended(node, session, within_s=60)).status is SessionStatus.COMPLETED
        await trio.sleep(60)
        paused = node.session(poison.session_id).session
        assert (paused.status, paused.reason) == (SessionStatus.PAUSED, "actor_crashed")
        assert len(strike.struck) < 20, "it is left alone"
        assert (await ended(node, await node.trigger(one_task()), within_s=60)).status is SessionStatus.COMPLETED
    async with world.node() as node:
        await hire(node, "local")
        await trio.sleep(60)
        assert node.session(poison.session_id).session.status is SessionStatus.PAUSED
        assert (await ended(node, await node.trigger(one_task()), within_s=60)).status is SessionStatus.COMPLETED


async def test_a_run_that_is_spoken_to_before_it_is_paused_for_its_crashes_is_resumed_all_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, SessionActor, to_session.SendSignal, times=6)
    async with world.node() as node:
        await join(node, "a")
        session = await begin(node, {"id": "w", "tasks": [*one_task()["tasks"], {"taskId": "gate", "type": "signal"}]})
        strike.armed = True
        world.fill(full=True)
        for _ in range(6):
            await trio.sleep(6)
            with pytest.raises(ActorError):
                await node.signal(session.session_id, "gate")
        await quiet()
        with pytest.raises(InvalidDocument):
            await node.signal(session.session_id, "no such gate")
        await trio.sleep(3)
        world.fill(full=False)
        await trio.sleep(3)
        assert node.session(session.session_id).session.status is SessionStatus.PAUSED
        answered = await node.steer(session.session_id, Move.RESUME)
        assert answered.status is node.session(session.session_id).session.status is SessionStatus.RUNNING


@pytest.mark.parametrize("push", [True, False], ids=["remote", "local"])
async def test_an_agent_at_work_for_a_run_whose_actor_always_crashes_comes_free_again(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, push: bool
) -> None:
    world = World(tmp_path, look=check_rows)
    poisoned: list[str] = []
    strike = Strike(
        monkeypatch, SessionActor, to_session.Settle, times=10_000,
        at=lambda _, settle: settle.task_id.rpartition(".")[0] in poisoned,
    )  # fmt: skip
    async with world.node() as node:
        if push:
            world.messenger.answer = lambda _: Answered(status=200, body={"status": "completed"})
            await join(node, "a")
        else:
            await hire(node, "a")
        strike.armed = True
        poison = await node.trigger(one_task())
        poisoned.append(poison.session_id)
        await trio.sleep(200)
        assert node.session(poison.session_id).session.status is SessionStatus.PAUSED
        assert lease_of(node, "a") is None
        other = await ended(node, await node.trigger(one_task()), within_s=200)
        assert other.status is SessionStatus.COMPLETED
        await quiet()
        assert node.statistics().deliveries == 0


async def test_a_run_whose_actor_crashes_while_an_agent_has_what_was_taken_back_takes_nobody_with_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, SessionActor, to_session.Steer, times=10_000)
    async with world.node() as node:
        await join(node, "a")
        poison = await node.trigger(one_task())
        await quiet()
        await node.steer(poison.session_id, Move.RESET)
        strike.armed = True
        for _ in range(8):
            with contextlib.suppress(ActorError):
                await node.steer(poison.session_id, Move.PAUSE)
            await trio.sleep(5)
        assert node.session(poison.session_id).session.reason == "actor_crashed"
        held = lease_of(node, "a")
        assert held is not None
        assert held.revoked
        await node.report_state("a", "idle")
        assert lease_of(node, "a") is None
        other = await node.trigger(one_task())
        await quiet()
        assert only_task(node, other).status is TaskStatus.DISPATCHED


async def test_a_quarantine_outlasts_a_full_store(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, SessionActor, to_session.Offer, times=1_000)
    async with world.node() as node:
        poison = await node.trigger(one_task())
        strike.armed = True
        await join(node, "a")
        world.fill(full=True)
        await trio.sleep(100)
        world.fill(full=False)
        await trio.sleep(10)
        assert node.session(poison.session_id).session.reason == "actor_crashed"


async def test_an_agent_whose_actor_crashes_too_often_gets_a_pause_and_then_its_work(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, AgentActor, to_agent.Recheck, times=6)
    first = Strike(monkeypatch, AgentActor, to_agent.LeaseGranted)
    async with world.node() as node:
        await join(node, "a")
        strike.armed = first.armed = True
        session = await begin(node)
        await trio.sleep(200)
        assert len(strike.struck) == 6
        assert [each.attempt for each in world.messenger.delivered] == [1]
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_a_run_that_begins_stands_in_line_once_and_one_that_is_taken_up_again_reads_its_rows(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[bool] = []
    join_line = CommitLine.join

    async def join_and_tell(line: CommitLine, work: Any) -> Any:
        joined.append(isinstance(work, Submission))
        return await join_line(line, work)

    monkeypatch.setattr(CommitLine, "join", join_and_tell)
    world = World(tmp_path)
    async with world.node() as node:
        await quiet()
        joined.clear()
        session = await begin(node, one_task())
        assert joined == [True]
        await trio.sleep(120)
        await hire(node, "a", "work")
        assert (await ended(node, session)).status is SessionStatus.COMPLETED
