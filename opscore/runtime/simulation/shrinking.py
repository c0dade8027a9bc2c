"""Shrinks a scenario that fails to a small one that still fails, in which the cause is easy to see.

The search is greedy: it removes one thing at a time, and keeps it removed if the scenario still fails. Each removal
changes the order of everything after it, so a smaller scenario is played with a few seeds before it counts as passing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from opscore.runtime.definitions.definition import parse
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.simulation.campaign import alone
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel
from opscore.runtime.simulation.fleet_document import unserved
from opscore.runtime.simulation.invariants import STANDARD, Invariants
from opscore.runtime.simulation.playing import Played, play
from opscore.runtime.simulation.scenario import Scenario

PLAYS: Final = 200
SEEDS: Final = 6
"""How many seeds a smaller scenario is played with at most; one with many runs gets fewer, down to its own seed."""
SMALL: Final = 10
"""A world with fewer runs than this counts as one play, and every further `SMALL` runs count as one more."""
_SHORTER_S: Final = (10.0, 30.0, 60.0, 120.0)


def smallest(
    scenario: Scenario,
    fails: Callable[[Played], object],
    *,
    plays: int = PLAYS,
    seeds: int = SEEDS,
    invariants: Invariants = STANDARD,
    promise: bool = False,
    on_smaller: Callable[[Scenario], None] | None = None,
) -> Scenario:
    """Make a scenario as small as possible while it still fails.

    Removes faults, then triggers, tasks and agents, then lowers rates and shortens the time for faults, and repeats
    that until nothing more can be removed. What the tasks need stays: an agent that can do each of them, the signals
    that they wait for, and the number of agents, if fewer would fail without any fault.

    Args:
        scenario: a scenario that fails, with its seed.
        fails: says whether a world failed in the way that is looked for.
        plays: how many worlds may be played; a world of many runs counts as several.
        seeds: how many seeds each smaller scenario is tried with at most.
        invariants: the promises to check in each world.
        promise: whether the failure is a broken promise, and not that of a workflow. Then signals and agents may be
            removed as well, because missing ones break no promise.
        on_smaller: called with every smaller scenario that fails.

    Returns:
        the smallest scenario found that fails, which is the one given if none is smaller.
    """
    return _Shrinking(scenario, fails, plays, seeds, invariants, on_smaller, promise=promise).run()


class _Shrinking:
    def __init__(
        self,
        scenario: Scenario,
        fails: Callable[[Played], object],
        plays: int,
        seeds: int,
        invariants: Invariants,
        on_smaller: Callable[[Scenario], None] | None,
        *,
        promise: bool,
    ) -> None:
        self._best = scenario
        self._fails = fails
        self._left = plays
        self._seeds = seeds
        self._invariants = invariants
        self._on_smaller = on_smaller
        self._promise = promise
        self._lacking = self._lacks(scenario)
        self._tried: set[str] = set()

    def run(self) -> Scenario:
        """Remove what can be removed, until a whole round removes nothing."""
        before = None
        while before != self._best and self._left > 0:
            before = self._best
            self._take_faults()
            self._take_operators()
            self._take_triggers()
            self._take_tasks()
            self._take_agents()
            self._take_rates_and_time()
        return self._best

    def _try(self, *, seeds: int | None = None, by_faults: bool = False, **changes: Any) -> bool:
        """Change the best scenario so far if it still fails; with `by_faults`, only if it needs a fault to fail."""
        candidate = attrs.evolve(self._best, **changes)
        key = repr(attrs.evolve(candidate, seed=0))
        if candidate == self._best or key in self._tried or self._lacks(candidate) - self._lacking:
            return False
        self._tried.add(key)
        runs = max(1, len(candidate.triggers))
        for step in range(seeds or max(1, min(self._seeds, self._seeds * 4 // runs))):
            if self._left <= 0:
                return False
            self._left -= 1 + runs // SMALL
            seeded = attrs.evolve(candidate, seed=candidate.seed + step)
            if self._fails(play(seeded, self._invariants)) and not (by_faults and self._fails_anyway(seeded)):
                self._best = seeded
                if self._on_smaller is not None:
                    self._on_smaller(seeded)
                return True
        return False

    def _fails_anyway(self, scenario: Scenario) -> bool:
        """Whether the scenario fails without any fault, because of the change alone."""
        return not scenario.faults.on() or bool(
            self._fails(play(attrs.evolve(scenario, faults=Faults()), self._invariants))
        )

    def _lacks(self, scenario: Scenario) -> set[str]:
        """Return what the tasks of its runs need and do not get: agents and signals."""
        return {*_unserved(scenario), *(() if self._promise else _untold(scenario))}

    def _take_faults(self) -> None:
        names = self._best.faults.on()
        if not names or self._try(faults=Faults()):
            return
        # Each fault draws from its own random source, so one that is enough alone is likely to be so with this seed.
        if len(names) > 1 and any(self._try(faults=alone(self._best.faults, name), seeds=1) for name in names):
            return
        for chunk in _chunks(lambda: len(self._best.faults.on())):
            self._try(faults=self._best.faults.without(self._best.faults.on()[chunk]))

    def _take_operators(self) -> None:
        for chunk in _chunks(lambda: len(self._best.steerings)):
            self._try(steerings=_left(self._best.steerings, chunk))
        for chunk in _chunks(lambda: len(self._best.tellings)):
            self._try(tellings=_left(self._best.tellings, chunk))
        for chunk in _chunks(lambda: len(self._best.calendars)):
            self._try(calendars=_left(self._best.calendars, chunk))
        self._try(sweeps=())
        self._try(looks=())
        self._try(cordons=())
        self._try(saved=())

    def _take_triggers(self) -> None:
        for chunk in _chunks(lambda: len(self._best.triggers)):
            places = list(range(len(self._best.triggers)))
            if left := [*places[: chunk.start], *places[chunk.stop :]]:
                smaller = _of_triggers(self._best, left)
                self._try(triggers=smaller.triggers, steerings=smaller.steerings, tellings=smaller.tellings)
        self._try(triggers=tuple(attrs.evolve(trigger, at_s=0.0) for trigger in self._best.triggers))
        used = sorted({trigger.workflow for trigger in self._best.triggers})
        self._try(
            workflows=tuple(self._best.workflows[place] for place in used),
            triggers=tuple(attrs.evolve(each, workflow=used.index(each.workflow)) for each in self._best.triggers),
        )

    def _take_tasks(self) -> None:
        for place, workflow in enumerate(self._best.workflows):
            for task in reversed(workflow["tasks"]):
                workflows = list(self._best.workflows)
                workflows[place] = _without_task(workflows[place], task["taskId"])
                if self._valid(workflows[place]):
                    self._try(workflows=tuple(workflows))

    def _valid(self, workflow: Mapping[str, Any]) -> bool:
        try:
            parse(workflow, self._best.limits)
        except InvalidDocument:
            return False
        return bool(workflow["tasks"])

    def _take_agents(self) -> None:
        for place in reversed(range(len(self._best.agents))):
            self._try(agents=(*self._best.agents[:place], *self._best.agents[place + 1 :]))
        for place in range(len(self._best.agents)):
            for change in _fewer_agents(self._best.agents[place]):
                self._change_agent(place, by_faults=not self._promise, count=change)
            for changes in _steadier_agent(self._best.agents[place]):
                self._change_agent(place, **changes)

    def _change_agent(self, place: int, *, by_faults: bool = False, **changes: Any) -> bool:
        agents = list(self._best.agents)
        agents[place] = attrs.evolve(agents[place], **changes)
        return self._try(by_faults=by_faults, agents=tuple(agents))

    def _take_rates_and_time(self) -> None:
        for name in self._best.faults.on():
            for times in (0.25, 0.5):
                rate = round(getattr(self._best.faults, name) * times, 6)
                if self._try(faults=attrs.evolve(self._best.faults, **{name: rate})):
                    break
        for seconds in _SHORTER_S:
            if seconds < self._best.faults_until_s and self._try(faults_until_s=seconds):
                break


def _left(line: Sequence[Any], chunk: slice) -> tuple[Any, ...]:
    return (*line[: chunk.start], *line[chunk.stop :])


def _of_triggers(scenario: Scenario, places: list[int]) -> Scenario:
    """Return a scenario with only these of its triggers, and the steerings and signals of their runs."""

    def left(line: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(attrs.evolve(each, trigger=places.index(each.trigger)) for each in line if each.trigger in places)

    return attrs.evolve(
        scenario,
        triggers=tuple(scenario.triggers[place] for place in places),
        steerings=left(scenario.steerings),
        tellings=left(scenario.tellings),
    )


def _fewer_agents(model: AgentModel) -> Iterator[int]:
    """Yield the smaller numbers of agents of a kind to try."""
    if model.count > 1:
        yield from (1, (model.count + 1) // 2, model.count - 1)


def _steadier_agent(model: AgentModel) -> Iterator[dict[str, Any]]:
    """Yield the changes that make a kind of agent steadier: it never leaves, is there from the start, never fails."""
    if model.leaves_at_s is not None:
        yield {"leaves_at_s": None, "returns_at_s": None, "returns_as": None, "leaving_share": 1.0}
    if model.joins_at_s:
        yield {"joins_at_s": 0.0}
    steady = {name: attrs.evolve(skill, failure_rate=0.0) for name, skill in model.skills.items()}
    yield {"skills": steady, "default": attrs.evolve(model.default, failure_rate=0.0)}


def _unserved(scenario: Scenario) -> Iterator[str]:
    """Yield the agents that are missing for the tasks of runs and child runs."""
    below = [parse(document, scenario.limits) for document in scenario.saved]
    for workflow in {trigger.workflow for trigger in scenario.triggers}:
        yield from unserved(parse(scenario.workflows[workflow], scenario.limits), scenario.agents, below)
    ids = {agent_id for model in scenario.agents for agent_id in model.ids()}
    yield from {trigger.agent_id for trigger in scenario.triggers if trigger.agent_id is not None} - ids


def _untold(scenario: Scenario) -> Iterator[str]:
    """Yield the signals that some run waits for and that nobody sends."""
    told = {(telling.trigger, telling.name) for telling in scenario.tellings}
    awaited = [parse(document, scenario.limits).signals for document in scenario.workflows]
    for number, trigger in enumerate(scenario.triggers):
        yield from (f"signal {name}" for name in awaited[trigger.workflow] if (number, name) not in told)


def _without_task(workflow: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a workflow without one of its tasks; its predecessors become those of its successors."""
    (gone,) = [task for task in workflow["tasks"] if task["taskId"] == key]
    tasks = []
    for task in workflow["tasks"]:
        if task is gone:
            continue
        left = {
            name: value
            for name, value in task.items()
            if name not in ("fallbackTaskId", "compensateTaskId") or value != key
        }
        if left.get("nextTaskId") == key:
            left["nextTaskId"] = gone.get("nextTaskId")
        if key in left.get("dependsOn", ()):
            before = [name for name in left["dependsOn"] if name != key]
            left["dependsOn"] = list(dict.fromkeys([*before, *gone.get("dependsOn", ())]))
        tasks.append(left)
    about = {name: value for name, value in workflow.items() if name != "onFailure" or value != key}
    return {**about, "tasks": tasks}


def _chunks(length: Callable[[], int]) -> Iterator[slice]:
    """Yield parts of a sequence that may shrink meanwhile: halves first, then quarters, down to single items."""
    size = (length() + 1) // 2
    while size:
        place = 0
        while place < (before := length()):
            yield slice(place, place + size)
            if length() == before:
                place += size
        size //= 2
