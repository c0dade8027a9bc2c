"""The errors of the runtime.

    OpscoreError
    ├── Refusal                     the request was refused; nothing changed
    │   ├── NotFound                AgentNotFound, SessionNotFound, TaskNotFound, DefinitionNotFound, ScheduleNotFound,
    │   │                           DeadLetterNotFound
    │   ├── RecordsGone             retention has removed journal records that were asked for
    │   ├── Conflict                StaleAttempt, SessionConflict, IdempotencyConflict, ScheduleExists, DefinitionInUse
    │   ├── InvalidDocument         every fault at once, each with a path
    │   ├── LimitExceeded           one of the named limits
    │   ├── ExpressionInvalid       an expression can't be parsed, or refers to something that does not exist
    │   └── Unavailable             NotReady, QueueFull; try again after `retry_after_s`
    ├── ExpressionFailed            an expression has no value in this scope
    │   └── ExpressionExhausted     its evaluation would exceed its bounds
    ├── Superseded                  a precondition of a submission no longer held (internal)
    └── StoreError
        ├── StoreLocked             another process writes here
        │   └── SameNumber          one with the same process id, as in another container
        ├── StoreFull               disk or map full; reads go on
        ├── StoreReadOnly           its file may no longer be written; reads go on
        ├── StoreDamaged            a value whose checksum does not match, a truncated file
        ├── StoreIncompatible       written by a newer release, or not a store at all
        ├── TransferError           a file is not a complete export
        ├── CommitUnanswered        the outcome of a commit is not known yet; the node goes on
        └── CommitUncertain         a commit's sync failed; the node stops

Each class has a stable `code`, which the gateway passes on unchanged.
"""

from typing import ClassVar, Final

import attrs

FAULTS_MAX: Final = 1_000
"""How many faults of one document are listed; a hostile document can have hundreds of thousands."""
FAULT_CHARACTERS_MAX: Final = 500
"""To how many characters a fault's path and its message are cut, because each may quote most of the document."""
FAULTS_SHOWN: Final = 3
"""How many faults an error's message spells out; its `faults` holds them all."""


class OpscoreError(Exception):
    """The base class of the errors that the runtime raises on purpose."""

    code: ClassVar[str] = "error"


class Refusal(OpscoreError):
    """The request was refused, and nothing changed."""

    code = "refused"


class NotFound(Refusal):
    """Something that the request names does not exist; `identity` is its id."""

    code = "not_found"
    kind: ClassVar[str] = "thing"
    remedy: ClassVar[str] = ""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        super().__init__(f"{self.kind} {identity!r} does not exist{self.remedy}")


class AgentNotFound(NotFound):
    """No agent is registered under this id."""

    code = "agent_not_found"
    kind = "agent"
    remedy = "; register it first"


class SessionNotFound(NotFound):
    """No session has this id."""

    code = "session_not_found"
    kind = "session"


class TaskNotFound(NotFound):
    """No task has this id."""

    code = "task_not_found"
    kind = "task"


class DefinitionNotFound(NotFound):
    """No workflow definition is saved under this id."""

    code = "definition_not_found"
    kind = "workflow definition"
    remedy = "; save it first"

    def __init__(self, identity: str) -> None:
        super().__init__(identity)
        if identity.lstrip().startswith("{"):
            what = f"{self.kind} {identity[:64]!r} does not exist"
            self.args = (f"{what}; a string counts as an id, so pass a document as a mapping and not as its text",)


class ScheduleNotFound(NotFound):
    """No schedule has this id."""

    code = "schedule_not_found"
    kind = "schedule"


class DeadLetterNotFound(NotFound):
    """No task with this id is a dead letter: it did not fail for good, its run goes on, or it was discarded."""

    code = "dead_letter_not_found"
    kind = "dead letter"


class RecordsGone(Refusal):
    """Retention has removed journal records after `after`, which the request names; `oldest` is the first left."""

    code = "records_gone"

    def __init__(self, after: int, oldest: int) -> None:
        self.after = after
        self.oldest = oldest
        super().__init__(
            f"records after {after:,} are no longer kept; the journal goes back to {oldest:,}. "
            "Read the current state, and follow from there"
        )


class Conflict(Refusal):
    """The request conflicts with the present state."""

    code = "conflict"


class StaleAttempt(Conflict):
    """The attempt with the number `attempt` of the task `task_id` is not its current one, or is already over."""

    code = "stale_attempt"

    def __init__(self, task_id: str, attempt: int, reason: str) -> None:
        self.task_id, self.attempt = task_id, attempt
        super().__init__(f"attempt {attempt} of task {task_id!r} is not open: {reason}")


class SessionConflict(Conflict):
    """This can't be done to the session `session_id` in its present state."""

    code = "session_conflict"

    def __init__(self, session_id: str, reason: str) -> None:
        self.session_id = session_id
        super().__init__(f"this can't be done to session {session_id!r}: {reason}")


class IdempotencyConflict(Conflict):
    """The idempotency key `key`, or the id of a signal, was used before with another body."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"idempotency key {key!r} was used before with a different body; use a new key")


class ScheduleExists(Conflict):
    """Another schedule has the id `schedule_id` already."""

    code = "schedule_exists"

    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"schedule {schedule_id!r} exists with other content; delete it first, or use a new id")


class DefinitionInUse(Conflict):
    """The workflow `workflow_id` can't be deleted while schedules start runs of it; `schedule_ids` are some of them."""

    code = "definition_in_use"

    def __init__(self, workflow_id: str, schedule_ids: tuple[str, ...]) -> None:
        self.workflow_id, self.schedule_ids = workflow_id, schedule_ids
        listed = ", ".join(map(repr, schedule_ids[:FAULTS_SHOWN]))
        super().__init__(f"workflow {workflow_id!r} is started by schedule {listed}; delete what starts it first")


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that is wrong with a document."""

    path: str
    """Where it is, in the names of the document, such as `tasks[2].nextTaskId`; empty for the document as a whole."""
    message: str
    """What was expected."""
    field: str | None = None
    """If the fault is a field that should not be there: the name of that field of the object at `path`."""

    def shortened(self) -> "Fault":
        """Return the fault with its path and message cut to `FAULT_CHARACTERS_MAX` characters each."""
        return attrs.evolve(self, path=_excerpt(self.path), message=_excerpt(self.message))


def _excerpt(text: str) -> str:
    return text if len(text) <= FAULT_CHARACTERS_MAX else text[: FAULT_CHARACTERS_MAX - 1] + "…"


class InvalidDocument(Refusal):
    """A document (`what`) has `faults`: all of them, up to `FAULTS_MAX` and one more that says there are more."""

    code = "validation_failed"

    def __init__(self, what: str, faults: tuple[Fault, ...]) -> None:
        self.what = what
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        if len(faults) > FAULTS_MAX:
            count = f"more than {FAULTS_MAX} faults"
            faults = (*faults[:FAULTS_MAX], Fault(path="", message=f"there are {count}; these are the first"))
        faults = tuple(fault.shortened() for fault in faults)
        self.faults = faults
        listed = "; ".join(f"{fault.path or what}: {fault.message}" for fault in faults[:FAULTS_SHOWN])
        super().__init__(f"the {what} has {count}: {listed}{'; …' if len(faults) > FAULTS_SHOWN else ''}")


class LimitExceeded(Refusal):
    """The limit named `limit` is `allowed`, and `found` was given."""

    code = "limit_exceeded"

    def __init__(self, limit: str, allowed: int, found: int) -> None:
        self.limit, self.allowed, self.found = limit, allowed, found
        super().__init__(f"{limit} allows {allowed:,}, found {found:,}")


class ExpressionInvalid(Refusal):
    """An expression can't be parsed, refers to something that does not exist, or is larger than its bounds allow.

    `reason` says which; `message` says where in the text as well.
    """

    code = "expression_invalid"

    def __init__(self, reason: str, *, position: int | None = None, path: str = "") -> None:
        self.reason = reason
        self.position = position
        """The position in the text that was compiled, counted from 1, if it is known."""
        self.path = path
        """The path of the string within the value that was compiled, such as `steps[2].text`; empty for the value."""
        self.message = reason if position is None else f"{reason}, at character {position}"
        super().__init__(f"{path}: {self.message}" if path else self.message)


class Unavailable(Refusal):
    """The request is refused for now; the same request may be accepted after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(self, sentence: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(sentence)


class NotReady(Unavailable):
    """The node is starting, draining or stopped."""

    code = "not_ready"

    def __init__(self, reason: str, *, retry_after_s: float = 5.0) -> None:
        super().__init__(f"the node takes no work: {reason}", retry_after_s=retry_after_s)


class QueueFull(Unavailable):
    """The node has as many unfinished sessions as it admits."""

    code = "queue_full"

    def __init__(self, allowed: int, *, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"{allowed:,} sessions are unfinished, which is all that sessions_open_max allows",
            retry_after_s=retry_after_s,
        )


class ExpressionFailed(OpscoreError):
    """An expression has no value in the scope it was given."""

    code = "expression_failed"


class ExpressionExhausted(ExpressionFailed):
    """Evaluating an expression, or its result, would exceed its bounds."""

    code = "expression_exhausted"


class Superseded(OpscoreError):
    """A row (`key` of `table`) was not as expected when a submission was applied; its actor decides again."""

    code = "superseded"

    def __init__(self, table: str, key: str) -> None:
        self.table = table
        self.key = key
        super().__init__(f"{table} {key!r} changed before this submission was applied")


class StoreError(OpscoreError):
    """The store can't be opened, read or written."""

    code = "store_error"


class StoreLocked(StoreError):
    """The process `owner` has the directory `path` open for writing."""

    code = "store_locked"

    def __init__(self, path: str, owner: str) -> None:
        self.path = path
        self.owner = owner
        super().__init__(f"{path} is in use by {owner}; stop that process or choose another directory")


class SameNumber(StoreLocked):
    """A process with the same process id has the store open, as in another container; LMDB can't tell them apart."""

    def __init__(self, path: str, number: int) -> None:
        super().__init__(path, f"another process with the same process id, {number}, as in another container")


class StoreFull(StoreError):
    """The disk or the map of `path` is full. New work is refused, reads go on."""

    code = "store_full"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} is full ({reason}); free space, and the same request will be accepted")


class StoreReadOnly(StoreError):
    """The file `path`, or its file system, may no longer be written, or the file is no longer in its directory.

    Writes are refused, reads go on.
    """

    code = "store_read_only"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} can't be written ({reason}); once it can, the same request will be accepted")


class StoreDamaged(StoreError):
    """A stored value or file, which `what` names, is not what was written."""

    code = "store_damaged"

    def __init__(self, what: str, reason: str, *, key: bytes | None = None) -> None:
        self.what = what
        self.key = key
        """The key of the value, if a value is damaged; a reader of the table may continue after it."""
        super().__init__(f"{what} is damaged: {reason}; restore a backup")


class StoreIncompatible(StoreError):
    """The directory `path` holds files that this release can't read."""

    code = "store_incompatible"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} can't be opened by this release: {reason}")


class TransferError(StoreError):
    """A file is not a complete export, or is an export that this release can't read."""

    code = "transfer_error"


class CommitUnanswered(StoreError):
    """The outcome of a commit is unknown, by `reason`, or a load could not be read; read the rows again to know it."""

    code = "commit_unanswered"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the store does not answer: {reason}; check whether it happened before trying again")


class CommitUncertain(StoreError):
    """A commit's sync to `path` failed. Only reopening the store tells what the disk holds, so the node stops."""

    code = "commit_uncertain"

    def __init__(self, path: str, cause: str) -> None:
        self.path = path
        super().__init__(
            f"a commit to {path} failed while it was being synced ({cause}); the node stops, start it again"
        )
