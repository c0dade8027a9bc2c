"""Guests for the tests of the bridge, and the event loops that host them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
import uvloop

R = TypeVar("R")
Run = Callable[[Callable[[], Coroutine[Any, Any, R]]], R]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_on(loop_name: str, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run an asyncio function to its end on a loop of that kind."""
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        return runner.run(main())


class Journal:
    """A trio context manager that writes down what happens to it."""

    def __init__(self, *, entering_takes_s: float = 0, leaving_takes_s: float = 0) -> None:
        self.entries: list[str] = []
        self.entering_takes_s = entering_takes_s
        self.leaving_takes_s = leaving_takes_s
        self.may_leave = True
        """Whether leaving comes to its end; the host changes it, which can't set an event of the guest."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        try:
            await trio.sleep(self.entering_takes_s)
            self.entries.append("entered")
            yield "value"
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.leaving_takes_s)
                while not self.may_leave:
                    await trio.sleep(0.001)
            self.entries.append("left")


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


async def echo(value: str) -> str:
    await trio.lowlevel.checkpoint()
    return value


async def fail_with(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error
