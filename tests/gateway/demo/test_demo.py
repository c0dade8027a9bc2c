"""The whole demo, as the process that a user starts, before a real server."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEMO = "import sys; from opscore.gateway.demo.run import main; sys.exit(main(runs=1, keep='keep' in sys.argv))"
LINE_S_MAX = 60.0


class Demo:
    """A demo under way, in a temporary directory of its own."""

    def __init__(self, process: "subprocess.Popen[str]", directory: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self._directory = directory
        self._lines = process.stdout

    def until(self, words: str) -> str:
        """Read on until a line has these words in it."""
        for line in self._lines:
            if words in line:
                return line
        raise AssertionError(words)

    def stop_reading(self) -> None:
        self._lines.close()

    def rest(self) -> str:
        return self._lines.read()

    def processes(self) -> list[str]:
        """The command lines of all processes that live in the demo's directory."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and (entry / "cwd").readlink().is_relative_to(self._directory):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
        return found

    def files(self) -> list[Path]:
        return list(self._directory.iterdir())

    def leaves_nothing(self) -> bool:
        return not self.processes() and not self.files()


@contextmanager
def a_demo(directory: Path, *more: str, **environment: str) -> Iterator[Demo]:
    with (
        (directory.parent / f"{directory.name}.err").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", DEMO, *more],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "TMPDIR": str(directory), **environment},
        ) as process,
    ):
        try:
            yield Demo(process, directory)
        finally:
            process.send_signal(signal.SIGTERM)


def test_the_demo_kills_its_server_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    with a_demo(tmp_path) as demo:
        demo.until("2 runs accepted, 14 tasks to do")
        killed = demo.until("kill -9")
        recovered = demo.until("recovered in")
        summary = demo.rest()
        assert demo.process.wait() == 0
        assert demo.leaves_nothing()
    done_before = int(re.search(r"with (\d+) of 14 tasks done", killed)[1])  # type: ignore[index]
    assert 7 <= done_before < 14
    assert f"{done_before} of {done_before} finished tasks are still finished" in recovered
    assert "2 of 2 completed" in summary
    assert "14 of 14 completed" in summary
    assert f"{done_before}, of which 0 were lost" in summary
    assert re.search(r"done twice or not at all\s+│ 0 ", summary)
    assert "Next steps" in summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_ends_every_process_and_removes_its_directory(
    number: signal.Signals, tmp_path: Path
) -> None:
    with a_demo(tmp_path) as demo:
        demo.until("runs accepted")
        # The server and three agents.
        assert len(demo.processes()) == 4
        demo.process.send_signal(number)
        assert "Interrupted" in demo.rest()
        assert demo.process.wait() == 130
        assert demo.leaves_nothing()


def test_a_demo_that_is_interrupted_while_its_server_is_dead_leaves_nothing_either(tmp_path: Path) -> None:
    with a_demo(tmp_path) as demo:
        demo.until("kill -9")
        demo.process.send_signal(signal.SIGINT)
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait() == 130
        assert demo.leaves_nothing()


def test_a_demo_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    with a_demo(tmp_path) as demo:
        demo.until("runs accepted")
        demo.process.kill()
        demo.process.wait()
        ends_at = time.monotonic() + LINE_S_MAX
        while not demo.leaves_nothing():
            assert time.monotonic() < ends_at
            time.sleep(0.05)


def test_a_demo_that_nobody_reads_any_more_ends_and_leaves_nothing(tmp_path: Path) -> None:
    with a_demo(tmp_path) as demo:
        demo.until("runs accepted")
        demo.stop_reading()
        assert demo.process.wait() == 1
        assert demo.leaves_nothing()
    assert (tmp_path.parent / f"{tmp_path.name}.err").read_text() == ""


def test_a_terminal_without_the_signs_gets_others(tmp_path: Path) -> None:
    with a_demo(tmp_path, PYTHONIOENCODING="ascii") as demo:
        demo.until("runs accepted")
        assert "????" in demo.until("/14")
        demo.process.send_signal(signal.SIGTERM)
        demo.rest()
        assert demo.process.wait() == 130


def test_a_demo_whose_server_dies_by_itself_fails_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with a_demo(tmp_path) as demo:
        pid = int(demo.until("server started as process").split("process ")[1].split(",")[0])
        demo.until("runs accepted")
        os.kill(pid, signal.SIGKILL)
        told = demo.rest()
        assert demo.process.wait() == 1
        assert demo.leaves_nothing()
    assert "The demo failed: The server ended by itself with code -9." in told
    assert "The end of the server's log:" in told
    assert "Traceback" not in told


def test_a_demo_that_is_kept_says_where_it_is_also_when_it_is_interrupted(tmp_path: Path) -> None:
    with a_demo(tmp_path, "keep") as demo:
        demo.until("runs accepted")
        demo.process.send_signal(signal.SIGINT)
        kept = Path(demo.until("Kept: ").removeprefix("Kept: ").strip())
        demo.rest()
        assert demo.process.wait() == 130
        assert demo.processes() == []
        assert demo.files() == [kept]
    assert list((kept / "data").iterdir())
    assert (kept / "server.log").exists()
