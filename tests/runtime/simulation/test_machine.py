"""The world as a state machine: any steps in any order keep every promise, and a planted bug is found."""

import threading
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from opscore.runtime.agents import reports
from opscore.runtime.models import Task
from opscore.runtime.runs import transitions
from opscore.runtime.runs.run import Run, Step
from opscore.runtime.simulation import documents
from opscore.runtime.simulation.invariants import InvariantBroken
from opscore.runtime.simulation.machine import WorldMachine
from opscore.runtime.simulation.pumping import PumpedRun

SHORT = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def test_whatever_happens_in_any_order_every_promise_is_kept() -> None:
    ended = 0

    class Counted(WorldMachine):
        def teardown(self) -> None:
            nonlocal ended
            super().teardown()
            ended += 1

    run_state_machine_as_test(Counted, settings=SHORT)
    assert ended >= SHORT.max_examples, "each of them came to its end"


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatch = transitions.dispatch

    def uncounted(run: Run, task: Task, agent_id: str, now: float) -> Step:
        step = dispatch(run, task, agent_id, now)
        return attrs.evolve(step, changed=tuple(attrs.evolve(each, attempt=0) for each in step.changed))

    monkeypatch.setattr(transitions, "dispatch", uncounted)
    quick = settings(SHORT, max_examples=200, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises(InvariantBroken, match="attempts_count_dispatches"):
        run_state_machine_as_test(WorldMachine, settings=quick)


def test_a_pumped_run_goes_no_further_than_it_is_pumped() -> None:
    said: list[str] = []

    async def live() -> None:
        for hour in range(3):
            await trio.sleep(3_600.0)
            said.append(f"hour {hour}")

    run = PumpedRun(live)
    run.pump(until=lambda: len(said) == 1)
    assert said == ["hour 0"]
    assert not run.over
    run.pump(until=lambda: False)
    assert said == ["hour 0", "hour 1", "hour 2"]
    assert run.over


def test_a_pumped_run_ends_with_what_it_raised() -> None:
    async def live() -> None:
        await trio.sleep(1.0)
        raise ValueError("so it ends")

    with pytest.raises(ValueError, match="so it ends"):
        PumpedRun(live).pump(until=lambda: False)


def test_a_pumped_run_that_goes_round_in_circles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opscore.runtime.simulation.pumping.STANDSTILL_TICKS", 100)
    over = False

    async def live() -> None:
        while not over:
            await trio.lowlevel.checkpoint()

    run = PumpedRun(live)
    with pytest.raises(AssertionError, match="on and on"):
        run.pump(until=lambda: False)
    over = True
    run.pump(until=lambda: False)


def test_a_pumped_run_refuses_threads() -> None:
    refused: list[BaseException] = []

    async def live() -> None:
        await trio.sleep(1.0)

    run = PumpedRun(live)

    def interfere() -> None:
        try:
            run._soon(lambda: None)  # noqa: SLF001 (what trio would call)
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=interfere)
    thread.start()
    thread.join()
    assert len(refused) == 1
    with pytest.raises(AssertionError, match="a thread took part"):
        run.pump(until=lambda: False)
    run._strayed = False  # noqa: SLF001 (so that it ends)
    run.pump(until=lambda: run.over)


def test_reports_are_among_what_a_machine_finds_bugs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    meaning = reports.meaning

    def gullible(state: str, details: dict[str, Any] | None, lease: Any) -> reports.Meaning:
        said = {key: value for key, value in (details or {}).items() if key != "opscore_attempt"}
        return meaning(state, said, attrs.evolve(lease, active_seen=True))

    monkeypatch.setattr(reports, "meaning", gullible)
    # Plain workflows, in which agents have the most to say.
    monkeypatch.setattr(documents, "enriched", lambda document, _capabilities: st.just(document))
    quick = settings(
        SHORT,
        max_examples=3_000,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(InvariantBroken, match="results_are_of_their_attempts"):
        run_state_machine_as_test(WorldMachine, settings=quick)
