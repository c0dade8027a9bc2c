"""An agent's actor: it owns the agent's row and its lease, and turns what it hears into commits.

Every decision is made on rows of known version and submitted with those versions as preconditions; when one no
longer holds, the actor reloads and decides again. What ends an attempt is committed by the session's actor,
together with this actor's part, because agent, lease, task and session must change in one submission.
"""

from typing import Final

import attrs

from opscore.actors.actor import handles
from opscore.actors.ref import Reply
from opscore.runtime import delivery, leases, messages, registration, registration_messages, reports, timer_messages
from opscore.runtime.addresses import hint
from opscore.runtime.agent_rows import KEEP
from opscore.runtime.agent_standing import AgentStanding, WaitingClaim
from opscore.runtime.errors import NotReady, StaleAttempt
from opscore.runtime.models import STATE_IDLE, Agent, AgentSource, Assignment, Failure, Granted, Lease
from opscore.runtime.values import checked

CLAIM_WAIT_S_MIN: Final = 0.25
"""A claim that waits for nothing still leaves the dispatcher time to answer."""


class AgentActor(AgentStanding):
    """One agent."""

    # --- what the agent and its operators say -------------------------------------------------------------

    @handles(registration_messages.Register)
    async def register(self, message: registration_messages.Register) -> Agent:
        """Register the agent, or register it again."""

        async def decide() -> Agent:
            before = self._rows.agent
            if message.listed and before is not None and not registration.is_news(before, message.registration):
                return before
            agent = registration.registered(before, message.registration, self._now())
            await self._rows.commit("agent.registered", agent=agent, data={"source": agent.source})
            return agent

        return await self._decided(decide)

    @handles(registration_messages.Deregister)
    async def deregister(self, message: registration_messages.Deregister) -> bool:
        """Forget the agent; an attempt that it holds is lost."""

        async def decide() -> bool:
            if message.source not in (None, self._rows.known_agent().source):
                return False
            if self._rows.lease is None:
                await self._rows.commit("agent.deregistered", agent=None)
            else:
                await self._end(delivery.Lost(reason="the agent was deregistered"), "agent.deregistered", agent=None)
            return True

        gone = await self._decided(decide)
        if gone:
            self._drop_claim()
        return gone

    @handles(messages.Report)
    async def report(self, message: messages.Report) -> bool:
        """Take in a state report; `False` when it is older than the newest."""
        return await self._decided(lambda: self._report(message))

    async def _report(self, message: messages.Report) -> bool:
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
        elif lease is None or isinstance(meaning, reports.Nothing):
            await self._rows.commit("agent.reported", agent=newer, data={"state": message.state})
        elif isinstance(meaning, reports.Alive):
            await self._show_life(lease, leases.renewed(lease, now, active=True), agent=newer)
        else:
            said, data = checked(meaning, self._limits), {"state": message.state}
            await self._end(said, "agent.reported", agent=newer, data=data, goes_on=True)
        if message.state != STATE_IDLE and self._rows.lease is None:
            # Claiming said that the agent is idle; now it says something else.
            self._drop_claim()
        return True

    def _meaning(self, message: messages.Report, lease: Lease) -> reports.Meaning:
        """What the report says of the attempt: nothing, as long as that has not been handed over or named."""
        handed = lease.delivered or self._courier.carries(lease.task_id, lease.attempt)
        if handed or (message.details or {}).get("opscore_task_id") == lease.task_id:
            return reports.meaning(message.state, message.details, lease)
        return reports.meaning_before_handed(message.state)

    @handles(messages.SetCordon)
    async def set_cordon(self, message: messages.SetCordon) -> Agent:
        """Take the agent out of dispatch, or put it back."""

        async def decide() -> Agent:
            agent = attrs.evolve(self._rows.known_agent(), cordoned=message.cordoned)
            await self._rows.commit("agent.cordoned" if message.cordoned else "agent.uncordoned", agent=agent)
            return agent

        return await self._decided(decide)

    @handles(messages.Heartbeat)
    async def heartbeat(self, message: messages.Heartbeat) -> Lease:
        """Renew the lease."""

        async def decide() -> Lease:
            held = await self._held(message)
            lease = leases.renewed(held, self._now(), heartbeat=True, progress=message.progress)
            await self._show_life(held, lease, agent=KEEP)
            return lease

        return await self._decided(decide)

    @handles(messages.Finish)
    async def finish(self, message: messages.Finish) -> None:
        """End the attempt by name."""

        async def decide() -> None:
            try:
                await self._held(message)
            except StaleAttempt:
                lease = self._rows.lease
                if lease is not None and lease.revoked and _is(lease, message):
                    # What it says of an attempt that was taken back is refused; that it is done with it counts.
                    await self._rows.commit("agent.finished", lease=None)
                    self._announce()
                raise
            await self._end(message.outcome, "agent.finished", goes_on=True)

        await self._decided(decide)

    async def _held(self, message: messages.Heartbeat | messages.Finish) -> Lease:
        """The lease on this very attempt; before it is refused the rows are read again, where it may stand already."""
        try:
            return self._rows.held(message.task_id, message.attempt)
        except StaleAttempt:
            await self._rows.reload()
            return self._rows.held(message.task_id, message.attempt)

    # --- claims -------------------------------------------------------------------------------------------

    @handles(messages.Claim)
    async def claim(self, message: messages.Claim) -> Granted | Reply[Granted | None] | None:
        """Wait for a task; a claim that asks again gets the same attempt again."""
        self._displace_claim()

        async def decide() -> Granted | None:
            agent = self._rows.known_agent()
            lease = self._rows.lease
            if lease is not None and lease.revoked:
                # Who asks for work is done with what was taken back.
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

    def _wait_for_task(self, message: messages.Claim) -> Reply[Granted | None]:
        wait_s = min(max(message.wait_s, CLAIM_WAIT_S_MIN), self._limits.claim_wait_s_max)
        timer = self.context.tell_after(wait_s, messages.ClaimWaitOver(ticket=message.ticket))
        reply: Reply[Granted | None] = self.context.defer()
        self._claim = WaitingClaim(message=message, reply=reply, timer=timer)
        self._announce()
        return reply

    @handles(messages.ClaimWaitOver)
    async def claim_wait_over(self, message: messages.ClaimWaitOver) -> None:
        """Answer a claim that waited in vain."""
        self._end_displaced(message.ticket)
        if self._claim is not None and self._claim.message.ticket == message.ticket:
            self._drop_claim()
            self._announce()

    @handles(messages.AbandonClaim)
    async def abandon_claim(self, message: messages.AbandonClaim) -> None:
        """The claimer went away: it waits no longer, and what it was just handed goes back at once."""
        self._end_displaced(message.ticket)
        if self._claim is not None and self._claim.message.ticket == message.ticket:
            self._drop_claim()

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and lease.claim_ticket == message.ticket and not leases.shows_life(lease):
                await self._end(delivery.Undelivered(reason="the claimer went away"), "agent.claim_abandoned")

        await self._told(message, decide)

    async def _hand_to_claimer(self, lease: Lease, claim: messages.Claim) -> Granted:
        handed = attrs.evolve(lease, delivered=True, claim_id=claim.claim_id, claim_ticket=claim.ticket)
        if handed != lease:
            await self._rows.commit("agent.handed", lease=handed)
        return Granted(assignment=await self._described(handed), lease=handed)

    # --- deliveries ---------------------------------------------------------------------------------------

    @handles(messages.LeaseGranted)
    async def lease_granted(self, message: messages.LeaseGranted) -> None:
        """Deliver what a session has just committed to this agent."""
        self._assignment = message.assignment
        self._announced = False
        accepted = self._rows.accept(message.lease, message.version)
        await self._told(message, self._hand_over if accepted else self._taken_up)

    async def _hand_over(self) -> None:
        """Deliver the lease's attempt, unless that is done or under way: to the claim that waits, else by courier."""
        agent, lease = self._rows.agent, self._rows.lease
        if agent is None or lease is None:
            return
        if lease.revoked:
            await self._release(lease)
            return
        self._arm(lease)
        if lease.delivered or self._courier.carries(lease.task_id, lease.attempt):
            return
        if self._claim is not None:
            granted = await self._hand_to_claimer(lease, self._claim.message)
            self._claim.timer.cancel()
            self._claim.reply.set(granted)
            self._claim = None
        elif self._courier.reaches(agent):
            assignment = await self._described(lease)
            if lease.tool:
                # Before it is sent: a call that may have been made is never made again by itself.
                await self._rows.commit("agent.handed", lease=attrs.evolve(lease, delivered=True))
            self._courier.start(assignment, agent)
        else:
            grace = messages.ClaimGraceOver(task_id=lease.task_id, attempt=lease.attempt)
            self.context.tell_after(self._limits.claim_grace_s, grace)

    async def _release(self, lease: Lease) -> None:
        """Let go of an attempt that was taken back: a local function is stopped, a remote agent may be busy with it."""
        runs_here, carried = self._runs_here(lease), self._courier.carries(lease.task_id, lease.attempt)
        if runs_here:
            self._courier.cancel(lease.task_id, lease.attempt)
        if runs_here or not (lease.delivered or carried):
            await self._rows.commit("agent.released", lease=None)
            self._assignment = None
            hint(self._addresses.timers, timer_messages.DisarmLease(agent_id=self._agent_id))
        else:
            self._arm(lease)

    async def _taken_up(self) -> None:
        """Read the rows behind every commit that is under way, and do what they say is left to do."""
        await self._rows.reload()
        await self._hand_over()

    async def _described(self, lease: Lease) -> Assignment:
        known = self._assignment
        if known is None or not _is(lease, known):
            describe = messages.Describe(task_id=lease.task_id)
            known = self._assignment = await self._addresses.session(lease.session_id).ask(describe)
        if not _is(lease, known):
            raise NotReady(f"the run of task {lease.task_id!r} does not know of its attempt yet", retry_after_s=1.0)
        return known

    @handles(messages.ClaimGraceOver)
    async def claim_grace_over(self, message: messages.ClaimGraceOver) -> None:
        """Put a task back that no claimer came for."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and _is(lease, message) and not lease.delivered:
                await self._end(delivery.Undelivered(reason="no claimer came for it"), "agent.claim_missed")

        await self._told(message, decide)

    @handles(messages.DeliveryEnded)
    async def delivery_ended(self, message: messages.DeliveryEnded) -> None:
        """Act on what came of a delivery; one of a past attempt changes nothing."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and _is(lease, message):
                meant = delivery.judge_answer(message.fact, tool=lease.tool, idempotent=lease.idempotent)
                await self._judged(lease, checked(meant, self._limits))

        await self._decided(decide)

    async def _judged(self, lease: Lease, judgement: delivery.Judgement) -> None:
        now = self._now()
        match judgement:
            case delivery.Delivered():
                if not lease.delivered:
                    await self._rows.commit("agent.delivered", lease=attrs.evolve(lease, delivered=True))
            case delivery.Unknown(reason=reason):
                cut = leases.cut_short(lease, now, self._limits)
                await self._rows.commit("agent.delivery_unknown", lease=cut, data={"reason": reason})
                self._arm(cut)
            case delivery.Undelivered(reason=reason, retry_after_s=retry_after_s):
                agent = registration.suspected(self._rows.known_agent(), now, self.context.clock.random, retry_after_s)
                await self._end(judgement, "agent.suspected", agent=agent, data={"reason": reason})
            case _:
                await self._end(judgement, "agent.delivered", goes_on=True)

    # --- time ---------------------------------------------------------------------------------------------

    @handles(messages.LeaseDue)
    async def lease_due(self, message: messages.LeaseDue) -> None:
        """End an attempt whose time is over: too long altogether is a failure, silence is a loss."""

        async def decide() -> None:
            await self._rows.reload()
            await self._end_overdue()

        await self._told(message, decide)

    async def _end_overdue(self) -> None:
        lease, now = self._rows.lease, self._now()
        if lease is None:
            return
        if lease.revoked and (now < lease.due_at or self._runs_here(lease)):
            await self._release(lease)
        elif now >= lease.timeout_at:
            late = _cut_off(lease, f"attempt {lease.attempt} took longer than its timeout", delivery.TIMEOUT)
            await self._end(late, "agent.timed_out")
        elif lease.silent_at is not None and now >= lease.silent_at:
            silent = _cut_off(lease, f"its agent was silent for {lease.heartbeat_s:g} s", "heartbeat_timeout")
            await self._end(silent, "agent.fell_silent")
        elif now < lease.expires_at:
            await self._hand_over()
        elif self._runs_here(lease) or (lease.tool and self._courier.carries(lease.task_id, lease.attempt)):
            lease = leases.prolonged(lease, now)
            await self._rows.commit("agent.renewed", lease=lease)
            self._arm(lease)
        else:
            agent = registration.suspected(self._rows.known_agent(), now, self.context.clock.random)
            await self._end(delivery.Lost(reason="its lease expired in silence"), "agent.lease_expired", agent=agent)
        if self._rows.lease is None:
            self._courier.cancel(lease.task_id, lease.attempt)

    def _runs_here(self, lease: Lease) -> bool:
        """Whether the attempt is a local function that this process is running: that is life enough for its lease."""
        agent = self._rows.agent
        return (
            agent is not None
            and agent.source is AgentSource.LOCAL
            and self._courier.carries(lease.task_id, lease.attempt)
        )

    @handles(messages.SuspicionDue)
    async def suspicion_due(self, _: messages.SuspicionDue) -> None:
        """Try the agent again."""
        self._announce()

    @handles(messages.Resume)
    async def resume(self, message: messages.Resume) -> None:
        """The node was away: a local function died with it; a remote agent gets a full lease to speak."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is None:
                return
            agent = self._rows.agent
            if agent is None or agent.source is AgentSource.LOCAL:
                await self._end(delivery.Lost(reason="the process that ran it ended"), "agent.resumed")
            else:
                await self._rows.commit("agent.resumed", lease=leases.resumed(lease, self._now(), self._limits))
                await self._hand_over()

        await self._told(message, decide)

    @handles(messages.StoodStill)
    async def stood_still(self, message: messages.StoodStill) -> None:
        """Let nobody lose an attempt for a time in which nobody could speak."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None:
                later = leases.put_off(lease, message.seconds, message.since_s, self._now())
                await self._rows.commit("agent.resumed", lease=later)
                self._arm(later)

        await self._told(message, decide)

    @handles(messages.Recheck)
    async def recheck(self, message: messages.Recheck) -> None:
        """Look at the rows again, and take up what they say is left to do."""
        self._looks_again = False
        await self._told(message, self._taken_up)

    @handles(messages.AgentQuiet)
    async def quiet(self, message: messages.AgentQuiet) -> None:
        """Passivate an agent that neither works nor waits: its rows say everything."""
        spoken_to, self._decisions_seen = self._decisions != self._decisions_seen, self._decisions
        busy = self._rows.lease is not None or self._claim is not None or self._displaced
        if spoken_to or busy or not self._stop_if_quiet():
            self.context.tell_after(self._limits.passivate_s, message)

    @handles(messages.AnnounceAgent)
    async def announce(self, message: messages.AnnounceAgent) -> None:
        """Tell the dispatcher where the agent stands; an offer that ended unknown may have left a lease."""
        await self._told(message, self._taken_up)


def _is(lease: Lease, about: Assignment | messages.DeliveryEnded | messages.ClaimGraceOver | messages.Finish) -> bool:
    return (lease.task_id, lease.attempt) == (about.task_id, about.attempt)


def _cut_off(lease: Lease, why: str, code: str) -> delivery.Judgement:
    """What the end of an attempt's time means: of a tool that was handed over nobody knows whether it was called."""
    if lease.tool and lease.delivered:
        return delivery.judge_call(delivery.Unknown(reason=why), idempotent=lease.idempotent)
    return delivery.Failed(error=Failure(message=why, code=code))
