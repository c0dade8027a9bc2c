"""An agent's actor: it owns the agent's row and its lease, and turns messages into commits.

Every decision is made on rows of known version and submitted with those versions as preconditions. If one no longer
holds, the actor reloads and decides again. The end of an attempt is committed by the session's actor, together with
this actor's part, because agent, lease, task and session must change in one submission.
"""

from typing import Final

from opscore.actors.actor import handles
from opscore.actors.ref import Reply
from opscore.runtime import delivery
from opscore.runtime.agents import leases, registration, reports
from opscore.runtime.agents.agent_deliveries import AgentDeliveries, is_about
from opscore.runtime.agents.agent_rows import KEEP
from opscore.runtime.agents.agent_standing import WaitingClaim
from opscore.runtime.errors import CommitUnanswered, StaleAttempt
from opscore.runtime.evolving import evolve
from opscore.runtime.lease import Lease
from opscore.runtime.messages import to_agent
from opscore.runtime.models import STATE_IDLE, Agent, Granted
from opscore.runtime.values import checked

CLAIM_WAIT_S_MIN: Final = 0.25
"""The least wait of a claim, which leaves the dispatcher time to make an offer."""


class AgentActor(AgentDeliveries):
    """The actor of one agent."""

    # --- messages from the agent and its operators --------------------------------------------------------

    @handles(to_agent.Register)
    async def register(self, message: to_agent.Register) -> Agent:
        """Register the agent, or register it again."""

        async def decide() -> Agent:
            before, given = self._rows.agent, message.registration
            if before is not None and (
                message.by_report or (message.listed and not registration.is_news(before, given))
            ):
                return before
            agent = registration.registered(before, given, self._now(), by_report=message.by_report)
            # An attempt that a function has stays that function's, whatever kind of agent the id is from now on.
            lease = self._rows.lease
            noted = self._in_hand(lease) if lease is not None and self._runs_here(lease) else KEEP
            try:
                await self._rows.commit("agent.registered", agent=agent, lease=noted, data={"source": agent.source})
            except CommitUnanswered:
                # The registration may still be committed, and the agent must not be without its function then.
                message.attach()
                raise
            message.attach()
            return agent

        return await self._decided(decide)

    @handles(to_agent.Deregister)
    async def deregister(self, message: to_agent.Deregister) -> bool:
        """Forget the agent; an attempt that it holds is lost."""

        async def decide() -> bool:
            if message.source not in (None, self._rows.known_agent().source):
                return False
            if self._rows.lease is None:
                await self._rows.commit("agent.deregistered", agent=None)
            else:
                await self._end(delivery.Lost(reason="the agent was deregistered"), "agent.deregistered", agent=None)
            message.detach()
            return True

        gone = await self._decided(decide)
        if gone:
            self._drop_claim()
        return gone

    @handles(to_agent.Report)
    async def report(self, message: to_agent.Report) -> bool:
        """Apply a state report; return `False` if it is older than the newest."""
        return await self._decided(lambda: self._report(message))

    async def _report(self, message: to_agent.Report) -> bool:
        agent, now = self._rows.known_agent(), self._now()
        stamp, is_new = registration.accepted_stamp(agent, message.timestamp, now, self._limits)
        if not is_new:
            await self._rows.commit("agent.report_stale", data={"state": message.state, "timestamp": stamp})
            return False
        newer = registration.reported(agent, message.state, message.details, stamp, now)
        lease = self._rows.lease
        meaning = reports.Nothing() if lease is None else self._meaning(message, lease)
        if lease is not None and lease.revoked:
            over = reports.lets_go(message.state, message.details, lease)
            rest = None if over else KEEP
            await self._rows.commit("agent.reported", agent=newer, lease=rest, data={"state": message.state})
        elif lease is None or isinstance(meaning, reports.Nothing) or self._answer_may_say_more(newer, lease):
            await self._rows.commit("agent.reported", agent=newer, data={"state": message.state})
        elif isinstance(meaning, reports.Alive):
            await self._show_life(lease, self._in_hand(leases.renewed(lease, now, active=True)), agent=newer)
        else:
            said, data = checked(meaning, self._limits), {"state": message.state}
            await self._end(said, "agent.reported", agent=newer, data=data, goes_on=True)
        if message.state != STATE_IDLE and self._rows.lease is None:
            # The claim reported the agent as idle, and this report contradicts that.
            self._drop_claim()
        return True

    def _meaning(self, message: to_agent.Report, lease: Lease) -> reports.Meaning:
        """Decide what a report means for the attempt. It can be about it only if that was handed over, or is named."""
        handed = lease.delivered or self._courier.carries(lease.task_id, lease.attempt)
        if handed or (message.details or {}).get("opscore_task_id") == lease.task_id:
            return reports.meaning(message.state, message.details, lease)
        return reports.meaning_before_handed(message.state)

    def _answer_may_say_more(self, agent: Agent, lease: Lease) -> bool:
        """Whether the agent reports the end without a result, and the answer to the push may still bring one."""
        unanswered = self._courier.carries(lease.task_id, lease.attempt) and not self._runs_here(lease)
        return unanswered and "result" not in (agent.details or {}) and reports.done(agent, lease) is not None

    @handles(to_agent.SetCordon)
    async def set_cordon(self, message: to_agent.SetCordon) -> Agent:
        """Take the agent out of dispatch, or put it back."""

        async def decide() -> Agent:
            agent = evolve(self._rows.known_agent(), cordoned=message.cordoned)
            await self._rows.commit("agent.cordoned" if message.cordoned else "agent.uncordoned", agent=agent)
            return agent

        return await self._decided(decide)

    @handles(to_agent.Heartbeat)
    async def heartbeat(self, message: to_agent.Heartbeat) -> Lease:
        """Renew the lease."""

        async def decide() -> Lease:
            held = await self._held(message)
            lease = self._in_hand(leases.renewed(held, self._now(), heartbeat=True, progress=message.progress))
            await self._show_life(held, lease, agent=KEEP)
            return lease

        return await self._decided(decide)

    @handles(to_agent.Finish)
    async def finish(self, message: to_agent.Finish) -> None:
        """End the attempt that the message names."""

        async def decide() -> None:
            try:
                await self._held(message)
            except StaleAttempt:
                lease = self._rows.lease
                if lease is not None and lease.revoked and is_about(lease, message):
                    # The outcome of a revoked attempt is refused, but the agent is done with it and becomes free.
                    await self._rows.commit("agent.finished", lease=None)
                    self._announce()
                raise
            await self._end(message.outcome, "agent.finished", goes_on=True)

        await self._decided(decide)

    async def _held(self, message: to_agent.Heartbeat | to_agent.Finish) -> Lease:
        """Return the lease on this attempt. Before the message is refused, the rows are read again, which may be newer.

        Raises:
            StaleAttempt: the agent does not hold it.
        """
        try:
            return self._rows.held(message.task_id, message.attempt)
        except StaleAttempt:
            await self._rows.reload()
            return self._rows.held(message.task_id, message.attempt)

    # --- claims -------------------------------------------------------------------------------------------

    @handles(to_agent.Claim)
    async def claim(self, message: to_agent.Claim) -> Granted | Reply[Granted | None] | None:
        """Wait for a task; a repeated claim gets the same attempt again."""
        self._displace_claim()

        async def decide() -> Granted | None:
            agent = self._rows.known_agent()
            lease = self._rows.lease
            if lease is not None and lease.revoked:
                # An agent that claims is done with the attempt that was taken back from it.
                await self._rows.commit("agent.released", lease=None)
                lease = None
            if lease is None:
                await self._become_idle(agent)
                return None
            if leases.claimable(lease, message.claim_id) and not self._courier.carries(lease.task_id, lease.attempt):
                return await self._hand_to_claimer(lease, message)
            return None

        granted = await self._decided(decide)
        if granted is not None:
            return granted
        return self._wait_for_task(message)

    def _wait_for_task(self, message: to_agent.Claim) -> Reply[Granted | None]:
        wait_s = min(max(message.wait_s, CLAIM_WAIT_S_MIN), self._limits.claim_wait_s_max)
        timer = self.context.tell_after(wait_s, to_agent.ClaimWaitOver(ticket=message.ticket))
        reply: Reply[Granted | None] = self.context.defer()
        self._claim = WaitingClaim(message=message, reply=reply, timer=timer)
        self._announce()
        return reply

    @handles(to_agent.ClaimWaitOver)
    async def claim_wait_over(self, message: to_agent.ClaimWaitOver) -> None:
        """Answer a claim that waited in vain."""
        self._end_displaced(message.ticket)
        if self._claim is not None and self._claim.message.ticket == message.ticket:
            self._drop_claim()
            self._announce()

    @handles(to_agent.AbandonClaim)
    async def abandon_claim(self, message: to_agent.AbandonClaim) -> None:
        """End the wait of a claimer that went away; a task that it was just handed goes back at once."""
        self._end_displaced(message.ticket)
        if self._claim is not None and self._claim.message.ticket == message.ticket:
            self._drop_claim()

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and lease.claim_ticket == message.ticket and not leases.shows_life(lease):
                await self._end(delivery.Undelivered(reason="the claimer went away"), "agent.claim_abandoned")

        await self._told(message, decide)

    # --- itself -------------------------------------------------------------------------------------------

    @handles(to_agent.Recheck)
    async def recheck(self, message: to_agent.Recheck) -> None:
        """Read the rows again, and do what they say is left to do."""
        self._looks_again = False
        await self._told(message, self._taken_up)

    @handles(to_agent.AgentQuiet)
    async def quiet(self, message: to_agent.AgentQuiet) -> None:
        """Passivate an agent that neither works nor waits: its rows hold everything."""
        spoken_to, self._decisions_seen = self._decisions != self._decisions_seen, self._decisions
        busy = self._rows.lease is not None or self._claim is not None or self._displaced
        if spoken_to or busy or not self._stop_if_quiet():
            self.context.tell_after(self._limits.quiet_s, message)

    @handles(to_agent.AnnounceAgent)
    async def announce(self, message: to_agent.AnnounceAgent) -> None:
        """Tell the dispatcher of the agent's state; an offer with an unknown outcome may have left a lease."""
        await self._told(message, self._taken_up)
