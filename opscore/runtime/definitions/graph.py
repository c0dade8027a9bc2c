"""The graph of a workflow document: which step waits for which, and which tasks are handlers, outside of the graph.

It works on the document as sent, which may have faults.
"""

import graphlib
import itertools
from collections.abc import Collection, Iterator
from typing import Any, Final

from opscore.runtime.errors import Fault

CYCLES_MAX: Final = 20
"""Maximum number of cycles that are reported; finding each takes a pass over the whole graph."""
CYCLE_SHOWN_MAX: Final = 20
"""Maximum number of tasks that the fault of a cycle names."""
HANDLER_FIELDS: Final = {"fallbackTaskId": "fallback", "compensateTaskId": "compensation"}
"""The fields by which a task names its handlers, and the roles of these."""
HANDLERS_HAVE_NOT: Final = (
    "nextTaskId", "dependsOn", "when", "forEach", "concurrency", "fallbackTaskId", "compensateTaskId",
    "continueOnFailure",
)  # fmt: skip
"""Fields that a handler can't have."""


def handlers_of(document: dict[str, Any]) -> dict[str, str]:
    """Return the role of each handler by its id; if it is named more than once, the first place decides."""
    found: dict[str, str] = {}
    for _, part, key in _named_handlers(document):
        found.setdefault(key, part)
    return found


def _named_handlers(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield every place where a handler is named: its path, and the handler's role and id."""
    for index, task in enumerate(document["tasks"]):
        for field, part in HANDLER_FIELDS.items():
            if isinstance(task, dict) and isinstance(task.get(field), str):
                yield f"tasks[{index}].{field}", part, task[field]
    if isinstance(document.get("onFailure"), str):
        yield "onFailure", "on_failure", document["onFailure"]


def edges_of(tasks: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return for each step the steps directly before it; without any edges, the steps run in listed order.

    A `nextTaskId` of null is no edge, because Ops-Core wrote one for every task. An empty `dependsOn` does count: it
    says that nothing is before the step.
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
    """Yield the faults of handlers that serve two tasks, have a field that handlers can't have, or have edges."""
    by_id = {task["taskId"]: task for task in document["tasks"]}
    named_at: dict[str, str] = {}
    for path, _, key in _named_handlers(document):
        if key in named_at:
            yield Fault(path=path, message=f"{key!r} is a handler already ({named_at[key]}); each serves one task")
        named_at.setdefault(key, path)
    for index, task in enumerate(document["tasks"]):
        where, key = f"tasks[{index}]", task["taskId"]
        if key in named_at:
            for field in HANDLERS_HAVE_NOT:
                if task.get(field) not in (None, [], False):
                    message = f"{key!r} is a handler ({named_at[key]}), outside of the graph: it can't have {field}"
                    yield Fault(path=f"{where}.{field}", message=message)
        for path, target in edge_ends(task, where):
            if target in named_at and target in by_id:
                message = f"{target!r} is a handler ({named_at[target]}), outside of the graph"
                yield Fault(path=path, message=message)


def edge_ends(task: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Yield the tasks that a task names before or after itself, each with its path."""
    following = task.get("nextTaskId")
    if isinstance(following, str):
        yield f"{where}.nextTaskId", following
    before = task.get("dependsOn")
    for position, target in enumerate(before if isinstance(before, list) else ()):
        if isinstance(target, str):
            yield f"{where}.dependsOn[{position}]", target


def order_faults(tasks: list[dict[str, Any]], handlers: Collection[str]) -> Iterator[Fault]:
    """Yield the faults of the order: cycles, tasks that are never reached, and edges that disagree."""
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
    """Yield cycles that share no task, until none is left; each begins and ends with the same task."""
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
    """Return the fault of a cycle, with its tasks in the order in which they would run; the last is the first again."""
    shown = cycle if len(cycle) <= CYCLE_SHOWN_MAX else [*cycle[:CYCLE_SHOWN_MAX], f"… ({len(cycle) - 1:,} tasks)"]
    return Fault(path="tasks", message="the tasks form a cycle: " + " → ".join(shown))


def names_in(value: Any) -> Iterator[str]:
    """Yield the strings of what should be a list of names."""
    return (name for name in (value if isinstance(value, list) else ()) if isinstance(name, str))


def _chained(tasks: list[dict[str, Any]]) -> bool:
    """Return whether the order is given by `nextTaskId` alone."""
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
