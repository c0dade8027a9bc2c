"""Schedules on the wire: what is taken, refused and shown, and that their runs start."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.gateway_process import PATIENCE_S, POLL_S, Wire, faults, gateway, name, one_task, problem

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "schedules.md"
SHOWN = {
    *("scheduleId", "workflowDefinitionId", "agentId", "cron", "at", "timeZone", "missed", "paused", "createdAt"),
    *("nextDueAt", "lastDueAt", "lastSessionId", "fired", "lastError"),
}


def saved(wire: Wire, definition: dict[str, Any] | None = None) -> str:
    definition = definition or {"id": name("flow"), "tasks": []}
    assert wire.post("/workflow", definition).status_code == 201
    return str(definition["id"])


def created(wire: Wire, **document: Any) -> dict[str, Any]:
    if "workflowDefinitionId" not in document:
        document["workflowDefinitionId"] = saved(wire)
    answer = wire.post("/schedule", {"scheduleId": name("schedule"), **document})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def fired(wire: Wire, schedule_id: str, count: int = 1) -> dict[str, Any]:
    """Wait until a schedule has started so many runs, and show it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shown = dict(wire.get(f"/schedule/{schedule_id}").json())
        if shown["fired"] >= count:
            return shown
        assert time.monotonic() < deadline, shown
        time.sleep(POLL_S)


def test_a_schedule_is_made_shown_listed_paused_resumed_and_deleted(wire: Wire) -> None:
    workflow_id = saved(wire)
    made = created(
        wire,
        workflowDefinitionId=workflow_id,
        cron="30 2 * * *",
        timeZone="Europe/Berlin",
        missed="all",
        payload={"n": 1},
    )
    path = f"/schedule/{made['scheduleId']}"
    assert set(made) == {*SHOWN, "payload", "nextDueTimes"}
    assert (made["workflowDefinitionId"], made["cron"], made["at"]) == (workflow_id, "30 2 * * *", None)
    assert (made["timeZone"], made["missed"], made["payload"]) == ("Europe/Berlin", "all", {"n": 1})
    assert (made["fired"], made["lastDueAt"], made["lastSessionId"], made["lastError"]) == (0, None, None, None)
    times = [moment(text) for text in made["nextDueTimes"]]
    assert len(times) == 5
    assert times == sorted(set(times))
    assert times[0] == moment(made["nextDueAt"]) > datetime.now(UTC)
    assert wire.get(path).json() == made
    (listed,) = wire.get("/schedule", workflowId=workflow_id).json()["items"]
    assert listed == {key: made[key] for key in SHOWN}
    paused = wire.post(f"{path}/pause").json()
    assert (paused["paused"], paused["nextDueAt"], paused["nextDueTimes"]) == (True, None, [])
    assert wire.post(f"{path}/pause").json() == paused
    assert wire.post(f"{path}/resume").json() == made
    assert wire.delete(path).status_code == 204
    for answer in (wire.get(path), wire.delete(path), wire.post(f"{path}/pause"), wire.post(f"{path}/resume")):
        problem(answer, 404, "schedule_not_found")


def test_a_run_starts_at_the_time_that_was_asked_for_with_its_payload(wire: Wire) -> None:
    at = datetime.now(UTC) + timedelta(seconds=0.5)
    made = created(wire, at=at.isoformat(), payload={"n": 1})
    assert moment(made["nextDueAt"]) == at
    assert [moment(text) for text in made["nextDueTimes"]] == [at]
    shown = fired(wire, made["scheduleId"])
    assert (shown["fired"], moment(shown["lastDueAt"]), shown["nextDueAt"]) == (1, at, None)
    session = wire.ended(shown["lastSessionId"])
    assert (session["payload"], session["status"]) == ({"n": 1}, "completed")
    assert timedelta(0) <= moment(session["startTime"]) - at < timedelta(seconds=5)


def test_runs_start_every_second_for_the_agent_that_was_named(wire: Wire) -> None:
    agent_id = wire.register()
    workflow_id = saved(wire, {"id": name("flow"), "tasks": [{"taskId": "only"}]})
    made = created(wire, workflowDefinitionId=workflow_id, cron="* * * * * *", agentId=agent_id)
    shown = fired(wire, made["scheduleId"], 2)
    wire.delete(f"/schedule/{made['scheduleId']}")
    assert wire.session(shown["lastSessionId"])["agentId"] == agent_id
    listed = wire.get("/session", workflowId=workflow_id).json()["items"]
    assert len(listed) >= 2
    assert moment(shown["lastDueAt"]).microsecond == 0


@pytest.mark.parametrize(
    ("zone", "at", "due"),
    [
        ("Europe/Berlin", "2099-07-01T12:00:00", "2099-07-01T10:00:00Z"),
        ("Asia/Kolkata", "2099-07-01T12:00", "2099-07-01T06:30:00Z"),
        (None, "2099-07-01T12:00:00", "2099-07-01T12:00:00Z"),
        ("Europe/Berlin", "2099-07-01T12:00:00-05:00", "2099-07-01T17:00:00Z"),
    ],
)
def test_a_time_without_an_offset_is_what_the_clock_of_the_zone_shows(
    wire: Wire, zone: str | None, at: str, due: str
) -> None:
    assert moment(created(wire, at=at, timeZone=zone)["nextDueAt"]) == moment(due)


def test_the_request_of_the_guide_is_taken(tmp_path: Path) -> None:
    (request,) = re.findall(
        r"<!-- a request -->\n```json\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    with gateway(tmp_path / "data") as (_, wire):
        saved(wire, {"id": "close", "tasks": []})
        shown = wire.post("/schedule", json.loads(request))
        assert (shown.status_code, shown.json()["scheduleId"], len(shown.json()["nextDueTimes"])) == (201, "nightly", 5)


def test_the_same_content_under_one_id_is_one_schedule_and_other_content_is_409(wire: Wire) -> None:
    document = {
        "scheduleId": name("schedule"),
        "workflowDefinitionId": saved(wire),
        "cron": "0 0 1 1 *",
        "payload": {"a": 1, "b": 2},
    }
    first = wire.post("/schedule", document)
    again = wire.post("/schedule", {**document, "payload": {"b": 2, "a": 1}, "timeZone": "UTC", "missed": "once"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    for other in ({"cron": "0 0 2 1 *"}, {"payload": None}, {"timeZone": "Europe/Berlin"}, {"missed": "skip"}):
        problem(wire.post("/schedule", {**document, **other}), 409, "schedule_exists")
    without_id = {key: value for key, value in document.items() if key != "scheduleId"}
    drawn = {wire.post("/schedule", without_id).json()["scheduleId"] for _ in range(2)}
    assert len(drawn) == 2


def test_every_fault_is_told_at_once(wire: Wire) -> None:
    document = {
        "scheduleId": "a/b",
        "workflowDefinitionId": 5,
        "cron": "61 * * 13 *",
        "at": "tomorrow",
        "timeZone": "Europe/Berln",
        "missed": "twice",
        "payload": "x" * 300_000,
        "agentId": 5,
    }
    found = faults(wire.post("/schedule", document))
    assert set(found) == {*(set(document) - {"scheduleId"}), "scheduleId", ""}
    assert "exactly one of cron and at" in found[""]
    assert "did you mean Europe/Berlin?" in found["timeZone"]
    assert "expected one of skip, once, all" in found["missed"]
    answer = wire.post("/schedule", document).json()
    told = [fault["message"] for fault in answer["errors"] if fault["path"] == "cron"]
    assert len(told) == 2
    assert "the minute '61' is not understood; expected 0–59" in told[0]
    assert "the month '13' is not understood; expected 1–12 or JAN–DEC" in told[1]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cron", 5, "expected a string"),
        ("cron", "* * * *", "expected five fields"),
        ("cron", "0 0 30 2 *", "no such day within 50 years"),
        ("cron", "* " * 2_000, "256 characters at most"),
        ("timeZone", 5, "expected a string"),
        ("timeZone", "localtime", "expected a time zone"),
        ("timeZone", "../../etc/passwd", "expected a time zone"),
        ("at", "2020-01-01T00:00:00Z", "in the past"),
        ("at", "9999-12-31T23:59:59", "a time"),
        ("missed", True, "expected a string"),
        ("scheduleId", "x" * 129, "1 to 128 bytes"),
        ("workflowDefinitionId", None, "expected a string"),
    ],
)
def test_a_field_that_is_wrong_is_named(wire: Wire, field: str, value: Any, words: str) -> None:
    given = {"at": value, "timeZone": "America/New_York"} if field == "at" else {"cron": "0 0 1 1 *", field: value}
    found = faults(wire.post("/schedule", {"workflowDefinitionId": saved(wire), **given}))
    assert set(found) == {field}
    assert words in found[field]


def test_what_a_schedule_needs_has_to_be_there(wire: Wire) -> None:
    problem(
        wire.post("/schedule", {"workflowDefinitionId": "nothing", "cron": "* * * * *"}), 404, "definition_not_found"
    )
    needs_agent = saved(wire, {"id": name("flow"), "tasks": [{"taskId": "only"}]})
    document = {"workflowDefinitionId": needs_agent, "cron": "* * * * *"}
    assert set(faults(wire.post("/schedule", document))) == {"tasks"}
    problem(wire.post("/schedule", {**document, "agentId": "nobody"}), 404, "agent_not_found")
    assert set(faults(wire.post("/schedule", {}))) == {"workflowDefinitionId", ""}


def test_schedules_are_listed_in_pages(wire: Wire) -> None:
    workflow_id = saved(wire)
    made = [
        created(wire, workflowDefinitionId=workflow_id, cron="0 0 1 1 *", scheduleId=name(f"s{number}"))["scheduleId"]
        for number in range(3)
    ]
    first = wire.get("/schedule", workflowId=workflow_id, limit=2).json()
    rest = wire.get("/schedule", workflowId=workflow_id, limit=2, cursor=first["nextCursor"]).json()
    assert [item["scheduleId"] for item in first["items"] + rest["items"]] == sorted(made)
    assert rest["nextCursor"] is None
    problem(wire.get("/schedule", limit=501), 422, "validation_failed")


def test_a_schedule_says_why_its_run_waits(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", "--sessions-open-max", "1") as (_, wire):
        session_id = wire.trigger(one_task("work"))
        made = created(wire, at=(datetime.now(UTC) + timedelta(seconds=0.2)).isoformat())
        deadline = time.monotonic() + PATIENCE_S
        while (shown := wire.get(f"/schedule/{made['scheduleId']}").json())["lastError"] is None:
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
        assert (shown["lastError"]["code"], shown["fired"]) == ("queue_full", 0)
        claimed = wire.claimed(wire.register("work"))
        wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1})
        wire.ended(session_id)
        shown = fired(wire, made["scheduleId"])
        assert (shown["lastError"], shown["nextDueAt"]) == (None, None)
