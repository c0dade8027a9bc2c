"""`opscore simulate` as a person or a script runs it."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from opscore.runtime.simulation.faults import Faults, fault_names

PATIENCE_S = 60.0
COMMAND = [sys.executable, "-m", "opscore", "simulate"]
ORDERS = """\
id: orders
tasks:
  - {taskId: reserve, agentCapability: stock}
  - {taskId: charge, agentCapability: payment, retry: {maxRetries: 0}}
"""
FLEET = """\
agents:
  - name: worker
    count: 3
    skills: {stock: {latency: {constant: 1}}, payment: {latency: {constant: 2}}}
"""


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory with a workflow, as YAML and as JSON, and a fleet."""
    (tmp_path / "orders.yaml").write_text(ORDERS)
    tasks = [{"taskId": "reserve", "agentCapability": "stock"}, {"taskId": "charge", "agentCapability": "payment"}]
    (tmp_path / "orders.json").write_text(json.dumps({"id": "orders", "tasks": tasks}))
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path


def says(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_workflow_that_completes_everywhere_exits_with_0_and_shows_how_long_runs_take(path: Path) -> None:
    done = run("orders.yaml", "--agents", "fleet.yaml", "--faults", "none", "--seeds", "3", "--runs", "4", cwd=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("orders: 3 worlds (seeds 0 to 2)")
    assert "12 of 12 completed (100 %)" in done.stdout
    assert re.search(r"run time +p50 3 s, p95 \S+ s, p99 \S+ s, longest", done.stdout)
    assert "Times are virtual" in done.stdout
    assert "█" in done.stdout
    assert "kept in every world" in done.stdout
    assert "smallest" not in done.stdout


def test_a_fault_that_is_not_survived_is_named_and_the_smallest_scenario_fails_again(path: Path) -> None:
    done = run("orders.yaml", "--faults", "agent_breaks=0.3,agent_answers_twice", "--seeds", "4", cwd=path)
    assert done.returncode == 1
    assert "× task 'charge' failed: the agent reported error: it broke (agent_error)" in done.stdout
    assert "Faults that it does not survive, each alone:\n\n  agent_breaks: a run has failed" in done.stdout
    assert "agent_answers_twice:" not in done.stdout
    assert "task.failed" in done.stdout[done.stdout.index("What happens in it:") :]
    assert "AssertionError: a run has failed: task 'charge' failed: the agent reported" in pasted(done.stdout, path)


def test_what_comes_late_in_a_run_is_tried_with_faults_as_well(path: Path) -> None:
    tasks = [
        {"taskId": "cool", "type": "delay", "parameters": {"seconds": 900}},
        {"taskId": "charge", "agentCapability": "bank", "retry": {"maxRetries": 0}},
    ]
    (path / "late.json").write_text(json.dumps({"id": "late", "tasks": tasks}))
    given = ("late.json", "--faults", "agent_breaks=1", "--seeds", "1", "--runs", "2", "--json")
    done = says(run(*given, cwd=path), 1)
    assert done["runs"]["failed"] == 2
    assert [each["fault"] for each in done["not_survived"]] == ["agent_breaks"]


def test_a_run_that_waits_for_longer_than_six_hours_by_its_own_word_has_the_time(path: Path) -> None:
    tasks = [
        {"taskId": "cool", "type": "delay", "parameters": {"seconds": 43_200}},
        {"taskId": "approve", "type": "signal", "timeoutSeconds": 43_200, "fallbackTaskId": "escalate"},
        {"taskId": "escalate", "agentCapability": "boss"},
    ]
    (path / "slow.json").write_text(json.dumps({"id": "slow", "tasks": tasks}))
    (path / "boss.json").write_text(
        json.dumps({"agents": [{"name": "boss", "skills": ["boss"], "reportEvery": 3_600}]})
    )
    given = ("slow.json", "--agents", "boss.json", "--faults", "none", "--seeds", "1", "--runs", "1", "--json")
    done = says(run(*given, cwd=path), 0)
    assert done["runs"]["completed"] == 1
    assert done["run_seconds"]["longest"] > 86_400


def test_what_was_to_undo_runs_and_failed_itself_is_told(path: Path) -> None:
    wrong = {
        "id": "trip",
        "onFailure": "tell",
        "tasks": [
            {"taskId": "hotel", "agentCapability": "inn", "compensateTaskId": "cancel"},
            {"taskId": "charge", "agentCapability": "bank", "retry": {"maxRetries": 0}},
            {"taskId": "cancel", "agentCapability": "inn", "parameters": {"ref": "${tasks.hotel.result.ref}"}},
            {"taskId": "tell", "agentCapability": "inn"},
        ],
    }
    broke = {"agents": [{"name": "a", "skills": {"inn": {}, "bank": {"failureRate": 1}}}]}
    (path / "trip.json").write_text(json.dumps(wrong))
    (path / "broke.json").write_text(json.dumps(broke))
    given = ("trip.json", "--agents", "broke.json", "--faults", "none", "--seeds", "1", "--runs", "3")
    done = run(*given, cwd=path)
    assert done.returncode == 1
    said = done.stdout.split("Compensations and failure handlers that failed themselves:\n\n")[1]
    assert re.match(r" +3 × compensation 'cancel' failed: .*\"ref\" \(expression_failed\)\n\n", said)
    (reason,) = says(run(*given, "--json", cwd=path), 1)["handlers"].items()
    assert reason[0].startswith("compensation 'cancel' failed: ")
    assert reason[1] == 3


def pasted(shown: str, path: Path) -> str:
    """What becomes of the Python that was shown, as it stands there."""
    (path / "again.py").write_text(
        shown[shown.index("from opscore.runtime.limits") : shown.index("What happens in it:")]
    )
    again = subprocess.run([sys.executable, "again.py"], cwd=path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    return again.stderr


def test_the_smallest_scenario_that_is_late_is_late_when_it_is_pasted(path: Path) -> None:
    done = run("orders.yaml", "--faults", "none", "--seeds", "1", "--runs", "1", "--within", "0.3", cwd=path)
    assert done.returncode == 1
    late = done.stdout.split("The smallest scenario found in which ")[1].splitlines()[0]
    assert re.fullmatch(r"a run takes \S+ s", late)
    assert f"AssertionError: {late}" in pasted(done.stdout, path)


def test_json_has_the_figures_and_the_same_seeds_have_the_same(path: Path) -> None:
    arguments = ("orders.yaml", "--faults", "agent_breaks=0.5", "--seeds", "2", "--start-seed", "5", "--json")
    first, second = says(run(*arguments, cwd=path), 1), says(run(*arguments, cwd=path), 1)
    assert {**first, "took_seconds": 0} == {**second, "took_seconds": 0}
    assert first["worlds"] == {"planned": 2, "played": 2, "first_seed": 5}
    assert first["workflow"] == "orders"
    runs = first["runs"]
    assert runs["completed"] + runs["failed"] == 20
    assert first["completion_rate"] == runs["completed"] / 20
    assert first["failures"] == runs["failed"] == sum(first["reasons"].values())
    assert set(first["faults"]) == {"agent_breaks"}
    assert [each["fault"] for each in first["not_survived"]] == ["agent_breaks"]
    (smallest,) = first["smallest"]
    assert "play(Scenario(" in smallest["python"]
    assert smallest["timeline"]
    assert first["broken_promises"] == []
    assert first["interrupted"] is False


def test_a_run_that_takes_too_long_goes_wrong_and_without_a_fault_that_is_said(path: Path) -> None:
    given = ("orders.json", "--agents", "fleet.yaml", "--faults", "none", "--seeds", "1", "--runs", "2")
    assert run(*given, "--within", "60", cwd=path).returncode == 0
    done = run(*given, "--within", "2", cwd=path)
    assert done.returncode == 1
    assert "2 took longer than 2 s" in done.stdout
    assert "It goes wrong even without faults: a run takes" in done.stdout


def test_agents_that_leave_for_good_leave_runs_that_do_not_end(path: Path) -> None:
    (path / "fleet.yaml").write_text(FLEET + "    leavesAt: 8\n    leavingShare: 1\n")
    given = ("orders.yaml", "--agents", "fleet.yaml", "--faults", "none", "--seeds", "1", "--runs", "3", "--json")
    said = says(run(*given, cwd=path), 1)
    assert said["runs"]["completed"] < 3
    assert said["runs"]["failed"] + said["runs"]["unended"] > 0
    assert said["broken_promises"] == []
    (path / "fleet.yaml").write_text(FLEET + "    leavesAt: 8\n    leavingShare: 0.4\n")
    assert says(run(*given, cwd=path))["runs"]["completed"] == 3


def test_a_payload_reaches_every_run(path: Path) -> None:
    given = ("orders.json", "--payload", '{"n": 17}', "--faults", "none", "--seeds", "1", "--within", "0.001")
    assert "'n': 17" in says(run(*given, "--json", cwd=path), 1)["smallest"][0]["python"]


def test_the_faults_are_listed_with_what_they_mean(path: Path) -> None:
    done = run("--faults", "list", cwd=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(fault_names())
    assert [line.split()[0] for line in done.stdout.splitlines() if "not among `usual`" in line] == ["run_poisoned"]
    assert re.search(r"agent_hangs +0.02 +it says nothing about its work for hours \(a chance for each", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'WORKFLOW'"),
        (("nowhere.yaml",), "nowhere.yaml cannot be read: No such file"),
        (("fleet.yaml",), "fleet.yaml is not a valid workflow definition:\n  the whole: id and tasks must be given"),
        (("orders.yaml", "--agents", "orders.yaml"), "orders.yaml is not a valid fleet:\n  the whole: unknown field"),
        (("broken.yaml",), "broken.yaml is not YAML"),
        (("orders.txt",), "orders.txt is not JSON; YAML is read from files named .yaml"),
        (("orders.yaml", "--payload", "{"), "--payload is not JSON"),
        (("orders.yaml", "--faults", "agent_naps"), "there is no fault 'agent_naps'"),
        (("orders.yaml", "--faults", "agent_hangs=2"), "agent_hangs=2 has to have a rate from 0 to 1"),
        (("orders.yaml", "--faults", "agent_hangs=often"), "rate from 0 to 1"),
        (("orders.yaml", "--seeds", "0"), "--seeds"),
        (("orders.yaml", "--within", "nan"), "Invalid value for '--within': 'nan' is not a number of seconds"),
        (("orders.yaml", "--within", "inf"), "Invalid value for '--within': 'inf' is not a number of seconds"),
        (("orders.yaml", "--every", "nan"), "Invalid value for '--every': 'nan' is not a number of seconds"),
        (("orders.yaml", "--signal", "go@nan"), "needs a name, and at most"),
        (("orders.yaml", "--faults", "agent_hangs=nan"), "rate from 0 to 1"),
    ],
)
def test_wrong_input_is_told_and_exits_with_2(arguments: tuple[str, ...], said: str, path: Path) -> None:
    (path / "broken.yaml").write_text("id: [")
    (path / "orders.txt").write_text(ORDERS)
    done = run(*arguments, cwd=path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_every_fault_of_a_fleet_is_told_with_its_place(path: Path) -> None:
    (path / "fleet.yaml").write_text("agents: [{name: a, kind: pull, skills: {stock: {failureRat: 1}}}]")
    assert run("orders.yaml", "--agents", "fleet.yaml", cwd=path).stderr.splitlines() == [
        "opscore: fleet.yaml is not a valid fleet:",
        "  agents[0].kind: expected push, claim or local",
        "  agents[0].skills.stock: unknown field 'failureRat'; did you mean 'failureRate'?",
        "  agents: no agent has the skill 'payment', which task 'charge' asks for",
    ]


def test_ctrl_c_tells_what_is_known_and_exits_with_130(path: Path) -> None:
    arguments = [*COMMAND, "orders.json", "--faults", "agent_answers_twice", "--seeds", "100000", "--json"]
    leader, follower = pty.openpty()
    with subprocess.Popen(arguments, cwd=path, stdout=subprocess.PIPE, stderr=follower, text=True) as process:
        os.close(follower)
        try:
            told, ends_at = "", time.monotonic() + PATIENCE_S
            while not re.search(r"world ([2-9]|\d\d+) of 100,000", told):
                assert time.monotonic() < ends_at, told
                if select.select([leader], [], [], 1.0)[0]:
                    told += os.read(leader, 4_096).decode()
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            said = json.loads(process.stdout.read())
            assert process.wait(PATIENCE_S) == 130
        finally:
            # Leaving the block waits for it, which would hide why the test failed.
            process.kill()
    os.close(leader)
    assert said["interrupted"] is True
    assert 2 <= said["worlds"]["played"] < 100_000
    assert said["runs"]["completed"] > 0
    assert said["broken_promises"] == []


def test_what_comes_later_in_a_list_of_faults_goes_over_what_came_before() -> None:
    from opscore.gateway.commands.simulate_input import read_faults

    most = Faults.usual().without(["run_poisoned"])
    assert read_faults("usual") == most
    assert read_faults("usual,run_poisoned") == Faults.usual()
    assert read_faults("run").on() == ("run_poisoned",)
    assert read_faults("none") == Faults()
    assert read_faults("usual, none, agent_hangs") == Faults.usual("agent_hangs")
    assert read_faults("agent,agent_hangs=0.2").agent_hangs == 0.2
    assert read_faults("usual,process_dies=0") == most.without(["process_dies"])
    assert set(read_faults("delivery=0.5").on()) == {name for name in fault_names() if name.startswith("delivery_")}


APPROVED = """\
id: approved
tasks:
  - {taskId: approve, type: signal, timeoutSeconds: 60}
  - {taskId: pack, type: workflow, parameters: {workflowId: packing}}
"""
PACKING = "{id: packing, tasks: [{taskId: pack, agentCapability: hands}]}"


def test_runs_are_told_signals_and_start_other_workflows_whose_agents_are_there(path: Path) -> None:
    (path / "approved.yaml").write_text(APPROVED)
    (path / "packing.yaml").write_text(PACKING)
    told = ["approved.yaml", "--saved", "packing.yaml", "--faults", "none", "--seeds", "2", "--runs", "3"]
    done = run(*told, "--signal", 'approve@20={"by": "ada"}', cwd=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 completed (100 %)" in done.stdout, "a run that another one began is none of its own"
    silent = run(*told, cwd=path)
    assert silent.returncode == 1
    assert "the signal 'approve' did not come within 60 s" in silent.stdout


def test_the_smallest_scenario_shows_the_failure_that_is_told_and_no_other(path: Path) -> None:
    tasks = [
        {"taskId": "approve", "type": "signal", "timeoutSeconds": 60},
        {"taskId": "check", "agentCapability": "hands", "parameters": {"by": "${tasks.approve.result.name}"}},
    ]
    (path / "checked.json").write_text(json.dumps({"id": "checked", "tasks": tasks}))
    told = ["checked.json", "--faults", "none", "--seeds", "2", "--signal", 'approve@2={"by": "ada"}', "--json"]
    found = says(run(*told, cwd=path), 1)
    assert "task 'check' failed" in found["smallest"][0]["why"]


@pytest.mark.parametrize("signal", ["aprove", "@5", "approve@soon", "approve={", "approve@-1"])
def test_a_signal_that_can_not_be_told_is_refused_by_name(path: Path, signal: str) -> None:
    (path / "approved.yaml").write_text(APPROVED)
    done = run("approved.yaml", "--signal", signal, cwd=path)
    assert done.returncode == 2
    assert "--signal: " in done.stderr


def test_a_payload_that_no_run_could_begin_with_is_refused_before_the_first_world(path: Path) -> None:
    schema = "{type: object, required: [order]}"
    (path / "strict.yaml").write_text(f"{{id: strict, inputSchema: {schema}, tasks: [{{taskId: a, agentId: b}}]}}")
    done = run("strict.yaml", cwd=path)
    assert done.returncode == 2
    assert "a run without --payload does not fit the inputSchema of strict.yaml" in done.stderr
    assert "the whole: null is not of type 'object'" in done.stderr
    done = run("strict.yaml", "--payload", "[7]", cwd=path)
    assert done.returncode == 2
    assert "opscore: --payload does not fit the inputSchema of strict.yaml" in done.stderr
    assert run("strict.yaml", "--payload", '{"order": 7}', "--faults", "none", "--seeds", "1", cwd=path).returncode == 0


def test_who_and_what_is_missing_for_a_workflow_that_is_started_is_told_before_a_world_is_played(path: Path) -> None:
    (path / "approved.yaml").write_text(APPROVED)
    (path / "packing.yaml").write_text(PACKING.replace("packing", "other"))
    given = ("approved.yaml", "--saved", "packing.yaml")
    done = run(*given, "--agents", "fleet.yaml", cwd=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "opscore: approved.yaml starts workflows that no --saved gives:",
        "  task 'pack': there is no workflow 'packing'",
        "fleet.yaml is not a valid fleet:",
        "  agents: no agent has the skill 'hands', which task 'pack' of workflow 'other' asks for",
    ]
    assert "there is no workflow 'packing'" in run("approved.yaml", cwd=path).stderr
    (path / "approved.yaml").write_text(APPROVED.replace("packing", "'${input.which}'"))
    assert run(*given, "--faults", "none", "--seeds", "1", "--runs", "1", cwd=path).returncode == 1, "only a run knows"
