"""kill -9 of a server under load: what was accepted is done, and nothing is done twice."""

import collections
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from tests.gateway.gateway_process import (
    API_KEY,
    PATIENCE_S,
    PREFIX,
    GatewayProcess,
    Wire,
    gateway,
    name,
    now_iso,
    one_task,
    problem,
)
from tests.gateway.raw_server import free_port

AGENTS = 4
KILLS = 3
RUNS_MIN = 5
WORKFLOW = {
    "id": "chain",
    "tasks": [
        {"taskId": "first", "agentCapability": "work", "retry": {"initialDelaySeconds": 0}},
        {"taskId": "second", "agentCapability": "work", "retry": {"initialDelaySeconds": 0}},
    ],
}


@attrs.define
class Load:
    """Clients that trigger runs and agents that work on them, through any number of restarts; and their ledgers."""

    url: str
    over: threading.Event = attrs.field(factory=threading.Event)
    triggering_over: threading.Event = attrs.field(factory=threading.Event)
    accepted: dict[str, str] = attrs.field(factory=dict)
    """Sessions that were answered 202, by idempotency key."""
    completed: list[tuple[str, int]] = attrs.field(factory=list)
    """(task, attempt) whose completion was answered 200."""
    handed: list[tuple[str, int]] = attrs.field(factory=list)
    """(task, attempt) as agents were handed them."""
    surprises: list[str] = attrs.field(factory=list)

    def open(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        return httpx.Client(base_url=f"{self.url}{PREFIX}", headers=headers, trust_env=False, timeout=5.0)

    def insist(self, http: httpx.Client, path: str, document: Any, **headers: str) -> httpx.Response | None:
        """Call until there is an answer that is no 503; every call here is safe to repeat."""
        while not self.over.is_set():
            try:
                answer = http.post(path, json=document, headers=headers)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code != 503:
                return answer
            time.sleep(0.02)
        return None

    def trigger(self) -> None:
        with self.open() as http:
            while not self.triggering_over.is_set():
                key = name("key")
                answer = self.insist(http, "/workflow/chain/trigger", {}, **{"Idempotency-Key": key})
                if answer is None:
                    return
                if answer.status_code == 202:
                    self.accepted[key] = answer.json()["sessionId"]
                else:
                    self.surprises.append(answer.text)
                time.sleep(0.03)

    def work(self, agent_id: str) -> None:
        with self.open() as http:
            while not self.over.is_set():
                claim_id = name("claim")
                answer = self.insist(http, f"/agent/{agent_id}/claim?waitSeconds=1", {"claimId": claim_id})
                if answer is None or answer.status_code == 204:
                    continue
                if answer.status_code != 200:
                    self.surprises.append(answer.text)
                    continue
                task_id, attempt = answer.json()["task"]["taskId"], answer.json()["attempt"]
                self.handed.append((task_id, attempt))
                done = self.insist(http, f"/task/{task_id}/complete", {"attempt": attempt, "result": agent_id})
                if done is None:
                    return
                if done.status_code == 200:
                    self.completed.append((task_id, attempt))
                elif done.status_code != 409:  # It was taken before the kill, and the answer was lost.
                    self.surprises.append(done.text)


def killed_under(load: Load, directory: Path, port: int) -> None:
    """Kill and restart the server some times while the load goes on, each time in the midst of it."""
    for kill in range(KILLS):
        with gateway(directory, port=port) as (process, wire):
            if kill == 0:
                prepare(wire, load)
            before, deadline = len(load.accepted), time.monotonic() + PATIENCE_S
            while len(load.accepted) < before + RUNS_MIN:
                assert time.monotonic() < deadline, load
                time.sleep(0.01)
            process.kill()


def prepare(wire: Wire, load: Load) -> None:
    assert wire.post("/workflow", WORKFLOW).status_code == 201
    for number in range(AGENTS):
        wire.register("work", agent_id=f"agent-{number}")
    for target in (load.trigger, load.trigger):
        threading.Thread(target=target, name="trigger").start()
    for number in range(AGENTS):
        threading.Thread(target=load.work, args=(f"agent-{number}",), name="work").start()


def test_every_run_that_was_accepted_completes_once_across_kills(tmp_path: Path) -> None:
    port = free_port()
    load = Load(url=f"http://127.0.0.1:{port}")
    try:
        killed_under(load, tmp_path / "data", port)
        with gateway(tmp_path / "data", port=port) as (_, wire):
            load.triggering_over.set()
            joined("trigger")
            found = {session_id: wire.ended(session_id) for session_id in load.accepted.values()}
            repeated = [
                wire.http.post(f"{PREFIX}/workflow/chain/trigger", json={}, headers={"Idempotency-Key": key})
                for key in load.accepted
            ]
            listed = wire.get("/session", limit=500).json()["items"]
    finally:
        load.triggering_over.set()
        load.over.set()
        joined("trigger", "work")
    assert load.surprises == []
    assert len(load.accepted) >= KILLS * RUNS_MIN
    assert {session["status"] for session in found.values()} == {"completed"}
    assert [answer.json()["sessionId"] for answer in repeated] == list(load.accepted.values())
    # A run whose 202 was lost in a kill was asked for again with its key: there is none beside those accepted.
    assert {item["sessionId"] for item in listed} == set(load.accepted.values())
    tasks = [task for session in found.values() for task in session["tasks"]]
    assert {task["retries"] for task in tasks} == {0}
    per_task = collections.Counter(task_id for task_id, _ in load.completed)
    assert max(per_task.values()) == 1
    final = {task["taskId"]: task["attempt"] for task in tasks}
    assert all(final[task_id] == attempt for task_id, attempt in load.completed)


def joined(*names: str) -> None:
    for thread in threading.enumerate():
        if thread.name in names:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_an_attempt_is_still_its_agents_after_a_kill(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, wire):
        session_id = wire.trigger(one_task("work"))
        claimed = wire.claimed(wire.register("work", agent_id="ada"))
        process.kill()
    with gateway(tmp_path / "data") as (_, wire):
        task_id = claimed["task"]["taskId"]
        assert wire.post(f"/task/{task_id}/heartbeat", {"attempt": 1}).status_code == 200
        assert wire.post(f"/task/{task_id}/complete", {"attempt": 1, "result": 1}).status_code == 200
        assert wire.ended(session_id)["tasks"][0]["attempt"] == 1


def test_a_claim_whose_answer_was_lost_in_a_kill_is_answered_again(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, wire):
        wire.trigger(one_task("work"))
        wire.register("work", agent_id="ada")
        first = wire.claim("ada", claim_id="mine").json()
        process.kill()
    with gateway(tmp_path / "data") as (_, wire):
        again = wire.claim("ada", claim_id="mine").json()
        assert (again["task"], again["attempt"]) == (first["task"], first["attempt"])


def test_a_retry_delay_goes_on_across_a_kill(tmp_path: Path) -> None:
    delay_s = 8.0  # longer than a restart takes, also on a busy machine
    retry = {"maxRetries": 1, "initialDelaySeconds": delay_s, "jitter": False}
    with gateway(tmp_path / "data") as (process, wire):
        session_id = wire.trigger(one_task("work", retry=retry))
        claimed = wire.claimed(wire.register("work", agent_id="ada"))
        failed_at = time.time()
        assert wire.post(f"/task/{claimed['task']['taskId']}/fail", {"attempt": 1, "error": "x"}).status_code == 200
        due_at = wire.session(session_id)["tasks"][0]["dueAt"]
        process.kill()
    with gateway(tmp_path / "data") as (_, wire):
        waiting = wire.session(session_id)["tasks"][0]
        assert (waiting["status"], waiting["retries"], waiting["dueAt"]) == ("pending_retry", 1, due_at)
        again = wire.claimed("ada")
        assert again["attempt"] == 2
        assert delay_s - 0.1 <= time.time() - failed_at < delay_s + 5


def test_what_agents_said_and_what_operators_did_is_there_after_a_kill(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, wire):
        wire.register("work", agent_id="ada")
        wire.report("ada", "BUSY", {"load": 1}, "2026-01-31T12:00:00Z")
        wire.post("/agent/ada/cordon")
        before = wire.get("/agent/ada").json()
        process.kill()
    with gateway(tmp_path / "data") as (_, wire):
        assert wire.get("/agent/ada").json() == before


@pytest.mark.parametrize("ends", ["killed", "stopped"])
def test_the_limit_on_unfinished_runs_counts_those_from_before_a_restart(tmp_path: Path, ends: str) -> None:
    options = ("--sessions-open-max", "2")
    with gateway(tmp_path / "data", *options) as (process, wire):
        definition = one_task("work")
        for _ in range(2):
            wire.trigger(definition)
        stop(process, ends)
    with gateway(tmp_path / "data", *options) as (_, wire):
        problem(wire.post(f"/workflow/{definition['id']}/trigger", {}), 503, "queue_full")
        claimed = wire.claimed(wire.register("work"))
        wire.post(f"/task/{claimed['task']['taskId']}/complete", {"attempt": 1})
        wire.ended(claimed["task"]["sessionId"])
        assert wire.post(f"/workflow/{definition['id']}/trigger", {}).status_code == 202


def stop(process: GatewayProcess, how: str) -> None:
    if how == "killed":
        process.kill()
    else:
        assert process.end() == 0


def test_times_are_told_in_utc_with_microseconds(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", TZ="Asia/Tokyo") as (_, wire):
        session = wire.session(wire.trigger({"id": "none", "tasks": []}))
        assert now_iso(-60) < session["startTime"] < now_iso(60)
        assert session["endTime"].endswith("Z")
