"""The tasks of a session on the wire: left out, listed page by page, and bounded where they are shown with it."""

import time
from pathlib import Path
from typing import Any

import attrs

from opscore.gateway.routes.workflow_routes import TASKS_BYTES_MAX
from opscore.runtime.identity import numbered
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import SESSIONS, TASKS
from opscore.runtime.models import Session, SessionStatus, Task, TaskStatus
from opscore.runtime.store import Submission
from tests.gateway.gateway_process import Wire, gateway, name, one_task, problem


def listed(wire: Wire, session_id: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"nextCursor": None}
    while page["nextCursor"] is not None or not found:
        given = {"cursor": page["nextCursor"]} if page["nextCursor"] else {}
        page = wire.get(f"/session/{session_id}/tasks", limit=limit, **given).json()
        assert len(page["items"]) <= limit
        found += page["items"]
    return found


def test_the_tasks_of_a_session_are_left_out_or_listed_page_by_page(wire: Wire) -> None:
    capability = name("cap")
    tasks = [{"taskId": f"t{number}", "agentCapability": capability} for number in range(7)]
    session_id = wire.trigger({"id": name("flow"), "tasks": tasks})
    shown = wire.get(f"/session/{session_id}").json()
    assert listed(wire, session_id, 3) == shown["tasks"] == wire.session(session_id)["tasks"]
    assert len(shown["tasks"]) == 7
    assert wire.get(f"/session/{session_id}", tasks="none").json() == {**shown, "tasks": []}
    assert wire.get(f"/session/{session_id}", tasks="all", waitSeconds=0.01).json() == shown


def test_what_is_wrong_with_a_query_for_tasks_is_told_at_once(wire: Wire) -> None:
    session_id = wire.trigger(one_task(name("cap")))
    answer = wire.get(f"/session/{session_id}", tasks="some", waitSeconds="long")
    told = problem(answer, 422, "validation_failed")
    assert {each["path"] for each in told["errors"]} == {"tasks", "waitSeconds"}
    problem(wire.get(f"/session/{session_id}/tasks", cursor="x"), 422, "validation_failed")
    problem(wire.get("/session/ses_none/tasks"), 404, "session_not_found")
    problem(wire.get("/session/ses_none", tasks="none"), 404, "session_not_found")


def test_a_session_with_more_than_is_shown_at_once_says_how_to_read_it(tmp_path: Path) -> None:
    result, now = "x" * 256_000, time.time()
    count = TASKS_BYTES_MAX // len(result) + 1
    session = Session(session_id="ses_1", workflow_id="w", definition_key="d", created_at=now)
    ended = attrs.evolve(session, status=SessionStatus.COMPLETED, ended_at=now)
    task = Task(task_id="", session_id="ses_1", key="t", ordinal=0, status=TaskStatus.COMPLETED, result=result)
    tasks = [attrs.evolve(task, task_id=numbered("ses_1", place, count), ordinal=place) for place in range(count)]
    with open_store(tmp_path / "data") as store:
        store.apply([Submission(writes=(SESSIONS.put(ended), *map(TASKS.put, tasks)))])
    with gateway(tmp_path / "data") as (_, wire):
        for given in ({}, {"waitSeconds": 10}):
            told = problem(wire.get("/session/ses_1", **given), 422, "limit_exceeded")
            assert "tasks=none" in told["detail"]
        shown = wire.get("/session/ses_1", tasks="none").json()
        assert (shown["status"], shown["tasks"], shown["result"]) == ("completed", [], None)
        assert len(listed(wire, "ses_1", 500)) == count
