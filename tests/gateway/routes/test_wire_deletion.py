"""Deleting saved workflows on the wire."""

from tests.gateway.gateway_process import Wire, one_task


def test_a_workflow_is_deleted_unless_a_schedule_starts_it_and_its_runs_go_on(wire: Wire) -> None:
    agent_id = wire.register()
    definition = one_task("deleted")
    workflow_id = definition["id"]
    assert wire.post("/workflow", definition).status_code == 201
    session_id = wire.trigger(definition)
    schedule = {"scheduleId": "s-of-it", "workflowDefinitionId": workflow_id, "cron": "0 0 1 1 *"}
    assert wire.post("/schedule", schedule).status_code == 201
    refused = wire.delete(f"/workflow/{workflow_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "definition_in_use")
    assert "'s-of-it'" in refused.json()["detail"]
    wire.delete("/schedule/s-of-it")
    assert wire.delete(f"/workflow/{workflow_id}").status_code == 204
    for gone in (
        wire.delete(f"/workflow/{workflow_id}"),
        wire.get(f"/workflow/{workflow_id}"),
        wire.post(f"/workflow/{workflow_id}/trigger"),
        wire.post(f"/agent/{agent_id}/workflow", {"workflowDefinitionId": workflow_id}),
    ):
        assert (gone.status_code, gone.json()["code"]) == (404, "definition_not_found")
    assert len(wire.get(f"/session/{session_id}").json()["tasks"]) == 1
