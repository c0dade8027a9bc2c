"""Plays many worlds of one scenario, one for each seed, and sums up their outcomes.

A run completes, or it fails, is paused, is never accepted, or has not ended long after faults have stopped. If a world
breaks one of the runtime's promises, the workflow is not to blame; the world stops there, and its runs are cut short.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

import attrs

from opscore.runtime.definitions.definition import Role, TaskKind, parse
from opscore.runtime.models import Failure, Session, SessionStatus, Task, TaskStatus
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.invariants import STANDARD, Invariants
from opscore.runtime.simulation.playing import Played, play
from opscore.runtime.simulation.promises import asking, outside
from opscore.runtime.simulation.scenario import IMPORTS, Scenario

Scenarios: TypeAlias = Scenario | Callable[[int], Scenario]
"""One scenario for all seeds, or a function that makes the scenario of a seed."""

_ENDS: Final = frozenset({outside.everything_ends.__name__, asking.every_trigger_is_answered.__name__})
"""The promises that a workflow can break by itself: it never ends if no agent can do its tasks, and never starts if its
agent never joins."""


class Ending(StrEnum):
    """How a run ended in a world: it has `completed`, has `failed` (for good, or was cancelled), or has not ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    """It waits for somebody to resume it, for example because its actor kept crashing."""
    UNENDED = "not ended"
    """It was still unfinished long after faults had stopped."""
    NOT_STARTED = "not started"
    """It was never accepted, or was refused permanently."""
    CUT_SHORT = "cut short"
    """Its world broke a promise, and stopped there."""


_SAID_OF: Final = {Role.COMPENSATION: "compensation", Role.ON_FAILURE: "onFailure"}
"""The report's names for the tasks that run when a run unwinds."""
_SAID: Final = {
    Ending.FAILED: "failed",
    Ending.PAUSED: "been paused",
    Ending.UNENDED: "not ended",
    Ending.NOT_STARTED: "not started",
}


@attrs.frozen(kw_only=True)
class Run:
    """The outcome of one run."""

    ending: Ending
    """How it ended."""
    seconds: float | None = None
    """From its start to its end, in virtual seconds."""
    why: str = ""
    """Why it did not complete."""
    cause: str = ""
    """What it has in common with runs that failed in the same way: the task, and its error code."""


@attrs.frozen(kw_only=True)
class Wrong:
    """What is wrong with the outcome of a world."""

    kind: str
    """The same for all worlds that go wrong in the same way: a promise, an ending and its cause, or `late`."""
    why: str
    """The sentence that says what is wrong."""
    promise: bool = False
    """Whether it is a broken promise of the runtime's, which no workflow can break by itself."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of one world, without its history, because there may be thousands of worlds."""

    scenario: Scenario
    """The world that was played."""
    runs: tuple[Run, ...]
    """Its runs, without child runs."""
    attempts: int
    """The number of attempts."""
    retries: int
    """Failed attempts that were followed by a retry."""
    failures: int
    """Failed attempts that were the last of their task."""
    lost: int
    """Attempts that were lost with their agent, or never reached it; they use up no retry."""
    faults: Counter[str]
    """How often each fault happened."""
    broken: str | None
    """The promise of the runtime's that was broken, if any, and how."""
    promise: str | None
    """The name of that promise."""
    elapsed_s: float
    """How long the world lasted, in virtual seconds."""
    handlers: Counter[str] = attrs.field(factory=Counter)
    """Why compensations and `onFailure` tasks failed permanently themselves, and how often."""

    @classmethod
    def of(cls, played: Played) -> "Outcome":
        """Return the outcome of a world that was played.

        Args:
            played: what `play` returned.
        """
        broken = played.broken if played.broken is not None and played.broken.invariant not in _ENDS else None
        # A child run is part of the run that started it.
        begun = [session for session in played.sessions if session.parent_task_id is None]
        signals = _signals_of(played.scenario)
        runs = [_run(session, played, signals, cut_short=broken is not None) for session in begun]
        triggers = played.scenario.triggers
        wanted = len({trigger.key or f"trigger-{number}" for number, trigger in enumerate(triggers)})
        refused = [f"it was refused: {why}" for why in played.history.ledger.refused.values()]
        whys = itertools.chain(refused, itertools.repeat("it was never accepted"))
        missing = (
            Run(ending=Ending.NOT_STARTED, why=why) if broken is None else Run(ending=Ending.CUT_SHORT) for why in whys
        )
        return cls(
            scenario=played.scenario,
            runs=(*runs, *itertools.islice(missing, max(0, wanted - len(runs)))),
            attempts=sum(task.attempt for task in played.tasks),
            retries=played.attempts[TaskStatus.PENDING_RETRY],
            failures=played.attempts[TaskStatus.FAILED],
            lost=played.attempts[TaskStatus.READY],
            faults=played.faults,
            broken=None if broken is None else str(broken),
            promise=None if broken is None else broken.invariant,
            elapsed_s=played.elapsed_s,
            handlers=Counter(_failed_handlers(played)),
        )

    def wrong(self, within_s: float | None = None) -> Wrong | None:
        """Return what is wrong: a broken promise, or a run that did not complete or took too long; None if nothing is.

        Args:
            within_s: how long a run may take, in virtual seconds; None for any time.
        """
        if self.broken is not None:
            return Wrong(kind=str(self.promise), why=f"a promise is broken: {self.broken}", promise=True)
        for ending in (Ending.UNENDED, Ending.NOT_STARTED, Ending.PAUSED, Ending.FAILED):
            found = next((run for run in self.runs if run.ending is ending), None)
            if found is not None:
                kind = f"{ending}: {found.cause}" if found.cause else ending
                return Wrong(kind=kind, why=f"a run has {_SAID[ending]}: {found.why}")
        slowest = max((run.seconds or 0.0 for run in self.runs), default=0.0)
        if within_s is not None and slowest > within_s:
            return Wrong(kind="late", why=f"a run takes {slowest:,.1f} s")
        return None


def python(scenario: Scenario, wrong: Wrong, within_s: float | None = None) -> str:
    """Return a Python script that plays a scenario again, and fails because of what is wrong with it.

    Args:
        scenario: a scenario in which something goes wrong.
        wrong: what goes wrong.
        within_s: how long a run may take, in virtual seconds; None for any time.
    """
    if wrong.promise:
        return scenario.python()
    limit = "" if within_s is None else f"within_s={within_s!r}"
    return (
        f"{IMPORTS}from opscore.runtime.simulation.campaign import Outcome\n\n"
        f"wrong = Outcome.of(play({scenario.source()})).wrong({limit})\n"
        "assert wrong is None, wrong.why\n"
    )


def _signals_of(scenario: Scenario) -> dict[tuple[str, str], str]:
    """Return the signal that each signal task waits for, by the workflow's and the task's id."""
    return {
        (document["id"], task["taskId"]): (task.get("parameters") or {}).get("name") or task["taskId"]
        for document in (*scenario.workflows, *scenario.saved)
        for task in document["tasks"]
        if task.get("type") == TaskKind.SIGNAL
    }


def _failed_handlers(played: Played) -> Iterator[str]:
    documents = (*played.scenario.workflows, *played.scenario.saved)
    said = {
        (definition.workflow_id, task.key): _SAID_OF[task.role]
        for definition in (parse(document, played.scenario.limits) for document in documents)
        for task in definition.tasks
        if task.role in _SAID_OF
    }
    ran = {session.session_id: session.workflow_id for session in played.sessions}
    for task in played.tasks:
        what = said.get((ran.get(task.session_id, ""), task.key))
        if what is not None and task.status is TaskStatus.FAILED and task.error is not None:
            yield f"{what} {task.key!r} failed: {task.error.message} ({task.error.code})"


def _run(session: Session, played: Played, signals: Mapping[tuple[str, str], str], *, cut_short: bool) -> Run:
    seconds = played.lasted.get(session.session_id)
    if session.status is SessionStatus.COMPLETED:
        return Run(ending=Ending.COMPLETED, seconds=seconds)
    if session.status in (SessionStatus.FAILED, SessionStatus.CANCELLED):
        error = session.error
        why = "it was cancelled" if error is None else f"{error.message} ({error.code})"
        return Run(ending=Ending.FAILED, seconds=seconds, why=why, cause=_cause(error))
    if cut_short:
        return Run(ending=Ending.CUT_SHORT)
    if session.status is SessionStatus.PAUSED:
        return Run(ending=Ending.PAUSED, why=session.reason or "")
    stands = [
        f"task {task.key} {_standing(task, signals.get((session.workflow_id, task.key)))}"
        for task in played.tasks
        if task.session_id == session.session_id and task.status not in (TaskStatus.COMPLETED, TaskStatus.PENDING)
    ]
    return Run(ending=Ending.UNENDED, why=", ".join(stands) or f"it is {session.status}")


def _cause(error: Failure | None) -> str:
    if error is None:
        return "cancelled"
    task, failed, _ = error.message.partition(" failed: ")
    return f"{error.code} of {task}" if failed else error.code


def _standing(task: Task, signal: str | None) -> str:
    return f"waits for the signal {signal!r}" if signal is not None and task.awaits else f"is {task.status}"


@attrs.frozen(kw_only=True)
class Figures:
    """The outcomes of many worlds, summed up; `attempts`, `retries`, `failures` and `lost` as in `Outcome`."""

    worlds: int
    """How many worlds were played."""
    endings: Counter[Ending]
    """The number of runs by how they ended."""
    reasons: Counter[str]
    """Why runs did not complete, and the number of runs for each reason."""
    seconds: tuple[float, ...]
    """The durations of the runs that completed, shortest first, in virtual seconds."""
    late: int
    """The number of runs that completed, but took longer than they may."""
    virtual_s: float
    """The duration of all worlds together, in virtual seconds."""
    attempts: int
    retries: int
    failures: int
    lost: int
    faults: Counter[str]
    """How often each fault happened."""
    broken: tuple[tuple[int, str], ...]
    """The seeds of the worlds that broke a promise, each with what was broken."""
    handlers: Counter[str]
    """Why compensations and `onFailure` tasks failed permanently themselves, and how often."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], within_s: float | None = None) -> "Figures":
        """Return the figures of the outcomes of worlds.

        Args:
            outcomes: one for each world.
            within_s: how long a run may take, in virtual seconds; None for any time.
        """
        runs = [run for outcome in outcomes for run in outcome.runs]
        seconds = sorted(run.seconds or 0.0 for run in runs if run.ending is Ending.COMPLETED)
        return cls(
            worlds=len(outcomes),
            endings=Counter(run.ending for run in runs),
            reasons=Counter(run.why for run in runs if run.why),
            seconds=tuple(seconds),
            late=0 if within_s is None else sum(taken > within_s for taken in seconds),
            virtual_s=sum(outcome.elapsed_s for outcome in outcomes),
            attempts=sum(outcome.attempts for outcome in outcomes),
            retries=sum(outcome.retries for outcome in outcomes),
            failures=sum(outcome.failures for outcome in outcomes),
            lost=sum(outcome.lost for outcome in outcomes),
            faults=sum((outcome.faults for outcome in outcomes), Counter[str]()),
            broken=tuple((each.scenario.seed, each.broken) for each in outcomes if each.broken is not None),
            handlers=sum((outcome.handlers for outcome in outcomes), Counter[str]()),
        )

    @property
    def runs(self) -> int:
        """The number of runs that had the time to end: all but those that were cut short."""
        return self.endings.total() - self.endings[Ending.CUT_SHORT]

    @property
    def completed(self) -> int:
        """The number of runs that completed."""
        return self.endings[Ending.COMPLETED]

    @property
    def completion_rate(self) -> float | None:
        """The share of runs that completed, from 0 to 1; None if there were no runs."""
        return self.completed / self.runs if self.runs else None

    @property
    def well(self) -> bool:
        """Whether every run completed, in time, and no promise was broken."""
        return self.completed == self.endings.total() and not self.late and not self.broken

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """The reasons why not everything is well, each with how often; empty if everything is."""
        late = (f"{self.late} × took longer than it may",) if self.late else ()
        broken = (f"seed {seed}: {what}" for seed, what in self.broken)
        return (*(f"{count} × {why}" for why, count in self.reasons.most_common()), *late, *broken)

    def percentile(self, percent: float) -> float | None:
        """Return the duration that so many of the completed runs did not exceed, in virtual seconds; None without any.

        Args:
            percent: the share, from 0 to 100.
        """
        if not self.seconds:
            return None
        return self.seconds[max(0, math.ceil(len(self.seconds) * percent / 100) - 1)]


def campaign(
    scenarios: Scenarios,
    seeds: Iterable[int],
    *,
    invariants: Invariants = STANDARD,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:
    """Play a world for each seed, and return their outcomes.

    Args:
        scenarios: the scenario, or a function that makes one from a seed.
        seeds: the seeds of the worlds.
        invariants: the promises to check in each world.
        on_outcome: called with the outcome of every world as soon as it is over.
    """
    outcomes = []
    for seed in seeds:
        scenario = attrs.evolve(scenarios, seed=seed) if isinstance(scenarios, Scenario) else scenarios(seed)
        outcome = Outcome.of(play(scenario, invariants))
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)
    return tuple(outcomes)


@attrs.frozen(kw_only=True)
class Weakness:
    """A fault that a scenario does not survive."""

    fault: str | None
    """Its name; None if the scenario goes wrong without any fault."""
    scenario: Scenario
    """The scenario with this fault alone."""
    wrong: Wrong
    """What goes wrong in it."""


def alone(faults: Faults, name: str) -> Faults:
    """Return the faults with all but one switched off."""
    return faults.without(other for other in faults.on() if other != name)


def weaknesses(
    scenario: Scenario,
    seeds: Sequence[int],
    wrong: Callable[[Played], Wrong | None],
    *,
    names: Iterable[str] | None = None,
    invariants: Invariants = STANDARD,
) -> Iterator[Weakness]:
    """Yield the faults each of which alone makes a scenario go wrong. Yields each as soon as it is found.

    The scenario is played without any fault first. If it goes wrong then, no fault is to blame, and the search ends.

    Args:
        scenario: the scenario to play.
        seeds: the seeds to try each fault with, until one goes wrong.
        wrong: returns what is wrong with a world, or None.
        names: the faults to try; None for all that are on.
        invariants: the promises to check in each world.
    """
    tried: list[tuple[str | None, Faults]] = [(None, Faults())]
    tried += [(name, alone(scenario.faults, name)) for name in (scenario.faults.on() if names is None else names)]
    for name, faults in tried:
        for seed in seeds:
            candidate = attrs.evolve(scenario, seed=seed, faults=faults)
            found = wrong(play(candidate, invariants))
            if found is not None:
                yield Weakness(fault=name, scenario=candidate, wrong=found)
                break
        else:
            continue
        if name is None:
            return
