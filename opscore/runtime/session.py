"""A session's actor: it owns one run's rows and commits each of its steps.

A step is decided by `transitions`, which is pure; what changed goes into one submission guarded by the version of
the run's line in the index of unfinished sessions, which every step writes. Effects follow the commit.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from opscore.actors.actor import Actor, handles
from opscore.actors.errors import MailboxFull
from opscore.runtime import delivery, leases, messages, transitions
from opscore.runtime.addresses import Addresses, hint
from opscore.runtime.errors import (
    CommitUnanswered,
    NotReady,
    Refusal,
    SessionNotFound,
    StaleAttempt,
    StoreError,
    Superseded,
    TaskNotFound,
)
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.matching import ready_task
from opscore.runtime.models import (
    TASK_OPEN,
    Assignment,
    Failure,
    Session,
    SessionStatus,
    Task,
    TaskStatus,
)
from opscore.runtime.session_rows import difference, grant_of, read_run
from opscore.runtime.store import ABSENT, Submission
from opscore.runtime.tables import (
    OPEN_SESSIONS,
    SESSIONS,
)
from opscore.runtime.transitions import Run, Step

ResultT = TypeVar("ResultT")

DECISIONS_MAX: Final = 8
AGAIN_S: Final = 1.0
"""When to try again what the store, or an agent's mailbox, could not take."""


class SessionActor(Actor[messages.SessionProtocol]):
    """One run.

    Args:
        session_id: whose actor it is; the run may not have started yet.
        addresses: where the others are.
        library: the definitions that runs follow.
        limits: what the node allows.
        on_open: told that the run is unfinished: once it has begun, and whenever it is taken up again.
        on_ended: told that the run has ended, after the commit; both may be told more than once.
    """

    def __init__(
        self,
        session_id: str,
        *,
        addresses: Addresses,
        library: Library,
        limits: Limits,
        on_open: Callable[[], None],
        on_ended: Callable[[], None],
    ) -> None:
        self._session_id = session_id
        self._addresses = addresses
        self._library = library
        self._limits = limits
        self._on_open = on_open
        self._on_ended = on_ended
        self._run: Run | None = None
        self._version = ABSENT
        self._decisions = 0
        self._decisions_seen = 0
        self._looks_again = False

    async def on_start(self) -> None:
        """Read the run; after a crash, say again what waits."""
        await self._reload()
        self.context.tell_after(self._limits.passivate_s, messages.SessionQuiet())
        if self._run is not None:
            self._note_standing()
        elif self.context.incarnation > 1:
            # Whoever triggers it has counted it, and what it is to begin with may wait in its mailbox still.
            self._look_again()
        if self.context.incarnation > 1:
            self._announce()
            self._stop_if_over()

    # --- messages -----------------------------------------------------------------------------------------

    @handles(messages.Start)
    async def start(self, message: messages.Start) -> Session:
        """Begin the run, in one commit with what belongs to it."""
        self._library.keep(message.definition)
        step = transitions.begin(message.session, message.definition, self._now())
        absent = Submission(expects=(SESSIONS.expect(self._session_id, ABSENT),), new_work=True)
        try:
            await self._commit(None, step, absent + message.extra)
        finally:
            self._note_standing()
            self._stop_if_over()
        return step.run.session

    @handles(messages.Offer)
    async def offer(self, message: messages.Offer) -> int | None:
        """Give a ready task to an agent: task, attempt and lease in one commit, if the agent stands as it did."""

        async def decide(run: Run) -> int | None:
            task = run.by_id.get(message.task_id)
            if task is None or task.status is not TaskStatus.READY or run.session.status is SessionStatus.PAUSED:
                return None
            now = self._now()
            step = transitions.dispatch(run, task.task_id, message.agent_id, now)
            task = step.run.by_id[task.task_id]
            lease = leases.granted(task, run.task_definition(task), message.agent_id, now)
            version = await self._commit(run, step, grant_of(lease, message.agent_version))
            granted = messages.LeaseGranted(lease=lease, version=version, assignment=_assignment(step.run, task))
            self._tell_granted(granted)
            return version

        return await self._decided(decide, otherwise=None)

    @handles(messages.Settle)
    async def settle(self, message: messages.Settle) -> int:
        """Move an attempt on, in one commit with the agent's part."""

        async def decide(run: Run) -> int:
            task = run.by_id.get(message.task_id)
            if task is None or task.status not in TASK_OPEN or task.attempt != message.attempt:
                raise StaleAttempt(message.task_id, message.attempt, _standing(task))
            return await self._commit(run, self._settled(run, task, message.outcome), message.agent_part)

        settled = await self._decided(decide, otherwise=None)
        if settled is None:
            raise StaleAttempt(message.task_id, message.attempt, "its session does not exist")
        return settled

    def _settled(self, run: Run, task: Task, outcome: messages.Outcome) -> Step:
        now, rng = self._now(), self.context.clock.random
        match outcome:
            case messages.Started():
                return transitions.start(run, task.task_id, now)
            case delivery.Completed(result=result):
                return transitions.complete(run, task.task_id, result, now)
            case delivery.Failed(error=error, retryable=retryable):
                return transitions.fail(run, task.task_id, error, now, rng, retryable=retryable)
            case delivery.Lost(reason=reason):
                return self._bounced(run, task, Failure(message=reason, code="lost"))
            case delivery.Undelivered(reason=reason):
                return self._bounced(run, task, Failure(message=reason, code="undelivered"))

    def _bounced(self, run: Run, task: Task, error: Failure) -> Step:
        return transitions.bounce(run, task.task_id, error, self._now(), self.context.clock.random, self._limits)

    @handles(messages.RetryDue)
    async def retry_due(self, message: messages.RetryDue) -> None:
        """End a retry delay, if it is over."""

        async def decide(run: Run) -> None:
            step = transitions.retry_due(run, message.task_id, self._now())
            if step.effects:
                await self._commit(run, step)

        try:
            await self._decided(decide, otherwise=None)
        except (StoreError, Refusal):
            # Nobody else asks again, and a task whose delay never ends would wait for good.
            self.context.tell_after(AGAIN_S, message)
            raise

    @handles(messages.Describe)
    async def describe(self, message: messages.Describe) -> Assignment:
        """Say again what an agent was handed."""
        self._stop_if_over()
        if self._run is None:
            raise SessionNotFound(self._session_id)
        task = self._run.by_id.get(message.task_id)
        if task is None:
            raise TaskNotFound(message.task_id)
        return _assignment(self._run, task)

    @handles(messages.AnnounceSession)
    async def announce(self, _: messages.AnnounceSession) -> None:
        """Say again what waits, by the rows, behind every commit that is under way."""
        self._looks_again = False
        try:
            await self._reload()
        except (StoreError, Refusal):
            self._look_again()
            raise
        self._note_standing()
        self._announce()
        self._stop_if_over()

    @handles(messages.SessionQuiet)
    async def quiet(self, message: messages.SessionQuiet) -> None:
        """Passivate a run that waits: its rows say everything, and the next message for it activates it again."""
        spoken_to, self._decisions_seen = self._decisions != self._decisions_seen, self._decisions
        attempts_open = self._run is not None and any(task.status in TASK_OPEN for task in self._run.tasks)
        if spoken_to or attempts_open or self._looks_again or not self.context.stop_if_quiet():
            self.context.tell_after(self._limits.passivate_s, message)

    # --- in common ----------------------------------------------------------------------------------------

    async def _decided(self, decide: Callable[[Run], Awaitable[ResultT]], otherwise: ResultT) -> ResultT:
        """Decide on the run; if it changed underneath, reload and decide again. The agent's part is the caller's."""
        self._decisions += 1
        for _ in range(DECISIONS_MAX):
            try:
                result = otherwise if self._run is None else await decide(self._run)
            except Superseded as error:
                if error.table != OPEN_SESSIONS.name:
                    raise
                await self._reload()
            except StaleAttempt:
                self._stop_if_over()
                raise
            else:
                self._stop_if_over()
                return result
        raise NotReady(f"session {self._session_id!r} changes faster than it can be decided", retry_after_s=1.0)

    async def _commit(self, before: Run | None, step: Step, extra: Submission | None = None) -> int:
        """Commit what a step changed, guarded by the run's version, then let its effects follow."""
        own = difference(before, step.run, self._version, self._now(), self._limits)
        try:
            version = await self._addresses.journal.commit(own + (extra or Submission()))
        except CommitUnanswered:
            # It may be committed yet, and its effects are for nobody else to follow.
            self._look_again()
            raise
        self._run, self._version = step.run, ABSENT if step.run.ended else version
        for effect in step.effects:
            self._follow(effect, version)
        return version

    def _follow(self, effect: transitions.Effect, version: int) -> None:
        assert self._run is not None, "effects follow a commit"
        match effect:
            case transitions.Ready(task=task):
                self._tell_ready(self._run, task, version)
            case transitions.RetryAt(task=task, due_at=due_at):
                said = task.error.message if task.error is not None else "unknown"
                self.context.log.info(
                    "task %s failed, retry %d in %.1f s: %s", task.task_id, task.retries, due_at - self._now(), said
                )
                arm = messages.ArmRetry(session_id=self._session_id, task_id=task.task_id, due_at=due_at)
                hint(self._addresses.timers, arm)
            case transitions.Withdrawn(task=task):
                hint(self._addresses.dispatcher, messages.TaskWithdrawn(task_id=task.task_id))
            case transitions.Ended(session=session):
                self.context.log.info("session %s %s", session.session_id, _ending(session))
                self._on_ended()

    def _tell_ready(self, run: Run, task: Task, version: int) -> None:
        if run.session.status is not SessionStatus.PAUSED:
            waiting = ready_task(run.session, run.task_definition(task), task)
            hint(self._addresses.dispatcher, messages.TaskReady(task=waiting, as_of=version))

    def _tell_granted(self, granted: messages.LeaseGranted) -> None:
        agent_id = granted.lease.agent_id
        try:
            self._addresses.agent(agent_id).tell(granted)
        except MailboxFull:
            # Whoever looks at a lease also delivers it, so have it looked at once there is room again.
            arm = messages.ArmLease(agent_id=agent_id, due_at=self._now() + AGAIN_S)
            hint(self._addresses.timers, arm)

    def _announce(self) -> None:
        """Tell the dispatcher and the timers of every task that waits."""
        run = self._run
        if run is None:
            return
        for task in run.tasks:
            if task.status is TaskStatus.READY:
                self._tell_ready(run, task, self._version)
            elif task.status is TaskStatus.PENDING_RETRY and task.due_at is not None:
                self._follow(transitions.RetryAt(task=task, due_at=task.due_at), self._version)

    def _stop_if_over(self) -> None:
        """A finished run needs no actor: its rows say everything, unless a commit is in doubt."""
        if (self._run is None or self._run.ended) and not self._looks_again:
            self.context.stop_if_quiet()

    def _look_again(self) -> None:
        if not self._looks_again:
            self._looks_again = True
            self.context.tell_after(AGAIN_S, messages.AnnounceSession())

    def _note_standing(self) -> None:
        """Let the node count its unfinished runs, whatever a crash kept from being said; one in doubt counts."""
        if self._run is not None and not self._run.ended:
            self._on_open()
        elif not self._looks_again:
            self._on_ended()

    async def _reload(self) -> None:
        read = functools.partial(read_run, session_id=self._session_id, library=self._library)
        self._run, self._version = await self._addresses.journal.load(read)

    def _now(self) -> float:
        return self.context.clock.now()


def _assignment(run: Run, task: Task) -> Assignment:
    definition = run.task_definition(task)
    return Assignment(
        task_id=task.task_id,
        task_key=task.key,
        name=definition.name,
        session_id=task.session_id,
        workflow_id=run.session.workflow_id,
        agent_id=task.agent_id or "",
        attempt=task.attempt,
        parameters=definition.parameters,
        input=run.session.payload,
        lease_s=definition.lease_s,
        timeout_s=definition.timeout_s,
    )


def _ending(session: Session) -> str:
    took_s = (session.ended_at or session.created_at) - session.created_at
    why = f": {session.error.message}" if session.error is not None else ""
    return f"of {session.workflow_id} is {session.status} after {took_s:.1f} s{why}"


def _standing(task: Task | None) -> str:
    return "its session has no such task" if task is None else f"the task is {task.status} at attempt {task.attempt}"
