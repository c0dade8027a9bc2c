"""Everything the runtime can refuse or suffer.

    OpscoreError
    ├── Refusal                     the request was not taken; nothing changed
    │   ├── NotFound                AgentNotFound, SessionNotFound, TaskNotFound, DefinitionNotFound, ScheduleNotFound,
    │   │                           DeadLetterNotFound
    │   ├── RecordsGone             retention has removed journal records that were asked for
    │   ├── Conflict                StaleAttempt, SessionConflict, IdempotencyConflict, ScheduleExists
    │   ├── InvalidDocument         every fault at once, each with a path
    │   ├── LimitExceeded           one of the named limits
    │   ├── ExpressionInvalid       an expression can't be read, or names what does not exist
    │   └── Unavailable             NotReady, QueueFull; try again after `retry_after_s`
    ├── ExpressionFailed            an expression has no value in this scope
    │   └── ExpressionExhausted     it would take more than its bounds allow
    ├── Superseded                  a precondition of a submission no longer held (internal)
    └── StoreError
        ├── StoreLocked             another process writes here
        │   └── SameNumber          by a process of another container
        ├── StoreFull               disk or map full; reads go on
        ├── StoreReadOnly           its file may no longer be written; reads go on
        ├── StoreDamaged            a value whose checksum does not match, a truncated file
        ├── StoreIncompatible       written by a newer release, or not a store at all
        ├── TransferError           a file is no whole export
        ├── CommitUnanswered        what became of a commit is not known yet; the node goes on
        └── CommitUncertain         a commit's sync failed: the node stops

Each class has a stable `code`, which the gateway shows as it is.
"""

from typing import ClassVar, Final

import attrs

FAULTS_MAX: Final = 1_000
"""Faults that are listed of one document; a document can be made to have hundreds of thousands."""
FAULT_CHARACTERS_MAX: Final = 500
"""Characters of a fault's path, and of its message: each may quote most of the document."""
FAULTS_SHOWN: Final = 3
"""Faults that an error's sentence spells out; its `faults` hold them all."""


class OpscoreError(Exception):
    """The root of what the runtime raises on purpose."""

    code: ClassVar[str] = "error"


class Refusal(OpscoreError):
    """The request was not taken and nothing changed."""

    code = "refused"


class NotFound(Refusal):
    """Something named does not exist."""

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
            self.args = (f"{what}; a document is given as a mapping, not as its text, which counts as an id",)


class ScheduleNotFound(NotFound):
    """No schedule has this id."""

    code = "schedule_not_found"
    kind = "schedule"


class DeadLetterNotFound(NotFound):
    """No task of this id is a dead letter: it did not fail for good, its run goes on, or it was discarded."""

    code = "dead_letter_not_found"
    kind = "dead letter"


class RecordsGone(Refusal):
    """Retention has removed journal records that come after the one named: what follows would have a gap."""

    code = "records_gone"

    def __init__(self, after: int, oldest: int) -> None:
        self.after = after
        self.oldest = oldest
        super().__init__(
            f"records after {after:,} are no longer kept; the journal goes back to {oldest:,}: read the state anew, "
            "and follow from there"
        )


class Conflict(Refusal):
    """The request contradicts what is already so."""

    code = "conflict"


class StaleAttempt(Conflict):
    """The attempt named is not the task's current one, or is already over."""

    code = "stale_attempt"

    def __init__(self, task_id: str, attempt: int, reason: str) -> None:
        self.task_id = task_id
        self.attempt = attempt
        super().__init__(f"attempt {attempt} of task {task_id!r} is not open: {reason}")


class SessionConflict(Conflict):
    """Where the session stands, this can't be done to it."""

    code = "session_conflict"

    def __init__(self, session_id: str, reason: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id!r} can't be moved so: {reason}")


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with another body."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"idempotency key {key!r} was used before with a different body; use a new key")


class ScheduleExists(Conflict):
    """Another schedule has this id already."""

    code = "schedule_exists"

    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"schedule {schedule_id!r} exists and says something else; delete it first, or use a new id")


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that is wrong with a document."""

    path: str
    """Where, in the names of the document, such as `tasks[2].nextTaskId`; empty for the whole."""
    message: str
    """What was expected."""
    field: str | None = None
    """The field of the object at `path` that should not be there, where that is the fault."""

    def shortened(self) -> "Fault":
        """The same with at most `FAULT_CHARACTERS_MAX` characters of each text."""
        return attrs.evolve(self, path=_excerpt(self.path), message=_excerpt(self.message))


def _excerpt(text: str) -> str:
    return text if len(text) <= FAULT_CHARACTERS_MAX else text[: FAULT_CHARACTERS_MAX - 1] + "…"


class InvalidDocument(Refusal):
    """A document breaks its schema; it lists every fault, up to `FAULTS_MAX` and one that says there are more."""

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
    """A named limit would be passed."""

    code = "limit_exceeded"

    def __init__(self, limit: str, allowed: int, found: int) -> None:
        self.limit = limit
        self.allowed = allowed
        self.found = found
        super().__init__(f"{limit} allows {allowed:,}, found {found:,}")


class ExpressionInvalid(Refusal):
    """An expression can't be read, names what does not exist, or is larger than its bounds allow."""

    code = "expression_invalid"

    def __init__(self, reason: str, *, position: int | None = None, path: str = "") -> None:
        self.reason = reason
        self.position = position
        """In the text that was compiled, from 1, where it is known."""
        self.path = path
        """Of the string in the value that was compiled, such as `steps[2].text`; empty for the value itself."""
        self.message = reason if position is None else f"{reason}, at character {position}"
        super().__init__(f"{path}: {self.message}" if path else self.message)


class Unavailable(Refusal):
    """Not now; the same request may be taken later."""

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
    """As many sessions are unfinished as the node admits."""

    code = "queue_full"

    def __init__(self, allowed: int, *, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"{allowed:,} sessions are unfinished, as many as sessions_open_max admits",
            retry_after_s=retry_after_s,
        )


class ExpressionFailed(OpscoreError):
    """An expression has no value in the scope it was given."""

    code = "expression_failed"


class ExpressionExhausted(ExpressionFailed):
    """Evaluating an expression, or its result, would go beyond its bounds."""

    code = "expression_exhausted"


class Superseded(OpscoreError):
    """A precondition of a submission did not hold when its turn came; its actor reloads and decides again."""

    code = "superseded"

    def __init__(self, table: str, key: str) -> None:
        self.table = table
        self.key = key
        super().__init__(f"{table} {key!r} changed before this submission was applied")


class StoreError(OpscoreError):
    """The store can't be opened, read or written."""

    code = "store_error"


class StoreLocked(StoreError):
    """Another process has this directory open for writing."""

    code = "store_locked"

    def __init__(self, path: str, owner: str) -> None:
        self.path = path
        self.owner = owner
        super().__init__(f"{path} is in use by {owner}; stop that process or choose another directory")


class SameNumber(StoreLocked):
    """A process of the same number has the store open; processes are told apart by it, and containers count alike."""

    def __init__(self, path: str, number: int) -> None:
        super().__init__(path, f"a process that has the number {number} as well, as in another container")


class StoreFull(StoreError):
    """The disk or the map is full; new work is refused, reads go on."""

    code = "store_full"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} is full ({reason}); free space and the same request will be taken")


class StoreReadOnly(StoreError):
    """The file may no longer be written, as on a file system that may not be, or is not the directory's any more.

    Work is refused, reads go on.
    """

    code = "store_read_only"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} can't be written ({reason}); once it can, the same request will be taken")


class StoreDamaged(StoreError):
    """A stored value or file is not what was written."""

    code = "store_damaged"

    def __init__(self, what: str, reason: str, *, key: bytes | None = None) -> None:
        self.what = what
        self.key = key
        """Of the value that is damaged, where it is one: whoever walks a table may go on behind it."""
        super().__init__(f"{what} is damaged: {reason}; restore a backup")


class StoreIncompatible(StoreError):
    """The directory holds files this release does not read."""

    code = "store_incompatible"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} can't be opened by this release: {reason}")


class TransferError(StoreError):
    """A file is not a whole export, or one that this release does not read."""

    code = "transfer_error"


class CommitUnanswered(StoreError):
    """Nobody could say what became of a commit, or read for a load; the rows tell, once they can be read again."""

    code = "commit_unanswered"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the store gives no answer: {reason}; look whether it happened before trying again")


class CommitUncertain(StoreError):
    """A commit failed in its sync; only a reopen tells what the disk holds, so the node stops."""

    code = "commit_uncertain"

    def __init__(self, path: str, cause: str) -> None:
        self.path = path
        super().__init__(
            f"a commit to {path} failed while it was being synced ({cause}); the node stops, start it again"
        )
