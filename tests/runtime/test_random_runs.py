"""Random runs beside a plain interpreter of the rules."""

import random
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime import transitions
from opscore.runtime.models import SessionStatus, TaskStatus
from opscore.runtime.run import DueAt, Effect, Ended, Ready, Run, Step, Withdrawn
from tests.runtime.runs import ERROR, LIMITS, LOST, NOW, begun, found


class Interpreter:
    """The rules of a run once more, as plainly as they can be said. Every task is one dict."""

    def __init__(self, needs: dict[str, set[str]], retries_max: dict[str, int]) -> None:
        self.needs, self.retries_max = needs, retries_max
        self.tasks: dict[str, dict[str, Any]] = {
            key: {"is": "waits", "attempts": 0, "failures": 0, "losses": 0} for key in needs
        }
        self.broken = False
        self.look_around()

    def look_around(self) -> None:
        for key, task in self.tasks.items():
            if self.broken and task["is"] in ("waits", "ready", "delayed"):
                task["is"] = "dropped"
            if task["is"] == "waits" and all(self.tasks[need]["is"] == "done" for need in self.needs[key]):
                task["is"] = "ready"

    @property
    def session(self) -> str:
        if any(task["is"] == "out" for task in self.tasks.values()):
            return "failing" if self.broken else "running"
        if self.broken:
            return "failed"
        if all(task["is"] == "done" for task in self.tasks.values()):
            return "completed"
        return "running" if any(task["attempts"] for task in self.tasks.values()) else "started"

    def possible(self) -> list[tuple[str, str]]:
        by_state = {
            "ready": ("dispatch",),
            "out": ("complete", "complete", "fail", "fail for good", "lose"),
            "delayed": ("due",),
        }
        return [(what, key) for key, task in self.tasks.items() for what in by_state.get(task["is"], ())]

    def happen(self, what: str, key: str) -> None:
        task = self.tasks[key]
        match what:
            case "dispatch":
                task["is"] = "out"
                task["attempts"] += 1
            case "complete":
                task["is"], task["losses"] = "done", 0
            case "due":
                task["is"] = "ready"
            case "fail":
                self.fail(task, key, for_good=False)
            case "fail for good":
                self.fail(task, key, for_good=True)
            case "lose":
                task["losses"] += 1
                if task["losses"] == LIMITS.dispatch_attempts_max:
                    self.fail(task, key, for_good=False)
                else:
                    task["is"] = "dropped" if self.broken else "ready"
        self.look_around()

    def fail(self, task: dict[str, Any], key: str, *, for_good: bool) -> None:
        task["failures"] += 1
        if for_good or self.broken or task["failures"] > self.retries_max[key]:
            task["is"], self.broken = "dead", True
        else:
            task["is"], task["losses"] = "delayed", 0


SAYS = {
    TaskStatus.PENDING: "waits",
    TaskStatus.READY: "ready",
    TaskStatus.DISPATCHED: "out",
    TaskStatus.RUNNING: "out",
    TaskStatus.PENDING_RETRY: "delayed",
    TaskStatus.COMPLETED: "done",
    TaskStatus.FAILED: "dead",
    TaskStatus.CANCELLED: "dropped",
}


@st.composite
def workflows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A chain in listed order, a chain by nextTaskId, or any graph, listed in any order."""
    keys = [f"t{number}" for number in range(draw(st.integers(1, 7)))]
    tasks = [
        {"taskId": key, "agentCapability": "any", "retry": {"maxRetries": draw(st.integers(0, 2))}} for key in keys
    ]
    kind = draw(st.sampled_from(["listed", "chain", "graph", "graph"]))
    if kind == "chain":
        for task, following in pairwise(tasks):
            task["nextTaskId"] = following["taskId"]
    if kind == "graph":
        for number, task in enumerate(tasks):
            task["dependsOn"] = draw(st.lists(st.sampled_from(keys[:number]), unique=True)) if number else []
        tasks = draw(st.permutations(tasks))
    return tasks


def needs_of(tasks: list[dict[str, Any]]) -> dict[str, set[str]]:
    if "dependsOn" in tasks[-1]:
        return {task["taskId"]: set(task["dependsOn"]) for task in tasks}
    return {task["taskId"]: {before["taskId"]} if before else set() for before, task in pairwise([{}, *tasks])}


def moved(run: Run, what: str, task_id: str, seed: int) -> Step:
    rng, task = random.Random(seed), found(run, task_id)
    match what:
        case "dispatch":
            return transitions.dispatch(run, task, "agent", NOW)
        case "complete":
            return transitions.complete(run, task, f"result of {task_id}", NOW)
        case "fail" | "fail for good":
            return transitions.fail(run, task, ERROR, NOW, rng, retryable=what == "fail")
        case "lose":
            return transitions.bounce(run, task, LOST, NOW, rng, LIMITS)
        case _:
            return transitions.due(run, task_id, task.due_at or 0.0, rng)


def expected_effects(before: Run | None, run: Run) -> list[Effect]:
    """What follows from the difference between two runs alone."""
    earlier = before.tasks if before is not None else (None,) * len(run.tasks)
    changed = [(old.status if old else None, new) for old, new in zip(earlier, run.tasks, strict=True) if old != new]
    effects: list[Effect] = [Ready(task=new) for old, new in changed if new.status is TaskStatus.READY != old]
    effects += [
        DueAt(what=new.task_id, due_at=new.due_at or 0) for _, new in changed if new.status is TaskStatus.PENDING_RETRY
    ]
    if before is not None:
        gone = [
            new
            for old, new in zip(before.tasks, run.tasks, strict=True)
            if (old.status, new.status) == (TaskStatus.READY, TaskStatus.CANCELLED)
        ]
        effects += [Withdrawn(task=old) for old in gone]
    return effects + ([Ended(session=run.session)] if run.ended else [])


@settings(deadline=None)
@given(tasks=workflows(), data=st.data())
def test_any_run_goes_as_a_plain_interpreter_of_the_rules_says(
    tasks: list[dict[str, Any]], data: st.DataObject
) -> None:
    retries_max = {task["taskId"]: task["retry"]["maxRetries"] for task in tasks}
    plain = Interpreter(needs_of(tasks), retries_max)
    step = begun(*tasks)
    before: Run | None = None
    ids = {task.key: task.task_id for task in step.run.tasks}
    completed: list[str] = []
    while True:
        run = step.run
        assert {task.key: SAYS[task.status] for task in run.tasks} == {key: it["is"] for key, it in plain.tasks.items()}
        assert {task.key: (task.attempt, task.retries) for task in run.tasks} == {
            key: (it["attempts"], it["failures"]) for key, it in plain.tasks.items()
        }
        assert run.session.status == plain.session
        assert sorted(map(repr, step.effects)) == sorted(map(repr, expected_effects(before, run)))
        possible = plain.possible()
        assert run.ended == (not possible)
        if not possible:
            break
        what, key = data.draw(st.sampled_from(possible))
        if what == "dispatch":
            assert needs_of(tasks)[key] <= set(completed), "it was given out before what it waits for was complete"
        completed += [key] if what == "complete" else []
        plain.happen(what, key)
        before, step = run, moved(run, what, ids[key], data.draw(st.integers(0, 9)))
    if step.run.session.status is SessionStatus.COMPLETED:
        assert sorted(completed) == sorted(ids), "every task completes, and none of them twice"
        last = set(ids) - set().union(*needs_of(tasks).values())
        assert step.run.session.result == {key: f"result of {ids[key]}" for key in last}
