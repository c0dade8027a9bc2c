# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a local function raises: what fails its attempt, and what goes on to its host."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore import TaskFailed
from opscore.runtime.agents import local
from opscore.runtime.models import Assignment, Failure, Session, SessionStatus, TaskStatus
from tests.runtime.world import World, check_rows, ended, hire, one_task, only_task

ONCE: dict[str, Any] = {"retry": {"maxRetries": 0}}
AN_ASSIGNMENT = Assignment(
    task_id="ses.0",
    task_key="t",
    name="T",
    session_id="ses",
    workflow_id="w",
    agent_id="a",
    attempt=1,
    parameters={},
    input=None,
    lease_s=900.0,
    timeout_s=10.0,
)


@pytest.mark.parametrize("grouped", [False, True])
async def test_whatever_a_function_raises_that_is_not_for_the_program_fails_its_attempt(
    tmp_path: Path, autojump_clock: MockClock, grouped: bool
) -> None:
    async def work(assignment: Assignment) -> None:
        # A task of asyncio that it waits for was cancelled: no `Exception`, and nothing to trio.
        error = asyncio.CancelledError()
        await trio.lowlevel.checkpoint()
        raise BaseExceptionGroup("both", [error, ValueError("its own")]) if grouped else error

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        failed = await ended(node, await node.trigger(one_task(**ONCE)))
        assert failed.error is not None
        assert failed.error.code == "task_failed"


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("raised", "failure", "attempts"),
    [
        (TaskFailed("gone"), Failure(message="gone", code="task_failed"), 3),
        (TaskFailed("gone", code="page_gone"), Failure(message="gone", code="page_gone"), 3),
        (TaskFailed("gone", code="not_here"), Failure(message="gone", code="not_here"), 1),
        (TaskFailed("gone", retryable=False), Failure(message="gone", code="task_failed"), 1),
        (TaskFailed("gone", code="timeout", retryable=False), Failure(message="gone", code="timeout"), 1),
    ],
)
async def test_a_function_says_by_task_failed_why_and_whether_another_attempt_may_do_better(
    tmp_path: Path, autojump_clock: MockClock, raised: TaskFailed, failure: Failure, attempts: int, grouped: bool
) -> None:
    async def fail() -> None:
        raise raised

    async def work(assignment: Assignment) -> None:
        if not grouped:
            await fail()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        document = one_task(retry={"maxRetries": 2, "nonRetryable": ["not_here"]})
        failed = await ended(node, await node.trigger(document))
        task = only_task(node, failed)
        assert (task.status, task.error, task.attempt) == (TaskStatus.FAILED, failure, attempts)


@pytest.mark.parametrize("code", ["timeout", "out_of_paper"])
async def test_a_tool_that_says_by_task_failed_why_was_called_whatever_the_code(
    tmp_path: Path, autojump_clock: MockClock, code: str
) -> None:
    async def work(assignment: Assignment) -> None:
        raise TaskFailed("no paper", code=code)

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        tool = one_task(type="tool", parameters={"tool": "print", "arguments": {}}, **ONCE)
        failed = await ended(node, await node.trigger(tool))
        assert only_task(node, failed).error == Failure(message="no paper", code=code)


@pytest.mark.parametrize("given", [{"message": None}, {"message": "gone", "code": 5}])
def test_a_task_fails_with_texts(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="that are texts"):
        TaskFailed(**given)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("error", [SystemExit(2), GeneratorExit("of a generator")])
async def test_a_function_that_would_end_the_program_fails_its_attempt_and_the_node_goes_on(
    tmp_path: Path, autojump_clock: MockClock, error: BaseException, grouped: bool
) -> None:
    attempts: list[int] = []

    async def end() -> None:
        await trio.sleep(1)
        raise error

    async def work(assignment: Assignment) -> None:
        attempts.append(assignment.attempt)
        if not grouped:
            await end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        failed = await ended(node, await node.trigger(one_task(retry={"maxRetries": 1})))
        task = only_task(node, failed)
        assert (task.status, attempts) == (TaskStatus.FAILED, [1, 2])
        assert task.error is not None
        assert task.error.message == f"{type(error).__name__}: {error}"
        await hire(node, "b", "other")
        assert (await ended(node, await node.trigger(one_task("next", agentCapability="other")))).error is None


def test_a_function_whose_task_is_thrown_away_makes_nothing_of_it() -> None:
    async def work(assignment: Assignment) -> None:
        await trio.sleep_forever()

    working = local._outcome(work, AN_ASSIGNMENT)  # noqa: SLF001 (trio itself does not let go of a task)

    async def abandon() -> None:
        # One step, and then never again.
        working.send(None)

    trio.run(abandon)
    working.close()
    with pytest.raises(RuntimeError, match="reuse already awaited"):
        working.send(None)


@pytest.mark.parametrize("grouped", [False, True])
async def test_an_interrupt_comes_out_of_a_function_and_ends_the_node(
    tmp_path: Path, autojump_clock: MockClock, grouped: bool
) -> None:
    async def work(assignment: Assignment) -> None:
        await trio.sleep(1)
        error = KeyboardInterrupt()
        raise BaseExceptionGroup("both", [error, SystemExit(3)]) if grouped else error

    world = World(tmp_path, look=check_rows)
    begun: list[Session] = []

    async def host() -> None:
        async with world.node() as node:
            await node.register_agent("a", capabilities=["work"], handler=work)
            begun.append(await node.trigger(one_task()))
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        await host()
    async with world.node() as node:
        await hire(node, "a", result="done")
        assert (await ended(node, begun[0])).status is SessionStatus.COMPLETED


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


DOWN = ConnectionError("the provider says 503")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DOWN, "ConnectionError: the provider says 503"),
        (ValueError(), "ValueError"),
        (ExceptionGroup("one", [DOWN]), "ConnectionError: the provider says 503"),
        (ExceptionGroup("one", [ExceptionGroup("of one", [DOWN])]), "ConnectionError: the provider says 503"),
        (
            ExceptionGroup("two", [DOWN, ExceptionGroup("nested", [ValueError("no")])]),
            "2 errors: ConnectionError: the provider says 503; ValueError: no",
        ),
        (
            BaseExceptionGroup("both", [asyncio.CancelledError(), Speechless()]),
            "2 errors: CancelledError; Speechless: its text raised ValueError",
        ),
        (
            ExceptionGroup("many", [ExceptionGroup("some", [ValueError(str(n)) for n in range(3)]), DOWN, DOWN]),
            "5 errors: ValueError: 0; ValueError: 1; ValueError: 2; …",
        ),
        (
            ExceptionGroup("long", [ValueError("x" * 10_000), DOWN]),
            f"2 errors: ValueError: {'x' * 487}…; ConnectionError: the provider says 503",
        ),
    ],
)
async def test_a_group_is_told_as_what_is_in_it(
    tmp_path: Path, autojump_clock: MockClock, error: BaseException, message: str
) -> None:
    async def work(assignment: Assignment) -> None:
        raise error

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        failed = await ended(node, await node.trigger(one_task(**ONCE)))
        assert only_task(node, failed).error == Failure(code="task_failed", message=message)


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_cancellation_that_was_another_tasks_fails_the_attempt_and_the_node_goes_on(
    tmp_path: Path, autojump_clock: MockClock, grouped: bool
) -> None:
    kept: list[trio.Cancelled] = []
    done: list[SessionStatus] = []

    async def be_cancelled() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept.append(error)
            raise

    async def work(assignment: Assignment) -> None:
        with trio.move_on_after(1):
            await be_cancelled()
        raise BaseExceptionGroup("both", [kept[0], ValueError("its own")]) if grouped else kept[0]

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        failed = await ended(node, await node.trigger(one_task(**ONCE)))
        assert failed.error is not None
        assert "Cancelled" in failed.error.message
        await hire(node, "b", "other")
        done.append((await ended(node, await node.trigger(one_task("next", agentCapability="other")))).status)
    assert done == [SessionStatus.COMPLETED], "the block was not left before its end"


async def _pages() -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        yield "first"
        yield "second"


async def _timed_pages() -> AsyncIterator[str]:
    with trio.move_on_after(1):
        yield "first"
        yield "second"


async def _first_of(pages: AsyncIterator[str]) -> str:
    async for page in pages:
        return page
    raise AssertionError("there is one")


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("kept", [False, True])
async def test_a_function_that_leaves_a_nursery_open_fails_its_attempt_and_the_node_goes_on(
    tmp_path: Path, autojump_clock: MockClock, kept: bool
) -> None:
    left: list[AsyncIterator[str]] = []

    async def work(assignment: Assignment) -> str:
        pages = _pages()
        if kept:
            left.append(pages)
        return await _first_of(pages)

    done: list[SessionStatus] = []
    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        failed = await ended(node, await node.trigger(one_task(**ONCE)))
        assert only_task(node, failed).error == Failure(code="task_failed", message=local.LEFT_OPEN)
        await hire(node, "b", "other")
        done.append((await ended(node, await node.trigger(one_task("next", agentCapability="other")))).status)
    assert done == [SessionStatus.COMPLETED], "the block was not left before its end"


async def test_what_a_function_returns_counts_though_it_left_a_cancel_scope_open(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    left: list[AsyncIterator[str]] = []

    async def work(assignment: Assignment) -> str:
        left.append(_timed_pages())
        return await _first_of(left[0])

    async with World(tmp_path, look=check_rows).node() as node:
        await node.register_agent("a", capabilities=["work"], handler=work)
        session = await ended(node, await node.trigger(one_task(**ONCE)))
        await trio.sleep(2)
        assert (session.result, only_task(node, session).attempt) == ({"only": "first"}, 1)
