"""What holds for every route: health, keys, problems, bodies, methods."""

import resource
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from opscore.gateway.routes.app import ENDPOINTS, Endpoint
from tests.gateway.gateway_process import PREFIX, GatewayProcess, Wire, faults, gateway, name, one_task, problem
from tests.gateway.raw_client import post

JSON = {"Content-Type": "application/json"}
CLOSED = [endpoint for endpoint in ENDPOINTS if not endpoint.open]
TAKES_JSON = [
    f"{PREFIX}/agent",
    f"{PREFIX}/agent/x/state",
    f"{PREFIX}/agent/x/claim",
    f"{PREFIX}/agent/x/workflow",
    f"{PREFIX}/workflow",
    f"{PREFIX}/workflow/validate",
    f"{PREFIX}/workflow/x/trigger",
    f"{PREFIX}/internal/agent/notify",
]


def filled(path: str) -> str:
    for part in ("agentId", "taskId", "workflowId", "sessionId"):
        path = path.replace(f"{{{part}}}", "nobody")
    return path


def called(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def test_health_answers_without_a_key_while_the_process_lives(server: GatewayProcess) -> None:
    answer = server.client(None).get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["content-type"] == "application/json"


def test_ready_answers_without_a_key_once_work_is_taken(server: GatewayProcess) -> None:
    answer = server.client(None).get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_as_many_connections_are_taken_as_is_set(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", "--connections-max", "1") as (process, wire):
        assert wire.get("/agent").status_code == 200
        with process.raw() as refused:
            answer = refused.ask(b"GET /ready HTTP/1.1\r\nhost: test\r\n\r\n")
    assert (answer.status, answer.problem()["code"]) == (503, "too_many_connections")


def test_more_connections_are_taken_than_the_server_could_open_files_when_it_started(tmp_path: Path) -> None:
    files = 300
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        try:
            process, _ = stack.enter_context(gateway(tmp_path / "data"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        clients = [stack.enter_context(process.raw()) for _ in range(files + 50)]
        for client in clients:
            client.send(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n")
        assert {client.answer().status for client in clients} == {200}


@pytest.mark.parametrize("endpoint", CLOSED, ids=called)
def test_a_request_without_key_or_with_a_wrong_one_is_401(server: GatewayProcess, endpoint: Endpoint) -> None:
    for key in (None, "wrong", "opscore_00000000_wrong"):
        with server.client(key) as client:
            answer = client.request(endpoint.method, filled(endpoint.path))
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer a b", "a-key-with-every-scope", "\xff"])
def test_an_authorization_that_is_no_bearer_key_is_401(server: GatewayProcess, header: str) -> None:
    with server.client(None) as client:
        answer = client.get(f"{PREFIX}/agent", headers={b"Authorization": header.encode("latin-1")})
    problem(answer, 401, "unauthorized")


def test_the_bearer_scheme_is_read_in_any_case(server: GatewayProcess) -> None:
    with server.client(None) as client:
        answer = client.get(f"{PREFIX}/agent", headers={"Authorization": "bearer a-key-with-every-scope"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", TAKES_JSON)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="cut short"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": 1e999}', id="infinite"),
        pytest.param(b'{"a": "\\ud800"}', id="half a surrogate"),
        pytest.param(b'{"a":' + b"[" * 5_000, id="deep and cut"),
        pytest.param(b"[" * 200 + b"]" * 200, id="deep"),
    ],
)
def test_a_body_that_is_no_json_is_400(wire: Wire, path: str, body: bytes) -> None:
    problem(wire.http.post(path, content=body, headers=JSON), 400, "malformed_json")


@pytest.mark.parametrize("path", TAKES_JSON)
def test_another_content_type_is_415(wire: Wire, path: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        problem(wire.http.post(path, content=b"a=b", headers={"Content-Type": kind}), 415, "unsupported_media_type")


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_a_body_that_is_empty_where_none_is_needed_may_be_called_anything(wire: Wire, body: bytes) -> None:
    session_id = wire.trigger(one_task(name("cap")))
    agent_id = wire.register(name("cap"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in (f"/session/{session_id}/cancel", f"/agent/{agent_id}/claim"):
        assert wire.http.post(f"{PREFIX}{path}", content=body, headers=form).is_success
    problem(wire.http.post(f"{PREFIX}/agent", content=body, headers=form), 415, "unsupported_media_type")


def test_json_is_taken_with_a_charset_with_a_suffix_and_without_a_content_type(server: GatewayProcess) -> None:
    body = b'{"agentId": "typed"}'
    with server.client() as client:
        for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.agent+json"):
            answer = client.post(f"{PREFIX}/agent", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 201
    with server.raw() as raw:
        head = "authorization: Bearer a-key-with-every-scope"
        assert raw.ask(post(f"{PREFIX}/agent", body, head)).status == 201


@pytest.mark.parametrize("path", [*TAKES_JSON, f"{PREFIX}/task/x/complete"])
def test_a_body_over_the_limit_is_413_announced_or_not(wire: Wire, path: str) -> None:
    problem(wire.http.post(path, content=b" " * (2**20 + 1), headers=JSON), 413, "body_too_large")
    if path != f"{PREFIX}/task/x/complete":  # An unknown task is told before its body is read.
        chunks = (b" " * 65_536 for _ in range(17))
        problem(wire.http.post(path, content=chunks, headers=JSON), 413, "body_too_large")


def test_a_body_of_exactly_the_limit_is_read(wire: Wire) -> None:
    body = b'{"agentId": "large"}'
    answer = wire.http.post(f"{PREFIX}/agent", content=body + b" " * (2**20 - len(body)), headers=JSON)
    assert answer.status_code == 201


@pytest.mark.parametrize("path", ["/", "/health/", "/v1", f"{PREFIX}/", f"{PREFIX}/agents", f"{PREFIX}/agent/a/b/c"])
def test_a_path_that_is_nothing_is_404(wire: Wire, path: str) -> None:
    problem(wire.http.get(path), 404, "no_such_path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"{PREFIX}/agent", {"GET", "HEAD", "POST"}),
        ("DELETE", f"{PREFIX}/agent/a/state", {"GET", "HEAD", "POST"}),
        ("PATCH", f"{PREFIX}/agent/a", {"DELETE", "GET", "HEAD"}),
        ("GET", f"{PREFIX}/agent/a/workflow", {"POST"}),
        ("GET", f"{PREFIX}/internal/agent/notify", {"POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
    ],
)
def test_another_method_is_405_and_says_which_are_taken(wire: Wire, method: str, path: str, allowed: set[str]) -> None:
    answer = wire.http.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("kind", ["agent", "session", "task", "workflow"])
@pytest.mark.parametrize("identity", ["nobody", "x" * 600, "%00", "%ff", "%F0%9F%A6%91", "a%20b", ".."])
def test_a_name_that_stands_for_nothing_is_404(wire: Wire, kind: str, identity: str) -> None:
    answer = wire.http.get(f"{PREFIX}/{kind}/{identity}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("listing", ["agent", "session", "workflow"])
@pytest.mark.parametrize("limit", ["0", "501", "-1", "1.5", "x", "", "²", "9" * 5_000], ids=lambda text: text[:8])
def test_a_limit_that_is_no_number_from_1_to_500_is_422(wire: Wire, listing: str, limit: str) -> None:
    assert set(faults(wire.get(f"/{listing}", limit=limit))) == {"limit"}


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "x", ""])
def test_a_wait_that_is_no_number_of_seconds_is_422(wire: Wire, seconds: str) -> None:
    told = f"expected a number of seconds from 0 on (more than 60 counts as 60), found {seconds!r}"
    assert faults(wire.get("/session/x", waitSeconds=seconds)) == {"waitSeconds": told}
    assert faults(wire.post("/agent/x/claim", {}, waitSeconds=seconds)) == {"waitSeconds": told}


@pytest.mark.parametrize("listing", ["agent", "session", "workflow"])
@pytest.mark.parametrize("cursor", ["", "\x00", "x" * 600, "\U0001f991"], ids=ascii)
def test_a_cursor_that_was_never_given_out_does_no_harm(wire: Wire, listing: str, cursor: str) -> None:
    answer = wire.get(f"/{listing}", cursor=cursor, limit=1)
    if listing == "session" and cursor:
        assert set(faults(answer)) == {"cursor"}
        return
    assert answer.status_code == 200
    assert set(answer.json()) == {"items", "nextCursor"}


def test_what_may_be_left_out_of_a_request_may_be_null(wire: Wire) -> None:
    capability, agent_id = name("cap"), name("agent")
    about = dict.fromkeys(("agentName", "version", "contactEndpoint", "metadata"))
    assert wire.post("/agent", {"agentId": agent_id, "capabilities": [capability], **about}).status_code == 201
    definition = one_task(capability, retry={"initialDelaySeconds": 0, "jitter": False})
    assert wire.post("/workflow", definition).status_code == 201
    asked = dict.fromkeys(("initialPayload", "labels", "businessKey"))
    started = wire.post(f"/workflow/{definition['id']}/trigger", asked)
    assert started.status_code == 202
    task = f"/task/{wire.claimed(agent_id)['task']['taskId']}"
    assert wire.post(f"{task}/heartbeat", {"attempt": 1, "progress": None}).status_code == 200
    assert wire.post(f"{task}/fail", {"attempt": 1, "error": "x", "code": None, "retryable": None}).status_code == 200
    assert wire.claimed(agent_id)["attempt"] == 2
    assert wire.get(task).json()["error"] == {"code": "task_failed", "message": "x"}
    assert wire.post(f"{task}/complete", {"attempt": 2, "result": None}).status_code == 200
    assert wire.ended(started.json()["sessionId"])["status"] == "completed"


def test_a_refusal_quotes_no_more_than_the_beginning_of_what_was_sent(wire: Wire) -> None:
    session_id, long = wire.trigger(one_task(name("cap"))), "x" * 500_000
    twice = f'{{"{long}": 1, "{long}": 2}}'.encode()
    answers = [
        wire.post(f"/session/{session_id}/signal", {"name": long}),
        wire.post("/deadletter/replay", {long: 1}),
        wire.http.post(f"{PREFIX}/workflow", content=twice, headers=JSON),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 400]
    assert max(len(answer.content) for answer in answers) < 2_000


def test_every_answer_carries_a_request_id_of_its_own(wire: Wire) -> None:
    answers = [wire.get("/agent"), wire.get("/agent/nobody"), wire.http.get("/health")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_the_server(server: GatewayProcess) -> None:
    with server.raw() as raw:
        head = f"POST {PREFIX}/agent HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a-key-with-every-scope\r\n"
        raw.send(f"{head}content-length: 100\r\n\r\n{{".encode())
        time.sleep(0.1)
    with server.client() as client:
        assert client.get("/health").status_code == 200
    time.sleep(0.1)
    assert '"level": "error"' not in server.log()


def test_pipelined_requests_are_answered_in_their_order(server: GatewayProcess) -> None:
    get = b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n"
    with server.raw() as raw:
        raw.send(get % b"/health" + get % b"/nothing" + get % b"/ready")
        assert [raw.answer().status for _ in range(3)] == [200, 404, 200]


def test_agents_of_a_capability_and_state_are_listed_page_by_page(wire: Wire) -> None:
    capability = name("cap")
    known = sorted(wire.register(capability) for _ in range(5))
    wire.register(name("other"))
    for agent_id in known[:3]:
        assert wire.report(agent_id, "idle").status_code == 202
    found: list[str] = []
    cursor: dict[str, str] = {}
    pages = 0
    while True:
        page = wire.get("/agent", capability=capability, limit=2, **cursor).json()
        found += [item["agentId"] for item in page["items"]]
        pages += 1
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert (found, pages) == (known, 3)
    for state in ("idle", "IDLE"):
        idle = wire.get("/agent", capability=capability, state=state).json()["items"]
        assert [item["agentId"] for item in idle] == known[:3]
    assert set(faults(wire.get("/agent", state=""))) == {"state"}


def test_a_client_may_ask_for_nothing_but_plain_http(server: GatewayProcess) -> None:
    with server.raw() as raw:
        raw.send(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert raw.answer().status == 400


def test_an_answer_to_head_has_no_body(server: GatewayProcess) -> None:
    with server.client(None) as client:
        answer: httpx.Response = client.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")
