"""How a guest opens, closes, dies and is cancelled, on the standard loop and on uvloop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from opscore.runtime.hosting import GuestClosed, GuestEnded, open_guest
from tests.runtime.guests import LOOPS, Journal, Run, echo, fail_with, nothing, run_on


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run[Any]:
    return partial(run_on, request.param)


@asynccontextmanager
async def failing_after(delay_s: float, error: Exception) -> AsyncIterator[None]:
    async def fail() -> None:
        await trio.sleep(delay_s)
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        yield
        nursery.cancel_scope.cancel()


def test_the_value_of_the_context_manager_is_there_and_it_is_left_in_order(run: Run[None]) -> None:
    journal = Journal()

    async def main() -> None:
        async with open_guest(journal.open) as guest:
            assert guest.value == "value"
            assert journal.entries == ["entered"]
        assert journal.entries == ["entered", "left"]

    run(main)


def test_a_call_after_closing_began_is_refused(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            pass
        with pytest.raises(GuestClosed, match="nothing was done") as refusal:
            await guest.call(echo, "late")
        assert not refusal.value.begun

    run(main)


def test_a_call_under_way_when_the_guest_closes_is_cut_short_and_told_so(run: Run[None]) -> None:
    entries: list[str] = []

    async def wait() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
        finally:
            entries.append("call left")

    async def main() -> None:
        journal = Journal()
        journal.entries = entries
        async with open_guest(journal.open) as guest:
            task = asyncio.create_task(guest.call(wait))
            await asyncio.sleep(0.01)
        with pytest.raises(GuestClosed, match="cut short") as refusal:
            await task
        assert refusal.value.begun
        assert entries == ["entered", "call left", "left"]

    run(main)


def test_an_error_while_opening_propagates_as_it_is(run: Run[None]) -> None:
    error = ValueError("no such directory")

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_with, error)
            await trio.sleep(60)
        yield

    async def main() -> None:
        with pytest.raises(ValueError, match="no such directory") as raised:
            async with open_guest(broken):
                raise AssertionError("the block ran although opening failed")
        assert raised.value is error

    run(main)


def test_an_error_while_leaving_propagates_as_it_is(run: Run[None]) -> None:
    error = ValueError("could not close")

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        yield
        raise error

    async def main() -> None:
        with pytest.raises(ValueError, match="could not close") as raised:
            async with open_guest(broken):
                pass
        assert raised.value is error

    run(main)


def test_an_error_in_the_block_leaves_the_guest_in_order_and_propagates(run: Run[None]) -> None:
    journal = Journal()

    async def main() -> None:
        with pytest.raises(ValueError, match="of the host"):
            async with open_guest(journal.open):
                raise ValueError("of the host")
        assert journal.entries == ["entered", "left"]

    run(main)


def test_cancelling_while_opening_gives_up_and_cleans_up(run: Run[None]) -> None:
    journal = Journal(entering_takes_s=60, leaving_takes_s=0.02)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), open_guest(journal.open):
                raise AssertionError("the block ran although opening was given up")
        assert journal.entries == ["left"]

    run(main)


def test_cancelling_the_block_and_its_leaving_waits_until_the_guest_is_gone(run: Run[None]) -> None:
    journal = Journal()
    journal.may_leave = False

    async def hold(opened: asyncio.Event) -> None:
        async with open_guest(journal.open):
            opened.set()
            await asyncio.sleep(60)

    async def main() -> None:
        opened = asyncio.Event()
        task = asyncio.create_task(hold(opened))
        await opened.wait()
        for _ in range(4):
            task.cancel()
            await asyncio.sleep(0.005)
        assert journal.entries == ["entered"]
        journal.may_leave = True
        with pytest.raises(asyncio.CancelledError):
            await task
        assert journal.entries == ["entered", "left"]

    run(main)


def test_cancelling_only_the_leaving_is_put_off_and_not_forgotten(run: Run[None]) -> None:
    journal = Journal()
    journal.may_leave = False

    async def hold() -> None:
        async with open_guest(journal.open):
            pass

    async def main() -> None:
        task = asyncio.create_task(hold())
        while not journal.entries:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        assert journal.entries == ["entered"]
        journal.may_leave = True
        with pytest.raises(asyncio.CancelledError):
            await task
        assert journal.entries == ["entered", "left"]

    run(main)


def test_a_guest_that_dies_tells_its_host_why(run: Run[None]) -> None:
    error = ValueError("the root gave up")

    async def hold() -> None:
        async with open_guest(lambda: failing_after(0.02, error)) as guest:
            waiting = asyncio.create_task(guest.call(trio.sleep_forever))
            with pytest.raises(ValueError, match="gave up") as told:
                await guest.wait_ended()
            assert told.value is error
            with pytest.raises(GuestClosed, match="cut short"):
                await waiting
            with pytest.raises(GuestClosed, match="nothing was done"):
                await guest.call(echo, "late")

    async def main() -> None:
        with pytest.raises(ValueError, match="gave up") as raised:
            await hold()
        assert raised.value is error

    run(main)


def test_a_guest_that_ends_by_itself_without_an_error_is_an_error(run: Run[None]) -> None:
    @asynccontextmanager
    async def short() -> AsyncIterator[None]:
        with trio.move_on_after(0.02):
            yield

    async def main() -> None:
        with pytest.raises(GuestEnded):
            async with open_guest(short) as guest:
                await guest.wait_ended()

    run(main)


def test_waiting_for_the_end_can_be_cancelled_without_harm(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await guest.wait_ended()
            assert await guest.call(echo, "alive") == "alive"
            ended = asyncio.create_task(guest.wait_ended())
            await asyncio.sleep(0)
        await ended

    run(main)


def test_one_guest_can_follow_another_on_the_same_loop(run: Run[None]) -> None:
    async def main() -> None:
        for _ in range(3):
            async with open_guest(nothing) as guest:
                assert await guest.call(echo, "again") == "again"

    run(main)


def test_a_second_guest_on_the_same_loop_is_refused_and_says_what_to_do(run: Run[None]) -> None:
    async def main() -> None:
        async with open_guest(nothing) as guest:
            with pytest.raises(RuntimeError, match="one guest at a time: to open several runtimes"):
                async with open_guest(nothing):
                    raise AssertionError
            assert await guest.call(echo, "unharmed") == "unharmed"

    run(main)
