"""The dispatcher: ready tasks × idle agents. All its state is hints, which are rebuilt from rows when it starts."""

import contextlib
import functools
from collections.abc import Callable
from typing import Final

import trio
from outcome import Error, Outcome

from opscore.actors.actor import Actor, handles
from opscore.actors.errors import ActorError, ActorFailed, ActorRestarted, ActorStopped, AskTimeout
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.reply import Reply
from opscore.runtime.agents.courier import Courier
from opscore.runtime.dispatch import recovery
from opscore.runtime.dispatch.matching import Match, MatchBook
from opscore.runtime.errors import CommitUnanswered, Refusal, StoreError, Superseded
from opscore.runtime.journal.tables import SLOTS
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent, to_dispatcher, to_session
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.protocols import DispatcherProtocol
from opscore.runtime.messages.to_dispatcher import OfferOutcome
from opscore.runtime.waiting import Held, Place, QueueDepths, Requirement

MAILBOX: Final = MailboxSpec(capacity=1_048_576)
POSTPONE_S: Final = 1.0
"""About how long to wait before an offer that the store could not take is made again."""


class DispatcherActor(Actor[DispatcherProtocol]):
    """Makes offers without waiting for their outcome, so that many share one group commit.

    Args:
        addresses: where the other actors are.
        courier: knows which agents can be reached.
        library: the definitions of runs, which say what their tasks need.
        limits: the node's limits.
        may_offer: returns whether offers are made; a node that drains makes none.
    """

    def __init__(
        self,
        *,
        addresses: Addresses,
        courier: Courier,
        library: Library,
        limits: Limits,
        may_offer: Callable[[], bool],
    ) -> None:
        self._addresses = addresses
        self._courier = courier
        self._library = library
        self._limits = limits
        self._book = MatchBook(limits)
        self._may_offer = may_offer
        self._offers_under_way = 0
        self._awaiting_offers: list[Reply[None]] = []

    async def on_start(self) -> None:
        """Read the rows after a crash; at the first start, `ReadRows` does that."""
        if self._addresses.bound:
            await self._read_rows()

    @handles(to_dispatcher.ReadRows)
    async def read_rows(self, _: to_dispatcher.ReadRows) -> None:
        """Read which agents are idle and which tasks wait."""
        await self._read_rows()

    async def _read_rows(self) -> None:
        now, steady = self.context.clock.now(), self._steady()
        journal = self._addresses.journal
        window = self._limits.line_window
        pages = await journal.load(functools.partial(recovery.first_pages, library=self._library, window=window))
        agents = await journal.load(
            functools.partial(
                recovery.idle_agents, reaches=self._courier.reaches, now=now, steady=steady, limits=self._limits
            )
        )
        began = await journal.load(
            functools.partial(recovery.beginnings, library=self._library, limits=self._limits, now=now)
        )
        self._make(self._book.slots_held(await journal.load(recovery.slots_held), steady))
        for gate, times in began.items():
            # If the wall clock was set back, an attempt that began in its future counts as beginning now.
            self._book.begun(gate, sorted(steady - max(0.0, now - at) for at in times), steady)
        for page in pages:
            self._make(self._book.take_page(page, steady))
        for agent in agents:
            self._make(self._book.agent_available(agent, steady))

    @handles(to_dispatcher.TaskReady)
    def task_ready(self, message: to_dispatcher.TaskReady) -> None:
        """Take in that a task waits."""
        self._make(self._book.task_ready(message.task, message.as_of, self._steady()))

    @handles(to_dispatcher.FindAgent)
    def find_agent(self, message: to_dispatcher.FindAgent) -> to_session.Offer | None:
        """Find an agent for a task that is about to become ready, and make the offer."""
        match = self._book.find_agent(message.task, self._steady()) if self._may_offer() else None
        if match is None:
            return None
        self._make([match])
        return match.offer

    @handles(to_dispatcher.MayGoOn)
    def may_go_on(self, message: to_dispatcher.MayGoOn) -> bool:
        """Return whether an agent that becomes free may continue with a task that its last one made ready."""
        return self._may_offer() and self._book.may_go_on(message.agent, message.task)

    @handles(to_dispatcher.TaskWithdrawn)
    def task_withdrawn(self, message: to_dispatcher.TaskWithdrawn) -> None:
        """Take in that a task no longer waits."""
        self._book.task_withdrawn(message.task_id)
        self._make([])

    @handles(AgentAvailable)
    def agent_available(self, message: AgentAvailable) -> None:
        """Take in that an agent can be given work."""
        self._make(self._book.agent_available(message, self._steady()))

    @handles(to_dispatcher.AgentUnavailable)
    def agent_unavailable(self, message: to_dispatcher.AgentUnavailable) -> None:
        """Take in that an agent can't be given work, or no longer holds a lease."""
        self._make(self._book.agent_unavailable(message, self._steady()))

    @handles(to_dispatcher.OfferEnded)
    def offer_ended(self, message: to_dispatcher.OfferEnded) -> None:
        """Close an offer, and make those that follow; offers of a former incarnation are ignored."""
        if message.incarnation != self.context.incarnation:
            return
        self._offers_under_way -= 1
        self._make(self._book.offer_ended(message, self._steady()))
        self._answer_if_over()

    @handles(to_dispatcher.GateDue)
    def gate_due(self, message: to_dispatcher.GateDue) -> None:
        """Take in that a gate may open."""
        self._make(self._book.gate_due(message.gate, self._steady()))

    @handles(to_dispatcher.LineRead)
    def line_read(self, message: to_dispatcher.LineRead) -> None:
        """Take in the next tasks of a line; those that a former incarnation asked for are ignored."""
        if message.incarnation == self.context.incarnation:
            self._make(self._book.take_page(message.page, self._steady()))

    @handles(to_dispatcher.GetDepths)
    def depths(self, _: to_dispatcher.GetDepths) -> QueueDepths:
        """Return how much waits."""
        return self._book.depths()

    @handles(to_dispatcher.AwaitOffers)
    def await_offers(self, _: to_dispatcher.AwaitOffers) -> Reply[None]:
        """Answer once no offer is under way."""
        reply: Reply[None] = self.context.defer()
        self._awaiting_offers.append(reply)
        self._answer_if_over()
        return reply

    def _answer_if_over(self) -> None:
        if not self._offers_under_way:
            awaiting, self._awaiting_offers = self._awaiting_offers, []
            for reply in awaiting:
                reply.set(None)

    def _make(self, matches: list[Match]) -> None:
        """Make offers, unless the node is draining: then the tasks wait in the rows for the next opening."""
        for gate, at in self._book.take_times().items():
            self.context.tell_after(max(0.0, at - self._steady()), to_dispatcher.GateDue(gate=gate))
        for requirement, after in self._book.take_wanted():
            self.context.start_soon(self._read_on, requirement, after)
        if self._may_offer():
            for match in matches:
                self._offer(match)

    async def _read_on(self, requirement: Requirement, after: Place) -> None:
        """Read the next tasks of a line, beside the mailbox."""
        read = functools.partial(
            recovery.next_page,
            requirement=requirement,
            after=after,
            library=self._library,
            window=self._limits.line_window,
        )
        while True:
            try:
                page = await self._addresses.journal.load(read)
            except (StoreError, Refusal, ActorError) as error:
                self.context.log.warning("the next tasks that need %s are read later: %s", requirement[1], error)
                await trio.sleep(self._postponement_s())
            else:
                self.context.ref.tell(to_dispatcher.LineRead(page=page, incarnation=self.context.incarnation))
                return

    def _offer(self, match: Match) -> None:
        self._offers_under_way += 1
        try:
            session = self._addresses.session(match.task.session_id)
        except ActorStopped as stopped:
            self.context.start_soon(self._look_into, match, stopped)
        else:
            self.context.ask_soon(session, match.offer, functools.partial(self._answered, match))

    def _answered(self, match: Match, answer: Outcome[int | None]) -> None:
        """Pass on the reply to an offer as a message, because it may come while another message is handled."""
        if isinstance(answer, Error):
            if isinstance(answer.error, Superseded) and answer.error.table == SLOTS.name:
                self.context.start_soon(self._find_holders, match)
            elif isinstance(answer.error, Superseded):
                self._tell_ended(match, OfferOutcome.AGENT_CHANGED)
            else:
                self.context.start_soon(self._look_into, match, answer.error)
        else:
            version = answer.unwrap()
            self._tell_ended(match, OfferOutcome.TASK_GONE if version is None else OfferOutcome.TAKEN, version or 0)

    async def _look_into(self, match: Match, error: BaseException) -> None:
        """Close an offer that could not be taken, or whose outcome is unknown."""
        if isinstance(error, CommitUnanswered | ActorError):
            self.context.log.warning("the outcome of the offer of %s is unknown: %s", match.task.task_id, error)
            outcome = OfferOutcome.UNKNOWN
            await self._ask_where_they_stand(match)
        elif isinstance(error, StoreError | Refusal):
            self.context.log.warning("offer of %s postponed: %s", match.task.task_id, error)
            outcome = OfferOutcome.POSTPONED
            await trio.sleep(self._postponement_s())
        else:
            raise error
        self._tell_ended(match, outcome)

    async def _find_holders(self, match: Match) -> None:
        """Close an offer whose slot was taken by another attempt, of which this dispatcher did not know."""
        try:
            holders = await self._addresses.journal.load(functools.partial(recovery.slots_held, names=match.slots))
        except (StoreError, Refusal, ActorError) as error:
            await self._look_into(match, error)
        else:
            self._tell_ended(match, OfferOutcome.SLOT_TAKEN, holders=holders)

    def _tell_ended(
        self, match: Match, outcome: OfferOutcome, version: int = 0, holders: tuple[Held, ...] = ()
    ) -> None:
        ended = to_dispatcher.OfferEnded(
            task_id=match.task.task_id,
            agent_id=match.agent.agent_id,
            outcome=outcome,
            version=version,
            incarnation=self.context.incarnation,
            holders=holders,
        )
        self.context.ref.tell(ended)

    async def _ask_where_they_stand(self, match: Match) -> None:
        """Have the run and the agent check their rows; an actor that is being replaced does so by itself.

        The agent is asked after the run has answered, because the run then has handled the offer in its mailbox.
        """
        with contextlib.suppress(ActorStopped):
            await self._until_answered(match.task.session_id)
        with contextlib.suppress(ActorStopped):
            await self._addresses.agent(match.agent.agent_id).send(to_agent.AnnounceAgent())

    async def _until_answered(self, session_id: str) -> None:
        while True:
            try:
                await self._addresses.session(session_id).ask(to_session.AnnounceSession())
            except (AskTimeout, ActorFailed, ActorRestarted, StoreError, Refusal):
                await trio.sleep(self._postponement_s())
            else:
                return

    def _steady(self) -> float:
        """Return the time of trio's clock, which setting the wall clock does not affect."""
        return trio.current_time()

    def _postponement_s(self) -> float:
        return POSTPONE_S * (0.5 + self.context.clock.random.random())
