"""The guide for those who write agents: its agents do what it says of them, killed, cancelled and stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.gateway_process import API_KEY, PATIENCE_S, POLL_S, GatewayProcess, Wire, gone, name, one_task
from tests.gateway.guides import FOLDER, files_of

PAGES = [FOLDER / "agents.md", *sorted((FOLDER / "agents").glob("*.md"))]
FILES = {file: text for page in PAGES for file, text in files_of(page.read_text()).items()}
CAPABILITIES = {"translator.py": "translation", "printer.py": "printing", "shouter.py": "shouting"}
Start = Callable[..., "subprocess.Popen[str]"]


def environment(url: str, agent_id: str) -> dict[str, str]:
    given = {"OPSCORE_URL": url, "OPSCORE_API_KEY": API_KEY, "AGENT_ID": agent_id, "no_proxy": "*"}
    return {**os.environ, **given}


@pytest.fixture
def start(server: GatewayProcess, tmp_path: Path) -> Iterator[Start]:
    """Starts an agent of the guide; its capability is one that no other test has."""
    with ExitStack() as stack:

        def started(
            file: str, agent_id: str, capability: str, url: str = server.url, **changed: str
        ) -> "subprocess.Popen[str]":
            text = FILES[file].replace(f'"{CAPABILITIES[file]}"', f'"{capability}"')
            for before, after in changed.items():
                assert before in text
                text = text.replace(before, after)
            (tmp_path / f"{agent_id}.py").write_text(text)
            command = [sys.executable, "-W", "error", f"{agent_id}.py"]
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment(url, agent_id),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(gone, process)
            return process

        yield started


def ended_task(wire: Wire, session_id: str) -> dict[str, Any]:
    return dict(wire.ended(session_id)["tasks"][0])


def until_idle(wire: Wire, agent_id: str) -> None:
    """Wait for an agent to be there: it registers, and says that it is idle, or claims."""
    deadline = time.monotonic() + PATIENCE_S
    while wire.get(f"/agent/{agent_id}").json().get("state") != "idle":
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def said_at_the_end(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return said


LONG = {"translator.py": ["one"] * 15, "printer.py": ["a page"] * 15}
"""Takes a second and a half."""
DONE = {"translator.py": ["eins"] * 15, "printer.py": 15}
PACE = {"translator.py": {"parameters": {"pause_s": 0.1}}, "printer.py": {}}
each_agent = pytest.mark.parametrize("file", ["translator.py", "printer.py"])


@each_agent
def test_an_agent_of_the_guide_does_one_task_after_the_other(file: str, wire: Wire, start: Start) -> None:
    capability = name("cap")
    start(file, name("agent"), capability)
    sessions = [wire.trigger(one_task(capability, **PACE[file]), payload=LONG[file]) for _ in range(3)]
    for session_id in sessions:
        task = ended_task(wire, session_id)
        assert (task["result"], task["attempt"]) == (DONE[file], 1)


@each_agent
def test_an_agent_of_the_guide_that_crashes_does_its_work_anew_when_it_is_back(
    file: str, wire: Wire, start: Start
) -> None:
    capability, agent_id = name("cap"), name("agent")
    process = start(file, agent_id, capability)
    session_id = wire.trigger(one_task(capability, **PACE[file]), payload=LONG[file])
    wire.until_task(session_id, "running")
    process.kill()
    process.wait()
    start(file, agent_id, capability)
    task = ended_task(wire, session_id)
    assert (task["result"], task["attempt"], task["retries"]) == (DONE[file], 2, 0)


@each_agent
def test_an_agent_of_the_guide_stops_when_its_run_is_cancelled_and_gets_the_next_task(
    file: str, wire: Wire, start: Start
) -> None:
    capability = name("cap")
    start(file, name("agent"), capability)
    endless = [*LONG[file] * 1_000]
    session_id = wire.trigger(one_task(capability, heartbeatSeconds=0.6, **PACE[file]), payload=endless)
    wire.until_task(session_id, "running")
    assert wire.post(f"/session/{session_id}/cancel").status_code == 200
    after = wire.trigger(one_task(capability, **PACE[file]), payload=LONG[file])
    assert ended_task(wire, after)["result"] == DONE[file]


@each_agent
def test_an_agent_of_the_guide_that_is_stopped_ends_what_it_has_and_takes_nothing_new(
    file: str, wire: Wire, start: Start
) -> None:
    capability, agent_id = name("cap"), name("agent")
    process = start(file, agent_id, capability)
    session_id = wire.trigger(one_task(capability, **PACE[file]), payload=LONG[file])
    wire.until_task(session_id, "running")
    process.send_signal(signal.SIGTERM)
    if file == "translator.py":
        # It takes nothing new because it asks for nothing; to who is pushed to it has to be said first.
        after = wire.trigger(one_task(capability), payload=LONG[file])
    else:
        while wire.get(f"/agent/{agent_id}").json()["state"] != "stopping":
            time.sleep(POLL_S)
        after = wire.trigger(one_task(capability), payload=LONG[file])
    said_at_the_end(process)
    task = ended_task(wire, session_id)
    assert (task["result"], task["attempt"]) == (DONE[file], 1)
    assert wire.get(f"/agent/{agent_id}").json()["state"] == "offline"
    assert wire.session(after)["tasks"][0]["status"] == "ready"


@each_agent
def test_an_agent_of_the_guide_rides_out_the_death_of_the_server(file: str, tmp_path: Path, start: Start) -> None:
    capability, agent_id = name("cap"), name("agent")
    with GatewayProcess(tmp_path / "data") as first:
        wire = Wire(http=first.client())
        process = start(file, agent_id, capability, first.url)
        session_id = wire.trigger(one_task(capability, **PACE[file]), payload=LONG[file])
        wire.until_task(session_id, "running")
        first.kill()
    with GatewayProcess(tmp_path / "data", port=first.address.port) as second:
        task = ended_task(Wire(http=second.client()), session_id)
        assert (task["result"], task["attempt"]) == (DONE[file], 1)
        process.send_signal(signal.SIGTERM)
        said_at_the_end(process)


def test_what_can_never_be_translated_is_not_tried_again(wire: Wire, start: Start) -> None:
    capability = name("cap")
    start("translator.py", name("agent"), capability)
    task = ended_task(wire, wire.trigger(one_task(capability), payload=["one", "million"]))
    assert task["error"] == {"code": "no_translation", "message": "there is no translation of 'million'"}
    assert task["attempt"] == 1


def test_what_a_stopped_agent_can_not_end_in_time_goes_to_another(wire: Wire, start: Start) -> None:
    capability = name("cap")
    process = start("translator.py", name("agent"), capability, **{"STOP_WITHIN_S = 20.0": "STOP_WITHIN_S = 0.2"})
    session_id = wire.trigger(one_task(capability, **PACE["translator.py"]), payload=LONG["translator.py"])
    wire.until_task(session_id, "running")
    process.send_signal(signal.SIGTERM)
    said_at_the_end(process)
    start("translator.py", name("agent"), capability)
    task = ended_task(wire, session_id)
    assert (task["result"], task["attempt"], task["retries"]) == (DONE["translator.py"], 2, 0)


def test_the_smallest_agent_answers_with_its_result(wire: Wire, start: Start) -> None:
    capability = name("cap")
    start("shouter.py", "shouter-1", capability)
    until_idle(wire, "shouter-1")
    assert ended_task(wire, wire.trigger(one_task(capability), payload="hello"))["result"] == "HELLO"


def test_an_attempt_that_is_pushed_again_is_not_begun_again_and_no_other_beside_it(wire: Wire, start: Start) -> None:
    capability, agent_id = name("cap"), name("agent")
    process = start("printer.py", agent_id, capability)
    session_id = wire.trigger(one_task(capability), payload=LONG["printer.py"])
    task_id = wire.until_task(session_id, "running")["taskId"]
    endpoint = wire.get(f"/agent/{agent_id}").json()["contactEndpoint"]
    pushed = {"opscore_task_id": task_id, "opscore_attempt": 1, "payload": {"input": LONG["printer.py"]}}
    assert httpx.post(endpoint, json=pushed, trust_env=False).status_code == 202
    assert httpx.post(endpoint, json={**pushed, "opscore_attempt": 2}, trust_env=False).status_code == 503
    assert ended_task(wire, session_id)["result"] == DONE["printer.py"]
    process.send_signal(signal.SIGTERM)
    assert said_at_the_end(process).count("a page\n") == DONE["printer.py"]
