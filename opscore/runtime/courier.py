"""Carries attempts to agents, outside the branches of the tree that restart.

A delivery may take as long as the work itself (a local function is its own delivery), so it must not die with
the agent's actor. What comes of it is told to the agent's actor, whichever incarnation that is by then.
"""

import contextvars
import logging
from typing import Final

import trio

from opscore.actors.errors import ActorError
from opscore.runtime.addresses import Addresses
from opscore.runtime.delivery import Broken, Delivery, Fact, NotReached
from opscore.runtime.errors import OpscoreError
from opscore.runtime.messages import DeliveryEnded
from opscore.runtime.models import Agent, Assignment

BRING_TIMEOUT_S: Final = 150.0
"""Longer than an actor waits for a disk."""
BRING_AGAIN_S: Final = 1.0

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

    def is_cancelled(self, task_id: str, attempt: int) -> bool:
        """Whether a delivery was stopped, or is over."""
        scope = self._under_way.get((task_id, attempt))
        return scope is None or scope.cancel_called

    async def settled(self) -> None:
        """Wait until nothing is being delivered, and what came of it is committed."""
        while self._under_way:
            await self._one_ended.wait()

    def statistics(self) -> int:
        """How many deliveries are under way."""
        return len(self._under_way)

    async def _carry(self, assignment: Assignment, agent: Agent, scope: trio.CancelScope) -> None:
        try:
            with scope:
                fact = await self._deliver(assignment, agent)
                ended = DeliveryEnded(task_id=assignment.task_id, attempt=assignment.attempt, fact=fact)
                await self._bring(agent.agent_id, ended)
        finally:
            # Not before it is acted on: until then, whoever looks at the lease sees that an answer is on its way.
            del self._under_way[assignment.task_id, assignment.attempt]
            self._one_ended.set()
            self._one_ended = trio.Event()

    async def _bring(self, agent_id: str, ended: DeliveryEnded) -> None:
        """Tell the agent's actor until it has acted, so that no crash and no full disk has the work done again.

        This ends also once the attempt is over by other means, because then there is nothing left to act on.
        """
        while True:
            try:
                await self._addresses.agent(agent_id).ask(ended, timeout_s=BRING_TIMEOUT_S)
            except (ActorError, OpscoreError) as error:
                _log.warning("what came of %s attempt %d is told again: %s", ended.task_id, ended.attempt, error)
                await trio.sleep(BRING_AGAIN_S)
            else:
                return

    async def _deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        way = next((way for way in self._ways if way.reaches(agent)), None)
        if way is None:
            return NotReached(reason="the way to the agent is gone")
        try:
            return await way.deliver(assignment, agent)
        except Exception as error:  # noqa: BLE001 (reported as a fact, like any other break)
            # A way that breaks its promise must not take the node down with it.
            _log.exception("delivery of %s attempt %d failed", assignment.task_id, assignment.attempt)
            return Broken(reason=repr(error))
