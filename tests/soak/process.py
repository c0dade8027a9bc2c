"""The soaked server as a separate process: starts and stops it, takes its census, and measures it from outside."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.crash.process import PATIENCE_S, ROOT
from tests.crash.server import API_KEY
from tests.soak.server import LEAK_VARIABLE

LISTENING: Final = re.compile(rb"listening on http://127\.0\.0\.1:(\d+)")


class Soaked:
    """A running server, and its successors on the same directory and port.

    Args:
        folder: where its data directory and its log are.
        options: the options of `opscore serve`.
        leak: the name of the leak that is planted in it, or an empty string.
    """

    def __init__(self, folder: Path, options: list[str], *, leak: str = "") -> None:
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.port = 0
        self.pid = 0
        self._options = options
        self._leak = leak
        self._popen: subprocess.Popen[bytes] | None = None
        self._read = b""

    def begin(self) -> None:
        """Start the server, and wait until it listens.

        Raises:
            RuntimeError: it did not listen in time.
        """
        self.log.touch()
        seen = self.log.stat().st_size
        command = [sys.executable, "-m", "tests.soak.server", str(self.data), "--port", str(self.port), *self._options]
        with self.log.open("ab") as errors:
            self._popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "OPSCORE_API_KEY": API_KEY, LEAK_VARIABLE: self._leak},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for the soak, which ends its server itself.
                start_new_session=True,
                bufsize=0,
            )
        self.pid, self._read = self._popen.pid, b""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._popen.poll() is None:
            with self.log.open("rb") as log:
                log.seek(seen)
                said = LISTENING.search(log.read())
            if said is not None:
                self.port = int(said[1])
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server does not listen: see {self.log}")

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._popen is not None and self._popen.poll() is None

    def kill(self) -> None:
        """Kill the server, if it runs."""
        if self._popen is not None:
            self._popen.kill()
            self._over()

    def stop(self) -> int:
        """Stop the server gracefully, and return its exit code."""
        assert self._popen is not None, "it was begun"
        self._popen.send_signal(signal.SIGTERM)
        try:
            return self._over()
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def _over(self) -> int:
        assert self._popen is not None, "it was begun"
        code = self._popen.wait(PATIENCE_S)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return code

    def census(self, *, whole: bool = False) -> dict[str, dict[str, float]]:
        """Return the census of its memory; empty if it does not answer in time, or is dead."""
        assert self._popen is not None, "it was begun"
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(b"whole\n" if whole else b"look\n")
            while b"\n" not in self._read:
                if not select.select([self._popen.stdout], [], [], PATIENCE_S)[0]:
                    return {}
                more = self._popen.stdout.read(65_536)
                if not more:
                    return {}
                self._read += more
        except (OSError, ValueError):
            return {}
        line, _, self._read = self._read.partition(b"\n")
        found: dict[str, dict[str, float]] = json.loads(line)
        return found

    def outside(self) -> dict[str, float]:
        """Return the operating system's figures: memory in bytes, threads, files; empty if the server is dead."""
        process = Path(f"/proc/{self.pid}")
        try:
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            found = {"resident": "VmRSS", "anonymous memory": "RssAnon"}
            memory = {name: 1_024.0 * int(status[field].split()[0]) for name, field in found.items()}
            files = sum(1 for _ in (process / "fd").iterdir())
            stat = (process / "stat").read_text().rpartition(")")[2].split()
        except (OSError, KeyError):
            return {}
        ticks = os.sysconf("SC_CLK_TCK")
        cpu_s = (int(stat[11]) + int(stat[12])) / ticks
        return {**memory, "threads": float(status["Threads"]), "files": float(files), "cpu seconds": cpu_s}


def logged(log: Path) -> list[dict[str, Any]]:
    """Return the warnings and errors of a log, and its lines that are no records."""
    records: list[dict[str, Any]] = []
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in filter(str.strip, lines):
            try:
                record = json.loads(line)
            except ValueError:
                record = {"level": "error", "event": f"no record: {line.strip()}"}
            if record.get("level") not in ("info", "debug"):
                records.append(record)
    return records
