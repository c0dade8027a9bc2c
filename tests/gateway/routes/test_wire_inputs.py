"""Inputs on the wire that their workflow's schema does not allow: each fault stands where the request has it."""

from typing import Any

import pytest

from tests.gateway.gateway_process import Wire, faults, name, one_task

ORDER = {"type": "object", "required": ["order"], "properties": {"order": {"type": "object", "required": ["id"]}}}
ORDERS = {"type": "array", "items": ORDER}


@pytest.mark.parametrize(
    ("schema", "given", "path"),
    [
        (ORDER, 5, ""),
        (ORDER, {"order": 5}, ".order"),
        (ORDERS, [{"order": 5}], "[0].order"),
    ],
)
def test_a_fault_of_an_input_stands_under_the_field_that_holds_it(
    wire: Wire, schema: dict[str, Any], given: Any, path: str
) -> None:
    definition = {**one_task(name("cap")), "inputSchema": schema}
    assert wire.post("/workflow", definition).status_code == 201
    workflow_id, agent_id = definition["id"], wire.register()
    for url, document in (
        (f"/workflow/{workflow_id}/trigger", {}),
        (f"/agent/{agent_id}/workflow", {"workflowDefinitionId": workflow_id}),
        (f"/agent/{agent_id}/workflow", {"workflowDefinition": definition}),
    ):
        assert set(faults(wire.post(url, {**document, "initialPayload": given}))) == {f"initialPayload{path}"}
    schedule = {"workflowDefinitionId": workflow_id, "cron": "* * * * *", "payload": given}
    assert set(faults(wire.post("/schedule", schedule))) == {f"payload{path}"}
