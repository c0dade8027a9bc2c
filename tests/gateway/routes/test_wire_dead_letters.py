"""Dead letters over the wire: listed, shown, replayed and discarded."""

from typing import Any

import pytest

from opscore.gateway.sdk.client import OpscoreClient, ProblemError
from tests.gateway.gateway_process import API_KEY, GatewayProcess, Wire, faults, name, one_task, problem


def failed(wire: Wire, worker: str, definition: dict[str, Any], code: str = "printer") -> str:
    """Let a run of one task fail for good; returns the task's id."""
    session_id = wire.trigger(definition)
    claimed = wire.claimed(worker)
    task_id = str(claimed["task"]["taskId"])
    fault = {"attempt": claimed["attempt"], "error": "no paper", "code": code, "retryable": False}
    assert wire.post(f"/task/{task_id}/fail", fault).status_code == 200
    assert wire.ended(session_id)["status"] == "failed"
    return task_id


def listed(wire: Wire, **query: Any) -> list[str]:
    return [item["taskId"] for item in wire.get("/deadletter", **query).json()["items"]]


def test_dead_letters_are_listed_by_workflow_and_code_and_shown(wire: Wire) -> None:
    capability = name("cap")
    worker, definition = wire.register(capability), one_task(capability)
    codes = ("printer", "paper", "printer")
    first, second, third = (failed(wire, worker, definition, code) for code in codes)
    workflow_id = definition["id"]
    assert listed(wire, workflowId=workflow_id) == [third, second, first]
    assert listed(wire, workflowId=workflow_id, code="paper") == [second]
    page = wire.get("/deadletter", workflowId=workflow_id, limit=2).json()
    assert listed(wire, workflowId=workflow_id, limit=2, cursor=page["nextCursor"]) == [first]
    shown = wire.get(f"/deadletter/{second}").json()
    found_by = {"workflowId": workflow_id, "businessKey": None, "labels": {}}
    assert shown == {**wire.get(f"/task/{second}").json(), **found_by}
    assert (shown["dead"], shown["error"]) == (True, {"code": "paper", "message": "no paper"})
    assert set(faults(wire.get("/deadletter", cursor="ses_1.0"))) == {"cursor"}
    assert set(faults(wire.get("/deadletter", limit=0))) == {"limit"}


def test_an_error_is_taken_at_any_length_and_cut(wire: Wire) -> None:
    capability = name("cap")
    session_id = wire.trigger(one_task(capability))
    task_id = wire.claimed(wire.register(capability))["task"]["taskId"]
    fault = {"attempt": 1, "error": "e" * 900_000, "code": "c" * 5_000, "retryable": False}
    assert wire.post(f"/task/{task_id}/fail", fault).status_code == 200
    wire.ended(session_id)
    kept = {"code": "c" * 3_999 + "…", "message": "e" * 3_999 + "…"}
    assert wire.get(f"/deadletter/{task_id}").json()["error"] == kept


def test_a_replayed_dead_letter_is_done_again_and_is_none_any_more(wire: Wire) -> None:
    capability = name("cap")
    worker = wire.register(capability)
    task_id = failed(wire, worker, one_task(capability))
    answer = wire.post(f"/deadletter/{task_id}/replay")
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    problem(wire.get(f"/deadletter/{task_id}"), 404, "dead_letter_not_found")
    problem(wire.post(f"/deadletter/{task_id}/replay"), 404, "dead_letter_not_found")
    claimed = wire.claimed(worker)
    assert (claimed["task"]["taskId"], claimed["attempt"]) == (task_id, 2)
    wire.post(f"/task/{task_id}/complete", {"attempt": 2})
    assert wire.ended(answer.json()["sessionId"])["status"] == "completed"


def test_all_dead_letters_of_a_filter_are_replayed_and_refusals_are_told(wire: Wire) -> None:
    capability = name("cap")
    worker, definition = wire.register(capability), one_task(capability)
    paper = failed(wire, worker, definition, "paper")
    printers = [failed(wire, worker, definition) for _ in range(2)]
    answer = wire.post("/deadletter/replay", {"workflowId": definition["id"], "code": "printer"})
    assert answer.status_code == 200
    sessions = {task_id.partition(".")[0] for task_id in printers}
    assert set(answer.json()) == {"replayed", "refused", "nextCursor"}
    assert set(answer.json()["replayed"]) == sessions
    assert (answer.json()["refused"], answer.json()["nextCursor"]) == ([], None)
    assert listed(wire, workflowId=definition["id"]) == [paper]
    assert set(faults(wire.post("/deadletter/replay", {"workflowId": 5, "code": 5, "cursor": 5}))) == {
        *("workflowId", "code", "cursor")
    }
    misspelt = faults(wire.post("/deadletter/replay", {"workflowId": definition["id"], "codes": "paper"}))
    assert "unknown field 'codes'" in misspelt[""]
    assert listed(wire, workflowId=definition["id"]) == [paper], "nothing was tried again"


def test_a_run_that_was_undone_is_refused_by_name_when_all_are_replayed(wire: Wire) -> None:
    capability = name("cap")
    step: dict[str, Any] = {"agentCapability": capability, "retry": {"maxRetries": 0}}
    tasks = [{"taskId": "book", "compensateTaskId": "unbook"}, {"taskId": "pay"}, {"taskId": "unbook"}]
    definition = {"id": name("flow"), "tasks": [{**task, **step} for task in tasks]}
    worker, session_id = wire.register(capability), wire.trigger(definition)
    for outcome in ("complete", "fail", "complete"):
        task_id = wire.claimed(worker)["task"]["taskId"]
        wire.post(f"/task/{task_id}/{outcome}", {"attempt": 1, "error": "no money"})
    wire.ended(session_id)
    answer = wire.post("/deadletter/replay", {"workflowId": definition["id"]}).json()
    (refused,) = answer["refused"]
    assert (refused["sessionId"], refused["code"], answer["replayed"]) == (session_id, "session_conflict", [])
    assert "compensated" in refused["message"]


def test_a_discarded_dead_letter_is_gone_and_its_run_stays_failed(wire: Wire) -> None:
    capability = name("cap")
    worker, definition = wire.register(capability), one_task(capability)
    task_id = failed(wire, worker, definition)
    path = f"/deadletter/{task_id}/discard"
    assert set(faults(wire.post(path, {}))) == {"reason"}
    for wrong in ("x" * 1_001, "", " \n\t", None, 5):
        assert set(faults(wire.post(path, {"reason": wrong}))) == {"reason"}
    answer = wire.post(path, {"reason": "printed by hand"})
    assert (answer.status_code, answer.json()["dead"], answer.json()["status"]) == (200, False, "failed")
    assert listed(wire, workflowId=definition["id"]) == []
    problem(wire.post(path, {"reason": "again"}), 404, "dead_letter_not_found")
    assert wire.session(answer.json()["sessionId"])["status"] == "failed"


@pytest.mark.parametrize("task_id", ["nothing", "ses_1.0", "replay"])
def test_a_dead_letter_that_does_not_exist_is_404(wire: Wire, task_id: str) -> None:
    problem(wire.get(f"/deadletter/{task_id}"), 404, "dead_letter_not_found")
    problem(wire.post(f"/deadletter/{task_id}/replay"), 404, "dead_letter_not_found")
    problem(wire.post(f"/deadletter/{task_id}/discard", {"reason": "x"}), 404, "dead_letter_not_found")


async def test_the_client_lists_replays_and_discards(server: GatewayProcess, wire: Wire) -> None:
    capability = name("cap")
    worker, definition = wire.register(capability), one_task(capability)
    first, second, third = (failed(wire, worker, definition, code) for code in ("a", "b", "c"))
    async with OpscoreClient(server.url, API_KEY) as client:
        page = await client.dead_letters(workflow_id=definition["id"], limit=2)
        assert [item["taskId"] for item in page.items] == [third, second]
        rest = await client.dead_letters(workflow_id=definition["id"], cursor=page.next_cursor)
        assert [item["taskId"] for item in rest.items] == [first]
        assert (await client.dead_letter(first))["error"]["code"] == "a"
        assert (await client.replay(first))["status"] == "running"
        assert not (await client.discard(second, "no use"))["dead"]
        replayed = await client.replay_all(workflow_id=definition["id"], code="c")
        assert (replayed["replayed"], replayed["nextCursor"]) == ([third.partition(".")[0]], None)
        with pytest.raises(ProblemError) as gone:
            await client.dead_letter(second)
        assert gone.value.code == "dead_letter_not_found"
