"""Bounds on request bodies, over real sockets and on both event loops."""

import os
from functools import partial

import pytest

from tests.gateway.raw_client import post
from tests.gateway.server_thread import LOOPS, Serving, serving_on


@pytest.fixture(params=sorted(LOOPS))
def serving(request: pytest.FixtureRequest) -> Serving:
    return partial(serving_on, request.param)


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(serving: Serving) -> None:
    with serving(body={"bytes_max": 1_000, "linger_s": 0.2}) as server, server.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n")
        answer = client.answer()
        assert answer.status == 413
        assert answer.problem()["code"] == "body_too_large"
        assert client.rest() == b""


def test_an_application_that_began_to_answer_is_not_interrupted_by_a_refusal(serving: Serving) -> None:
    head = b"POST /stream HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving(body={"bytes_max": 10}) as server, server.client() as client:
        client.send(head + b"64\r\n" + b"c" * 100 + b"\r\n0\r\n\r\n")
        assert client.answer().body == b"begun, http.disconnect"


def test_a_client_that_sends_its_too_large_body_anyway_reads_the_refusal(serving: Serving) -> None:
    with serving(body={"bytes_max": 1_000}) as server, server.client() as client:
        client.send(post("/echo", b"b" * 4 * 2**20))
        assert client.answer().status == 413


def test_a_chunked_body_is_counted_as_it_comes(serving: Serving) -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"64\r\n" + b"c" * 100 + b"\r\n"
    with serving(body={"bytes_max": 1_000, "linger_s": 0.2}) as server:
        with server.client() as client:
            assert client.ask(head + chunk * 10 + b"0\r\n\r\n").body == b"c" * 1_000
        with server.client() as client:
            client.send(head)
            for _ in range(11):
                client.send(chunk)
            assert client.answer().problem()["code"] == "body_too_large"
            server.wait_for(("echo", "disconnected"))
            assert client.rest() == b""


def test_a_body_of_exactly_the_limit_passes(serving: Serving) -> None:
    with serving(body={"bytes_max": 2**20}) as server, server.client() as client:
        body = os.urandom(2**20)
        assert client.ask(post("/echo", body)).body == body
