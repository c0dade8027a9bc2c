"""What comes back of a push, as a transport fact, whatever the peer does."""

import email.utils
import gc
import gzip
import resource
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import attrs
import httpx
import pytest
import trio

from opscore.gateway.outbound import outbound
from opscore.gateway.outbound.outbound import ANSWER_BYTES_MAX
from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from tests.gateway.raw_server import ASSIGNMENT, Handle, Sent, answer, free_port, raw_server, saying

PATIENCE_S = 10.0
SHORT_S = 0.3
CHUNKS = 4_000


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with outbound.open_client() as opened:
        yield opened


async def push(client: httpx.AsyncClient, url: str, *, timeout_s: float = PATIENCE_S) -> Fact:
    with trio.fail_after(PATIENCE_S):
        return await outbound.post(client, url, outbound.run_message(ASSIGNMENT), timeout_s=timeout_s)


async def pushed(client: httpx.AsyncClient, handle: Handle, *, timeout_s: float = PATIENCE_S) -> Fact:
    async with raw_server(handle) as server:
        return await push(client, server.url, timeout_s=timeout_s)


async def test_the_message_is_agentkits_run(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(answer(202))) as server:
        await push(client, server.url)
    (sent,) = server.sent
    assert sent.first_line == "POST /run HTTP/1.1"
    assert sent.header("content-type") == "application/json"
    document = sent.document
    payload = document.pop("payload")
    assert document == {
        "senderId": "opscore_system_id",
        "messageType": "workflow_task",
        "sessionContext": {"workflowId": "flow", "sessionId": "ses_1", "taskId": "ses_1:only"},
        "task_name": "The task",
        "opscore_session_id": "ses_1",
        "opscore_task_id": "ses_1:only",
        "opscore_attempt": 3,
    }
    flat = {"task_name": "The task", "task_parameters": {"p": 1}, "p": 1, "input": {"in": 2}}
    assert {name: payload[name] for name in flat} == flat


def test_parameters_cannot_stand_in_for_what_the_message_says_itself() -> None:
    hostile = {"task_name": "x", "task_parameters": "x", "opscore_attempt": 9, "opscore_task_id": "x"}
    message = outbound.run_message(attrs.evolve(ASSIGNMENT, parameters=hostile))
    assert message["payload"]["task_name"] == message["task_name"] == "The task"
    assert message["payload"]["task_parameters"] == hostile
    assert message["opscore_attempt"] == 3


@pytest.mark.parametrize("status", [200, 202, 204, 301, 307, 400, 404, 409, 429, 500, 503, 599])
async def test_an_answer_is_told_with_its_status(client: httpx.AsyncClient, status: int) -> None:
    fact = await pushed(client, saying(answer(status)))
    assert fact == Answered(status=status, body="", retry_after_s=None)


@pytest.mark.parametrize(
    ("body", "decoded"),
    [
        (b'{"status": "completed", "result": {"n": 1}}', {"status": "completed", "result": {"n": 1}}),
        (b"[1, null]", [1, None]),
        (b"plain words", "plain words"),
        (b"\xff\xfe", "��"),
        (b'{"cut": ', '{"cut": '),
        (b"[" * 100_000, "[" * 100_000),
        (b"", ""),
    ],
    ids=["object", "list", "words", "no UTF-8", "cut", "deep", "empty"],
)
async def test_the_body_is_decoded_or_shown_as_text(client: httpx.AsyncClient, body: bytes, decoded: object) -> None:
    assert await pushed(client, saying(answer(200, body))) == Answered(status=200, body=decoded)


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", None), ("-3", None), ("1.5", None)])
async def test_retry_after_in_seconds_is_told(client: httpx.AsyncClient, said: str, seconds: float | None) -> None:
    fact = await pushed(client, saying(answer(503, b"", f"retry-after: {said}")))
    assert fact == Answered(status=503, body="", retry_after_s=seconds)


@pytest.mark.parametrize("offset_s", [90, -90])
async def test_retry_after_as_a_date_is_told_in_seconds(client: httpx.AsyncClient, offset_s: int) -> None:
    date = email.utils.formatdate(time.time() + offset_s, usegmt=True)
    fact = await pushed(client, saying(answer(429, b"", f"retry-after: {date}")))
    assert isinstance(fact, Answered)
    assert fact.retry_after_s is not None
    assert max(0, offset_s - 3) <= fact.retry_after_s <= max(0, offset_s)


async def test_a_refused_connection_is_not_reached(client: httpx.AsyncClient) -> None:
    assert isinstance(await push(client, f"http://127.0.0.1:{free_port()}/run"), NotReached)


async def test_an_unknown_host_is_not_reached(client: httpx.AsyncClient) -> None:
    assert isinstance(await push(client, "http://no.such.host.invalid/run"), NotReached)


async def test_a_peer_that_speaks_no_tls_is_not_reached(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(b"")) as server:
        assert isinstance(await push(client, server.url.replace("http:", "https:"), timeout_s=0.5), NotReached)


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 Fine\r\ncontent-", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 999999 \r\n\r\n"],
    ids=["nothing", "cut status", "cut head", "no HTTP", "no status"],
)
async def test_a_connection_that_breaks_before_the_answer_is_broken(client: httpx.AsyncClient, said: bytes) -> None:
    assert isinstance(await pushed(client, saying(said)), Broken)


async def test_a_peer_that_never_answers_is_broken_after_the_timeout(client: httpx.AsyncClient) -> None:
    async def silent(_: trio.SocketStream, __: Sent) -> None:
        await trio.sleep_forever()

    begun = trio.current_time()
    assert isinstance(await pushed(client, silent, timeout_s=SHORT_S), Broken)
    assert SHORT_S <= trio.current_time() - begun < PATIENCE_S


async def test_a_head_that_drips_forever_is_broken_after_a_bounded_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "CONNECT_TIMEOUT_S", SHORT_S)

    async def drip(stream: trio.SocketStream, _: Sent) -> None:
        await stream.send_all(b"HTTP/1.1 200 Fine\r\n")
        while True:
            await stream.send_all(b"x-more: 1\r\n")
            await trio.sleep(SHORT_S / 10)

    assert isinstance(await pushed(client, drip, timeout_s=SHORT_S), Broken)


async def test_a_head_without_end_is_broken(client: httpx.AsyncClient) -> None:
    async def flood(stream: trio.SocketStream, _: Sent) -> None:
        await stream.send_all(b"HTTP/1.1 200 Fine\r\n")
        while True:
            await stream.send_all(b"x-more: " + b"x" * 4_096 + b"\r\n")

    assert isinstance(await pushed(client, flood), Broken)


def assert_cut_off(fact: Fact, status: int, why: str) -> None:
    """The status counts, and why there is no body is said."""
    assert isinstance(fact, Answered)
    assert (fact.status, fact.body) == (status, "")
    assert why in (fact.cut_off or "")


async def test_of_a_body_that_never_ends_the_status_counts(client: httpx.AsyncClient) -> None:
    async def endless(stream: trio.SocketStream, _: Sent) -> None:
        await stream.send_all(b"HTTP/1.1 202 Fine\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\nx\r\n")
            await trio.sleep(SHORT_S / 10)

    assert_cut_off(await pushed(client, endless, timeout_s=SHORT_S), 202, "its answer was not complete within")


async def test_others_have_their_turn_while_a_body_of_many_small_chunks_is_read(client: httpx.AsyncClient) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def in_chunks(stream: trio.SocketStream, _: Sent) -> None:
        nonlocal turns
        await stream.send_all(b"HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\n\r\n")
        turns = 0
        await stream.send_all(b"1\r\n7\r\n" * CHUNKS + b"0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        fact = await pushed(client, in_chunks)
        assert turns >= CHUNKS
        nursery.cancel_scope.cancel()
    assert isinstance(fact, Answered)
    assert fact.body == int("7" * CHUNKS)


@pytest.mark.parametrize("rest", [b"{", b""])
async def test_of_a_body_that_breaks_the_status_counts(client: httpx.AsyncClient, rest: bytes) -> None:
    broken = b"HTTP/1.1 404 Gone\r\ncontent-length: 100\r\n\r\n" + rest
    assert_cut_off(await pushed(client, saying(broken)), 404, "RemoteProtocolError")


async def test_of_a_body_that_is_too_large_the_status_counts(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    taken = 0

    async def flood(stream: trio.SocketStream, _: Sent) -> None:
        nonlocal taken
        await stream.send_all(b"HTTP/1.1 200 Fine\r\ncontent-length: 1000000000000\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65_536)
            taken += 65_536

    assert_cut_off(await pushed(client, flood), 200, "more than")
    assert taken < 32 * ANSWER_BYTES_MAX
    assert f"task {ASSIGNMENT.task_id} attempt {ASSIGNMENT.attempt} counts only as receipt" in caplog.text


async def test_a_small_answer_that_unpacks_into_a_large_one_is_not_kept(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(b"x" * (8 * ANSWER_BYTES_MAX))
    assert_cut_off(await pushed(client, saying(answer(200, bomb, "content-encoding: gzip"))), 200, "is encoded")


async def test_a_few_bytes_that_were_packed_twice_are_not_unpacked_at_all(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(gzip.compress(b"x" * (64 * ANSWER_BYTES_MAX)))
    tracemalloc.start()
    try:
        fact = await pushed(client, saying(answer(200, bomb, "content-encoding: gzip, gzip")))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_cut_off(fact, 200, "is encoded")
    assert peak_bytes < 4 * ANSWER_BYTES_MAX


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-unknown", "identity, gzip"])
async def test_a_plain_body_is_asked_for_and_any_other_is_none(client: httpx.AsyncClient, encoding: str) -> None:
    body = gzip.compress(b'{"status": "completed"}')
    async with raw_server(saying(answer(200, body, f"content-encoding: {encoding}"))) as server:
        assert_cut_off(await push(client, server.url), 200, "is encoded")
    assert server.sent[0].header("accept-encoding") == "identity"


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_body_that_is_said_to_be_plain_is_read(client: httpx.AsyncClient, encoding: str) -> None:
    fact = await pushed(client, saying(answer(200, b'{"n": 1}', f"content-encoding: {encoding}")))
    assert fact == Answered(status=200, body={"n": 1})


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1/", {"Host": "bücher.example"}),
        ("http://127.0.0.1:99999/", {}),
        ("http://a\x00b/", {}),
        ("http://[::1/", {}),
        ("ftp://127.0.0.1/", {}),
    ],
    ids=ascii,
)
async def test_what_cannot_be_sent_is_not_reached(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> None:
    assert isinstance(await outbound.post(client, url, {}, timeout_s=SHORT_S, headers=headers), NotReached)


async def test_whatever_sending_runs_into_is_broken() -> None:
    class Failing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise ValueError("server_hostname cannot start with a dot")

    async with httpx.AsyncClient(transport=Failing()) as client:
        fact = await push(client, "https://agent.test/")
    assert fact == Broken(reason="ValueError: server_hostname cannot start with a dot")


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_more_than_a_thousand_pushes_are_under_way_at_once(client: httpx.AsyncClient) -> None:
    pushes = 1_010
    waiting, all_wait = 0, trio.Event()
    facts: list[Fact] = []

    async def answer_when_all_wait(stream: trio.SocketStream, _: Sent) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == pushes:
            all_wait.set()
        await all_wait.wait()
        await stream.send_all(answer(202))

    async with raw_server(answer_when_all_wait) as server:

        async def push_one() -> None:
            facts.append(await outbound.post(client, server.url, {}, timeout_s=PATIENCE_S))

        async with trio.open_nursery() as nursery:
            for _ in range(pushes):
                nursery.start_soon(push_one)
    assert facts == [Answered(status=202, body="")] * pushes


async def test_a_redirect_is_not_followed(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(answer(200))) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            fact = await pushed(client, saying(answer(status, b"", f"location: {elsewhere.url}")))
            assert fact == Answered(status=status, body="")
    assert elsewhere.sent == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(saying(answer(200))) as proxy, raw_server(saying(answer(202))) as peer:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        async with outbound.open_client() as client:
            assert await push(client, peer.url) == Answered(status=202, body="")
    assert proxy.sent == []


async def test_cookies_of_one_peer_are_not_sent_to_another(client: httpx.AsyncClient) -> None:
    async with raw_server(saying(answer(200, b"", "set-cookie: a=b; Path=/"))) as peer:
        await push(client, peer.url)
        await push(client, peer.url)
    assert [sent.header("cookie") for sent in peer.sent] == [None, None]


async def test_every_push_has_a_connection_of_its_own(client: httpx.AsyncClient) -> None:
    connections: list[object] = []

    async def keep(stream: trio.SocketStream, _: Sent) -> None:
        connections.append(stream)
        await stream.send_all(answer(202))
        await stream.receive_some()

    async with raw_server(keep) as peer:
        for _ in range(3):
            await push(client, peer.url)
    assert len(connections) == 3


async def test_what_a_push_took_is_freed_at_once_and_not_left_to_the_garbage_collector(
    client: httpx.AsyncClient,
) -> None:
    async with raw_server(saying(answer(200, b'{"status": "completed"}'))) as server:
        await push(client, server.url)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await push(client, server.url)
            assert gc.collect() < 20
        finally:
            gc.enable()
