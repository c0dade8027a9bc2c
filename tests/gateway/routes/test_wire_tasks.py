"""Attempts on the wire: claims, heartbeats, results, failures, and agents that say nothing but their state."""

import functools
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateway.gateway_process import (
    PATIENCE_S,
    POLL_S,
    PREFIX,
    GatewayProcess,
    Wire,
    faults,
    name,
    now_iso,
    one_task,
    problem,
)
from tests.gateway.raw_client import post
from tests.gateway.scripted_server import Answer, ScriptedServer, scripted_server
from tests.gateway.server_thread import eventually

VERDICTS = ("heartbeat", "complete", "fail")


def verdict(wire: Wire, task_id: str, which: str, attempt: Any, **more: Any) -> httpx.Response:
    error = {"error": "it broke"} if which == "fail" else {}
    return wire.post(f"/task/{task_id}/{which}", {"attempt": attempt, **error, **more})


def until_waiting(wire: Wire, agent_id: str) -> None:
    """Wait until a claim of this agent has arrived: claiming says that the agent is idle."""
    deadline = time.monotonic() + PATIENCE_S
    while wire.get(f"/agent/{agent_id}/state").json()["state"] != "idle":
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def test_a_claim_gets_task_attempt_and_lease(wire: Wire) -> None:
    capability = name("cap")
    definition = one_task(capability, name="The task", parameters={"p": [1]}, leaseSeconds=60, timeoutSeconds=120)
    session_id = wire.trigger(definition, payload={"in": 1})
    answer = wire.claim(wire.register(capability))
    assert answer.status_code == 200
    claimed = answer.json()
    assert claimed["task"] == {
        "taskId": claimed["task"]["taskId"],
        "taskKey": "only",
        "name": "The task",
        "sessionId": session_id,
        "workflowId": definition["id"],
        "parameters": {"p": [1]},
        "input": {"in": 1},
        "type": "agent",
    }
    assert (claimed["attempt"], claimed["leaseSeconds"], claimed["timeoutSeconds"]) == (1, 60, 120)
    assert now_iso(50) < claimed["leaseExpiresAt"] < now_iso(62)


def test_a_claim_with_nothing_to_do_is_204(wire: Wire) -> None:
    agent_id = wire.register(name("cap"))
    for parameters in ({}, {"waitSeconds": "0.1"}):
        answer = wire.post(f"/agent/{agent_id}/claim", **parameters)
        assert (answer.status_code, answer.content) == (204, b"")
    assert wire.get(f"/agent/{agent_id}/state").json()["state"] == "idle"
    problem(wire.post("/agent/nobody/claim", {}), 404, "agent_not_found")


@pytest.mark.parametrize("claim_id", [5, "", "x" * 129, [], True])
def test_a_claim_id_that_is_none_is_422(wire: Wire, claim_id: Any) -> None:
    assert set(faults(wire.post("/agent/nobody/claim", {"claimId": claim_id}))) == {"claimId"}


def test_a_waiting_claim_is_answered_when_work_comes(server: GatewayProcess, wire: Wire) -> None:
    capability = name("cap")
    agent_id = wire.register(capability)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Wire(http=server.client()).claim, agent_id)
        until_waiting(wire, agent_id)
        session_id = wire.trigger(one_task(capability))
        answer = waiting.result(PATIENCE_S)
    assert answer.status_code == 200
    assert answer.json()["task"]["sessionId"] == session_id


def test_the_same_claim_id_gets_the_same_attempt_until_the_first_heartbeat(wire: Wire) -> None:
    capability = name("cap")
    wire.trigger(one_task(capability))
    wire.trigger(one_task(capability))
    agent_id = wire.register(capability)
    first = wire.claim(agent_id, claim_id="mine").json()
    again = wire.claim(agent_id, claim_id="mine")
    assert (again.status_code, again.json()) == (200, first)
    for other in ("another", None):
        assert wire.claim(agent_id, claim_id=other, wait_s=0).status_code == 204
    assert verdict(wire, first["task"]["taskId"], "heartbeat", 1).status_code == 200
    assert wire.claim(agent_id, claim_id="mine", wait_s=0).status_code == 204
    assert verdict(wire, first["task"]["taskId"], "complete", 1).status_code == 200
    assert wire.claim(agent_id, claim_id="mine").json()["task"]["taskId"] != first["task"]["taskId"]


def test_a_task_of_a_claimer_that_left_goes_to_another_agent_soon(server: GatewayProcess, wire: Wire) -> None:
    capability = name("cap")
    leaver = wire.register(capability)
    with server.raw() as raw:
        head = "authorization: Bearer a-key-with-every-scope"
        raw.send(post(f"{PREFIX}/agent/{leaver}/claim?waitSeconds=30", b"", head))
        until_waiting(wire, leaver)
    session_id = wire.trigger(one_task(capability))
    begun = time.monotonic()
    claimed = wire.claimed(wire.register(capability))
    assert time.monotonic() - begun < 12  # The claim's grace, where a lease is of 15 minutes.
    assert claimed["task"]["sessionId"] == session_id


@pytest.mark.parametrize("waiting", [1, 10])
def test_a_claimer_that_left_is_given_no_task_though_requests_wait_behind_its_claim(
    server: GatewayProcess, wire: Wire, waiting: int
) -> None:
    capability = name("cap")
    leaver = wire.register(capability)
    head = "authorization: Bearer a-key-with-every-scope"
    with server.raw() as raw:
        raw.send(post(f"{PREFIX}/agent/{leaver}/claim?waitSeconds=30", b"", head) * (1 + waiting))
        until_waiting(wire, leaver)
    time.sleep(0.2)  # For the server to see that it left.
    session_id = wire.trigger(one_task(capability))
    begun = time.monotonic()
    claimed = wire.claimed(wire.register(capability))
    assert time.monotonic() - begun < 12  # As above.
    assert claimed["task"]["sessionId"] == session_id
    assert wire.get(f"/agent/{leaver}").json()["lease"] is None


def test_a_claimer_that_leaves_in_the_moment_in_which_work_comes_is_handed_none(
    server: GatewayProcess, wire: Wire
) -> None:
    capability = name("cap")
    leaver, worker = wire.register(capability), wire.register(capability)
    definition = one_task(capability)
    assert wire.post("/workflow", definition).status_code == 201
    head = "authorization: Bearer a-key-with-every-scope"
    with server.raw() as triggering:
        with server.raw() as leaving:
            leaving.send(post(f"{PREFIX}/agent/{leaver}/claim?waitSeconds=30", b"", head))
            until_waiting(wire, leaver)
            # Stopped, the server finds the trigger and the end of the claim's connection at the same time.
            server.send(signal.SIGSTOP)
            triggering.send(post(f"{PREFIX}/workflow/{definition['id']}/trigger", b"", head))
        server.send(signal.SIGCONT)
        assert triggering.answer().status == 202
    begun = time.monotonic()
    assert wire.claim(worker).status_code == 200
    assert time.monotonic() - begun < 12


def test_a_heartbeat_renews_the_lease_and_starts_the_task(wire: Wire) -> None:
    capability = name("cap")
    session_id = wire.trigger(one_task(capability, leaseSeconds=60))
    claimed = wire.claimed(wire.register(capability))
    task_id = claimed["task"]["taskId"]
    assert wire.get(f"/task/{task_id}").json()["status"] == "dispatched"
    time.sleep(0.01)
    answer = verdict(wire, task_id, "heartbeat", 1)
    assert answer.status_code == 200
    assert set(answer.json()) == {"leaseSeconds", "leaseExpiresAt", "heartbeatSeconds"}
    assert answer.json()["leaseExpiresAt"] > claimed["leaseExpiresAt"]
    shown = wire.get(f"/task/{task_id}").json()
    assert (shown["status"], shown["sessionId"], shown["attempt"]) == ("running", session_id, 1)
    assert shown["startedAt"] is not None


def test_a_heartbeat_says_how_far_its_attempt_is_and_the_task_shows_it_while_that_is_out(wire: Wire) -> None:
    capability = name("cap")
    session_id = wire.trigger(one_task(capability, retry={"initialDelaySeconds": 0, "jitter": False}))
    agent_id = wire.register(capability)

    def shown(task_id: str) -> Any:
        # Only of this the two have to be one: a failed task is made ready again by itself, also between the reads.
        (task,) = wire.session(session_id)["tasks"]
        assert wire.get(f"/task/{task_id}").json()["progress"] == task["progress"]
        return task["progress"]

    beats: list[tuple[dict[str, Any], Any]] = [
        ({}, None),
        ({"progress": {"done": 3}}, {"done": 3}),
        ({}, {"done": 3}),
        ({"progress": None}, {"done": 3}),
        ({"progress": 0}, 0),
    ]
    for attempt in (1, 2):
        claimed = wire.claimed(agent_id)
        task_id = claimed["task"]["taskId"]
        assert (claimed["attempt"], shown(task_id)) == (attempt, None)
        for said, then in beats:
            assert verdict(wire, task_id, "heartbeat", attempt, **said).status_code == 200
            assert shown(task_id) == then
        problem(verdict(wire, task_id, "heartbeat", attempt, progress="x" * 4_095), 422, "limit_exceeded")
        assert verdict(wire, task_id, "heartbeat", attempt, progress="x" * 4_094).status_code == 200
        assert shown(task_id) == "x" * 4_094
        assert verdict(wire, task_id, "fail", attempt).status_code == 200
        problem(verdict(wire, task_id, "heartbeat", attempt, progress=1), 409, "stale_attempt")
        assert shown(task_id) is None


@pytest.mark.parametrize("result", [None, 0, False, "", "text", [1, {"a": None}], {"b": 1.5}])
def test_a_result_completes_the_task_and_is_kept_as_it_was_sent(wire: Wire, result: Any) -> None:
    capability = name("cap")
    session_id = wire.trigger(one_task(capability))
    task_id = wire.claimed(wire.register(capability))["task"]["taskId"]
    assert verdict(wire, task_id, "complete", 1, result=result, unknown="ignored").status_code == 200
    session = wire.ended(session_id)
    task = session["tasks"][0]
    assert (session["status"], task["status"], task["retries"]) == ("completed", "completed", 0)
    assert (task["result"], type(task["result"])) == (result, type(result))


def test_a_failure_spends_a_retry_and_the_last_one_fails_the_session(wire: Wire) -> None:
    capability = name("cap")
    retry = {"maxRetries": 1, "initialDelaySeconds": 0}
    session_id = wire.trigger(one_task(capability, retry=retry))
    agent_id = wire.register(capability)
    for attempt in (1, 2):
        claimed = wire.claimed(agent_id)
        assert claimed["attempt"] == attempt
        answer = verdict(wire, claimed["task"]["taskId"], "fail", attempt, code="no_paper")
        assert answer.status_code == 200
    session = wire.ended(session_id)
    task = session["tasks"][0]
    assert (session["status"], task["status"], task["attempt"], task["retries"]) == ("failed", "failed", 2, 2)
    assert task["error"] == {"code": "no_paper", "message": "it broke"}
    assert session["error"] is not None


def test_a_failure_that_is_not_retryable_fails_at_once(wire: Wire) -> None:
    capability = name("cap")
    session_id = wire.trigger(one_task(capability))
    task_id = wire.claimed(wire.register(capability))["task"]["taskId"]
    assert verdict(wire, task_id, "fail", 1, retryable=False).status_code == 200
    assert wire.ended(session_id)["tasks"][0]["attempt"] == 1


@pytest.mark.parametrize("which", VERDICTS)
def test_a_stale_attempt_is_409_and_changes_nothing(wire: Wire, which: str) -> None:
    capability = name("cap")
    session_id = wire.trigger(one_task(capability, retry={"initialDelaySeconds": 0}))
    agent_id = wire.register(capability)
    task_id = wire.claimed(agent_id)["task"]["taskId"]
    for attempt in (0, 2, -1, 10**30):
        problem(verdict(wire, task_id, which, attempt), 409, "stale_attempt")
    verdict(wire, task_id, "fail", 1)
    assert wire.claimed(agent_id)["attempt"] == 2
    problem(verdict(wire, task_id, which, 1), 409, "stale_attempt")
    assert wire.get(f"/task/{task_id}").json()["status"] == "dispatched"
    assert verdict(wire, task_id, "complete", 2, result="second").status_code == 200
    problem(verdict(wire, task_id, which, 2), 409, "stale_attempt")
    assert wire.ended(session_id)["result"] == {"only": "second"}


@pytest.mark.parametrize("which", VERDICTS)
@pytest.mark.parametrize("attempt", ["1", 1.0, True, None, [1]])
def test_an_attempt_that_is_no_whole_number_is_422(wire: Wire, which: str, attempt: Any) -> None:
    capability = name("cap")
    wire.trigger(one_task(capability))
    task_id = wire.claimed(wire.register(capability))["task"]["taskId"]
    assert set(faults(verdict(wire, task_id, which, attempt))) == {"attempt"}
    assert wire.get(f"/task/{task_id}").json()["status"] == "dispatched"


def test_every_fault_of_a_failure_is_told_at_once(wire: Wire) -> None:
    capability = name("cap")
    wire.trigger(one_task(capability))
    task_id = wire.claimed(wire.register(capability))["task"]["taskId"]
    wrong = {"attempt": "1", "error": 5, "code": 5, "retryable": "false"}
    assert set(faults(wire.post(f"/task/{task_id}/fail", wrong))) == {"attempt", "error", "code", "retryable"}
    assert set(faults(wire.post(f"/task/{task_id}/fail", {}))) == {"attempt", "error"}


@pytest.mark.parametrize("which", VERDICTS)
def test_an_unknown_task_is_404(wire: Wire, which: str) -> None:
    problem(verdict(wire, "nothing", which, 1), 404, "task_not_found")
    problem(wire.get("/task/nothing"), 404, "task_not_found")


def test_a_result_larger_than_is_stored_is_422_and_the_attempt_stays_open(wire: Wire) -> None:
    capability = name("cap")
    wire.trigger(one_task(capability))
    task_id = wire.claimed(wire.register(capability))["task"]["taskId"]
    problem(verdict(wire, task_id, "complete", 1, result="x" * 262_143), 422, "limit_exceeded")
    assert verdict(wire, task_id, "complete", 1, result="short").status_code == 200


def test_a_cordoned_agent_is_handed_nothing(wire: Wire) -> None:
    capability = name("cap")
    agent_id = wire.register(capability)
    wire.post(f"/agent/{agent_id}/cordon")
    wire.trigger(one_task(capability))
    assert wire.claim(agent_id, wait_s=0.3).status_code == 204
    wire.post(f"/agent/{agent_id}/uncordon")
    assert wire.claim(agent_id).status_code == 200


def test_a_task_of_an_agent_that_is_deregistered_goes_to_another(wire: Wire) -> None:
    capability = name("cap")
    session_id, first = wire.trigger(one_task(capability)), wire.register(capability)
    task_id = wire.claimed(first)["task"]["taskId"]
    assert wire.delete(f"/agent/{first}").status_code == 204
    second = wire.claimed(wire.register(capability))
    assert (second["task"]["taskId"], second["attempt"]) == (task_id, 2)
    verdict(wire, task_id, "complete", 2)
    assert wire.ended(session_id)["tasks"][0]["retries"] == 0


def reports(*said: tuple[str, Any]) -> Callable[[Wire, str], None]:
    def report_all(wire: Wire, agent_id: str) -> None:
        for state, details in said:
            assert wire.report(agent_id, state, details).status_code == 202

    return report_all


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (reports(("active", None), ("idle", None)), None),
        (reports(("ACTIVE", {}), ("IDLE", {})), None),
        (reports(("BUSY", None), ("Idle", {"result": {"n": 1}})), {"n": 1}),
        (reports(("processing", None), ("finished", {"result": 5})), 5),
    ],
    ids=["plainly", "in capitals", "busy", "names of its own"],
)
def test_an_agent_that_says_active_then_idle_has_done_its_task(
    wire: Wire, said: Callable[[Wire, str], None], result: Any
) -> None:
    with scripted_server(Answer(status=202, document={"status": "success"})) as agent:
        capability = name("cap")
        agent_id = wire.register(capability, endpoint=f"{agent.url}/run")
        wire.report(agent_id, "idle")
        session_id = wire.trigger(one_task(capability, parameters={"p": 1}))
        assert eventually(lambda: len(agent.asked) == 1)
        said(wire, agent_id)
        session = wire.ended(session_id)
    assert (session["status"], session["tasks"][0]["result"]) == ("completed", result)


def test_an_idle_report_that_proves_nothing_ends_nothing(wire: Wire) -> None:
    with scripted_server(Answer(status=202)) as agent:
        capability = name("cap")
        agent_id = wire.register(capability, endpoint=f"{agent.url}/run")
        wire.report(agent_id, "idle")
        session_id = wire.trigger(one_task(capability))
        task = wire.until_task(session_id, "dispatched")
        for details in (None, {"opscore_task_id": "another", "opscore_attempt": 1}, {"opscore_attempt": 2}):
            wire.report(agent_id, "idle", details)
        assert wire.get(f"/task/{task['taskId']}").json()["status"] == "dispatched"
        named = {"opscore_task_id": task["taskId"], "opscore_attempt": 1, "result": "named"}
        wire.report(agent_id, "idle", named)
        assert wire.ended(session_id)["result"] == {"only": "named"}


def was_asked(agent: ScriptedServer, times: int) -> bool:
    return len(agent.asked) == times


def test_an_error_report_is_a_failure_and_an_offline_one_a_loss(wire: Wire) -> None:
    with scripted_server(Answer(status=202)) as agent:
        capability = name("cap")
        agent_id = wire.register(capability, endpoint=f"{agent.url}/run")
        wire.report(agent_id, "idle")
        session_id = wire.trigger(one_task(capability, retry={"initialDelaySeconds": 0}))
        for state, attempt, retries in (("offline", 2, 0), ("error", 3, 1)):
            assert eventually(functools.partial(was_asked, agent, attempt - 1))
            wire.report(agent_id, state)
            wire.report(agent_id, "idle")
            deadline = time.monotonic() + PATIENCE_S
            while (task := wire.until_task(session_id, "dispatched"))["attempt"] < attempt:
                assert time.monotonic() < deadline
            assert (task["attempt"], task["retries"]) == (attempt, retries)


def test_many_claimers_never_get_the_same_attempt(server: GatewayProcess, wire: Wire) -> None:
    capability = name("cap")
    agents = [wire.register(capability) for _ in range(6)]
    with ThreadPoolExecutor(len(agents)) as pool:
        waiting: list[Future[httpx.Response]] = [
            pool.submit(Wire(http=server.client()).claim, agent_id) for agent_id in agents
        ]
        sessions = {wire.trigger(one_task(capability)) for _ in agents}
        claimed = [future.result(PATIENCE_S).json() for future in waiting]
    assert {each["task"]["sessionId"] for each in claimed} == sessions
