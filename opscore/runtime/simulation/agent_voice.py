"""What simulated agents say to the node, and how they insist on it: the calls that an agent makes."""

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
"""How long an agent waits before it asks again."""
TRIES_MAX: Final = 50
CLAIM_WAIT_S: Final = 20.0
LATE_S_MAX: Final = 60.0


@attrs.frozen(kw_only=True)
class Stage:
    """What every agent of a world shares."""

    network: Network
    dice: Dice
    note: Callable[[str, str], None]
    replied: Callable[[Reply], None]
    said: Callable[[str, int, str, str, Any], None]
    """Told what an agent is about to say of an attempt: task, attempt, who, what, and the result."""
    now: Callable[[], float]
    """The wall clock of the node's machine."""
    elsewhere: Callable[[], float]
    """That of another machine."""
    reachable: Callable[[str, bool], None]
    at_work: dict[str, tuple[str, int]]
    """What each local function is at."""
    by_functions: set[tuple[str, int]]
    """The attempts that local functions were called for."""
    definition_of: Callable[[Assignment], TaskDefinition]


class Voice:
    """The calls of one agent.

    Args:
        agent_id: its id.
        model: what it can do.
        stage: the world around it.
        seed: of what it draws for itself.
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
        """Say what came of an attempt until somebody answers; whether it was taken."""
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
        """Report a state, once; the next report will tell the same."""
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
        """Ask until it is done."""
        while True:
            try:
                return await self._stage.network.call(ask)
            except (Unreachable, OpscoreError, ActorError):
                await trio.sleep(AGAIN_S)

    async def _claim_once(self, claim_id: str | None) -> Granted | None:
        """Claim until there is an answer; without an id only once, because nobody could tell the answers apart.

        Raises:
            AgentNotFound: the node knows no such agent.
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
                    # The answer does not arrive; it asks again, and the node learns only then that it had hung up.
                    granted = await self._stage.network.call(ask)
                    self._note_claim(claim_id, granted)
                    # It has its answer, whether the node hears of the call that it gave up or not.
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
        """Have a copy of a claim come to the node, whose answer nobody waits for."""

        async def ask(node: Node) -> Granted | None:
            return await node.claim(self.agent_id, claim_id=claim_id, wait_s=CLAIM_WAIT_S, ticket=self._ticket())

        await trio.sleep(self._dice.rng("agent_claims_late").uniform(0.0, LATE_S_MAX))
        with contextlib.suppress(Unreachable, OpscoreError, ActorError):
            self._note_claim(claim_id, await self._stage.network.call(ask))

    def _ticket(self) -> str:
        """Names one call of a claim, of however many that ask for the same."""
        self._calls += 1
        return f"{self.agent_id}/{self._calls}"

    def _note_claim(self, claim: str | None, granted: Granted | None) -> None:
        self._stage.replied(Reply(call="claim", arguments={"claim": claim}, value=granted))

    def _say(self, assignment: Assignment, what: str, result: Any) -> None:
        self._stage.said(assignment.task_id, assignment.attempt, self.agent_id, what, result)

    def _skill(self, assignment: Assignment) -> Skill:
        return self._model.skill(self._stage.definition_of(assignment).capability)

    def _beat_s(self, assignment: Assignment, within_s: float) -> float:
        """How often it shows life while it works: thrice within so many seconds, and within those of its task."""
        heartbeat_s = self._stage.definition_of(assignment).heartbeat_s
        return min(self._model.report_every_s, within_s / 3, math.inf if heartbeat_s is None else heartbeat_s / 3)

    def _result(self, assignment: Assignment, skill: Skill) -> Any:
        if skill.result is not None:
            return skill.result
        return {"task": assignment.task_id, "attempt": assignment.attempt, "by": self.agent_id}
