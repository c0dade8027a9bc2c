"""Turns a workflow document into a definition: the graph of tasks that a run follows."""

import copy
import functools
import graphlib
import hashlib
import heapq
import json
from enum import StrEnum
from typing import Any, Final

import attrs

from opscore.actors.backoff import Backoff
from opscore.runtime.definitions import faults
from opscore.runtime.definitions.expressions import bare, unspaced
from opscore.runtime.definitions.graph import edges_of, handlers_of
from opscore.runtime.expressions.expression import Expression, Template, compile_expression, compile_template
from opscore.runtime.limits import Limits


class TaskKind(StrEnum):
    """The kinds of tasks."""

    AGENT = "agent"
    SIGNAL = "signal"
    DELAY = "delay"
    WORKFLOW = "workflow"
    TOOL = "tool"


BY_AGENTS = frozenset({TaskKind.AGENT, TaskKind.TOOL})
"""The kinds of tasks that are handed to an agent."""


class Role(StrEnum):
    """The role of a task in its workflow; every role but `STEP` is that of a handler."""

    STEP = "step"
    """A task of the graph."""
    FALLBACK = "fallback"
    """It is done in place of a step after that step's last failure."""
    COMPENSATION = "compensation"
    """It undoes a step that was completed."""
    ON_FAILURE = "on_failure"
    """It is done once, when the run has failed."""


AT_THE_END: Final = (Role.COMPENSATION, Role.ON_FAILURE)
"""The roles of tasks that are done when a run is undone."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often a failed task is retried, and after which delays."""

    max_retries: int = 3
    initial_delay_s: float = 1.0
    backoff_coefficient: float = 2.0
    max_delay_s: float = 300.0
    jitter: bool = True
    non_retryable: tuple[str, ...] = ()

    def backoff(self) -> Backoff:
        """Return the delays of this policy; jitter means full jitter."""
        return Backoff(
            initial_s=self.initial_delay_s,
            coefficient=self.backoff_coefficient,
            max_s=self.max_delay_s,
            jitter=1.0 if self.jitter else 0.0,
        )


@attrs.frozen(kw_only=True)
class TaskDefinition:
    """One task of a definition."""

    key: str
    name: str
    ordinal: int
    kind: TaskKind = TaskKind.AGENT
    role: Role = Role.STEP
    capability: str | None
    agent_id: str | None
    parameters: dict[str, Any]
    """As written in the document; strings may hold expressions."""
    filled: Template
    """The same as a template, from which the parameters of an attempt are made."""
    concurrency_key: Template | None = None
    when: Expression | None = None
    for_each: Template | None = None
    concurrency: int = 1
    """How many items of its list may be in progress at once."""
    items_max: int
    retry: RetryPolicy
    timeout_s: float | None
    """Limit of one attempt; None if there is none, for a signal or a child run."""
    lease_s: float
    heartbeat_s: float | None = None
    schedule_to_start_s: float | None = None
    schedule_to_close_s: float | None = None
    priority: int
    depends_on: tuple[str, ...]
    fallback: str | None = None
    compensation: str | None = None
    continue_on_failure: bool = False
    idempotent: bool = False

    @property
    def signal(self) -> str:
        """The name of the signal that a `signal` task waits for; by default the id of the task."""
        return str(self.parameters.get("name", self.key))

    @property
    def by_agent(self) -> bool:
        """Whether the task is handed to an agent."""
        return self.kind in BY_AGENTS


@attrs.frozen(kw_only=True)
class Definition:
    """A valid workflow."""

    workflow_id: str
    name: str
    version: str
    digest: str
    """Identifies this content; a run keeps the content that it started with."""
    document: dict[str, Any]
    tasks: tuple[TaskDefinition, ...]
    on_failure: str | None = None
    session_timeout_s: float | None = None
    outputs: Template | None = None
    """Template of the run's result; by default, the result has the results of the last steps."""
    input_schema: dict[str, Any] | None = None
    limits: Limits = attrs.field(eq=False)
    """The limits of the node that reads the document."""

    @functools.cached_property
    def by_key(self) -> dict[str, TaskDefinition]:
        """The tasks by their ids in the document."""
        return {task.key: task for task in self.tasks}

    @functools.cached_property
    def dependents(self) -> dict[str, tuple[TaskDefinition, ...]]:
        """For each task, the tasks that depend on it directly."""
        found: dict[str, list[TaskDefinition]] = {task.key: [] for task in self.tasks}
        for task in self.tasks:
            for key in task.depends_on:
                found[key].append(task)
        return {key: tuple(tasks) for key, tasks in found.items()}

    @functools.cached_property
    def steps(self) -> tuple[TaskDefinition, ...]:
        """The steps in topological order and, where that leaves a choice, in listed order."""
        sorter = graphlib.TopologicalSorter(
            {
                task.ordinal: [self.by_key[key].ordinal for key in task.depends_on]
                for task in self.tasks
                if task.role is Role.STEP
            }
        )
        sorter.prepare()
        order, free = list[int](), list[int]()
        while sorter.is_active():
            for ordinal in sorter.get_ready():
                heapq.heappush(free, ordinal)
            order.append(heapq.heappop(free))
            sorter.done(order[-1])
        return tuple(self.tasks[ordinal] for ordinal in order)

    @functools.cached_property
    def signals(self) -> frozenset[str]:
        """The names of the signals that runs wait for."""
        return frozenset(task.signal for task in self.tasks if task.kind is TaskKind.SIGNAL)

    @property
    def needs_agent(self) -> bool:
        """Whether some task names neither capability nor agent, and so needs the session's agent."""
        return any(task.by_agent and task.capability is None and task.agent_id is None for task in self.tasks)


def parse(document: Any, limits: Limits) -> Definition:
    """Validate a workflow document and build its definition.

    Raises:
        InvalidDocument: with every fault of the document.
    """
    faults.check(document, limits)
    return restore(document, limits)


def restore(document: dict[str, Any], limits: Limits) -> Definition:
    """Build the definition of a document that was valid when it was stored, even if it exceeds the limits by now."""
    # The caller may go on changing the document, so keep a copy.
    document = copy.deepcopy(document)
    tasks: list[dict[str, Any]] = document["tasks"]
    roles = handlers_of(document)
    edges = edges_of([task for task in tasks if task["taskId"] not in roles])
    order = {task["taskId"]: ordinal for ordinal, task in enumerate(tasks)}
    defaults: dict[str, Any] = document.get("defaults", {})
    return Definition(
        workflow_id=document["id"],
        name=document.get("name", document["id"]),
        version=document.get("version", "1.0"),
        digest=digest(document),
        document=document,
        tasks=tuple(
            _build_task(
                ordinal,
                task,
                defaults,
                depends_on=tuple(sorted(edges.get(task["taskId"], ()), key=order.__getitem__)),
                role=Role(roles.get(task["taskId"], Role.STEP)),
                limits=limits,
            )
            for ordinal, task in enumerate(tasks)
        ),
        on_failure=document.get("onFailure"),
        outputs=None if document.get("outputs") is None else compile_template(document["outputs"]),
        input_schema=document.get("inputSchema"),
        limits=limits,
        session_timeout_s=_seconds(document.get("sessionTimeoutSeconds")),
    )


def digest(document: Any) -> str:
    """Return a digest that identifies a document's content, whatever the order of its fields."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _build_task(
    ordinal: int,
    task: dict[str, Any],
    defaults: dict[str, Any],
    *,
    depends_on: tuple[str, ...],
    role: Role,
    limits: Limits,
) -> TaskDefinition:
    settings = {**defaults, **task}
    retry = {**defaults.get("retry", {}), **task.get("retry", {})}
    kind = TaskKind(task.get("type", TaskKind.AGENT))
    # Only tasks that agents do have a default timeout: a signal or a child run may take for ever.
    timeout = settings.get("timeoutSeconds", limits.timeout_s) if kind in BY_AGENTS else task.get("timeoutSeconds")
    return TaskDefinition(
        key=task["taskId"],
        name=task.get("name", task["taskId"]),
        ordinal=ordinal,
        kind=kind,
        role=role,
        capability=task.get("agentCapability"),
        agent_id=task.get("agentId"),
        parameters=task.get("parameters") or {},
        filled=compile_template(task.get("parameters") or {}),
        concurrency_key=None if task.get("concurrencyKey") is None else compile_template(task["concurrencyKey"]),
        when=None if task.get("when") is None else compile_expression(bare(task["when"])),
        for_each=None if task.get("forEach") is None else compile_template(unspaced(task["forEach"])),
        concurrency=int(task.get("concurrency", limits.items_at_once)),
        items_max=limits.items_max,
        retry=_retry_policy(retry),
        timeout_s=_seconds(timeout),
        lease_s=float(settings.get("leaseSeconds", limits.lease_s)),
        heartbeat_s=_seconds(settings.get("heartbeatSeconds")),
        schedule_to_start_s=_seconds(settings.get("scheduleToStartSeconds")),
        schedule_to_close_s=_seconds(settings.get("scheduleToCloseSeconds")),
        priority=int(settings.get("priority", 0)),
        depends_on=depends_on,
        fallback=task.get("fallbackTaskId"),
        compensation=task.get("compensateTaskId"),
        continue_on_failure=task.get("continueOnFailure", False),
        idempotent=task.get("idempotent", False),
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


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
