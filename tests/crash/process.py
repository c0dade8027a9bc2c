"""The server as a separate process, from the campaign's side."""

import contextlib
import json
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs

from tests.crash.server import Orders

ROOT: Final = Path(__file__).parent.parent.parent
PATIENCE_S: Final = 30.0
"""No start and no end takes this long unless something hangs."""


class ServerProcess:
    """A server that has loaded its code and waits for its orders, so that restarts are fast.

    Args:
        log: the file for its standard error.
    """

    def __init__(self, log: Path) -> None:
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.server"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for the campaign, which ends its servers itself.
                start_new_session=True,
                bufsize=0,
            )
        self._read = b""

    def begin(self, orders: Orders) -> None:
        """Let it open its directory and serve."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(json.dumps(attrs.asdict(orders)).encode() + b"\n")

    def line(self, timeout_s: float) -> str | None:
        """The next line that it says; an empty one if none came in time, nothing once it is dead."""
        assert self._popen.stdout is not None
        while b"\n" not in self._read:
            if not select.select([self._popen.stdout], [], [], timeout_s)[0]:
                return ""
            more = self._popen.stdout.read(4_096)
            if not more:
                return None
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def kill(self) -> int:
        """Kill the server, if it runs, and return how it ended."""
        self._popen.kill()
        return self._ended()

    def tell_to_stop(self) -> None:
        """Tell the server to stop gracefully, without waiting for that."""
        self._popen.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Stop the server gracefully, and return its exit code."""
        self.tell_to_stop()
        try:
            return self._ended()
        except subprocess.TimeoutExpired:
            return self.kill()

    def _ended(self) -> int:
        code = self._popen.wait(PATIENCE_S)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return code
