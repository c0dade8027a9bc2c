"""Plays scenarios, and returns their outcome."""

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
    """A world (`played`) broke a promise; the message says how to play it again, and what happened in it."""

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
    """A scenario, and its outcome."""

    scenario: Scenario
    """What was played."""
    history: History
    """What happened in it; `history.timeline()` returns it as lines to read."""
    broken: InvariantBroken | None
    """The first promise that was broken, if any."""
    own: frozenset[str]
    """The names of the invariants that it was played with in addition to the runtime's own."""
    elapsed_s: float
    """How long the world lasted, in virtual seconds."""
    commits: int
    """How many submissions the node committed."""
    sessions: tuple[Session, ...]
    """All runs in their last state, including those that retention removed."""
    tasks: tuple[Task, ...]
    """All tasks of these runs, in their last state."""
    lasted: Mapping[str, float]
    """The duration of each run that has ended, by its id, in virtual seconds, whatever the node's wall clock showed."""
    attempts: Counter[TaskStatus]
    """The number of attempts that are over, by the status that their task had next. `ready` counts those that were lost
    or never delivered, which use up no retry."""
    faults: Counter[str]
    """How often each fault happened."""

    @property
    def fingerprint(self) -> str:
        """A hash of the journal; the same scenario always gives the same one."""
        return self.history.fingerprint()

    def check(self) -> None:
        """Check that every promise was kept.

        Raises:
            WorldFailed: a promise was broken.
        """
        if self.broken is not None:
            raise WorldFailed(self) from self.broken


def play(scenario: Scenario, invariants: Invariants = STANDARD) -> Played:
    """Play a scenario to its end, or until a promise is broken.

    It runs trio by itself, and blocks whatever calls it until the world is over.

    Args:
        scenario: the world to play.
        invariants: the promises to check.

    Returns:
        what came of it. A broken promise raises nothing here, but in `Played.check`.

    Raises:
        InvalidDocument: one of its workflows is invalid. No run of it would start, so nothing could fail.
        ValueError: a trigger names a workflow by an index that the scenario does not have.
        RuntimeError: it is called inside of trio.
    """
    for document in (*scenario.workflows, *scenario.saved):
        parse(document, scenario.limits)
    for number, trigger in enumerate(scenario.triggers):
        if not 0 <= trigger.workflow < len(scenario.workflows):
            known = f"the scenario has {len(scenario.workflows)} workflows"
            raise ValueError(f"trigger {number} starts workflow {trigger.workflow}, counted from 0, and {known}")
    deaths = Deaths()
    # Observing every step makes a world slower, so it is done only where a fault can happen between two steps.
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
