"""What flows over a connection: how far it is read, and the clock that runs while its client has something to read."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class HeldFlow(FlowControl):
    """Flow control that reads no further while much of what was read waits: uvicorn would, after each answer."""

    def __init__(self, transport: asyncio.Transport, is_held: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_held = is_held

    def resume_reading(self) -> None:
        """Read on, unless too much of what was read before is still waiting."""
        if self._is_held():
            self.pause_reading()
        else:
            super().resume_reading()


class WriteClock:
    """Cuts a client off that reads nothing for too long; one that reads slowly gets all of its answer.

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
        """Begin anew, with what is left to be read now; it stops by itself once nothing is."""
        self.stop()
        self._left_bytes = self._transport.get_write_buffer_size()
        if self._left_bytes:
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    def stop(self) -> None:
        """Stop it, as when more is going to be written: what is left says nothing then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._left_bytes:
            self.start()
        else:
            self._transport.abort()
