"""Requests that are sent before the former ones are answered, over real sockets and on both event loops."""

import asyncio
import socket
import struct
import time
from functools import partial

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from opscore.gateway.server.protocol import BoundedConfig, BoundedProtocol, ServerLimits
from tests.gateway.raw_client import GET, post
from tests.gateway.server_thread import LOOPS, Serving, serving_on


@pytest.fixture(params=sorted(LOOPS))
def serving(request: pytest.FixtureRequest) -> Serving:
    return partial(serving_on, request.param)


def test_more_requests_than_may_wait_end_the_connection_when_those_before_them_are_answered(serving: Serving) -> None:
    with serving(pipelined_max=4) as server:
        with server.client() as client:
            client.send(GET * 5)
            assert [client.answer().body for _ in range(5)] == [b"hello"] * 5
            assert client.ask(GET).body == b"hello"
        with server.client() as client:
            client.send(GET * 100)
            answers = client.rest()
            assert answers.count(b"hello") == 5
            assert answers.count(b"connection: close") == 1


def test_a_client_that_leaves_more_than_may_wait_behind_is_missed_by_the_request_under_way(serving: Serving) -> None:
    with serving(pipelined_max=4) as server:
        with server.client() as client:
            client.send(b"GET /poll HTTP/1.1\r\nhost: test\r\n\r\n" + GET * 100)
            server.wait_for(("poll", "begun"))
        server.wait_for(("poll", "client gone"))


@pytest.mark.parametrize("farewell", ["end", "reset"])
@pytest.mark.parametrize("pieces", [(GET,), (GET, GET), (GET * 20,), (post("/echo", b"b" * 20_000), GET[:9])])
def test_a_client_that_leaves_while_requests_wait_is_missed_by_the_one_under_way(
    serving: Serving, pieces: tuple[bytes, ...], farewell: str
) -> None:
    with serving() as server:
        with server.client() as client:
            client.send(b"GET /poll HTTP/1.1\r\nhost: test\r\n\r\n" + pieces[0])
            server.wait_for(("poll", "begun"))
            for piece in pieces[1:]:
                client.send(piece)
                time.sleep(0.02)
            if farewell == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wait_for(("poll", "client gone"))


@pytest.mark.parametrize("before", [1, 3])
def test_a_body_that_is_no_http_does_not_spoil_the_answers_before_it(serving: Serving, before: int) -> None:
    toil = b"GET /toil/0.05 HTTP/1.1\r\nhost: test\r\n\r\n"
    bad = b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n\r\n"
    with serving() as server, server.client() as client:
        client.send(toil * before + bad + GET)
        assert [client.answer().body for _ in range(before)] == [b"worked"] * before
        assert client.rest() == b""
        assert ("echo", "disconnected") not in server.notes


def test_a_client_that_leaves_is_missed_also_where_much_has_waited_before(serving: Serving) -> None:
    with serving(waiting_bytes_max=1_000) as server:
        with server.client() as client:
            client.send(GET + post("/echo", b"b" * 2_000))
            assert [len(client.answer().body) for _ in range(2)] == [len("hello"), 2_000]
            client.send(b"GET /poll HTTP/1.1\r\nhost: test\r\n\r\n" + GET)
            server.wait_for(("poll", "begun"))
        server.wait_for(("poll", "client gone"))


def test_a_client_that_does_not_read_is_not_worked_for(serving: Serving) -> None:
    work = b"GET /toil/0 HTTP/1.1\r\nhost: test\r\n\r\n"
    with serving() as server, server.client() as client:
        client.send(b"GET /flood/30 HTTP/1.1\r\nhost: test\r\n\r\n" + work)
        time.sleep(0.2)
        client.send(work)
        time.sleep(0.2)
        assert ("toil", "begun") not in server.notes
        assert [len(client.answer().body) for _ in range(3)] == [30 * 2**20, len("worked"), len("worked")]


@pytest.mark.parametrize("loop_name", sorted(LOOPS))
@pytest.mark.parametrize("pieces", [[post("/", b"b" * 60_000) * 60], [post("/", b"b" * 20_000)] * 32])
def test_no_more_is_read_while_much_waits_however_it_comes(loop_name: str, pieces: list[bytes]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        most = runner.run(_most_bytes_waiting(pieces))
    assert 0 < most < 2**19


async def _most_bytes_waiting(pieces: list[bytes]) -> int:
    """Send requests, one piece at a time, to an application that reads no bodies; return how much waited at most."""
    waiting_bytes, loop = [0], asyncio.get_running_loop()

    async def answer(_: Scope, __: Receive, send: Send) -> None:
        await asyncio.sleep(0.005 if waiting_bytes[1:] else 0.2)  # The first lasts until much has come.
        waiting_bytes.append(sum(len(cycle.body) for cycle, _ in protocol.pipeline))
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    protocol = BoundedProtocol(BoundedConfig(answer, ServerLimits()), ServerState(), {})
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        await loop.connect_accepted_socket(lambda: protocol, ours)
        for piece in [*pieces, GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")]:
            await loop.sock_sendall(theirs, piece)
            await asyncio.sleep(0.001)
        while await loop.sock_recv(theirs, 2**16):
            pass
    return max(waiting_bytes)
