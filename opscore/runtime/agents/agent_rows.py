"""An agent's row and lease at known versions, and the submissions that change them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import trio

from opscore.actors.clock import Clock
from opscore.runtime.agents.availability import heard_at, silence_s
from opscore.runtime.agents.lease_rows import release_of
from opscore.runtime.errors import AgentNotFound, StaleAttempt
from opscore.runtime.journal.tables import AGENTS, LEASES, record
from opscore.runtime.journal.typed_tables import Versioned
from opscore.runtime.lease import Lease
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.to_session import Outcome, Settle
from opscore.runtime.models import Agent, Record
from opscore.runtime.spans import Span
from opscore.runtime.store import ABSENT, Delete, Put, Snapshot, Submission


class Keep:
    """A marker for a row that stays as it is; None stands for a row that is deleted."""


KEEP: Final = Keep()
_Data = Mapping[str, Any]
NO_DATA: Final[_Data] = MappingProxyType({})

AgentChange = Agent | None | Keep
LeaseChange = Lease | None | Keep


class AgentRows:
    """The rows of one agent in the store, as its actor knows them."""

    def __init__(self, agent_id: str, addresses: Addresses, clock: Clock) -> None:
        self.agent_id = agent_id
        self._clock = clock
        self._addresses = addresses
        self._agent: Versioned[Agent] = Versioned(None, ABSENT)
        self._lease: Versioned[Lease] = Versioned(None, ABSENT)
        self.as_of = 0
        """The newest commit that is reflected in the rows."""
        # These are unknown if only an earlier incarnation of the actor could have measured them.
        self.attempt_left: Span | None = None
        """The time that is left until the timeout of the open attempt."""
        self.suspicion_left: Span | None = None
        """The time that is left of the agent's suspicion."""
        self._heard_at: float | None = None
        """When the agent was last heard, by trio's clock."""

    @property
    def agent(self) -> Agent | None:
        """The agent's row."""
        return self._agent.row

    @property
    def agent_version(self) -> int:
        """Its version, which an offer requires."""
        return self._agent.version

    @property
    def lease(self) -> Lease | None:
        """The lease that the agent holds."""
        return self._lease.row

    def known_agent(self) -> Agent:
        """Return the agent's row.

        Raises:
            AgentNotFound: it is not registered.
        """
        if self._agent.row is None:
            raise AgentNotFound(self.agent_id)
        return self._agent.row

    def held(self, task_id: str, attempt: int) -> Lease:
        """Return the lease on this attempt.

        Raises:
            StaleAttempt: the agent does not hold it.
        """
        lease = self._lease.row
        if lease is None:
            raise StaleAttempt(task_id, attempt, f"agent {self.agent_id!r} holds no lease")
        if (lease.task_id, lease.attempt) != (task_id, attempt):
            raise StaleAttempt(
                task_id,
                attempt,
                f"agent {self.agent_id!r} holds attempt {lease.attempt} of task {lease.task_id!r}",
            )
        if lease.revoked:
            raise StaleAttempt(task_id, attempt, "it was taken back")
        return lease

    async def reload(self) -> None:
        """Read both rows, after every submission that was sent before."""

        def read(view: Snapshot) -> tuple[Versioned[Agent], Versioned[Lease], int]:
            return AGENTS.read(view, self.agent_id), LEASES.read(view, self.agent_id), view.last_sequence()

        agent, lease = self._agent.row, self._lease.row
        self._agent, self._lease, self.as_of = await self._addresses.journal.load(read)
        if _attempt(self._lease.row) != _attempt(lease):
            self.attempt_left = None
        if _suspected_until(self._agent.row) != _suspected_until(agent):
            self.suspicion_left = None
        if heard_at(self._agent.row) != heard_at(agent):
            self._heard_at = None

    def accept(self, lease: Lease, version: int) -> bool:
        """Take over a lease that a session committed; return `False` if the rows known here may be newer."""
        known = self._lease == Versioned(lease, version)
        if not known and (self._lease.row is not None or version < self.as_of):
            return False
        self._lease, self.as_of = Versioned(lease, version), max(version, self.as_of)
        self.attempt_left = Span.until(lease.timeout_at, self._clock.now())
        return True

    def silence_s(self, agent: Agent, now: float) -> float:
        """Return for how long the agent has been silent: since this actor heard it last, or else by its row.

        Args:
            agent: its row, as it is or as it will be.
            now: wall time.
        """
        if self._heard_at is None or heard_at(agent) != heard_at(self._agent.row):
            return silence_s(agent, now)
        return trio.current_time() - self._heard_at

    async def commit(
        self, record_kind: str, *, agent: AgentChange = KEEP, lease: LeaseChange = KEEP, data: _Data = NO_DATA
    ) -> None:
        """Change the rows.

        Raises:
            Superseded: one of them changed meanwhile; nothing was applied.
        """
        part = self._part(record_kind, agent, lease, data)
        self._took(agent, lease, await self._addresses.journal.commit(part))

    async def settle(
        self,
        outcome: Outcome,
        record_kind: str,
        *,
        agent: AgentChange = KEEP,
        lease: LeaseChange = None,
        data: _Data = NO_DATA,
        free: AgentAvailable | None = None,
    ) -> None:
        """Apply an outcome to the attempt and change the rows, in one submission of the session; the lease ends.

        Args:
            outcome: the outcome.
            record_kind: the kind of the agent's journal record.
            agent: the agent's row after that.
            lease: the lease after that; None by default, which ends it.
            data: the data of the record.
            free: the agent's availability after that. If given, the commit may grant the agent another lease.

        Raises:
            Superseded: one of the rows changed meanwhile; nothing was applied.
            StaleAttempt: the session has no such open attempt.
        """
        held = self._lease.row
        assert held is not None, "an attempt is settled under its lease"
        settle = Settle(
            task_id=held.task_id,
            attempt=held.attempt,
            outcome=outcome,
            agent_part=self._part(record_kind, agent, lease, data),
            free=free,
        )
        settled = await self._addresses.session(held.session_id).ask(settle)
        self._took(agent, settled.lease or lease, settled.version)

    def _part(self, kind: str, agent: AgentChange, lease: LeaseChange, data: _Data) -> Submission:
        writes: list[Put | Delete] = []
        if not isinstance(agent, Keep):
            writes.append(AGENTS.delete(self.agent_id) if agent is None else AGENTS.put(agent))
        held = self._lease.row
        if not isinstance(lease, Keep) and lease is not None:
            writes.append(LEASES.put(lease))
        elif lease is None and held is not None:
            writes += release_of(held)
        line = Record(
            at=self._clock.now(),
            entity="agent",
            entity_id=self.agent_id,
            session_id=held.session_id if held else None,
            kind=kind,
            data=dict(data),
        )
        return Submission(
            expects=(
                AGENTS.expect(self.agent_id, self._agent.version),
                LEASES.expect(self.agent_id, self._lease.version),
            ),
            writes=tuple(writes),
            records=(record(line),),
        )

    def _took(self, agent: AgentChange, lease: LeaseChange, version: int) -> None:
        if not isinstance(agent, Keep):
            self._note_agent(self._agent.row, agent)
            self._agent = Versioned(agent, version if agent is not None else ABSENT)
        if not isinstance(lease, Keep):
            before = self._lease.row
            if lease is not None and (before is None or before.timeout_at != lease.timeout_at):
                self.attempt_left = Span.until(lease.timeout_at, self._clock.now())
            self._lease = Versioned(lease, version if lease is not None else ABSENT)
        self.as_of = version

    def _note_agent(self, before: Agent | None, after: Agent | None) -> None:
        if after is not None and after.suspected_until != _suspected_until(before):
            self.suspicion_left = Span.until(after.suspected_until, self._clock.now())
        if after is not None and heard_at(after) != heard_at(before):
            self._heard_at = trio.current_time()


def _attempt(lease: Lease | None) -> tuple[str, int] | None:
    return None if lease is None else (lease.task_id, lease.attempt)


def _suspected_until(agent: Agent | None) -> float:
    return 0.0 if agent is None else agent.suspected_until
