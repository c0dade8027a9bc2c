"""A server at its bound of connections is busy, and not dead."""

import contextlib
from pathlib import Path

from tests.gateway.gateway_process import gateway


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode()


def test_a_connection_too_many_is_told_that_the_process_lives_and_nothing_else(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", "--connections-max", "2") as (process, _), contextlib.ExitStack() as held:
        for _ in range(2):
            client = held.enter_context(process.raw())
            assert client.ask(get("/ready")).status == 200
        for _ in range(3):
            with process.raw() as probe:
                answer = probe.ask(get("/health"))
                assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
                assert answer.headers["connection"] == "close"
                assert probe.rest() == b""
        for refused in (get("/ready"), get("/health", "POST"), get("/v1/opscore/agent")):
            with process.raw() as other:
                answer = other.ask(refused)
                assert (answer.status, answer.problem()["code"]) == (503, "too_many_connections")


def test_who_is_told_so_gets_nothing_behind_it(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", "--connections-max", "1") as (process, _), process.raw() as first:
        assert first.ask(get("/ready")).status == 200
        with process.raw() as probe:
            assert probe.ask(get("/health") + get("/health")).status == 200
            assert probe.rest() == b""
        assert first.ask(get("/health")).status == 200
