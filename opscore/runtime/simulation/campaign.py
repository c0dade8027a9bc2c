"""Many worlds of one scenario, one for each seed, and what came of them in figures.

A run completes, or it does not: it fails, it is paused, it is never accepted, or it has not ended long after everything
has stopped going wrong. A world that breaks a promise of the runtime's is another matter: that is no fault of the
workflow, and its runs are cut short.
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
"""One scenario for every seed, or what makes the scenario of a seed."""

_ENDS: Final = frozenset({outside.everything_ends.__name__, asking.every_trigger_is_answered.__name__})
"""The promises that a workflow can break by itself: one that nobody can do never ends, nor does one begin whose agent
never comes."""


class Ending(StrEnum):
    """How a run ends, in a world."""

    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    UNENDED = "not ended"
    """Long after everything has stopped going wrong."""
    NOT_STARTED = "not started"
    """It was never accepted, or refused for good."""
    CUT_SHORT = "cut short"
    """Its world broke a promise, and ended with that."""


_SAID_OF: Final = {Role.COMPENSATION: "compensation", Role.ON_FAILURE: "onFailure"}
"""What the report calls that which is done when a run unwinds."""
_SAID: Final = {
    Ending.FAILED: "failed",
    Ending.PAUSED: "been paused",
    Ending.UNENDED: "not ended",
    Ending.NOT_STARTED: "not started",
}


@attrs.frozen(kw_only=True)
class Run:
    """What became of one run."""

    ending: Ending
    seconds: float | None = None
    """From its start to its end, in virtual seconds."""
    why: str = ""
    """Why it did not complete."""
    cause: str = ""
    """What others have in common with it that failed in the same way: the task, and the code of its error."""


@attrs.frozen(kw_only=True)
class Wrong:
    """What is wrong with an outcome."""

    kind: str
    """Stands for all that go wrong in the same way: a promise, an ending and its cause, or `late`."""
    why: str
    promise: bool = False
    """Whether it is a promise of the runtime's, which no workflow can break by itself."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one world, without its history: there may be thousands of them."""

    scenario: Scenario
    runs: tuple[Run, ...]
    attempts: int
    """How often work was handed out."""
    retries: int
    """Attempts that failed, after which the task waited to be tried again."""
    failures: int
    """Attempts that failed, and were the last of their task."""
    lost: int
    """Attempts that were lost with their agent, or never reached it; they spend no retry."""
    faults: Counter[str]
    broken: str | None
    """The promise of the runtime's that was broken, if any, and how."""
    promise: str | None
    """Its name."""
    elapsed_s: float
    handlers: Counter[str] = attrs.field(factory=Counter)
    """Why what was to undo a run that failed, or to be done then, failed for good itself."""

    @classmethod
    def of(cls, played: Played) -> "Outcome":
        """Sum up a world."""
        broken = played.broken if played.broken is not None and played.broken.invariant not in _ENDS else None
        # A run that another one began is a part of that.
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
        """Say what is wrong with it: a broken promise, a run that does not complete, or takes too long.

        Args:
            within_s: how long a run may take, if there is a limit.
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
    """A scenario as Python that plays it again, and fails by what is wrong with it.

    Args:
        scenario: in which something goes wrong.
        wrong: what does.
        within_s: how long a run may take, if there is a limit.
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
    """The signal that a task waits for, by its workflow and its own id."""
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
    """What came of many worlds."""

    worlds: int
    endings: Counter[Ending]
    """How many runs ended how."""
    reasons: Counter[str]
    """Why runs did not complete, and how many for each reason."""
    seconds: tuple[float, ...]
    """How long the runs that completed took, shortest first, in virtual seconds."""
    late: int
    """Runs that completed, and took longer than they may."""
    virtual_s: float
    """Virtual seconds that all worlds took together."""
    attempts: int
    retries: int
    failures: int
    lost: int
    faults: Counter[str]
    """How often each fault happened."""
    broken: tuple[tuple[int, str], ...]
    """The worlds that broke a promise, by their seed, and which."""
    handlers: Counter[str]
    """Why what was to undo runs that failed, or to be done then, failed itself, and how often."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], within_s: float | None = None) -> "Figures":
        """Sum them up.

        Args:
            outcomes: of worlds.
            within_s: how long a run may take, if there is a limit.
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
        """Runs that had the time to end: all but those that were cut short."""
        return self.endings.total() - self.endings[Ending.CUT_SHORT]

    @property
    def completed(self) -> int:
        """Runs that completed."""
        return self.endings[Ending.COMPLETED]

    @property
    def completion_rate(self) -> float | None:
        """The share of the runs that completed; None where there were none."""
        return self.completed / self.runs if self.runs else None

    @property
    def well(self) -> bool:
        """Whether every run completed, in time, and no promise was broken."""
        return self.completed == self.endings.total() and not self.late and not self.broken

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """What keeps it from being well, each with how often; nothing where it is."""
        late = (f"{self.late} × took longer than it may",) if self.late else ()
        broken = (f"seed {seed}: {what}" for seed, what in self.broken)
        return (*(f"{count} × {why}" for why, count in self.reasons.most_common()), *late, *broken)

    def percentile(self, percent: float) -> float | None:
        """How long the runs that completed took at most, for so many of a hundred."""
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
    """Play a world for each seed.

    Args:
        scenarios: what is played.
        seeds: of the worlds.
        invariants: what has to hold in each.
        on_outcome: told of every world as soon as it is over.
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
    """Its name; None when things go wrong without any fault."""
    scenario: Scenario
    """With this fault alone."""
    wrong: Wrong


def alone(faults: Faults, name: str) -> Faults:
    """One of the faults at its rate, and no other."""
    return faults.without(other for other in faults.on() if other != name)


def weaknesses(
    scenario: Scenario,
    seeds: Sequence[int],
    wrong: Callable[[Played], Wrong | None],
    *,
    names: Iterable[str] | None = None,
    invariants: Invariants = STANDARD,
) -> Iterator[Weakness]:
    """Find the faults that are enough, each alone, for things to go wrong.

    Without any fault comes first: what goes wrong then is no fault's work, and nothing else is looked for.

    Args:
        scenario: what is played.
        seeds: how each fault is tried; the first with which things go wrong is enough.
        wrong: says of a world what is wrong with it, if anything.
        names: the faults to try, instead of all that are on.
        invariants: what has to hold in each world.
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
