# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Who gets which task, and that nothing stands still that could move."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Routes
from opscore.runtime.delivery import Answered
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent, to_dispatcher, to_session
from opscore.runtime.models import AgentSource, SessionStatus, TaskStatus
from opscore.runtime.runs.session import SessionActor
from tests.runtime.world import SAMPLE, Strike, World, begin, check_rows, ended, hire, join, one_task, only_task, quiet


def taken(world: World) -> list[tuple[str, str]]:
    return [(each.task_key, each.agent_id) for each in world.messenger.delivered]


async def test_a_task_goes_only_to_an_agent_with_its_capability(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "other", "another_capability")
        await join(node, "none", "nothing")
        await begin(node, SAMPLE)
        await trio.sleep(100)
        assert world.messenger.delivered == []
        await join(node, "right", "test_capability")
        assert taken(world) == [("step_1", "right")]


async def test_a_task_that_names_an_agent_goes_to_that_agent_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        await begin(node, one_task(agentId="b"))
        await join(node, "c")
        await trio.sleep(100)
        assert world.messenger.delivered == []
        await join(node, "b", "whatever")
        assert taken(world) == [("only", "b")]


async def test_a_task_that_names_nobody_goes_to_the_sessions_agent(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        await join(node, "b")
        document = {"id": "w", "name": "w", "tasks": [{"taskId": "t", "name": "t", "parameters": {}}]}
        await begin(node, document, agent_id="b")
        assert taken(world) == [("t", "b")]


async def test_the_sessions_agent_is_preferred_where_it_has_the_capability_and_is_idle(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        await join(node, "b")
        await join(node, "without", "nothing")
        await begin(node, agent_id="b")
        await begin(node, agent_id="b")
        assert taken(world) == [("only", "b"), ("only", "a")], "busy, it is not waited for"
        await node.report_state("a", "active")
        await node.report_state("a", "idle")
        await begin(node, agent_id="without")
        assert taken(world)[2:] == [("only", "a")]


async def test_higher_priority_goes_first_and_the_older_of_equals(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        for name, priority in (("low", 0), ("first", 5), ("second", 5), ("high", 9)):
            await begin(node, one_task(name, priority=priority))
            await trio.sleep(1)
        await join(node, "a")
        for _ in range(3):
            await node.report_state("a", "active")
            await node.report_state("a", "idle")
            await quiet()
        assert [each.workflow_id for each in world.messenger.delivered] == ["high", "first", "second", "low"]


async def test_a_low_priority_that_waited_long_enough_is_not_starved(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await begin(node, one_task("old", priority=0))
        await trio.sleep(9 * 600 + 1)
        await begin(node, one_task("new", priority=9))
        await join(node, "a")
        assert [each.workflow_id for each in world.messenger.delivered] == ["old"]


async def test_a_task_that_nobody_can_take_waits_without_a_sound_and_goes_the_moment_somebody_can(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    offers = Strike(monkeypatch, SessionActor, to_session.Offer, times=0)
    offers.armed = True
    async with world.node() as node:
        session = await begin(node)
        await trio.sleep(10_000)
        assert only_task(node, session).status is TaskStatus.READY
        await join(node, "a")
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_many_tasks_and_agents_that_come_and_go_leave_nothing_standing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    world.messenger.answer = lambda each: Answered(
        status=503 if each.attempt % 3 == 1 else 200, body={"status": "completed"}
    )
    async with world.node() as node:
        sessions = []

        async def trigger(number: int) -> None:
            sessions.append(await node.trigger(SAMPLE if number % 2 else one_task()))

        async def come_and_go(name: str, *capabilities: str) -> None:
            for _ in range(5):
                await node.register_agent(name, capabilities=capabilities, contact_endpoint="http://there/")
                await node.report_state(name, "idle")
                await trio.sleep(0.5)
                await node.deregister_agent(name)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(trigger, number)
            nursery.start_soon(come_and_go, "a", "work", "test_capability")
            nursery.start_soon(come_and_go, "b", "another_capability")
        await hire(node, "local", "work", "test_capability", "another_capability")
        for session in sessions:
            assert (await ended(node, session, within_s=200)).status is SessionStatus.COMPLETED
        await quiet()
        assert node.statistics().open_sessions == 0


async def test_an_agent_that_left_while_it_was_offered_a_task_costs_the_task_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        await join(node, "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.trigger, one_task())
            nursery.start_soon(node.report_state, "a", "active")
            nursery.start_soon(node.deregister_agent, "b")
        await quiet()
        (session,) = node.sessions().items
        await join(node, "c")
        await node.report_state("a", "idle")
        await quiet()
        assert only_task(node, session).status is not TaskStatus.READY


@pytest.mark.parametrize("crashes", [1, 4])
async def test_offers_left_behind_by_a_dispatcher_that_crashed_are_not_the_next_ones_to_close(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, crashes: int
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, DispatcherActor, to_dispatcher.OfferEnded, times=crashes)
    async with world.node() as node:
        for number in range(10):
            await join(node, f"a{number}", state=None)
        sessions = [await begin(node) for _ in range(10)]
        strike.armed = True
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(node.report_state, f"a{number}", "idle")
        await trio.sleep(20)
        assert strike.struck
        assert [only_task(node, session).status for session in sessions] == [TaskStatus.DISPATCHED] * 10
        assert len(world.messenger.delivered) == 10


async def test_an_offer_that_ends_unknown_is_looked_into_and_delivered(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, SessionActor, to_session.Offer, after=True)
    async with world.node() as node:
        await join(node, "a")
        strike.armed = True
        session = await begin(node)
        await trio.sleep(1)
        assert strike.struck
        assert only_task(node, session).attempt == 1
        assert [each.attempt for each in world.messenger.delivered] == [1]


async def test_a_lease_whose_news_a_crash_of_its_session_took_is_delivered_at_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    fallen: list[to_agent.LeaseGranted] = []
    tell = SessionActor._tell_agent  # noqa: SLF001 (between the commit and the news there is no message)

    def fall(actor: SessionActor, agent_id: str, message: to_agent.LeaseGranted | to_agent.AnnounceAgent) -> None:
        if fallen or not isinstance(message, to_agent.LeaseGranted):
            tell(actor, agent_id, message)
        else:
            fallen.append(message)
            raise RuntimeError("struck by the test")

    monkeypatch.setattr(SessionActor, "_tell_agent", fall)
    async with world.node() as node:
        session = await node.trigger(one_task())
        await join(node, "a")
        await trio.sleep(1)
        assert fallen
        assert [each.attempt for each in world.messenger.delivered] == [1]
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_news_of_an_offer_that_another_incarnation_made_closes_none(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    original = SessionActor.handler_table[to_session.Offer]

    async def slowly(actor: SessionActor, offer: to_session.Offer) -> int | None:
        await trio.sleep(5)
        answer: int | None = await original(actor, offer)
        return answer

    monkeypatch.setattr(SessionActor, "routes", Routes({**SessionActor.handler_table, to_session.Offer: slowly}))
    async with world.node() as node:
        session = await node.trigger(one_task())
        await join(node, "a")
        await quiet()
        task_id = only_task(node, session).task_id
        stale = to_dispatcher.OfferEnded(
            task_id=task_id, agent_id="a", outcome=to_dispatcher.OfferOutcome.TAKEN, version=10**9, incarnation=0
        )
        node._core.addresses.dispatcher.tell(stale)  # noqa: SLF001 (what a crash leaves in the mailbox)
        # The agent changes under the offer, so that its true end has to put the task back.
        await node.report_state("a", "active")
        await trio.sleep(6)
        assert only_task(node, session).status is TaskStatus.READY
        await node.report_state("a", "idle")
        await trio.sleep(6)
        assert only_task(node, session).status is TaskStatus.DISPATCHED


@pytest.mark.parametrize("state", ["active", "initializing", "error", "finished", "offline", "thinking", None])
async def test_an_agent_that_is_not_idle_is_given_no_work(
    tmp_path: Path, autojump_clock: MockClock, state: str | None
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a", state=state)
        await begin(node)
        await trio.sleep(1_000)
        assert world.messenger.delivered == []
        await node.report_state("a", "idle")
        await quiet()
        assert len(world.messenger.delivered) == 1


async def test_a_cordoned_agent_is_given_no_work_until_it_is_put_back_and_may_end_what_it_has(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        first = await begin(node)
        await node.set_cordon("a", cordoned=True)
        await node.report_state("a", "active")
        await node.report_state("a", "idle")
        assert (await ended(node, first)).status is SessionStatus.COMPLETED
        await begin(node)
        await trio.sleep(100)
        assert len(world.messenger.delivered) == 1
        await node.set_cordon("a", cordoned=False)
        await quiet()
        assert len(world.messenger.delivered) == 2


async def test_an_agent_without_a_way_to_it_is_given_no_work(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await join(node, "a", push=False)
        session = await begin(node)
        await trio.sleep(100)
        assert only_task(node, session).attempt == 0


async def test_an_agent_silent_for_longer_than_its_time_to_live_is_given_no_work(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(agent_ttl_s=60))
    async with world.node() as node:
        await join(node, "a")
        await trio.sleep(61)
        await begin(node)
        assert world.messenger.delivered == []
        await node.report_state("a", "idle")
        await quiet()
        assert len(world.messenger.delivered) == 1


async def test_an_agent_has_one_task_at_a_time_and_gets_the_next_when_it_is_idle_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a")
        sessions = [await begin(node) for _ in range(3)]
        for number, session in enumerate(sessions, start=1):
            assert len(world.messenger.delivered) == number
            await node.report_state("a", "active")
            await node.report_state("a", "idle")
            await ended(node, session)
            await quiet()
        assert len({each.task_id for each in world.messenger.delivered}) == 3


async def test_a_local_agent_is_a_function_that_is_idle_from_its_registration_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path).node() as node:
        got = await hire(node, "local", result="done")
        agent = node.agent("local")
        assert (agent.source, agent.state) == (AgentSource.LOCAL, "idle")
        assert (await ended(node, await node.trigger(one_task()))).result == {"only": "done"}
        assert [each.agent_id for each in got] == ["local"]
