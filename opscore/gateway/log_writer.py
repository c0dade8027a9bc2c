"""A log that holds nobody up: a thread of its own writes the lines, and those that find no room are counted.

Standard error is often a pipe, and a write to a full one waits until somebody reads. In the event loop's thread that
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
"""What may wait to be written; a line that comes while there is more is dropped."""
FLUSH_S: Final = 1.0
"""How long the end of the process waits for what is still to be written."""


@attrs.frozen
class _Line:
    text: bytes
    dropped_before: int
    """How many lines had been dropped when it came."""


class LogWriter(logging.Handler):
    """Renders each record where it is logged, and has a thread write it to a descriptor.

    Lines keep their order. Where some were dropped a line in their place says how many.

    Args:
        descriptor: what is written to; it stays open.
        encoding: of the text; characters that it lacks are written as escapes.
        waiting_bytes_max: see `WAITING_BYTES_MAX`.
    """

    def __init__(self, descriptor: int, *, encoding: str = "utf-8", waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding
        self._waiting_bytes_max = waiting_bytes_max
        # A signal's handler that logs may interrupt its `put` and call it again: `queue.Queue` would hang then.
        self._lines: SimpleQueue[_Line | threading.Event] = SimpleQueue()
        # Who logs writes the first two of these, the thread the others: none of them needs a lock.
        self._given_bytes = 0
        self._dropped = 0
        self._taken_bytes = 0
        self._failed = 0
        self._told = 0
        self._cut_short = False
        threading.Thread(target=self._run, name="opscore-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Render a record, and leave it to the thread."""
        try:
            text = self._rendered(record)
        except Exception:  # noqa: BLE001 (as every handler does it: a record that can't be rendered is told of)
            self.handleError(record)
            return
        if self._given_bytes - self._taken_bytes > self._waiting_bytes_max:
            self._dropped += 1
            return
        self._given_bytes += len(text)
        self._lines.put(_Line(text, self._dropped))

    def flush(self) -> None:
        """Wait until what was logged so far is written, `FLUSH_S` at most."""
        self.written()

    def written(self, within_s: float = FLUSH_S) -> bool:
        """Wait until what was logged so far is written, or has failed to be; `False` where it takes longer."""
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
        """Say how many lines are missing here, if any are; where that can't be written either, it is said later."""
        missing = dropped + self._failed - self._told
        if missing:
            message, level = "%d lines of the log are missing: they could not be written in time", logging.WARNING
            record = logging.LogRecord("opscore.gateway.log", level, "", 0, message, (missing,), None)
            if self._write(self._rendered(record)):
                self._told += missing

    def _write(self, text: bytes) -> bool:
        # What a full disk cut short has no end of its line.
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
        """Wait on a descriptor that somebody who shares it has set not to block."""
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        room.poll()
