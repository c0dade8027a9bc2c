"""Plays one world from its scenario: a node that dies and comes back, its disk, its agents and its clients."""

import random
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

import trio

from opscore.actors.clock import VirtualClock
from opscore.actors.errors import ActorError
from opscore.runtime.definitions.definition import TaskDefinition
from opscore.runtime.errors import OpscoreError
from opscore.runtime.journal.tables import ALL_TABLES, INDEX_NAMES
from opscore.runtime.models import Assignment, SessionStatus
from opscore.runtime.node import run_node
from opscore.runtime.simulation import scheduling
from opscore.runtime.simulation.agent_voice import Stage
from opscore.runtime.simulation.agents import SimulatedAgent
from opscore.runtime.simulation.crashes import POISONED_S, Crashes
from opscore.runtime.simulation.deaths import Deaths
from opscore.runtime.simulation.disk import Disk, SimulatedStore
from opscore.runtime.simulation.durations import Durations
from opscore.runtime.simulation.faults import IN_THE_NODE, Dice
from opscore.runtime.simulation.history import History
from opscore.runtime.simulation.invariants import InvariantBroken, Invariants, check
from opscore.runtime.simulation.network import Network
from opscore.runtime.simulation.operators import Operators
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Rows
from opscore.runtime.simulation.scenario import Scenario
from opscore.runtime.simulation.writer import FULL_S_MAX, STALL_S_MAX, Room, SimulatedWriter
from opscore.runtime.store import Submission

SCAN_EVERY_S: Final = 20.0
CLOCK_LOOKED_AT_S: Final = 60.0
AGAIN_S: Final = 1.0
AGAIN_S_MAX: Final = 16.0
"""How long a client waits at most before it repeats a refused request."""
OPENING_PATIENCE: Final = 40
"""The number of consecutive failures to open after which the world gives up on its node."""
UNSETTLED_S: Final[Mapping[str, float]] = {
    "actor_raises": 130.0,
    "clock_moves": 45.0,
    "commit_refused": 15.0,
    "commit_split": 10.0,
    "commit_stalled": STALL_S_MAX + 30.0,
    "disk_full": FULL_S_MAX + 15.0,
    "disk_nearly_full": FULL_S_MAX + 15.0,
    "machine_freezes": 45.0,
    "run_poisoned": POISONED_S + 130.0,
}
"""How long the effects of a fault in the node last: stalls, backoffs, pauses and the retries after them."""
OPENS_WITHIN_S: Final = 1.0
"""How long agents and clients wait for the first node before they start without it."""
CLOSING_S_MAX: Final = 3_600.0
NODE: Final = "node"


class World:
    """A scenario that is being played. It has to be created inside the trio run.

    Args:
        scenario: the scenario to play.
        invariants: the promises to check.
        history: where events are recorded.
        deaths: decides between which steps the process dies.
    """

    def __init__(self, scenario: Scenario, invariants: Invariants, history: History, deaths: Deaths) -> None:
        self._scenario = scenario
        self._invariants = invariants
        self.history = history
        self.dice = Dice(scenario.seed, scenario.faults, self._happened)
        self.clock = VirtualClock(seed=scenario.seed)
        self._epoch, self._began = self.clock.now(), trio.current_time()
        self.rows = Rows(
            limits=scenario.limits,
            ledger=history.ledger,
            faults=frozenset(scenario.faults.on()),
            now=self.clock.now,
        )
        self.durations = Durations(self.clock.now, lambda: self.elapsed_s)
        self._disk = Disk(tables=[table.name for table in ALL_TABLES], indexes=INDEX_NAMES)
        self._room = Room()
        self.network = Network(self.dice, history.ledger, self._handed, self.clock.now)
        self._crashes = Crashes(self.dice, self._bug)
        self._unsettled_until = 0.0
        self._broken: InvariantBroken | None = None
        self._life = trio.CancelScope()
        self._writer: SimulatedWriter | None = None
        self._deaths = deaths
        self._turns = random.Random(f"{scenario.seed}/turns")
        deaths.bind(self.dice, self._die, self._stop, self._freeze, self._stands_still)
        self._stopping = self._killed = False
        asked = (
            scenario.triggers,
            scenario.steerings,
            scenario.tellings,
            scenario.calendars,
            scenario.sweeps,
            scenario.looks,
        )
        self._asking = sum(map(len, asked))
        self._over = trio.Event()
        self._closed = trio.Event()
        self._commits = 0
        self._compared_at = 0

    @property
    def commits(self) -> int:
        """The number of submissions that were applied."""
        return self._commits

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds since the beginning of the world."""
        return trio.current_time() - self._began

    def note(self, who: str, what: str) -> None:
        """Record an event in the history."""
        self.history.note(self.elapsed_s, who, what)

    # --- the whole ----------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Play the scenario to its end.

        Raises:
            InvariantBroken: an invariant does not hold.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._host)
            with trio.move_on_after(OPENS_WITHIN_S):
                await self.network.up.wait()
            for model in self._scenario.agents:
                for agent_id in model.ids():
                    agent = SimulatedAgent(agent_id, model, self.stage, self._scenario.seed)
                    nursery.start_soon(agent.live)
            self._operators = Operators(
                scenario=self._scenario,
                network=self.network,
                ledger=self.history.ledger,
                note=self.note,
                replied=self._replied,
                answered=self._answered,
                now=self.clock.now,
                rows=self.rows,
            )
            self._operators.begin(nursery)
            nursery.start_soon(self._watch)
            if self.dice.possible("clock_moves"):
                nursery.start_soon(self._move_clock)
            self._look_whether_over()
            await self._see_the_end()
            nursery.cancel_scope.cancel()
        if self._broken is not None:
            raise self._broken

    async def _see_the_end(self) -> None:
        """Let the world go on until every run has ended or the time for that is over, then check what has to hold."""
        with trio.move_on_after(self._scenario.faults_until_s):
            await self._over.wait()
        if not self._over.is_set():
            self.note("world", "nothing goes wrong any more")
            self.dice.silence.set()
            self._room.clear()
            self._deaths.pause()
            with trio.move_on_after(self._scenario.settle_s):
                await self._over.wait()
        self._scan(at_end=True)
        self._checked(self._invariants.at_end, self.rows)
        self._stopping = True
        self._life.cancel()
        with trio.move_on_after(CLOSING_S_MAX):
            await self._closed.wait()
            return
        self._found(InvariantBroken("a_node_closes", f"it takes longer than {CLOSING_S_MAX:g} s"))

    def _look_whether_over(self) -> None:
        if not self._asking and all(self._settled(session_id) for session_id in self.rows.unfinished):
            self._over.set()

    def _settled(self, session_id: str) -> bool:
        """Whether nothing more will happen to an unfinished session by itself."""
        return self.rows.sessions[session_id].status is SessionStatus.PAUSED

    async def _watch(self) -> None:
        while True:
            await trio.sleep(SCAN_EVERY_S)
            self._scan()

    async def _move_clock(self) -> None:
        """Move the wall clock forward or back now and then."""
        rng = self.dice.rng("clock_moves")
        while True:
            # Once a minute on average.
            await trio.sleep(rng.uniform(0.0, 2 * CLOCK_LOOKED_AT_S))
            if self.dice.happens("clock_moves"):
                seconds = (
                    rng.choice((-1.0, 1.0)) * rng.choice((1.0, 10.0, 60.0, 600.0, 3_600.0)) * rng.uniform(0.5, 2.0)
                )
                self.note("world", f"the clock is moved by {seconds:+,.1f} s")
                self.clock.shift(seconds)
                self.rows.clock_moved(seconds)
                self.durations.clock_moved(seconds)
                self._unsettled_until += seconds
                self._disturb("clock_moves")

    def _scan(self, *, at_end: bool = False) -> None:
        """Check the invariants over all rows; compare the disk only as often as costs no more than the commits do."""
        if at_end or self._commits - self._compared_at >= self.rows.count():
            self._compared_at = self._commits
            differences = self.rows.differences(self._disk.view())
            if differences:
                self._found(InvariantBroken("the_disk_holds_what_was_committed", differences[0]))
        self._checked(self._invariants.on_scan, self.rows)

    # --- the node -----------------------------------------------------------------------------------------

    async def _host(self) -> None:
        """Run a node, and start it again whenever it ends, as a process supervisor does."""
        failures = 0
        while not self._stopping:
            opened = await self._live()
            # A node that is killed while it opens has not failed to open, however often that happens.
            failures = 0 if opened or self._killed else failures + 1
            if failures >= OPENING_PATIENCE:
                self._found(InvariantBroken("a_node_opens", f"{failures} openings in a row failed"))
            if not self._stopping:
                with trio.move_on_after(self._pause_s()):
                    await self._over.wait()
        self._closed.set()

    def _pause_s(self) -> float:
        return AGAIN_S if self.dice.quiet else self.clock.random.choice((0.1, 1.0, 10.0, 100.0))

    async def _live(self) -> bool:
        """Run one process from its opening to its end; return whether it opened."""
        self.rows.opened_at = self.clock.now()
        self._life, self._killed = trio.CancelScope(), False
        self._disturbed(until=float("inf"))
        store = SimulatedStore(self._disk, on_applied=self._applied)
        self._writer = writer = SimulatedWriter(store, self.dice, self._room)
        self._deaths.begin(opening=True)
        opened = False
        try:
            with self._life:
                async with run_node(
                    store,
                    writer=writer,
                    ways=(self.network,),
                    limits=self._scenario.limits,
                    clock=self.clock,
                    cast=self._crashes.cast,
                    ready=scheduling.ShuffledTurns(self._turns, self._deaths.count_turn),
                ) as node:
                    opened = True
                    self.note(NODE, "is up")
                    self._deaths.begin(opening=False)
                    self._disturbed()
                    self.network.connect(node)
                    await trio.sleep_forever()
        except (OpscoreError, ActorError) as error:
            self.note(NODE, f"stops: {error}")
            if not self.rows.node_may_fail:
                self._found(InvariantBroken("a_node_stops_for_a_reason", repr(error)))
        except Exception as error:  # noqa: BLE001 (a node that ends by an error that is not the runtime's has a bug)
            self._found(InvariantBroken("a_node_stops_for_a_reason", repr(error)))
        finally:
            self._deaths.pause()
            self.network.sever()
            self.rows.reachable -= self._locals
            self._disturbed(until=float("inf"))
            writer.close()
            store.close()
        return opened

    @cached_property
    def _locals(self) -> set[str]:
        """The ids of the agents that die with the process."""
        return {agent_id for model in self._scenario.agents if model.kind == "local" for agent_id in model.ids()}

    def _die(self, included: float) -> None:
        """Kill the process, between two steps of any of its tasks."""
        self._killed = True
        self.note(NODE, "is killed")
        if self._writer is not None:
            self._writer.sever(included)
        self.network.sever()
        self._life.cancel()

    def _stop(self) -> None:
        """Stop the process gracefully."""
        self.note(NODE, "is stopped")
        self._life.cancel()

    def _freeze(self) -> None:
        """Freeze the process and everything around it for a while, as the clocks go on."""
        rng = self.dice.rng("machine_freezes")
        seconds = rng.choice((2.0, 10.0, 60.0, 300.0)) * rng.uniform(0.5, 2.0)
        self.note("world", f"stands still for {seconds:,.1f} s")
        scheduling.stand_still(seconds)
        self.rows.froze(seconds)
        self._disturb("machine_freezes")

    def _stands_still(self, turns: int) -> None:
        """Report that actors had this many turns in which no time passed, so that some loop does not end."""
        self._found(InvariantBroken("time_goes_on", f"actors had {turns:,} turns at one moment"))

    def _disturbed(self, until: float | None = None) -> None:
        """Note that the node is disturbed until a time; None for as long as the effects of its faults last."""
        self.rows.calm_since = max(self.clock.now(), self._unsettled_until) if until is None else until

    def _happened(self, fault: str) -> None:
        self.note("fault", fault)
        if fault.startswith(IN_THE_NODE):
            self._disturb(fault)

    def _disturb(self, fault: str) -> None:
        settled_at = self.clock.now() + UNSETTLED_S.get(fault, 0.0)
        self._unsettled_until = max(self._unsettled_until, settled_at)
        self.rows.calm_since = max(self.rows.calm_since, self._unsettled_until)

    # --- what is looked at --------------------------------------------------------------------------------

    def _applied(self, submission: Submission, version: int) -> None:
        self._commits += 1
        commit = self.rows.follow(submission, version)
        self.durations.follow(commit)
        number = version - len(submission.records) + 1
        for place, put in enumerate(submission.records):
            self.history.record(number + place, put.body)
        for record in commit.records:
            self.history.note(self.elapsed_s, "journal", record)
        self._checked(self._invariants.on_commit, commit, self.rows)
        self._look_whether_over()

    def _replied(self, reply: Reply) -> None:
        self._checked(self._invariants.on_reply, reply, self.rows)

    def _handed(self, assignment: Assignment) -> None:
        self.note(assignment.agent_id, f"is handed {assignment.task_id} attempt {assignment.attempt}")
        self._checked(self._invariants.on_handed, assignment, self.rows)

    def _bug(self, where: str, error: BaseException) -> None:
        self._found(InvariantBroken("actors_crash_only_when_struck", f"{where}: {error!r}"))

    def _checked(self, invariants: tuple[Callable[..., Any], ...], *arguments: Any) -> None:
        try:
            check(invariants, *arguments)
        except InvariantBroken as error:
            self._found(error)

    def _found(self, error: InvariantBroken) -> None:
        """Note the first broken invariant, and end the world; raise nothing, as the caller may be inside the node."""
        if self._broken is None:
            self._broken = error
            self.note("world", str(error))
            self._over.set()
            self._stopping = True
            self._life.cancel()

    # --- clients and agents -------------------------------------------------------------------------------

    def _answered(self) -> None:
        """Note that a client or an operator has its answer."""
        self._asking -= 1
        self._look_whether_over()

    @cached_property
    def stage(self) -> Stage:
        """What the agents of this world share."""
        return Stage(
            network=self.network,
            dice=self.dice,
            note=self.note,
            replied=self._replied,
            said=self._said,
            now=self.clock.now,
            elsewhere=lambda: self._epoch + self.elapsed_s,
            reachable=self._note_reachable,
            at_work=self.history.ledger.at_work,
            by_functions=self.history.ledger.by_functions,
            definition_of=self._definition_of,
        )

    def _said(self, task_id: str, attempt: int, who: str, what: str, result: Any) -> None:
        self.history.ledger.said.setdefault((task_id, attempt), []).append((who, what, result))

    def _note_reachable(self, agent_id: str, reachable: bool) -> None:  # noqa: FBT001 (a callback)
        (self.rows.reachable.add if reachable else self.rows.reachable.discard)(agent_id)

    def _definition_of(self, assignment: Assignment) -> TaskDefinition:
        return self.rows.task_definition(self.rows.task(assignment.task_id))
