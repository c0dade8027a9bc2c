"""Labels and business keys over the wire: given with a trigger, inherited, shown and searched by."""

from typing import Any

import pytest

from opscore.gateway.sdk.client import OpscoreClient
from tests.gateway.gateway_process import API_KEY, PREFIX, GatewayProcess, Wire, faults, name, one_task, problem


def trigger(wire: Wire, definition: dict[str, Any], **fields: Any) -> str:
    assert wire.post("/workflow", definition).status_code == 201
    answer = wire.post(f"/workflow/{definition['id']}/trigger", fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["sessionId"])


def listed(wire: Wire, **query: Any) -> list[str]:
    answer = wire.get("/session", **query)
    assert answer.status_code == 200, answer.text
    return [item["sessionId"] for item in answer.json()["items"]]


def test_a_run_shows_its_labels_those_of_its_definition_and_its_business_key(wire: Wire) -> None:
    definition = {**one_task(name("cap")), "labels": {"team": "blue", "stage": "prod", "size": 5}}
    session_id = trigger(wire, definition, labels={"team": "red", "tenant": "x:y"}, businessKey="order-7")
    shown = wire.session(session_id)
    assert shown["labels"] == {"team": "red", "tenant": "x:y", "stage": "prod"}
    assert shown["businessKey"] == "order-7"
    body = {"workflowDefinitionId": definition["id"], "labels": {"team": "green"}, "businessKey": "order-8"}
    answer = wire.post(f"/agent/{wire.register()}/workflow", body)
    other = wire.session(answer.json()["sessionId"])
    assert (other["labels"], other["businessKey"]) == ({"team": "green", "stage": "prod"}, "order-8")


def test_runs_are_found_by_labels_and_business_key_together_with_where_they_stand(wire: Wire) -> None:
    team, key, definition = name("team"), name("order"), one_task(name("cap"))
    ended = {"id": name("flow"), "tasks": []}
    first = trigger(wire, definition, labels={"team": team, "at": "09:30"}, businessKey=key)
    second = trigger(wire, ended, labels={"team": team}, businessKey=key)
    third = trigger(wire, ended, labels={"team": team, "at": "09:30"})
    assert listed(wire, label=f"team:{team}") == [third, second, first]
    assert listed(wire, label=[f"team:{team}", "at:09:30"]) == [third, first]
    assert listed(wire, businessKey=key) == [second, first]
    assert listed(wire, businessKey=key, label=[f"team:{team}", "at:09:30"]) == [first]
    assert listed(wire, label=f"team:{team}", status="completed") == [third, second]
    assert listed(wire, label=f"team:{team}", workflowId=definition["id"]) == [first]
    assert listed(wire, label=f"team:{name()}") == []
    page = wire.get("/session", label=f"team:{team}", limit=2).json()
    assert listed(wire, label=f"team:{team}", limit=2, cursor=page["nextCursor"]) == [first]


@pytest.mark.parametrize("label", ["team", "", ["a:b", "team"], ["team:red", "team:blue"]])
def test_a_label_to_search_by_that_is_none_is_422(wire: Wire, label: Any) -> None:
    assert set(faults(wire.get("/session", label=label))) == {"label"}


@pytest.mark.parametrize("route", ["trigger", "agent"])
def test_labels_that_can_be_none_are_told_of_all_at_once(wire: Wire, route: str) -> None:
    definition = {"id": name("flow"), "tasks": []}
    labels = {"a:b": "", "n" * 65: "", "": "", "n": 5, "v": "x" * 257, "fine": ""}
    body = {"labels": labels, "businessKey": "k" * 257}
    if route == "agent":
        found = faults(wire.post(f"/agent/{wire.register()}/workflow", {**body, "workflowDefinition": definition}))
    else:
        wire.post("/workflow", definition)
        found = faults(wire.post(f"/workflow/{definition['id']}/trigger", body))
    assert set(found) == {"labels.a:b", f"labels.{'n' * 64}", "labels.", "labels.n", "labels.v", "businessKey"}
    many = {f"n{number}": "" for number in range(21)}
    wire.post("/workflow", definition)
    path = f"/workflow/{definition['id']}/trigger"
    assert "labels_max" in faults(wire.post(path, {"labels": many}))["labels"]
    assert set(faults(wire.post(path, {"labels": [], "businessKey": 5}))) == {"labels", "businessKey"}


def test_other_labels_under_one_idempotency_key_are_a_conflict(wire: Wire) -> None:
    definition, key = {"id": name("flow"), "tasks": []}, {"Idempotency-Key": name("key")}
    wire.post("/workflow", definition)
    path = f"{PREFIX}/workflow/{definition['id']}/trigger"
    answers = [wire.http.post(path, json={"labels": {"a": "1"}}, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    problem(wire.http.post(path, json={"labels": {"a": "2"}}, headers=key), 409, "idempotency_key_reused")


async def test_the_client_gives_labels_and_searches_by_them(server: GatewayProcess) -> None:
    team, key = name("team"), name("order")
    async with OpscoreClient(server.url, API_KEY) as client:
        definition = {"id": name("flow"), "tasks": []}
        labels = {"team": team, "at": "09:30"}
        first = await client.trigger(None, definition, labels=labels, business_key=key)
        second = await client.trigger(None, definition, labels={"team": team})
        page = await client.sessions(labels=labels)
        assert [item["sessionId"] for item in page.items] == [first.session_id]
        assert (page.items[0]["labels"], page.items[0]["businessKey"]) == (labels, key)
        page = await client.sessions(labels={"team": team}, limit=1)
        assert [item["sessionId"] for item in page.items] == [second.session_id]
        page = await client.sessions(labels={"team": team}, cursor=page.next_cursor)
        assert [item["sessionId"] for item in page.items] == [first.session_id]
        assert [item["sessionId"] for item in (await client.sessions(businessKey=key)).items] == [first.session_id]


def test_the_faults_of_a_query_are_told_at_once(wire: Wire) -> None:
    bad = {"limit": 0, "status": "x", "label": "y", "cursor": "z"}
    assert set(faults(wire.get("/session", **bad))) == {"limit", "status", "label", "cursor"}
    assert set(faults(wire.get("/deadletter", limit=0, cursor="x"))) == {"limit", "cursor"}
    session_id = trigger(wire, one_task(name("cap")))
    assert set(faults(wire.get(f"/session/{session_id}/history", limit=0, cursor="x"))) == {"limit", "cursor"}


def test_what_is_wrong_with_labels_hides_nothing_of_the_workflow_that_a_trigger_holds(wire: Wire) -> None:
    definition = {"id": name("flow"), "tasks": [{"taskId": "a", "agentCapability": "c", "priority": 99}]}
    body = {"workflowDefinition": definition, "labels": {"a:b": "c"}, "businessKey": ""}
    told = set(faults(wire.post(f"/agent/{wire.register()}/workflow", body)))
    assert told == {"labels.a:b", "businessKey", "workflowDefinition.tasks[0].priority"}
