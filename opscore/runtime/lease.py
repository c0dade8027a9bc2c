"""An agent's hold on one attempt, and the slots of limits that the attempt takes: rows like those of `models`."""

from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Lease:
    """An agent's hold on one attempt; keyed by agent, so an agent holds one at most. Times are Unix seconds."""

    agent_id: str
    """The agent that holds it."""
    session_id: str
    """The run of the task."""
    task_id: str
    """The task that the attempt is of."""
    attempt: int
    """The number of the attempt."""
    granted_at: float
    """When the attempt was given to the agent."""
    expires_at: float
    """When silence ends the attempt as lost."""
    timeout_at: float
    """When the attempt fails even if the agent shows life."""
    lease_s: float
    """How long the agent may be silent, in seconds; each sign of life starts this time anew."""
    delivered: bool = False
    """There is evidence that the agent has the attempt."""
    active_seen: bool = False
    """The agent reported `active` during this lease."""
    heartbeat_seen: bool = False
    """The agent sent a heartbeat during this lease."""
    heartbeat_s: float | None = None
    """How long the agent may be silent after a sign of life before the attempt fails."""
    silent_at: float | None = None
    """When that silence ends the attempt, counted from the newest sign of life."""
    revoked: bool = False
    """The attempt was taken back from the agent: nothing that it says of the attempt counts any more."""
    claim_id: str | None = None
    """The id of the claim that got the attempt, if the agent claims and gave one."""
    claim_ticket: str | None = None
    """Identifies the one call that was handed the attempt, because a claim id may be repeated."""
    slots: tuple[str, ...] = ()
    """The slots that the attempt takes; each has a row of its own for as long as the lease exists."""
    progress: Any = None
    """The progress that the agent reported last."""
    tool: bool = False
    """The attempt calls a tool, which must not be called again automatically."""
    idempotent: bool = False
    """Repeating the attempt does no harm, so it may be retried even if it is unknown whether the tool was called."""
    function: bool | None = None
    """Whether the attempt was given to a local function, whatever its agent is by now; None if that is not known."""

    @property
    def due_at(self) -> float:
        """The time at which the lease has to be checked."""
        times = (self.expires_at, self.timeout_at)
        return min(times) if self.silent_at is None else min(*times, self.silent_at)


@attrs.frozen(kw_only=True)
class Slot:
    """One of the slots of a limit on open attempts; the row exists while an attempt takes the slot."""

    name: str
    agent_id: str
    """The agent that holds the lease of that attempt."""
