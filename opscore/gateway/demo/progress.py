"""The progress of the demo's runs and agents: frozen values, and pure functions of them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

COMPLETED = "completed"
OPEN = frozenset({"dispatched", "running"})
"""States of a task with an open attempt."""
ENDED = frozenset({COMPLETED, "failed", "cancelled"})
"""States of a run that has ended."""


@attrs.frozen(kw_only=True)
class TaskProgress:
    """One task of one run, as the server last showed it."""

    task_id: str
    key: str
    status: str
    attempt: int = 0
    agent_id: str | None = None


@attrs.frozen(kw_only=True)
class RunProgress:
    """One run, as the server last showed it."""

    session_id: str
    title: str
    status: str
    tasks: tuple[TaskProgress, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether the run has ended, successfully or not."""
        return self.status in ENDED

    @property
    def completed(self) -> int:
        """How many of its tasks are completed."""
        return sum(task.status == COMPLETED for task in self.tasks)


@attrs.frozen(kw_only=True)
class AgentProgress:
    """One agent, as its last line showed it."""

    agent_id: str
    way: str
    """How work reaches it."""
    capabilities: tuple[str, ...]
    state: str = "starting"
    task: str = ""
    done: int = 0
    """How many tasks it has done, whether or not its reports arrived."""


@attrs.frozen(kw_only=True)
class AgentNote:
    """One line that an agent wrote about itself."""

    agent_id: str
    event: str
    facts: dict[str, Any]


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of the demo."""

    at_kill: tuple[RunProgress, ...]
    """The runs when the server was killed."""
    recovered: tuple[RunProgress, ...]
    """The same runs, as the new server first showed them."""
    runs: tuple[RunProgress, ...]
    """The same runs, at the end."""
    agents: tuple[AgentProgress, ...]
    recovery_s: float
    """From the start of the new process until it was ready for work."""
    outage_s: float
    """From the kill until a server was ready for work."""
    took_s: float
    faults: tuple[str, ...]
    """What is wrong at the end, in sentences."""

    @property
    def finished_before_kill(self) -> frozenset[str]:
        """The tasks that were completed when the server was killed."""
        return completed_ids(self.at_kill)

    @property
    def lost(self) -> frozenset[str]:
        """The tasks of these that were no longer completed after the restart."""
        return self.finished_before_kill - completed_ids(self.recovered)


def read_run(document: dict[str, Any], title: str) -> RunProgress:
    """Read a run from the server's answer."""
    return RunProgress(
        session_id=document["sessionId"],
        title=title,
        status=document["status"],
        tasks=tuple(
            TaskProgress(
                task_id=task["taskId"],
                key=task["taskKey"],
                status=task["status"],
                attempt=task.get("attempt", 0),
                agent_id=task.get("agentId"),
            )
            for task in document.get("tasks", ())
        ),
    )


def read_note(line: str) -> AgentNote | None:
    """Read a line of an agent; None if it is no note, such as a stray warning."""
    try:
        document = json.loads(line)
    except ValueError:
        return None
    if not isinstance(document, dict) or "agent" not in document or "event" not in document:
        return None
    facts = {key: value for key, value in document.items() if key not in {"agent", "event"}}
    return AgentNote(agent_id=str(document["agent"]), event=str(document["event"]), facts=facts)


def after_note(agent: AgentProgress, note: AgentNote) -> AgentProgress:
    """The agent's progress after this note."""
    match note.event:
        case "ready":
            return attrs.evolve(agent, state="idle")
        case "took":
            return attrs.evolve(agent, state="working", task=str(note.facts.get("task", "")))
        case "did":
            return attrs.evolve(agent, state="idle", task="", done=agent.done + 1)
        case "away":
            return attrs.evolve(agent, state="retrying")
        case "back":
            return attrs.evolve(agent, state="working" if agent.task else "idle")
        case _:
            return agent


def count_tasks(runs: Iterable[RunProgress]) -> Counter[str]:
    """Count the tasks of all runs by state."""
    return Counter(task.status for run in runs for task in run.tasks)


def half_way(runs: Iterable[RunProgress]) -> bool:
    """Whether this is the moment to kill: half of the tasks are completed, and an attempt is open."""
    counts = count_tasks(runs)
    return 2 * counts[COMPLETED] >= counts.total() > 0 and any(counts[status] for status in OPEN)


def completed_ids(runs: Iterable[RunProgress]) -> frozenset[str]:
    """The ids of all tasks that are completed."""
    return frozenset(task.task_id for run in runs for task in run.tasks if task.status == COMPLETED)


def faults(
    runs: Iterable[RunProgress], keys_expected: Mapping[str, tuple[str, ...]], works: Counter[str]
) -> tuple[str, ...]:
    """List in sentences what is wrong with the runs; the list is empty if each task completed exactly once.

    Args:
        runs: The runs, at the end.
        keys_expected: For each run, by its session's id, the keys of the tasks it has to have.
        works: How often each task was done, by its id, as counted by the agents themselves.
    """
    found: list[str] = []
    runs = tuple(runs)
    for run in runs:
        if run.status != COMPLETED:
            found.append(f"Run {run.session_id} ended as {run.status}.")
        if sorted(task.key for task in run.tasks) != sorted(keys_expected[run.session_id]):
            found.append(f"Run {run.session_id} has other tasks than its definition.")
        found += [
            f"Task {task.key} of run {run.session_id} is {task.status}."
            for task in run.tasks
            if task.status != COMPLETED
        ]
    counted = Counter(task.task_id for run in runs for task in run.tasks)
    found += [f"Task {task_id} is there {times} times." for task_id, times in counted.items() if times > 1]
    found += [f"Task {task_id} was done {works[task_id]} times." for task_id in counted if works[task_id] != 1]
    return tuple(found)
