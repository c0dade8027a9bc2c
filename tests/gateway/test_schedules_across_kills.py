"""kill -9 of a server whose schedules are due every second: one run for every due time, whenever it strikes."""

import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opscore.runtime.journal.opening import open_reader
from opscore.runtime.journal.tables import RECORDS, SESSIONS
from opscore.runtime.store import JOURNAL_TABLE
from tests.gateway.gateway_process import PATIENCE_S, Wire, gateway

KILLS = 6
ALIVE_S_MAX = 2.5
SECONDLY = ("a", "b", "c")
SINGLE = tuple(f"at-{number}" for number in range(8))


def read(directory: Path) -> tuple[dict[str, list[float]], Counter[str], int]:
    """What a store that nobody has open says: each schedule's due times in order, their sessions, all sessions."""
    due_times: dict[str, list[float]] = {}
    sessions: Counter[str] = Counter()
    with open_reader(directory) as reader, reader.snapshot() as view:
        for key, stored in view.scan(JOURNAL_TABLE):
            line = RECORDS.decode(key, stored)
            if line.kind == "schedule.fired":
                assert line.session_id is not None
                assert SESSIONS.read(view, line.session_id).row is not None
                due_times.setdefault(line.entity_id, []).append(line.data["dueAt"])
                sessions[line.session_id] += 1
        return due_times, sessions, view.count(SESSIONS.name)


def shown(wire: Wire, schedule_id: str) -> dict[str, Any]:
    return dict(wire.get(f"/schedule/{schedule_id}").json())


def caught_up(wire: Wire) -> None:
    """Wait until nothing is due that has not started its run."""
    deadline = time.monotonic() + PATIENCE_S
    while any(
        each["nextDueAt"] is not None and datetime.fromisoformat(each["nextDueAt"]).timestamp() < time.time() - 1
        for each in (shown(wire, schedule_id) for schedule_id in (*SECONDLY, *SINGLE))
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_due_time_starts_one_run_across_kills(tmp_path: Path) -> None:
    directory, dice = tmp_path / "data", random.Random(20261125)
    first: dict[str, float] = {}
    with gateway(directory) as (process, wire):
        assert wire.post("/workflow", {"id": "w", "tasks": []}).status_code == 201
        begin = time.time()
        for number, schedule_id in enumerate(SINGLE):
            at = datetime.fromtimestamp(begin + 1.3 * (number + 1), UTC).isoformat()
            document = {"scheduleId": schedule_id, "workflowDefinitionId": "w", "at": at, "missed": "all"}
            assert wire.post("/schedule", document).status_code == 201
        for schedule_id in SECONDLY:
            document = {"scheduleId": schedule_id, "workflowDefinitionId": "w", "cron": "* * * * * *", "missed": "all"}
            made = wire.post("/schedule", document).json()
            first[schedule_id] = datetime.fromisoformat(made["nextDueAt"]).timestamp()
        time.sleep(ALIVE_S_MAX)
        process.kill()
    for _ in range(KILLS - 1):
        with gateway(directory) as (process, _):
            # Also in the midst of starting what was missed meanwhile.
            time.sleep(dice.choice([dice.uniform(0, 0.05), dice.uniform(0, ALIVE_S_MAX)]))
            process.kill()
    with gateway(directory) as (process, wire):
        caught_up(wire)
        for schedule_id in SECONDLY:
            assert wire.post(f"/schedule/{schedule_id}/pause").status_code == 200
        told = {schedule_id: shown(wire, schedule_id) for schedule_id in (*SECONDLY, *SINGLE)}
        assert process.end() == 0
    due_times, sessions, session_count = read(directory)
    assert set(due_times) == {*SECONDLY, *SINGLE}
    for schedule_id in SECONDLY:
        found = due_times[schedule_id]
        assert found == [first[schedule_id] + second for second in range(len(found))], (
            "none is missing, none came twice"
        )
        assert len(found) >= KILLS
        last = datetime.fromisoformat(told[schedule_id]["lastDueAt"]).timestamp()
        assert (told[schedule_id]["fired"], last) == (len(found), found[-1])
    assert {schedule_id: len(due_times[schedule_id]) for schedule_id in SINGLE} == dict.fromkeys(SINGLE, 1)
    assert set(sessions.values()) == {1}
    assert session_count == len(sessions)
