"""The page of the HTTP interface names every field that is shown, and none beside them."""

import re
from pathlib import Path
from typing import Any

import pytest

from opscore.runtime.models import SessionStatus, TaskStatus
from tests.gateway.gateway_process import Wire, name, one_task

PAGE = (Path(__file__).parents[3] / "docs" / "http-api.md").read_text()
SHOWN = PAGE.partition("## What is shown\n")[2].partition("\n## ")[0]


def told() -> dict[str, set[str]]:
    """The fields that the page names, by what has them; what is shown alone has those of its list as well."""
    found: dict[str, set[str]] = {}
    listed = ""
    for row in re.findall(r"^\| (.+?) \| (`.+?) \|", SHOWN, flags=re.MULTILINE):
        what, fields = row[0].replace("`", ""), set(re.findall(r"`(\w+)`", row[1]))
        if what == "shown alone, also":
            found[f"{listed} alone"] = found[listed] | fields
        elif what.endswith(", also"):
            found[what.removesuffix(", also")] = found["a task"] | fields
        else:
            listed, found[what] = what, fields
    return found


@pytest.fixture
def shown(wire: Wire) -> dict[str, Any]:
    """One document of each kind, as the server shows it."""
    capability = name("cap")
    agent_id = wire.register(capability)
    definition = one_task(capability)
    valid = wire.post("/workflow/validate", definition).json()
    session_id = wire.trigger(definition)
    claimed = wire.claimed(agent_id)
    task_id = claimed["task"]["taskId"]
    agent = wire.get(f"/agent/{agent_id}").json()
    schedule = wire.post("/schedule", {"workflowDefinitionId": definition["id"], "cron": "0 0 1 1 *"}).json()
    wire.post(f"/task/{task_id}/fail", {"attempt": 1, "error": "no paper", "retryable": False})
    session = wire.ended(session_id)
    filters = {"workflowId": definition["id"]}
    return {
        "an agent": wire.get("/agent", capability=capability).json()["items"][0],
        "an agent alone": agent,
        "the lease that it holds": agent["lease"],
        "the task of a claim": claimed["task"],
        "a task": wire.get(f"/task/{task_id}").json(),
        "a dead letter": wire.get("/deadletter", **filters).json()["items"][0],
        "an error": session["error"],
        "a session": wire.get("/session", **filters).json()["items"][0],
        "a session alone": session,
        "a definition": wire.post("/workflow", definition).json(),
        "a definition alone": wire.get(f"/workflow/{definition['id']}").json(),
        "a valid one": valid,
        "a schedule": wire.get("/schedule", **filters).json()["items"][0],
        "a schedule alone": schedule,
    }


def test_the_page_names_every_field_that_is_shown_and_none_beside_them(shown: dict[str, Any]) -> None:
    assert {what: set(document) for what, document in shown.items()} == told()
    assert [set(task) for task in shown["a session alone"]["tasks"]] == [told()["a task"]]


def test_the_page_names_where_a_task_and_a_session_can_stand() -> None:
    tasks, sessions = SHOWN.partition("A task is ")[2].split("; a session ")
    assert re.findall(r"`(\w+)`", tasks) == list(TaskStatus)
    assert re.findall(r"`(\w+)`", sessions) == list(SessionStatus)


@pytest.mark.parametrize(("told", "times"), [(None, {}), (20, {"heartbeatSeconds": 20})], ids=["by the lease", "less"])
def test_a_claim_and_a_heartbeat_say_how_long_their_agent_may_be_silent(
    wire: Wire, told: int | None, times: dict[str, int]
) -> None:
    capability = name("cap")
    wire.trigger(one_task(capability, leaseSeconds=60, **times))
    claimed = wire.claimed(wire.register(capability))
    beat = wire.post(f"/task/{claimed['task']['taskId']}/heartbeat", {"attempt": 1}).json()
    assert [(each["leaseSeconds"], each["heartbeatSeconds"]) for each in (claimed, beat)] == [(60, told)] * 2
