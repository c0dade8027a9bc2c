"""Workflow documents: validated, with every fault at once, into a graph of tasks that a run can follow."""

import difflib
import functools
import graphlib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import jsonschema

from opscore.actors.backoff import Backoff
from opscore.runtime.definition_schema import PLANNED_FIELDS, WORKFLOW_SCHEMA
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.limits import Limits

EXPRESSION_OPENS = "${"


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often, and after how long, a failed attempt is made again."""

    max_retries: int = 3
    initial_delay_s: float = 1.0
    backoff_coefficient: float = 2.0
    max_delay_s: float = 300.0
    jitter: bool = True
    non_retryable: tuple[str, ...] = ()

    def backoff(self) -> Backoff:
        """The delays of this policy; jitter is full jitter."""
        return Backoff(
            initial_s=self.initial_delay_s,
            coefficient=self.backoff_coefficient,
            max_s=self.max_delay_s,
            jitter=1.0 if self.jitter else 0.0,
        )


@attrs.frozen(kw_only=True)
class TaskDefinition:
    """One node of the graph."""

    key: str
    name: str
    ordinal: int
    capability: str | None
    agent_id: str | None
    parameters: dict[str, Any]
    retry: RetryPolicy
    timeout_s: float
    lease_s: float
    priority: int
    depends_on: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Definition:
    """A valid workflow."""

    workflow_id: str
    name: str
    version: str
    digest: str
    """Names this content; a run keeps the content that it started with."""
    document: dict[str, Any]
    tasks: tuple[TaskDefinition, ...]

    @functools.cached_property
    def by_key(self) -> dict[str, TaskDefinition]:
        """The tasks by their id in the document."""
        return {task.key: task for task in self.tasks}

    @functools.cached_property
    def dependents(self) -> dict[str, tuple[TaskDefinition, ...]]:
        """For each task the ones that wait for it."""
        return {task.key: tuple(other for other in self.tasks if task.key in other.depends_on) for task in self.tasks}

    @property
    def needs_agent(self) -> bool:
        """Whether some task names neither capability nor agent, and so runs on the session's agent."""
        return any(task.capability is None and task.agent_id is None for task in self.tasks)


def parse(document: Any, limits: Limits) -> Definition:
    """Validate a workflow document.

    Raises:
        InvalidDocument: with every fault of the document.
    """
    faults = [_described(error) for error in _validator().iter_errors(document)]
    if isinstance(document, dict) and isinstance(document.get("tasks"), list):
        faults += _graph_faults(document["tasks"], limits)
        faults += [_unsupported_expression(path) for path in _expressions(document["tasks"], "tasks")]
    if faults:
        raise InvalidDocument("workflow definition", tuple(sorted(set(faults), key=lambda fault: fault.path)))
    return _build(document, limits)


def digest(document: dict[str, Any]) -> str:
    """Name a document's content."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(WORKFLOW_SCHEMA)


def _described(error: jsonschema.ValidationError) -> Fault:
    path = _path(error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = [name for name in instance if name not in known]
        return Fault(path=path, message="; ".join(_unknown_field(name, known) for name in unknown))
    if error.validator == "required":
        missing = [name for name in wanted if name not in instance]
        return Fault(path=path, message=f"{' and '.join(missing)} must be given")
    if error.validator == "enum" and error.instance in ("signal", "delay", "workflow", "tool"):
        return Fault(path=path, message=f"this release does not run tasks of type {error.instance!r}")
    return Fault(path=path, message=error.message)


def _unknown_field(name: str, known: Sequence[str]) -> str:
    if name in PLANNED_FIELDS:
        return f"this release does not run {name!r}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _path(parts: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _graph_faults(tasks: list[Any], limits: Limits) -> Iterator[Fault]:
    if len(tasks) > limits.tasks_max:
        yield Fault(path="tasks", message=f"tasks_max allows {limits.tasks_max:,} tasks, found {len(tasks):,}")
        return
    named = [task for task in tasks if isinstance(task, dict) and isinstance(task.get("taskId"), str)]
    counts = Counter(task["taskId"] for task in named)
    for index, task in enumerate(tasks):
        if task not in named:
            continue
        where = f"tasks[{index}]"
        if counts[task["taskId"]] > 1:
            yield Fault(path=f"{where}.taskId", message=f"{task['taskId']!r} is used {counts[task['taskId']]} times")
        if task.get("agentCapability") and task.get("agentId"):
            yield Fault(path=where, message="agentCapability and agentId exclude each other")
        for path, target in _edge_ends(task, where):
            if target not in counts:
                near = difflib.get_close_matches(target, counts, n=1)
                yield Fault(
                    path=path,
                    message=f"no task is called {target!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                )
    if len(named) == len(tasks) and all(count == 1 for count in counts.values()):
        yield from _order_faults(named)


def _edge_ends(task: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    following = task.get("nextTaskId")
    if isinstance(following, str):
        yield f"{where}.nextTaskId", following
    before = task.get("dependsOn")
    for position, target in enumerate(before if isinstance(before, list) else ()):
        if isinstance(target, str):
            yield f"{where}.dependsOn[{position}]", target


def _order_faults(tasks: list[dict[str, Any]]) -> Iterator[Fault]:
    """Cycles, tasks that nothing leads to, and edges that contradict each other."""
    edges = _edges(tasks)
    try:
        graphlib.TopologicalSorter({key: edges[key] & edges.keys() for key in edges}).prepare()
    except graphlib.CycleError as error:
        yield Fault(path="tasks", message="the tasks form a cycle: " + " → ".join(reversed(error.args[1])))
        return
    for index, task in enumerate(tasks):
        following = task.get("nextTaskId")
        target = next((other for other in tasks if other["taskId"] == following), None)
        if target is not None and target.get("dependsOn") and task["taskId"] not in target["dependsOn"]:
            yield Fault(
                path=f"tasks[{index}].nextTaskId",
                message=f"{following!r} has a dependsOn that does not name {task['taskId']!r}: the two disagree",
            )
    if _chained(tasks):
        yield from _unreachable(tasks)


def _chained(tasks: list[dict[str, Any]]) -> bool:
    """Whether the document's order is written with nextTaskId alone."""
    return any(task.get("nextTaskId") for task in tasks) and not any(task.get("dependsOn") for task in tasks)


def _unreachable(tasks: list[dict[str, Any]]) -> Iterator[Fault]:
    following = {task["taskId"]: task.get("nextTaskId") for task in tasks}
    reached: set[str] = set()
    key: str | None = tasks[0]["taskId"]
    while key is not None and key not in reached:
        reached.add(key)
        key = following.get(key)
    for index, task in enumerate(tasks):
        if task["taskId"] not in reached:
            yield Fault(path=f"tasks[{index}]", message=f"{task['taskId']!r} is never reached from the first task")


def _edges(tasks: list[dict[str, Any]]) -> dict[str, set[str]]:
    """For each task the ones before it; with no edges at all, the listed order."""
    before: dict[str, set[str]] = {
        task["taskId"]: {name for name in task.get("dependsOn") or () if isinstance(name, str)} for task in tasks
    }
    for task in tasks:
        following = task.get("nextTaskId")
        if isinstance(following, str) and following in before:
            before[following].add(task["taskId"])
    if not any("nextTaskId" in task or "dependsOn" in task for task in tasks):
        for earlier, later in itertools.pairwise(tasks):
            before[later["taskId"]].add(earlier["taskId"])
    return before


def _expressions(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str) and EXPRESSION_OPENS in value:
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _expressions(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _expressions(inner, f"{path}[{index}]")


def _unsupported_expression(path: str) -> Fault:
    return Fault(path=path, message="this release does not evaluate ${…} expressions")


def _build(document: dict[str, Any], limits: Limits) -> Definition:
    tasks: list[dict[str, Any]] = document["tasks"]
    edges = _edges(tasks)
    defaults: dict[str, Any] = document.get("defaults", {})
    order = [task["taskId"] for task in tasks]
    return Definition(
        workflow_id=document["id"],
        name=document.get("name", document["id"]),
        version=document.get("version", "1.0"),
        digest=digest(document),
        document=document,
        tasks=tuple(
            _build_task(ordinal, task, defaults, tuple(key for key in order if key in edges[task["taskId"]]), limits)
            for ordinal, task in enumerate(tasks)
        ),
    )


def _build_task(
    ordinal: int, task: dict[str, Any], defaults: dict[str, Any], depends_on: tuple[str, ...], limits: Limits
) -> TaskDefinition:
    settings = {**defaults, **task}
    retry = {**defaults.get("retry", {}), **task.get("retry", {})}
    return TaskDefinition(
        key=task["taskId"],
        name=task.get("name", task["taskId"]),
        ordinal=ordinal,
        capability=task.get("agentCapability"),
        agent_id=task.get("agentId"),
        parameters=task.get("parameters") or {},
        retry=_retry_policy(retry),
        timeout_s=float(settings.get("timeoutSeconds", limits.timeout_s)),
        lease_s=float(settings.get("leaseSeconds", limits.lease_s)),
        priority=int(settings.get("priority", 0)),
        depends_on=depends_on,
    )


def _retry_policy(document: dict[str, Any]) -> RetryPolicy:
    standard = RetryPolicy()
    return RetryPolicy(
        max_retries=int(document.get("maxRetries", standard.max_retries)),
        initial_delay_s=float(document.get("initialDelaySeconds", standard.initial_delay_s)),
        backoff_coefficient=float(document.get("backoffCoefficient", standard.backoff_coefficient)),
        max_delay_s=float(document.get("maxDelaySeconds", standard.max_delay_s)),
        jitter=document.get("jitter", standard.jitter),
        non_retryable=tuple(document.get("nonRetryable", standard.non_retryable)),
    )
