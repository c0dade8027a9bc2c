"""The simulated network: calls and deliveries that are lost, late, repeated, or cut off by the end of a process."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import outcome
import trio

from opscore.actors.errors import ActorError
from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.errors import OpscoreError
from opscore.runtime.models import Agent, AgentSource, Assignment
from opscore.runtime.node import Node
from opscore.runtime.simulation.faults import Dice
from opscore.runtime.simulation.history import Ledger

ResultT = TypeVar("ResultT")

SLOW_S_MAX: Final = 60.0
PATIENCE_S: Final = 300.0
"""How long a caller waits for an answer, unless it asked the node itself to wait for longer."""
SCHEME: Final = "simulated://"
_NOT_NOW: Final = frozenset({404, 429, 503})


class Unreachable(Exception):
    """The node didn't answer, and may or may not have done what it was asked."""


Inbox = Callable[[Assignment], Awaitable[Fact]]


class Network:
    """The network between a node, its agents and its clients, which outlives the node. It implements `Delivery`.

    Args:
        dice: decides what goes wrong.
        ledger: where pushes that did not reach their agent are noted.
        on_handed: called before an agent gets an attempt.
        now: returns the wall time.
    """

    def __init__(
        self, dice: Dice, ledger: Ledger, on_handed: Callable[[Assignment], None], now: Callable[[], float]
    ) -> None:
        self._dice = dice
        self._now = now
        self._ledger = ledger
        self._on_handed = on_handed
        self._node: Node | None = None
        self._calls: dict[trio.CancelScope, None] = {}
        self.up = trio.Event()
        """Set while a node runs; replaced by a new event when it ends."""
        self._down = trio.Event()
        self.inboxes: dict[str, Inbox] = {}
        """The handlers of pushes, by agent id."""

    # --- to the node --------------------------------------------------------------------------------------

    def connect(self, node: Node) -> None:
        """Connect a node that runs."""
        self._node = node
        self.up.set()

    def sever(self) -> None:
        """Disconnect the node, break off every call, and forget what it learnt of deliveries and did not commit."""
        self._node = None
        self._ledger.unreached.clear()
        self._ledger.wishes.clear()
        if self.up.is_set():
            # If the node ended before it ran, those that wait for a node keep waiting.
            self._down.set()
            self.up, self._down = trio.Event(), trio.Event()
        for scope in self._calls:
            scope.cancel()

    async def down(self, up: trio.Event) -> None:
        """Wait until the node that set the event `up` is gone."""
        if self.up is up:
            await self._down.wait()

    async def call(self, ask: Callable[[Node], Awaitable[ResultT]], *, patience_s: float = PATIENCE_S) -> ResultT:
        """Make a call to the node.

        Args:
            ask: makes the call.
            patience_s: how long to wait for the answer.

        Raises:
            Unreachable: there was no answer.
            OpscoreError, ActorError: the call was refused.
        """
        dice = self._dice
        if dice.happens("request_slow"):
            await trio.sleep(dice.rng("request_slow").uniform(0.1, SLOW_S_MAX))
        else:
            await trio.lowlevel.checkpoint()
        if dice.happens("request_lost"):
            await trio.sleep(1.0)
            raise Unreachable("the request is lost")
        if dice.happens("request_overlaps"):
            result = await self._ask_twice(ask, patience_s)
        else:
            result = await self._ask(ask, patience_s)
        if dice.happens("request_repeated"):
            with contextlib.suppress(OpscoreError, ActorError, Unreachable):
                await self._ask(ask, patience_s)
        if dice.happens("reply_lost"):
            await trio.sleep(1.0)
            raise Unreachable("the reply is lost")
        return result

    async def _ask_twice(self, ask: Callable[[Node], Awaitable[ResultT]], patience_s: float) -> ResultT:
        """Disconnect and repeat the call; the node notices the end of the first after the second has arrived."""
        rng = self._dice.rng("request_overlaps")
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                with contextlib.suppress(OpscoreError, ActorError, Unreachable):
                    await self._ask(ask, rng.choice((0.0, 0.1, 5.0, 30.0)))

            nursery.start_soon(first)
            # Time passes, so that the second arrives after the first.
            await trio.sleep(rng.choice((0.01, 0.05, 4.0)))
            second = await outcome.acapture(self._ask, ask, patience_s)
            nursery.cancel_scope.cancel()
        return second.unwrap()

    async def _ask(self, ask: Callable[[Node], Awaitable[ResultT]], patience_s: float) -> ResultT:
        node = self._node
        if node is None:
            raise Unreachable("no node runs")
        with trio.move_on_after(patience_s) as scope:
            self._calls[scope] = None
            try:
                return await ask(node)
            except ActorError as error:
                if self._node is not node:
                    raise Unreachable(str(error)) from error
                raise
            finally:
                del self._calls[scope]
        raise Unreachable("the connection broke")

    # --- to agents ----------------------------------------------------------------------------------------

    def reaches(self, agent: Agent) -> bool:
        """Whether an agent has an address."""
        return agent.source is AgentSource.API and agent.contact_endpoint is not None

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Push an attempt to its agent."""
        self._on_handed(assignment)
        self._ledger.wishes.pop((assignment.task_id, assignment.attempt), None)
        fact = await self._push(assignment, agent)
        if isinstance(fact, NotReached) or (isinstance(fact, Answered) and fact.status in _NOT_NOW):
            self._ledger.unreached.add((assignment.task_id, assignment.attempt))
        if isinstance(fact, Answered) and fact.status in _NOT_NOW:
            self._ledger.wishes[assignment.task_id, assignment.attempt] = self._now() + (fact.retry_after_s or 0.0)
        return fact

    async def _push(self, assignment: Assignment, agent: Agent) -> Fact:
        dice = self._dice
        if dice.happens("delivery_slow"):
            await trio.sleep(dice.rng("delivery_slow").uniform(0.1, SLOW_S_MAX))
        else:
            await trio.lowlevel.checkpoint()
        inbox = self.inboxes.get(agent.agent_id)
        if inbox is None or dice.happens("delivery_refused"):
            return NotReached(reason="connection refused")
        if dice.happens("delivery_unavailable"):
            return Answered(status=503, retry_after_s=dice.rng("delivery_unavailable").uniform(1.0, 30.0))
        if dice.happens("delivery_rejected"):
            return Answered(status=400, body="rejected")
        if dice.happens("delivery_lost"):
            return Broken(reason="connection reset before anything arrived")
        answer: Any = await inbox(assignment)
        if dice.happens("delivery_repeated"):
            await inbox(assignment)
        if dice.happens("delivery_broken"):
            return Broken(reason="connection reset")
        return answer if isinstance(answer, Answered | NotReached | Broken) else Answered(status=202)
