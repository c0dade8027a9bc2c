"""The parts of a node, from the open store to the running tree, and how they are started and stopped."""

import contextlib
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final

import trio

from opscore.actors.actor import Actor
from opscore.actors.clock import Clock
from opscore.actors.errors import ActorError, ActorFailed, ActorRestarted, AskTimeout
from opscore.actors.groups import unwrapped
from opscore.actors.scheduler import Runnable
from opscore.actors.spec import ChildSpec
from opscore.actors.system import System, open_system
from opscore.runtime import recovery, tree
from opscore.runtime.agents.courier import Courier
from opscore.runtime.agents.directory import Introductions
from opscore.runtime.delivery import Delivery
from opscore.runtime.dispatch.recovery import out_of_line
from opscore.runtime.errors import (
    CommitUnanswered,
    CommitUncertain,
    NotReady,
    OpscoreError,
    QueueFull,
    StoreDamaged,
    Superseded,
)
from opscore.runtime.journal.commit_line import CommitLine, Journal
from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.journal import JournalMeter
from opscore.runtime.journal.writer import Writer
from opscore.runtime.lease import Lease
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent, to_dispatcher, to_session, to_timers
from opscore.runtime.messages.addresses import Addresses, identity_of
from opscore.runtime.messages.to_schedules import KeepSchedules
from opscore.runtime.models import Session
from opscore.runtime.runs import quarantine
from opscore.runtime.runs.open_runs import OpenRuns
from opscore.runtime.runs.sub_runs import SubRuns
from opscore.runtime.runs.triggering import Prepared
from opscore.runtime.store import Store
from opscore.runtime.upkeep.housekeeping import Housekeeper

REVIVE_S: Final = 60.0
"""How long to wait before an agent's actor that crashed too often is started again."""
QUARANTINE_AGAIN_S: Final = 1.0
"""When to try again to pause a run whose actor crashed too often."""
PUT_IN_LINE: Final = 500
"""Tasks that one commit puts in line."""
TAKING_UP_S: Final = 86_400.0
"""How long a part of the node may take to read its rows at the start. A silent disk is reported long before that; but a
process that is stopped while it opens, as by SIGSTOP, must be able to continue however long it was stopped."""
GIVE_BACK_S: Final = 1.0
"""How long a closing node waits for the attempts of its local functions to be given back."""
OFFERS_S: Final = 0.25
"""How much of that time it spends at most on waiting for offers that are under way."""
STOPPED: Final = "it has stopped"
RACES_MAX: Final = 8
"""How often a write is decided anew because another write came first."""

_log = logging.getLogger("opscore.node")


class Core:
    """The parts of a node, wired together."""

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        ways: Sequence[Delivery],
        limits: Limits,
        clock: Clock,
        nursery: trio.Nursery,
        cast: Callable[[Actor[Any]], Actor[Any]],
        ready: deque[Runnable] | None,
    ) -> None:
        self.store = store
        self.limits = limits
        self.clock = clock
        self.library = Library(limits)
        self.feed = Feed()
        self.introductions = Introductions()
        self.open_sessions = OpenRuns()
        """The unfinished runs."""
        self.offering = True
        """Whether tasks are offered to agents; false for ever once the node drains."""
        self.stopped: str | None = None
        """Why calls are refused, once the node has stopped."""
        self._nursery = nursery
        self._ready = ready
        self._line = CommitLine()
        self.meter = JournalMeter(self._line)
        self.addresses = Addresses(
            journal=Journal(self._line),
            agent_spec=self._agent_spec,
            session_spec=self._session_spec,
            new_session_spec=functools.partial(self._session_spec, is_new=True),
        )
        self.courier = Courier(ways=tuple(ways), addresses=self.addresses, nursery=nursery)
        self._sub_runs = SubRuns(
            addresses=self.addresses,
            library=self.library,
            limits=limits,
            clock=clock,
            open_beside=self.open_sessions.beside,
        )
        self._parts = tree.Parts(
            store=store,
            writer=writer,
            line=self._line,
            meter=self.meter,
            feed=self.feed,
            library=self.library,
            limits=limits,
            addresses=self.addresses,
            courier=self.courier,
            on_fatal=lambda error: nursery.start_soon(_raise, error),
            may_offer=lambda: self.offering,
            sub_runs=self._sub_runs,
            on_open=self.open_sessions.add,
            on_ended=self.open_sessions.discard,
            on_agent_given_up=self._give_up_agent,
            on_session_given_up=self._give_up_session,
            start=self.start,
            cast=cast,
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[System]:
        """Run the tree. The block is entered once every actor has read the unfinished work from the rows."""
        try:
            async with open_system(tree.root(self._parts), clock=self.clock, ready=self._ready) as system:
                self.addresses.bind(system)
                await self._take_up()
                self._nursery.start_soon(self._housekeeper().run)
                self._nursery.start_soon(self._put_in_line)
                try:
                    yield system
                    await self._let_deliveries_end()
                finally:
                    await self._give_back()
                    # Local functions are cancelled first, so that none reports to a tree that is stopping.
                    self.courier.cancel_all()
                    self._nursery.cancel_scope.cancel()
        finally:
            # A waiting caller that is not an actor would otherwise wait for ever.
            self.stopped = STOPPED
            self._line.close(STOPPED)
            self.feed.close(STOPPED)

    def refuse_stopped(self) -> None:
        """Refuse a call once the node has stopped.

        Raises:
            NotReady: it has stopped.
        """
        if self.stopped is not None:
            raise NotReady(self.stopped)

    def admit(self) -> None:
        """Refuse another run while `sessions_open_max` are unfinished.

        Raises:
            QueueFull: the limit is reached.
        """
        if len(self.open_sessions) >= self.limits.sessions_open_max:
            raise QueueFull(self.limits.sessions_open_max)

    async def start(self, prepared: Prepared) -> Session:
        """Begin a run, and count it among the unfinished. Once this returns, the run exists.

        Raises:
            QueueFull: the limit of unfinished runs is reached.
            Superseded: rows that the run was prepared on have changed.
        """
        self.admit()
        session_id = prepared.session.session_id
        start = to_session.Start(session=prepared.session, definition=prepared.definition, extra=prepared.extra)
        self.open_sessions.add(session_id)
        try:
            return await self.addresses.new_session(session_id).ask(start)
        except (ActorFailed, ActorRestarted, AskTimeout, CommitUnanswered, trio.Cancelled):
            # The run may have begun or may still begin. Its actor will report either that or that it did not begin.
            raise
        except BaseException:
            self.open_sessions.discard(session_id)
            raise

    def _housekeeper(self) -> Housekeeper:
        return Housekeeper(
            store=self.store,
            journal=self.addresses.journal,
            meter=self.meter,
            limits=self.limits,
            clock=self.clock,
        )

    async def _let_deliveries_end(self) -> None:
        """Give deliveries some time to end: a push that is cut off is sent again later, and then done twice."""
        self.offering = False
        with trio.move_on_after(self.limits.close_grace_s):
            await self.courier.settled()

    async def _give_back(self) -> None:
        """Give back the attempts of this process's functions; those that miss the time are lost at the next opening."""
        self.offering = False
        with trio.move_on_after(GIVE_BACK_S, shield=True):
            # A run that begins at this moment may be about to give its first task to a function.
            given = await self._functions_given_work()
            async with trio.open_nursery() as nursery:
                for agent_id in sorted(given | self.courier.functions_at_work()):
                    nursery.start_soon(self._ask_back, agent_id)

    async def _functions_given_work(self) -> set[str]:
        """Return the local agents that hold a lease, including those whose functions have not begun yet."""
        try:
            with trio.move_on_after(OFFERS_S):
                await self.addresses.dispatcher.ask(to_dispatcher.AwaitOffers())
            with self.store.snapshot() as view:
                return set(recovery.functions_with_leases(view))
        except (OpscoreError, ActorError) as error:
            _log.info("attempts of functions that have not begun end as lost at the next opening: %s", error)
            return set()

    async def _ask_back(self, agent_id: str) -> None:
        try:
            await self.addresses.agent(agent_id).ask(to_agent.GiveBack(), timeout_s=GIVE_BACK_S)
        except (OpscoreError, ActorError) as error:
            _log.info("the attempt of agent %s ends as lost at the next opening: %s", agent_id, error)

    async def _take_up(self) -> None:
        """Have every actor read its rows; from here on, recovery and normal operation are the same code."""
        with self.store.snapshot() as view:
            self.open_sessions.update(recovery.open_sessions(view))
            holders = recovery.lease_holders(view)
        # Before the timers start, so that a lease that ran out while the node was down is extended, not ended.
        for agent_id in holders:
            await self.addresses.agent(agent_id).send(to_agent.Resume())
        await self.addresses.timers.ask(to_timers.ReadDueTimes(), timeout_s=TAKING_UP_S)
        await self.addresses.dispatcher.ask(to_dispatcher.ReadRows(), timeout_s=TAKING_UP_S)
        await self.addresses.schedules.ask(KeepSchedules(), timeout_s=TAKING_UP_S)
        if self.open_sessions:
            _log.info("took up %d unfinished sessions, %d open attempts", len(self.open_sessions), len(holders))

    async def _put_in_line(self) -> None:
        """Put the waiting tasks that an earlier release left into lines, and have their runs announce them."""
        read = functools.partial(out_of_line, library=self.library, count=PUT_IN_LINE)
        while True:
            try:
                found, sessions = await self.addresses.journal.load(read)
                if not found.writes:
                    return
                await self.addresses.journal.commit(found)
                for session_id in sessions:
                    with contextlib.suppress(ActorError):
                        await self.addresses.session(session_id).send(to_session.AnnounceSession())
            except Superseded:
                continue
            except OpscoreError as error:
                _log.warning("tasks that waited in an earlier release are not in line yet: %s", error)
                await trio.sleep(QUARANTINE_AGAIN_S)

    def _agent_spec(self, agent_id: str) -> ChildSpec[Any]:
        return tree.agent_spec(self._parts, agent_id)

    def _session_spec(self, session_id: str, *, is_new: bool = False) -> ChildSpec[Any]:
        return tree.session_spec(self._parts, session_id, is_new=is_new)

    def _give_up_agent(self, name: str, cause: BaseException) -> None:
        self._nursery.start_soon(self._revive, identity_of(name), cause)

    def _give_up_session(self, name: str, cause: BaseException) -> None:
        self._nursery.start_soon(self._quarantine, identity_of(name), cause)

    async def _revive(self, agent_id: str, cause: BaseException) -> None:
        """Start an agent's actor again after a pause; nobody else may address it. Its rows are unchanged."""
        _log.error(
            "the actor of agent %s crashed too often, last with %r; it is started again in %g s",
            agent_id,
            cause,
            REVIVE_S,
        )
        await trio.sleep(REVIVE_S)
        with contextlib.suppress(ActorError):
            await self.addresses.agent(agent_id).send(to_agent.Recheck())

    async def _quarantine(self, session_id: str, cause: BaseException) -> None:
        """Pause a run whose actor keeps crashing, so that the others go on undisturbed."""
        _log.error("session %s is paused: its actor crashed too often, last with %r", session_id, cause)
        for lease in await self._paused(session_id, cause):
            self.courier.cancel(lease.task_id, lease.attempt)
            with contextlib.suppress(ActorError):
                await self.addresses.agent(lease.agent_id).send(to_agent.Recheck())
        active = self.addresses.active_session(session_id)
        if active is not None:
            # A message to the run before it was paused started a new actor, which does not know of the pause.
            with contextlib.suppress(ActorError):
                await active.send(to_session.AnnounceSession())
        try:
            await self._sub_runs.have_them_look_above(session_id)
        except OpscoreError as error:
            _log.warning("child runs that session %s gave up may go on until the next start: %s", session_id, error)

    async def _paused(self, session_id: str, cause: BaseException) -> tuple[Lease, ...]:
        """Pause a run, however long it takes until the store accepts that; return the leases that this ended."""
        while True:
            try:
                return await self._pause(session_id, cause)
            except Superseded:
                continue
            except StoreDamaged as error:
                _log.error("session %s can't be paused: %s", session_id, error)
                return ()
            except (OpscoreError, ActorError) as error:
                _log.warning("session %s is not paused yet: %s", session_id, error)
                await trio.sleep(QUARANTINE_AGAIN_S)

    async def _pause(self, session_id: str, cause: BaseException) -> tuple[Lease, ...]:
        """Commit what `quarantine.decided` returns, and return the leases that this ended."""
        now = self.clock.now()
        found = await self.addresses.journal.load(
            lambda view: quarantine.decided(view, session_id, repr(cause), now, self.library)
        )
        if found is None:
            # The run has ended, or never began.
            self.open_sessions.discard(session_id)
            return ()
        await self.addresses.journal.commit(found.submission)
        return found.taken_back


async def _raise(error: CommitUncertain) -> None:
    raise error


def open_nursery() -> AbstractAsyncContextManager[trio.Nursery]:
    """Open a nursery that raises a single error as itself and not in a group, because its caller sees no nursery.

    The error takes precedence over a cancellation at the same moment. `CommitUncertain` takes precedence over every
    other error, because the others are its consequences.
    """
    return _Nursery()


class _Nursery:
    """The context manager of `open_nursery`.

    With a generator, each block that is cancelled would leave a cycle since Python 3.12: the cancellation, its
    traceback, the generator's frame in it, and the frame of `contextlib` behind that, which refers to the cancellation.
    """

    __slots__ = ("_inner",)

    async def __aenter__(self) -> trio.Nursery:
        self._inner = trio.open_nursery()
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            failure = _what_matters(group)
        finally:
            del error, traceback  # The error may be the one that is raised below, with this frame in its traceback.
        context = failure.__context__
        try:
            raise failure from None
        finally:
            # Here, too, each block that is cancelled would leave a cycle: this frame, and the group as context, refer
            # to the error.
            failure.__context__ = context
            del failure, context


def _what_matters(group: BaseExceptionGroup[BaseException]) -> BaseException:
    _, errors = group.split(trio.Cancelled)
    uncertain = group.subgroup(CommitUncertain)
    return unwrapped(uncertain or errors or group)
