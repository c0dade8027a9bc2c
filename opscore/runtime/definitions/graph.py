"""The graph of a workflow document: which task waits for which, and which ones stand outside of it as handlers.

It works on the document as it was sent, which may still be wrong.
"""

import graphlib
import itertools
from collections.abc import Collection, Iterator
from typing import Any, Final

from opscore.runtime.errors import Fault

CYCLES_MAX: Final = 20
"""Cycles that are told; each costs a look at the whole graph."""
CYCLE_SHOWN_MAX: Final = 20
"""Tasks of a cycle that its fault names."""
HANDLER_FIELDS: Final = {"fallbackTaskId": "fallback", "compensateTaskId": "compensation"}
"""The fields by which a task names its handlers, and what part these have."""
HANDLERS_HAVE_NOT: Final = (
    "nextTaskId", "dependsOn", "when", "forEach", "concurrency", "fallbackTaskId", "compensateTaskId",
    "continueOnFailure",
)  # fmt: skip


def handlers_of(document: dict[str, Any]) -> dict[str, str]:
    """The tasks that stand outside of the graph, by id, each with its part; the first that names one decides."""
    found: dict[str, str] = {}
    for _, part, key in _named_handlers(document):
        found.setdefault(key, part)
    return found


def _named_handlers(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every place at which a handler is named: the path, the handler's part and its id."""
    for index, task in enumerate(document["tasks"]):
        for field, part in HANDLER_FIELDS.items():
            if isinstance(task, dict) and isinstance(task.get(field), str):
                yield f"tasks[{index}].{field}", part, task[field]
    if isinstance(document.get("onFailure"), str):
        yield "onFailure", "on_failure", document["onFailure"]


def edges_of(tasks: list[dict[str, Any]]) -> dict[str, set[str]]:
    """For each task of the graph the ones before it; with no edges at all, the listed order.

    A `nextTaskId` of null is no edge: Ops-Core wrote one for every task. A `dependsOn` of nothing says just that.
    """
    before = {task["taskId"]: set(names_in(task.get("dependsOn"))) for task in tasks}
    for task in tasks:
        following = task.get("nextTaskId")
        if isinstance(following, str) and following in before:
            before[following].add(task["taskId"])
    if not any(task.get("nextTaskId") or "dependsOn" in task for task in tasks):
        for earlier, later in itertools.pairwise(tasks):
            before[later["taskId"]].add(earlier["taskId"])
    return before


def handler_faults(document: dict[str, Any]) -> Iterator[Fault]:
    """Handlers that serve two tasks, name themselves, or stand in the graph all the same."""
    by_id = {task["taskId"]: task for task in document["tasks"]}
    named_at: dict[str, str] = {}
    for path, _, key in _named_handlers(document):
        if key in named_at:
            yield Fault(path=path, message=f"{key!r} is a handler at {named_at[key]} already; each serves one task")
        named_at.setdefault(key, path)
    for index, task in enumerate(document["tasks"]):
        where, key = f"tasks[{index}]", task["taskId"]
        if key in named_at:
            for field in HANDLERS_HAVE_NOT:
                if task.get(field) not in (None, [], False):
                    message = f"{key!r} is a handler ({named_at[key]}) and outside of the graph: it has no {field}"
                    yield Fault(path=f"{where}.{field}", message=message)
        for path, target in edge_ends(task, where):
            if target in named_at and target in by_id:
                message = f"{target!r} is a handler ({named_at[target]}) and outside of the graph"
                yield Fault(path=path, message=message)


def edge_ends(task: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """The tasks that one names before or after itself, each with the path at which it does."""
    following = task.get("nextTaskId")
    if isinstance(following, str):
        yield f"{where}.nextTaskId", following
    before = task.get("dependsOn")
    for position, target in enumerate(before if isinstance(before, list) else ()):
        if isinstance(target, str):
            yield f"{where}.dependsOn[{position}]", target


def order_faults(tasks: list[dict[str, Any]], handlers: Collection[str]) -> Iterator[Fault]:
    """Cycles, tasks that nothing leads to, and edges that contradict each other."""
    steps = [task for task in tasks if task["taskId"] not in handlers]
    cycles = [_cycle_fault(cycle) for cycle in itertools.islice(_cycles(edges_of(steps)), CYCLES_MAX)]
    if cycles:
        yield from cycles
        return
    before = {task["taskId"]: frozenset(names_in(task.get("dependsOn"))) for task in steps}
    for index, task in enumerate(tasks):
        following = task.get("nextTaskId")
        target = before.get(following) if isinstance(following, str) else None
        if target and task["taskId"] not in target:
            yield Fault(
                path=f"tasks[{index}].nextTaskId",
                message=f"{following!r} has a dependsOn that does not name {task['taskId']!r}: the two disagree",
            )
    if _chained(steps):
        yield from _unreachable(tasks, steps)


def _cycles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Cycles that share no task, until none is left; each begins and ends with the same task."""
    left = set(edges)
    while True:
        try:
            graphlib.TopologicalSorter({key: edges[key] & left for key in edges if key in left}).prepare()
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1]
            yield cycle
            left.difference_update(cycle)
        else:
            return


def _cycle_fault(cycle: list[str]) -> Fault:
    """Name a cycle, whose last task is its first again, in the order in which its tasks would run."""
    shown = cycle if len(cycle) <= CYCLE_SHOWN_MAX else [*cycle[:CYCLE_SHOWN_MAX], f"… ({len(cycle) - 1:,} tasks)"]
    return Fault(path="tasks", message="the tasks form a cycle: " + " → ".join(shown))


def names_in(value: Any) -> Iterator[str]:
    """The names in what should be a list of names."""
    return (name for name in (value if isinstance(value, list) else ()) if isinstance(name, str))


def _chained(tasks: list[dict[str, Any]]) -> bool:
    """Whether the document's order is written with nextTaskId alone."""
    return any(task.get("nextTaskId") for task in tasks) and not any("dependsOn" in task for task in tasks)


def _unreachable(tasks: list[dict[str, Any]], steps: list[dict[str, Any]]) -> Iterator[Fault]:
    following = {task["taskId"]: task.get("nextTaskId") for task in steps}
    reached: set[str] = set()
    key: Any = steps[0]["taskId"]
    while isinstance(key, str) and key not in reached:
        reached.add(key)
        key = following.get(key)
    for index, task in enumerate(tasks):
        if task["taskId"] in following and task["taskId"] not in reached:
            yield Fault(path=f"tasks[{index}]", message=f"{task['taskId']!r} is never reached from the first task")
