"""The courier delivers attempts to agents, outside the branches of the tree that restart.

A delivery may take as long as the work itself (a local function is its own delivery), so it must not end with the
agent's actor. Its outcome goes to the agent's actor, whichever incarnation that is by then.
"""

import contextlib
import contextvars
import logging
from typing import Final

import attrs
import trio

from opscore.actors.errors import ActorError
from opscore.runtime.delivery import Broken, Delivery, Fact, NotReached
from opscore.runtime.errors import OpscoreError
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.messages.to_agent import AnnounceAgent, DeliveryEnded
from opscore.runtime.models import Agent, AgentSource, Assignment

BRING_TIMEOUT_S: Final = 150.0
"""How long to wait for the agent's actor to act on an outcome; longer than an actor waits for the disk."""
BRING_AGAIN_S: Final = 1.0
GOES_ON_S: Final = 5.0
"""How often the log names a local function that goes on although it was cancelled."""

_log = logging.getLogger("opscore.courier")


@attrs.frozen(kw_only=True)
class _UnderWay:
    assignment: Assignment
    agent: Agent
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class Courier:
    """The deliveries under way."""

    def __init__(self, *, ways: tuple[Delivery, ...], addresses: Addresses, nursery: trio.Nursery) -> None:
        self._ways = ways
        self._addresses = addresses
        self._nursery = nursery
        # Deliveries start with the host's context variables, not with those of the handler that began them.
        self._variables = contextvars.copy_context()
        self._under_way: dict[tuple[str, int], _UnderWay] = {}
        self._is_ending = False
        self._interrupted: set[str] = set()
        """Local agents whose function was ended by a cancellation from outside: the node is about to end."""
        self._waiting = trio.lowlevel.ParkingLot()
        """Tasks that wait for a delivery to end."""

    def reaches(self, agent: Agent) -> bool:
        """Return whether there is a way to deliver to this agent."""
        return self._way_to(agent) is not None

    def _way_to(self, agent: Agent) -> Delivery | None:
        for way in self._ways:
            if way.reaches(agent):
                return way
        return None

    def carries(self, task_id: str, attempt: int) -> bool:
        """Return whether this attempt is being delivered now."""
        return (task_id, attempt) in self._under_way

    def runs(self, task_id: str, attempt: int) -> bool:
        """Return whether a local function is running this attempt, whatever its agent has been registered as since."""
        delivery = self._under_way.get((task_id, attempt))
        return delivery is not None and delivery.agent.source is AgentSource.LOCAL

    def start(self, assignment: Assignment, agent: Agent) -> None:
        """Begin to deliver, by the first way that reaches the agent; do nothing once the node ends."""
        if self._is_ending:
            # Nothing would cancel it any more, and a function that shields itself would wait for a heartbeat for ever.
            return
        delivery = _UnderWay(assignment=assignment, agent=agent)
        self._under_way[assignment.task_id, assignment.attempt] = delivery
        self._variables.run(self._nursery.start_soon, self._carry, delivery)

    def cancel(self, task_id: str, attempt: int) -> None:
        """Stop a delivery, whose outcome no longer matters."""
        delivery = self._under_way.get((task_id, attempt))
        if delivery is not None and not delivery.scope.cancel_called:
            delivery.scope.cancel()
            if delivery.agent.source is AgentSource.LOCAL:
                self._nursery.start_soon(self._name_if_it_goes_on, delivery)

    def functions_at_work(self) -> set[str]:
        """Return the local agents whose functions are at work, or were cancelled together with the node."""
        at_work = {each.agent.agent_id for each in self._under_way.values() if each.agent.source is AgentSource.LOCAL}
        return at_work | self._interrupted

    def cancel_all(self) -> None:
        """Stop every delivery, and begin no more, because the node ends."""
        self._is_ending = True
        for task_id, attempt in list(self._under_way):
            self.cancel(task_id, attempt)

    def is_cancelled(self, task_id: str, attempt: int) -> bool:
        """Return whether a delivery was stopped, or is over."""
        delivery = self._under_way.get((task_id, attempt))
        return delivery is None or delivery.scope.cancel_called

    async def settled(self) -> None:
        """Wait until no delivery is under way, and every outcome is committed."""
        while self._under_way:
            await self._waiting.park()

    def statistics(self) -> int:
        """Return how many deliveries are under way."""
        return len(self._under_way)

    async def _carry(self, delivery: _UnderWay) -> None:
        assignment, agent = delivery.assignment, delivery.agent
        try:
            with delivery.scope:
                fact = await self._deliver(assignment, agent)
                # A delivery that was stopped has no outcome, even if its function returned all the same.
                await trio.lowlevel.checkpoint_if_cancelled()
                ended = DeliveryEnded(task_id=assignment.task_id, attempt=assignment.attempt, fact=fact)
                await self._bring(agent.agent_id, ended)
        except BaseException:
            # The node ends, by an interrupt or a cancellation, which is in a group if the function had a nursery open.
            if agent.source is AgentSource.LOCAL:
                self._interrupted.add(agent.agent_id)
            raise
        finally:
            # Only after the outcome was acted on: until then, whoever checks the lease sees that one is on its way.
            del self._under_way[assignment.task_id, assignment.attempt]
            self._waiting.unpark_all()
        if delivery.scope.cancel_called and agent.source is AgentSource.LOCAL:
            # The attempt ended before its function did. The agent is free for another attempt only now.
            with contextlib.suppress(ActorError):
                await self._addresses.agent(agent.agent_id).send(AnnounceAgent())

    async def _name_if_it_goes_on(self, delivery: _UnderWay) -> None:
        """Name a function in the log that ignores its cancellation, also while the node waits for it to end."""
        assignment, since = delivery.assignment, trio.current_time()
        say_at = since + GOES_ON_S
        with trio.CancelScope(shield=True):
            while self._under_way.get((assignment.task_id, assignment.attempt)) is delivery:
                # The deadline is absolute, because every delivery that ends wakes this up.
                with trio.move_on_at(say_at) as scope:
                    await self._waiting.park()
                if scope.cancelled_caught:
                    say_at += GOES_ON_S
                    _log.warning(
                        "agent %s goes on with task %s attempt %d, which was cancelled %.0f s ago",
                        delivery.agent.agent_id,
                        assignment.task_id,
                        assignment.attempt,
                        trio.current_time() - since,
                    )

    async def _bring(self, agent_id: str, ended: DeliveryEnded) -> None:
        """Tell the agent's actor until it has acted, so that neither a crash nor a full disk makes the work repeat.

        This also ends once the attempt has ended in another way, because the actor then has nothing left to do.
        """
        while True:
            try:
                await self._addresses.agent(agent_id).ask(ended, timeout_s=BRING_TIMEOUT_S)
            except (ActorError, OpscoreError) as error:
                _log.warning("the outcome of %s attempt %d is reported again: %s", ended.task_id, ended.attempt, error)
                await trio.sleep(BRING_AGAIN_S)
            else:
                return

    async def _deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        way = self._way_to(agent)
        if way is None:
            return NotReached(reason="the way to the agent is gone")
        try:
            return await way.deliver(assignment, agent)
        except Exception as error:  # noqa: BLE001 (reported as a fact, like any other break)
            # A way that breaks its contract must not take the node down.
            _log.exception("delivery of %s attempt %d failed", assignment.task_id, assignment.attempt)
            return Broken(reason=repr(error))
