"""A run as one value, the draft in which its next step is built, and the effects that follow the step's commit."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from opscore.runtime.definitions.definition import Definition, Role, TaskDefinition
from opscore.runtime.definitions.scopes import Standing
from opscore.runtime.evolving import evolve
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, Session, SessionStatus, Signal, Task, TaskStatus
from opscore.runtime.runs.lifecycle import SESSION_TABLE, TASK_TABLE, ImpossibleTransition, SessionEvent, TaskEvent


@attrs.frozen
class Tally:
    """Counts of the items that a `forEach` task has begun so far, by their state."""

    pending: int = 0
    """Items of a retried run that have to begin anew."""
    ended: int = 0
    failed: int = 0
    """Those of the ended items that failed."""
    out: int = 0
    """Items of which an agent has an open attempt."""

    def moved(self, old: Task | None, new: Task) -> "Tally":
        """Return the tally after an item changed, or was added."""
        before = Tally() if old is None else tallied([old])
        after = tallied([new])
        return Tally(
            self.pending + after.pending - before.pending,
            self.ended + after.ended - before.ended,
            self.failed + after.failed - before.failed,
            self.out + after.out - before.out,
        )


@attrs.frozen(kw_only=True)
class Run:
    """A session with its tasks, in the order of the definition."""

    session: Session
    tasks: tuple[Task, ...]
    definition: Definition
    items: Mapping[int, tuple[Task, ...]] = attrs.field(factory=dict)
    """The items that each `forEach` task has begun so far, in the order of its list; by the task's ordinal."""
    tallies: Mapping[int, Tally] = attrs.field(factory=dict)
    """The counts of those items; by the task's ordinal."""
    signals: tuple[Signal, ...] = ()
    """Signals that no task has taken yet, in the order in which they came."""

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.session.status in SESSION_ENDED

    @property
    def has_attempts_out(self) -> bool:
        """Whether an agent has an open attempt of one of its tasks."""
        return any(task.is_out for task in self.tasks) or any(tally.out for tally in self.tallies.values())

    def dismissed(self) -> Iterator[str]:
        """Yield the agents that may still be busy with an attempt that was taken back."""
        gone = (task for task in self.every() if not task.is_out and task.status is not TaskStatus.COMPLETED)
        return (task.agent_id for task in gone if task.agent_id is not None)

    def find(self, task_id: str) -> Task | None:
        """Return the task with this id, if there is one."""
        above, _, place = task_id.rpartition(".")
        line: Sequence[Task] = self.tasks
        if above != self.session.session_id:
            ordinal = above.rpartition(".")[2]
            line = self.items.get(int(ordinal), ()) if ordinal.isdecimal() else ()
        at = int(place) if place.isdecimal() else len(line)
        return line[at] if at < len(line) and line[at].task_id == task_id else None

    def every(self) -> Iterator[Task]:
        """Yield every task; the items of a list follow their task."""
        for task in self.tasks:
            yield task
            yield from self.items.get(task.ordinal, ())

    def task_definition(self, task: Task) -> TaskDefinition:
        """Return the definition of a task."""
        return self.definition.tasks[task.ordinal]

    def standing(self) -> Standing:
        """Return the run as its expressions see it."""
        return Standing(session=self.session, definition=self.definition, tasks=self.tasks, items=self.items)


@attrs.frozen(kw_only=True)
class _AboutTask:
    task: Task


@attrs.frozen(kw_only=True)
class Ready(_AboutTask):
    """A task waits for an agent."""


@attrs.frozen(kw_only=True)
class DueAt:
    """A task, or the run as a whole, has to be checked at a time, or no longer at any."""

    what: str
    """The id of the task, or that of the session."""
    due_at: float | None


@attrs.frozen(kw_only=True)
class Withdrawn(_AboutTask):
    """A task that waited for an agent no longer does."""


@attrs.frozen(kw_only=True)
class Ended:
    """The session has ended."""

    session: Session


@attrs.frozen(kw_only=True)
class RunAwaited(_AboutTask):
    """A task waits for a child run, which may have to begin, or may have ended already."""


@attrs.frozen(kw_only=True)
class RunCalledOff:
    """No task waits any more for a child run that may have begun."""

    session_id: str


Effect = Ready | DueAt | Withdrawn | RunAwaited | RunCalledOff | Ended


@attrs.frozen(kw_only=True)
class Step:
    """The next state of a run, what changed, and what has to happen once that is committed."""

    run: Run
    changed: tuple[Task, ...] = ()
    """The tasks that changed, as they are now."""
    revoked: tuple[Task, ...] = ()
    """Tasks whose open attempt was taken from its agent, as they were before."""
    signals: tuple[Signal, ...] = ()
    """The signals that came or were taken, as they are now."""
    effects: tuple[Effect, ...] = ()
    parts: "tuple[Step, ...]" = ()
    """The steps that this one is combined from, which are recorded one by one."""

    def then(self, later: "Step") -> "Step":
        """Combine both steps; of a task that changes in both, only the effects of the later change are kept."""
        again = {task.task_id: task for task in later.changed}
        changed = [again.pop(task.task_id, task) for task in self.changed]
        ids = {task.task_id for task in later.changed}
        return Step(
            run=later.run,
            changed=(*changed, *again.values()),
            revoked=self.revoked + later.revoked,
            signals=self.signals + later.signals,
            effects=(*(effect for effect in self.effects if _is_about(effect) not in ids), *later.effects),
            parts=(self, later),
        )


def _is_about(effect: Effect) -> str:
    match effect:
        case DueAt(what=what):
            return what
        case RunCalledOff(session_id=session_id) | Ended(session=Session(session_id=session_id)):
            return session_id
        case _:
            return effect.task.task_id


class Draft:
    """A mutable copy of a run, in which its next step is built. Changes to it do not reach the original.

    Args:
        run: the run before the step.
        now: the time of the step.
    """

    def __init__(self, run: Run, now: float) -> None:
        self.now = now
        self.session = run.session
        self.definition = run.definition
        self.tasks = list(run.tasks)
        self._items: dict[int, list[Task]] = {}
        self._tallies = dict(run.tallies)
        self._results: dict[int, list[Any]] = {}
        """Results of completed lists that were read already, by the task's ordinal."""
        self._before = run
        self._revoked: list[Task] = []
        self._signals = list(run.signals)
        self._signals_moved: dict[int, Signal] = {}

    def of(self, task: Task) -> TaskDefinition:
        """Return the definition of a task."""
        return self.definition.tasks[task.ordinal]

    def items(self, task: Task) -> Sequence[Task]:
        """Return the items that a `forEach` task has begun so far."""
        return self._items.get(task.ordinal) or self._before.items.get(task.ordinal, ())

    def every(self) -> Iterator[Task]:
        """Yield every task; the items of a list follow their task."""
        for task in tuple(self.tasks):
            yield task
            yield from tuple(self.items(task))

    def add_item(self, item: Task) -> Task:
        """Add the next item of a list."""
        self._items_to_change(item.ordinal).append(item)
        self._count(None, item)
        return item

    def tally(self, task: Task) -> Tally:
        """Return the counts of the items that a `forEach` task has begun so far."""
        return self._tallies.get(task.ordinal, Tally())

    def _count(self, old: Task | None, new: Task) -> None:
        self._tallies[new.ordinal] = self._tallies.get(new.ordinal, Tally()).moved(old, new)

    def standing(self) -> Standing:
        """Return the run as its expressions see it."""
        items = {**self._before.items, **self._items}
        return Standing(
            session=self.session, definition=self.definition, tasks=self.tasks, items=items, results=self._results
        )

    def by_key(self, key: str) -> Task:
        """Return the task with this id in the definition."""
        return self.tasks[self.definition.by_key[key].ordinal]

    def in_role(self, *roles: Role) -> Iterator[Task]:
        """Yield the tasks that have one of these roles."""
        return (self.tasks[each.ordinal] for each in self.definition.tasks if each.role in roles)

    def move(self, task: Task, event: TaskEvent, **changes: Any) -> Task:
        """Move a task to the status that the table gives for an event.

        Raises:
            ImpossibleTransition: the table has no such transition.
        """
        return self._put(moved(task, event, **changes))

    def _put(self, task: Task) -> Task:
        if task.item is None:
            self.tasks[task.ordinal] = task
        else:
            line = self._items_to_change(task.ordinal)
            self._count(line[task.item], task)
            line[task.item] = task
        return task

    def _items_to_change(self, ordinal: int) -> list[Task]:
        self._results.pop(ordinal, None)
        line = self._items.get(ordinal)
        if line is None:
            line = self._items[ordinal] = list(self._before.items.get(ordinal, ()))
        return line

    def change(self, task: Task, **changes: Any) -> Task:
        """Change fields of a task, but not its status."""
        return self._put(evolve(task, **changes))

    def end(self, task: Task, event: TaskEvent, **changes: Any) -> Task:
        """Move a task to a final status."""
        return self.move(task, event, ended_at=self.now, due_at=None, **changes)

    def revoke(self, task: Task) -> None:
        """Note that an open attempt is taken from its agent, so that its lease ends with it."""
        self._revoked.append(task)

    def add_signal(self, signal: Signal) -> None:
        """Keep a signal until a task waits for it."""
        self._signals.append(signal)
        self._signals_moved[signal.number] = signal

    def take_signal(self, name: str, task: Task) -> Signal | None:
        """Take the first signal of this name for a task, if one has come."""
        signal = next((each for each in self._signals if each.name == name), None)
        if signal is not None:
            self._signals.remove(signal)
            self._signals_moved[signal.number] = evolve(signal, taken_by=task.task_id)
        return signal

    def move_session(self, event: SessionEvent, **changes: Any) -> None:
        """Move the session to the status that the table gives for an event.

        Raises:
            ImpossibleTransition: the table has no such transition.
        """
        status = SESSION_TABLE.get((self.session.status, event))
        if status is None:
            raise ImpossibleTransition(f"session {self.session.session_id} is {self.session.status} and can't {event}")
        self.session = evolve(self.session, status=status, **changes)

    def step(self, *, begins: bool = False) -> Step:
        """Return the step, with the effects of its difference to the run before; if the run begins, all is new."""
        before = self._before
        pairs = list(_changed(() if begins else before.tasks, self.tasks))
        for ordinal, items in self._items.items():
            pairs += _changed(before.items.get(ordinal, ()), items)
        pairs.sort(key=lambda pair: (pair[1].ordinal, -1 if pair[1].item is None else pair[1].item))
        effects = [effect for old, new in pairs for effect in _effects_of(old, new)]
        if self.session.status is SessionStatus.PAUSED:
            # Tasks that become ready during a pause get in line when the run is resumed.
            effects = [effect for effect in effects if not isinstance(effect, Ready)]
        effects += self._effects_of_session(begins=begins)
        # The dispatcher is told of tasks one by one, and gives the first of them to the first idle agent.
        effects.sort(key=lambda effect: self._turn(effect.task) if isinstance(effect, Ready) else (-math.inf, 0.0))
        if self.session.status in SESSION_ENDED and (begins or not before.ended):
            effects.append(Ended(session=self.session))
        items_after = {**before.items, **{ordinal: tuple(items) for ordinal, items in self._items.items()}}
        return Step(
            run=Run(
                session=self.session,
                tasks=tuple(self.tasks),
                definition=self.definition,
                items=items_after,
                tallies=self._tallies,
                signals=tuple(self._signals),
            ),
            changed=tuple(new for _, new in pairs),
            revoked=tuple(self._revoked),
            signals=tuple(self._signals_moved.values()),
            effects=tuple(effects),
        )

    def _turn(self, task: Task) -> tuple[float, float]:
        return -self.of(task).priority, task.ready_at or 0.0

    def _effects_of_session(self, *, begins: bool) -> Iterator[Effect]:
        """Yield the effects on the whole run: its own time, and that a pause withdraws waiting tasks until it ends."""
        before, after = self._before.session, self.session
        paused, was_paused = (each.status is SessionStatus.PAUSED for each in (after, before))
        if after.due_at != before.due_at or (after.due_at is not None and (begins or was_paused)):
            yield DueAt(what=after.session_id, due_at=after.due_at)
        if paused is was_paused:
            return
        for task in self._before.every():
            if task.status is TaskStatus.READY and paused:
                yield Withdrawn(task=task)
        for task in () if paused else self.every():
            if task.status is TaskStatus.READY and self._before.find(task.task_id) is task:
                yield Ready(task=task)
            if task.due_at is not None:
                yield DueAt(what=task.task_id, due_at=task.due_at)
            if task.awaits and task.child_session_id:
                yield RunAwaited(task=task)


def _changed(before: Sequence[Task], after: Sequence[Task]) -> Iterator[tuple[Task | None, Task]]:
    for old, new in itertools.zip_longest(before, after):
        if old is not new:
            yield old, new


def moved(task: Task, event: TaskEvent, **changes: Any) -> Task:
    """Return a task after an event.

    Raises:
        ImpossibleTransition: the table has no such transition.
    """
    status = TASK_TABLE.get((task.status, event))
    if status is None:
        raise ImpossibleTransition(f"task {task.task_id} is {task.status} and can't {event}")
    return evolve(task, status=status, **changes)


def tallied(items: Sequence[Task]) -> Tally:
    """Count items by their state."""
    statuses = [item.status for item in items]
    return Tally(
        pending=statuses.count(TaskStatus.PENDING),
        ended=sum(status in TASK_ENDED for status in statuses),
        failed=statuses.count(TaskStatus.FAILED),
        out=sum(item.is_out for item in items),
    )


def _effects_of(old: Task | None, new: Task) -> Iterator[Effect]:
    if new.status is TaskStatus.READY:
        if old is None or old.status is not TaskStatus.READY:
            yield Ready(task=new)
    elif old is not None and old.status is TaskStatus.READY and new.status is not TaskStatus.DISPATCHED:
        yield Withdrawn(task=new)
    if new.due_at != (None if old is None else old.due_at):
        yield DueAt(what=new.task_id, due_at=new.due_at)
    if new.awaits and new.child_session_id and (old is None or old.child_session_id != new.child_session_id):
        yield RunAwaited(task=new)
    if old is not None and old.awaits and old.child_session_id and new.status is not TaskStatus.COMPLETED:
        yield RunCalledOff(session_id=old.child_session_id)
