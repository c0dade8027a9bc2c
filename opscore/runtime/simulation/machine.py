"""A world as a state machine of Hypothesis: any step in any order, with all promises checked after each step.

    from opscore.runtime.simulation.machine import WorldMachine

    TestWorld = WorldMachine.TestCase

A failing world shrinks to few steps that still break a promise. This module needs Hypothesis, as `strategies` does.
"""

import contextlib
import functools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final

import trio
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from opscore.actors.errors import ActorError
from opscore.runtime.definitions.definition import parse
from opscore.runtime.errors import OpscoreError
from opscore.runtime.limits import Limits
from opscore.runtime.models import Assignment, Move
from opscore.runtime.node import Node
from opscore.runtime.runs.triggering import IdempotencyKey
from opscore.runtime.simulation import scheduling
from opscore.runtime.simulation.deaths import Deaths
from opscore.runtime.simulation.driven import ARRANGED, DrivenWorld
from opscore.runtime.simulation.fleet import AgentModel, Latency, Skill
from opscore.runtime.simulation.invariants import STANDARD, Invariants
from opscore.runtime.simulation.language import BELOW
from opscore.runtime.simulation.network import Unreachable
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.pumping import PumpedRun
from opscore.runtime.simulation.puppets import NAMINGS, WAYS, Naming, Puppet, Way
from opscore.runtime.simulation.scenario import SIMULATED_LIMITS, Scenario
from opscore.runtime.simulation.strategies import (
    CAPABILITIES,
    CODES,
    NAMED,
    SETTLE_S,
    definitions,
    drawn_limits,
    values,
)

PATIENCE_S: Final = 10.0
"""How long a rule waits for an answer, which may still come later."""
OPENING_S: Final = 120.0
SETTLED_S: Final = 0.01
"""How long the immediate effects of a step take."""
STATES: Final = ("idle", *("idle", "active") * 3, "error", "finished", "offline", "busy", "initializing", "on holiday")

_AGENTS: Final = st.sampled_from(NAMED)
_SOME: Final = st.integers(0, 20)
"""An index into the items that exist at the moment, counted from the newest, modulo their number."""
_LATE: Final = st.sampled_from((None, 0.0, 10.0, -3_600.0, 3_600.0))
_OFF_BY: Final = st.sampled_from((0, 0, -1, 1))


class WorldMachine(RuleBasedStateMachine):
    """A world that is driven by the rules of this class; derive from it to add rules or promises.

    Agents take work and report it in all possible ways, with right and wrong attempt numbers. They come, go, and are
    cordoned. The process dies and comes back, the disk fills up, arranged faults happen, and time passes. At the end
    faults stop, helpful agents join, and every run has to end.
    """

    promises: ClassVar[Invariants] = STANDARD

    def __init__(self) -> None:
        super().__init__()
        self._open = contextlib.ExitStack()
        self._run: PumpedRun | None = None
        self._calls = 0
        self._held: list[Assignment] = []
        self._puppets: dict[str, Puppet] = {}
        self._known: dict[str, Puppet] = {}
        """The agents that have ever registered; the node ignores most calls of others."""
        self._documents: list[dict[str, Any]] = []
        self._ready = False
        self._haste = random.Random()
        self._world: DrivenWorld
        self._nursery: trio.Nursery

    @initialize(
        seed=st.integers(0, 2**32 - 1),
        documents=st.lists(definitions(tasks_max=4), min_size=1, max_size=3),
        limits=drawn_limits(),
        pushed=st.dictionaries(_AGENTS, st.sampled_from((True, False)), min_size=1),
        runs=st.sampled_from((1, 0, 2, 3, 6)),
    )
    def begins(
        self, seed: int, documents: list[dict[str, Any]], limits: Limits, pushed: dict[str, bool], runs: int
    ) -> None:
        """Start a node, register some agents with all capabilities, by push or by claim, and trigger some runs."""
        self._documents = documents
        self._haste = random.Random(f"{seed}/haste")
        self._open.enter_context(scheduling.ordered_by(seed))
        deaths = Deaths()
        scenario = Scenario(seed=seed, workflows=documents, limits=limits)

        async def live() -> None:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._world = world = DrivenWorld(scenario, self.promises, deaths)
                self._puppets = {each: Puppet(each, world.stage, world.rows, self._held) for each in NAMED}
                self._ready = True
                await trio.sleep_forever()

        self._run = PumpedRun(live, instruments=[deaths])
        self._run.pump(until=lambda: self._ready)
        self._host()
        for agent_id, by_push in pushed.items():
            self._register(agent_id, CAPABILITIES, pushed=by_push, idle=True)
        self._do(lambda: self._world.save(BELOW))
        for number in range(runs):
            self._start(number, None, None, None)

    # --- runs ---------------------------------------------------------------------------------------------

    @rule(
        which=_SOME,
        payload=values(),
        key=st.sampled_from((None, None, "one", "two")),
        agent_id=st.none() | _AGENTS,
        times=st.sampled_from((1, 2, 3)),
    )
    def trigger(self, which: int, payload: Any, key: str | None, agent_id: str | None, times: int) -> None:
        """A client starts a run, or repeats a request under the same key."""
        for _ in range(times):
            self._start(which, payload, key, agent_id)

    def _start(self, which: int, payload: Any, key: str | None, agent_id: str | None) -> None:
        place = which % len(self._documents)
        if agent_id is None and parse(self._documents[place], SIMULATED_LIMITS).needs_agent:
            agent_id = next(iter(self._known))
        self._calls += 1
        self._do(functools.partial(self._trigger, place, payload, key or f"call-{self._calls}", agent_id))

    async def _trigger(self, place: int, payload: Any, key: str, agent_id: str | None) -> None:
        # A key stands for one body; a request with another one under the same key is refused.
        body = {"workflow": place, "payload": payload}

        async def ask(node: Node) -> Any:
            return await node.trigger(
                self._documents[place],
                payload=payload,
                agent_id=agent_id,
                idempotency=IdempotencyKey(path="/v1/simulation", key=key, body=body),
            )

        session = await self._world.network.call(ask)
        arguments = {"key": key, "payload": payload, "agent_id": agent_id}
        self._world.stage.replied(Reply(call="trigger", arguments=arguments, value=session))

    @rule(which=_SOME)
    def delete_workflow(self, which: int) -> None:
        """An operator deletes a workflow, whose runs go on; the next trigger saves it again."""
        self._do(lambda: self._world.delete(str(self._documents[which % len(self._documents)]["id"])))

    @precondition(lambda self: self._world.rows.sessions)
    @rule(which=_SOME, move=st.sampled_from(Move))
    def steer(self, which: int, move: Move) -> None:
        """An operator cancels, pauses, resumes, retries, resets or terminates a run."""
        session_id = self._session(which)
        self._do(lambda: self._world.steer(session_id, move))

    @precondition(lambda self: any(each.signals for each in self._world.rows.definitions()))
    @rule(which=_SOME, payload=values(), signal_id=st.sampled_from((None, "one", "two")))
    def signal(self, which: int, payload: Any, signal_id: str | None) -> None:
        """Somebody sends a run a signal that its own workflow, or another one, waits for."""
        session_id = self._session(which)
        names = sorted({name for each in self._world.rows.definitions() for name in each.signals})
        self._do(lambda: self._world.tell(session_id, names[which % len(names)], payload, signal_id))

    def _session(self, which: int) -> str:
        sessions = list(self._world.rows.sessions)
        return sessions[-1 - which % len(sessions)]

    # --- agents -------------------------------------------------------------------------------------------

    @rule(
        agent_id=_AGENTS,
        capabilities=st.lists(st.sampled_from(CAPABILITIES), unique=True, max_size=3),
        pushed=st.sampled_from((True, False)),
        idle=st.sampled_from((True, False)),
    )
    def register(self, agent_id: str, capabilities: list[str], *, pushed: bool, idle: bool) -> None:
        """An agent registers, or registers again."""
        self._register(agent_id, capabilities, pushed=pushed, idle=idle)

    def _register(self, agent_id: str, capabilities: Sequence[str], *, pushed: bool, idle: bool) -> None:
        puppet = self._known[agent_id] = self._puppets[agent_id]
        self._do(lambda: puppet.register(tuple(capabilities), pushed=pushed))
        if idle:
            self._do(lambda: puppet.report("idle", late_s=None))

    @rule(agent_id=_AGENTS)
    def deregister(self, agent_id: str) -> None:
        """An agent deregisters."""
        self._do(self._puppet(agent_id).deregister)

    @rule(agent_id=_AGENTS, cordoned=st.booleans())
    def cordon(self, agent_id: str, *, cordoned: bool) -> None:
        """An operator cordons an agent, or uncordons it."""
        self._do(lambda: self._puppet(agent_id).cordon(cordoned=cordoned))

    @rule(agent_id=_AGENTS, way=st.sampled_from(WAYS))
    def answer(self, agent_id: str, way: Way) -> None:
        """An agent changes how it answers pushes."""
        self._puppet(agent_id).answer(way)

    @rule(agent_id=_AGENTS, state=st.sampled_from(STATES), late_s=_LATE)
    def report(self, agent_id: str, state: str, late_s: float | None) -> None:
        """An agent reports a state without naming a task."""
        self._do(lambda: self._puppet(agent_id).report(state, late_s=late_s))

    @rule(agent_id=_AGENTS, claim_id=st.sampled_from((None, "one", "two")), wait_s=st.sampled_from((0.0, 5.0, 30.0)))
    def claim(self, agent_id: str, claim_id: str | None, wait_s: float) -> None:
        """An agent claims work."""
        self._do(lambda: self._puppet(agent_id).claim(claim_id and f"{agent_id}-{claim_id}", wait_s))

    def _puppet(self, agent_id: str) -> Puppet:
        return self._known.get(agent_id) or next(iter(self._known.values()))

    # --- attempts -----------------------------------------------------------------------------------------

    @precondition(lambda self: self._held)
    @rule(which=_SOME, off_by=_OFF_BY, state=st.sampled_from(STATES), naming=st.sampled_from(NAMINGS), late_s=_LATE)
    def report_of(self, which: int, off_by: int, state: str, naming: Naming, late_s: float | None) -> None:
        """An agent reports a state for an attempt that it was handed at some time."""
        held, puppet = self._attempt(which)
        self._do(lambda: puppet.report_of(held, held.attempt + off_by, state, naming, late_s=late_s))

    @precondition(lambda self: self._held)
    @rule(which=_SOME, off_by=_OFF_BY)
    def complete(self, which: int, off_by: int) -> None:
        """An agent completes an attempt that it was handed at some time."""
        held, puppet = self._attempt(which)
        self._do(lambda: puppet.complete(held, held.attempt + off_by))

    @precondition(lambda self: self._held)
    @rule(which=_SOME, off_by=_OFF_BY, code=st.sampled_from(CODES), retryable=st.sampled_from((True, False)))
    def fail(self, which: int, off_by: int, code: str, *, retryable: bool) -> None:
        """An agent fails an attempt that it was handed at some time."""
        held, puppet = self._attempt(which)
        self._do(lambda: puppet.fail(held, held.attempt + off_by, code, retryable=retryable))

    @precondition(lambda self: self._held)
    @rule(which=_SOME, off_by=_OFF_BY)
    def heartbeat(self, which: int, off_by: int) -> None:
        """An agent sends a heartbeat for an attempt."""
        held, puppet = self._attempt(which)
        self._do(lambda: puppet.heartbeat(held, held.attempt + off_by))

    def _attempt(self, which: int) -> tuple[Assignment, Puppet]:
        held = self._held[-1 - which % len(self._held)]
        return held, self._puppets[held.agent_id]

    # --- what goes wrong ----------------------------------------------------------------------------------

    @precondition(lambda self: self._world.runs)
    @rule(included=st.sampled_from((0.0, 1.0, 0.5, None)), away_s=st.sampled_from((0.0, 20.0, 1_000.0, None)))
    def end_process(self, included: float | None, away_s: float | None) -> None:
        """The process is killed, with a share of its last batch on disk, or stopped gracefully; it may come back."""
        if included is None:
            self._world.stop()
        else:
            self._world.kill(included)
        self._pump(lambda: not self._world.runs, OPENING_S)
        if away_s is not None:
            self._pass(away_s)
            self._host()

    @precondition(lambda self: not self._world.runs)
    @rule()
    def start_process(self) -> None:
        """A new process opens."""
        self._host()

    @rule(left=st.sampled_from(("plenty", "nothing", "plenty", "the reserve")))
    def leave_room(self, left: str) -> None:
        """The disk gets room, no room, or only the reserve."""
        if left == "plenty":
            self._world.make_room()
        else:
            self._world.fill_disk(nearly=left == "the reserve")

    @rule(fault=st.sampled_from(ARRANGED))
    def arrange(self, fault: str) -> None:
        """A fault is arranged for its next occasion."""
        self._world.dice.arrange(fault)

    @rule(seconds=st.sampled_from((1.0, 0.01, 30.0, 600.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._pass(seconds)

    # --- what holds ---------------------------------------------------------------------------------------

    @invariant()
    def every_promise_is_kept(self) -> None:
        """Every commit, reply and delivery kept the promises, and the disk holds what was committed."""
        if self._ready:
            self._world.look()
            self._check()

    def _check(self) -> None:
        """Check that no promise is broken; if one is, show the timeline together with the steps."""
        if self._world.broken is not None:
            note("\n".join(self._world.history.timeline()))
            raise self._world.broken

    def teardown(self) -> None:
        """Stop the faults, add helpful agents, and check that every run ends."""
        if self._run is None:
            return
        try:
            if self._ready and self._world.broken is None and not self._run.over:
                self._end()
        finally:
            with self._open:
                if not self._run.over:
                    self._nursery.cancel_scope.cancel()
                    self._run.pump(until=lambda: False)

    def _end(self) -> None:
        able = dict.fromkeys(CAPABILITIES, Skill(latency=Latency("constant", 0.1)))
        helpful = [AgentModel(name=each, skills=able) for each in NAMED]
        over: list[bool] = []

        async def end() -> None:
            await self._world.come_to_an_end(helpful, SETTLE_S)
            over.append(True)

        self._nursery.start_soon(end)
        self._pump(lambda: bool(over), None)
        self._check()

    # --- driving ------------------------------------------------------------------------------------------

    def _host(self) -> None:
        """Start a process, and wait until it is open, or has ended."""
        if self._world.runs:
            return
        gone: list[bool] = []

        async def host() -> None:
            await self._world.host()
            gone.append(True)

        self._nursery.start_soon(host)
        self._pump(lambda: self._world.network.up.is_set() or bool(gone), OPENING_S)

    def _do(self, call: Callable[[], Awaitable[None]]) -> None:
        """Let somebody make a call, and wait for its answer for `PATIENCE_S` at most."""
        over: list[bool] = []

        async def do() -> None:
            try:
                await call()
            except (Unreachable, OpscoreError, ActorError) as error:
                self._world.note("world", f"that is refused: {error}")
            finally:
                over.append(True)

        self._nursery.start_soon(do)
        self._pump(lambda: bool(over), PATIENCE_S)
        if self._haste.random() < 0.8:  # noqa: PLR2004 (mostly; else the next call comes before this one has its effects)
            self._pass(SETTLED_S)

    def _pass(self, seconds: float) -> None:
        self._pump(lambda: False, seconds)

    def _pump(self, until: Callable[[], bool], within_s: float | None) -> None:
        """Let the world go on until a condition holds, for `within_s` at most, or until a promise is broken."""
        assert self._run is not None, "the world has begun"
        late: list[bool] = []
        scope = trio.CancelScope()

        async def watch() -> None:
            with scope:
                await trio.sleep(within_s if within_s is not None else math.inf)
            late.append(True)

        if within_s is not None:
            self._nursery.start_soon(watch)
        self._run.pump(until=lambda: until() or bool(late) or self._world.broken is not None)
        scope.cancel()
