"""The base of a session's actor: the state that it keeps, how it decides and commits, and whom it tells."""

import contextlib
import functools
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Final, TypeVar

import trio

from opscore.actors.actor import Actor
from opscore.actors.errors import ActorError, MailboxFull
from opscore.actors.message import Message
from opscore.runtime.agents import leases
from opscore.runtime.delivery import Failed
from opscore.runtime.errors import CommitUnanswered, NotReady, StaleAttempt, Superseded
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import AGENTS, LEASES, OPEN_SESSIONS, SESSIONS, SLOTS, session_of
from opscore.runtime.lease import Lease
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent, to_dispatcher, to_session, to_timers
from opscore.runtime.messages.addresses import Addresses, hint
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.protocols import DispatcherProtocol, SessionProtocol
from opscore.runtime.models import Session, SessionStatus, Task, TaskStatus
from opscore.runtime.runs import transitions
from opscore.runtime.runs.assignments import assignment
from opscore.runtime.runs.errands import Errands
from opscore.runtime.runs.releasing import filled
from opscore.runtime.runs.run import DueAt, Effect, Ended, Ready, Run, RunAwaited, RunCalledOff, Step, Withdrawn
from opscore.runtime.runs.session_rows import AT_ONCE, Told, difference, read_run, steering_guard
from opscore.runtime.runs.sub_runs import CALLED_OFF, SubRuns
from opscore.runtime.store import ABSENT, Submission
from opscore.runtime.waiting import ReadyTask, ready_task

ResultT = TypeVar("ResultT")
ArgumentT = TypeVar("ArgumentT")

DECISIONS_MAX: Final = 8
STEERED: Final = (OPEN_SESSIONS.name, SESSIONS.name, LEASES.name)
"""The tables with preconditions of a step that is asked for from outside, or that a time causes."""
GRANTED: Final = (AGENTS.name, LEASES.name, SLOTS.name)
"""The tables with preconditions of a grant."""
AGAIN_S: Final = 1.0
"""How long to wait before trying again what the store, or a mailbox, could not take."""
DISPATCHER_WAIT_S: Final = 1.0
"""How long a commit waits for the dispatcher's answer; without it, the task gets in line."""


class SessionStanding(Actor[SessionProtocol]):
    """The state of a session's actor, and what its handlers share.

    Args:
        session_id: the id of the run, which may not have started yet.
        is_new: the id was made just now, so that no row can name it before this actor writes one.
        addresses: where the other actors are.
        library: the definitions that runs follow.
        limits: the node's limits.
        sub_runs: begins and ends the child runs that its tasks wait for.
        on_open: called with the id of an unfinished run, once it has begun, and whenever its actor starts again.
        on_ended: called with the id after the commit that ended the run. Both may be called more than once.
    """

    def __init__(
        self,
        session_id: str,
        *,
        is_new: bool,
        addresses: Addresses,
        library: Library,
        limits: Limits,
        sub_runs: SubRuns,
        on_open: Callable[[str], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self._session_id = session_id
        self._is_new = is_new
        self._addresses = addresses
        self._library = library
        self._limits = limits
        self._sub_runs = sub_runs
        self._on_open = on_open
        self._on_ended = on_ended
        self._run: Run | None = None
        self._version = ABSENT
        self._newest = ABSENT
        # How many signals the run has got, once they have been counted.
        self._signals_told: int | None = None
        self._decisions = 0
        self._decisions_seen = 0
        self._looks_again = False
        self._errands = Errands(lambda: sub_runs.has_room)
        self._working = 0
        self._granted: tuple[to_session.Offer, int] | None = None
        """The offer that was taken as the run began, and the version of that commit."""

    async def on_start(self) -> None:
        """Read the run; after a crash, announce again what waits."""
        if not self._is_new or self.context.incarnation > 1:
            await self._reload()
        self.context.tell_after(self._limits.passivate_s, to_session.SessionQuiet())
        if self._run is not None:
            self._note_standing()
        elif self.context.incarnation > 1:
            # The trigger has counted it as unfinished already, and its `Start` may still be in the mailbox.
            self._look_again()
        if self.context.incarnation > 1:
            self._announce()
            self._leave_if_unneeded()

    async def _decided(
        self,
        decide: Callable[[Run], Awaitable[ResultT]],
        otherwise: ResultT,
        guarded_by: Collection[str] = (OPEN_SESSIONS.name,),
    ) -> ResultT:
        """Decide on the run; if a row of these tables was changed meanwhile, reload and decide again.

        A changed row of another table, such as in an agent's part, is the caller's concern: `Superseded` is raised.
        """
        self._decisions += 1
        try:
            with self._at_work():
                result = await self._until_decided(decide, otherwise, guarded_by)
        except StaleAttempt:
            self._leave_if_unneeded()
            raise
        self._leave_if_unneeded()
        return result

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keep the actor in memory while it acts on a message, even if an errand ends meanwhile."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    async def _until_decided(
        self, decide: Callable[[Run], Awaitable[ResultT]], otherwise: ResultT, guarded_by: Collection[str]
    ) -> ResultT:
        if self._looks_again:
            # The outcome of a commit was unknown. The reload comes after it, and others may have acted on it already.
            await self._reload()
        for _ in range(DECISIONS_MAX):
            try:
                return otherwise if self._run is None else await decide(self._run)
            except Superseded as error:
                if error.table not in guarded_by:
                    raise
                await self._reload()
        raise NotReady(f"session {self._session_id!r} changes faster than it can be decided", retry_after_s=1.0)

    async def _guard(self, run: Run, step: Step) -> Submission:
        """Return what a step needs of other rows: the leases that it revokes, and that an ended run still exists."""
        if not step.revoked and not run.ended:
            return Submission()
        return await self._addresses.journal.load(functools.partial(steering_guard, run=run, step=step))

    async def _commit(
        self, before: Run | None, step: Step, extra: Submission | None = None, reason: str | None = None
    ) -> int:
        """Commit a step's changes, guarded by the run's version, then carry out its effects; return the version."""
        told = Told(reason=reason, previous=self._newest)
        own = await self._difference(before, step, told)
        try:
            version = await self._addresses.journal.commit(own + (extra or Submission()))
        except CommitUnanswered:
            # It may still be committed, and then no one but this actor carries out its effects.
            self._look_again()
            for task in step.revoked:
                self._tell_agent(task.agent_id or "", to_agent.AnnounceAgent())
            raise
        self._run, self._version, self._newest = step.run, ABSENT if step.run.ended else version, version
        for task in step.changed:
            self._log_retry(task)
        for task in step.revoked:
            self._tell_agent(task.agent_id or "", to_agent.AnnounceAgent())
        for number, effect in enumerate(step.effects, start=1):
            self._follow(effect, version)
            if number % AT_ONCE == 0:
                # The commit stands, so whoever is told now must not be kept from it by a cancellation.
                await trio.lowlevel.cancel_shielded_checkpoint()
        return version

    async def _difference(self, before: Run | None, step: Step, told: Told) -> Submission:
        """Return the submission of a step; between the parts of a large one, others have their turn."""
        making = difference(before, step, self._version, self._now(), self._limits, told)
        while True:
            try:
                next(making)
            except StopIteration as made:
                return made.value  # type: ignore[no-any-return]
            await trio.lowlevel.checkpoint()

    # --- what begins at once ------------------------------------------------------------------------------

    async def _agent_found(self, step: Step) -> to_session.Offer | None:
        """Ask for an agent for the first task that a step makes ready."""
        task = self._first_ready(step)
        return None if task is None else await self._dispatcher_says(to_dispatcher.FindAgent(task=task))

    async def _following(self, step: Step, free: AgentAvailable | None) -> to_session.Offer | None:
        """Return an offer of the first task that a step makes ready to the agent that it frees, if that may go on."""
        task = self._first_ready(step)
        if (
            free is None
            or task is None
            or not await self._dispatcher_says(to_dispatcher.MayGoOn(agent=free, task=task))
        ):
            return None
        return to_session.Offer(task_id=task.task_id, agent_id=free.agent_id, agent_version=free.version)

    def _first_ready(self, step: Step) -> ReadyTask | None:
        run = step.run
        task = next((effect.task for effect in step.effects if isinstance(effect, Ready)), None)
        if task is None or not transitions.may_begin(run, task, self._now()):
            return None
        return ready_task(run.session, run.task_definition(task), task)

    async def _dispatcher_says(self, question: Message[DispatcherProtocol, ResultT]) -> ResultT | None:
        """Ask the dispatcher; return None if it does not answer soon."""
        try:
            return await self._addresses.dispatcher.ask(question, timeout_s=DISPATCHER_WAIT_S)
        except ActorError as error:
            self.context.log.info("the dispatcher does not answer, so the task gets in line: %s", error)
            return None

    def _tell_free(self, free: AgentAvailable | None, version: int) -> None:
        """Announce the agent at once, to a dispatcher that has just been told of the same commit's ready tasks."""
        if free is not None:
            of_row = version if free.version == ABSENT else free.version
            hint(self._addresses.dispatcher, evolve(free, as_of=version, version=of_row))

    def _given_out(self, step: Step, offer: to_session.Offer) -> tuple[Step, Lease]:
        """Extend a step by giving out a task as offered; also return the lease of the attempt."""
        run, now = step.run, self._now()
        task = run.find(offer.task_id)
        assert task is not None, "what is given out is of this run"
        given = transitions.dispatch(run, task, offer.agent_id, now)
        (task,) = given.changed
        lease = leases.granted(task, run.task_definition(task), offer.agent_id, now, slots=offer.slots)
        return step.then(given), lease

    def _tell_granted(self, run: Run, lease: Lease, version: int) -> None:
        """Tell the agent's actor to deliver the attempt that was granted in the commit that led to this run."""
        task = run.find(lease.task_id)
        assert task is not None, "what was given out is of this run"
        granted = to_agent.LeaseGranted(lease=lease, version=version, assignment=assignment(run, task))
        self._tell_agent(lease.agent_id, granted)

    # --- what follows a commit ----------------------------------------------------------------------------

    def _follow(self, effect: Effect, version: int) -> None:
        assert self._run is not None, "effects follow a commit"
        match effect:
            case Ready(task=task):
                self._tell_ready(self._run, task, version)
            case DueAt(what=what, due_at=due_at):
                arm = to_timers.ArmDue(session_id=self._session_id, what=what, due_at=due_at)
                hint(self._addresses.timers, arm)
            case Withdrawn(task=task):
                hint(self._addresses.dispatcher, to_dispatcher.TaskWithdrawn(task_id=task.task_id))
            case RunAwaited(task=task):
                self._run_errand(self._begin_below, task)
            case RunCalledOff(session_id=session_id):
                self._run_errand(self._sub_runs.call_off, session_id)
            case Ended(session=session):
                self._tell_above(session)
                self.context.log.info("session %s %s", session.session_id, _ending(session))
                self._on_ended(self._session_id)

    def _log_retry(self, task: Task) -> None:
        if task.status is TaskStatus.PENDING_RETRY and task.due_at is not None and task.error is not None:
            in_s = task.due_at - self._now()
            self.context.log.info(
                "task %s failed, retry %d in %.1f s: %s", task.task_id, task.retries, in_s, task.error.message
            )

    def _tell_ready(self, run: Run, task: Task, version: int) -> None:
        if run.session.status is not SessionStatus.PAUSED:
            waiting = ready_task(run.session, run.task_definition(task), task)
            hint(self._addresses.dispatcher, to_dispatcher.TaskReady(task=waiting, as_of=version))

    def _run_errand(self, errand: Callable[[ArgumentT], Awaitable[None]], argument: ArgumentT) -> None:
        """Do something beside the mailbox, until it succeeds; the actor stays in memory for as long as that takes."""
        self._errands.add(self.context, functools.partial(errand, argument), self._leave_if_unneeded)

    async def _begin_below(self, task: Task) -> None:
        """Begin the child run that a task waits for, or check its state; if it can't begin, the task fails."""
        run = self._run
        if run is None or run.find(task.task_id) != task:
            return
        begun = await self._sub_runs.begin(run.session, task, filled(run.standing(), task))
        if isinstance(begun, Failed):
            impossible = to_session.RunImpossible(task_id=task.task_id, attempt=task.attempt, failed=begun)
            await self.context.ref.ask(impossible)
        elif not begun:
            # It may have ended already, and its message may be lost.
            await self.context.ref.send(to_session.Due(what=task.task_id))

    async def _call_off_what_is_left(self, run: Run) -> None:
        """Cancel child runs that no task waits for: the answer to the commit that gave them up may have been lost."""
        for session_id in await self._sub_runs.left_behind(run):
            await self._sub_runs.call_off(session_id)

    async def _look_above(self) -> None:
        """Cancel this run if its parent no longer waits for it, and could not say so."""

        async def decide(run: Run) -> None:
            off = run.ended or run.session.cancelled_at is not None
            if not off and not await self._sub_runs.is_waited_for(run.session):
                step = transitions.cancel(run, CALLED_OFF, self._now())
                await self._commit(run, step, await self._guard(run, step))

        await self._decided(decide, otherwise=None, guarded_by=STEERED)

    def _tell_above(self, session: Session) -> None:
        """Tell the parent run that this one has ended."""
        if session.parent_task_id is None:
            return
        above, what = session_of(session.parent_task_id), session.parent_task_id
        try:
            self._addresses.session(above).tell(to_session.Due(what=what))
        except MailboxFull:
            arm = to_timers.ArmDue(session_id=above, what=what, due_at=self._now() + AGAIN_S)
            hint(self._addresses.timers, arm)

    def _tell_agent(self, agent_id: str, message: to_agent.LeaseGranted | to_agent.AnnounceAgent) -> None:
        """Tell an agent's actor that its lease is new, or was revoked."""
        try:
            self._addresses.agent(agent_id).tell(message)
        except MailboxFull:
            # The actor learns the same when it checks its lease, so the timers tell it to once there is room again.
            hint(self._addresses.timers, to_timers.ArmLease(agent_id=agent_id, due_at=self._now() + AGAIN_S))

    def _announce(self) -> None:
        """Tell the dispatcher and the timers of everything that waits."""
        run = self._run
        if run is None:
            return
        if any(task.child_session_id is not None for task in run.every()):
            self._run_errand(self._call_off_what_is_left, run)
        for agent_id in dict.fromkeys(run.dismissed()):
            self._tell_agent(agent_id, to_agent.AnnounceAgent())
        if run.ended:
            # Its parent may not have been told.
            self._tell_above(run.session)
            return
        if run.session.due_at is not None:
            self._follow(DueAt(what=self._session_id, due_at=run.session.due_at), self._version)
        for task in run.every():
            if task.status is TaskStatus.READY:
                self._tell_ready(run, task, self._version)
            if task.due_at is not None:
                self._follow(DueAt(what=task.task_id, due_at=task.due_at), self._version)
            if task.awaits and task.child_session_id is not None:
                self._follow(RunAwaited(task=task), self._version)

    def _leave_if_unneeded(self) -> None:
        """Stop if the run is over, or only waits while there are too many actors: its rows hold everything."""
        over = self._run is None or self._run.ended
        if not self._working and (over or self._is_crowded()) and not self._has_work():
            self.context.stop_if_quiet()

    def _is_crowded(self) -> bool:
        # An actor that has crashed stays for a while, because its count of crashes would be forgotten with it.
        has_crashed = self.context.incarnation > 1
        return not has_crashed and self._addresses.sessions_active > self._limits.passivate_beyond

    def _has_work(self) -> bool:
        """Whether something still needs the actor: an open attempt, a commit of unknown outcome, an errand."""
        out = self._run is not None and self._run.has_attempts_out
        return out or self._looks_again or self._errands.under_way > 0

    def _look_again(self) -> None:
        if not self._looks_again:
            self._looks_again = True
            self.context.tell_after(AGAIN_S, to_session.AnnounceSession())

    def _note_standing(self) -> None:
        """Tell the node whether the run is unfinished, also after a crash; a run of unknown state counts as such."""
        if self._run is not None and not self._run.ended:
            self._on_open(self._session_id)
        elif not self._looks_again:
            self._on_ended(self._session_id)

    async def _reload(self) -> None:
        read = functools.partial(read_run, session_id=self._session_id, library=self._library)
        self._run, self._version, self._newest = await self._addresses.journal.load(read)

    def _now(self) -> float:
        return self.context.clock.now()


def _ending(session: Session) -> str:
    took_s = (session.ended_at or session.created_at) - session.created_at
    why = f": {session.error.message}" if session.error is not None else ""
    return f"of {session.workflow_id} is {session.status} after {took_s:.1f} s{why}"
