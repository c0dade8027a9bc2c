"""The HTTP server: uvicorn with trio as its guest, started, drained and stopped in order.

`serve` owns the signals. The first SIGTERM, SIGINT or SIGHUP begins the drain: `Drain.begun` turns true at once, so
that readiness fails and long polls are answered early. The listener stays open until the open requests have ended,
for at most `drain_s`. Then it closes, then trio's side closes in order, and the exit code is 0. A second signal ends
the process at once, with 128 + its number, after flushing the logs. If SIGHUP is ignored, as under nohup, it stays
ignored.

    CannotListen    the address cannot be listened on; the command line exits with 2

An error that ends trio's side is raised unchanged. See docs/adr/0002-uvicorn-with-trio-as-guest.md.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

import attrs
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore.gateway.server.protocol import BoundedConfig, Problem, ServerLimits
from opscore.runtime.hosting import Guest, open_guest

T = TypeVar("T")

BACKLOG = 2_048
LAST_GRACE_S = 1.0
"""After the drain's time is up: the time that cancelled requests have to answer before their connections are cut."""

logger = logging.getLogger("opscore.gateway.server")


class CannotListen(Exception):
    """The server cannot listen on the given address."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        super().__init__(f"cannot listen on {host} port {port}: {reason}")


@attrs.frozen(kw_only=True)
class Address:
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


class Drain:
    """A flag, set once, that the server is to stop; readiness and long polls check it."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def begun(self) -> bool:
        """Whether the server is stopping."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Begin to stop; to be called in the event loop's thread. Further calls change nothing."""
        if not self.begun:
            self._begun.set()
            for callback in self._callbacks:
                callback()

    async def wait(self) -> None:
        """Wait until the server begins to stop."""
        await self._begun.wait()

    def on_begin(self, callback: Callable[[], object]) -> None:
        """Call a function when the drain begins, or now if it already has."""
        if self.begun:
            callback()
        else:
            self._callbacks.append(callback)

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call a function when the drain begins, if that happens within the block."""
        self._callbacks.append(callback)
        try:
            yield
        finally:
            self._callbacks.remove(callback)


def run(
    open_value: Callable[[], AbstractAsyncContextManager[T]],
    build_app: Callable[[Guest[T], Drain], ASGIApp],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: ServerLimits = ServerLimits(),
    on_listening: Callable[[Address], object] | None = None,
) -> int:
    """Serve until told to stop, on an event loop of its own: uvloop if it is installed.

    Takes, returns and raises the same as `serve`.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(open_value, build_app, host=host, port=port, limits=limits, on_listening=on_listening))


async def serve(
    open_value: Callable[[], AbstractAsyncContextManager[T]],
    build_app: Callable[[Guest[T], Drain], ASGIApp],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: ServerLimits = ServerLimits(),
    on_listening: Callable[[Address], object] | None = None,
    drain: Drain | None = None,
    handle_signals: bool = True,
) -> int:
    """Open trio's side, serve an ASGI application beside it, and close both in order.

    It listens first, so that a port in use is known before the runtime starts anything; clients that come early
    wait in the backlog. Cancelling stops the server without time to drain.

    Args:
        open_value: Makes the trio context manager to hold open, such as a runtime.
        build_app: Makes the application, given the guest to call and the drain to check.
        host: The address or name to listen on.
        port: The port, or 0 for a free one.
        limits: Limits on what clients may use.
        on_listening: Called with the address once requests are served.
        drain: Begin it to stop the server; by default the server makes its own.
        handle_signals: Handle SIGTERM, SIGINT and SIGHUP; never done outside the main thread.

    Returns:
        The exit code: 0.

    Raises:
        CannotListen: The port is in use or forbidden, or the host is not an address of this machine.
        BaseException: Whatever opening, holding or closing trio's side raised.
    """
    drain = Drain() if drain is None else drain
    with _listening(host, port) as listener, _signals(drain.begin, wanted=handle_signals):
        async with AsyncExitStack() as stack:
            guest = None if drain.begun else await _opened(stack, open_value, drain)
            if guest is None:
                return 0
            server = _Server(_contained(build_app(guest, drain)), limits)
            await _serve(server, listener, guest, drain, on_listening)
    return 0


async def _opened(
    stack: AsyncExitStack, open_value: Callable[[], AbstractAsyncContextManager[T]], drain: Drain
) -> Guest[T] | None:
    """Open the guest; give up and return None if the drain begins before it is open."""
    task = asyncio.current_task()
    assert task is not None
    with drain.calling(task.cancel):
        try:
            return await stack.enter_async_context(open_guest(open_value))
        except asyncio.CancelledError:
            if not drain.begun:
                raise
            task.uncancel()
            return None


async def _serve(
    server: "_Server",
    listener: socket.socket,
    guest: Guest[T],
    drain: Drain,
    on_listening: Callable[[Address], object] | None,
) -> None:
    serving = asyncio.create_task(server.serve([listener]))
    listening, stopping, guest_over = (
        asyncio.create_task(wait) for wait in (server.listening.wait(), drain.wait(), guest.wait_ended())
    )
    ends = {serving, stopping, guest_over}
    try:
        await asyncio.wait({*ends, listening}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            host, port = listener.getsockname()[:2]
            if on_listening is not None:
                on_listening(Address(host=host, port=port))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        drain.begin()
        await server.stop(serving)
    finally:
        for task in (listening, stopping, guest_over):
            task.cancel()
        await asyncio.gather(listening, stopping, guest_over, return_exceptions=True)
        await server.cut(serving)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which ends the process before `finally` blocks run."""

    def __init__(self, app: ASGIApp, limits: ServerLimits) -> None:
        super().__init__(BoundedConfig(app, limits))
        self.listening = asyncio.Event()
        self._limits = limits

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def stop(self, serving: "asyncio.Task[None]") -> None:
        """Wait until the open requests have ended, then close the listeners and the remaining connections."""
        under_way = set(self.server_state.tasks)
        logger.info("draining: %d requests under way", len(under_way))
        try:
            async with asyncio.timeout(self._limits.drain_s):
                if under_way:
                    await asyncio.wait(under_way)
                self.should_exit = True
                await asyncio.wait({serving})
        except TimeoutError:
            logger.warning("requests still under way after %g s are cut off", self._limits.drain_s)

    async def cut(self, serving: "asyncio.Task[None]") -> None:
        """End what still runs: cancel the requests, which then answer 503, and finally cut the connections."""
        self.should_exit = True
        for task in tuple(self.server_state.tasks):
            task.cancel()
        await asyncio.wait({serving}, timeout=0 if serving.done() else LAST_GRACE_S)
        self.force_exit = True
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        await serving


def _contained(app: ASGIApp) -> ASGIApp:
    """Answer in problem+json if the application fails or is cut off before it answers."""

    async def contained(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            detail = "The server stopped before the request had ended; whether it took effect is unknown."
            with contextlib.suppress(RuntimeError):  # The application had begun to answer: uvicorn cuts the connection.
                await Problem(status=503, code="stopped", detail=detail, retry_after_s=1)(scope, receive, send)
        except Exception as error:
            detail = "The server failed to handle the request; its log has the reason."
            try:
                await Problem(status=500, code="internal_error", detail=detail)(scope, receive, send)
            except RuntimeError:
                raise error from None
            logger.exception("%s %s failed", scope["method"], scope["path"])

    return contained


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        # A name with more than 63 characters between two dots can't even be looked up.
        raise CannotListen(host, port, "the host name is unknown") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise CannotListen(host, port, _reason(error)) from None
        yield listener


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there; stop it or choose another port"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "permission denied; ports below 1024 usually need privileges"
    if error.errno == errno.EADDRNOTAVAIL:
        return "it is not an address of this machine"
    return os.strerror(error.errno or 0)


@contextmanager
def _signals(on_first: Callable[[], object], *, wanted: bool) -> Iterator[None]:
    """Turn the first SIGTERM, SIGINT or SIGHUP into a call in the event loop, and let the second end the process."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    seen = False

    # Not `loop.add_signal_handler`: its callbacks wait for the loop, and the second signal is for a loop that
    # hangs.
    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            _exit_at_once(128 + number)
        seen = True
        loop.call_soon_threadsafe(on_first)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_at_once(code: int) -> NoReturn:
    with contextlib.suppress(Exception):
        logger.warning("a second signal: exiting at once with exit code %d", code)
        logging.shutdown()
        sys.stdout.flush()
    os._exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 — not available on every platform.
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
