"""The flow control of a connection: how far it is read, and the timeout of a client that reads nothing."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """Flow control that reads no further while much that was read still waits; uvicorn would, after each answer."""

    def __init__(self, transport: asyncio.Transport, is_held: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_held = is_held

    def resume_reading(self) -> None:
        """Read on, unless too much that was read before is still waiting."""
        if self._is_held():
            self.pause_reading()
        else:
            super().resume_reading()


class WriteClock:
    """Cuts off a client that reads nothing for too long; one that reads slowly gets its whole answer.

    Args:
        transport: The connection.
        loop: The event loop that it belongs to.
        timeout_s: How long the client may read nothing of what is written.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout_s = timeout_s
        self._left_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timeout anew, with the bytes that are left to read now; it stops once none are left."""
        self.stop()
        self._left_bytes = self._transport.get_write_buffer_size()
        if self._left_bytes:
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    def stop(self) -> None:
        """Stop the timeout, for example because more will be written: the number of bytes left proves nothing then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._left_bytes:
            self.start()
        else:
            self._transport.abort()
