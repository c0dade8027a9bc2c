"""What a client may not do to the server, over real sockets and on both event loops."""

import gc
import logging
import select
import time
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from opscore.gateway.server.protocol import BoundedProtocol
from tests.gateway.raw_client import GET, PATIENCE_S, post
from tests.gateway.server_thread import LOOPS, Running, Serving, eventually, serving_on


@pytest.fixture(params=sorted(LOOPS))
def serving(request: pytest.FixtureRequest) -> Serving:
    return partial(serving_on, request.param)


def test_requests_on_one_connection_are_answered_one_after_the_other(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        assert client.ask(GET).body == b"hello"
        assert client.ask(post("/echo", b"abc")).body == b"abc"
        assert client.ask(b"GET /toil/0.01 HTTP/1.1\r\nhost: test\r\n\r\n").body == b"worked"
        client.send(GET + GET + post("/echo", b"x") + GET)
        assert [client.answer().body for _ in range(4)] == [b"hello", b"hello", b"x", b"hello"]
    assert server.results == [0]


def test_a_connection_that_is_over_is_freed_with_what_it_has_read(serving: Serving) -> None:
    with serving() as server:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                with server.client() as client:
                    assert client.ask(post("/", b"x" * 100_000)).body == b"hello"
            with server.client() as client:
                client.send(b"GET /toil/0.2 HTTP/1.1\r\nhost: test\r\n\r\n")
                time.sleep(0.05)
            assert eventually(lambda: not any(isinstance(each, BoundedProtocol) for each in gc.get_objects()))
        finally:
            gc.enable()


def test_endless_header_fields_are_refused(serving: Serving) -> None:
    with serving() as server:
        for flood in (b"x-field: " + b"v" * 200 + b"\r\n", b"v" * 4_096, b"a:\r\n"):
            with server.client() as client:
                client.send(b"GET / HTTP/1.1\r\nx-long: ")
                client.flood(flood * 10, 50 * 2**20)
                answer = client.answer()
                assert answer.status == 431
                assert answer.problem()["code"] == "header_too_large"
                assert client.rest() == b""


def test_a_client_that_floods_on_after_the_refusal_is_cut_off(serving: Serving) -> None:
    with serving(linger_s=0.2) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nx-long: ")
        assert client.flood_rudely(b"v" * 4_096, 50 * 2**20) < 20 * 2**20


def test_an_endless_request_line_is_refused(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        client.send(b"GET /")
        client.flood(b"a" * 4_096, 50 * 2**20)
        assert client.answer().problem()["code"] == "header_too_large"


def test_a_head_just_over_the_limit_is_refused_and_just_under_it_served(serving: Serving) -> None:
    with serving(header_bytes_max=1_000) as server:
        small, large = (b"GET / HTTP/1.1\r\nx-long: " + b"v" * size + b"\r\n\r\n" for size in (900, 1_000))
        with server.client() as client:
            assert client.ask(small).status == 200
            assert client.ask(post("/echo", b"b" * 5_000)).status == 200
            assert client.ask(large).status == 431
        with server.client() as client:
            # Behind a good request in the same segment it is no better: the good one alone is answered.
            client.send(small + large)
            assert client.answer().status == 200
            assert client.rest() == b""


def test_endless_trailer_fields_end_the_connection(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        client.send(b"x-trailer: ")
        client.flood(b"v" * 4_096, 50 * 2**20)
        assert client.answer().problem()["code"] == "header_too_large"
        server.wait_for(("echo", "disconnected"))


def test_a_silent_connection_is_closed_without_a_word(serving: Serving) -> None:
    with serving(request_head_timeout_s=0.1) as server, server.client() as client:
        assert client.rest() == b""


def test_a_head_that_drips_in_is_answered_408_when_its_time_is_up(serving: Serving) -> None:
    with serving(request_head_timeout_s=0.2) as server, server.client() as client:
        began = time.monotonic()
        for byte in GET * 10:
            client.send(bytes([byte]))
            if select.select([client.socket], [], [], 0.02)[0]:
                break
        assert time.monotonic() - began < 2
        answer = client.answer()
        assert answer.status == 408
        assert answer.problem()["code"] == "request_timeout"


def test_a_second_head_that_drips_in_is_timed_like_the_first(serving: Serving) -> None:
    with serving(request_head_timeout_s=0.1) as server, server.client() as client:
        assert client.ask(GET).status == 200
        client.send(GET[:10])
        assert client.answer().status == 408


def test_empty_lines_do_not_keep_a_connection_alive(serving: Serving) -> None:
    with serving(request_head_timeout_s=0.2, idle_timeout_s=0.2) as server, server.client() as client:
        assert client.ask(GET).status == 200
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < PATIENCE_S:
                client.send(b"\r\n")
                time.sleep(0.02)
        assert time.monotonic() - began < 3


def test_an_idle_connection_is_closed(serving: Serving) -> None:
    with serving(idle_timeout_s=0.1, request_head_timeout_s=5) as server, server.client() as client:
        assert client.ask(GET).status == 200
        assert client.rest() == b""


def test_a_client_that_keeps_asking_outlives_every_timeout(serving: Serving) -> None:
    with serving(idle_timeout_s=0.2, request_head_timeout_s=0.2) as server, server.client() as client:
        for _ in range(8):
            assert client.ask(GET).status == 200
            time.sleep(0.05)


NOT_HTTP = {
    "words": b"hello there\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
    "not ASCII": b"GET /\xff HTTP/1.1\r\n\r\n",
    "CONNECT": b"CONNECT other:443 HTTP/1.1\r\nhost: other\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bad chunk": b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnot hexadecimal\r\n",
    "noise": bytes(range(256)) * 1_000,
}


def test_what_is_not_http_is_answered_400(serving: Serving) -> None:
    with serving() as server:
        for name, request in NOT_HTTP.items():
            with server.client() as client:
                answer = client.ask(request)
                assert (name, answer.status) == (name, 400)
                assert answer.problem()["code"] == "malformed_request"
                assert client.rest() == b""


def test_what_is_not_http_is_one_line_of_the_log_with_its_sender(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving() as server, server.client() as client:
        host, port = client.socket.getsockname()
        client.ask(b"hello there\r\n\r\nhello there\r\n\r\n")
    said = [(record.levelname, record.getMessage()) for record in caplog.records if "refused" in record.getMessage()]
    assert said == [("INFO", f"{(host, port)} was refused: What was sent is not an HTTP/1.1 request.")]
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def test_who_asks_for_a_body_that_is_refused_already_is_told_that_its_client_has_left(serving: Serving) -> None:
    fields = b"expect: 100-continue\r\ntransfer-encoding: chunked\r\n"
    with serving() as server, server.client() as client:
        answer = client.ask(b"POST /echo HTTP/1.1\r\nhost: test\r\n%s\r\nno chunk\r\n" % fields)
        assert answer.problem()["code"] == "malformed_request"
        assert client.rest() == b""
        server.wait_for(("echo", "disconnected"))


def test_noise_after_a_good_request_does_not_spoil_its_answer(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        client.send(b"GET /toil/0.1 HTTP/1.1\r\nhost: test\r\n\r\nnoise\r\n\r\n")
        assert client.answer().body == b"worked"
        assert client.rest() == b""


def test_a_malformed_chunk_in_the_middle_ends_the_request(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"zzz\r\n")
        assert client.answer().status == 400
        server.wait_for(("echo", "disconnected"))


def test_one_connection_too_many_is_answered_503_until_another_leaves(serving: Serving) -> None:
    with serving(connections_max=3) as server:
        with ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for _ in range(3)]
            assert [client.ask(GET).status for client in clients] == [200, 200, 200]
            with server.client() as refused:
                answer = refused.ask(GET)
                assert answer.status == 503
                assert answer.headers["retry-after"] == "5"
                assert answer.problem()["code"] == "too_many_connections"
                assert refused.rest() == b""
            assert [client.ask(GET).status for client in clients] == [200, 200, 200]
        assert eventually(lambda: _asked_anew(server) == 200)


def _asked_anew(server: Running) -> int:
    with server.client() as client:
        return client.ask(GET).status


def test_connections_beyond_the_refusals_are_closed_unread(serving: Serving) -> None:
    with serving(connections_max=2, refusals_max=2) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(5)]
        assert clients[-1].rest() == b""
        assert clients[0].ask(GET).status == 200


def test_an_upgrade_to_websocket_is_refused_plainly(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        answer = client.ask(GET[:-2] + upgrade + b"\r\n")
        assert answer.status == 400
        assert answer.problem()["code"] == "upgrade_refused"
        assert client.rest() == b""


OFFER = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")


def test_an_offer_of_http2_is_ignored(serving: Serving) -> None:
    fields = "".join(f"{field}\r\n" for field in OFFER).encode()
    with serving() as server, server.client() as client:
        assert client.ask(GET[:-2] + fields + b"\r\n").body == b"hello"
        assert client.ask(GET).body == b"hello"


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_body_that_comes_with_an_offer_of_http2_is_read(serving: Serving, piece: int) -> None:
    head = "POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n"
    in_chunks = "".join((head, *(f"{field}\r\n" for field in OFFER), "\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"))
    sent = post("/echo", b"abc", *OFFER) + in_chunks.encode() + post("/echo", b"abc", *OFFER) + GET
    with serving() as server, server.client() as client:
        for start in range(0, len(sent), piece):
            client.send(sent[start : start + piece])
        assert [client.answer().body for _ in range(4)] == [b"abc", b"abc", b"abc", b"hello"]


def test_a_body_that_comes_with_an_offer_has_its_bounds(serving: Serving) -> None:
    with serving(request_body_timeout_s=0.1) as server, server.client() as client:
        assert client.ask(post("/echo", b"abc", *OFFER)[:-1]).problem()["code"] == "request_timeout"
    with serving() as server, server.client() as client:
        chunked = (*OFFER, "transfer-encoding: chunked")
        assert client.ask(post("/echo", b"abc", *chunked)).problem()["code"] == "malformed_request"


def test_what_is_sent_along_with_connect_is_not_begun(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        hidden = post("/echo", b"hidden")
        client.send(b"CONNECT test:80 HTTP/1.1\r\nhost: test\r\nupgrade: h2c\r\nconnection: upgrade\r\n")
        client.send(b"content-length: %d\r\n\r\n%s" % (len(hidden), hidden))
        assert client.answer().status == 400
        assert client.rest() == b""


def test_what_follows_an_offer_of_http2_in_the_same_segment_is_served_as_well(serving: Serving) -> None:
    offer = GET[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n"
    with serving(pipelined_max=4) as server:
        with server.client() as client:
            client.send(offer + offer + post("/echo", b"abc") + GET[:-2])
            assert [client.answer().body for _ in range(3)] == [b"hello", b"hello", b"abc"]
            # What is no request of its own is not taken for one.
            client.send(b"x-note: " + post("/echo", b""))
            assert client.answer().body == b"hello"
        with server.client() as client:
            client.send(offer * 100)
            assert client.rest().count(b"hello") == 5


def test_what_follows_an_upgrade_that_is_refused_is_not_begun(serving: Serving) -> None:
    with serving() as server, server.client() as client:
        body = post("/echo", b"hidden")
        client.send(post("/echo", body, "connection: upgrade", "upgrade: websocket"))
        assert client.answer().problem()["code"] == "upgrade_refused"
        assert client.rest() == b""


def flood(megabytes: int, fields: bytes = b"") -> bytes:
    """Ask for an answer of that size."""
    return b"GET /flood/%d HTTP/1.1\r\nhost: test\r\n%s\r\n" % (megabytes, fields)


@pytest.mark.parametrize("fields", [b"", b"connection: close\r\n"])
def test_a_client_that_does_not_read_its_answer_is_cut_off(serving: Serving, fields: bytes) -> None:
    with serving(write_timeout_s=0.2) as server, server.client() as client:
        client.send(flood(30, fields))
        time.sleep(0.6)
        assert len(client.rest()) < 30 * 2**20


def test_a_client_that_reads_slowly_gets_all_of_its_answer(serving: Serving) -> None:
    with serving(write_timeout_s=0.5) as server, server.client() as client:
        client.send(b"GET /flood/8 HTTP/1.1\r\nhost: test\r\n\r\n")
        received = 0
        while received < 8 * 2**20:
            chunk = client.socket.recv(2**20)
            assert chunk
            received += len(chunk)
            time.sleep(0.02)


@pytest.mark.parametrize("fields", [b"", b"connection: close\r\n"])
def test_a_client_that_reads_for_longer_than_it_may_leave_an_answer_unread_gets_all_of_it(
    serving: Serving, fields: bytes
) -> None:
    with serving(write_timeout_s=0.4, idle_timeout_s=0.4) as server, server.client() as client:
        client.send(flood(30, fields))
        for _ in range(30):
            assert len(client.take(2**20)) == 2**20
            time.sleep(0.05)


def test_a_client_that_stops_to_read_in_the_middle_is_cut_off(serving: Serving) -> None:
    with serving(write_timeout_s=0.2) as server, server.client() as client:
        client.send(flood(60))
        for _ in range(10):
            assert len(client.take(2**20)) == 2**20
            time.sleep(0.05)
        time.sleep(0.8)
        assert len(client.rest()) < 50 * 2**20


def test_an_answer_before_the_body_is_over_does_not_hold_the_connection_open(serving: Serving) -> None:
    with serving(request_head_timeout_s=0.2, idle_timeout_s=0.2) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n")
        assert client.answer().body == b"hello"
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < PATIENCE_S:
                client.send(b"x")
                time.sleep(0.02)
        assert time.monotonic() - began < 3


def test_a_body_that_drips_in_is_answered_408_when_its_time_is_up(serving: Serving) -> None:
    with serving(request_body_timeout_s=0.1) as server, server.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nabc")
        answer = client.answer()
        assert answer.status == 408
        assert answer.problem()["code"] == "request_timeout"
        assert client.rest() == b""
        server.wait_for(("echo", "disconnected"))


def test_a_long_wait_after_the_body_is_no_slow_body(serving: Serving) -> None:
    with serving(request_body_timeout_s=0.1) as server, server.client() as client:
        assert client.ask(post("/toil/0.3", b"abc")).body == b"worked"


def test_a_request_without_all_of_its_body_behind_another_is_answered_408_too(serving: Serving) -> None:
    with serving(request_body_timeout_s=0.1) as server, server.client() as client:
        client.send(GET + b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nabc")
        assert client.answer().body == b"hello"
        assert client.answer().problem()["code"] == "request_timeout"


def test_a_body_that_waits_behind_a_long_request_is_not_timed_meanwhile(serving: Serving) -> None:
    with serving(request_body_timeout_s=0.2) as server, server.client() as client:
        client.send(b"GET /toil/0.5 HTTP/1.1\r\nhost: test\r\n\r\n" + post("/echo", b"abc")[:-2])
        assert client.answer().body == b"worked"
        client.send(b"bc")
        assert client.answer().body == b"abc"


def test_one_header_field_too_many_is_refused(serving: Serving) -> None:
    with serving(header_fields_max=10) as server, server.client() as client:
        most = b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 10
        assert client.ask(most + b"\r\n").body == b"hello"
        answer = client.ask(most + b"a:\r\n\r\n")
        assert answer.status == 431
        assert answer.problem()["code"] == "header_too_large"
        assert client.rest() == b""
