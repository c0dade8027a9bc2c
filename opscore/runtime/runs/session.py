"""A session's actor: it owns one run's rows and commits each of its steps.

`transitions`, which is pure, decides a step. Its changes are one submission, guarded by the version of the run's entry
in the index of unfinished sessions, which every step writes. Effects follow the commit.
"""

from opscore.actors.actor import handles
from opscore.runtime import delivery
from opscore.runtime.agents.lease_rows import grant_of, passed_on
from opscore.runtime.errors import (
    CommitUnanswered,
    DeadLetterNotFound,
    Refusal,
    SessionNotFound,
    StaleAttempt,
    StoreError,
    Superseded,
    TaskNotFound,
)
from opscore.runtime.journal.tables import SESSIONS, SIGNALS
from opscore.runtime.messages import to_session, to_timers
from opscore.runtime.messages.addresses import hint
from opscore.runtime.models import Assignment, Failure, Move, Session, Signal, Task
from opscore.runtime.runs import steering, transitions
from opscore.runtime.runs.assignments import assignment
from opscore.runtime.runs.run import DueAt, Run, Step
from opscore.runtime.runs.session_rows import signal_of, signals_of
from opscore.runtime.runs.session_standing import AGAIN_S, GRANTED, STEERED, SessionStanding
from opscore.runtime.store import ABSENT, Snapshot, Submission


class SessionActor(SessionStanding):
    """The actor of one run."""

    # --- messages -----------------------------------------------------------------------------------------

    @handles(to_session.Start)
    async def start(self, message: to_session.Start) -> Session:
        """Begin the run, in one commit with the message's extra writes."""
        self._library.keep(message.definition)
        step = transitions.begin(message.session, message.definition, self._now())
        absent = Submission(expects=(SESSIONS.expect(self._session_id, ABSENT),), new_work=True)
        try:
            with self._at_work():
                return await self._begin(step, absent + message.extra)
        finally:
            self._note_standing()
            self._leave_if_unneeded()

    async def _begin(self, step: Step, extra: Submission) -> Session:
        """Commit the start of the run; if an agent is free for its first task, the grant is part of the commit."""
        offer = await self._agent_found(step)
        if offer is not None:
            begun, lease = self._given_out(step, offer)
            try:
                version = await self._commit(None, begun, extra + grant_of(lease, offer.agent_version))
            except Superseded as error:
                if error.table not in GRANTED:
                    raise
            else:
                self._granted = (offer, version)
                self._tell_granted(begun.run, lease, version)
                return begun.run.session
        await self._commit(None, step, extra)
        return step.run.session

    @handles(to_session.Offer)
    async def offer(self, message: to_session.Offer) -> int | None:
        """Give a ready task to an agent: task, attempt and lease in one commit, if the agent has not changed."""
        if self._granted is not None and self._granted[0] is message:
            # The offer was found while the run began, and was taken then.
            (_, version), self._granted = self._granted, None
            return version

        async def decide(run: Run) -> int | None:
            task = run.find(message.task_id)
            if task is not None and task.is_out and task.agent_id == message.agent_id:
                raise CommitUnanswered("that agent has the task already, and may not have been told")
            now = self._now()
            if task is None or not transitions.may_begin(run, task, now):
                return None
            step, lease = self._given_out(Step(run=run), message)
            version = await self._commit(run, step, grant_of(lease, message.agent_version))
            self._tell_granted(step.run, lease, version)
            return version

        return await self._decided(decide, otherwise=None)

    @handles(to_session.Settle)
    async def settle(self, message: to_session.Settle) -> to_session.Settled:
        """Apply an attempt's outcome, in one commit with the agent's part and, perhaps, the grant of its next task."""

        async def decide(run: Run) -> to_session.Settled:
            task = run.find(message.task_id)
            if task is None or not task.is_out or task.attempt != message.attempt:
                raise StaleAttempt(message.task_id, message.attempt, _standing(task))
            step = self._settled(run, task, message.outcome)
            following = await self._following(step, message.free)
            if following is None:
                version = await self._commit(run, step, message.agent_part)
                self._tell_free(message.free, version)
                return to_session.Settled(version=version)
            step, lease = self._given_out(step, following)
            version = await self._commit(run, step, message.agent_part + passed_on(lease))
            self._tell_granted(step.run, lease, version)
            return to_session.Settled(version=version, lease=lease)

        settled = await self._decided(decide, otherwise=None)
        if settled is None:
            raise StaleAttempt(message.task_id, message.attempt, "its session does not exist")
        return settled

    def _settled(self, run: Run, task: Task, outcome: to_session.Outcome) -> Step:
        now, rng = self._now(), self.context.clock.random
        match outcome:
            case to_session.Started():
                return transitions.start(run, task, now)
            case delivery.Completed(result=result):
                return transitions.complete(run, task, result, now)
            case delivery.Failed(error=error, retryable=retryable):
                return transitions.fail(run, task, error, now, rng, retryable=retryable)
            case delivery.Lost(reason=reason, counts=counts):
                return self._bounced(run, task, Failure(message=reason, code="lost"), counts=counts)
            case delivery.Undelivered(reason=reason):
                return self._bounced(run, task, Failure(message=reason, code="undelivered"))

    def _bounced(self, run: Run, task: Task, error: Failure, *, counts: bool = True) -> Step:
        rng = self.context.clock.random
        return transitions.bounce(run, task, error, self._now(), rng, self._limits, counts=counts)

    @handles(to_session.Due)
    async def due(self, message: to_session.Due) -> None:
        """Act on a time that may have come."""

        async def decide(run: Run) -> None:
            task = run.find(message.what)
            child = None if task is None or not task.awaits else await self._sub_runs.standing(task)
            step = transitions.due(run, message.what, self._now(), self.context.clock.random, child)
            if step.changed or step.run.session is not run.session:
                await self._commit(run, step, await self._guard(run, step))
                return
            of_whole = message.what == self._session_id
            due_at = run.session.due_at if of_whole else None if task is None else task.due_at
            if due_at is not None and due_at > self._now():
                # Either the message came for another reason, and may have replaced the timer of this time, or the clock
                # was set back while the message waited.
                self._follow(DueAt(what=message.what, due_at=due_at), self._version)

        try:
            await self._decided(decide, otherwise=None, guarded_by=STEERED)
        except (StoreError, Refusal):
            # The timers repeat it, because no one else does, and this actor may be gone by then.
            again = to_timers.ArmDue(session_id=self._session_id, what=message.what, due_at=self._now() + AGAIN_S)
            hint(self._addresses.timers, again)
            raise

    @handles(to_session.Steer)
    async def steer(self, message: to_session.Steer) -> Session:
        """Cancel, pause, resume, retry, reset or terminate the run."""

        async def decide(run: Run) -> Session:
            above: tuple[steering.Above, ...] = ()
            if message.move is Move.RETRY and run.session.parent_task_id is not None:
                above = await self._addresses.journal.load(lambda view: steering.runs_above(view, run.session))
            step = steering.steered(run, message.move, message.reason, self._now(), above)
            if step is None:
                return run.session
            await self._commit(run, step, await self._guard(run, step), message.reason)
            self._note_standing()
            return step.run.session

        session = await self._decided(decide, otherwise=None, guarded_by=STEERED)
        if session is None:
            raise SessionNotFound(self._session_id)
        if message.move in (Move.RESUME, Move.RESET) and session.parent_task_id is not None:
            # While its actor was given up, it could not be told that its parent no longer waits for it.
            await self._look_above()
        return session if self._run is None else self._run.session

    @handles(to_session.Discard)
    async def discard(self, message: to_session.Discard) -> Task:
        """Discard a dead letter."""

        async def decide(run: Run) -> Task:
            step = steering.discarded(run, message.task_id, self._now())
            await self._commit(run, step, await self._guard(run, step), message.reason)
            (task,) = step.changed
            return task

        task = await self._decided(decide, otherwise=None, guarded_by=STEERED)
        if task is None:
            raise DeadLetterNotFound(message.task_id)
        return task

    @handles(to_session.RunImpossible)
    async def run_impossible(self, message: to_session.RunImpossible) -> None:
        """Fail a task whose child run can't begin."""

        async def decide(run: Run) -> None:
            task = run.find(message.task_id)
            if task is not None and task.awaits and task.attempt == message.attempt:
                failed, rng = message.failed, self.context.clock.random
                step = transitions.fail(run, task, failed.error, self._now(), rng, retryable=failed.retryable)
                await self._commit(run, step)

        await self._decided(decide, otherwise=None)

    @handles(to_session.SendSignal)
    async def send_signal(self, message: to_session.SendSignal) -> Signal:
        """Give the run a signal."""

        def read(view: Snapshot) -> tuple[Signal | None, int]:
            told = None if message.signal_id is None else signal_of(view, self._session_id, message.signal_id)
            # The count is remembered, because a run may have too many signals to read them all for each new one.
            count = self._signals_told if self._signals_told is not None else len(signals_of(view, self._session_id))
            return told, count

        async def decide(run: Run) -> Signal:
            told, count = await self._addresses.journal.load(read)
            if told is not None:
                return steering.told_again(told, message)
            signal = steering.admitted(run, message, count, self._limits, self._now(), self.context.clock.random)
            step = transitions.signal(run, signal, self._now())
            absent = Submission(expects=(SIGNALS.expect(SIGNALS.key(signal), ABSENT),))
            self._signals_told = None
            await self._commit(run, step, absent)
            self._signals_told = count + 1
            return step.signals[0]

        signal = await self._decided(decide, otherwise=None, guarded_by=STEERED)
        if signal is None:
            raise SessionNotFound(self._session_id)
        return signal

    @handles(to_session.Describe)
    async def describe(self, message: to_session.Describe) -> Assignment:
        """Return the assignment that an agent was handed."""
        if self._looks_again:
            await self._reload()
        self._leave_if_unneeded()
        if self._run is None:
            raise SessionNotFound(self._session_id)
        task = self._run.find(message.task_id)
        if task is None:
            raise TaskNotFound(message.task_id)
        return assignment(self._run, task)

    @handles(to_session.AnnounceSession)
    async def announce(self, _: to_session.AnnounceSession) -> None:
        """Read the rows after every commit under way, and announce again what waits."""
        self._looks_again = False
        try:
            with self._at_work():
                await self._reload()
                self._note_standing()
                self._announce()
            await self._look_above()
        except (StoreError, Refusal):
            self._look_again()
            raise
        self._leave_if_unneeded()

    @handles(to_session.SessionQuiet)
    async def quiet(self, message: to_session.SessionQuiet) -> None:
        """Passivate a run that only waits: its rows hold everything, and the next message activates it again."""
        spoken_to, self._decisions_seen = self._decisions != self._decisions_seen, self._decisions
        if spoken_to or self._has_work() or not self.context.stop_if_quiet():
            self.context.tell_after(self._limits.quiet_s, message)


def _standing(task: Task | None) -> str:
    return "its session has no such task" if task is None else f"the task is {task.status} at attempt {task.attempt}"
