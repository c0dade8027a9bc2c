"""Agents that do only what they are told: every call that an agent can make, right or wrong, one at a time."""

from typing import Any, Final, Literal

from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.models import Assignment
from opscore.runtime.simulation.agent_voice import Stage
from opscore.runtime.simulation.network import SCHEME
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Rows

Way = Literal["takes it", "is gone", "is busy", "refuses it", "breaks off", "does it at once"]
WAYS: Final[tuple[Way, ...]] = ("takes it", "is gone", "is busy", "refuses it", "breaks off", "does it at once")
"""The ways in which an agent answers a push."""
Naming = Literal["attempt", "task", "nothing"]
NAMINGS: Final[tuple[Naming, ...]] = ("attempt", "task", "nothing")
"""What a report names: the task and the attempt, the task alone, or neither."""


class Puppet:
    """An agent that does what it is told.

    Args:
        agent_id: its id.
        stage: the world around it.
        rows: the committed rows, which say who holds which attempt.
        held: every attempt that any agent, including this one, was ever handed.
    """

    def __init__(self, agent_id: str, stage: Stage, rows: Rows, held: list[Assignment]) -> None:
        self.agent_id = agent_id
        self._stage = stage
        self._rows = rows
        self._held = held
        self._way: Way = "takes it"
        self._pushed = False
        self._registrations = 0
        self._claims = 0
        self._results = 0

    # --- being there --------------------------------------------------------------------------------------

    async def register(self, capabilities: tuple[str, ...], *, pushed: bool) -> None:
        """Register, or register again, for pushes or for claims."""
        mine = self._leave()
        endpoint = f"{SCHEME}{self.agent_id}" if pushed else None
        if pushed:
            self._stage.network.inboxes[self.agent_id] = self._receive
        agent = await self._stage.network.call(
            lambda node: node.register_agent(self.agent_id, capabilities=capabilities, contact_endpoint=endpoint)
        )
        self._stage.replied(Reply(call="register", arguments={"agent_id": self.agent_id}, value=agent))
        if mine == self._registrations:
            self._pushed = pushed
            self._note_reachable()

    async def deregister(self) -> None:
        """Deregister."""
        self._leave()
        await self._stage.network.call(lambda node: node.deregister_agent(self.agent_id))

    async def cordon(self, *, cordoned: bool) -> None:
        """Cordon or uncordon the agent, as an operator does."""
        await self._stage.network.call(lambda node: node.set_cordon(self.agent_id, cordoned=cordoned))

    def answer(self, way: Way) -> None:
        """Answer pushes in this way from now on."""
        self._way = way
        self._note_reachable()

    def _leave(self) -> int:
        self._registrations += 1
        self._pushed = False
        self._note_reachable()
        return self._registrations

    def _note_reachable(self) -> None:
        self._stage.reachable(self.agent_id, self._pushed and self._way == "takes it")

    async def _receive(self, assignment: Assignment) -> Fact:
        if self._way == "is gone":
            return NotReached(reason="connection refused")
        if self._way == "is busy":
            return Answered(status=503, retry_after_s=5.0)
        if self._way == "refuses it":
            self._stage.said(assignment.task_id, assignment.attempt, self.agent_id, "fail", None)
            return Answered(status=400, body="no")
        self._held.append(assignment)
        if self._way == "breaks off":
            return Broken(reason="connection reset")
        if self._way == "does it at once":
            result = self._say(assignment, assignment.attempt, "complete")
            return Answered(status=200, body={"status": "completed", "result": result})
        return Answered(status=202)

    async def claim(self, claim_id: str | None, wait_s: float) -> None:
        """Claim work, once."""
        self._claims += 1
        claim = claim_id or f"{self.agent_id}#{self._claims}"
        granted = await self._stage.network.call(
            lambda node: node.claim(self.agent_id, claim_id=claim_id, wait_s=wait_s)
        )
        self._stage.replied(Reply(call="claim", arguments={"claim": claim}, value=granted))
        if granted is not None:
            self._held.append(granted.assignment)

    # --- saying what comes of work ------------------------------------------------------------------------

    async def report(self, state: str, *, late_s: float | None) -> None:
        """Report a state without naming a task."""
        await self._report(state, None, late_s)

    async def report_of(
        self, assignment: Assignment, attempt: int, state: str, naming: Naming, *, late_s: float | None
    ) -> None:
        """Report a state for some work, naming its task and attempt, its task alone, or only a result."""
        details: dict[str, Any] = {}
        lease = self._rows.leases.get(self.agent_id)
        if naming == "attempt":
            details |= {"opscore_task_id": assignment.task_id, "opscore_attempt": attempt}
            details["result"] = self._say(assignment, attempt, "complete")
        elif naming == "task":
            details["opscore_task_id"] = assignment.task_id
            attempt = lease.attempt if lease is not None and lease.task_id == assignment.task_id else attempt
            details["result"] = self._say(assignment, attempt, "complete without a number")
        elif lease is not None:
            details["result"] = result = self._result(lease.task_id, lease.attempt)
            self._stage.said(lease.task_id, lease.attempt, self.agent_id, "complete", result)
        await self._report(state, details, late_s)

    async def _report(self, state: str, details: dict[str, Any] | None, late_s: float | None) -> None:
        timestamp = None if late_s is None else self._stage.now() - late_s
        await self._stage.network.call(
            lambda node: node.report_state(self.agent_id, state, details=details, timestamp=timestamp)
        )

    async def complete(self, assignment: Assignment, attempt: int) -> None:
        """Complete an attempt by a call."""
        task_id = assignment.task_id
        result = self._say(assignment, attempt, "complete")
        await self._stage.network.call(lambda node: node.complete(task_id, attempt, result))
        arguments = {"task_id": task_id, "attempt": attempt, "result": result}
        self._stage.replied(Reply(call="complete", arguments=arguments, value=None))

    async def fail(self, assignment: Assignment, attempt: int, code: str, *, retryable: bool) -> None:
        """Fail an attempt by a call."""
        task_id = assignment.task_id
        said = [what for _, what, _ in self._rows.ledger.said.get((task_id, attempt), ()) if what.startswith("fail")]
        # All failures of an attempt are reported as equally retryable; else it would be unknown which one was accepted.
        retryable = said[0] == "fail" if said else retryable
        self._say(assignment, attempt, "fail" if retryable else "fail for good")
        await self._stage.network.call(
            lambda node: node.fail(task_id, attempt, "it failed", code=code, retryable=retryable)
        )
        self._stage.replied(Reply(call="fail", arguments={"task_id": task_id, "attempt": attempt}, value=None))

    async def heartbeat(self, assignment: Assignment, attempt: int) -> None:
        """Send a heartbeat for an attempt."""
        task_id = assignment.task_id
        lease = await self._stage.network.call(lambda node: node.heartbeat(task_id, attempt))
        self._stage.replied(Reply(call="heartbeat", arguments={"task_id": task_id, "attempt": attempt}, value=lease))

    def _say(self, assignment: Assignment, attempt: int, what: str) -> Any:
        """Note what is about to be reported; as a call names no agent, it also counts as the attempt holder's."""
        task = self._rows.tasks[assignment.task_id]
        holds = task.is_out and task.attempt == attempt
        result = self._result(assignment.task_id, attempt)
        for who in {self.agent_id, task.agent_id if holds else None} - {None}:
            self._stage.said(assignment.task_id, attempt, str(who), what, result)
        return result

    def _result(self, task_id: str, attempt: int) -> dict[str, Any]:
        self._results += 1
        return {"task": task_id, "attempt": attempt, "by": self.agent_id, "word": self._results}
