# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Long polls for work: one task for one claim, whoever repeats it, gives it up or goes away."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.errors import AgentNotFound
from opscore.runtime.limits import Limits
from opscore.runtime.messages.to_agent import Claim, LeaseGranted
from opscore.runtime.models import Granted, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from tests.runtime.world import Strike, World, begin, check_rows, ended, join, lease_of, one_task, only_task, quiet


class Claimer:
    """Waits with a claim beside the test."""

    def __init__(self, node: Node, nursery: trio.Nursery, agent_id: str = "a", **arguments: object) -> None:
        self.answers: list[Granted | None] = []
        self.answered_at: float | None = None
        self._scope = trio.CancelScope()
        self._node = node
        self._agent_id = agent_id
        self._arguments = {"wait_s": 30.0, **arguments}
        nursery.start_soon(self._wait)

    def vanish(self) -> None:
        self._scope.cancel()

    async def _wait(self) -> None:
        with self._scope:
            self.answers.append(await self._node.claim(self._agent_id, **self._arguments))  # type: ignore[arg-type]
            self.answered_at = trio.current_time()


async def test_claiming_says_that_the_agent_is_idle_and_gets_the_task_that_waits(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", state=None, push=False)
        session = await begin(node, payload={"n": 1})
        granted = await node.claim("a", wait_s=0)
        assert granted is not None
        assert (granted.assignment.task_key, granted.assignment.attempt, granted.assignment.input) == (
            "only",
            1,
            {"n": 1},
        )
        assert granted.lease == lease_of(node, "a")
        assert granted.lease.delivered
        assert node.agent("a").state == "idle"
        await node.complete(granted.assignment.task_id, 1, "done")
        assert (await ended(node, session)).result == {"only": "done"}


async def test_a_claim_waits_for_a_task_and_gets_it_the_moment_it_is_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", state=None, push=False)
        claimer = Claimer(node, nursery)
        await trio.sleep(20)
        assert claimer.answers == []
        await begin(node)
        assert claimer.answered_at == trio.current_time()
        assert claimer.answers[0] is not None


async def test_a_claim_whose_wait_is_over_gets_nothing_and_its_agent_no_work_afterwards(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(claim_wait_s_max=40))
    async with world.node() as node:
        await join(node, "a", state=None, push=False)
        began = trio.current_time()
        assert await node.claim("a", wait_s=10) is None
        assert trio.current_time() - began == pytest.approx(10)
        assert await node.claim("a", wait_s=1e9) is None, "the limit bounds what a claimer may ask for"
        assert trio.current_time() - began == pytest.approx(50)
        session = await begin(node)
        await trio.sleep(100)
        assert only_task(node, session).attempt == 0


async def test_the_same_claim_gets_the_same_attempt_until_the_first_heartbeat(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        await begin(node)
        first = await node.claim("a", claim_id="c", wait_s=0)
        assert first is not None
        again = await node.claim("a", claim_id="c", wait_s=0)
        assert again is not None
        assert again.assignment == first.assignment
        await node.heartbeat(first.assignment.task_id, 1)
        assert await node.claim("a", claim_id="c", wait_s=0) is None


async def test_the_same_claim_gets_the_same_attempt_after_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        await begin(node)
        first = await node.claim("a", claim_id="c", wait_s=0)
    await trio.sleep(5)
    async with world.node() as node:
        again = await node.claim("a", claim_id="c", wait_s=0)
        assert first is not None
        assert again is not None
        assert again.assignment == first.assignment


async def test_another_claim_under_an_open_lease_gets_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        session = await begin(node)
        assert await node.claim("a", claim_id="c", wait_s=0) is not None
        assert await node.claim("a", claim_id="d", wait_s=5) is None
        assert await node.claim("a", wait_s=5) is None
        assert only_task(node, session).attempt == 1


async def test_a_claim_that_waits_while_the_lease_ends_gets_the_next_task(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        await begin(node)
        second = await begin(node)
        first = await node.claim("a", wait_s=0)
        assert first is not None
        claimer = Claimer(node, nursery)
        await quiet()
        await node.complete(first.assignment.task_id, 1)
        await quiet()
        (granted,) = claimer.answers
        assert granted is not None
        assert granted.assignment.session_id == second.session_id


async def test_a_second_claim_takes_the_place_of_the_one_that_waits_which_waits_to_its_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        first = Claimer(node, nursery)
        await quiet()
        second = Claimer(node, nursery)
        await quiet()
        await begin(node)
        assert second.answers[0] is not None
        # An answer at once would have two workers under one id ask in turns, without end.
        assert first.answers == []
        await trio.sleep(node.limits.claim_wait_s_max)
        assert first.answers == [None]


async def test_a_claimer_that_goes_away_while_it_waits_is_given_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        claimer = Claimer(node, nursery)
        await trio.sleep(1)
        claimer.vanish()
        await quiet()
        session = await begin(node)
        assert only_task(node, session).attempt == 0


@pytest.mark.parametrize("steps", range(40))
async def test_a_claimer_that_goes_away_at_any_moment_gives_its_task_back_at_once(
    tmp_path: Path, autojump_clock: MockClock, steps: int
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(claim_grace_s=3))
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        claimer = Claimer(node, nursery)
        await quiet()
        nursery.start_soon(node.trigger, one_task())
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        claimer.vanish()
        await trio.sleep(4)
        (session,) = node.sessions().items
        if claimer.answers:
            assert only_task(node, session).status is TaskStatus.DISPATCHED, "it had its answer before it went"
        else:
            assert only_task(node, session).status is TaskStatus.READY
            other = Claimer(node, nursery)
            await quiet()
            assert other.answers[0] is not None
            await node.complete(other.answers[0].assignment.task_id, other.answers[0].assignment.attempt)
            assert (await ended(node, session)).status is SessionStatus.COMPLETED


async def test_a_claimer_that_went_away_takes_nothing_from_the_one_that_came_after(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        await begin(node)
        first = Claimer(node, nursery)
        await trio.lowlevel.checkpoint()
        second = Claimer(node, nursery)
        await trio.lowlevel.checkpoint()
        first.vanish()
        await trio.sleep(40)
        granted = [each for each in (*first.answers, *second.answers) if each is not None]
        assert len(granted) == 1
        lease = lease_of(node, "a")
        assert lease == granted[0].lease


async def test_a_task_that_no_claimer_came_for_goes_back_after_the_grace(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(claim_grace_s=10))
    # The claim ends just as its task is committed: a crash of the agent's actor does exactly that.
    strike = Strike(monkeypatch, AgentActor, LeaseGranted)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        claimer = Claimer(node, nursery)
        await quiet()
        strike.armed = True
        session = await begin(node)
        assert claimer.answers == [None]
        await trio.sleep(9)
        assert only_task(node, session).status is TaskStatus.DISPATCHED
        await trio.sleep(2)
        task = only_task(node, session)
        assert (task.status, task.retries) == (TaskStatus.READY, 0)
        assert await node.claim("a", wait_s=0) is not None, "the agent itself is not suspected"


async def test_a_call_of_a_tool_that_nobody_came_for_in_time_was_not_made_and_is_tried_again(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, limits=Limits(claim_grace_s=30.0), look=check_rows)
    strike = Strike(monkeypatch, AgentActor, LeaseGranted)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        claimer = Claimer(node, nursery)
        await quiet()
        strike.armed = True
        retry = {"initialDelaySeconds": 1, "jitter": False}
        session = await begin(node, one_task(type="tool", parameters={"tool": "adder"}, timeoutSeconds=20, retry=retry))
        assert claimer.answers == [None]
        await trio.sleep(25)
        task = only_task(node, session)
        assert (task.status, task.error and task.error.code) == (TaskStatus.READY, "timeout")
        granted = await node.claim("a", wait_s=1)
        assert granted is not None
        assert (granted.assignment.attempt, granted.assignment.tool) == (2, True)


async def test_a_claimer_that_comes_back_within_the_grace_gets_the_attempt(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows, limits=Limits(claim_grace_s=10))
    strike = Strike(monkeypatch, AgentActor, LeaseGranted)
    async with world.node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        Claimer(node, nursery)
        await quiet()
        strike.armed = True
        session = await begin(node)
        await trio.sleep(9)
        granted = await node.claim("a", wait_s=0)
        assert granted is not None
        assert granted.assignment.attempt == 1
        await trio.sleep(100)
        assert only_task(node, session).status is TaskStatus.DISPATCHED


async def test_a_claim_whose_agents_actor_crashes_ends_with_an_error_and_may_be_repeated(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, look=check_rows)
    strike = Strike(monkeypatch, AgentActor, Claim, after=True)
    async with world.node() as node:
        await join(node, "a", push=False)
        strike.armed = True
        with pytest.raises(ActorFailed):
            await node.claim("a", claim_id="c", wait_s=5)
        session = await begin(node)
        granted = await node.claim("a", claim_id="c", wait_s=20)
        assert granted is not None
        assert granted.assignment.session_id == session.session_id


async def test_claims_end_when_the_node_drains(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        claimer = Claimer(node, nursery)
        await trio.sleep(3)
        node.drain()
        await quiet()
        assert claimer.answers == [None]
        assert claimer.answered_at == 3


async def test_an_agent_that_is_not_registered_can_not_claim(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(AgentNotFound):
            await node.claim("nobody", wait_s=5)


async def test_a_claim_ends_with_its_agents_registration(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node, trio.open_nursery() as nursery:
        await join(node, "a", push=False)
        claimer = Claimer(node, nursery)
        await trio.sleep(1)
        await node.deregister_agent("a")
        await quiet()
        assert claimer.answers == [None]


async def test_claims_of_a_suspected_agent_end_the_suspicion(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, look=check_rows)
    async with world.node() as node:
        await join(node, "a", push=False)
        session = await begin(node, one_task(leaseSeconds=5))
        assert await node.claim("a", wait_s=0) is not None
        await trio.sleep(6)
        assert node.agent("a").suspicions == 1
        again = await node.claim("a", wait_s=0)
        assert again is not None
        assert again.assignment.attempt == only_task(node, session).attempt == 2
