"""The schedules' actor: it starts one run for every due time that comes.

Its state is in the rows, and it sleeps until the first of them is due. Each schedule has its turn in a task of its own,
so that one that can't start its run delays no other. The session and the schedule's row, which then names the next due
time, are one submission with the row's version as precondition: whatever crashes, either both exist or neither does.
"""

import contextlib
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from opscore.actors.actor import Actor, handles
from opscore.actors.backoff import Backoff
from opscore.actors.mailbox_spec import MailboxSpec, Overflow
from opscore.runtime.errors import (
    AgentNotFound,
    CommitUnanswered,
    DefinitionNotFound,
    InvalidDocument,
    OpscoreError,
    Refusal,
    StoreFull,
    StoreReadOnly,
    Superseded,
    Unavailable,
)
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import SCHEDULES, SCHEDULES_BY_DUE
from opscore.runtime.journal.typed_tables import time_at
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.messages.protocols import SchedulesProtocol
from opscore.runtime.messages.to_schedules import KeepSchedules, ScheduleChanged
from opscore.runtime.models import Failure, Schedule, Session
from opscore.runtime.runs import triggering
from opscore.runtime.runs.triggering import Prepared, Trigger
from opscore.runtime.schedules import due_times, schedule_rows
from opscore.runtime.schedules.due_times import Decision
from opscore.runtime.store import Snapshot, Submission

MAILBOX: Final = MailboxSpec(overflow=Overflow.DROP_NEWEST)
"""All messages have the same effect, so one that does not fit is not missed."""
SLEEP_S_MAX: Final = 30.0
"""The longest sleep while anything is scheduled, so that a jump of the wall clock is noticed."""
TURNS_MAX: Final = 64
"""Schedules that have their turn at the same time; they share commits."""
COUNTED_MAX: Final = 2
"""Schedules whose missed due times are counted at the same time: each may have millions, and counting blocks others."""
AGAIN: Final = Backoff(initial_s=1.0, coefficient=2.0, max_s=60.0, jitter=0.5)
"""The backoff after a failure."""

NODE_WIDE: Final = (Unavailable, StoreFull, StoreReadOnly, CommitUnanswered)
"""Errors that keep every schedule from starting a run, and not just one."""
FOR_GOOD: Final = (AgentNotFound, DefinitionNotFound, InvalidDocument)
"""Errors that a retry would not change."""


@attrs.define
class _Standing:
    """What is remembered of a schedule, or of the whole node, between tries."""

    failures: int = 0
    """Failures in a row."""
    rests_until: float = -math.inf
    """When to try again, by trio's clock, so that setting back the wall clock prolongs no rest."""
    told: str = ""
    """The newest message in the log."""
    counted_until: float = -math.inf
    """`counted_until` of the newest decision that was carried out."""


@attrs.frozen
class _Turn:
    """What was decided about a schedule that is due, from one read of the rows."""

    schedule: Schedule
    version: int
    at: float
    """When the rows were read, in wall time."""
    decision: Decision
    prepared: Prepared | None = None
    refused: Refusal | None = None
    """Why its run can't be started, if a retry would not help."""


class SchedulesActor(Actor[SchedulesProtocol]):
    """Starts runs when they are due.

    Args:
        addresses: where the other actors are.
        library: the definitions that runs follow.
        limits: the node's limits, such as when a due time counts as missed.
        may_start: returns whether new runs may begin; false for ever once the node drains.
        start: begins a run.
    """

    def __init__(
        self,
        *,
        addresses: Addresses,
        library: Library,
        limits: Limits,
        may_start: Callable[[], bool],
        start: Callable[[Prepared], Awaitable[Session]],
    ) -> None:
        self._addresses = addresses
        self._library = library
        self._limits = limits
        self._may_start = may_start
        self._start = start
        self._keeping = False
        self._changed = trio.Event()
        self._at_turn: set[str] = set()
        self._counted: set[str] = set()
        """Those of the schedules at their turn whose missed due times are counted."""
        self._node = _Standing()
        self._standings: dict[str, _Standing] = {}
        """By schedule, where anything has to be remembered."""
        self._changed_at_turn: set[str] = set()
        """Schedules that were changed or deleted during their turn: what the turn remembers no longer counts."""

    async def on_start(self) -> None:
        """Continue after a crash; at the first start, `KeepSchedules` begins."""
        if self._addresses.bound:
            self._keep()

    @handles(KeepSchedules)
    def keep_schedules(self, _: KeepSchedules) -> None:
        """Begin to start runs that are due."""
        self._keep()

    @handles(ScheduleChanged)
    def schedule_changed(self, message: ScheduleChanged) -> None:
        """Check the due times again, and let this schedule try at once."""
        self._standings.pop(message.schedule_id, None)
        if message.schedule_id in self._at_turn:
            self._changed_at_turn.add(message.schedule_id)
        self._changed.set()

    def _keep(self) -> None:
        if not self._keeping:
            self._keeping = True
            self.context.start_soon(self._run)

    async def _run(self) -> None:
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(await self._look()):
                await self._changed.wait()

    async def _look(self) -> float:
        """Give a turn to every schedule that is due; return in how many seconds to look again."""
        if not self._may_start():
            return math.inf
        if self._node.rests_until > trio.current_time():
            return self._node.rests_until - trio.current_time()
        # Schedules that are at their turn, or rest, come first in the index.
        line_max = TURNS_MAX + len(self._at_turn) + len(self._standings)
        try:
            lines = await self._addresses.journal.load(
                lambda view: list(itertools.islice(SCHEDULES_BY_DUE.sound_lines(view), line_max))
            )
        except OpscoreError as error:
            return self._node_rests(error)
        waits_s = [SLEEP_S_MAX if lines else math.inf]
        for line, schedule_id in lines:
            wait_s = max(time_at(line) - self._now(), self._rest_s(schedule_id))
            if wait_s > 0:
                waits_s.append(wait_s)
            elif schedule_id not in self._at_turn and self._may_have_its_turn(schedule_id, time_at(line)):
                self._at_turn.add(schedule_id)
                self.context.start_soon(self._turn, schedule_id)
        return min(waits_s)

    def _may_have_its_turn(self, schedule_id: str, due_at: float) -> bool:
        if len(self._at_turn) == TURNS_MAX:
            return False
        missed = self._now() - due_at >= self._limits.schedule_late_s
        if missed and due_at > self._standings.get(schedule_id, _Standing()).counted_until:
            if len(self._counted) == COUNTED_MAX:
                return False
            self._counted.add(schedule_id)
        return True

    # --- one schedule -------------------------------------------------------------------------------------

    async def _turn(self, schedule_id: str) -> None:
        """Do what is due. A failure makes this schedule wait, or all of them if its cause is node-wide."""
        try:
            await self._take(schedule_id)
        except Superseded:
            # The schedule or its workflow was changed meanwhile, so it is checked again at once.
            pass
        except NODE_WIDE as error:
            self._node_rests(error)
            await self._note(schedule_id, error)
        except Exception as error:  # noqa: BLE001 (a schedule that always fails must not take others down)
            _rests(self._standings.setdefault(schedule_id, _Standing()), self.context.clock.random)
            await self._note(schedule_id, error)
        else:
            self._node = _Standing()
        finally:
            self._at_turn.discard(schedule_id)
            self._counted.discard(schedule_id)
            if schedule_id in self._changed_at_turn:
                self._changed_at_turn.remove(schedule_id)
                self._standings.pop(schedule_id, None)
            self._changed.set()

    async def _take(self, schedule_id: str) -> None:
        turn = await self._addresses.journal.load(lambda view: self._read(view, schedule_id))
        if turn is None:
            self._standings.pop(schedule_id, None)
            return
        now, told = turn.at, ""
        if turn.prepared is not None:
            fired = schedule_rows.fired(turn.schedule, turn.version, turn.decision, turn.prepared.session, now)
            session = await self._start(evolve(turn.prepared, extra=turn.prepared.extra + fired))
            self.context.log.info("schedule %s started session %s", schedule_id, session.session_id)
        elif turn.refused is not None:
            error = _failure(turn.refused)
            told = self._tell_once(schedule_id, f"its due time starts no run: {error.message}")
            await self._commit(schedule_rows.failed(turn.schedule, turn.version, turn.decision, error, now))
        else:
            await self._commit(schedule_rows.passed_over(turn.schedule, turn.version, turn.decision, now))
        standing = _Standing(told=told, counted_until=turn.decision.counted_until)
        if standing == _Standing():
            self._standings.pop(schedule_id, None)
        else:
            self._standings[schedule_id] = standing

    def _read(self, view: Snapshot, schedule_id: str) -> _Turn | None:
        """Decide on a schedule, and prepare its run, from rows that include every commit sent before."""
        found, now = SCHEDULES.read(view, schedule_id), self._now()
        schedule = found.row
        if schedule is None or schedule.next_due_at is None or schedule.next_due_at > now:
            return None
        counted_until = self._standings.get(schedule_id, _Standing()).counted_until
        decision = due_times.decided(schedule, now, self._limits, counted_until)
        turn = _Turn(schedule, found.version, now, decision)
        if decision.fires is None:
            return turn
        trigger = Trigger(definition=schedule.workflow_id, payload=schedule.payload, agent_id=schedule.agent_id)
        try:
            prepared = triggering.prepare(view, trigger, self._library, self._limits, now, self.context.clock.random)
        except FOR_GOOD as error:
            # Its frames would hold it until garbage is collected, and with them all that the journal was at.
            return evolve(turn, refused=error.with_traceback(None))
        assert isinstance(prepared, Prepared), "a trigger without a key starts a session of its own"
        return evolve(turn, prepared=prepared)

    async def _note(self, schedule_id: str, error: Exception) -> None:
        """Write into the row why no run starts; if even that can't be written, only the log says so."""
        failure = _failure(error)
        self._tell_once(schedule_id, f"its run waits: {failure.message}")
        with contextlib.suppress(OpscoreError):
            found = await self._addresses.journal.load(lambda view: SCHEDULES.read(view, schedule_id))
            due = found.row is not None and found.row.next_due_at is not None and found.row.next_due_at <= self._now()
            if found.row is not None and due and found.row.last_error != failure:
                await self._commit(schedule_rows.noted(found.row, found.version, failure))

    async def _commit(self, submission: Submission) -> None:
        await self._addresses.journal.commit(submission)

    # --- what rests ---------------------------------------------------------------------------------------

    def _node_rests(self, error: OpscoreError) -> float:
        """Start nothing for a while; return for how many seconds."""
        if self._node.rests_until <= trio.current_time():
            if not self._node.failures:
                self.context.log.warning("schedules start no runs until this is over: %s", error)
            _rests(self._node, self.context.clock.random)
        return self._node.rests_until - trio.current_time()

    def _rest_s(self, schedule_id: str) -> float:
        return self._standings.get(schedule_id, _Standing()).rests_until - trio.current_time()

    def _tell_once(self, schedule_id: str, text: str) -> str:
        standing = self._standings.setdefault(schedule_id, _Standing())
        if standing.told != text:
            standing.told = text
            self.context.log.warning("schedule %s: %s", schedule_id, text)
        return text

    def _now(self) -> float:
        return self.context.clock.now()


def _rests(standing: _Standing, rng: random.Random) -> None:
    standing.failures += 1
    standing.rests_until = trio.current_time() + AGAIN.delay_s(standing.failures, rng)


def _failure(error: Exception) -> Failure:
    code = error.code if isinstance(error, OpscoreError) else "schedule_error"
    return Failure(message=str(error) or repr(error), code=code)
