"""Calls over the bridge in the other direction: what trio has asyncio do."""

import asyncio
import gc
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
import sniffio
import trio

from opscore import Assignment, current_task, open_runtime
from opscore.runtime.hosting import open_guest
from tests.runtime.guests import LOOPS, Run, nothing, run_on
from tests.runtime.world import one_task


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run[Any]:
    return partial(run_on, request.param)


def test_a_function_for_asyncio_runs_there_and_its_result_comes_back_to_trio(run: Run[None]) -> None:
    async def in_asyncio(first: int, *more: int, self: str) -> Any:
        await asyncio.sleep(0)
        await anyio.sleep(0.001)
        return sniffio.current_async_library(), threading.get_ident(), first, more, self

    async def main() -> None:
        async with open_guest(nothing) as guest:

            async def in_trio() -> Any:
                told = await guest.call_host(in_asyncio, 1, 2, self="a")
                await trio.lowlevel.checkpoint()
                return told

            assert await guest.call(in_trio) == ("asyncio", threading.get_ident(), 1, (2,), "a")

    run(main)


def test_the_function_of_an_agent_may_be_one_for_asyncio(tmp_path: Path, run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(lambda: open_runtime(tmp_path)) as guest:

            async def in_asyncio(task: Assignment) -> Any:
                await asyncio.sleep(0.001)
                await guest.call(current_task().progress, 0.5)
                return [task.task_id, current_task().assignment.task_id]

            async def work(task: Assignment) -> Any:
                return await guest.call_host(in_asyncio, task)

            await guest.call(guest.value.register_agent, "a", capabilities=["work"], handler=work)
            session = await guest.call(guest.value.trigger, one_task())
            ended = await guest.call(guest.value.wait, session.session_id)
            assert ended.error is None, ended.error
            first, second = ended.result["only"]
            assert first == second == f"{session.session_id}.0"

    run(main)


def test_an_error_of_the_function_reaches_trio_as_it_is_and_leaves_no_reference_cycle(run: Run[None]) -> None:
    class Mine(Exception):
        pass

    async def fail() -> NoReturn:
        await asyncio.sleep(0)
        raise Mine("as it is")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(Mine, match=r"^as it is$"):
                await guest.call(guest.call_host, fail)
            for _ in range(10):
                with suppress(Mine):
                    await guest.call(guest.call_host, fail)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Mine)]

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_cancelling_the_caller_cancels_the_function_and_waits_for_it(run: Run[None]) -> None:
    async def main() -> None:
        seen: list[str] = []

        async def clean_up() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                seen.append("cleaned up")

        async def in_trio() -> None:
            with trio.move_on_after(0.01) as scope:
                await guest.call_host(clean_up)
            seen.append("went on")
            assert scope.cancelled_caught

        async with open_guest(nothing) as guest:
            await guest.call(in_trio)
        assert seen == ["cleaned up", "went on"]

    run(main)


def test_what_the_function_returns_or_raises_after_its_caller_was_cancelled(run: Run[None]) -> None:
    async def finish(error: Exception | None) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        if error is not None:
            raise error
        return "too late"

    async def main() -> None:
        async def in_trio(error: Exception | None) -> Any:
            with trio.move_on_after(0.01):
                return await guest.call_host(finish, error)
            return "cancelled"

        async with open_guest(nothing) as guest:
            assert await guest.call(in_trio, None) == "cancelled"
            with pytest.raises(OSError, match="disk"):
                await guest.call(in_trio, OSError("disk"))

    run(main)


def test_leaving_the_guest_ends_what_it_has_asyncio_do(run: Run[None]) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def long() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        async with open_guest(nothing) as guest:
            call = asyncio.create_task(guest.call(guest.call_host, long))
            await asyncio.sleep(0.01)
        assert ended.is_set()
        with pytest.raises(Exception, match="cut short because the runtime closed"):
            await call

    run(main)


def test_a_function_that_somebody_else_cancels_is_an_error_and_no_cancellation_of_trio(run: Run[None]) -> None:
    async def give_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(RuntimeError, match="cancelled, and not by its caller"):
                await guest.call(guest.call_host, give_up)

    run(main)


def test_it_is_refused_outside_of_the_guests_trio_and_says_what_to_do(run: Run[None]) -> None:
    async def never() -> None:
        raise AssertionError

    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(RuntimeError, match="in asyncio, await the function itself"):
                await guest.call_host(never)
            with pytest.raises(RuntimeError, match="is called in the guest's trio"):
                await asyncio.to_thread(trio.run, partial(guest.call_host, never))

    run(main)
