"""The start, drain and end of the server: in a thread, and with signals as a process of its own."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from opscore.gateway.server.server import Address, CannotListen, Drain, serve
from tests.gateway.raw_client import PATIENCE_S, Client
from tests.gateway.server_process import TrioSide, build
from tests.gateway.server_thread import LOOPS, Serving, eventually, serving_on


@pytest.fixture(params=sorted(LOOPS))
def serving(request: pytest.FixtureRequest) -> Serving:
    return partial(serving_on, request.param)


def test_a_bug_in_the_application_is_answered_500_and_told_to_the_log_alone(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as server, server.client() as client:
        answer = client.ask(b"GET /fail HTTP/1.1\r\nhost: test\r\n\r\n")
        assert answer.status == 500
        assert answer.problem()["code"] == "internal_error"
        assert b"bug" not in answer.body
    assert any(record.exc_info and "a bug" in str(record.exc_info[1]) for record in caplog.records)


def test_a_bug_after_the_answer_began_cuts_the_connection(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        client.send(b"GET /fail_late HTTP/1.1\r\nhost: test\r\n\r\n")
        assert client.rest().endswith(b"\r\n\r\n")


def test_a_client_that_leaves_does_not_end_its_call(serving: Serving) -> None:
    with serving() as server:
        with server.client() as client:
            client.send(b"GET /toil/0.2 HTTP/1.1\r\nhost: test\r\n\r\n")
            server.wait_for(("toil", "begun"))
        server.wait_for(("toil", "done"))


def test_a_long_poll_learns_that_its_client_left(serving: Serving) -> None:
    with serving() as server:
        with server.client() as client:
            client.send(b"GET /poll HTTP/1.1\r\nhost: test\r\n\r\n")
            server.wait_for(("poll", "begun"))
        server.wait_for(("poll", "client gone"))


def test_the_death_of_the_trio_side_stops_the_server_and_is_raised(serving: Serving) -> None:
    with serving(trio={"dies_after_s": 0.2}) as server:
        with server.client() as client:
            assert client.ask(b"GET /toil/60 HTTP/1.1\r\nhost: test\r\n\r\n").status == 500
        assert eventually(lambda: bool(server.results))
        assert [str(result) for result in server.results] == ["the root gave up"]
        with pytest.raises(ConnectionRefusedError):
            server.client()


def test_a_request_that_outlasts_the_drain_is_told_that_its_outcome_is_unknown(serving: Serving) -> None:
    with serving(drain_s=0.1) as server, server.client() as client:
        client.send(b"GET /toil/60 HTTP/1.1\r\nhost: test\r\n\r\n")
        server.wait_for(("toil", "begun"))
        server.stop()
        answer = client.answer()
        assert answer.status == 503
        assert answer.problem()["code"] == "stopped"
    assert server.results == [0]


def test_a_client_that_reads_nothing_cannot_hold_up_the_end(serving: Serving) -> None:
    with serving(drain_s=0.1) as server, server.client() as client:
        client.send(b"GET /flood/30 HTTP/1.1\r\nhost: test\r\n\r\n")
        time.sleep(0.1)
        server.stop()
        assert eventually(lambda: server.results == [0])


def test_who_asks_for_the_drain_is_told_when_it_begins_and_once() -> None:
    told: list[str] = []
    drain = Drain()
    drain.on_begin(lambda: told.append("before"))
    with drain.calling(lambda: told.append("gone")):
        pass
    drain.begin()
    drain.begin()
    drain.on_begin(lambda: told.append("after"))
    assert told == ["before", "after"]


def test_cancelling_the_server_closes_everything() -> None:
    notes: list[tuple[str, Any]] = []
    side = TrioSide(note=lambda *note: notes.append(note))

    async def main() -> Address:
        addresses: list[Address] = []
        serving = asyncio.create_task(serve(side.open, build({}), on_listening=addresses.append, handle_signals=False))
        while not addresses:
            await asyncio.sleep(0.005)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return addresses[0]

    address = asyncio.run(main())
    assert notes == [("opening", None), ("finally", None)]
    with pytest.raises(ConnectionRefusedError):
        Client(address)


def test_a_port_in_use_is_one_clear_sentence_and_nothing_is_opened() -> None:
    notes: list[tuple[str, Any]] = []
    side = TrioSide(note=lambda *note: notes.append(note))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1 port {port}: another process listens there"):
            asyncio.run(serve(side.open, build({}), port=port))
    assert notes == []


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "not an address of this machine"), ("no.such.host.invalid", "unknown"), ("x" * 64, "unknown")],
)
def test_a_host_that_is_not_ours_is_one_clear_sentence(host: str, reason: str) -> None:
    side = TrioSide(note=lambda *_: None)
    with pytest.raises(CannotListen, match=reason):
        asyncio.run(serve(side.open, build({}), host=host))


class Process:
    """The server as a process of its own."""

    def __init__(self, **options: Any) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.server_process", json.dumps(options)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.notes: list[tuple[str, Any]] = []
        self.address = Address(host="", port=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()

    def wait_for(self, what: str) -> None:
        assert self.popen.stdout is not None
        while not self.notes or self.notes[-1][0] != what:
            line = self.popen.stdout.readline()
            assert line, f"the process ended: {self.popen.communicate()[1]}"
            note, detail = json.loads(line)
            self.notes.append((note, detail))
            if note == "listening":
                host, _, port = detail.removeprefix("http://").partition(":")
                self.address = Address(host=host, port=int(port))

    def end(self) -> tuple[int, list[tuple[str, Any]], str]:
        """Wait for the end; return the exit code, the notes not read so far, and the log."""
        out, log = self.popen.communicate(timeout=PATIENCE_S)
        return self.popen.returncode, [tuple(json.loads(line)) for line in out.splitlines()], log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_then_closes_trio_in_order_and_exits_with_0(number: signal.Signals) -> None:
    with Process() as process:
        process.wait_for("listening")
        with Client(process.address) as working, Client(process.address) as polling:
            working.send(b"GET /toil/0.5 HTTP/1.1\r\nhost: test\r\n\r\n")
            process.wait_for("toil")
            polling.send(b"GET /poll HTTP/1.1\r\nhost: test\r\n\r\n")
            process.wait_for("poll")
            process.popen.send_signal(number)
            assert polling.answer().body == b"nothing yet"
            with Client(process.address) as probing:
                answer = probing.ask(b"GET /ready HTTP/1.1\r\nhost: test\r\n\r\n")
                assert (answer.status, answer.body) == (503, b"draining")
            assert working.answer().body == b"worked"
        code, notes, _ = process.end()
        assert code == 0
        assert notes[-2:] == [("finally", None), ("returned", 0)]
        with pytest.raises(ConnectionRefusedError):
            Client(process.address)


def test_a_hangup_that_is_ignored_as_under_nohup_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = Process()
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        process.wait_for("listening")
        process.popen.send_signal(signal.SIGHUP)
        with Client(process.address) as client:
            assert client.ask(b"GET /ready HTTP/1.1\r\nhost: test\r\n\r\n").body == b"ready"
        process.popen.send_signal(signal.SIGTERM)
        assert process.end()[0] == 0


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGHUP), 129),
    ],
    ids=["terminate twice", "then interrupt", "then hang up"],
)
@pytest.mark.parametrize("path", ["/toil/60", "/hang"])
def test_a_second_signal_exits_at_once(path: str, numbers: tuple[int, int], code: int) -> None:
    with Process() as process:
        process.wait_for("listening")
        with Client(process.address) as client:
            client.send(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
            process.wait_for(path.split("/")[1])
            for number in numbers:
                process.popen.send_signal(number)
                time.sleep(0.1)
            returncode, notes, log = process.end()
        assert returncode == code
        assert notes == []
        assert f"exiting at once with exit code {code}" in log


def test_a_signal_while_opening_gives_up_in_order() -> None:
    with Process(trio={"opening_takes_s": 60}) as process:
        process.wait_for("opening")
        process.popen.send_signal(signal.SIGTERM)
        code, notes, _ = process.end()
        assert (code, notes) == (0, [("finally", None), ("returned", 0)])


def test_a_signal_while_closing_does_not_wait_for_a_slow_close() -> None:
    with Process(trio={"closing_takes_s": 60}) as process:
        process.wait_for("listening")
        process.popen.send_signal(signal.SIGTERM)
        time.sleep(0.6)
        process.popen.send_signal(signal.SIGTERM)
        code, _, _ = process.end()
        assert code == 143


def test_the_death_of_the_trio_side_reaches_whoever_runs_the_server() -> None:
    with Process(trio={"dies_after_s": 0.1}) as process:
        process.wait_for("listening")
        code, notes, log = process.end()
        assert code == 1
        assert notes == [("finally", None), ("failed", "the root gave up")]
        assert "Traceback" not in log


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "possible", "soft_after"),
    [
        (300, 1_000, 200, 200, 756),
        (300, 1_000, 1_000, 644, 1_000),
        (1_000, 1_000, 200, 200, 1_000),
        (300, 300, 200, 1, 300),
    ],
    ids=["enough once raised", "fewer for good", "enough", "nearly none"],
)
def test_the_limit_on_open_files_is_raised_or_fewer_connections_are_taken_and_that_is_said(
    soft: int, hard: int, wanted: int, possible: int, soft_after: int
) -> None:
    script = f"""if True:
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
        from opscore.gateway.server.protocol import ServerLimits
        from opscore.gateway.service import within_files
        taken = within_files(ServerLimits(connections_max={wanted}, refusals_max=100)).connections_max
        print(taken, *resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == f"{possible} {soft_after} {hard}\n"
    sentence = f"{possible} connections are possible, fewer than connections_max = {wanted}: "
    assert (sentence in ended.stderr) is (possible < wanted)
    assert len(ended.stderr.splitlines()) == (possible < wanted)


def test_a_port_in_use_ends_the_process_with_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, Process(port=other.getsockname()[1]) as process:
        code, notes, _ = process.end()
        assert code == 2
        assert [what for what, _ in notes] == ["cannot listen"]
