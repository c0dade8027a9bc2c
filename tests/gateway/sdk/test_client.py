import asyncio
import math
from datetime import UTC, datetime

import httpx
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.gateway.demo.stage import free_port
from opscore.gateway.sdk.client import (
    Claim,
    ClientError,
    OpscoreClient,
    ProblemError,
    Unreachable,
    webhook_headers,
)
from tests.gateway.scripted_server import Answer, scripted_server

ACCEPTED = Answer(status=202, document={"sessionId": "s-1", "workflowId": "w-1", "message": "accepted"})
REPORTED = Answer(status=202, document={"status": "success", "message": "noted"})
CLAIMED = Answer(
    document={
        "task": {"taskId": "t-1", "taskKey": "step_1", "name": "First", "sessionId": "s-1", "parameters": {}},
        "attempt": 2,
        "timeoutSeconds": 3_600,
        "leaseSeconds": 900,
        "leaseExpiresAt": "2030-01-01T00:00:00Z",
    }
)
HANG_UP = Answer(hang_up=True)
AT_ONCE = Backoff(initial_s=0.0)
EXPECTED_SIGNATURE = "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"


async def test_every_call_carries_the_key() -> None:
    with scripted_server(Answer(document={"status": "ok"})) as server:
        async with OpscoreClient(server.url, "a-key") as client:
            assert await client.health() == {"status": "ok"}
    assert server.asked[0].headers["authorization"] == "Bearer a-key"
    assert (server.asked[0].method, server.asked[0].path) == ("GET", "/health")


async def test_a_registration_holds_what_was_given_and_nothing_else() -> None:
    with scripted_server(Answer(status=201, document={"agentId": "a-1"})) as server:
        async with OpscoreClient(server.url) as client:
            assert await client.register_agent("a-1", capabilities=("write",)) == {"agentId": "a-1"}
            await client.register_agent(
                "a-1",
                name="Ann",
                version="2",
                contact_endpoint="http://127.0.0.1:1/run",
                metadata={"team": "x"},
            )
    assert [call.path for call in server.asked] == ["/v1/opscore/agent"] * 2
    assert server.asked[0].document == {"agentId": "a-1", "capabilities": ["write"]}
    assert server.asked[1].document == {
        "agentId": "a-1",
        "agentName": "Ann",
        "version": "2",
        "capabilities": [],
        "contactEndpoint": "http://127.0.0.1:1/run",
        "metadata": {"team": "x"},
    }


async def test_a_registration_without_an_id_is_not_repeated_once_it_was_sent() -> None:
    with scripted_server(HANG_UP, Answer(status=201, document={"agentId": "drawn"})) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            with pytest.raises(Unreachable) as refused:
                await client.register_agent(name="nameless")
    assert refused.value.sent
    assert len(server.asked) == 1


async def test_a_repeated_report_carries_the_time_of_the_first() -> None:
    with scripted_server(HANG_UP, Answer(status=503), REPORTED) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            await client.report_state("a-1", "idle", {"step": 1})
    assert len(server.asked) == 3
    assert len({call.body for call in server.asked}) == 1
    report = server.asked[0].document
    assert server.asked[0].path == "/v1/opscore/agent/a-1/state"
    assert (report["agentId"], report["state"], report["details"]) == ("a-1", "idle", {"step": 1})
    assert datetime.fromisoformat(report["timestamp"]).tzinfo is not None


async def test_a_report_can_be_of_an_earlier_time() -> None:
    with scripted_server(REPORTED) as server:
        async with OpscoreClient(server.url) as client:
            await client.report_state("a-1", "active", timestamp=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert server.asked[0].document["timestamp"] == "2026-01-02T03:04:05+00:00"
    assert "details" not in server.asked[0].document


@pytest.mark.parametrize(
    ("agent_id", "workflow", "path", "body"),
    [
        (
            "a-1",
            "w-1",
            "/v1/opscore/agent/a-1/workflow",
            {"workflowDefinitionId": "w-1", "initialPayload": 7},
        ),
        (
            "a-1",
            {"id": "w"},
            "/v1/opscore/agent/a-1/workflow",
            {"workflowDefinition": {"id": "w"}, "initialPayload": 7},
        ),
        (None, "w-1", "/v1/opscore/workflow/w-1/trigger", {"initialPayload": 7}),
    ],
)
async def test_a_trigger_says_which_workflow_and_for_whom(
    agent_id: str | None, workflow: str | dict[str, str], path: str, body: dict[str, object]
) -> None:
    with scripted_server(ACCEPTED) as server:
        async with OpscoreClient(server.url) as client:
            started = await client.trigger(agent_id, workflow, 7, idempotency_key="k-1")
    assert (started.session_id, started.workflow_id) == ("s-1", "w-1")
    assert (server.asked[0].path, server.asked[0].document) == (path, body)
    assert server.asked[0].headers["idempotency-key"] == "k-1"


async def test_a_definition_triggered_without_an_agent_is_saved_first() -> None:
    with scripted_server(Answer(status=201, document={"id": "w-1"}), ACCEPTED) as server:
        async with OpscoreClient(server.url) as client:
            await client.trigger(None, {"id": "w-1", "tasks": []})
    assert [call.path for call in server.asked] == [
        "/v1/opscore/workflow",
        "/v1/opscore/workflow/w-1/trigger",
    ]
    assert server.asked[1].document == {}


async def test_a_repeated_trigger_carries_one_idempotency_key_and_the_next_another() -> None:
    with scripted_server(HANG_UP, ACCEPTED) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            await client.trigger("a-1", "w-1")
            await client.trigger("a-1", "w-1")
    first, repeated, next_one = [call.headers["idempotency-key"] for call in server.asked]
    assert first == repeated != next_one


async def test_a_claim_whose_answer_was_lost_is_made_again_under_the_same_id() -> None:
    with scripted_server(HANG_UP, CLAIMED) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0, backoff=AT_ONCE) as client:
            claim = await client.claim("a-1", wait_s=0.5)
    assert claim == Claim(
        task=CLAIMED.document["task"],
        attempt=2,
        lease_s=900.0,
        lease_expires_at="2030-01-01T00:00:00Z",
        timeout_s=3_600.0,
    )
    assert claim.task_id == "t-1"
    assert [call.path for call in server.asked] == ["/v1/opscore/agent/a-1/claim?waitSeconds=0.5"] * 2
    assert server.asked[0].document == server.asked[1].document


async def test_a_claim_for_which_there_is_no_task_is_none() -> None:
    with scripted_server(Answer(status=204)) as server:
        async with OpscoreClient(server.url) as client:
            assert await client.claim("a-1", claim_id="c-1") is None
    assert server.asked[0].document == {"claimId": "c-1"}


async def test_reports_about_an_attempt_carry_its_number() -> None:
    with scripted_server(Answer(document={"leaseExpiresAt": "2030-01-01T00:00:00Z"})) as server:
        async with OpscoreClient(server.url) as client:
            assert await client.heartbeat("t-1", 3) == "2030-01-01T00:00:00Z"
            await client.heartbeat("t-1", 3, {"done": 1})
            await client.complete("t-1", 3, {"pages": 2})
            await client.fail("t-1", 3, "no paper", code="printer", retryable=False)
            await client.fail("t-1", 3, "no paper")
    assert [(call.path.rpartition("/")[2], call.document) for call in server.asked] == [
        ("heartbeat", {"attempt": 3}),
        ("heartbeat", {"attempt": 3, "progress": {"done": 1}}),
        ("complete", {"attempt": 3, "result": {"pages": 2}}),
        ("fail", {"attempt": 3, "error": "no paper", "code": "printer", "retryable": False}),
        ("fail", {"attempt": 3, "error": "no paper"}),
    ]


async def test_reads_ask_for_what_was_named() -> None:
    with scripted_server(Answer(document={"items": [{"agentId": "a-1"}], "nextCursor": "c"})) as server:
        async with OpscoreClient(server.url) as client:
            page = await client.agents(state="idle", capability="write", limit=1)
            await client.sessions(status="running", cursor="c")
            await client.agent("a-1")
            await client.agent_state("a-1")
            await client.task("t-1")
            await client.session("s-1", wait_s=0.5)
            await client.ready()
            await client.deregister_agent("a-1")
    assert (page.items, page.next_cursor) == (({"agentId": "a-1"},), "c")
    assert [(call.method, call.path) for call in server.asked] == [
        ("GET", "/v1/opscore/agent?state=idle&capability=write&limit=1"),
        ("GET", "/v1/opscore/session?cursor=c&status=running"),
        ("GET", "/v1/opscore/agent/a-1"),
        ("GET", "/v1/opscore/agent/a-1/state"),
        ("GET", "/v1/opscore/task/t-1"),
        ("GET", "/v1/opscore/session/s-1?waitSeconds=0.5"),
        ("GET", "/ready"),
        ("DELETE", "/v1/opscore/agent/a-1"),
    ]


async def test_an_id_may_hold_any_character() -> None:
    with scripted_server(Answer(document={})) as server:
        async with OpscoreClient(server.url) as client:
            await client.agent("a/../b c?d")
    assert server.asked[0].path == "/v1/opscore/agent/a%2F..%2Fb%20c%3Fd"


async def test_a_problem_document_becomes_an_error_with_every_fault_in_it() -> None:
    faults = [{"path": "tasks[0].taskId", "message": "is missing"}, {"path": "id", "message": "is empty"}]
    problem = {
        "type": "about:blank",
        "title": "Invalid document",
        "status": 422,
        "detail": "The definition has 2 faults.",
        "code": "invalid_document",
        "errors": [
            {"path": "tasks[0].taskId", "message": "is missing"},
            {"path": "id", "message": "is empty"},
        ],
    }
    with scripted_server(Answer(status=422, document=problem)) as server:
        async with OpscoreClient(server.url, retry_for_s=5.0) as client:
            with pytest.raises(
                ProblemError, match=r"422 invalid_document.*tasks.0..taskId: is missing; id: is empty"
            ) as raised:
                await client.save_workflow({})
    assert (raised.value.status, raised.value.code, raised.value.title) == (
        422,
        "invalid_document",
        "Invalid document",
    )
    assert raised.value.detail == "The definition has 2 faults."
    assert raised.value.errors == tuple(faults)
    assert len(server.asked) == 1


async def test_an_error_that_opscore_did_not_write_is_understood_too() -> None:
    with scripted_server(Answer(status=502, text=b"<html>bad gateway</html>")) as server:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(ProblemError) as raised:
                await client.agent("a-1")
    assert (raised.value.status, raised.value.code) == (502, "http_502")
    assert "bad gateway" in raised.value.detail


async def test_a_success_that_is_no_json_object_is_an_error() -> None:
    with scripted_server(Answer(text=b"[1, 2]")) as server:
        async with OpscoreClient(server.url) as client:
            with pytest.raises(ProblemError, match="not_opscore"):
                await client.health()


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with OpscoreClient(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(Unreachable, match="is the server up") as raised:
            await client.health()
    assert not raised.value.sent


async def test_a_server_that_does_not_answer_in_time_is_unreachable(autojump_clock: MockClock) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await trio.sleep(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("too late")

    async with OpscoreClient("http://opscore.test", timeout_s=3.0, transport=httpx.MockTransport(never)) as client:
        with pytest.raises(Unreachable) as raised:
            await client.session("s-1", wait_s=20.0)
    assert raised.value.sent
    assert autojump_clock.current_time() == pytest.approx(23.0)


def transport_of(*statuses: int | Exception, headers: dict[str, str] | None = None) -> httpx.MockTransport:
    left = list(statuses)

    def respond(_request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status, json={}, headers=headers if status >= 400 else None)

    return httpx.MockTransport(respond)


async def test_without_leave_to_retry_the_first_failure_is_the_answer() -> None:
    async with OpscoreClient("http://opscore.test", transport=transport_of(503, 200)) as client:
        with pytest.raises(ProblemError):
            await client.ready()


async def test_retries_wait_longer_and_longer_and_are_told(autojump_clock: MockClock) -> None:
    told: list[tuple[str, float]] = []

    async with OpscoreClient(
        "http://opscore.test",
        retry_for_s=60.0,
        backoff=Backoff(initial_s=1.0, max_s=4.0, jitter=0.0),
        on_retry=lambda error, pause_s: told.append((type(error).__name__, pause_s)),
        transport=transport_of(httpx.ConnectError("refused"), 429, 503, 504, 200),
    ) as client:
        await client.health()
    assert told == [("Unreachable", 1.0), ("ProblemError", 2.0), ("ProblemError", 4.0), ("ProblemError", 4.0)]
    assert autojump_clock.current_time() == pytest.approx(11.0)


async def test_a_server_that_says_when_to_come_again_is_heeded(autojump_clock: MockClock) -> None:
    transport = transport_of(503, 200, headers={"Retry-After": "30"})
    async with OpscoreClient("http://opscore.test", retry_for_s=60.0, backoff=AT_ONCE, transport=transport) as client:
        await client.health()
    assert autojump_clock.current_time() == pytest.approx(30.0)


async def test_retrying_ends_when_its_time_is_over(autojump_clock: MockClock) -> None:
    transport = transport_of(httpx.ConnectError("refused"))
    backoff = Backoff(initial_s=1.0, coefficient=1.0, jitter=0.0)
    async with OpscoreClient("http://opscore.test", retry_for_s=10.0, backoff=backoff, transport=transport) as client:
        with pytest.raises(Unreachable):
            await client.health()
    assert autojump_clock.current_time() == pytest.approx(10.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 507])
async def test_a_refusal_for_good_is_not_retried(status: int) -> None:
    async with OpscoreClient(
        "http://opscore.test", retry_for_s=math.inf, transport=transport_of(status, 200)
    ) as client:
        with pytest.raises(ProblemError) as raised:
            await client.health()
    assert raised.value.status == status


def test_the_client_works_under_asyncio_too() -> None:
    async def ask(url: str) -> object:
        async with OpscoreClient(url, retry_for_s=5.0, backoff=Backoff(initial_s=0.001)) as client:
            return await client.health()

    with scripted_server(HANG_UP, Answer(document={"status": "ok"})) as server:
        assert asyncio.run(ask(server.url)) == {"status": "ok"}
    assert len(server.asked) == 2


async def test_a_webhook_is_signed_over_its_time_and_its_very_bytes() -> None:
    # HMAC-SHA256 of `1700000000.{"a":1}` with the key `secret`, computed by openssl.
    assert webhook_headers("secret", b'{"a":1}', at=1_700_000_000.9) == {
        "X-AgentKit-Timestamp": "1700000000",
        "X-AgentKit-Signature": EXPECTED_SIGNATURE,
    }
    with scripted_server(Answer(document={"status": "success"})) as server:
        async with OpscoreClient(server.url) as client:
            await client.notify("REGISTER", {"agentId": "a-1"}, secret="secret")
            await client.notify("DEREGISTER", {"agentId": "a-1"})
    signed, unsigned = server.asked
    at = float(signed.headers["x-agentkit-timestamp"])
    assert (
        signed.headers["x-agentkit-signature"] == webhook_headers("secret", signed.body, at=at)["X-AgentKit-Signature"]
    )
    assert signed.document == {"event_type": "REGISTER", "agent_details": {"agentId": "a-1"}}
    assert "x-agentkit-signature" not in unsigned.headers


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted_server(Answer(document={"status": "ok"})) as server:
        async with OpscoreClient(server.url.replace("127.0.0.1", address)) as client:
            assert await client.health() == {"status": "ok"}


def test_an_address_without_a_scheme_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="http://"):
        OpscoreClient("localhost:8080")


@pytest.mark.parametrize(
    "error",
    [
        Unreachable(url="http://x", sent=False, cause=OSError("refused")),
        ProblemError(status=404, code="agent_not_found", title="Not found", detail="No agent a-1."),
    ],
)
def test_every_error_of_a_client_is_one_kind(error: Exception) -> None:
    assert isinstance(error, ClientError)
