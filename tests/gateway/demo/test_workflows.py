import json
from pathlib import Path

import pytest
import yaml

from opscore.gateway.demo.play import CAST
from opscore.gateway.demo.workflows import incident_workflow, sample_workflow

OPS_CORES_SAMPLE = {
    "id": "sample_workflow_id",
    "name": "Sample Load Test Workflow",
    "version": "1.0",
    "tasks": [
        {
            "taskId": "step_1",
            "name": "First Step",
            "agentCapability": "test_capability",
            "parameters": {"message": "This is the first step."},
            "nextTaskId": "step_2",
        },
        {
            "taskId": "step_2",
            "name": "Second Step",
            "agentCapability": "another_capability",
            "parameters": {"value": 123},
            "nextTaskId": None,
        },
    ],
}


def test_the_sample_is_ops_cores_own() -> None:
    assert sample_workflow() == OPS_CORES_SAMPLE


@pytest.mark.parametrize("definition", [sample_workflow(), incident_workflow()])
def test_the_cast_can_do_every_task(definition: dict[str, list[dict[str, str]]]) -> None:
    capabilities = {capability for one in CAST for capability in one.capabilities}
    assert {task["agentCapability"] for task in definition["tasks"]} <= capabilities


def test_the_incident_report_fans_out_and_in() -> None:
    tasks = {task["taskId"]: task.get("dependsOn", []) for task in incident_workflow()["tasks"]}
    assert sum(not depends_on for depends_on in tasks.values()) == 4
    needed = {name for depends_on in tasks.values() for name in depends_on}
    assert [name for name in tasks if name not in needed] == ["publish"]
    assert needed <= set(tasks)
    assert 10 <= len(tasks) <= 14


def test_the_examples_are_what_the_demo_runs() -> None:
    examples = Path(__file__).parents[3] / "examples" / "workflows"
    assert json.loads((examples / "sample_workflow.json").read_text()) == sample_workflow()
    assert yaml.safe_load((examples / "incident_report.yaml").read_text()) == incident_workflow()
