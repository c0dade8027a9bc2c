"""The rows of the domain: one frozen class for each kind of thing that is stored.

Times are Unix seconds; names of durations end in `_s`. A row does not know how it is stored or shown.
"""

from enum import StrEnum
from typing import Any, Final

import attrs

from opscore.runtime.lease import Lease

FAILURE_CHARACTERS_MAX: Final = 4_000
"""How much of an error's text is kept."""

STATE_UNKNOWN = "unknown"
STATE_INITIALIZING = "initializing"
STATE_IDLE = "idle"
STATE_ACTIVE = "active"
STATE_ERROR = "error"
STATE_FINISHED = "finished"
STATE_OFFLINE = "offline"


class AgentSource(StrEnum):
    """Who introduced an agent."""

    API = "api"
    AGENTKIT = "agentkit"
    LOCAL = "local"


class TaskStatus(StrEnum):
    """The status of a task; `lifecycle.TASK_TABLE` has its transitions."""

    PENDING = "pending"
    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    PENDING_RETRY = "pending_retry"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class SessionStatus(StrEnum):
    """The status of a workflow run; `lifecycle.SESSION_TABLE` has its transitions."""

    STARTED = "started"
    RUNNING = "running"
    PAUSED = "paused"
    FAILING = "failing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Move(StrEnum):
    """How a run can be steered."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    RESET = "reset"
    TERMINATE = "terminate"


class Missed(StrEnum):
    """What becomes of due times that a schedule has missed, for example while the node was down."""

    SKIP = "skip"
    """They start nothing."""
    ONCE = "once"
    """They start one run, for the newest of them."""
    ALL = "all"
    """Each of them starts a run, at most the newest `schedule_missed_max`."""


TASK_ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED})
TASK_OPEN = frozenset({TaskStatus.DISPATCHED, TaskStatus.RUNNING})
"""An attempt is open, or the task waits for a signal, a delay, a child run or the items of a list."""
TASK_WAITS = frozenset({TaskStatus.PENDING, TaskStatus.READY, TaskStatus.PENDING_RETRY})
"""The task has no open attempt and may still begin one."""
SESSION_ENDED = frozenset({SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED})


@attrs.frozen(kw_only=True)
class Agent:
    """A registered agent and its newest accepted report."""

    agent_id: str
    name: str
    version: str = ""
    capabilities: tuple[str, ...] = ()
    contact_endpoint: str | None = None
    metadata: dict[str, Any] = attrs.field(factory=dict)
    source: AgentSource = AgentSource.API
    registered_at: float
    state: str = STATE_UNKNOWN
    details: dict[str, Any] | None = None
    reported_at: float | None = None
    """The agent's own timestamp of its newest accepted report, clamped to arrival + 30 s."""
    received_at: float | None = None
    cordoned: bool = False
    suspected_until: float = 0.0
    suspicions: int = 0
    """Deliveries in a row that did not reach it; any report resets the count."""
    introduced: bool = True
    """Whether a source introduced it. If not, it is known only by its own report, and any source may introduce it."""


def shown_text(text: str) -> str:
    """Return a text from an agent in a form that can be stored: cut in length, and without half surrogate pairs."""
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= FAILURE_CHARACTERS_MAX else whole[: FAILURE_CHARACTERS_MAX - 1] + "…"


@attrs.frozen(kw_only=True)
class Failure:
    """Why a task or a session failed."""

    message: str = attrs.field(converter=shown_text)
    code: str = attrs.field(default="task_failed", converter=shown_text)


@attrs.frozen(kw_only=True)
class Session:
    """One run of a workflow."""

    session_id: str
    workflow_id: str
    definition_key: str
    """Identifies the definition's revision: a digest of its content."""
    agent_id: str | None = None
    status: SessionStatus = SessionStatus.STARTED
    payload: Any = None
    result: Any = None
    error: Failure | None = None
    reason: str | None = None
    """Why it is paused, or was cancelled."""
    created_at: float
    cancelled_at: float | None = None
    """When the cancellation was requested, whatever still has to be undone."""
    due_at: float | None = None
    """When its own time is over."""
    parent_task_id: str | None = None
    """The task of the parent run that waits for this one."""
    depth: int = 0
    """How many parent runs are above it, each waiting for the next."""
    labels: dict[str, str] = attrs.field(factory=dict)
    business_key: str | None = None
    """The caller's own name for it; several runs may have the same."""
    ended_at: float | None = None

    @property
    def unwinding(self) -> bool:
        """Whether it has failed or was cancelled, and only ends what it began, also if it is paused meanwhile."""
        return self.error is not None or self.cancelled_at is not None


@attrs.frozen(kw_only=True)
class Task:
    """One task of one run."""

    task_id: str
    """Unique across all runs."""
    session_id: str
    key: str
    """The id that the definition gives it."""
    ordinal: int
    item: int | None = None
    """For an item of a `forEach` list: its place in the list, from 0."""
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    """Counts dispatches; the fencing token of the attempt."""
    retries: int = 0
    """Counts failures."""
    bounces: int = 0
    """Counts attempts in a row that ended undelivered or lost, which spend no retry."""
    agent_id: str | None = None
    """The agent that has or had the newest attempt."""
    ready_at: float | None = None
    line: str | None = None
    """The line in which it waits, or waited last, with others that need the same capability or the same agent."""
    rank: float | None = None
    """Its place in the line, the smallest first: the time since which it waits, less a bonus for its priority."""
    concurrency_key: str | None = None
    """At most one attempt of all tasks with this key is open at any time."""
    due_at: float | None = None
    """When it has to be checked: the end of a retry's backoff, of a delay, or of a time limit."""
    child_session_id: str | None = None
    """The child run that it waits for, or waited for last."""
    closes_at: float | None = None
    """When it has to be over, however many attempts it takes."""
    dispatched_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    items: list[Any] | None = None
    """For a `forEach` task: the list that it goes through."""
    dead: bool = False
    """It failed for good, and its run with it: a dead letter until it is retried or discarded."""
    result: Any = None
    error: Failure | None = None

    @property
    def is_out(self) -> bool:
        """Whether an agent has an open attempt."""
        return self.status in TASK_OPEN and self.agent_id is not None

    @property
    def awaits(self) -> bool:
        """Whether it has begun and waits for something other than an agent."""
        return self.status is TaskStatus.RUNNING and self.agent_id is None


@attrs.frozen(kw_only=True)
class Signal:
    """A named signal that was sent to a run; it is kept until a task of the run waits for it."""

    session_id: str
    signal_id: str
    """Makes it safe to send the signal again."""
    number: int
    """Its place among the signals of its run, from 0."""
    name: str
    payload: Any = None
    received_at: float
    taken_by: str | None = None
    """The id of the task that took it."""


@attrs.frozen(kw_only=True)
class SavedDefinition:
    """The revision that is currently saved under a workflow id."""

    workflow_id: str
    revision: int
    definition_key: str
    name: str
    version: str
    saved_at: float


@attrs.frozen(kw_only=True)
class IdempotentTrigger:
    """The trigger that an idempotency key was used for."""

    body_digest: str
    session_id: str
    workflow_id: str


@attrs.frozen(kw_only=True)
class Schedule:
    """When runs of a saved workflow start by themselves: by a cron expression, or once at a given time."""

    schedule_id: str
    workflow_id: str
    payload: Any = None
    agent_id: str | None = None
    cron: str | None = None
    at: float | None = None
    """The only due time there is; a schedule has either this or `cron`."""
    time_zone: str = "UTC"
    missed: Missed = Missed.ONCE
    paused: bool = False
    created_at: float
    next_due_at: float | None = None
    """None while it is paused, and when no due time is left."""
    last_due_at: float | None = None
    """The newest due time that started a run."""
    last_session_id: str | None = None
    fired: int = 0
    """How many runs it has started."""
    last_error: Failure | None = None
    """Why its newest due time has started no run, or not yet; None once one has."""


@attrs.frozen(kw_only=True)
class Record:
    """One record of the journal: what changed, in what, and when."""

    at: float
    entity: str
    """`agent`, `task`, `session` or `schedule`."""
    entity_id: str
    session_id: str | None = None
    kind: str
    """The kind of change, such as `task.completed`."""
    data: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Assignment:
    """One attempt of one task, as it is handed to an agent."""

    task_id: str
    task_key: str
    name: str
    session_id: str
    workflow_id: str
    agent_id: str
    attempt: int
    parameters: dict[str, Any]
    input: Any
    tool: bool = False
    """Whether the parameters are a tool call: `tool`, which is its name, and `arguments`."""
    lease_s: float
    timeout_s: float


@attrs.frozen(kw_only=True)
class Registration:
    """The details with which an agent is registered."""

    agent_id: str
    name: str | None = None
    version: str = ""
    capabilities: tuple[str, ...] = ()
    contact_endpoint: str | None = None
    metadata: dict[str, Any] = attrs.field(factory=dict)
    source: AgentSource = AgentSource.API


@attrs.frozen(kw_only=True)
class Granted:
    """What a claim returns."""

    assignment: Assignment
    lease: Lease
