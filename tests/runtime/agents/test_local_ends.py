# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""How a local function ends whose attempt is over: at its timeout, called off, heeding its cancellation or not."""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore import current_task
from opscore.runtime.agents.local import Handler, LocalAgents
from opscore.runtime.delivery import Fact, Raised
from opscore.runtime.errors import StaleAttempt
from opscore.runtime.models import (
    Agent,
    AgentSource,
    Assignment,
    Failure,
    Move,
    Session,
    TaskStatus,
)
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, check_rows, ended, hire, lease_of, one_task, only_task, quiet

ONCE: dict[str, Any] = {"retry": {"maxRetries": 0}}
STOPS = 12
"""More than attempts may be lost in a row."""
TIMEOUT = Failure(code="timeout", message="attempt 1 took longer than its timeout")


async def time_out(node: Node, session: Session) -> None:
    await trio.sleep(30)


async def call_off(node: Node, session: Session) -> None:
    await node.steer(session.session_id, Move.CANCEL)


async def deregister(node: Node, session: Session) -> None:
    await node.deregister_agent("a")


End = Callable[[Node, Session], Awaitable[None]]
ENDS = pytest.mark.parametrize("end", [time_out, call_off, deregister])


class Shielded:
    """A function that goes on for 100 s, whoever cancels it, and then says that it is done."""

    def __init__(self) -> None:
        self.at_once = 0
        self.most_at_once = 0
        self.attempts: list[int] = []
        self.heard: list[BaseException] = []

    async def __call__(self, assignment: Assignment) -> str:
        self.attempts.append(assignment.attempt)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        with trio.CancelScope(shield=True):
            for _ in range(10):
                await trio.sleep(10)
                try:
                    await current_task().progress("it goes on")
                except StaleAttempt as error:
                    self.heard.append(error)
        self.at_once -= 1
        return "done"


@ENDS
async def test_the_attempt_of_a_function_that_does_not_heed_its_cancellation_ends_and_what_it_says_then_is_refused(
    tmp_path: Path, autojump_clock: MockClock, end: End
) -> None:
    world = World(tmp_path, look=check_rows)
    function = Shielded()
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=function)
        session = await begin(node, one_task(timeoutSeconds=30, **ONCE))
        await trio.sleep(15)
        assert node.session(session.session_id).progress == {only_task(node, session).task_id: "it goes on"}
        await end(node, session)
        await quiet()
        assert function.at_once == 1
        task = only_task(node, session)
        assert not task.is_out
        assert node.session(session.session_id).progress == {}
        await trio.sleep(200)
        assert function.at_once == 0
        assert len(function.heard) >= 7
        assert only_task(node, session) == task, "what it returns changes nothing"
        if end is time_out:
            assert (task.status, task.error) == (TaskStatus.FAILED, TIMEOUT)


async def test_an_agent_whose_function_outlives_its_attempt_gets_the_next_one_when_the_function_has_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    function = Shielded()
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=function)
        first = await begin(node, one_task(timeoutSeconds=30, **ONCE))
        second = await begin(node, one_task("other"))
        await trio.sleep(99)
        assert only_task(node, first).error == TIMEOUT
        assert only_task(node, second).status is TaskStatus.READY
        await node.register_agent("a", capabilities=["work"], handler=function)
        await quiet()
        assert only_task(node, second).status is TaskStatus.READY, "another function does not make it idle"
        await trio.sleep(1.1)
        assert only_task(node, second).status is TaskStatus.DISPATCHED
        assert (await ended(node, second)).result == {"only": "done"}
    assert function.most_at_once == 1


async def test_what_a_function_that_goes_on_was_to_do_is_done_by_another_agent_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    function = Shielded()
    policy = {"maxRetries": 1, "initialDelaySeconds": 1, "jitter": False}
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=function)
        session = await begin(node, one_task(timeoutSeconds=30, retry=policy))
        await hire(node, "b", result="by b")
        assert (await ended(node, session, within_s=35)).result == {"only": "by b"}
        assert function.at_once == 1


def an_agent() -> Agent:
    return Agent(agent_id="a", name="a", source=AgentSource.LOCAL, registered_at=0.0)


def an_assignment(timeout_s: float) -> Assignment:
    names: dict[str, Any] = {"task_id": "ses.0", "task_key": "t", "name": "T", "session_id": "ses"}
    names |= {"workflow_id": "w", "agent_id": "a"}
    return Assignment(**names, attempt=1, parameters={}, input=None, lease_s=900.0, timeout_s=timeout_s)


async def nobody_hears(task_id: str, attempt: int, progress: Any) -> None:
    raise AssertionError("nothing is said here")


async def swallow(assignment: Assignment) -> str:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        return "done all the same"


async def raise_instead(assignment: Assignment) -> str:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("in its place")


async def shield(assignment: Assignment) -> str:
    with trio.CancelScope(shield=True):
        await trio.sleep(50)
    return "done too late"


@pytest.mark.parametrize("work", [swallow, raise_instead, shield])
async def test_whatever_a_function_says_after_its_time_it_has_taken_too_long(
    autojump_clock: MockClock, work: Handler
) -> None:
    agents = LocalAgents()
    agents.add("a", work, nobody_hears)
    assert agents.reaches(an_agent())
    async with trio.open_nursery() as nursery:
        facts: list[Fact] = []

        async def deliver() -> None:
            facts.append(await agents.deliver(an_assignment(timeout_s=10), an_agent()))
            with pytest.raises(RuntimeError, match="no current task"):
                current_task()

        nursery.start_soon(deliver)
        await trio.sleep(5)
        assert not agents.reaches(an_agent()), "it is at work"
    assert facts == [Raised(code="timeout", message="attempt 1 took longer than its timeout", timed_out=True)]
    assert agents.reaches(an_agent())


@ENDS
async def test_a_function_that_is_cancelled_hears_nothing_else_from_its_heartbeats(
    tmp_path: Path, autojump_clock: MockClock, end: End
) -> None:
    heard: list[BaseException] = []

    async def work(assignment: Assignment) -> None:
        try:
            await trio.sleep_forever()
        finally:
            try:
                await current_task().heartbeat()
            except BaseException as error:
                heard.append(error)
                raise

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await begin(node, one_task(timeoutSeconds=30, **ONCE))
        await end(node, session)
        await quiet()
        assert [type(error) for error in heard] == [trio.Cancelled]


async def test_a_function_that_swallows_its_timeout_has_failed_whatever_it_returns(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def work(assignment: Assignment) -> str:
        with trio.CancelScope() as scope:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                scope.shield = True
                await trio.sleep(5)
        return "late"

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        for _ in range(2):
            failed = await ended(node, await node.trigger(one_task(timeoutSeconds=30, **ONCE)), within_s=36)
            assert only_task(node, failed).error == TIMEOUT


async def break_in_its_nursery(assignment: Assignment) -> None:
    async def clumsy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clumsy)
        nursery.start_soon(trio.sleep_forever)


async def break_alone(assignment: Assignment) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("on the way out")


@ENDS
@pytest.mark.parametrize("work", [break_in_its_nursery, break_alone])
async def test_an_error_of_a_function_that_is_cancelled_is_logged_and_harms_nobody(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, work: Any, end: End
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await begin(node, one_task(timeoutSeconds=30, **ONCE))
        await end(node, session)
        await quiet()
        assert lease_of(node, "a") is None
        if end is time_out:
            assert only_task(node, session).error == TIMEOUT
        await hire(node, "b", result="done")
        assert (await ended(node, await node.trigger(one_task("next")))).result == {"only": "done"}
    assert "on the way out" in caplog.text


async def test_a_function_that_goes_on_is_named_in_the_log_also_while_the_node_waits_for_it(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def named() -> int:
        return sum("goes on with task" in line for line in caplog.messages)

    world = World(tmp_path, look=check_rows)
    function = Shielded()
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=function)
        session = await begin(node, one_task(timeoutSeconds=30))
        await trio.sleep(33)
        assert named() == 0, "a function may take a moment to end"
        await trio.sleep(3)
        assert named() == 1
        await node.steer(session.session_id, Move.CANCEL)
        await trio.sleep(5)
        assert named() == 2
    assert trio.current_time() == pytest.approx(100)
    assert named() >= 12
    assert function.at_once == 0


async def test_a_function_that_goes_on_is_named_also_where_others_end_all_the_time(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["stubborn"], handler=Shielded())
        await hire(node, "b")
        await begin(node, one_task("long", agentCapability="stubborn", timeoutSeconds=10))
        with trio.move_on_after(40):
            while True:
                await ended(node, await begin(node))
                await trio.sleep(1)
        assert sum("goes on with task" in line for line in caplog.messages) >= 5


async def test_a_function_that_goes_on_while_the_node_ends_hears_that_its_attempt_is_over_and_begins_anew_later(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, look=check_rows)
    function = Shielded()
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=function)
        session = await begin(node)
        await trio.sleep(15)
    assert trio.current_time() == pytest.approx(100)
    assert function.at_once == 0
    assert len(function.heard) >= 7
    assert "is reported again" not in caplog.text, "what it returned is of no use to a node that has ended"
    async with world.node() as node:
        await node.register_agent("a", capabilities=["work"], handler=function)
        assert (await ended(node, session)).result == {"only": "done"}
        assert only_task(node, session).retries == 0
    assert function.attempts == [1, 2]


async def wait_deep(depth: int) -> None:
    """Wait in nurseries within nurseries, which takes long to be cancelled."""
    if not depth:
        await trio.sleep_forever()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_deep, depth - 1)


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("leave", ["the block ends", "it is cancelled", "it raises"])
async def test_a_process_that_is_stopped_in_order_gives_back_what_its_functions_have_however_often(
    tmp_path: Path, autojump_clock: MockClock, leave: str, tasks: int
) -> None:
    attempts: list[int] = []

    async def work(assignment: Assignment) -> str:
        attempts.append(assignment.attempt)
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(trio.sleep, 0 if len(attempts) > STOPS else 600)
        return "done"

    class LeftError(Exception):
        pass

    world = World(tmp_path, look=check_rows)
    session: Session | None = None
    for _ in range(STOPS):
        with contextlib.suppress(LeftError), trio.CancelScope() as scope:
            async with world.node() as node:
                await node.register_agent("a", capabilities=["work"], handler=work)
                session = session or await begin(node, one_task(**ONCE))
                await trio.sleep(5)
                assert only_task(node, session).is_out
                if leave == "it is cancelled":
                    scope.cancel()
                    await wait_deep(8)
                if leave == "it raises":
                    raise LeftError
    assert session is not None
    async with world.node() as node:
        task = only_task(node, session)
        assert (task.status, task.bounces, task.retries) == (TaskStatus.READY, 0, 0)
        assert task.error == Failure(code="lost", message="the process that ran it was stopped")
        await node.register_agent("a", capabilities=["work"], handler=work)
        assert (await ended(node, session)).result == {"only": "done"}
    assert attempts == list(range(1, STOPS + 2))


@pytest.mark.parametrize("steps", range(12))
async def test_what_a_run_gives_to_a_function_that_begins_as_the_node_ends_is_given_back(
    tmp_path: Path, autojump_clock: MockClock, steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(assignment: Assignment) -> None:
        await trio.sleep(600)

    world = World(tmp_path, look=check_rows)
    with trio.CancelScope() as scope:
        async with world.node() as node, trio.open_nursery() as nursery:
            await node.register_agent("a", capabilities=["work"], handler=work)
            nursery.start_soon(begin, node, one_task(**ONCE))
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    async with world.node() as node:
        for session in node.sessions().items:
            task = only_task(node, session)
            assert (task.status, task.bounces, task.retries) == (TaskStatus.READY, 0, 0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
