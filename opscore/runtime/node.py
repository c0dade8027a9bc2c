"""A node: the one façade that embedders and the gateway call.

Everything it answers is durable: what it accepted is synced, what it shows was committed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from opscore.actors.clock import Clock, SystemClock
from opscore.actors.ref import Ref
from opscore.runtime import definitions, delivery, messages, reports, triggering, views
from opscore.runtime.core import RACES_MAX, Core, open_nursery
from opscore.runtime.definitions import Definition
from opscore.runtime.errors import (
    AgentNotFound,
    DefinitionNotFound,
    Fault,
    InvalidDocument,
    LimitExceeded,
    NotReady,
    QueueFull,
    SessionNotFound,
    StaleAttempt,
    Superseded,
    TaskNotFound,
)
from opscore.runtime.limits import Limits
from opscore.runtime.local import Handler, LocalAgents
from opscore.runtime.models import (
    SESSION_ENDED,
    TASK_OPEN,
    Agent,
    AgentSource,
    Failure,
    Lease,
    SavedDefinition,
    Session,
    Task,
)
from opscore.runtime.store import MAP_BYTES, LmdbStore, Snapshot, Submission
from opscore.runtime.tables import AGENTS, ALL_TABLES, DEFINITIONS, REVISIONS, SESSIONS, SIGNATURES, TASKS, SeenSignature
from opscore.runtime.triggering import IdempotencyKey, Trigger
from opscore.runtime.values import check_value
from opscore.runtime.views import Page, SessionView
from opscore.runtime.writer import ThreadWriter

ResultT = TypeVar("ResultT")

ANSWER_MARGIN_S: Final = 30.0
"""How much longer than a claim's wait its answer may take."""


class Node:
    """A running node; `open_node` makes it. Call it from the trio thread that opened it."""

    def __init__(self, core: Core, local: LocalAgents) -> None:
        self._core = core
        self._local = local
        self._drained = trio.Event()
        self._not_ready: str | None = None

    # --- agents -------------------------------------------------------------------------------------------

    async def register_agent(
        self,
        agent_id: str,
        *,
        capabilities: Iterable[str] = (),
        handler: Handler | None = None,
        name: str | None = None,
        version: str = "",
        contact_endpoint: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: AgentSource = AgentSource.API,
    ) -> Agent:
        """Register an agent, or register it again with what is given now.

        Args:
            agent_id: its id, up to 128 bytes.
            capabilities: what it can do.
            handler: an async function of this process that takes an `Assignment` and returns the result as JSON
                values; raising fails the attempt. Without it the agent is remote.
            name: for people; the id when not given.
            version: of the agent.
            contact_endpoint: where attempts are pushed to.
            metadata: free.
            source: who introduces it.

        Returns:
            the agent as it is stored.

        Raises:
            LimitExceeded: the id is too long.
        """
        self._check_id(agent_id)
        if handler is not None:
            source = AgentSource.LOCAL
            self._local.add(agent_id, handler)
        registration = messages.Registration(
            agent_id=agent_id,
            name=name,
            version=version,
            capabilities=tuple(capabilities),
            contact_endpoint=contact_endpoint,
            metadata=dict(metadata or {}),
            source=source,
        )
        return await self._core.addresses.agent(agent_id).ask(messages.Register(registration=registration))

    async def deregister_agent(self, agent_id: str) -> None:
        """Forget an agent; an attempt that it holds is lost, which spends no retry.

        Raises:
            AgentNotFound: it is not registered.
        """
        await self._agent_ref(agent_id).ask(messages.Deregister())
        self._local.remove(agent_id)

    def agent(self, agent_id: str) -> Agent:
        """Return an agent with its newest state.

        Raises:
            AgentNotFound: it is not registered.
        """
        found = self._read(lambda view: AGENTS.read(view, agent_id).row)
        if found is None:
            raise AgentNotFound(agent_id)
        return found

    def agents(
        self, *, limit: int = 100, cursor: str | None = None, state: str | None = None, capability: str | None = None
    ) -> Page[Agent]:
        """List agents by id."""
        return self._read(
            lambda view: views.agents(view, limit=limit, cursor=cursor, state=state, capability=capability)
        )

    async def report_state(
        self, agent_id: str, state: str, *, details: Mapping[str, Any] | None = None, timestamp: float | None = None
    ) -> bool:
        """Take in an agent's state report.

        Args:
            agent_id: the agent.
            state: its state's name, in any case; `busy` means `active`.
            details: free; `result` of a report that ends an attempt is the attempt's result.
            timestamp: the agent's own time in Unix seconds; orders this agent's reports.

        Returns:
            whether the report counts; one that is older than the newest is only recorded.

        Raises:
            AgentNotFound: it is not registered.
            InvalidDocument: the state's name is empty or too long.
        """
        try:
            state = reports.normalise(state)
        except ValueError as error:
            raise InvalidDocument("report", (Fault(path="state", message=str(error)),)) from error
        report = messages.Report(
            state=state, details=None if details is None else dict(details), timestamp=timestamp
        )
        if details is not None:
            check_value(report.details, self._core.limits)
        return await self._agent_ref(agent_id).ask(report)

    async def set_cordon(self, agent_id: str, *, cordoned: bool) -> Agent:
        """Take an agent out of dispatch, or put it back."""
        return await self._agent_ref(agent_id).ask(messages.SetCordon(cordoned=cordoned))

    async def claim(
        self, agent_id: str, *, claim_id: str | None = None, wait_s: float = 0.0
    ) -> messages.Granted | None:
        """Wait for a task for this agent; claiming says that it is idle.

        Cancelled, it gives the task back that it may just have been handed.

        Args:
            agent_id: the agent.
            claim_id: makes it safe to repeat: the same id gets the same attempt until the first heartbeat.
            wait_s: seconds to wait at most.

        Returns:
            the task, the attempt and the lease; or nothing when there was none in time, or the node drains.
        """
        ref = self._agent_ref(agent_id)

        async def ask() -> messages.Granted | None:
            try:
                claim = messages.Claim(claim_id=claim_id, wait_s=wait_s)
                return await ref.ask(claim, timeout_s=wait_s + ANSWER_MARGIN_S)
            except trio.Cancelled:
                ref.tell(messages.AbandonClaim(claim_id=claim_id))
                raise

        return await self._unless_draining(ask)

    # --- attempts -----------------------------------------------------------------------------------------

    async def heartbeat(self, task_id: str, attempt: int) -> Lease:
        """Renew the lease of an attempt.

        Raises:
            TaskNotFound, StaleAttempt: it is not the task's open attempt.
        """
        return await self._holder(task_id, attempt).ask(messages.Heartbeat(task_id=task_id, attempt=attempt))

    async def complete(self, task_id: str, attempt: int, result: Any = None) -> None:
        """End an attempt with its result.

        Raises:
            TaskNotFound, StaleAttempt: it is not the task's open attempt.
            LimitExceeded: the result is too large.
        """
        check_value(result, self._core.limits)
        await self._finish(task_id, attempt, delivery.Completed(result=result))

    async def fail(
        self, task_id: str, attempt: int, error: str, *, code: str = "task_failed", retryable: bool = True
    ) -> None:
        """End an attempt as failed; this spends a retry.

        Raises:
            TaskNotFound, StaleAttempt: it is not the task's open attempt.
        """
        failed = delivery.Failed(error=Failure(message=error, code=code), retryable=retryable)
        await self._finish(task_id, attempt, failed)

    async def _finish(self, task_id: str, attempt: int, outcome: delivery.Completed | delivery.Failed) -> None:
        finish = messages.Finish(task_id=task_id, attempt=attempt, outcome=outcome)
        await self._holder(task_id, attempt).ask(finish)

    def task(self, task_id: str) -> Task:
        """Return one task of a run.

        Raises:
            TaskNotFound: there is none.
        """
        found = self._read(lambda view: TASKS.read(view, task_id).row)
        if found is None:
            raise TaskNotFound(task_id)
        return found

    def _holder(self, task_id: str, attempt: int) -> Ref[messages.AgentProtocol]:
        task = self.task(task_id)
        if task.status not in TASK_OPEN or task.attempt != attempt or task.agent_id is None:
            raise StaleAttempt(task_id, attempt, f"the task is {task.status} at attempt {task.attempt}")
        return self._core.addresses.agent(task.agent_id)

    # --- definitions --------------------------------------------------------------------------------------

    def validate(self, document: Any) -> Definition:
        """Check a workflow document without saving it.

        Raises:
            InvalidDocument: with every fault.
        """
        return definitions.parse(document, self._core.limits)

    async def save_definition(self, document: Mapping[str, Any]) -> SavedDefinition:
        """Save a workflow under its id; other content makes a new revision, the same content changes nothing."""
        definition = self.validate(document)
        for _ in range(RACES_MAX):
            before = self._read(lambda view: DEFINITIONS.read(view, definition.workflow_id))
            if before.row is not None and before.row.definition_key == definition.digest:
                return before.row
            saved = triggering.saved_as(definition, before.row, self._core.clock.now())
            try:
                await self._core.addresses.journal.commit(
                    Submission(
                        expects=(DEFINITIONS.expect(definition.workflow_id, before.version),),
                        writes=(DEFINITIONS.put(saved), REVISIONS.put(triggering.revision(definition))),
                    )
                )
            except Superseded:
                continue
            return saved
        raise NotReady(f"workflow {definition.workflow_id!r} is being saved by too many at once", retry_after_s=1.0)

    def definition(self, workflow_id: str) -> tuple[SavedDefinition, Definition]:
        """Return what a workflow id stands for.

        Raises:
            DefinitionNotFound: nothing is saved under it.
        """

        def read(view: Snapshot) -> tuple[SavedDefinition, Definition]:
            saved = DEFINITIONS.read(view, workflow_id).row
            if saved is None:
                raise DefinitionNotFound(workflow_id)
            return saved, self._core.library.find(view, saved.definition_key)

        return self._read(read)

    def definitions(self, *, limit: int = 100, cursor: str | None = None) -> Page[SavedDefinition]:
        """List the saved workflow definitions."""
        return self._read(lambda view: views.saved_definitions(view, limit=limit, cursor=cursor))

    # --- sessions -----------------------------------------------------------------------------------------

    async def trigger(
        self,
        definition: str | Mapping[str, Any],
        *,
        payload: Any = None,
        agent_id: str | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Session:
        """Start a run. Once this returns, the run exists and no crash can lose it.

        Args:
            definition: the id of a saved workflow, or a workflow document.
            payload: the run's input; JSON values, 256 KiB at most.
            agent_id: the session's agent: runs the tasks that name nobody, preferred where it is able.
            idempotency: the same key with the same body answers the session that it started before.

        Raises:
            AgentNotFound, DefinitionNotFound, InvalidDocument, IdempotencyConflict, LimitExceeded: refused.
            NotReady, QueueFull: refused for now.
        """
        self._admit()
        check_value(payload, self._core.limits)
        request = Trigger(definition=definition, payload=payload, agent_id=agent_id, idempotency=idempotency)
        for _ in range(RACES_MAX):
            prepared = self._prepare(request)
            if isinstance(prepared, Session):
                return prepared
            start = messages.Start(session=prepared.session, definition=prepared.definition, extra=prepared.extra)
            self._core.open_sessions += 1
            try:
                return await self._core.addresses.session(prepared.session.session_id).ask(start)
            except Superseded:
                self._core.open_sessions -= 1
            except BaseException:
                self._core.open_sessions -= 1
                raise
        raise NotReady("its idempotency key is being used by too many at once", retry_after_s=1.0)

    def _prepare(self, request: Trigger) -> triggering.Prepared | Session:
        core = self._core
        return self._read(
            lambda view: triggering.prepare(
                view, request, core.library, core.limits, core.clock.now(), core.clock.random
            )
        )

    def session(self, session_id: str) -> SessionView:
        """Return a session with its tasks.

        Raises:
            SessionNotFound: there is none.
        """
        found = self._read(lambda view: views.session_view(view, session_id))
        if found is None:
            raise SessionNotFound(session_id)
        return found

    def sessions(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        status: str | None = None,
        workflow_id: str | None = None,
        agent_id: str | None = None,
    ) -> Page[Session]:
        """List sessions, newest first."""
        return self._read(
            lambda view: views.sessions(
                view, limit=limit, cursor=cursor, status=status, workflow_id=workflow_id, agent_id=agent_id
            )
        )

    async def wait(self, session_id: str) -> Session:
        """Wait until a session has ended, and return it. Put a `trio.fail_after` around it to bound the wait.

        Raises:
            SessionNotFound: there is none.
        """
        while True:
            with self._core.feed.listen(session_id) as bell:
                session = self._read(lambda view: SESSIONS.read(view, session_id).row)
                if session is None:
                    raise SessionNotFound(session_id)
                if session.status in SESSION_ENDED:
                    return session
                await bell.wait()

    async def wait_briefly(self, session_id: str, wait_s: float) -> SessionView:
        """Wait for a session's end for some seconds at most, less when the node drains; return it as it then is."""
        with trio.move_on_after(wait_s):
            await self._unless_draining(lambda: self.wait(session_id))
        return self.session(session_id)

    # --- the node itself ----------------------------------------------------------------------------------

    def ready(self) -> str | None:
        """Say why no new work is taken; nothing when it is."""
        return self._not_ready

    def drain(self, reason: str = "it is shutting down") -> None:
        """Take no new work, make no new offers, and end the waits of claimers and watchers. Attempts still commit."""
        self._not_ready = reason
        self._drained.set()
        self._core.addresses.dispatcher.tell(messages.SetPaused(paused=True))

    def statistics(self) -> dict[str, int]:
        """What the node holds at the moment."""
        return {
            "open_sessions": self._core.open_sessions,
            "deliveries": self._core.courier.statistics(),
            "listeners": self._core.feed.statistics(),
        }

    async def seen_before(self, signature: str) -> bool:
        """Whether a signed request was taken before."""
        return self._read(lambda view: SIGNATURES.read(view, signature).row) is not None

    async def remember_signature(self, signature: str) -> None:
        """Remember a signed request, so that its replay has no effect."""
        seen = SeenSignature(signature=signature, seen_at=self._core.clock.now())
        await self._core.addresses.journal.commit(Submission(writes=(SIGNATURES.put(seen),)))

    def _admit(self) -> None:
        if self._not_ready is not None:
            raise NotReady(self._not_ready)
        if self._core.open_sessions >= self._core.limits.sessions_open_max:
            raise QueueFull(self._core.limits.sessions_open_max)

    def _read(self, read: Callable[[Snapshot], ResultT]) -> ResultT:
        with self._core.store.snapshot() as view:
            return read(view)

    def _agent_ref(self, agent_id: str) -> Ref[messages.AgentProtocol]:
        """The agent's actor; looked up first, so that rubbish ids activate nothing."""
        self.agent(agent_id)
        return self._core.addresses.agent(agent_id)

    def _check_id(self, identity: str) -> None:
        size = len(identity.encode())
        if not identity.strip() or size > self._core.limits.id_bytes_max:
            raise LimitExceeded("id_bytes_max", self._core.limits.id_bytes_max, size)

    async def _unless_draining(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Do the work, but give it up once the node drains."""
        result: ResultT | None = None
        async with open_nursery() as nursery:

            async def give_up() -> None:
                await self._drained.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            result = await work()
            nursery.cancel_scope.cancel()
        return result


@asynccontextmanager
async def open_node(
    path: str | Path,
    *,
    ways: Sequence[delivery.Delivery] = (),
    limits: Limits | None = None,
    clock: Clock | None = None,
    map_bytes: int = MAP_BYTES,
) -> AsyncIterator[Node]:
    """Open a node on a data directory, and run it for as long as the `async with` block runs.

    What the directory holds unfinished goes on at once. Leaving the block, also by an error or by cancellation,
    stops every actor in order and closes the store; what is under way then goes on at the next opening.

    Args:
        path: the data directory; made if it is not there.
        ways: how attempts reach remote agents, the first that reaches an agent is taken.
        limits: what the node admits, keeps and waits for.
        clock: wall time and randomness; the machine's by default.
        map_bytes: the most the store may grow to, in bytes; reserved sparsely.

    Raises:
        StoreLocked: another process has the directory open.
        StoreError: it can't be opened or written.
        CommitUncertain: while it ran, a commit's sync failed; open it again to see what the disk holds.
    """
    limits = limits or Limits()
    with LmdbStore(Path(path), tables=[table.name for table in ALL_TABLES], map_bytes=map_bytes) as store:
        writer = ThreadWriter(store)
        try:
            async with open_nursery() as nursery:
                local = LocalAgents()
                core = Core(
                    store=store,
                    writer=writer,
                    ways=(*ways, local),
                    limits=limits,
                    clock=clock or SystemClock(),
                    nursery=nursery,
                )
                async with core.run():
                    yield Node(core, local)
        finally:
            writer.close()


