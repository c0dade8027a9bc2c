"""Which key may do what: one table over every route."""

import pytest

from opscore.gateway.routes.app import ENDPOINTS
from opscore.runtime.models import Move
from tests.gateway.gateway_process import PREFIX, GatewayProcess, Wire, name, one_task, problem
from tests.gateway.raw_client import post

EVERYONE = {"admin", "operator", "agent", "agent:seven", "viewer"}
AGENTS = {"admin", "operator", "agent", "agent:seven"}
OPERATORS = {"admin", "operator"}
READERS = {"admin", "operator", "viewer"}

# Each route about agent `seven`, with a task of it, and who may: everyone else is answered 403.
TABLE = {
    ("POST", "/internal/agent/notify"): AGENTS,
    ("POST", "/agent"): AGENTS,
    ("GET", "/agent"): READERS,
    ("GET", "/agent/{agentId}"): EVERYONE,
    ("DELETE", "/agent/{agentId}"): AGENTS,
    ("GET", "/agent/{agentId}/state"): EVERYONE,
    ("POST", "/agent/{agentId}/state"): AGENTS,
    ("POST", "/agent/{agentId}/cordon"): OPERATORS,
    ("POST", "/agent/{agentId}/uncordon"): OPERATORS,
    ("POST", "/agent/{agentId}/drain"): OPERATORS,
    ("POST", "/agent/{agentId}/claim"): AGENTS,
    ("POST", "/agent/{agentId}/workflow"): OPERATORS,
    ("GET", "/task/{taskId}"): EVERYONE,
    ("POST", "/task/{taskId}/heartbeat"): AGENTS,
    ("POST", "/task/{taskId}/complete"): AGENTS,
    ("POST", "/task/{taskId}/fail"): AGENTS,
    ("POST", "/workflow"): OPERATORS,
    ("GET", "/workflow"): READERS,
    ("POST", "/workflow/validate"): READERS,
    ("GET", "/workflow/{workflowId}"): READERS,
    ("POST", "/workflow/{workflowId}/trigger"): OPERATORS,
    ("POST", "/schedule"): OPERATORS,
    ("GET", "/schedule"): READERS,
    ("GET", "/schedule/{scheduleId}"): READERS,
    ("DELETE", "/schedule/{scheduleId}"): OPERATORS,
    ("POST", "/schedule/{scheduleId}/pause"): OPERATORS,
    ("POST", "/schedule/{scheduleId}/resume"): OPERATORS,
    ("GET", "/session"): READERS,
    ("GET", "/session/{sessionId}"): READERS,
    **{("POST", f"/session/{{sessionId}}/{move}"): OPERATORS for move in Move},
    ("POST", "/session/{sessionId}/signal"): OPERATORS,
    ("GET", "/session/{sessionId}/history"): READERS,
    ("GET", "/deadletter"): READERS,
    ("POST", "/deadletter/replay"): OPERATORS,
    ("GET", "/deadletter/{taskId}"): READERS,
    ("POST", "/deadletter/{taskId}/replay"): OPERATORS,
    ("POST", "/deadletter/{taskId}/discard"): OPERATORS,
}


@pytest.fixture(scope="session")
def task_of_seven(wire: Wire) -> str:
    """A task that agent `seven` once had; made once for the server, because the tests cordon that agent."""
    wire.register("of-seven", agent_id="seven")
    session_id = wire.trigger(one_task("of-seven"))
    claimed = wire.claimed("seven")
    assert wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1}).status_code == 200
    wire.ended(session_id)
    return str(claimed["task"]["taskId"])


def url_of(path: str, task_id: str) -> str:
    names = dict.fromkeys(("workflowId", "sessionId", "scheduleId"), "nothing")
    return path.format(agentId="seven", taskId=task_id, **names)


def test_the_table_names_every_route_that_takes_a_key() -> None:
    routes = {(each.method, each.path.removeprefix(PREFIX)) for each in ENDPOINTS if each.path.startswith(PREFIX)}
    assert set(TABLE) == routes


@pytest.mark.parametrize("scope", sorted(EVERYONE))
@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_a_route_takes_the_scopes_of_the_table_alone(
    server: GatewayProcess, keys: dict[str, str], task_of_seven: str, scope: str, method: str, path: str
) -> None:
    url = url_of(path, task_of_seven)
    # Bodies that are refused once the key is accepted: a test of keys changes nothing.
    body = b'{"agentId": 5, "event_type": 5}' if method == "POST" else None
    if (method, path) == ("DELETE", "/agent/{agentId}") and scope in AGENTS:
        url = "/agent/seven" if scope == "agent:seven" else "/agent/nobody"
    with server.client(keys[scope]) as client:
        answer = client.request(method, f"{PREFIX}{url}", content=body)
    if scope in TABLE[method, path]:
        assert answer.status_code not in (401, 403), answer.text
    else:
        problem(answer, 403, "forbidden")
        assert f"{scope!r}" not in answer.text
    if method == "DELETE" and answer.status_code == 204:
        Wire(http=server.client()).register("of-seven", agent_id="seven")


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_the_key_of_one_agent_opens_nothing_of_another(
    server: GatewayProcess, keys: dict[str, str], task_of_seven: str, method: str, path: str
) -> None:
    url = url_of(path, task_of_seven)
    about_seven = {"agentId": "seven", "agent_details": {"agentId": "seven"}}
    body = {**about_seven, "event_type": "REGISTER", "attempt": 1, "error": ""}
    with server.client(keys["agent:eight"]) as client:
        answer = client.request(method, f"{PREFIX}{url}", json=body if method == "POST" else None)
    problem(answer, 403, "forbidden")


@pytest.mark.parametrize("which", ["heartbeat", "complete", "fail"])
def test_what_an_agent_says_under_its_own_key_of_a_task_that_another_has_by_now_is_stale(
    server: GatewayProcess, wire: Wire, keys: dict[str, str], which: str
) -> None:
    capability, other = name("cap"), name("agent")
    wire.register(capability, agent_id="eight")
    session_id = wire.trigger(one_task(capability))
    task_id = wire.claimed("eight")["task"]["taskId"]
    wire.register(capability, agent_id=other)
    assert wire.post(f"/session/{session_id}/reset").status_code == 200
    assert wire.claimed(other)["attempt"] == 2
    path, said = f"{PREFIX}/task/{task_id}/{which}", {"attempt": 1, "error": "no paper"}
    with server.client(keys["agent:eight"]) as eight, server.client(keys["agent:seven"]) as seven:
        stale = problem(eight.post(path, json=said), 409, "stale_attempt")
        assert other not in stale["detail"]
        problem(seven.post(path, json=said), 403, "forbidden")
        # What the other has is the other's, whoever had the task before.
        problem(eight.post(path, json={**said, "attempt": 2}), 403, "forbidden")
        problem(eight.post(path, json={**said, "attempt": "1"}), 403, "forbidden")
    assert wire.get(f"/task/{task_id}").json()["status"] == "dispatched"


def test_an_attempt_that_is_still_to_come_is_not_its_agents_either(
    server: GatewayProcess, wire: Wire, keys: dict[str, str]
) -> None:
    capability = name("cap")
    wire.register(capability, agent_id="eight")
    wire.trigger(one_task(capability))
    path = f"{PREFIX}/task/{wire.claimed('eight')['task']['taskId']}/complete"
    with server.client(keys["agent:eight"]) as eight:
        problem(eight.post(path, json={"attempt": 2}), 403, "forbidden")
        assert eight.post(path, json={"attempt": 1}).status_code == 200


def test_a_key_of_one_agent_ends_no_attempt_of_another_though_its_body_comes_late(
    server: GatewayProcess, wire: Wire, keys: dict[str, str]
) -> None:
    capability = name("cap")
    wire.register(capability, agent_id="eight")
    session_id = wire.trigger(one_task(capability))
    task_id = wire.claimed("eight")["task"]["taskId"]
    late = post(f"{PREFIX}/task/{task_id}/complete", b'{"attempt": 2}', f"authorization: Bearer {keys['agent:eight']}")
    with server.raw() as raw:
        raw.send(late[:-1])
        assert wire.get(f"/task/{task_id}").json()["agentId"] == "eight"
        # It loses what it has in hand to another agent, as one that starts anew does.
        assert wire.report("eight", "initializing").status_code == 202
        assert wire.claimed(wire.register(capability))["attempt"] == 2
        assert raw.ask(late[-1:]).status == 403
    assert wire.session(session_id)["status"] == "running"


def test_an_agent_may_introduce_itself_with_its_own_key(server: GatewayProcess, keys: dict[str, str]) -> None:
    with server.client(keys["agent:eight"]) as client:
        assert client.post(f"{PREFIX}/agent", json={"agentId": "eight"}).status_code == 201
        notified = {"event_type": "REGISTER", "agent_details": {"agentId": "eight"}}
        assert client.post(f"{PREFIX}/internal/agent/notify", json=notified).status_code == 200
        problem(client.post(f"{PREFIX}/agent", json={}), 403, "forbidden")


def test_a_key_that_may_not_complete_learns_nothing_of_which_tasks_exist(
    server: GatewayProcess, keys: dict[str, str], task_of_seven: str
) -> None:
    with server.client(keys["viewer"]) as client:
        told = [client.post(f"{PREFIX}/task/{it}/complete", json={"attempt": 1}) for it in (task_of_seven, "nothing")]
    there, nowhere = (problem(answer, 403, "forbidden") for answer in told)
    assert there == nowhere
