"""The calls that a simulated agent makes to the node, and how it repeats them."""

import contextlib
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import attrs
import trio

from opscore.actors.errors import ActorError
from opscore.runtime.definitions.definition import TaskDefinition
from opscore.runtime.errors import AgentNotFound, OpscoreError
from opscore.runtime.models import Agent, Assignment, Granted
from opscore.runtime.node import Node
from opscore.runtime.simulation.faults import Dice
from opscore.runtime.simulation.fleet import AgentModel, Skill
from opscore.runtime.simulation.network import SCHEME, Network, Unreachable
from opscore.runtime.simulation.promises.outside import Reply

ResultT = TypeVar("ResultT")

AGAIN_S: Final = 2.0
"""How long an agent waits before it repeats a call."""
TRIES_MAX: Final = 50
CLAIM_WAIT_S: Final = 20.0
LATE_S_MAX: Final = 60.0


@attrs.frozen(kw_only=True)
class Stage:
    """What all agents of a world share."""

    network: Network
    dice: Dice
    note: Callable[[str, str], None]
    replied: Callable[[Reply], None]
    said: Callable[[str, int, str, str, Any], None]
    """Called with what an agent is about to report of an attempt: task id, attempt, who, what, and the result."""
    now: Callable[[], float]
    """Returns the wall time of the node's machine."""
    elsewhere: Callable[[], float]
    """Returns the wall time of another machine, which is never moved."""
    reachable: Callable[[str, bool], None]
    """Called when deliveries begin or cease to reach an agent."""
    at_work: dict[str, tuple[str, int]]
    """The attempt that each local function works on."""
    by_functions: set[tuple[str, int]]
    """The attempts that local functions were called for."""
    definition_of: Callable[[Assignment], TaskDefinition]


class Voice:
    """The calls of one agent.

    Args:
        agent_id: its id.
        model: how it works.
        stage: the world around it.
        seed: the seed of its own random numbers.
    """

    def __init__(self, agent_id: str, model: AgentModel, stage: Stage, seed: int) -> None:
        self.agent_id = agent_id
        self._model = model
        self._kind = model.kind
        self._stage = stage
        self._rng = random.Random(f"{seed}/agent/{agent_id}")
        self._dice = stage.dice
        self._skew_s = 0.0
        self._wall = stage.now
        if self._dice.possible("clock_moves") and self._rng.random() < 0.5:  # noqa: PLR2004 (half of them)
            self._wall = stage.elsewhere
        self._disordered = False
        self._calls = 0

    async def _register(self, node: Node, handler: Any = None) -> Agent:
        endpoint = f"{SCHEME}{self.agent_id}" if self._kind == "push" else None
        agent = await node.register_agent(
            self.agent_id, capabilities=tuple(self._model.skills), contact_endpoint=endpoint, handler=handler
        )
        self._stage.replied(Reply(call="register", arguments={"agent_id": self.agent_id}, value=agent))
        return agent

    async def _finish(self, ask: Callable[[Node], Awaitable[None]]) -> bool:
        """Report the outcome of an attempt until that is answered; return whether it was accepted."""
        for _ in range(TRIES_MAX):
            try:
                await self._stage.network.call(ask)
            except (Unreachable, ActorError):
                await trio.sleep(AGAIN_S)
            except OpscoreError as error:
                if error.code in ("stale_attempt", "task_not_found", "agent_not_found"):
                    return False
                await trio.sleep(AGAIN_S)
            else:
                return True
        return False

    async def _report(self, state: str, details: dict[str, Any] | None = None) -> None:
        """Report a state, with three tries; if all fail, the next report says the same."""
        timestamp: float | None = None
        if self._skew_s or self._disordered or self._rng.random() < 0.5:  # noqa: PLR2004 (some send no time)
            timestamp = self._wall() + self._skew_s
            if self._disordered and not self._dice.quiet:
                timestamp -= self._rng.uniform(0.0, 10.0)
        for _ in range(3):
            try:
                await self._stage.network.call(
                    lambda node: node.report_state(self.agent_id, state, details=details, timestamp=timestamp)
                )
            except AgentNotFound:
                await self._insist(self._register)
            except (Unreachable, OpscoreError, ActorError):
                await trio.sleep(AGAIN_S)
            else:
                return

    async def _insist(self, ask: Callable[[Node], Awaitable[ResultT]]) -> ResultT:
        """Repeat a call until it succeeds."""
        while True:
            try:
                return await self._stage.network.call(ask)
            except (Unreachable, OpscoreError, ActorError):
                await trio.sleep(AGAIN_S)

    async def _claim_once(self, claim_id: str | None) -> Granted | None:
        """Repeat a claim until it is answered; one without an id is sent once, as its answers can't be told apart.

        Raises:
            AgentNotFound: the agent is not registered.
        """
        hangs_up = claim_id is not None and self._dice.happens("agent_claims_again")
        tickets: list[str] = []

        async def ask(node: Node) -> Granted | None:
            tickets.append(self._ticket())
            return await node.claim(self.agent_id, claim_id=claim_id, wait_s=CLAIM_WAIT_S, ticket=tickets[-1])

        async def hang_up(node: Node) -> None:
            node.abandon_claim(self.agent_id, tickets[0])

        for _ in range(TRIES_MAX if claim_id is not None else 1):
            try:
                granted = await self._stage.network.call(ask)
                if hangs_up:
                    # The answer does not arrive. The agent repeats the claim, and only then does the node notice that
                    # the first call was given up.
                    granted = await self._stage.network.call(ask)
                    self._note_claim(claim_id, granted)
                    # The agent has its answer now, whether or not the node notices that the first call was given up.
                    with contextlib.suppress(Unreachable, OpscoreError, ActorError):
                        await self._stage.network.call(hang_up)
            except AgentNotFound:
                raise
            except (Unreachable, OpscoreError, ActorError):
                await trio.sleep(AGAIN_S)
            else:
                return granted
        return None

    async def _claim_late(self, claim_id: str) -> None:
        """Send a late copy of a claim, whose answer nobody waits for."""

        async def ask(node: Node) -> Granted | None:
            return await node.claim(self.agent_id, claim_id=claim_id, wait_s=CLAIM_WAIT_S, ticket=self._ticket())

        await trio.sleep(self._dice.rng("agent_claims_late").uniform(0.0, LATE_S_MAX))
        with contextlib.suppress(Unreachable, OpscoreError, ActorError):
            self._note_claim(claim_id, await self._stage.network.call(ask))

    def _ticket(self) -> str:
        """Return a new id for one call of a claim, which may be repeated by other calls."""
        self._calls += 1
        return f"{self.agent_id}/{self._calls}"

    def _note_claim(self, claim: str | None, granted: Granted | None) -> None:
        self._stage.replied(Reply(call="claim", arguments={"claim": claim}, value=granted))

    def _say(self, assignment: Assignment, what: str, result: Any) -> None:
        self._stage.said(assignment.task_id, assignment.attempt, self.agent_id, what, result)

    def _skill(self, assignment: Assignment) -> Skill:
        return self._model.skill(self._stage.definition_of(assignment).capability)

    def _beat_s(self, assignment: Assignment, within_s: float) -> float:
        """Return the seconds between heartbeats: a third of `within_s` and of `heartbeatSeconds` at most."""
        heartbeat_s = self._stage.definition_of(assignment).heartbeat_s
        return min(self._model.report_every_s, within_s / 3, math.inf if heartbeat_s is None else heartbeat_s / 3)

    def _result(self, assignment: Assignment, skill: Skill) -> Any:
        if skill.result is not None:
            return skill.result
        return {"task": assignment.task_id, "attempt": assignment.attempt, "by": self.agent_id}
