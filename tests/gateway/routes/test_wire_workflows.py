"""Workflows and their runs on the wire: definitions, triggers, idempotency keys, sessions."""

import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from opscore.gateway.demo.workflows import sample_workflow
from opscore.gateway.parsing.plain_yaml import BYTES_MAX as YAML_BYTES_MAX
from opscore.runtime.models import SessionStatus
from tests.gateway.gateway_process import (
    API_KEY,
    PREFIX,
    GatewayProcess,
    Wire,
    faults,
    gateway,
    name,
    one_task,
    problem,
)
from tests.gateway.raw_client import post


def trigger(wire: Wire, agent_id: str, document: Any, *, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return wire.http.post(f"{PREFIX}/agent/{agent_id}/workflow", json=document, headers=headers)


def empty() -> dict[str, Any]:
    return {"id": name("flow"), "tasks": []}


def test_a_definition_with_no_tasks_completes_at_once(wire: Wire) -> None:
    definition = empty()
    answer = trigger(wire, wire.register(), {"workflowDefinition": definition})
    assert answer.status_code == 202
    told = answer.json()
    assert set(told) == {"sessionId", "workflowId", "message"}
    assert told["workflowId"] == definition["id"]
    shown = wire.session(told["sessionId"])
    assert (shown["status"], shown["tasks"]) == ("completed", [])


def test_an_inline_definition_may_be_triggered_by_its_id_from_then_on(wire: Wire) -> None:
    agent_id, definition = wire.register(), one_task(name("cap"))
    problem(trigger(wire, agent_id, {"workflowDefinitionId": definition["id"]}), 404, "definition_not_found")
    first = trigger(wire, agent_id, {"workflowDefinition": definition, "initialPayload": {"n": 1}})
    second = trigger(wire, agent_id, {"workflowDefinitionId": definition["id"], "initialPayload": [2]})
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["workflowId"] == second.json()["workflowId"] == definition["id"]
    assert first.json()["sessionId"] != second.json()["sessionId"]
    shown = wire.session(second.json()["sessionId"])
    assert (shown["payload"], shown["agentId"], shown["workflowId"]) == ([2], agent_id, definition["id"])


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"initialPayload": {}},
        {"workflowDefinitionId": "x", "workflowDefinition": {"id": "x", "tasks": []}},
        {"workflowDefinitionId": None, "workflowDefinition": None},
    ],
)
def test_both_or_neither_of_the_definitions_is_422(wire: Wire, document: Any) -> None:
    found = faults(trigger(wire, wire.register(), document))
    assert "exactly one" in found[""]


@pytest.mark.parametrize("field", ["workflowDefinitionId", "workflowDefinition"])
@pytest.mark.parametrize("value", [5, True, ["x"], 0.5])
def test_a_definition_of_another_type_is_422(wire: Wire, field: str, value: Any) -> None:
    assert set(faults(trigger(wire, wire.register(), {field: value}))) == {field}


def test_an_unknown_agent_or_definition_is_404(wire: Wire) -> None:
    problem(trigger(wire, "nobody", {"workflowDefinition": empty()}), 404, "agent_not_found")
    problem(trigger(wire, wire.register(), {"workflowDefinitionId": "nothing"}), 404, "definition_not_found")
    problem(wire.post("/workflow/nothing/trigger", {}), 404, "definition_not_found")
    problem(wire.get("/workflow/nothing"), 404, "definition_not_found")


def test_faults_of_an_inline_definition_stand_under_its_field(wire: Wire) -> None:
    wrong = {"id": "x", "tasks": [{"taskId": "a"}, {"taskId": "a"}, {"taskId": 5}], "taskz": []}
    found = faults(trigger(wire, wire.register(), {"workflowDefinition": wrong}))
    assert len(found) >= 2
    assert all(path.startswith("workflowDefinition") for path in found)
    assert "workflowDefinition.tasks[2].taskId" in found


def test_unknown_fields_of_a_trigger_are_ignored_and_of_a_definition_are_not(wire: Wire) -> None:
    agent_id = wire.register()
    assert trigger(wire, agent_id, {"workflowDefinition": empty(), "sdk": "0.1"}).status_code == 202
    answer = trigger(wire, agent_id, {"workflowDefinition": {**empty(), "sdk": "0.1"}})
    assert answer.status_code == 422


@pytest.mark.parametrize("payload", [None, {}, [], "text", 0, False, 1.5, 12345678901234567890])
def test_the_payload_is_kept_as_it_was_sent(wire: Wire, payload: Any) -> None:
    answer = trigger(wire, wire.register(), {"workflowDefinition": empty(), "initialPayload": payload})
    shown = wire.session(answer.json()["sessionId"])["payload"]
    assert (shown, type(shown)) == (payload, type(payload))


def test_a_payload_larger_than_is_stored_is_422(wire: Wire) -> None:
    document = {"workflowDefinition": empty(), "initialPayload": "x" * 262_143}
    problem(trigger(wire, wire.register(), document), 422, "limit_exceeded")


def test_ops_cores_sample_is_taken_as_it_is(wire: Wire) -> None:
    answer = trigger(wire, wire.register(), {"workflowDefinition": sample_workflow()})
    assert (answer.status_code, answer.json()["workflowId"]) == (202, "sample_workflow_id")


def test_a_workflow_is_saved_listed_shown_and_saved_anew(wire: Wire) -> None:
    definition = one_task("any")
    first = wire.post("/workflow", definition)
    assert first.status_code == 201
    assert wire.post("/workflow", definition).json() == first.json()
    second = wire.post("/workflow", {**definition, "version": "2.0"}).json()
    assert (first.json()["revision"], second["revision"], second["version"]) == (1, 2, "2.0")
    shown = wire.get(f"/workflow/{definition['id']}").json()
    assert shown["definition"]["version"] == "2.0"
    assert {key: shown[key] for key in second} == second
    page = wire.get("/workflow", limit=500).json()
    assert second in page["items"]


def test_a_workflow_is_read_from_yaml(wire: Wire) -> None:
    workflow_id = name("flow")
    parameters = "{day: 2026-01-31, at: 22:30, mode: 0777}"
    text = f"id: {workflow_id}\ntasks:\n  - {{taskId: a, agentCapability: x, parameters: {parameters}}}\n"
    for kind in ("application/yaml", "application/x-yaml; charset=utf-8", "text/yaml"):
        answer = wire.http.post(f"{PREFIX}/workflow", content=text, headers={"Content-Type": kind})
        assert answer.status_code == 201, answer.text
    task = wire.get(f"/workflow/{workflow_id}").json()["definition"]["tasks"][0]
    assert task["parameters"] == {"day": "2026-01-31", "at": "22:30", "mode": "0777"}


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: &x [1]\nb: *x",
        "\x00",
        "a: b: c",
        "!!python/object/apply:os.getcwd []",
        "[" * 5_000,
        "[" * YAML_BYTES_MAX,
        f"a: !!float 1{':1' * 1_000}.0",
        "a: !!bool x",
        "a: !!float x",
        "a: !!timestamp x",
        "a: !!int ''",
        "a: !!int '-'",
        "!!float ''",
        "!!int ''",
        "!!bool x",
    ],
    ids=[
        *("cut short", "alias", "NUL", "two colons", "python", "deep", "as deep as can be"),
        *("overflow", "no bool", "no float", "no time", "no int", "a sign", "float alone", "int alone", "bool alone"),
    ],
)
def test_what_is_no_plain_yaml_is_400(wire: Wire, text: str) -> None:
    answer = wire.http.post(f"{PREFIX}/workflow", content=text, headers={"Content-Type": "text/yaml"})
    problem(answer, 400, "malformed_yaml")


@pytest.mark.parametrize(
    ("kind", "code"), [("application/json", "malformed_json"), ("application/yaml", "malformed_yaml")]
)
def test_a_number_of_thousands_of_digits_is_said_to_be_too_large(wire: Wire, kind: str, code: str) -> None:
    body = f'{{"id": "w", "tasks": [], "name": 1{"0" * 5_000}}}'
    for path in ("/workflow", "/workflow/validate"):
        answer = wire.http.post(f"{PREFIX}{path}", content=body, headers={"Content-Type": kind})
        detail = problem(answer, 400, code)["detail"]
        assert "a number of more than 4,300 digits is too large" in detail
        assert "sys." not in detail


@pytest.mark.parametrize("text", ["", "- a", "5", "1: 2", "~: 2", "id: x\ntasks: .nan", "id: x\ntasks: !!binary aGk="])
def test_yaml_that_is_no_workflow_is_422(wire: Wire, text: str) -> None:
    answer = wire.http.post(f"{PREFIX}/workflow", content=text, headers={"Content-Type": "text/yaml"})
    faults(answer)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"id": "w", "tasks": [], "id": "v"}', "application/json", "malformed_json"),
        (b"{id: w, tasks: [{taskId: a, agentCapability: x, agentCapability: y}]}", "text/yaml", "malformed_yaml"),
    ],
)
def test_a_workflow_that_gives_a_name_twice_is_refused_before_a_part_of_it_is_lost(
    wire: Wire, body: bytes, kind: str, code: str
) -> None:
    for path in ("/workflow", "/workflow/validate"):
        answer = wire.http.post(f"{PREFIX}{path}", content=body, headers={"Content-Type": kind})
        assert "is given twice in one object" in problem(answer, 400, code)["detail"]
    inline = b'{"workflowDefinition": %s}' % (body if kind.endswith("json") else b'{"id": "w", "id": "v", "tasks": []}')
    answer = wire.http.post(
        f"{PREFIX}/agent/{wire.register()}/workflow", content=inline, headers={"Content-Type": "application/json"}
    )
    assert "'id' is given twice" in problem(answer, 400, "malformed_json")["detail"]


def test_what_a_yaml_object_merges_and_says_itself_is_no_repetition(wire: Wire) -> None:
    text = f"id: {name('flow')}\ntasks: [{{<<: {{taskId: a, name: merged}}, name: own, agentCapability: x}}]\n"
    answer = wire.http.post(f"{PREFIX}/workflow", content=text, headers={"Content-Type": "text/yaml"})
    assert answer.status_code == 201, answer.text


def test_yaml_may_be_as_large_as_is_read_quickly_and_json_larger(wire: Wire) -> None:
    head = f"id: {name('flow')}\ntasks: [{{taskId: a, agentCapability: x}}]\n#".encode()

    def saved(size: int) -> httpx.Response:
        body = head.ljust(size, b"x")
        return wire.http.post(f"{PREFIX}/workflow", content=body, headers={"Content-Type": "text/yaml"})

    assert saved(YAML_BYTES_MAX).status_code == 201
    assert "JSON may be larger" in problem(saved(YAML_BYTES_MAX + 1), 413, "yaml_too_large")["detail"]
    assert wire.post("/workflow", one_task("x", parameters={"text": "x" * YAML_BYTES_MAX})).status_code == 201


def test_others_are_answered_while_yaml_that_takes_long_is_read(server: GatewayProcess) -> None:
    body = b"[" + b"a," * (YAML_BYTES_MAX // 2 - 1) + b"]"
    authorization = f"authorization: Bearer {API_KEY}"
    with server.raw() as slow, server.raw() as quick:
        quick.ask(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n")
        slow.send(post(f"{PREFIX}/workflow", body, authorization, "content-type: text/yaml"))
        for _ in range(3):
            assert quick.ask(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n").status == 200
        answered, _, _ = select.select([slow.socket], [], [], 0)
        assert not answered, "the others had to wait for it"
        assert slow.answer().status == 422


def test_validating_saves_nothing_and_tells_every_fault(wire: Wire) -> None:
    definition = one_task("any")
    answer = wire.post("/workflow/validate", definition)
    assert (answer.status_code, answer.json()) == (200, {"valid": True, "id": definition["id"], "tasks": 1})
    problem(wire.get(f"/workflow/{definition['id']}"), 404, "definition_not_found")
    found = faults(wire.post("/workflow/validate", {"id": "", "tasks": [{"taskId": 5}], "name": 5}))
    assert {"id", "tasks[0].taskId", "name"} <= set(found)


def test_a_task_that_names_nobody_needs_the_sessions_agent(wire: Wire) -> None:
    definition = {"id": name("flow"), "tasks": [{"taskId": "only"}]}
    assert wire.post("/workflow", definition).status_code == 201
    assert "tasks" in faults(wire.post(f"/workflow/{definition['id']}/trigger", {}))
    assert trigger(wire, wire.register(), {"workflowDefinitionId": definition["id"]}).status_code == 202


def test_a_trigger_by_id_may_have_no_body(wire: Wire) -> None:
    definition = one_task("any")
    wire.post("/workflow", definition)
    answer = wire.http.post(f"{PREFIX}/workflow/{definition['id']}/trigger")
    assert answer.status_code == 202
    assert wire.session(answer.json()["sessionId"])["payload"] is None


def test_the_same_key_with_the_same_body_gets_the_same_answer(wire: Wire) -> None:
    agent_id, capability, key = wire.register(), name("cap"), name("key")
    document = {"workflowDefinition": one_task(capability), "initialPayload": {"a": 1, "b": 2}}
    first = trigger(wire, agent_id, document, key=key)
    reordered = {"initialPayload": {"b": 2, "a": 1}, "workflowDefinition": document["workflowDefinition"]}
    assert trigger(wire, agent_id, reordered, key=key).json() == first.json()
    worker = wire.register(capability)
    claimed = wire.claimed(worker)
    wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1})
    wire.ended(first.json()["sessionId"])
    # Neither the end of the run nor that of its agent changes what the caller is told.
    wire.delete(f"/agent/{agent_id}")
    again = trigger(wire, agent_id, document, key=key)
    assert (again.status_code, again.json()) == (202, first.json())


def test_the_same_key_with_another_body_is_409(wire: Wire) -> None:
    agent_id, key = wire.register(), name("key")
    document = {"workflowDefinition": empty()}
    assert trigger(wire, agent_id, document, key=key).status_code == 202
    for other in ({**document, "initialPayload": 1}, {"workflowDefinition": empty()}):
        problem(trigger(wire, agent_id, other, key=key), 409, "idempotency_key_reused")


def test_a_key_counts_for_its_path_alone(wire: Wire) -> None:
    key, document = name("key"), {"workflowDefinition": empty()}
    answers = [trigger(wire, wire.register(), document, key=key) for _ in range(2)]
    assert len({answer.json()["sessionId"] for answer in answers}) == 2


def test_a_refused_trigger_uses_no_key_up(wire: Wire) -> None:
    agent_id, key = wire.register(), name("key")
    problem(trigger(wire, agent_id, {"workflowDefinitionId": "nothing"}, key=key), 404, "definition_not_found")
    assert trigger(wire, agent_id, {"workflowDefinition": empty()}, key=key).status_code == 202


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_empty_or_too_long_is_400(wire: Wire, key: str) -> None:
    answer = trigger(wire, wire.register(), {"workflowDefinition": empty()}, key=key)
    problem(answer, 400, "bad_idempotency_key")


def test_many_callers_with_one_key_start_one_run(server: GatewayProcess, wire: Wire) -> None:
    agent_id, key, document = wire.register(), name("key"), {"workflowDefinition": one_task(name("cap"))}
    barrier = threading.Barrier(6)

    def call() -> str:
        own = Wire(http=server.client())
        barrier.wait()
        answer = trigger(own, agent_id, document, key=key)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["sessionId"])

    with ThreadPoolExecutor(6) as pool:
        sessions = {future.result() for future in [pool.submit(call) for _ in range(6)]}
    assert len(sessions) == 1


def test_a_key_counts_across_a_restart(tmp_path: Path) -> None:
    document = {"workflowDefinition": empty()}
    with gateway(tmp_path / "data") as (process, wire):
        wire.register(agent_id="ada")
        first = trigger(wire, "ada", document, key="k")
        assert process.end() == 0
    with gateway(tmp_path / "data") as (_, wire):
        assert trigger(wire, "ada", document, key="k").json() == first.json()
        problem(trigger(wire, "ada", {**document, "initialPayload": 1}, key="k"), 409, "idempotency_key_reused")


def test_more_unfinished_runs_than_are_admitted_is_503_with_retry_after(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", "--sessions-open-max", "2") as (_, wire):
        definition = one_task("work")
        sessions = [wire.trigger(definition) for _ in range(2)]
        refused = wire.post(f"/workflow/{definition['id']}/trigger", {})
        problem(refused, 503, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        agent_id = wire.register("work")
        claimed = wire.claimed(agent_id)
        wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1})
        wire.ended(claimed["task"]["sessionId"])
        assert claimed["task"]["sessionId"] in sessions
        assert wire.trigger(definition)


def test_sessions_are_listed_newest_first_by_status_workflow_and_agent(wire: Wire) -> None:
    agent_id, definition = wire.register(), one_task(name("cap"))
    started = [wire.trigger(definition) for _ in range(3)]
    mine = trigger(wire, agent_id, {"workflowDefinitionId": definition["id"]}).json()["sessionId"]
    newest_first = [mine, *reversed(started)]

    def listed(**query: Any) -> list[str]:
        return [item["sessionId"] for item in wire.get("/session", **query).json()["items"]]

    assert listed(workflowId=definition["id"]) == newest_first
    assert listed(agentId=agent_id) == [mine]
    assert listed(workflowId=definition["id"], status="completed") == []
    first = wire.get("/session", workflowId=definition["id"], limit=3).json()
    rest = wire.get("/session", workflowId=definition["id"], limit=3, cursor=first["nextCursor"]).json()
    assert [item["sessionId"] for item in first["items"] + rest["items"]] == newest_first
    assert rest["nextCursor"] is None
    assert set(first["items"][0]) == {
        *("sessionId", "workflowId", "agentId", "status", "startTime", "endTime"),
        *("error", "reason", "cancelledAt", "dueAt", "parentTaskId"),
        *("businessKey", "labels"),
    }, "payload and result have no bound in a listing: they are shown with the session alone"
    told = f"expected one of {', '.join(SessionStatus)}, found 'done'"
    assert faults(wire.get("/session", status="done")) == {"status": told}


def test_waiting_for_a_session_ends_with_it(server: GatewayProcess, wire: Wire) -> None:
    capability = name("cap")
    session_id, worker = wire.trigger(one_task(capability)), wire.register(capability)
    claimed = wire.claimed(worker)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Wire(http=server.client()).session, session_id, wait_s=30)
        time.sleep(0.1)
        assert not waiting.done()
        wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1, "result": 7})
        shown = waiting.result(10)
    assert (shown["status"], shown["result"]) == ("completed", {"only": 7})


def test_waiting_for_a_session_in_vain_shows_it_as_it_is(wire: Wire) -> None:
    session_id = wire.trigger(one_task(name("cap")))
    begun = time.monotonic()
    shown = wire.session(session_id, wait_s=0.2)
    assert time.monotonic() - begun >= 0.2
    assert (shown["status"], shown["endTime"], shown["tasks"][0]["status"]) == ("started", None, "ready")
    problem(wire.get("/session/nothing", waitSeconds=5), 404, "session_not_found")
