"""Calls over the bridge between asyncio and trio, on both event loops, with real time and I/O."""

import asyncio
import contextvars
import gc
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio
import trio

from opscore.runtime.hosting import GuestStatistics, open_guest
from tests.runtime.guests import LOOPS, Run, echo, fail_with, nothing, run_on

TRAVELLER: contextvars.ContextVar[str] = contextvars.ContextVar("TRAVELLER")


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run[Any]:
    return partial(run_on, request.param)


def test_a_call_runs_in_trio_in_the_same_thread_and_returns_its_result(run: Run[None]) -> None:
    async def where() -> tuple[str, int]:
        await trio.lowlevel.checkpoint()
        return sniffio.current_async_library(), threading.get_ident()

    async def main() -> None:
        async with open_guest(nothing) as guest:
            assert await guest.call(where) == ("trio", threading.get_ident())
            assert sniffio.current_async_library() == "asyncio"

    run(main)


def test_a_call_hands_on_positional_and_keyword_arguments_whatever_they_are_called(run: Run[None]) -> None:
    async def told(first: int, *more: int, self: str, async_fn: str = "none", **rest: int) -> Any:
        await trio.lowlevel.checkpoint()
        return first, more, self, async_fn, rest

    async def main() -> None:
        async with open_guest(nothing) as guest:
            assert await guest.call(told, 1, 2, self="a", async_fn="b", n=3) == (1, (2,), "a", "b", {"n": 3})
            with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'self'"):
                await guest.call(told, 1)  # type: ignore[call-arg]

    run(main)


def test_a_call_of_what_is_no_async_function_says_so(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(TypeError, match=r"^Guest\.statistics is not async: call it without `guest\.call`"):
                await guest.call(guest.statistics)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"the function itself: `guest\.call\(function, …\)`"):
                await guest.call(echo("a coroutine"))  # type: ignore[arg-type]

    run(main)


def test_a_call_from_another_loop_is_refused_and_says_how_it_is_made(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:

            async def in_another_loop() -> str:
                async with open_guest(nothing):
                    return await guest.call(echo, "wrong")

            async def in_another_trio() -> str:
                return await guest.call(echo, "wrong")

            with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(asyncio.run, in_another_loop())
            with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(trio.run, in_another_trio)
            assert guest.statistics() == GuestStatistics(calls_open=0, calls_begun=0)
            loop = asyncio.get_running_loop()
            right = await asyncio.to_thread(asyncio.run_coroutine_threadsafe, guest.call(echo, "right"), loop)
            assert await asyncio.wrap_future(right) == "right"

    run(main)


def test_a_library_for_both_loops_finds_its_own_on_each_side(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(anyio.sleep(0.001))
                    group.create_task(guest.call(anyio.sleep, 0.001))
            await anyio.lowlevel.checkpoint()

    run(main)


def test_a_call_sees_the_context_variables_of_its_caller_and_changes_none_of_them(run: Run[None]) -> None:
    async def read_and_set() -> str:
        seen = TRAVELLER.get()
        TRAVELLER.set("changed")
        await trio.lowlevel.checkpoint()
        return seen

    async def caller(guest: Any, name: str) -> str:
        TRAVELLER.set(name)
        seen: str = await guest.call(read_and_set)
        assert TRAVELLER.get() == name
        return seen

    async def main() -> None:
        async with open_guest(nothing) as guest:
            assert await asyncio.gather(*(caller(guest, str(n)) for n in range(20))) == [str(n) for n in range(20)]

    run(main)


def test_an_error_of_a_call_reaches_its_caller_as_it_is_and_nobody_else(run: Run[None]) -> None:
    error = ValueError("mine")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            failing = asyncio.create_task(guest.call(fail_with, error))
            assert await guest.call(echo, "fine") == "fine"
            with pytest.raises(ValueError, match="mine") as raised:
                await failing
            assert raised.value is error
            assert await guest.call(echo, "still fine") == "still fine"

    run(main)


def test_errors_leave_no_reference_cycles_behind(run: Run[None]) -> None:
    class Mine(Exception):
        pass

    async def raise_one() -> None:
        raise Mine

    async def main() -> None:
        async with open_guest(nothing) as guest:
            for _ in range(10):
                with suppress(Mine):
                    await guest.call(raise_one)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Mine)]

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_a_call_wakes_trio_at_once_while_it_waits_for_io(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            # Far longer than one pass of either loop: trio is parked in its poll when the call is made.
            await asyncio.sleep(0.05)
            began = time.perf_counter()
            await guest.call(echo, "wake")
            assert time.perf_counter() - began < 0.5

    run(main)


def test_a_burst_of_calls_wakes_trio_once(run: Run[None]) -> None:
    class Waits(trio.abc.Instrument):
        count = 0

        def before_io_wait(self, timeout: float) -> None:
            if timeout > 0:
                self.count += 1

    async def immediate() -> None:
        pass

    async def main() -> None:
        async with open_guest(nothing) as guest:
            waits = Waits()
            await guest.call(_add_instrument, waits)
            await asyncio.sleep(0.01)
            before = waits.count
            await asyncio.gather(*(guest.call(immediate) for _ in range(500)))
            assert waits.count - before <= 5

    run(main)


async def _add_instrument(instrument: trio.abc.Instrument) -> None:
    trio.lowlevel.add_instrument(instrument)


def test_a_trio_that_never_rests_leaves_the_host_its_turns(run: Run[None]) -> None:
    async def never_rest() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with open_guest(nothing) as guest:
            busy = asyncio.create_task(guest.call(never_rest))
            turns = 0
            async with asyncio.timeout(5):
                while turns < 100:
                    await asyncio.sleep(0.001)
                    turns += 1
            busy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await busy

    run(main)


def test_thousands_of_calls_at_once_all_get_their_own_answer(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            names = [str(n) for n in range(3_000)]
            assert await asyncio.gather(*(guest.call(echo, name) for name in names)) == names
            assert guest.statistics() == GuestStatistics(calls_open=0, calls_begun=3_000)

    run(main)


def test_cancelling_the_caller_cancels_the_trio_call_and_waits_for_it(run: Run[None]) -> None:
    entries: list[str] = []

    async def linger() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.05)
            entries.append("cleaned up")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await guest.call(linger)
            assert entries == ["cleaned up"]
            assert guest.statistics().calls_open == 0

    run(main)


def test_cancelling_again_and_again_still_waits_for_the_trio_call(run: Run[None]) -> None:
    entries: list[str] = []

    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        entries.append("done")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            task = asyncio.create_task(guest.call(stubborn))
            for _ in range(5):
                await asyncio.sleep(0.005)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert entries == ["done"]

    run(main)


def test_an_error_on_the_way_out_of_a_cancelled_call_is_not_lost(run: Run[None]) -> None:
    async def break_on_cancel() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            task = asyncio.create_task(guest.call(break_on_cancel))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(ValueError, match="on the way out"):
                await task

    run(main)


def test_a_call_cancelled_before_its_first_step_is_cancelled_like_any_other(run: Run[None]) -> None:
    entries: list[str] = []

    async def work() -> None:
        await trio.sleep(60)
        entries.append("ran")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            task = asyncio.create_task(guest.call(work))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await guest.call(echo, "the guest is fine")
        assert entries == []

    run(main)


def test_several_errors_stay_a_group_without_the_cancellations(run: Run[None]) -> None:
    async def two_fail() -> None:
        async def fail_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("two")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep(0.001)
            raise ValueError("one")

    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(BaseExceptionGroup) as raised:
                await guest.call(two_fail)
            assert {type(error) for error in raised.value.exceptions} == {ValueError, KeyError}

    run(main)


def test_trio_keeps_its_own_time_and_io_while_it_is_a_guest(run: Run[None]) -> None:
    async def talk_over_a_socket() -> bytes:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, _shout, listeners)
            port = listeners[0].socket.getsockname()[1]
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"hello")
                await trio.sleep(0.01)
                answer = await stream.receive_some()
            nursery.cancel_scope.cancel()
        return bytes(answer)

    async def main() -> None:
        async with open_guest(nothing) as guest:
            assert await guest.call(talk_over_a_socket) == b"HELLO"

    run(main)


async def _shout(stream: trio.SocketStream) -> None:
    await stream.send_all((await stream.receive_some()).upper())
