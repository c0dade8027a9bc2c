"""The base of an agent's actor: the state that it keeps, how it decides and commits, and whom it tells."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
import trio

from opscore.actors.actor import Actor
from opscore.actors.message import Message
from opscore.actors.ref import Reply
from opscore.actors.timers import Timer
from opscore.runtime import delivery
from opscore.runtime.agents import leases, registration
from opscore.runtime.agents.agent_rows import KEEP, NO_DATA, AgentChange, AgentRows, Keep
from opscore.runtime.agents.availability import announcement, available, fresh_s, is_suspected
from opscore.runtime.agents.courier import Courier
from opscore.runtime.errors import (
    AgentNotFound,
    CommitUnanswered,
    NotReady,
    Refusal,
    StaleAttempt,
    StoreError,
    Superseded,
)
from opscore.runtime.evolving import evolve
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_agent, to_dispatcher, to_session, to_timers
from opscore.runtime.messages.addresses import Addresses, hint
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.protocols import AgentProtocol
from opscore.runtime.models import STATE_IDLE, Agent, Assignment, Granted
from opscore.runtime.store import ABSENT

ResultT = TypeVar("ResultT")

DECISIONS_MAX: Final = 8
"""How often one message is decided anew because a row was changed meanwhile."""
RECHECK_S: Final = 5.0
"""How long after a crash the actor looks again for a commit that the former incarnation left under way."""
AGAIN_S: Final = 1.0
"""How long to wait before trying again what the store could not take."""


@attrs.frozen(kw_only=True)
class WaitingClaim:
    """A claimer that waits for a task."""

    message: to_agent.Claim
    reply: Reply[Granted | None]
    timer: Timer


class AgentStanding(Actor[AgentProtocol]):
    """The state of an agent's actor, and what its handlers share.

    Args:
        agent_id: the id of the agent, which need not be registered yet.
        addresses: where the other actors are.
        courier: delivers attempts.
        limits: the node's limits.
    """

    def __init__(self, agent_id: str, *, addresses: Addresses, courier: Courier, limits: Limits) -> None:
        self._agent_id = agent_id
        self._addresses = addresses
        self._courier = courier
        self._limits = limits
        self._claim: WaitingClaim | None = None
        # Claims that a later claim has displaced. They wait until their time is over: if each were answered as soon as
        # the next one came, two workers under one id would displace each other without end.
        self._displaced: dict[str, WaitingClaim] = {}
        self._assignment: Assignment | None = None
        # A former incarnation may have announced that the agent is available, or that it has a lease.
        self._announced = True
        self._said_leased = True
        self._decisions = 0
        self._decisions_seen = 0
        self._looks_again = False

    async def on_start(self) -> None:
        """Read the rows; after a crash, continue what the former incarnation was doing."""
        self._rows = AgentRows(self._agent_id, self._addresses, self.context.clock)
        await self._rows.reload()
        self.context.tell_after(self._limits.passivate_s, to_agent.AgentQuiet())
        if self.context.incarnation > 1:
            self._announce()
            # By timers, because a full mailbox must not keep the actor from starting.
            self.context.tell_after(0.0, to_agent.Recheck())
            self.context.tell_after(RECHECK_S, to_agent.Recheck())

    async def on_stop(self) -> None:
        """Let no claimer wait for an actor that is gone."""
        self._drop_claim()
        for ticket in list(self._displaced):
            self._end_displaced(ticket)

    async def _decided(self, decide: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Decide on the rows, reloading and deciding again if one was changed meanwhile; then announce the agent."""
        self._decisions += 1
        for _ in range(DECISIONS_MAX):
            try:
                result = await decide()
            except Superseded:
                await self._rows.reload()
            except AgentNotFound:
                self._stop_if_quiet()
                raise
            except CommitUnanswered:
                # It may still be committed, and then no one but this actor acts on it.
                self._look_again()
                raise
            else:
                await self._serve_waiting_claim()
                self._announce()
                if self._rows.agent is None:
                    self._stop_if_quiet()
                return result
        raise NotReady(f"agent {self._agent_id!r} changes faster than its messages can be decided", retry_after_s=1.0)

    async def _told(self, message: Message[AgentProtocol, None], decide: Callable[[], Awaitable[None]]) -> None:
        """Decide on a message that no one waits for; if the store can't take it now, the message comes again."""
        try:
            await self._decided(decide)
        except (StoreError, Refusal):
            if isinstance(message, to_agent.Recheck):
                self._look_again()
            elif isinstance(message, to_agent.LeaseDue):
                # By the timers, which keep one time for each agent, so that several causes add no further messages.
                again = to_timers.ArmLease(agent_id=self._agent_id, due_at=self._now() + AGAIN_S)
                hint(self._addresses.timers, again)
            else:
                self.context.tell_after(AGAIN_S, message)
            raise

    def _look_again(self) -> None:
        if not self._looks_again:
            self._looks_again = True
            self.context.tell_after(AGAIN_S, to_agent.Recheck())

    def _stop_if_quiet(self) -> bool:
        """Stop if no message waits, and the outcome of every commit is known."""
        return not self._looks_again and self.context.stop_if_quiet()

    async def _serve_waiting_claim(self) -> None:
        """Make the agent idle if its lease is over and a claim of it waits."""
        agent = self._rows.agent
        if self._claim is None or agent is None or self._rows.lease is not None:
            return
        try:
            await self._become_idle(agent)
        except (Superseded, StoreError, Refusal) as error:
            # The decision before this one is committed, whatever becomes of the claim.
            self.context.log.info("the waiting claim is served later: %s", error)
            self.context.tell_after(0.0 if isinstance(error, Superseded) else AGAIN_S, to_agent.Recheck())

    def _runs_here(self, lease: Lease) -> bool:
        """Whether a local function of this process is running the attempt, which is a sign of life in itself."""
        return self._courier.runs(lease.task_id, lease.attempt)

    def _in_hand(self, lease: Lease) -> Lease:
        """Note in the lease whether a local function has the attempt, which can be seen only while it runs."""
        return lease if lease.function is not None else evolve(lease, function=self._runs_here(lease))

    async def _show_life(self, before: Lease, after: Lease, *, agent: AgentChange) -> None:
        """Renew the lease; the first sign of life also starts the task."""
        if leases.shows_life(before):
            await self._rows.commit("agent.renewed", agent=agent, lease=after)
        else:
            await self._rows.settle(to_session.Started(), "agent.started", agent=agent, lease=after)
        self._arm(after)

    async def _end(
        self,
        outcome: delivery.Judgement,
        kind: str,
        *,
        agent: AgentChange = KEEP,
        data: Mapping[str, Any] = NO_DATA,
        goes_on: bool = False,
    ) -> None:
        """End the attempt and the lease in one commit with the session's part.

        With `goes_on`, for an attempt that its agent ended, the same commit may grant the agent a task that became
        ready.
        """
        assert not isinstance(outcome, delivery.Delivered | delivery.Unknown), "these end nothing"
        lease = self._rows.lease
        assert lease is not None, "an attempt ends under its lease"
        was_lost = isinstance(outcome, delivery.Lost)
        if lease.tool:
            outcome = delivery.judge_call(outcome, idempotent=lease.idempotent)
            assert not isinstance(outcome, delivery.Delivered | delivery.Unknown), "what is unknown is a failure"
        ended = isinstance(outcome, delivery.Completed | delivery.Failed)
        free = self._free_after(agent) if goes_on and ended else None
        try:
            await self._rows.settle(outcome, kind, agent=agent, data=data, free=free)
        except StaleAttempt as error:
            # The run was cancelled, or ended the attempt, before this agent could be told: that is normal.
            self.context.log.info("the lease ends, because its attempt is over already: %s", error)
            await self._rows.commit(kind, agent=agent, lease=None)
        if isinstance(outcome, delivery.Lost | delivery.Undelivered):
            self.context.log.info(
                "attempt %d of task %s goes back to the queue: %s", lease.attempt, lease.task_id, outcome.reason
            )
        self._assignment = None
        if self._rows.lease is None:
            hint(self._addresses.timers, to_timers.DisarmLease(agent_id=self._agent_id))
        if was_lost:
            # Otherwise a local function would still be at work when its agent is given the next task.
            self._courier.cancel(lease.task_id, lease.attempt)

    def _free_after(self, change: AgentChange) -> AgentAvailable | None:
        """Return the agent's availability once its lease is over; None if slots or a claim have to be handled first."""
        agent = self._rows.agent if isinstance(change, Keep) else change
        lease = self._rows.lease
        if agent is None or self._claim is not None or (lease is not None and lease.slots):
            return None
        free = self._as_free(agent, leased=False)
        # If the row changes in the same commit, that commit determines its version.
        return free if free is None or isinstance(change, Keep) else evolve(free, version=ABSENT)

    def _as_free(self, agent: Agent, *, leased: bool) -> AgentAvailable | None:
        """Return the message that tells the dispatcher of the agent, or None if it can't be given work."""
        claims, limits, now = self._claim is not None, self._limits, self._now()
        reachable = claims or self._courier.reaches(agent)
        silent_s = self._rows.silence_s(agent, now)
        may_work = available(
            agent, leased=leased, reachable=reachable, claims=claims, now=now, silent_s=silent_s, limits=limits
        )
        if not may_work:
            return None
        fresh_until = trio.current_time() + fresh_s(agent, silent_s, limits)
        return announcement(agent, self._rows.agent_version, self._rows.as_of, fresh_until=fresh_until, claims=claims)

    def _announce(self) -> None:
        agent = self._rows.agent
        leased = self._rows.lease is not None
        said = None if agent is None else self._as_free(agent, leased=leased)
        if said is not None:
            hint(self._addresses.dispatcher, said)
            self._announced = True
        elif self._announced or (self._said_leased and not leased):
            gone = to_dispatcher.AgentUnavailable(agent_id=self._agent_id, as_of=self._rows.as_of, leased=leased)
            hint(self._addresses.dispatcher, gone)
            self._announced = False
        self._said_leased = leased
        if agent is not None and is_suspected(agent, self._now()):
            # Armed whenever the rows say so, because the actor that wrote them may have crashed before it armed this.
            arm = to_timers.ArmSuspicion(agent_id=self._agent_id, due_at=agent.suspected_until)
            hint(self._addresses.timers, arm)

    def _arm(self, lease: Lease) -> None:
        hint(self._addresses.timers, to_timers.ArmLease(agent_id=self._agent_id, due_at=lease.due_at))

    def _now(self) -> float:
        return self.context.clock.now()

    def _displace_claim(self) -> None:
        if self._claim is not None:
            self._displaced[self._claim.message.ticket] = self._claim
            self._claim = None

    def _end_displaced(self, ticket: str) -> None:
        displaced = self._displaced.pop(ticket, None)
        if displaced is not None:
            displaced.timer.cancel()
            displaced.reply.set(None)

    def _drop_claim(self) -> None:
        if self._claim is not None:
            self._claim.timer.cancel()
            self._claim.reply.set(None)
            self._claim = None

    async def _become_idle(self, agent: Agent) -> None:
        if agent.state != STATE_IDLE or agent.suspected_until > 0.0 or self._limits.agent_ttl_s:
            await self._rows.commit("agent.claimed", agent=registration.claimed(agent, self._now()))
