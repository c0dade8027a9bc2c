"""The part of an agent's actor that delivers attempts, acts on the outcome of deliveries, and enforces deadlines."""

from typing import Final

import trio

from opscore.actors.actor import handles
from opscore.runtime import delivery
from opscore.runtime.agents import leases, registration, reports
from opscore.runtime.agents.agent_rows import KEEP
from opscore.runtime.agents.agent_standing import DECISIONS_MAX, AgentStanding
from opscore.runtime.errors import NotReady
from opscore.runtime.evolving import evolve
from opscore.runtime.lease import Lease
from opscore.runtime.messages import to_agent, to_session, to_timers
from opscore.runtime.messages.addresses import hint
from opscore.runtime.models import AgentSource, Assignment, Failure, Granted
from opscore.runtime.values import checked

LATE_S: Final = 5.0
"""If an attempt is handed over longer than this after its grant, its times count from the handover."""


class AgentDeliveries(AgentStanding):
    """The handlers of an agent's actor that deal with its open attempt."""

    # --- to the agent -------------------------------------------------------------------------------------

    async def _hand_to_claimer(self, lease: Lease, claim: to_agent.Claim) -> Granted:
        assignment = await self._described(lease)
        lease = await self._in_time(lease)
        handed = evolve(lease, delivered=True, function=False, claim_id=claim.claim_id, claim_ticket=claim.ticket)
        if handed != lease:
            await self._rows.commit("agent.handed", lease=handed)
        return Granted(assignment=assignment, lease=handed)

    @handles(to_agent.LeaseGranted)
    async def lease_granted(self, message: to_agent.LeaseGranted) -> None:
        """Deliver the attempt that a session has just granted to this agent."""
        self._assignment = message.assignment
        self._announced = False
        accepted = self._rows.accept(message.lease, message.version)
        await self._told(message, self._hand_over if accepted else self._taken_up)

    async def _hand_over(self) -> None:
        """Deliver the lease's attempt, unless that is done or under way: to a waiting claim, or else by courier."""
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
            # Before the time is checked, because the run may be slow to answer.
            assignment = await self._described(lease)
            lease = await self._in_time(lease)
            if lease.tool:
                # Committed before it is sent, so that a call that may have been made is not repeated automatically.
                handed = evolve(lease, delivered=True, function=agent.source is AgentSource.LOCAL)
                await self._rows.commit("agent.handed", lease=handed)
            self._courier.start(assignment, agent)
        else:
            if lease.due_at <= self._now() + LATE_S:
                # A claimer may be about to come, and an attempt granted long ago would have hardly any time left.
                await self._in_time(lease)
            grace = to_agent.ClaimGraceOver(task_id=lease.task_id, attempt=lease.attempt)
            self.context.tell_after(self._limits.claim_grace_s, grace)

    async def _in_time(self, lease: Lease) -> Lease:
        """Return the lease of an attempt that is about to be handed over, with full time if it was granted long ago."""
        # The commit that gives it time may take as long as the one that granted it.
        for _ in range(DECISIONS_MAX):
            now = self._now()
            late_s = leases.late_s(lease, now)
            if lease.delivered or late_s <= LATE_S:
                break
            lease = leases.begun_late(lease, now)
            await self._rows.commit("agent.given_time", lease=lease, data={"seconds": late_s})
            self._arm(lease)
        return lease

    async def _release(self, lease: Lease) -> None:
        """End a revoked lease: a local function is stopped; a remote agent keeps it while it may be busy."""
        runs_here, carried = self._runs_here(lease), self._courier.carries(lease.task_id, lease.attempt)
        if runs_here:
            self._courier.cancel(lease.task_id, lease.attempt)
        # A function may have been stopped before, by a release that could not be committed.
        if runs_here or self._is_functions(lease) or not (lease.delivered or carried):
            await self._rows.commit("agent.released", lease=None)
            self._assignment = None
            hint(self._addresses.timers, to_timers.DisarmLease(agent_id=self._agent_id))
        else:
            self._arm(lease)

    async def _taken_up(self) -> None:
        """Read the rows after every commit that is under way, and do what they say is left to do."""
        await self._rows.reload()
        await self._hand_over()

    async def _described(self, lease: Lease) -> Assignment:
        known = self._assignment
        if known is None or not is_about(lease, known):
            describe = to_session.Describe(task_id=lease.task_id)
            known = self._assignment = await self._addresses.session(lease.session_id).ask(describe)
        if not is_about(lease, known):
            raise NotReady(f"the run of task {lease.task_id!r} does not know of its attempt yet", retry_after_s=1.0)
        return known

    @handles(to_agent.ClaimGraceOver)
    async def claim_grace_over(self, message: to_agent.ClaimGraceOver) -> None:
        """Put a task back in line that no claimer came for."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and is_about(lease, message) and not lease.delivered:
                await self._end(delivery.Undelivered(reason="no claimer came for it"), "agent.claim_missed")

        await self._told(message, decide)

    @handles(to_agent.DeliveryEnded)
    async def delivery_ended(self, message: to_agent.DeliveryEnded) -> None:
        """Act on the outcome of a delivery; that of a past attempt changes nothing."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and is_about(lease, message):
                meant = delivery.judge_answer(message.fact, tool=lease.tool, idempotent=lease.idempotent)
                said = None if delivery.tells_the_end(meant) else self._said_done(lease)
                await self._judged(lease, checked(said or meant, self._limits))

        await self._decided(decide)

    def _said_done(self, lease: Lease) -> delivery.Completed | None:
        """Return the completion that the agent's newest report proves, if it does and the lease is not revoked."""
        agent = self._rows.agent
        return None if agent is None or lease.revoked else reports.done(agent, lease)

    async def _judged(self, lease: Lease, judgement: delivery.Judgement) -> None:
        now = self._now()
        match judgement:
            case delivery.Delivered():
                if not lease.delivered:
                    await self._rows.commit("agent.delivered", lease=self._in_hand(evolve(lease, delivered=True)))
            case delivery.Unknown(reason=reason):
                cut = self._in_hand(leases.cut_short(lease, now, self._limits))
                await self._rows.commit("agent.delivery_unknown", lease=cut, data={"reason": reason})
                self._arm(cut)
            case delivery.Undelivered(reason=reason, retry_after_s=retry_after_s):
                agent = registration.suspected(self._rows.known_agent(), now, self.context.clock.random, retry_after_s)
                await self._end(judgement, "agent.suspected", agent=agent, data={"reason": reason})
            case _:
                await self._end(judgement, "agent.delivered", goes_on=True)

    # --- time ---------------------------------------------------------------------------------------------

    @handles(to_agent.LeaseDue)
    async def lease_due(self, message: to_agent.LeaseDue) -> None:
        """End an attempt whose time is over: a timeout is a failure, a lease that ends in silence a loss."""

        async def decide() -> None:
            await self._rows.reload()
            lease, now = self._rows.lease, self._now()
            if lease is None or lease.due_at <= message.at:
                await self._end_overdue()
                return
            # It was put off meanwhile.
            await self._hand_over()
            if lease.due_at <= now:
                # That time is over as well, so the node stood still: the agent gets time to be heard.
                speaks = to_timers.ArmLease(agent_id=self._agent_id, due_at=now + leases.SPEAK_S)
                hint(self._addresses.timers, speaks)

        await self._told(message, decide)

    async def _end_overdue(self) -> None:
        lease, now = self._rows.lease, self._now()
        if lease is None:
            return
        if lease.revoked and (now < lease.due_at or self._runs_here(lease)):
            await self._release(lease)
        elif now >= lease.due_at and (said := self._said_done(lease)) is not None:
            await self._end(checked(said, self._limits), "agent.finished")
        elif now >= lease.timeout_at:
            late = _timed_out(lease, f"attempt {lease.attempt} took longer than its timeout", delivery.TIMEOUT)
            await self._end(late, "agent.timed_out")
        elif lease.silent_at is not None and now >= lease.silent_at:
            silent = _timed_out(lease, f"its agent was silent for {lease.heartbeat_s:g} s", "heartbeat_timeout")
            await self._end(silent, "agent.fell_silent")
        elif now < lease.expires_at:
            await self._hand_over()
        elif self._runs_here(lease) or (lease.tool and self._courier.carries(lease.task_id, lease.attempt)):
            lease = self._in_hand(leases.prolonged(lease, now))
            await self._rows.commit("agent.renewed", lease=lease)
            self._arm(lease)
        else:
            agent = registration.suspected(self._rows.known_agent(), now, self.context.clock.random)
            await self._end(delivery.Lost(reason="its lease expired in silence"), "agent.lease_expired", agent=agent)
        if self._rows.lease is None:
            self._courier.cancel(lease.task_id, lease.attempt)

    @handles(to_agent.SuspicionDue)
    async def suspicion_due(self, _: to_agent.SuspicionDue) -> None:
        """Announce the agent again, because its suspicion may be over."""
        self._announce()

    @handles(to_agent.GiveBack)
    async def give_back(self, _: to_agent.GiveBack) -> None:
        """Put back the attempt of a local function, because the process is about to end."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is not None and self._is_functions(lease):
                stopped = delivery.Lost(reason="the process that ran it was stopped", counts=False)
                await self._end(stopped, "agent.given_back")

        await self._decided(decide)

    @handles(to_agent.Resume)
    async def resume(self, message: to_agent.Resume) -> None:
        """Act on a restart of the node: a local function ended with it; a remote agent gets a full lease."""

        async def decide() -> None:
            lease = self._rows.lease
            if lease is None:
                return
            if self._rows.agent is None or self._is_functions(lease):
                await self._end(delivery.Lost(reason="the process that ran it ended"), "agent.resumed")
            elif (said := self._said_done(lease)) is not None:
                # The answer to the push, which might have had a result, is lost with the process that waited for it.
                await self._end(checked(said, self._limits), "agent.resumed")
            else:
                await self._rows.commit("agent.resumed", lease=leases.resumed(lease, self._now(), self._limits))
                await self._hand_over()

        await self._told(message, decide)

    def _is_functions(self, lease: Lease) -> bool:
        """Whether a local function has the attempt: by the lease, by what runs here, or else by the kind of agent."""
        if lease.function is not None:
            return lease.function
        if self._courier.carries(lease.task_id, lease.attempt):
            return self._runs_here(lease)
        agent = self._rows.agent
        return agent is not None and agent.source is AgentSource.LOCAL and lease.claim_ticket is None

    @handles(to_agent.StoodStill)
    async def stood_still(self, message: to_agent.StoodStill) -> None:
        """Give the agent time to be heard, and keep a clock that was set back from prolonging its suspicion."""

        async def decide() -> None:
            rows, now = self._rows, self._now()
            lease, agent = rows.lease, rows.agent
            later = None if lease is None else self._put_off(lease, message, now)
            left_s = None if rows.suspicion_left is None else rows.suspicion_left.now_left_s()
            sooner = None if agent is None else registration.suspected_less(agent, message.seconds, now, left_s)
            if later is None and sooner is agent:
                return
            await self._rows.commit(
                "agent.given_time",
                lease=KEEP if later is None else later,
                agent=KEEP if sooner is agent else sooner,
                data={"seconds": message.seconds},
            )
            if later is not None:
                self._arm(later)

        await self._told(message, decide)

    def _put_off(self, lease: Lease, stood_still: to_agent.StoodStill, now: float) -> Lease:
        left, within_s = self._rows.attempt_left, trio.current_time() - stood_still.since
        left_s = None if left is None else left.now_left_s(stood_still.idle_s)
        return leases.put_off(lease, stood_still.seconds, now, left_s=left_s, within_s=within_s)


def is_about(
    lease: Lease, about: Assignment | to_agent.DeliveryEnded | to_agent.ClaimGraceOver | to_agent.Finish
) -> bool:
    """Whether a message or assignment names the attempt of this lease."""
    return (lease.task_id, lease.attempt) == (about.task_id, about.attempt)


def _timed_out(lease: Lease, why: str, code: str) -> delivery.Judgement:
    """Judge an attempt whose time is over; if its tool call was handed over, it is unknown whether it was made."""
    if lease.tool and lease.delivered:
        return delivery.judge_call(delivery.Unknown(reason=why), idempotent=lease.idempotent)
    return delivery.Failed(error=Failure(message=why, code=code))
