"""The workflows of the demo: Ops-Core's own sample, and an incident report with fan-out and fan-in."""

from typing import Any

INCIDENTS = (
    "Checkout answers slowly in Europe",
    "Nightly export ended early",
    "Login codes arrive twice",
    "Search misses new articles",
    "Invoices show the wrong currency",
    "Mobile pushes come late",
    "Image uploads fail at random",
    "The status page is stale",
)


def sample_workflow() -> dict[str, Any]:
    """Ops-Core's load test workflow, unchanged in every field."""
    return {
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


def incident_workflow() -> dict[str, Any]:
    """A workflow of twelve tasks with three capabilities: four sources, four questions, four texts."""
    return {
        "id": "incident_report",
        "name": "Incident report",
        "version": "1.0",
        "description": "From raw signals to a published report, over three kinds of agents.",
        "tasks": [
            _task("alerts", "Collect the alerts", "collect", {"window": "2h"}),
            _task("logs", "Collect the logs", "collect", {"window": "2h", "level": "error"}),
            _task("metrics", "Collect the metrics", "collect", {"window": "6h", "step": "1m"}),
            _task("deploys", "Collect the deployments", "collect", {"window": "24h"}),
            _task("errors", "Group the errors", "analyse", {"top": 10}, "alerts", "logs"),
            _task("anomaly", "Find the first anomaly", "analyse", {"sensitivity": 3}, "metrics"),
            _task("suspects", "Match the deployments", "analyse", {"lead": "30m"}, "deploys", "alerts"),
            _task("cause", "Name the root cause", "analyse", {}, "errors", "anomaly", "suspects"),
            _task("timeline", "Write the timeline", "write", {"audience": "engineers"}, "errors", "suspects"),
            _task("impact", "Write the impact", "write", {"audience": "customers"}, "anomaly"),
            _task("actions", "Write the actions", "write", {"owner": "on-call"}, "cause"),
            _task(
                "publish",
                "Publish the report",
                "write",
                {"channel": "#incidents"},
                "timeline",
                "impact",
                "actions",
            ),
        ],
    }


def _task(task_id: str, name: str, capability: str, parameters: dict[str, Any], *depends_on: str) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskId": task_id,
        "name": name,
        "agentCapability": capability,
        "parameters": parameters,
    }
    return {**task, "dependsOn": list(depends_on)} if depends_on else task
