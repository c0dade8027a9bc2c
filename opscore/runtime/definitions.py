"""Workflow documents: validated, with every fault at once, into a graph of tasks that a run can follow."""

import copy
import difflib
import functools
import graphlib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs
import jsonschema

from opscore.actors.backoff import Backoff
from opscore.runtime.definition_schema import PLANNED_FIELDS, WORKFLOW_SCHEMA
from opscore.runtime.errors import FAULTS_MAX, Fault, InvalidDocument
from opscore.runtime.identity import unusable
from opscore.runtime.limits import Limits
from opscore.runtime.values import document_faults, walk

EXPRESSION_OPENS: Final = "${"
FREE_TEXT: Final = frozenset({"name", "description", "labels", "metadata"})
"""Fields of a task that mean nothing to a run, and so hold no expressions."""
SUGGESTIONS_MAX: Final = 20
"""Unknown names in one document that get the nearest known one: comparing names is what costs most."""
COMPARED_CHARACTERS_MAX: Final = 128
CYCLE_SHOWN_MAX: Final = 20
"""Tasks of a cycle that its fault names."""
MESSAGE_CHARACTERS_MAX: Final = 500


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
        found: dict[str, list[TaskDefinition]] = {task.key: [] for task in self.tasks}
        for task in self.tasks:
            for key in task.depends_on:
                found[key].append(task)
        return {key: tuple(tasks) for key, tasks in found.items()}

    @property
    def needs_agent(self) -> bool:
        """Whether some task names neither capability nor agent, and so runs on the session's agent."""
        return any(task.capability is None and task.agent_id is None for task in self.tasks)


def parse(document: Any, limits: Limits) -> Definition:
    """Validate a workflow document.

    Raises:
        InvalidDocument: with every fault of the document.
    """
    # What is no JSON, or too large to look at, is said alone: the checks that follow count on both.
    faults = document_faults(document, limits)
    if not faults:
        faults = list(itertools.islice(_faults(document, limits), FAULTS_MAX))
    if faults:
        inspected = {_shortened(fault): None for fault in faults}
        raise InvalidDocument(
            "workflow definition", tuple(sorted(inspected, key=lambda fault: (fault.path, fault.message)))
        )
    return restore(document, limits)


def restore(document: dict[str, Any], limits: Limits) -> Definition:
    """Build the graph of a document that was valid when it was stored, whatever the limits say today."""
    # A copy of its own: whoever sent the document may go on changing the original.
    document = copy.deepcopy(document)
    tasks: list[dict[str, Any]] = document["tasks"]
    edges = _edges(tasks)
    order = {task["taskId"]: ordinal for ordinal, task in enumerate(tasks)}
    defaults: dict[str, Any] = document.get("defaults", {})
    return Definition(
        workflow_id=document["id"],
        name=document.get("name", document["id"]),
        version=document.get("version", "1.0"),
        digest=digest(document),
        document=document,
        tasks=tuple(
            _build_task(ordinal, task, defaults, tuple(sorted(edges[task["taskId"]], key=order.__getitem__)), limits)
            for ordinal, task in enumerate(tasks)
        ),
    )


def digest(document: Any) -> str:
    """Name a document's content; the order of its fields is no part of that."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _faults(document: Any, limits: Limits) -> Iterator[Fault]:
    nearest = _Nearest()
    tasks = document.get("tasks") if isinstance(document, dict) else None
    if isinstance(tasks, list) and len(tasks) > limits.tasks_max:
        yield Fault(path="tasks", message=f"tasks_max allows {limits.tasks_max:,} tasks, found {len(tasks):,}")
        document, tasks = {**document, "tasks": []}, None
    for error in _validator().iter_errors(document):
        yield _described(error, nearest)
    if isinstance(document, dict):
        yield from _id_faults(document.get("id"), "id", limits)
        yield from _path_faults(document.get("id"))
    if isinstance(tasks, list):
        yield from _graph_faults(tasks, limits, nearest)
        yield from _expression_faults(tasks)


def _path_faults(workflow_id: Any) -> Iterator[Fault]:
    """The document's id stands in the paths of the wire; the ids of its tasks do not."""
    why = unusable(workflow_id) if isinstance(workflow_id, str) and workflow_id.strip() else None
    if why is not None:
        yield Fault(path="id", message=f"{workflow_id!r} {why}")


class _Nearest:
    """Suggests the known name that an unknown one may have meant, a bounded number of times."""

    def __init__(self) -> None:
        self._left = SUGGESTIONS_MAX

    def to(self, name: str, known: Iterable[str]) -> str:
        if not self._left or len(name) > COMPARED_CHARACTERS_MAX:
            return ""
        self._left -= 1
        comparable = [other for other in known if len(other) <= COMPARED_CHARACTERS_MAX]
        near = difflib.get_close_matches(name, comparable, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""


def _shortened(fault: Fault) -> Fault:
    """A fault may quote what it found, and that may be most of the document."""
    return Fault(path=_excerpt(fault.path), message=_excerpt(fault.message))


def _excerpt(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


@functools.cache
def _validator() -> Any:
    # The library compares every pair of items when they can't be sorted; only strings are ever accepted here.
    checks = {"uniqueItems": _repeated}
    kind: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, checks)  # type: ignore[no-untyped-call]
    return kind(WORKFLOW_SCHEMA)


def _repeated(_validator: Any, wanted: bool, items: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:  # noqa: FBT001
    counts = Counter(item for item in items if isinstance(item, str)) if wanted and isinstance(items, list) else {}
    for name, count in counts.items():
        if count > 1:
            yield jsonschema.ValidationError(f"{name!r} is named {count} times")


def _described(error: jsonschema.ValidationError, nearest: _Nearest) -> Fault:
    path = _path(error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = [name for name in instance if name not in known]
        shown = itertools.islice((_unknown_field(name, known, nearest) for name in unknown), SUGGESTIONS_MAX)
        return Fault(path=path, message="; ".join(shown))
    if error.validator == "required":
        missing = [name for name in wanted if name not in instance]
        return Fault(path=path, message=f"{' and '.join(missing)} must be given")
    if error.validator == "enum" and error.instance in ("signal", "delay", "workflow", "tool"):
        return Fault(path=path, message=f"this release does not run tasks of type {error.instance!r}")
    return Fault(path=path, message=error.message)


def _unknown_field(name: str, known: Sequence[str], nearest: _Nearest) -> str:
    if name in PLANNED_FIELDS:
        return f"this release does not run {name!r}"
    return f"unknown field {name!r}{nearest.to(name, known)}"


def _path(parts: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _id_faults(identity: Any, path: str, limits: Limits) -> Iterator[Fault]:
    """The schema counts characters; what is stored under an id counts bytes."""
    if isinstance(identity, str) and (size := len(identity.encode())) > limits.id_bytes_max:
        yield Fault(path=path, message=f"id_bytes_max allows {limits.id_bytes_max} bytes, found {size:,}")


def _graph_faults(tasks: list[Any], limits: Limits, nearest: _Nearest) -> Iterator[Fault]:
    numbered = [
        (index, task)
        for index, task in enumerate(tasks)
        if isinstance(task, dict) and isinstance(task.get("taskId"), str)
    ]
    named = [task for _, task in numbered]
    counts = Counter(task["taskId"] for task in named)
    for index, task in numbered:
        where = f"tasks[{index}]"
        yield from _id_faults(task["taskId"], f"{where}.taskId", limits)
        if counts[task["taskId"]] > 1:
            yield Fault(path=f"{where}.taskId", message=f"{task['taskId']!r} is used {counts[task['taskId']]} times")
        if task.get("agentCapability") and task.get("agentId"):
            yield Fault(path=where, message="agentCapability and agentId exclude each other")
        for path, target in _edge_ends(task, where):
            if target not in counts:
                yield Fault(path=path, message=f"no task is called {target!r}{nearest.to(target, counts)}")
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
        yield _cycle_fault(error.args[1])
        return
    before = {task["taskId"]: frozenset(_names(task.get("dependsOn"))) for task in tasks}
    for index, task in enumerate(tasks):
        following = task.get("nextTaskId")
        target = before.get(following) if isinstance(following, str) else None
        if target and task["taskId"] not in target:
            yield Fault(
                path=f"tasks[{index}].nextTaskId",
                message=f"{following!r} has a dependsOn that does not name {task['taskId']!r}: the two disagree",
            )
    if _chained(tasks):
        yield from _unreachable(tasks)


def _cycle_fault(cycle: list[str]) -> Fault:
    """Name a cycle, whose last task is its first again, in the order in which its tasks would run."""
    shown = cycle if len(cycle) <= CYCLE_SHOWN_MAX else [*cycle[:CYCLE_SHOWN_MAX], f"… ({len(cycle) - 1:,} tasks)"]
    return Fault(path="tasks", message="the tasks form a cycle: " + " → ".join(shown))


def _names(value: Any) -> Iterator[str]:
    return (name for name in (value if isinstance(value, list) else ()) if isinstance(name, str))


def _chained(tasks: list[dict[str, Any]]) -> bool:
    """Whether the document's order is written with nextTaskId alone."""
    return any(task.get("nextTaskId") for task in tasks) and not any("dependsOn" in task for task in tasks)


def _unreachable(tasks: list[dict[str, Any]]) -> Iterator[Fault]:
    following = {task["taskId"]: task.get("nextTaskId") for task in tasks}
    reached: set[str] = set()
    key: Any = tasks[0]["taskId"]
    while isinstance(key, str) and key not in reached:
        reached.add(key)
        key = following.get(key)
    for index, task in enumerate(tasks):
        if task["taskId"] not in reached:
            yield Fault(path=f"tasks[{index}]", message=f"{task['taskId']!r} is never reached from the first task")


def _edges(tasks: list[dict[str, Any]]) -> dict[str, set[str]]:
    """For each task the ones before it; with no edges at all, the listed order.

    A `nextTaskId` of null is no edge: Ops-Core wrote one for every task. A `dependsOn` of nothing says just that.
    """
    before = {task["taskId"]: set(_names(task.get("dependsOn"))) for task in tasks}
    for task in tasks:
        following = task.get("nextTaskId")
        if isinstance(following, str) and following in before:
            before[following].add(task["taskId"])
    if not any(task.get("nextTaskId") or "dependsOn" in task for task in tasks):
        for earlier, later in itertools.pairwise(tasks):
            before[later["taskId"]].add(earlier["taskId"])
    return before


def _expression_faults(tasks: list[Any]) -> Iterator[Fault]:
    for index, task in enumerate(tasks):
        meant = {name: task[name] for name in task if name not in FREE_TEXT} if isinstance(task, dict) else {}
        for place, _, value in walk(meant):
            if isinstance(value, str) and EXPRESSION_OPENS in value:
                path = f"tasks[{index}].{place}"
                yield Fault(path=path, message="this release does not evaluate ${…} expressions")


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
