"""The functions of an asyncio host: what they know of their attempt, on either side of the bridge and in threads."""

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from opscore import Assignment, Node, TaskContext, current_task, open_runtime
from opscore.runtime.agents.local import Handler
from opscore.runtime.errors import StaleAttempt
from opscore.runtime.hosting import Guest, open_guest
from opscore.runtime.models import Session
from tests.runtime.guests import LOOPS, Run, run_on
from tests.runtime.world import one_task

PATIENCE_S = 10.0


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run[Any]:
    return partial(run_on, request.param)


async def begun(guest: Guest[Node], handler: Handler, **fields: Any) -> Session:
    await guest.call(partial(guest.value.register_agent, "a", capabilities=["work"], handler=handler))
    return await guest.call(partial(guest.value.trigger, one_task(**fields)))


async def result_of(guest: Guest[Node], handler: Handler) -> Any:
    """What comes of one attempt, with the progress that it left before it ended."""
    session = await begun(guest, handler, retry={"maxRetries": 0})
    async with asyncio.timeout(PATIENCE_S):
        ended = await guest.call(guest.value.wait, session.session_id)
    assert ended.error is None, ended.error
    return ended.result["only"]


def progress_of(node: Node) -> Any:
    """How far the current task is, as everybody else sees it."""
    return node.task_view(current_task().assignment.task_id).progress


def test_a_function_of_an_asyncio_host_has_its_context_in_trio_and_in_a_thread(tmp_path: Path, run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(lambda: open_runtime(tmp_path)) as guest:

            def blocking() -> tuple[int, float]:
                assert threading.current_thread() is not threading.main_thread()
                task = current_task()
                trio.from_thread.run(task.progress, "half")
                return task.assignment.attempt, task.time_left_s()

            async def work(_: Assignment) -> Any:
                await current_task().progress("begun")
                before = progress_of(guest.value)
                attempt, left_s = await trio.to_thread.run_sync(blocking)
                assert 3_590 < left_s <= 3_600
                return [before, progress_of(guest.value), attempt]

            assert await result_of(guest, work) == ["begun", "half", 1]

    run(main)


def test_what_a_function_has_asyncio_do_speaks_for_its_task_through_the_bridge(tmp_path: Path, run: Run[None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_guest(lambda: open_runtime(tmp_path)) as guest:

            async def on_the_other_side(done: trio.Event) -> Any:
                await asyncio.sleep(0.01)
                task = current_task()
                await guest.call(task.progress, [1, 2])
                assert 3_590 < task.time_left_s() <= 3_600
                loop.call_soon(done.set)
                return progress_of(guest.value)

            async def work(_: Assignment) -> Any:
                done = trio.Event()
                # A task of asyncio begins with the context of whoever starts it, on this side as on that.
                other = loop.create_task(on_the_other_side(done))
                await done.wait()
                await trio.sleep(0.01)
                return other.result()

            assert await result_of(guest, work) == [1, 2]

    run(main)


def test_a_runtime_that_is_opened_outside_of_trio_is_refused_and_says_how_it_is_done(
    tmp_path: Path, run: Run[None]
) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"in trio; from asyncio .*hosting\.open_guest"):
            async with open_runtime(tmp_path / "data"):
                pass

    run(main)
    assert list(tmp_path.iterdir()) == []


def test_a_heartbeat_from_the_wrong_side_is_refused_and_says_how_it_is_sent(tmp_path: Path, run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(lambda: open_runtime(tmp_path)) as guest:
            found: asyncio.Future[TaskContext] = asyncio.get_running_loop().create_future()

            async def work(_: Assignment) -> None:
                found.set_result(current_task())
                with trio.fail_after(PATIENCE_S):
                    while progress_of(guest.value) != "at last":
                        await trio.sleep(0.01)

            ending = asyncio.create_task(result_of(guest, work))
            task = await found
            with pytest.raises(RuntimeError, match="no current task"):
                current_task()
            for send in (task.heartbeat, partial(task.progress, "wrong")):
                with pytest.raises(RuntimeError, match=r"await guest\.call"):
                    await send()

            def in_another_run() -> None:
                trio.run(task.heartbeat)

            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run"):
                await asyncio.to_thread(in_another_run)
            await guest.call(task.progress, "at last")
            await ending
            with pytest.raises(StaleAttempt):
                await guest.call(task.heartbeat)

    run(main)
