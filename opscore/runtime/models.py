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
    """Who introduced an agent: a call (`api`), `agentkit`, or this process, whose function it is (`local`)."""

    API = "api"
    AGENTKIT = "agentkit"
    LOCAL = "local"


class TaskStatus(StrEnum):
    """The status of a task; `lifecycle.TASK_TABLE` has its transitions.

    `pending` waits for other tasks, `ready` for an agent, `pending_retry` for its next attempt. `dispatched` was given
    to an agent, and is `running` once that shows that it works. A task that waits for no agent, but for a signal, a
    delay, a child run or a list, is `running` as well. `completed`, `failed`, `skipped` and `cancelled` are ends.
    """

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
    """The status of a workflow run; `lifecycle.SESSION_TABLE` has its transitions.

    `started` has begun no task yet, `running` has. `paused` begins nothing. `failing` and `cancelling` end what is
    open, and undo what was completed. `completed`, `failed` and `cancelled` are ends.
    """

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
    """End its open attempts, undo its completed steps, and end it as cancelled."""
    PAUSE = "pause"
    """Begin no further attempts; those that are open may end."""
    RESUME = "resume"
    """Go on after a pause."""
    RETRY = "retry"
    """Begin a failed run again from what failed; what was completed stays."""
    RESET = "reset"
    """Take its open attempts from their agents, and give the tasks out again; this spends no retry."""
    TERMINATE = "terminate"
    """End it at once, as cancelled, and undo nothing more."""


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
    """Its id; as long as it has the same one, it is the same agent."""
    name: str
    """Its name for people."""
    version: str = ""
    """Its version, any text."""
    capabilities: tuple[str, ...] = ()
    """The names of what it can do."""
    contact_endpoint: str | None = None
    """The URL to which its attempts are pushed, if it has one."""
    metadata: dict[str, Any] = attrs.field(factory=dict)
    """Whatever it was registered with besides."""
    source: AgentSource = AgentSource.API
    """Who introduced it: `api`, `agentkit`, or `local` for a function of this process."""
    registered_at: float
    """When it registered last."""
    state: str = STATE_UNKNOWN
    """The state that it reported last, in lower case; only an agent that is `idle` is given work."""
    details: dict[str, Any] | None = None
    """The details of that report."""
    reported_at: float | None = None
    """The agent's own timestamp of that report, at most `clock_ahead_s_max` after its arrival."""
    received_at: float | None = None
    """When that report arrived."""
    cordoned: bool = False
    """Whether it is out of dispatch: it is given no work, whatever its state."""
    suspected_until: float = 0.0
    """Until when it is given no work because deliveries did not reach it; any report ends that."""
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
    """What went wrong, for people; its first 4,000 characters."""
    code: str = attrs.field(default="task_failed", converter=shown_text)
    """A name for programs, such as `timeout`."""


@attrs.frozen(kw_only=True)
class Session:
    """One run of a workflow."""

    session_id: str
    """Its id, unique for ever."""
    workflow_id: str
    """The id of the workflow that it follows."""
    definition_key: str
    """Identifies the definition's revision: a digest of its content."""
    agent_id: str | None = None
    """Its agent: given the tasks that name neither capability nor agent, and preferred for those that it can do."""
    status: SessionStatus = SessionStatus.STARTED
    """Where it is; it has ended if this is `completed`, `failed` or `cancelled`."""
    payload: Any = None
    """Its input, in JSON."""
    result: Any = None
    """Once it has completed: the definition's `outputs`, or the results of its last tasks by their definition's ids."""
    error: Failure | None = None
    """Why it has failed, or is about to."""
    reason: str | None = None
    """Why it is paused, or was cancelled."""
    created_at: float
    """When it was triggered."""
    cancelled_at: float | None = None
    """When the cancellation was requested, whatever still has to be undone."""
    due_at: float | None = None
    """When its own time is over."""
    parent_task_id: str | None = None
    """The task of the parent run that waits for this one."""
    depth: int = 0
    """How many parent runs are above it, each waiting for the next."""
    labels: dict[str, str] = attrs.field(factory=dict)
    """Names and values by which it is found."""
    business_key: str | None = None
    """The caller's own name for it; several runs may have the same."""
    ended_at: float | None = None
    """When it ended; None while it is unfinished."""

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
    """Its run."""
    key: str
    """The id that the definition gives it."""
    ordinal: int
    """Its place in the definition, from 0."""
    item: int | None = None
    """For an item of a `forEach` list: its place in the list, from 0."""
    status: TaskStatus = TaskStatus.PENDING
    """Where it is; `is_out` and `awaits` say what is open."""
    attempt: int = 0
    """Counts dispatches; the fencing token of the attempt."""
    retries: int = 0
    """Counts failures."""
    bounces: int = 0
    """Counts attempts in a row that ended undelivered or lost, which spend no retry."""
    agent_id: str | None = None
    """The agent that has or had the newest attempt."""
    ready_at: float | None = None
    """Since when it waits for an agent, or when it began to wait last."""
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
    """When its newest attempt was given to an agent."""
    started_at: float | None = None
    """When that agent first showed that it works."""
    ended_at: float | None = None
    """When the task ended, after its last attempt."""
    items: list[Any] | None = None
    """For a `forEach` task: the list that it goes through."""
    dead: bool = False
    """It failed for good, and its run with it: a dead letter until it is retried or discarded."""
    result: Any = None
    """Its result, in JSON; None while it has not completed."""
    error: Failure | None = None
    """Why its newest failed attempt failed; None once it has completed."""

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
    """A signal with a `name` and a `payload`; the run `session_id` got it at `received_at`, for a task that waits."""

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
    """The `revision`, from 1 on, that is saved under `workflow_id` since `saved_at`, with its `name` and `version`.

    `definition_key` is a digest of its content.
    """

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
    """When runs of a saved workflow start by themselves: by a cron expression, or once at a given time.

    `schedule_id`, `workflow_id`, `payload`, `agent_id`, `cron`, `time_zone` and `missed` are what it was created with,
    at `created_at`. While it is `paused` it starts nothing. `last_session_id` is the run that it started last.
    """

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
    """A record of the journal: what changed (`data`), in what (`entity_id`, of the run `session_id`), and `at` when."""

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
    """The task's id, unique across all runs and the same in each attempt: an idempotency key for other services."""
    task_key: str
    """The id that the definition gives the task."""
    name: str
    """The task's name in the definition; its id there if it has none."""
    session_id: str
    """Its run."""
    workflow_id: str
    """The workflow that the run follows."""
    agent_id: str
    """The agent that it is handed to."""
    attempt: int
    """Counts from 1; the fencing token, which every report about the attempt carries."""
    parameters: dict[str, Any]
    """The definition's parameters, in which expressions have been replaced by their values."""
    input: Any
    """The run's payload, in JSON."""
    tool: bool = False
    """Whether the parameters are a tool call: `tool`, which is its name, and `arguments`."""
    lease_s: float
    """For how many seconds the agent may be silent; a function of this process is bound by its timeout alone."""
    timeout_s: float
    """How many seconds the attempt may take."""


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
    """What a claim returns: the `assignment`, and the `lease` that the agent holds on it."""

    assignment: Assignment
    lease: Lease
