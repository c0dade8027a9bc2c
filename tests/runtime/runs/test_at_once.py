# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What can begin at once begins in the commit that makes it ready: a run's first task, and the next of a chain."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.actors.errors import ActorFailed
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.lease import Lease
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages import to_agent, to_dispatcher, to_session
from opscore.runtime.models import TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.runs.run import Run
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.waiting import QueueDepths
from tests.runtime.world import (
    Strike,
    World,
    check_rows,
    ended,
    hire,
    join,
    lease_of,
    one_task,
    only_task,
    quiet,
)


def chain(*, priority: int = 0, **fields: Any) -> dict[str, Any]:
    """Two tasks in a row."""
    return {
        "id": "chain",
        "name": "chain",
        "tasks": [
            {"taskId": "first", "agentCapability": "work", "nextTaskId": "second", "priority": priority},
            {"taskId": "second", "agentCapability": "work", "priority": priority, **fields},
        ],
    }


async def depths(node: Node) -> QueueDepths:
    """How much the dispatcher has in mind."""
    found: QueueDepths = await node._core.addresses.dispatcher.ask(to_dispatcher.GetDepths())  # noqa: SLF001 (nobody else says)
    return found


@pytest.fixture
async def world(tmp_path: Path, autojump_clock: MockClock) -> World:
    return World(tmp_path, look=check_rows)


def offers_of(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What runs answered to the offers that they heard, where they answered."""
    answers: list[int | None] = []
    original = SessionActor.handler_table[to_session.Offer]

    async def heard(actor: SessionActor, offer: to_session.Offer) -> int | None:
        answer: int | None = await original(actor, offer)
        answers.append(answer)
        return answer

    monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.handler_table, to_session.Offer: heard}))
    return answers


async def test_a_run_whose_agent_is_free_begins_with_its_first_task_given_out(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        before = node.statistics().journal.submissions
        session = await node.trigger(one_task())
        assert node.statistics().journal.submissions == before + 1
        task = only_task(node, session)
        assert (task.status, task.agent_id, task.attempt) == (TaskStatus.DISPATCHED, "a", 1)
        assert lease_of(node, "a") is not None
        await quiet()
        assert [each.task_id for each in world.messenger.delivered] == [task.task_id]
        assert (await depths(node)).offers == 0


async def test_what_begins_at_once_is_recorded_step_by_step(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(one_task())
        kinds = [entry.record.kind for entry in reversed(node.history(session.session_id).items)]
        assert kinds == ["task.ready", "session.started", "task.dispatched", "session.running"]


async def test_an_agent_goes_on_with_what_its_task_made_ready_in_the_same_commit(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await node.complete(f"{session.session_id}.0", 1, "done")
        # It is out already when the report is answered, and its agent was never told to be free.
        first, second = node.session(session.session_id).tasks
        assert (first.status, second.status, second.agent_id) == (TaskStatus.COMPLETED, TaskStatus.DISPATCHED, "a")
        lease = lease_of(node, "a")
        assert lease is not None
        assert lease.task_id == second.task_id
        await quiet()
        assert [each.task_id for each in world.messenger.delivered] == [first.task_id, second.task_id]
        await node.complete(second.task_id, 1, "all done")
        assert (await ended(node, session)).result == {"second": "all done"}
        await quiet()
        assert (await depths(node)).idle_agents == 1


async def test_who_is_heard_again_only_with_its_result_is_fresh_and_goes_on_in_that_commit(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=Limits(agent_ttl_s=60.0), look=check_rows).node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await trio.sleep(100)
        named = {"opscore_task_id": f"{session.session_id}.0", "opscore_attempt": 1, "result": "done"}
        await node.report_state("a", "idle", details=named)
        first, second = node.session(session.session_id).tasks
        assert (first.status, second.status, second.agent_id) == (TaskStatus.COMPLETED, TaskStatus.DISPATCHED, "a")


async def test_a_local_agent_does_a_whole_chain_with_a_commit_for_each_task(world: World) -> None:
    async with world.node() as node:
        done = await hire(node, "a")
        before = node.statistics().journal.submissions
        await ended(node, await node.trigger(chain()))
        assert len(done) == 2
        assert node.statistics().journal.submissions == before + 3


async def test_who_waits_longer_goes_before_what_an_agent_could_go_on_with(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await trio.sleep(1)
        waiting = await node.trigger(one_task())
        await trio.sleep(1)
        await node.complete(f"{session.session_id}.0", 1)
        await quiet()
        assert only_task(node, waiting).status is TaskStatus.DISPATCHED
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY


async def test_what_is_more_urgent_goes_before_what_waits_longer(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain(priority=5))
        waiting = await node.trigger(one_task())
        await trio.sleep(1)
        await node.complete(f"{session.session_id}.0", 1)
        assert node.session(session.session_id).tasks[1].status is TaskStatus.DISPATCHED
        assert only_task(node, waiting).status is TaskStatus.READY


async def test_nobody_goes_on_with_what_another_is_preferred_for(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        await join(node, "b", state="active")
        session = await node.trigger(chain(), agent_id="b")
        await node.report_state("b", "idle")
        await quiet()
        await node.complete(f"{session.session_id}.0", 1)
        await quiet()
        assert node.session(session.session_id).tasks[1].agent_id == "b"


async def test_who_is_taken_out_of_dispatch_does_not_go_on(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await node.set_cordon("a", cordoned=True)
        await node.complete(f"{session.session_id}.0", 1)
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY
        await node.set_cordon("a", cordoned=False)
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.DISPATCHED


async def test_who_reports_that_it_is_busy_with_something_else_does_not_go_on(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await node.report_state("a", "active")
        await node.complete(f"{session.session_id}.0", 1)
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY
        await node.report_state("a", "idle")
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.DISPATCHED


async def test_an_attempt_that_took_too_long_sets_nobody_free_to_go_on(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        definition = chain()
        definition["tasks"][0] |= {"timeoutSeconds": 5, "retry": {"maxRetries": 0}, "continueOnFailure": True}
        session = await node.trigger(definition)
        with trio.fail_after(60):
            while node.session(session.session_id).tasks[0].status is not TaskStatus.FAILED:
                await trio.sleep(0.1)
        await quiet()
        second = f"{session.session_id}.1"
        told = {
            e.record.kind: e.sequence for e in node.history(session.session_id).items if e.record.entity_id == second
        }
        # Between them stands what became of the agent, in the commit that ended its attempt.
        assert told["task.dispatched"] > told["task.ready"] + 1


@pytest.mark.parametrize("what", ["capability", "key"])
async def test_what_is_limited_is_given_out_by_an_offer_of_its_own(
    tmp_path: Path, autojump_clock: MockClock, what: str
) -> None:
    limits = Limits(capability_limits={"work": DispatchLimit(at_once=1)}) if what == "capability" else Limits()
    fields: dict[str, Any] = {"concurrencyKey": "k"} if what == "key" else {}
    async with World(tmp_path, limits=limits, look=check_rows).node() as node:
        await join(node, "a")
        session = await node.trigger(chain(**fields))
        await node.complete(f"{session.session_id}.0", 1)
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.DISPATCHED
        lease = lease_of(node, "a")
        assert lease is not None
        assert lease.slots == (("capability/work/0",) if what == "capability" else ("key/k/0",))


async def test_a_first_task_takes_the_slot_of_what_is_limited_as_its_run_begins(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = Limits(capability_limits={"work": DispatchLimit(at_once=1)})
    async with World(tmp_path, limits=limits, look=check_rows).node() as node:
        await join(node, "a")
        await join(node, "b")
        first, second = await node.trigger(one_task()), await node.trigger(one_task())
        assert [only_task(node, each).status for each in (first, second)] == [TaskStatus.DISPATCHED, TaskStatus.READY]
        await quiet()
        assert only_task(node, second).status is TaskStatus.READY
        await node.complete(only_task(node, first).task_id, 1)
        await quiet()
        assert only_task(node, second).status is TaskStatus.DISPATCHED


async def test_where_the_agent_has_changed_meanwhile_the_run_begins_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = offers_of(monkeypatch)
    original = SessionActor._agent_found  # noqa: SLF001 (between the answer and the commit there is no message)
    async with world.node() as node:
        await join(node, "a")

        async def found(actor: SessionActor, step: Any) -> to_session.Offer | None:
            offer = await original(actor, step)
            assert offer is not None
            await node.report_state("a", "active")
            return offer

        monkeypatch.setattr(SessionActor, "_agent_found", found)
        session = await node.trigger(one_task())
        assert only_task(node, session).status is TaskStatus.READY
        await quiet()
        # The offer that goes with the answer fails for the same reason.
        assert answers == []
        assert only_task(node, session).status is TaskStatus.READY
        await node.report_state("a", "idle")
        await quiet()
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        assert (await depths(node)).offers == 0


async def test_a_retry_is_offered_anew_although_the_first_attempt_was_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(one_task(retry={"initialDelaySeconds": 0}))
        for attempt in (1, 2, 3):
            await quiet()
            assert [each.attempt for each in world.messenger.delivered][-1] == attempt
            await node.fail(f"{session.session_id}.0", attempt, "not yet")


async def test_a_run_that_crashes_as_it_has_begun_hands_over_what_it_gave_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallen: list[int] = []
    tell = SessionActor._tell_granted  # noqa: SLF001 (between the commit and the news there is no message)

    def fall(actor: SessionActor, run: Run, lease: Lease, version: int) -> None:
        if fallen:
            tell(actor, run, lease, version)
        else:
            fallen.append(version)
            raise RuntimeError("struck by the test")

    monkeypatch.setattr(SessionActor, "_tell_granted", fall)
    async with world.node() as node:
        await join(node, "a")
        with pytest.raises(ActorFailed):
            await node.trigger(one_task())
        await trio.sleep(1)
        assert fallen
        assert [each.attempt for each in world.messenger.delivered] == [1]
        await node.complete(world.messenger.delivered[0].task_id, 1)
        await quiet()
        assert await depths(node) == QueueDepths(ready_tasks=0, idle_agents=1, offers=0)


async def test_an_agent_that_crashes_as_it_goes_on_is_handed_what_it_was_given(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike = Strike(monkeypatch, AgentActor, to_agent.Finish, after=True)
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await quiet()
        strike.armed = True
        with pytest.raises(ActorFailed):
            await node.complete(f"{session.session_id}.0", 1)
        await trio.sleep(1)
        assert [each.task_id for each in world.messenger.delivered][1:] == [f"{session.session_id}.1"]


@pytest.mark.parametrize("question", [to_dispatcher.FindAgent, to_dispatcher.MayGoOn])
async def test_a_dispatcher_that_crashes_when_it_is_asked_costs_no_run(
    world: World, monkeypatch: pytest.MonkeyPatch, question: type[Any]
) -> None:
    original = DispatcherActor.routes[question]
    assert original is not None
    struck: list[Any] = []

    def falls(actor: DispatcherActor, said: Any) -> Any:
        if not struck:
            struck.append(said)
            raise RuntimeError("struck by the test")
        return original(actor, said)

    monkeypatch.setattr(DispatcherActor, "routes", Routes({**DispatcherActor.routes, question: falls}))
    async with world.node() as node:
        await hire(node, "a")
        session = await ended(node, await node.trigger(chain()), within_s=60)
        assert struck
        assert session.result == {"second": None}


async def test_a_node_that_drains_gives_out_nothing_at_once(world: World) -> None:
    async with world.node() as node:
        await join(node, "a")
        session = await node.trigger(chain())
        await quiet()
        node.drain()
        await node.complete(f"{session.session_id}.0", 1)
        await quiet()
        assert node.session(session.session_id).tasks[1].status is TaskStatus.READY
