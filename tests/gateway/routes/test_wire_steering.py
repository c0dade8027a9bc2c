"""Runs that are steered and told things over the wire."""

import time
from typing import Any

import pytest

from opscore.runtime.models import Move
from tests.gateway.gateway_process import PATIENCE_S, POLL_S, PREFIX, Wire, faults, name, one_task, problem


def steer(wire: Wire, session_id: str, move: str, document: Any = None) -> dict[str, Any]:
    answer = wire.post(f"/session/{session_id}/{move}", document)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def awaiting(*names: str) -> dict[str, Any]:
    """A workflow that waits for signals of these names, one after another."""
    tasks = [
        {"taskId": f"t{place}", "type": "signal", "parameters": {"name": each}} for place, each in enumerate(names)
    ]
    return {"id": name("flow"), "tasks": tasks}


def failed_once(wire: Wire, worker: str, definition: dict[str, Any]) -> str:
    """A run whose only task has failed for good."""
    session_id = wire.trigger(definition)
    task_id = wire.claimed(worker)["task"]["taskId"]
    wire.post(f"/task/{task_id}/fail", {"attempt": 1, "error": "no paper", "code": "printer", "retryable": False})
    assert wire.ended(session_id)["status"] == "failed"
    return session_id


def test_a_run_is_cancelled_with_a_reason_and_says_so(wire: Wire) -> None:
    session_id = wire.trigger(one_task(name("cap")))
    told = steer(wire, session_id, "cancel", {"reason": "nobody wants it"})
    assert (told["status"], told["reason"], told["sessionId"]) == ("cancelled", "nobody wants it", session_id)
    assert told["cancelledAt"] == told["endTime"]
    shown = wire.session(session_id)
    assert {key: shown[key] for key in told} == told
    assert [task["status"] for task in shown["tasks"]] == ["cancelled"]
    assert steer(wire, session_id, "cancel", {"reason": "again"}) == told, "what is so already changes nothing"


def test_a_paused_run_gives_out_nothing_until_it_is_resumed(wire: Wire) -> None:
    capability = name("cap")
    worker, session_id = wire.register(capability), wire.trigger(one_task(capability))
    told = steer(wire, session_id, "pause")
    assert (told["status"], told["reason"], told["cancelledAt"]) == ("paused", None, None)
    assert wire.claim(worker, wait_s=0.2).status_code == 204
    assert steer(wire, session_id, "resume")["status"] in ("started", "running")
    assert wire.claimed(worker)["task"]["sessionId"] == session_id


def test_a_failed_run_is_tried_again_from_what_failed_and_its_dead_task_says_so(wire: Wire) -> None:
    capability = name("cap")
    worker = wire.register(capability)
    session_id = failed_once(wire, worker, one_task(capability))
    assert wire.session(session_id)["tasks"][0]["dead"] is True
    told = steer(wire, session_id, "retry", {})
    assert (told["status"], told["endTime"], told["error"]) == ("running", None, None)
    assert wire.session(session_id)["tasks"][0]["dead"] is False
    claimed = wire.claimed(worker)
    assert (claimed["task"]["sessionId"], claimed["attempt"]) == (session_id, 2)
    wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 2, "result": 1})
    assert wire.ended(session_id)["status"] == "completed"


def test_a_reset_takes_an_attempt_from_its_agent_and_gives_it_out_again(wire: Wire) -> None:
    capability = name("cap")
    worker, session_id = wire.register(capability), wire.trigger(one_task(capability))
    task_id = wire.claimed(worker)["task"]["taskId"]
    steer(wire, session_id, "reset", {"reason": None})
    problem(wire.post(f"/task/{task_id}/complete", {"attempt": 1}), 409, "stale_attempt")
    again = wire.claimed(worker)
    assert (again["task"]["taskId"], again["attempt"]) == (task_id, 2)


def test_a_run_whose_undoing_nobody_takes_is_terminated(wire: Wire) -> None:
    capability = name("cap")
    worker = wire.register(capability)
    step = {"taskId": "book", "agentCapability": capability, "compensateTaskId": "unbook", "nextTaskId": "pay"}
    others = [{"taskId": key, "agentCapability": name("nobody")} for key in ("pay", "unbook")]
    session_id = wire.trigger({"id": name("flow"), "tasks": [step, *others]})
    task_id = wire.claimed(worker)["task"]["taskId"]
    wire.post(f"/task/{task_id}/complete", {"attempt": 1})
    assert steer(wire, session_id, "cancel", {"reason": "not wanted"})["status"] == "cancelling"
    told = steer(wire, session_id, "terminate", {"reason": "nobody is left to undo it"})
    assert (told["status"], told["reason"]) == ("cancelled", "not wanted")
    assert [task["status"] for task in wire.session(session_id)["tasks"]] == ["completed", "cancelled", "cancelled"]


def test_a_move_from_where_there_is_no_way_is_409(wire: Wire) -> None:
    ended = wire.trigger({"id": name("flow"), "tasks": []})
    for move in Move:
        assert "completed" in problem(wire.post(f"/session/{ended}/{move}"), 409, "session_conflict")["detail"]
    running = wire.trigger(one_task(name("cap")))
    problem(wire.post(f"/session/{running}/retry"), 409, "session_conflict")


@pytest.mark.parametrize("move", [*Move, "signal"])
def test_a_run_that_does_not_exist_is_404_whatever_it_is_told(wire: Wire, move: str) -> None:
    problem(wire.post(f"/session/nothing/{move}", {"name": "go"}), 404, "session_not_found")


@pytest.mark.parametrize("reason", [5, True, ["x"], "x" * 1_001])
def test_a_reason_that_is_no_short_text_is_422(wire: Wire, reason: Any) -> None:
    session_id = wire.trigger(one_task(name("cap")))
    assert set(faults(wire.post(f"/session/{session_id}/pause", {"reason": reason}))) == {"reason"}
    assert wire.session(session_id)["status"] == "started"


def test_a_history_tells_what_happened_and_of_each_attempt(wire: Wire) -> None:
    capability = name("cap")
    worker = wire.register(capability)
    session_id = failed_once(wire, worker, one_task(capability))
    steer(wire, session_id, "retry", {"reason": "paper is back"})
    task_id = wire.claimed(worker)["task"]["taskId"]
    wire.post(f"/task/{task_id}/heartbeat", {"attempt": 2})
    wire.post(f"/task/{task_id}/complete", {"attempt": 2})
    wire.ended(session_id)
    told = wire.get(f"/session/{session_id}/history").json()
    assert set(told) == {"items", "attempts", "nextCursor"}
    assert set(told["items"][0]) == {"sequence", "at", "kind", "entity", "entityId", "data"}
    assert [item["kind"] for item in told["items"] if item["entity"] == "session"] == [
        *("session.completed", "session.running", "session.failed", "session.running", "session.started")
    ]
    assert [item["data"]["reason"] for item in told["items"] if "reason" in item["data"]] == ["paper is back"]
    first, second = told["attempts"]
    assert (first["taskId"], first["taskKey"], first["attempt"], first["agentId"]) == (task_id, "only", 1, worker)
    assert (first["outcome"], first["error"]) == ("failed", {"code": "printer", "message": "no paper"})
    assert (second["attempt"], second["outcome"], second["error"]) == (2, "completed", None)
    assert first["endedAt"] < second["dispatchedAt"] < second["startedAt"] < second["endedAt"]
    assert "previous" not in str(told), "how the journal is read back is its own affair"
    kinds: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = wire.get(f"/session/{session_id}/history", limit=3, cursor=cursor).json()
        kinds += [item["kind"] for item in page["items"]]
        cursor = page["nextCursor"]
    assert kinds == [item["kind"] for item in told["items"]]
    problem(wire.get("/session/nothing/history"), 404, "session_not_found")
    assert set(faults(wire.get(f"/session/{session_id}/history", cursor="x"))) == {"cursor"}


def test_a_signal_is_taken_by_the_task_that_waits_for_it(wire: Wire) -> None:
    session_id = wire.trigger(awaiting("approval"))
    answer = wire.post(f"/session/{session_id}/signal", {"name": "approval", "payload": {"by": "ada"}, "signalId": "s"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert set(told) == {"sessionId", "signalId", "name", "number", "takenBy", "receivedAt"}
    assert (told["sessionId"], told["signalId"], told["name"], told["number"]) == (session_id, "s", "approval", 0)
    assert told["takenBy"] == wire.session(session_id)["tasks"][0]["taskId"]
    kinds = [item["kind"] for item in wire.get(f"/session/{session_id}/history").json()["items"]]
    assert kinds.count("signal.received") == 1, "also one that is taken as it comes is in the journal"
    assert wire.ended(session_id)["result"] == {"t0": {"by": "ada"}}


def test_a_signal_that_comes_early_is_kept_for_the_task_that_will_wait_for_it(wire: Wire) -> None:
    session_id = wire.trigger(awaiting("first", "second"))
    early = wire.post(f"/session/{session_id}/signal", {"name": "second", "payload": 2}).json()
    assert (early["number"], early["takenBy"]) == (0, None)
    wire.post(f"/session/{session_id}/signal", {"name": "first", "payload": 1})
    assert wire.ended(session_id)["result"] == {"t1": 2}


@pytest.mark.parametrize("way", ["field", "header"])
def test_a_signal_sent_again_under_its_id_or_idempotency_key_has_an_effect_once(wire: Wire, way: str) -> None:
    session_id = wire.trigger(awaiting("go", "go"))
    body = {"name": "go", "signalId": "once"} if way == "field" else {"name": "go"}
    # The field is the more precise of the two, and counts where both are given.
    headers = {"Idempotency-Key": "once" if way == "header" else name("key")}
    answers = [wire.http.post(f"{PREFIX}/session/{session_id}/signal", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["signalId"] == "once"
    assert [task["status"] for task in wire.session(session_id)["tasks"]] == ["completed", "running"]


def test_a_signal_without_an_id_is_a_new_one_every_time_also_beside_ids_that_look_made(wire: Wire) -> None:
    session_id = wire.trigger(awaiting("go", "go", "go"))
    for body in ({"name": "go", "signalId": "#1"}, {"name": "go"}, {"name": "go"}):
        assert wire.post(f"/session/{session_id}/signal", body).status_code == 202
    assert wire.ended(session_id)["status"] == "completed"


def test_a_signal_that_is_for_nothing_is_refused(wire: Wire) -> None:
    session_id = wire.trigger(awaiting("approval"))
    path = f"/session/{session_id}/signal"
    assert "'approval'" in faults(wire.post(path, {"name": "aproval"}))["name"]
    assert set(faults(wire.post(path, {"name": 5, "signalId": ""}))) == {"name", "signalId"}
    assert set(faults(wire.post(path, {}))) == {"name"}
    problem(wire.post(path, {"name": "approval", "payload": "x" * 262_143}), 422, "limit_exceeded")
    key = {"Idempotency-Key": ""}
    problem(wire.http.post(f"{PREFIX}{path}", json={"name": "approval"}, headers=key), 400, "bad_idempotency_key")
    steer(wire, session_id, "cancel")
    problem(wire.post(path, {"name": "approval"}), 409, "session_conflict")


def test_a_run_shows_when_its_time_is_over_and_who_waits_for_whom(wire: Wire) -> None:
    below = awaiting("go")
    wire.post("/workflow", below)
    above = {
        "id": name("flow"),
        "sessionTimeoutSeconds": 500,
        "tasks": [
            {"taskId": "child", "type": "workflow", "parameters": {"workflowId": below["id"]}},
            {"taskId": "late", "agentCapability": name("cap"), "dependsOn": [], "scheduleToCloseSeconds": 60},
        ],
    }
    session_id = wire.trigger(above)
    shown = wire.session(session_id)
    assert shown["startTime"] < shown["dueAt"]
    assert shown["parentTaskId"] is None
    child, late = shown["tasks"]
    assert late["dueAt"] == late["closesAt"] is not None
    deadline = time.monotonic() + PATIENCE_S
    while "parentTaskId" not in (beneath := wire.session(child["childSessionId"])):
        assert time.monotonic() < deadline, "it begins in a commit of its own"
        time.sleep(POLL_S)
    assert (beneath["parentTaskId"], beneath["dueAt"]) == (child["taskId"], None)
