"""How a trigger is checked before it becomes a session: its definition, its agent and its idempotency key."""

import hashlib
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

import attrs

from opscore.runtime.definitions.definition import Definition, digest
from opscore.runtime.definitions.input_schemas import check_input
from opscore.runtime.definitions.labels import labels_of
from opscore.runtime.errors import (
    AgentNotFound,
    DefinitionNotFound,
    Fault,
    IdempotencyConflict,
    InvalidDocument,
)
from opscore.runtime.identity import new_id
from opscore.runtime.journal.tables import (
    AGENTS,
    DEFINITIONS,
    IDEMPOTENCY,
    REVISIONS,
    SESSIONS,
    IdempotencyRow,
)
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.models import IdempotentTrigger, Session
from opscore.runtime.runs.definition_rows import revision, saved_as
from opscore.runtime.store import ABSENT, Snapshot, Submission

_NO_BODY: Final = digest(None)
"""The digest that an earlier release kept for a key without a body; such a key matches every request."""
KEY_BYTES_MAX: Final = 255
"""Length of an idempotency key."""


class Body(Enum):
    """What counts as the body of a key that is given none."""

    WHAT_IS_ASKED = auto()
    """The request itself: workflow, payload, agent, labels and business key."""


@attrs.frozen(kw_only=True)
class IdempotencyKey:
    """A caller's idempotency key, the path that it is scoped to, and the body that it belongs to.

    Raises:
        TypeError: the key or the path is not a string.
        ValueError: the key does not have 1 to 255 bytes, or one of both holds half of a surrogate pair.
    """

    path: str
    """Any text; the same key under another path is another key."""
    key: str
    """The key, of 1 to 255 bytes in UTF-8."""
    body: Any = Body.WHAT_IS_ASKED
    """The body of the request, as JSON; by default, the arguments of the trigger."""

    def __attrs_post_init__(self) -> None:
        _size("path", self.path)
        size = _size("key", self.key)
        if not 0 < size <= KEY_BYTES_MAX:
            raise ValueError(f"key: expected 1 to {KEY_BYTES_MAX} bytes, found {size:,}")

    @property
    def scope(self) -> str:
        """The key of its row: a digest, because path and key together may be longer than a key of the store."""
        return hashlib.sha256(f"{self.path}\0{self.key}".encode()).hexdigest()


def _size(name: str, text: Any) -> int:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a string, found {text!r}")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name}: {text!r} holds half of a surrogate pair") from None


@attrs.frozen(kw_only=True)
class Trigger:
    """A request to start a run."""

    definition: str | Mapping[str, Any]
    """The id of a saved workflow, or a document."""
    payload: Any = None
    agent_id: str | None = None
    idempotency: IdempotencyKey | None = None
    session_id: str | None = None
    """The id that the run gets; made up if not given."""
    parent_task_id: str | None = None
    """The task of the parent run that waits for this one."""
    depth: int = 0
    """How many parent runs are above it."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    business_key: str | None = None

    def body_digest(self, key: IdempotencyKey) -> str:
        """Return a digest of the key's body; the order of its fields does not matter.

        Raises:
            TypeError, ValueError, RecursionError: the body is not JSON.
        """
        if key.body is not Body.WHAT_IS_ASKED:
            return digest(key.body)
        asked = (self.definition, self.payload, self.agent_id, dict(self.labels), self.business_key)
        return digest([dict(each) if isinstance(each, Mapping) else each for each in asked])


@attrs.frozen(kw_only=True)
class Prepared:
    """A run that may start, and what else its first commit contains."""

    session: Session
    definition: Definition
    extra: Submission


def prepare(
    view: Snapshot, trigger: Trigger, library: Library, limits: Limits, now: float, rng: Any
) -> Prepared | Session:
    """Check a trigger against the store; return the session that its idempotency key already started, if any.

    Raises:
        AgentNotFound, DefinitionNotFound, InvalidDocument, IdempotencyConflict: the trigger is refused.
    """
    keyed = None if trigger.idempotency is None else IDEMPOTENCY.read(view, trigger.idempotency.scope)
    # First of all, because an accepted trigger is answered again even if its workflow or agent is gone by now.
    if trigger.idempotency is not None and keyed is not None and keyed.row is not None:
        earlier = _earlier(view, trigger, trigger.idempotency, keyed.row.trigger, limits, now)
        if earlier is not None:
            return earlier
    if trigger.agent_id is not None and AGENTS.read(view, trigger.agent_id).row is None:
        raise AgentNotFound(trigger.agent_id)
    definition, extra = _resolved(view, trigger, library, now)
    if definition.needs_agent and trigger.agent_id is None:
        fault = Fault(
            path="tasks",
            message="a task names neither agentCapability nor agentId, so an agent must be named",
        )
        raise InvalidDocument("trigger", (fault,))
    if definition.input_schema is not None:
        check_input(definition.input_schema, trigger.payload)
    session = Session(
        session_id=trigger.session_id or new_id("ses", now, rng),
        workflow_id=definition.workflow_id,
        definition_key=definition.digest,
        agent_id=trigger.agent_id,
        payload=trigger.payload,
        parent_task_id=trigger.parent_task_id,
        depth=trigger.depth,
        labels=labels_of(definition, trigger.labels, limits),
        business_key=trigger.business_key,
        created_at=now,
    )
    if trigger.idempotency is not None and keyed is not None:
        extra += _key_kept(trigger, trigger.idempotency, session, keyed.version)
    return Prepared(session=session, definition=definition, extra=extra)


def _resolved(view: Snapshot, trigger: Trigger, library: Library, now: float) -> tuple[Definition, Submission]:
    if isinstance(trigger.definition, str):
        saved = DEFINITIONS.read(view, trigger.definition).row
        if saved is None:
            raise DefinitionNotFound(trigger.definition)
        return library.find(view, saved.definition_key), _kept_revision(view, saved.definition_key)
    definition = library.parsed(trigger.definition)
    extra = _kept_revision(view, definition.digest)
    if not extra.expects:
        extra += Submission(writes=(REVISIONS.put(revision(definition)),))
    if DEFINITIONS.read(view, definition.workflow_id).row is None:
        # As in Ops-Core, an inline definition can be triggered by its id from then on. The precondition lets a
        # definition that is saved under that id meanwhile take precedence.
        extra += Submission(
            expects=(DEFINITIONS.expect(definition.workflow_id, ABSENT),),
            writes=(DEFINITIONS.put(saved_as(definition, None, now)),),
        )
    return definition, extra


def _kept_revision(view: Snapshot, definition_key: str) -> Submission:
    """Require that an existing revision is still there at the commit: retention may be about to remove it."""
    found = REVISIONS.read(view, definition_key)
    return Submission(expects=() if found.row is None else (REVISIONS.expect(definition_key, found.version),))


def _earlier(
    view: Snapshot, trigger: Trigger, key: IdempotencyKey, used: IdempotentTrigger, limits: Limits, now: float
) -> Session | None:
    """Return the session that a key has started, or None if the key is no longer kept.

    Raises:
        IdempotencyConflict: the key was used with another body.
    """
    session = SESSIONS.read(view, used.session_id).row
    if session is None or (session.ended_at is not None and session.ended_at + limits.idempotency_keep_s <= now):
        return None
    if not _is_same(trigger, key, used):
        raise IdempotencyConflict(key.key)
    return session


def _is_same(trigger: Trigger, key: IdempotencyKey, used: IdempotentTrigger) -> bool:
    if key.body is Body.WHAT_IS_ASKED and used.body_digest == _NO_BODY:
        return True
    try:
        return used.body_digest == trigger.body_digest(key)
    except (TypeError, ValueError, RecursionError):
        # A body that is not JSON can't have started a run.
        return False


def _key_kept(trigger: Trigger, key: IdempotencyKey, session: Session, version: int) -> Submission:
    """Bind a key to a session, with the precondition that no other trigger has used the key meanwhile."""
    used_for = IdempotentTrigger(
        body_digest=trigger.body_digest(key), session_id=session.session_id, workflow_id=session.workflow_id
    )
    row = IdempotencyRow(scope=key.scope, trigger=used_for)
    return Submission(expects=(IDEMPOTENCY.expect(key.scope, version),), writes=(IDEMPOTENCY.put(row),))
