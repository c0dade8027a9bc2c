"""A log that blocks nobody: a thread of its own writes the lines, and lines for which there is no room are counted.

Standard error is often a pipe, and writing to a full one blocks until somebody reads. In the event loop's thread that
would stop the whole server.
"""

import logging
import os
import select
import threading
from queue import SimpleQueue
from typing import Final

import attrs

WAITING_BYTES_MAX: Final = 4 * 2**20
"""How many bytes may wait to be written; while more wait, new lines are dropped."""
FLUSH_S: Final = 1.0
"""How long the end of the process waits for lines that are still to be written, in seconds."""


@attrs.frozen
class _Line:
    text: bytes
    dropped_before: int
    """How many lines had been dropped when this one was logged."""


class LogWriter(logging.Handler):
    """A handler that renders each record in the caller's thread, and has its own thread write it to a descriptor.

    Lines keep their order. If some were dropped, a line in their place says how many.

    Args:
        descriptor: the descriptor to write to; it stays open.
        encoding: the encoding of the text; characters that it lacks are written as escapes.
        waiting_bytes_max: see `WAITING_BYTES_MAX`.
    """

    def __init__(self, descriptor: int, *, encoding: str = "utf-8", waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding
        self._waiting_bytes_max = waiting_bytes_max
        # A signal handler that logs may interrupt `put` and call it again, where `queue.Queue` would hang.
        self._lines: SimpleQueue[_Line | threading.Event] = SimpleQueue()
        # Logging threads write the first two of these, the writing thread the others, so that none needs a lock.
        self._given_bytes = 0
        self._dropped = 0
        self._taken_bytes = 0
        self._failed = 0
        self._told = 0
        self._cut_short = False
        threading.Thread(target=self._run, name="opscore-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Render a record, and hand it to the thread."""
        try:
            text = self._rendered(record)
        except Exception:  # noqa: BLE001 (like every handler, this one reports a record that can't be rendered)
            self.handleError(record)
            return
        if self._given_bytes - self._taken_bytes > self._waiting_bytes_max:
            self._dropped += 1
            return
        self._given_bytes += len(text)
        self._lines.put(_Line(text, self._dropped))

    def flush(self) -> None:
        """Wait until everything logged so far is written, for at most `FLUSH_S`."""
        self.written()

    def written(self, within_s: float = FLUSH_S) -> bool:
        """Wait until everything logged so far is written or has failed; `False` if that takes longer."""
        done = threading.Event()
        self._lines.put(done)
        return done.wait(within_s)

    def _rendered(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(self._encoding, errors="backslashreplace")

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                self._tell(self._dropped)
                line.set()
                continue
            self._tell(line.dropped_before)
            self._failed += not self._write(line.text)
            self._taken_bytes += len(line.text)
            if self._lines.empty():
                self._tell(self._dropped)

    def _tell(self, dropped: int) -> None:
        """Write how many lines are missing here, if any are; if that can't be written either, it is done later."""
        missing = dropped + self._failed - self._told
        if missing:
            message, level = "%d lines of the log are missing: they could not be written in time", logging.WARNING
            record = logging.LogRecord("opscore.gateway.log", level, "", 0, message, (missing,), None)
            if self._write(self._rendered(record)):
                self._told += missing

    def _write(self, text: bytes) -> bool:
        # A line that a full disk cut short lacks its line break.
        rest = memoryview(b"\n" + text if self._cut_short else text)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                    self._cut_short = bool(rest)
                except BlockingIOError:
                    self._wait_for_room()
        except OSError:
            return False
        return True

    def _wait_for_room(self) -> None:
        """Wait for a descriptor that another process, which shares it, has set to non-blocking."""
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        room.poll()
