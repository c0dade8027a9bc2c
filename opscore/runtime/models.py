"""The rows of the domain: frozen values, one for each kind of thing that is stored.

Times are Unix seconds; durations end in `_s`. A row knows nothing of how it is stored or shown.
"""

from enum import StrEnum
from typing import Any, Final

import attrs

FAILURE_CHARACTERS_MAX: Final = 4_000
"""What is kept of an error's text."""

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
    """Where a task stands; `lifecycle.TASK_TABLE` says how it moves."""

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
    """Where a workflow run stands; `lifecycle.SESSION_TABLE` says how it moves."""

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
    """What becomes of due times of a schedule that could not be kept, such as those while the node was down."""

    SKIP = "skip"
    """Nothing."""
    ONCE = "once"
    """The newest of all that have passed starts a run, for all of them."""
    ALL = "all"
    """Each of them starts a run, the newest `schedule_missed_max` at most."""


TASK_ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED})
TASK_OPEN = frozenset({TaskStatus.DISPATCHED, TaskStatus.RUNNING})
"""An attempt is out with an agent, or a signal, a delay, other runs or the items of a list are waited for."""
TASK_WAITS = frozenset({TaskStatus.PENDING, TaskStatus.READY, TaskStatus.PENDING_RETRY})
"""Nothing of it is out, and it may begin yet."""
SESSION_ENDED = frozenset({SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED})


@attrs.frozen(kw_only=True)
class Agent:
    """A registered agent and the newest accepted report of it."""

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
    """Deliveries in a row that did not reach it; any report ends the row."""
    introduced: bool = True
    """Whether anybody said who it is; else it is known by its own report alone, and whoever introduces it may."""


@attrs.frozen(kw_only=True)
class Lease:
    """An agent's hold on one attempt; the row is keyed by agent, so an agent holds one at most."""

    agent_id: str
    session_id: str
    task_id: str
    attempt: int
    granted_at: float
    expires_at: float
    """When silence ends the attempt as lost."""
    timeout_at: float
    """When the attempt fails even though the agent shows life."""
    lease_s: float
    delivered: bool = False
    """There is evidence that the agent has it."""
    active_seen: bool = False
    """The agent reported active during this lease."""
    heartbeat_seen: bool = False
    heartbeat_s: float | None = None
    """How long the agent may be silent once it has shown life, before that counts as a failure."""
    silent_at: float | None = None
    """When that is, by its newest sign of life."""
    revoked: bool = False
    """The attempt was taken back while the agent had it: nothing of it counts any more."""
    claim_id: str | None = None
    claim_ticket: str | None = None
    """Names the very call that was handed the attempt, where a claim id may come again."""
    slots: tuple[str, ...] = ()
    """The slots that the attempt has, each a row of its own for as long as the lease is there."""
    progress: Any = None
    """How far the agent is, as it said last."""
    tool: bool = False
    """It has a tool do something, which must not be asked for twice by itself."""
    idempotent: bool = False
    """Doing it again does no harm, so that it may be tried again though nobody knows whether it was done."""
    function: bool | None = None
    """Whether a function of the node's process has it, whatever its agent is by now; None where that is not known."""

    @property
    def due_at(self) -> float:
        """When it has to be looked at."""
        times = (self.expires_at, self.timeout_at)
        return min(times) if self.silent_at is None else min(*times, self.silent_at)


@attrs.frozen(kw_only=True)
class Slot:
    """One of the places that a bound on how much is out at once has; there while an attempt takes it up."""

    name: str
    agent_id: str
    """Who holds the lease of that attempt."""


def shown_text(text: str) -> str:
    """What an agent said, as it can be stored: no half of a surrogate pair, and not without end."""
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
    """Names the definition's revision: a digest of its content."""
    agent_id: str | None = None
    status: SessionStatus = SessionStatus.STARTED
    payload: Any = None
    result: Any = None
    error: Failure | None = None
    reason: str | None = None
    """Why it is paused, or was cancelled."""
    created_at: float
    cancelled_at: float | None = None
    """When it was told to be cancelled, whatever it still has to do before it is."""
    due_at: float | None = None
    """When its own time is over."""
    parent_task_id: str | None = None
    """The task of another run that waits for this one."""
    depth: int = 0
    """How many runs stand above it, each waiting for the next."""
    labels: dict[str, str] = attrs.field(factory=dict)
    business_key: str | None = None
    """What it is called in the caller's business; several may have the same."""
    ended_at: float | None = None

    @property
    def unwinding(self) -> bool:
        """Whether it has failed or is cancelled, and only ends what it began; it stays so if it is paused meanwhile."""
        return self.error is not None or self.cancelled_at is not None


@attrs.frozen(kw_only=True)
class Task:
    """One task of one run."""

    task_id: str
    """Unique across all runs."""
    session_id: str
    key: str
    """The definition's id for it."""
    ordinal: int
    item: int | None = None
    """Which item of its list it does, where the task is done for each item of one."""
    status: TaskStatus = TaskStatus.PENDING
    attempt: int = 0
    """Counts dispatches; the fencing token of the attempt."""
    retries: int = 0
    """Counts failures."""
    bounces: int = 0
    """Counts attempts in a row that ended undelivered or lost, which spend no retry."""
    agent_id: str | None = None
    """Who has or had the newest attempt."""
    ready_at: float | None = None
    line: str | None = None
    """Where it waits, or did last: with others that need the same capability, or the same agent."""
    rank: float | None = None
    """Its place there, the smallest first: the time since which it waits, less what its priority is worth."""
    concurrency_key: str | None = None
    """At most one attempt of all tasks with this key is out at any time."""
    due_at: float | None = None
    """When it has to be looked at: a retry delay ends, a delay, or a time that it may take."""
    child_session_id: str | None = None
    """The run that it waits for, or waited for last."""
    closes_at: float | None = None
    """When it has to have come to its end, however many attempts that takes."""
    dispatched_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    items: list[Any] | None = None
    """The list that it goes through, where it does something for each item of one."""
    dead: bool = False
    """It failed for good, and its run with it: a dead letter, until somebody tries it again or discards it."""
    result: Any = None
    error: Failure | None = None

    @property
    def is_out(self) -> bool:
        """Whether an attempt is out with an agent."""
        return self.status in TASK_OPEN and self.agent_id is not None

    @property
    def awaits(self) -> bool:
        """Whether it has begun and waits for something that no agent does."""
        return self.status is TaskStatus.RUNNING and self.agent_id is None


@attrs.frozen(kw_only=True)
class Signal:
    """Something that a run was told by name; it waits until a task of the run waits for it."""

    session_id: str
    signal_id: str
    """Makes it safe to send again."""
    number: int
    """Its place among the signals of its run."""
    name: str
    payload: Any = None
    received_at: float
    taken_by: str | None = None
    """The task that it was for."""


@attrs.frozen(kw_only=True)
class SavedDefinition:
    """What a workflow id currently stands for."""

    workflow_id: str
    revision: int
    definition_key: str
    name: str
    version: str
    saved_at: float


@attrs.frozen(kw_only=True)
class IdempotentTrigger:
    """What an idempotency key was used for."""

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
    """Nothing while it is paused, and when there is no due time left."""
    last_due_at: float | None = None
    """The newest due time that started a run."""
    last_session_id: str | None = None
    fired: int = 0
    """How many runs it has started."""
    last_error: Failure | None = None
    """Why its newest due time started no run, or none yet; nothing once one has."""


@attrs.frozen(kw_only=True)
class Record:
    """One line of the journal: what changed, when, of what."""

    at: float
    entity: str
    """`agent`, `task`, `session` or `schedule`."""
    entity_id: str
    session_id: str | None = None
    kind: str
    """Such as `task.completed`."""
    data: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Assignment:
    """What an agent is handed: one attempt of one task."""

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
    """Its parameters are the call of a tool: `tool`, its name, and `arguments`."""
    lease_s: float
    timeout_s: float


@attrs.frozen(kw_only=True)
class Registration:
    """What an agent says of itself when it registers."""

    agent_id: str
    name: str | None = None
    version: str = ""
    capabilities: tuple[str, ...] = ()
    contact_endpoint: str | None = None
    metadata: dict[str, Any] = attrs.field(factory=dict)
    source: AgentSource = AgentSource.API


@attrs.frozen(kw_only=True)
class Granted:
    """What a claimer gets."""

    assignment: Assignment
    lease: Lease
