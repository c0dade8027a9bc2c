"""Trio as a guest of a running asyncio loop, and calls between the two.

Both loops share one thread: a call is a trio task started from asyncio, and its result is set straight on the
awaiter's future. What runs inside is up to the caller, who names one trio context manager to hold open::

    async with open_guest(open_runtime) as guest:  # asyncio, with or without uvloop
        await guest.call(guest.value.trigger, request)  # `trigger` runs in trio

In the other direction, `guest.call_host` runs an asyncio function for a trio task.
Inside a call, sniffio and anyio see trio, outside asyncio. See docs/adr/0002-uvicorn-with-trio-as-guest.md.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Generic, ParamSpec, TypeVar

import attrs
import trio
from outcome import Error, Outcome

from opscore.actors.groups import unwrapped
from opscore.runtime.errors import OpscoreError

T = TypeVar("T")
R = TypeVar("R")
ArgumentsT = ParamSpec("ArgumentsT")

TICKS_MAX = 8
"""Passes of trio's scheduler within one pass of the host's, while trio has something to run."""


class GuestClosed(OpscoreError):
    """The trio side is closing or gone, so a call was refused or, if it had `begun`, cut short."""

    code = "guest_closed"

    def __init__(self, *, begun: bool) -> None:
        self.begun = begun
        super().__init__(
            "the call was cut short because the runtime closed; its outcome is unknown"
            if begun
            else "the runtime is closing and takes no calls; nothing was done"
        )


class GuestEnded(OpscoreError):
    """The trio side ended by itself, without an error."""

    code = "guest_ended"

    def __init__(self) -> None:
        super().__init__("the runtime ended by itself, without an error")


@attrs.frozen(kw_only=True)
class GuestStatistics:
    """Counts of the calls from asyncio into trio."""

    calls_open: int
    """Calls whose trio task still runs."""
    calls_begun: int
    """Calls since the guest was opened."""


class Guest(Generic[T]):
    """A trio run inside the running asyncio loop; `open_guest` makes one."""

    value: T
    """What the trio context manager yielded, such as a `Node`, whose plain methods may be called from asyncio."""

    def __init__(self, open_value: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "a loop can have one guest at a time: to open several runtimes, "
                "open them in one context manager, and give that to `open_guest`"
            )
        self._open_value = open_value
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[bool] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._close_ordered = False
        self._close = trio.Event()
        self._opening_scope = trio.CancelScope()
        self._calls_open = 0
        self._calls_begun = 0
        self._nursery: trio.Nursery
        # uvloop, asyncio's signal handlers and trio all want the process's only signal wakeup descriptor. The host
        # keeps it: trio waits for I/O in another thread, and handles no signals.
        trio.lowlevel.start_guest_run(
            self._hold_open,
            run_sync_soon_threadsafe=self._loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=_Ticks(self._loop).run_soon,
            done_callback=self._note_end,
            host_uses_signal_set_wakeup_fd=True,
        )
        self._token = trio.lowlevel.current_trio_token()

    async def call(
        self, async_fn: Callable[ArgumentsT, Awaitable[R]], /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs
    ) -> R:
        """Run an async function as a trio task, from asyncio, and wait for its result.

        The call sees the caller's context variables. Cancelling the caller cancels the trio task and waits
        until it has ended; an error of the task then replaces the cancellation, a result does not.

        Args:
            async_fn: An async function written for trio.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            What the function returned.

        Raises:
            GuestClosed: Closing had begun (`begun` is false), or began while the call ran (`begun` is true).
            RuntimeError: It is called in another loop than the one that opened the guest; nothing was done.
            TypeError: It was given a coroutine, or a function that is not async.
            BaseException: Whatever the function raised, unchanged.
        """
        if _running_loop() is not self._loop:
            # Trio would start the task in the run of this thread, if there is one, and break both runs.
            raise RuntimeError(
                "a guest is called in the loop that opened it: from another thread "
                "`asyncio.run_coroutine_threadsafe(guest.call(…), loop)`"
            )
        if self._closing:
            raise GuestClosed(begun=False)
        call: _Call[R] = _Call(self._loop.create_future())
        # Trio's synchronous functions may be called in the host's thread, and a burst of calls wakes it only once.
        self._nursery.start_soon(self._answer, call, async_fn, args, kwargs, name=async_fn)
        try:
            return await call.reply
        except asyncio.CancelledError:
            if call.running:
                call.over = self._loop.create_future()
                self._token.run_sync_soon(call.scope.cancel)
                await _outlast(call.over)
            if call.error is not None:
                raise call.take_error() from None
            raise
        finally:
            # The traceback of a raised error holds this frame; without this, each error would be a reference cycle.
            del call

    async def call_host(
        self,
        async_fn: Callable[ArgumentsT, Coroutine[Any, Any, R]],
        /,
        *args: ArgumentsT.args,
        **kwargs: ArgumentsT.kwargs,
    ) -> R:
        """Run an async function as a task of the host's loop, from trio, and wait for its result.

        This is how the function of an agent uses a library that needs asyncio. The task sees the caller's context
        variables. Cancelling the caller cancels the task and waits until it has ended; an error of the task then
        replaces the cancellation, a result does not.

        Args:
            async_fn: An async function written for asyncio.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            What the function returned.

        Raises:
            RuntimeError: It is called outside of the guest's trio, and nothing was done; or something else than the
                caller cancelled the task.
            BaseException: Whatever the function raised, unchanged.
        """
        if not (trio.lowlevel.in_trio_task() and trio.lowlevel.current_trio_token() is self._token):
            raise RuntimeError("`guest.call_host` is called in the guest's trio; in asyncio, await the function itself")
        task = self._loop.create_task(async_fn(*args, **kwargs))
        ended = trio.Event()
        task.add_done_callback(lambda _: ended.set())
        try:
            try:
                await ended.wait()
            except trio.Cancelled:
                task.cancel()
                with trio.CancelScope(shield=True):
                    await ended.wait()
                if task.cancelled() or task.exception() is None:
                    raise
            if task.cancelled():
                raise RuntimeError("the task in the host's loop was cancelled, and not by its caller")
            return task.result()
        finally:
            del task  # As in `call`, because the error's traceback holds this frame.

    async def wait_ended(self) -> None:
        """Wait until the trio run is over.

        Returns once the run has ended because its block was left. Cancelling the wait does no harm.

        Raises:
            GuestEnded: The run ended by itself without an error.
            BaseException: The error with which the run ended.
        """
        await asyncio.shield(self._ended)

    def statistics(self) -> GuestStatistics:
        """Return the counts of calls."""
        return GuestStatistics(calls_open=self._calls_open, calls_begun=self._calls_begun)

    async def _hold_open(self) -> None:
        with self._opening_scope:
            async with self._open_value() as self.value, trio.open_nursery() as self._nursery:
                self._opened.set_result(True)
                try:
                    await self._close.wait()
                finally:
                    self._closing = True
                    self._nursery.cancel_scope.cancel()

    def _note_end(self, result: Outcome[None]) -> None:
        self._closing = True
        if isinstance(result, Error):
            self._ended.set_exception(unwrapped(result.error))
        elif self._close_ordered:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(GuestEnded())
        if not self._opened.done():
            self._opened.set_result(False)

    async def _answer(
        self,
        call: "_Call[R]",
        async_fn: Callable[..., Awaitable[R]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._calls_open += 1
        self._calls_begun += 1
        try:
            with call.scope:
                call.succeed(await _begin(async_fn, args, kwargs))
        except BaseException as error:  # noqa: BLE001 — every error belongs to the awaiter.
            call.fail(_reason(error))
        finally:
            call.end()
            self._calls_open -= 1
            del call  # As in `call`, because the error's traceback holds this frame.

    async def _leave(self) -> None:
        self._closing = self._close_ordered = True
        self._close.set()
        if not self._opened.done():
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._opening_scope.cancel)
        interrupted = await _outlast(self._ended)
        self._ended.result()
        if interrupted:
            raise asyncio.CancelledError


class _Ticks:
    """Runs a few passes of trio before the host's loop polls its sockets again.

    A call takes about three passes of trio: its own start, the actor that it asks, its own end. With a pass of the
    host between them, most of the time would go into polling two event loops in turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next: Callable[[], object] | None = None
        self._scheduled = False

    def run_soon(self, tick: Callable[[], object]) -> None:
        assert self._next is None, "trio has one pass to run at a time"
        self._next = tick
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        for _ in range(TICKS_MAX):
            tick, self._next = self._next, None
            if tick is None:
                self._scheduled = False
                return
            tick()
        self._loop.call_soon(self._run)


class _Call(Generic[R]):
    """One call under way: the scope that ends it and the futures that wait for it."""

    __slots__ = ("error", "over", "reply", "running", "scope")

    def __init__(self, reply: "asyncio.Future[R]") -> None:
        self.reply = reply
        self.scope = trio.CancelScope()
        self.running = True
        # Cancelling the awaiter also cancels its future, so these two hold what happens after that.
        self.error: BaseException | None = None
        self.over: asyncio.Future[None] | None = None

    def succeed(self, result: R) -> None:
        if not self.reply.done():
            self.reply.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)
        if not isinstance(error, GuestClosed):
            self.error = error

    def take_error(self) -> BaseException:
        assert self.error is not None
        if not self.reply.cancelled():
            self.reply.exception()  # Otherwise asyncio reports it as never retrieved.
        return self.error

    def end(self) -> None:
        self.running = False
        if self.over is not None:
            self.over.set_result(None)


@asynccontextmanager
async def open_guest(open_value: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[Guest[T]]:
    """Run trio as a guest of the running asyncio loop for as long as the block lasts.

    Leaving the block, however it is left, cancels the calls under way, leaves the context manager in trio
    and waits for the trio run to end. A cancellation during that time is delayed until it is done. A loop can
    have one guest at a time.

    Args:
        open_value: Makes the context manager that trio enters and holds open, such as a runtime.

    Yields:
        The guest, once the context manager is entered.

    Raises:
        RuntimeError: The loop has a guest already, or there is no running loop.
        BaseException: What entering, holding or leaving the context manager raised, taken out of exception
            groups that hold nothing else.
    """
    guest = Guest(open_value)
    try:
        if await asyncio.shield(guest._opened):  # noqa: SLF001 — the guest's own other half.
            yield guest
    finally:
        await guest._leave()  # noqa: SLF001


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _outlast(future: "asyncio.Future[Any]") -> bool:
    """Wait for a future despite any number of cancellations, and return whether there was one."""
    interrupted = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            interrupted = True
    return interrupted


def _begin(async_fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
    if inspect.iscoroutine(async_fn):
        async_fn.close()
        raise TypeError("a guest calls the function itself: `guest.call(function, …)`, not `guest.call(function(…))`")
    begun: object = async_fn(*args, **kwargs)
    if not isinstance(begun, Awaitable):
        raise TypeError(f"{getattr(async_fn, '__qualname__', async_fn)} is not async: call it without `guest.call`")
    return begun


def _reason(error: BaseException) -> BaseException:
    """Return the error without trio's cancellations, which mean nothing to asyncio."""
    if isinstance(error, BaseExceptionGroup):
        _, rest = error.split(trio.Cancelled)
        return GuestClosed(begun=True) if rest is None else rest
    return GuestClosed(begun=True) if isinstance(error, trio.Cancelled) else error
