"""Requests that are sent before the former ones are answered, over real sockets and on both event loops."""

import asyncio
import socket
import time
from functools import partial

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from opscore.gateway.protocol import BoundedConfig, BoundedProtocol, ServerLimits
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
def test_no_more_is_read_while_requests_wait_whatever_their_bodies(loop_name: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        most = runner.run(_most_bytes_waiting(post("/", b"b" * 60_000) * 60))
    assert 0 < most < 2**19


async def _most_bytes_waiting(requests: bytes) -> int:
    """Send requests to an application that reads no bodies; return how much of them waited at most."""
    waiting_bytes, loop = [0], asyncio.get_running_loop()

    async def answer(_: Scope, __: Receive, send: Send) -> None:
        await asyncio.sleep(0.005)
        waiting_bytes.append(sum(len(cycle.body) for cycle, _ in protocol.pipeline))
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    protocol = BoundedProtocol(BoundedConfig(answer, ServerLimits()), ServerState(), {})
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        await loop.connect_accepted_socket(lambda: protocol, ours)
        await loop.sock_sendall(theirs, requests + GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        while await loop.sock_recv(theirs, 2**16):
            pass
    return max(waiting_bytes)
