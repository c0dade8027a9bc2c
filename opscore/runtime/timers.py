"""Deadlines and delays: one heap, one sleeping task. All times are rebuilt from rows."""

import contextlib
import heapq
import itertools
from typing import Final

import attrs
import trio

from opscore.actors.actor import Actor, handles
from opscore.actors.errors import MailboxFull
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.runtime import recovery
from opscore.runtime.agents.leases import SPEAK_S
from opscore.runtime.errors import OpscoreError
from opscore.runtime.messages import to_agent, to_session, to_timers
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.messages.protocols import TimersProtocol

MAILBOX: Final = MailboxSpec(capacity=1_048_576)
SLEEP_S_MAX: Final = 30.0
"""The longest sleep, so that a jump of the wall clock is noticed."""
STOOD_STILL_S: Final = 5.0
"""How far the wall clock may deviate from the time that passed before leases are moved with it."""
LISTENS_S: Final = 0.25
"""How long to wait after the deadline of a lease for messages that its agent sent before: if the node stood still until
then, they have not been read yet."""
AGAIN_S: Final = 1.0
"""How long to wait before telling an actor again whose mailbox was full."""
SLACK: Final = 128
"""The heap is swept when it exceeds twice the number of armed times by this many entries."""

_Key = tuple[str, ...]


@attrs.frozen(kw_only=True)
class TimersStatistics:
    """The size of the timers' state."""

    armed: int
    """Times that are set."""
    queued: int
    """Entries in the heap: about one for each key, however often its time was put off, and of what is not waited for
    any more as many again at most."""


class TimersActor(Actor[TimersProtocol]):
    """Tells agents and sessions when to check their rows.

    Args:
        addresses: where the other actors are.
    """

    def __init__(self, *, addresses: Addresses) -> None:
        self._addresses = addresses
        self._due: dict[_Key, float] = {}
        self._queued: dict[_Key, float] = {}
        """The time at which each key is in the heap: once, however often its time is put off."""
        self._heap: list[tuple[float, int, _Key]] = []
        self._listened: dict[_Key, tuple[float, float]] = {}
        """For leases whose deadline has passed: the deadline, and until when to wait for earlier messages."""
        self._order = itertools.count()
        self._earlier = trio.Event()

    async def on_start(self) -> None:
        """Read the rows after a crash; at the first start, `ReadDueTimes` does that."""
        self.context.start_soon(self._run)
        if self._addresses.bound:
            now = self.context.clock.now()
            for agent_id in (await self._read_rows()).leases:
                # The crash may have lost the message about a lease, so every holder has to check its own.
                self._arm(("lease", agent_id), now)

    @handles(to_timers.ReadDueTimes)
    async def read_due_times(self, _: to_timers.ReadDueTimes) -> None:
        """Read what is due when."""
        await self._read_rows()

    async def _read_rows(self) -> recovery.DueTimes:
        found = await self._addresses.journal.load(recovery.due_times)
        for agent_id, due_at in found.leases.items():
            self._arm(("lease", agent_id), due_at)
        for agent_id, due_at in found.suspicions.items():
            self._arm(("suspicion", agent_id), due_at)
        for (session_id, what), due_at in found.sessions.items():
            self._arm(("due", session_id, what), due_at)
        for session_id in found.sub_runs:
            # Messages between a run and its child runs may have been lost with the actor that was to send them.
            self._arm(("announce", session_id), self.context.clock.now())
        return found

    @handles(to_timers.ArmLease)
    def arm_lease(self, message: to_timers.ArmLease) -> None:
        """Set when a lease may be over."""
        self._arm(("lease", message.agent_id), message.due_at)

    @handles(to_timers.DisarmLease)
    def disarm_lease(self, message: to_timers.DisarmLease) -> None:
        """Forget the time of a lease that is over; its entry in the heap serves the agent's next lease, or nothing."""
        self._disarm(("lease", message.agent_id))

    @handles(to_timers.ArmSuspicion)
    def arm_suspicion(self, message: to_timers.ArmSuspicion) -> None:
        """Set when an agent's suspicion is over."""
        self._arm(("suspicion", message.agent_id), message.due_at)

    @handles(to_timers.ArmDue)
    def arm_due(self, message: to_timers.ArmDue) -> None:
        """Set when a time of a session or of one of its tasks comes, or that it no longer does."""
        key = ("due", message.session_id, message.what)
        if message.due_at is None:
            self._disarm(key)
        else:
            self._arm(key, message.due_at)

    def statistics(self) -> TimersStatistics:
        """Return the size of the timers' state."""
        return TimersStatistics(armed=len(self._due), queued=len(self._heap))

    def _arm(self, key: _Key, due_at: float) -> None:
        """Set a time. If it is put off, its entry in the heap stays, and is checked again when it comes up."""
        self._due[key] = due_at
        queued_at = self._queued.get(key)
        if queued_at is None or due_at < queued_at:
            self._push(key, due_at)

    def _disarm(self, key: _Key) -> None:
        """Wait for a time no longer. A run may end a day before its own time: what is left of it in the heap goes."""
        self._due.pop(key, None)
        if len(self._heap) > 2 * len(self._due) + SLACK:
            self._heap = [entry for entry in self._heap if entry[2] in self._due and self._queued[entry[2]] == entry[0]]
            heapq.heapify(self._heap)
            self._queued = {queued: at for at, _, queued in self._heap}
            self._listened = {over: until for over, until in self._listened.items() if over in self._due}

    def _push(self, key: _Key, at: float) -> None:
        if not self._heap or at < self._heap[0][0]:
            self._earlier.set()
        self._queued[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))

    async def _run(self) -> None:
        while True:
            self._earlier = trio.Event()
            slept_from, asleep_at, until_next_s = trio.current_time(), self.context.clock.now(), self._until_next_s()
            with trio.move_on_after(until_next_s):
                await self._earlier.wait()
            now = self.context.clock.now()
            # What the wall clock shows beyond that is time in which the node stood still, or by which it was moved.
            passed_s = trio.current_time() - slept_from
            stood_still_s = now - asleep_at - min(passed_s, until_next_s)
            if abs(stood_still_s) > STOOD_STILL_S:
                idle_s = max(0.0, passed_s - until_next_s)
                self._tell_agents(to_agent.StoodStill(seconds=stood_still_s, since=slept_from, idle_s=idle_s))
            while self._heap and self._heap[0][0] <= now:
                at, _, key = heapq.heappop(self._heap)
                if self._queued.get(key) == at:
                    del self._queued[key]
                    self._look(key, now)

    def _tell_agents(self, stood_still: to_agent.StoodStill) -> None:
        """Tell agents to adjust their leases and suspicions, because no one was heard, or the clock was moved."""
        self.context.log.warning(
            "the node stood still, or its clock was moved, by %.1f s: agents get their time again", stood_still.seconds
        )
        for key in [key for key in self._due if key[0] == "lease"]:
            self._tell_agent(key, stood_still)
        if stood_still.seconds < 0:
            self.context.start_soon(self._tell_suspected, stood_still)

    async def _tell_suspected(self, stood_still: to_agent.StoodStill) -> None:
        """Tell the agents that are suspected by the rows and the new clock, even if their suspicion was over before."""
        suspected: dict[str, float] | None = None
        while suspected is None:
            try:
                suspected = await self._addresses.journal.load(recovery.suspicions)
            except OpscoreError:
                await trio.sleep(AGAIN_S)
        for agent_id, until in suspected.items():
            if until > self.context.clock.now() and ("lease", agent_id) not in self._due:
                self._tell_agent(("suspicion", agent_id), stood_still)

    def _tell_agent(self, key: _Key, stood_still: to_agent.StoodStill) -> None:
        # The actor then arms its own time; if its mailbox is full, it checks its rows as they are at this time.
        self._arm(key, self.context.clock.now() + SPEAK_S)
        with contextlib.suppress(MailboxFull):
            self._addresses.agent(key[1]).tell(stood_still)

    def _look(self, key: _Key, now: float) -> None:
        due_at = self._due.get(key)
        if due_at is None:
            self._listened.pop(key, None)
            return
        comes_at = due_at if due_at > now else self._listens_until(key, due_at, now)
        if comes_at > now:
            self._push(key, comes_at)
            return
        del self._due[key]
        self._fire(key, now)

    def _listens_until(self, key: _Key, due_at: float, now: float) -> float:
        """Return until when to wait for earlier messages before a deadline that has passed takes effect."""
        if key[0] != "lease":
            return now
        over, until = self._listened.pop(key, (None, now))
        if over != due_at:
            until = now + LISTENS_S
        if until > now:
            self._listened[key] = due_at, until
        return until

    def _until_next_s(self) -> float:
        """Return the seconds until the next entry, but at most `SLEEP_S_MAX`."""
        if not self._heap:
            return SLEEP_S_MAX
        return min(max(0.0, self._heap[0][0] - self.context.clock.now()), SLEEP_S_MAX)

    def _fire(self, key: _Key, now: float) -> None:
        try:
            match key:
                case ("lease", agent_id):
                    self._addresses.agent(agent_id).tell(to_agent.LeaseDue(at=now))
                case ("suspicion", agent_id):
                    self._addresses.agent(agent_id).tell(to_agent.SuspicionDue())
                case ("announce", session_id):
                    self._addresses.session(session_id).tell(to_session.AnnounceSession())
                case ("due", session_id, what):
                    self._addresses.session(session_id).tell(to_session.Due(what=what))
                case _:
                    raise AssertionError(f"there is no timer for {key}")
        except MailboxFull:
            self._arm(key, now + AGAIN_S)
