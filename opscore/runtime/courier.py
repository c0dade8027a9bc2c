"""Carries attempts to agents, outside the branches of the tree that restart.

A delivery may take as long as the work itself (a local function is its own delivery), so it must not die with
the agent's actor. What comes of it is told to the agent's actor, whichever incarnation that is by then.
"""

import contextvars
import logging

import trio

from opscore.runtime.addresses import Addresses
from opscore.runtime.delivery import Broken, Delivery, Fact
from opscore.runtime.messages import DeliveryEnded
from opscore.runtime.models import Agent, Assignment

_log = logging.getLogger("opscore.courier")


class Courier:
    """The deliveries under way."""

    def __init__(self, *, ways: tuple[Delivery, ...], addresses: Addresses, nursery: trio.Nursery) -> None:
        self._ways = ways
        self._addresses = addresses
        self._nursery = nursery
        # Deliveries start from the host's context variables, not from those of the handler that began them.
        self._variables = contextvars.copy_context()
        self._under_way: dict[tuple[str, int], trio.CancelScope] = {}
        self._one_ended = trio.Event()

    def reaches(self, agent: Agent) -> bool:
        """Whether there is a way to this agent."""
        return any(way.reaches(agent) for way in self._ways)

    def carries(self, task_id: str, attempt: int) -> bool:
        """Whether this attempt is being delivered right now."""
        return (task_id, attempt) in self._under_way

    def start(self, assignment: Assignment, agent: Agent) -> None:
        """Begin to deliver, by the first way that reaches the agent."""
        scope = trio.CancelScope()
        self._under_way[assignment.task_id, assignment.attempt] = scope
        self._variables.run(self._nursery.start_soon, self._carry, assignment, agent, scope)

    def cancel(self, task_id: str, attempt: int) -> None:
        """Stop a delivery; what it would have brought back is of no use any more."""
        scope = self._under_way.get((task_id, attempt))
        if scope is not None:
            scope.cancel()

    async def settled(self) -> None:
        """Wait until nothing is being delivered."""
        while self._under_way:
            await self._one_ended.wait()

    def statistics(self) -> int:
        """How many deliveries are under way."""
        return len(self._under_way)

    async def _carry(self, assignment: Assignment, agent: Agent, scope: trio.CancelScope) -> None:
        try:
            with scope:
                fact = await self._deliver(assignment, agent)
        finally:
            del self._under_way[assignment.task_id, assignment.attempt]
            self._one_ended.set()
            self._one_ended = trio.Event()
        if not scope.cancelled_caught:
            ended = DeliveryEnded(task_id=assignment.task_id, attempt=assignment.attempt, fact=fact)
            self._addresses.agent(agent.agent_id).tell(ended)

    async def _deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        way = next(way for way in self._ways if way.reaches(agent))
        try:
            return await way.deliver(assignment, agent)
        except Exception as error:  # noqa: BLE001 (reported as a fact, like any other break)
            # A way that breaks its promise must not take the node down with it.
            _log.exception("delivery of %s attempt %d failed", assignment.task_id, assignment.attempt)
            return Broken(reason=repr(error))
