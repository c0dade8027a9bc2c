"""Random runs of random workflows beside a plain interpreter of the rules."""

import itertools
import random
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.runtime.definitions.definition import Definition, Role, parse
from opscore.runtime.models import Failure, Session, SessionStatus, Signal, Task, TaskStatus
from opscore.runtime.runs import reviving, transitions
from opscore.runtime.runs.run import DueAt, Ended, Ready, Run, RunAwaited, RunCalledOff, Step, Withdrawn
from tests.runtime.drawn_workflows import PAYLOADS, RESULTS, workflows
from tests.runtime.happenings import Happening, PlainRun
from tests.runtime.small_runs import ERROR, FATAL, LIMITS, LOST, NOW

HAPPENINGS_MAX = 60
BESIDE_MAX = 5
CHILD = Session(session_id="child", workflow_id="below", definition_key="d", created_at=NOW)
ENDS_OF_CHILDREN = ("child completed", "child failed", "child cancelled")
NO_CHILD = Failure(message="there is none", code="workflow_not_found")


class Outside:
    """What the world around a run knows of it, by the effects of its steps alone."""

    def __init__(self) -> None:
        self.in_line: set[str] = set()
        self.times: dict[str, float] = {}
        self.children: set[str | None] = set()

    def hear(self, step: Step) -> None:
        for effect in step.effects:
            match effect:
                case Ready(task=task):
                    self.in_line.add(task.task_id)
                case Withdrawn(task=task):
                    self.in_line.discard(task.task_id)
                case DueAt(what=what, due_at=due_at):
                    if due_at is None:
                        self.times.pop(what, None)
                    else:
                        self.times[what] = due_at
                case RunAwaited(task=task):
                    self.children.add(task.child_session_id)
                case RunCalledOff(session_id=session_id):
                    assert session_id in self.children, "nobody waited for it"
                    self.children.remove(session_id)

    def check(self, run: Run) -> None:
        if run.session.status is SessionStatus.PAUSED:
            # Times that pass meanwhile are not looked at, so each has to be said again.
            self.times.clear()
        still = run.ended or run.session.status is SessionStatus.PAUSED
        ready = {task.task_id for task in run.every() if task.status is TaskStatus.READY}
        assert self.in_line == (set() if still else ready)
        due = {task.task_id: task.due_at for task in run.every()} | {run.session.session_id: run.session.due_at}
        assert still or {what: at for what, at in due.items() if at is not None}.items() <= self.times.items()
        assert self.children == {task.child_session_id for task in run.every() if task.awaits} - {None}


def begun(definition: Definition, payload: Any) -> Step:
    session = Session(
        session_id="ses", workflow_id="w", definition_key=definition.digest, created_at=NOW, payload=payload
    )
    return transitions.begin(session, definition, NOW)


def task_of(run: Run, happening: Happening) -> Task:
    ordinal = run.definition.by_key[happening.key].ordinal
    return run.tasks[ordinal] if happening.item is None else run.items[ordinal][happening.item]


def moved(run: Run, happening: Happening, now: float, seed: int, said: Any) -> Step:
    rng = random.Random(seed)
    task = task_of(run, happening) if happening.key else None
    if task is None:
        return moved_as_a_whole(run, happening, now, rng, said)
    failures = {"fail": (ERROR, True), "fatal": (FATAL, True), "give up": (ERROR, False), "no child": (NO_CHILD, False)}
    match happening.what:
        case "dispatch":
            return transitions.dispatch(run, task, "agent", now)
        case "start":
            return transitions.start(run, task, now)
        case "complete":
            return transitions.complete(run, task, said, now)
        case "lose":
            return transitions.bounce(run, task, LOST, now, rng, LIMITS)
        case what if what in failures:
            error, retryable = failures[what]
            return transitions.fail(run, task, error, now, rng, retryable=retryable)
        case what:
            return transitions.due(run, task.task_id, now, rng, child_that(what, said))


def child_that(what: str, said: Any) -> Session | None:
    """The run that a task waits for, as its end is found; nothing where only time has passed."""
    if what == "due":
        return None
    status = SessionStatus(what.removeprefix("child "))
    return attrs.evolve(CHILD, status=status, result=said, error=ERROR if status is SessionStatus.FAILED else None)


def moved_as_a_whole(run: Run, happening: Happening, now: float, rng: random.Random, said: Any) -> Step:
    match happening.what:
        case "signal":
            number, payload = said
            return transitions.signal(run, signal_of(happening.name, number, payload, now), now)
        case "session due":
            return transitions.due(run, run.session.session_id, now, rng)
        case "cancel":
            return transitions.cancel(run, None, now)
        case "terminate":
            return transitions.terminate(run, None, now)
        case "pause":
            return transitions.pause(run, None, now)
        case what:
            moves = {"resume": transitions.resume, "reset": transitions.reset, "retry": reviving.revive}
            return moves[what](run, now)


def signal_of(name: str, number: int, payload: Any, now: float) -> Signal:
    return Signal(session_id="ses", signal_id=f"#{number}", number=number, name=name, payload=payload, received_at=now)


def standing(run: Run) -> dict[Any, Any]:
    """All that is compared of each task and item."""
    results = run.standing()
    return {
        (task.key, task.item): {
            "is": task.status.value, "out": task.is_out, "attempts": task.attempt, "failures": task.retries,
            "losses": task.bounces, "due": task.due_at, "code": task.error and task.error.code,
            "result": results.result_of(task.key) if task.item is None else task.result,
        }
        for task in run.every()
    }  # fmt: skip


def foretold(plain: PlainRun) -> dict[Any, Any]:
    """The same as the interpreter has it."""
    return {
        (thing["key"], thing["item"]): {
            "is": thing["is"].value, "out": thing["out"], "attempts": thing["attempts"], "failures": thing["failures"],
            "losses": thing["losses"], "due": thing["due"], "code": thing["error"] and thing["error"]["code"],
            "result": plain.result_of(thing["key"]) if thing["item"] is None else thing["result"],
        }
        for thing in plain.every()
    }  # fmt: skip


def check_same(run: Run, plain: PlainRun) -> None:
    stands, should = standing(run), foretold(plain)
    differing = {place for place in stands | should if stands.get(place) != should.get(place)}
    assert {place: stands.get(place) for place in differing} == {place: should.get(place) for place in differing}
    session = run.session
    assert session.status == plain.status
    assert reviving.compensated(run) == plain.compensated
    assert (session.due_at, session.result) == (plain.session_due, plain.result)
    assert [(each.name, each.payload) for each in run.signals] == plain.signals
    assert (session.error and session.error.code) == (plain.failure and plain.failure["code"])
    if session.error is not None and plain.failure is not None:
        worded, _, _ = plain.failure["message"].partition("…")
        assert session.error.message.startswith(worded)


def check_order(before: Run, run: Run) -> None:
    """Nothing began before what it depends on was over."""
    for old, new in zip(before.tasks, run.tasks, strict=True):
        began = old.status is TaskStatus.PENDING and new.status not in (
            TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.CANCELLED,
        )  # fmt: skip
        definition = run.task_definition(new)
        if began and definition.role is Role.STEP:
            for key in definition.depends_on:
                need = next(task for task in run.tasks if task.key == key)
                assert need.status in (TaskStatus.COMPLETED, TaskStatus.SKIPPED, TaskStatus.FAILED)


def taken_back(before: Run, run: Run, happening: Happening) -> set[str]:
    """What was out and is not any more, and not by what its agent said."""
    after = {task.task_id: task for task in run.every()}
    own = task_of(run, happening).task_id if happening.key else None
    return {task.task_id for task in before.every() if task.is_out and not after[task.task_id].is_out} - {own}


def drawn(data: st.DataObject, plain: PlainRun, beside_left: int) -> Happening | None:
    """What happens next; nothing once a run has ended and is not tried again."""
    possible, beside = plain.possible(), plain.beside() if beside_left else []
    if not possible and (not beside or data.draw(st.booleans(), label="that is all")):
        return None
    if beside and (not possible or data.draw(st.integers(0, 5), label="beside") == 5):
        what = data.draw(st.sampled_from(sorted({each.what for each in beside})), label="what")
        return data.draw(st.sampled_from([each for each in beside if each.what == what]), label="happening")
    return data.draw(st.sampled_from(possible), label="happening")


@settings(deadline=None, max_examples=300)
@given(document=workflows(), payload=PAYLOADS, data=st.data())
def test_any_run_goes_as_a_plain_interpreter_of_the_rules_says(
    document: dict[str, Any], payload: Any, data: st.DataObject
) -> None:
    step = begun(parse(document, LIMITS), payload)
    plain = PlainRun(document, payload, NOW)
    outside = Outside()
    outside.hear(step)
    now, beside_left = NOW, BESIDE_MAX
    for number in itertools.count():
        run = step.run
        check_same(run, plain)
        assert run.has_attempts_out == any(task.is_out for task in run.every())
        outside.check(run)
        if number == HAPPENINGS_MAX:
            break
        happening = drawn(data, plain, beside_left)
        if happening is None:
            break
        beside_left -= happening in plain.beside() and happening not in plain.possible()
        now = max(now + data.draw(st.sampled_from([0, 0, 1, 7]), label="seconds"), happening.at or 0)
        seed, said = data.draw(st.integers(0, 3), label="seed"), data.draw(RESULTS, label="said")
        child_id = task_of(run, happening).child_session_id if happening.what in ENDS_OF_CHILDREN else None
        step = moved(run, happening, now, seed, (number, said) if happening.what == "signal" else said)
        plain.happen(happening, now, random.Random(seed).random(), said)
        outside.hear(step)
        if happening.what == "dispatch":
            outside.in_line.remove(task_of(run, happening).task_id)
        if happening.what in ENDS_OF_CHILDREN and run.session.status is not SessionStatus.PAUSED:
            outside.children.discard(child_id)
        assert {task.task_id for task in step.revoked} == taken_back(run, step.run, happening)
        assert Ended(session=step.run.session) in step.effects or not step.run.ended or run.ended
        check_order(run, step.run)
