"""The log never holds up who logs, and says what it lacks."""

import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from opscore.gateway.process.log_writer import LogWriter
from opscore.gateway.server.server import Address
from tests.gateway.gateway_process import API_KEY, PATIENCE_S, command, environment
from tests.gateway.raw_client import Client

MISSING = "{} lines of the log are missing: they could not be written in time"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    outlet, inlet = os.pipe()
    yield outlet, inlet
    for each in (outlet, inlet):
        os.close(each)


def fill(inlet: int) -> int:
    """Write to a pipe until it takes no more; return how much it took."""
    os.set_blocking(inlet, False)
    filled = 0
    try:
        while True:
            filled += os.write(inlet, b".")
    except BlockingIOError:
        return filled
    finally:
        os.set_blocking(inlet, True)


def take(outlet: int, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        taken += os.read(outlet, size - len(taken))
    return taken


def log(writer: LogWriter, message: str, **fields: Any) -> None:
    writer.handle(logging.makeLogRecord({"msg": message, **fields}))


def test_what_is_logged_is_written_in_order_by_the_time_it_is_waited_for(pipe: tuple[int, int]) -> None:
    outlet, inlet = pipe
    writer = LogWriter(inlet)
    for number in range(1_000):
        log(writer, str(number))
    assert writer.written(PATIENCE_S)
    expected = "".join(f"{number}\n" for number in range(1_000)).encode()
    assert take(outlet, len(expected)) == expected


def test_who_logs_waits_for_nobody_and_the_log_says_how_many_lines_it_lacks(pipe: tuple[int, int]) -> None:
    outlet, inlet = pipe
    filled = fill(inlet)
    writer = LogWriter(inlet, waiting_bytes_max=30)
    for number in range(8):
        log(writer, f"line {number}...")
    assert not writer.written(0.05)
    take(outlet, filled)
    assert writer.written(PATIENCE_S)
    kept = b"".join(b"line %d...\n" % number for number in range(4))
    said = MISSING.format(4).encode() + b"\n"
    assert take(outlet, len(kept + said)) == kept + said
    log(writer, "goes on")
    assert take(outlet, 8) == b"goes on\n"


def test_what_could_not_be_written_is_counted_and_a_line_that_was_cut_short_ends(tmp_path: Path) -> None:
    # Written by a process of its own, because a limit on the size of files is one of a process.
    program = f"""if True:
        import logging, os, resource
        from opscore.gateway.process.log_writer import LogWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, resource.RLIM_INFINITY))
        writer = LogWriter(os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        for text in ("one", "two", "three"):
            writer.handle(logging.makeLogRecord({{"msg": text}}))
        writer.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.handle(logging.makeLogRecord({{"msg": "four"}}))
        writer.flush()
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)
    assert (tmp_path / "log").read_text().splitlines() == ["one", "tw", MISSING.format(2), "four"]


def test_a_descriptor_that_somebody_has_set_not_to_block_is_waited_for(pipe: tuple[int, int]) -> None:
    outlet, inlet = pipe
    filled = fill(inlet)
    os.set_blocking(inlet, False)
    writer = LogWriter(inlet)
    log(writer, "one")
    assert not writer.written(0.05)
    take(outlet, filled)
    assert take(outlet, 4) == b"one\n"


def test_characters_that_the_stream_lacks_are_written_as_escapes(pipe: tuple[int, int]) -> None:
    outlet, inlet = pipe
    log(LogWriter(inlet, encoding="ascii"), "grün")
    assert take(outlet, 8) == b"gr\\xfcn\n"


def test_what_is_logged_at_the_very_end_of_a_process_is_written() -> None:
    program = """if True:
        import logging
        from opscore.gateway.process import telemetry
        from opscore.gateway.settings.config import Settings
        telemetry.configure(Settings())
        for number in range(500):
            logging.getLogger("opscore").info("%d", number)
        raise SystemExit(3)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 3
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == [str(each) for each in range(500)]


class Unread:
    """A server whose log nobody reads: standard error is a pipe that is full."""

    def __init__(self, directory: Path, *options: str, **variables: str) -> None:
        self._outlet, self._inlet = os.pipe()
        self.popen = subprocess.Popen(
            command("serve", "--data", str(directory / "data"), "--port", "0", *options),
            cwd=directory,
            env=environment(variables),
            stderr=self._inlet,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.wait(PATIENCE_S)
        os.close(self._inlet)
        os.close(self._outlet)

    def fill(self) -> None:
        fill(self._inlet)

    def port(self) -> int:
        """Read the log until the server listens, and then no more."""
        said = b""
        while b"listening on" not in said:
            assert self.popen.poll() is None, said
            if select.select([self._outlet], [], [], 0.1)[0]:
                said += os.read(self._outlet, 4_096)
        self.fill()
        return int(said.partition(b"listening on http://127.0.0.1:")[2].partition(b",")[0])


def test_a_server_whose_log_nobody_reads_goes_on_and_ends_in_order(tmp_path: Path) -> None:
    with Unread(tmp_path, OPSCORE_API_KEY=API_KEY) as server:
        port = server.port()
        for _ in range(3):
            # Each is worth a line of the log.
            with Client(Address(host="127.0.0.1", port=port)) as client:
                assert client.ask(b"no request at all\r\n\r\n").status == 400
        assert httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False, timeout=PATIENCE_S).status_code == 200
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(PATIENCE_S) == 0


def test_a_server_that_fails_ends_though_nobody_reads_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(b"no store" * 10_000)
    with Unread(tmp_path, OPSCORE_API_KEY=API_KEY, OPSCORE_STRAY="warned of") as server:
        server.fill()
        assert server.popen.wait(PATIENCE_S) == 2
