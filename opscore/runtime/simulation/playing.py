"""Plays scenarios, and says what came of them."""

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Final

import attrs

from opscore.runtime.definitions.definition import parse
from opscore.runtime.models import Session, Task, TaskStatus
from opscore.runtime.simulation import scheduling
from opscore.runtime.simulation.deaths import BETWEEN_STEPS, Deaths
from opscore.runtime.simulation.history import History
from opscore.runtime.simulation.invariants import STANDARD, InvariantBroken, Invariants
from opscore.runtime.simulation.revision import revision
from opscore.runtime.simulation.scenario import Scenario
from opscore.runtime.simulation.world import World

_FAILED: Final = "the simulated world broke a promise"


class WorldFailed(AssertionError):
    """A world broke a promise; it says how to play it again, and what happened in it."""

    def __init__(self, played: "Played") -> None:
        self.played = played
        assert played.broken is not None, "a world that failed broke something"
        own = played.broken.invariant if played.broken.invariant in played.own else None
        super().__init__(
            f"{_FAILED}: {played.broken}\n\nseed {played.scenario.seed}, {revision()}; to play it again:\n\n"
            f"{played.scenario.python(own)}\n" + "\n".join(played.history.timeline())
        )


@attrs.frozen(kw_only=True)
class Played:
    """A scenario, and what came of it."""

    scenario: Scenario
    history: History
    broken: InvariantBroken | None
    """The first promise that was broken, if any."""
    own: frozenset[str]
    """The names of the promises that it was played with beside the runtime's."""
    elapsed_s: float
    """Virtual seconds that it took."""
    commits: int
    sessions: tuple[Session, ...]
    """As they ended, those that retention has removed since as well."""
    tasks: tuple[Task, ...]
    lasted: Mapping[str, float]
    """How long each run took that has ended, by its id, in virtual seconds, whatever the node's wall clock showed."""
    attempts: Counter[TaskStatus]
    """Of the attempts that are over, how many sent their task to which status; `ready` is for those that were lost or
    never delivered, which spend no retry."""
    faults: Counter[str]
    """How often each fault happened."""

    @property
    def fingerprint(self) -> str:
        """Stands for the journal, byte for byte: the same scenario yields the same."""
        return self.history.fingerprint()

    def check(self) -> None:
        """See that every promise was kept.

        Raises:
            WorldFailed: one was not.
        """
        if self.broken is not None:
            raise WorldFailed(self) from self.broken


def play(scenario: Scenario, invariants: Invariants = STANDARD) -> Played:
    """Play a scenario to its end, or to the first promise that is broken.

    Raises:
        InvalidDocument: one of its workflows is not valid: no run of it would begin, and nothing break.
    """
    for document in (*scenario.workflows, *scenario.saved):
        parse(document, scenario.limits)
    deaths = Deaths()
    # Being told of every step costs a world some of its time: only where something may come between two of them.
    instruments = [deaths] if any(name in BETWEEN_STEPS for name in scenario.faults.on()) else []
    return scheduling.run(
        functools.partial(_play, scenario, invariants, deaths), seed=scenario.seed, instruments=instruments
    )


async def _play(scenario: Scenario, invariants: Invariants, deaths: Deaths) -> Played:
    world = World(scenario, invariants, History(), deaths)
    broken: InvariantBroken | None = None
    try:
        await world.play()
    except InvariantBroken as error:
        broken = error
    return Played(
        scenario=scenario,
        history=world.history,
        broken=broken,
        own=frozenset(invariants.named().keys() - STANDARD.named().keys()),
        elapsed_s=world.elapsed_s,
        commits=world.commits,
        sessions=(*world.rows.gone.values(), *world.rows.sessions.values()),
        tasks=(*world.rows.gone_tasks.values(), *world.rows.tasks.values()),
        lasted=world.durations.of,
        attempts=Counter(ends[0] for ends in world.rows.ends.values()),
        faults=Counter(world.dice.happened),
    )
