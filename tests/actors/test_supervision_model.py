"""`decide`, step by step, against a model that keeps every exit and counts anew each time."""

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorStopped, StartFailed
from opscore.actors.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.supervision import Action, Decision, Exit, History, Record, decide
from tests.actors.supervision_model import AnySpec, Ending, Ledger, Verdict, judge, within

NAMES = ("a", "b", "c", "d", "e")

# Quarters of a second are exact in binary, so a window's edge is met exactly.
QUARTERS = st.integers(min_value=0, max_value=40).map(lambda count: count / 4)
INTENSITIES = st.builds(
    Intensity,
    restarts_max=st.integers(min_value=0, max_value=4),
    within_s=QUARTERS.map(lambda seconds: seconds + 0.25),
)
BACKOFFS = st.builds(
    Backoff,
    initial_s=st.sampled_from((0.0, 0.25, 1.0)),
    coefficient=st.sampled_from((1.0, 1.5, 2.0, 3.0)),
    max_s=st.sampled_from((0.0, 0.5, 2.0, 8.0)),
    jitter=st.just(0.0),
)


@st.composite
def a_child(draw: st.DrawFn, name: str, auto_shutdown: AutoShutdown) -> AnySpec:
    restart = draw(st.sampled_from(Restart))
    may_be_significant = restart is not Restart.PERMANENT and auto_shutdown is not AutoShutdown.NEVER
    significant = may_be_significant and draw(st.booleans())
    backoff = draw(BACKOFFS)
    if draw(st.integers(min_value=0, max_value=4)) == 0:
        return SupervisorSpec(name=name, restart=restart, significant=significant, backoff=backoff)
    budget = draw(st.none() | INTENSITIES)
    return ChildSpec(name=name, factory=Actor, restart=restart, significant=significant, backoff=backoff, budget=budget)


def cause_of(kind: str, path: str) -> BaseException | None:
    if kind == "ended":
        return None
    return StartFailed(path, ValueError("no start")) if kind == "never started" else ValueError(path)


class Deciding(RuleBasedStateMachine):
    """Threads what `decide` remembers through a life of exits, beside the ledger of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.spec = SupervisorSpec(name="s")
        self.children: dict[str, AnySpec] = {}
        self.window: tuple[float, ...] = ()
        self.records: dict[str, Record] = {}
        self.ledger = Ledger()

    @initialize(data=st.data())
    def furnish(self, data: st.DataObject) -> None:
        self.spec = SupervisorSpec(
            name="s",
            strategy=data.draw(st.sampled_from(Strategy), "strategy"),
            intensity=data.draw(st.none() | INTENSITIES, "intensity"),
            auto_shutdown=data.draw(st.sampled_from(AutoShutdown), "auto_shutdown"),
        )
        for name in NAMES[: data.draw(st.integers(min_value=1, max_value=4), "children")]:
            self.children[name] = data.draw(a_child(name, self.spec.auto_shutdown))

    @rule(seconds=QUARTERS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.edges())
    @rule(data=st.data(), off_s=st.sampled_from((-0.25, 0.0, 0.25)))
    def time_passes_to_the_edge_of_a_window(self, data: st.DataObject, off_s: float) -> None:
        edge = data.draw(st.sampled_from(self.edges()), "edge")
        self.now = max(self.now, edge + off_s)

    def edges(self) -> list[float]:
        """When a restart of the past leaves a window that still holds it."""
        edges: list[float] = []
        if self.spec.intensity is not None:
            edges += [at + self.spec.intensity.within_s for at in self.ledger.counted]
        for name, child in self.children.items():
            if isinstance(child, ChildSpec) and child.budget is not None:
                edges += [at + child.budget.within_s for at, _ in self.ledger.of(name)]
        return [edge for edge in edges if edge >= self.now]

    @precondition(lambda self: len(self.children) < len(NAMES))
    @rule(data=st.data())
    def a_child_is_added(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if name not in self.children]), "name")
        self.children[name] = data.draw(a_child(name, self.spec.auto_shutdown))

    @precondition(lambda self: self.children)
    @rule(
        data=st.data(),
        kind=st.sampled_from(("ended", "failed", "failed", "never started")),
        ran_s=QUARTERS | st.sampled_from(("max_s", "just below max_s")),
    )
    def a_child_ends(self, data: st.DataObject, kind: str, ran_s: float | str) -> None:
        name = data.draw(st.sampled_from(list(self.children)), "child")
        child, path = self.children[name], f"/{name}"
        cause = cause_of(kind, path)
        if isinstance(ran_s, str):
            ran_s = max(0.0, child.backoff.max_s - (0.0 if ran_s == "max_s" else 0.25))
        if kind == "never started":
            ran_s = 0.0
        exit_ = Exit(child=child, path=path, incarnation=1, cause=cause, ran_s=ran_s)
        history = History(
            window=self.window,
            record=self.records.get(name, Record()),
            siblings=tuple(self.children),
            significant=sum(each.significant for each in self.children.values()),
        )
        decision = decide(self.spec, history, exit_, self.now)
        others_significant = sum(each.significant for each in self.children.values() if each is not child)
        ending = Ending(child=child, failed=cause is not None, ran_s=ran_s)
        verdict = judge(self.spec, self.ledger, tuple(self.children), others_significant, ending, self.now)
        compare(decision, verdict, exit_)
        self.follow(name, decision)

    def follow(self, name: str, decision: Decision) -> None:
        self.window = decision.window
        self.records[name] = decision.record
        if decision.action in {Action.DROP, Action.GIVE_UP}:
            del self.children[name], self.records[name]
            self.ledger.forget(name)
        elif decision.action in {Action.ESCALATE, Action.SHUT_DOWN}:
            self.window, self.records, self.ledger = (), {}, Ledger()

    @invariant()
    def the_window_holds_what_counts_and_did_not_slide_out(self) -> None:
        if self.spec.intensity is not None:
            held = within(self.spec.intensity, list(self.window), self.now)
            assert held == within(self.spec.intensity, self.ledger.counted, self.now)

    @invariant()
    def a_record_holds_the_restarts_that_a_budget_counts(self) -> None:
        for name, record in self.records.items():
            child = self.children[name]
            if isinstance(child, ChildSpec) and child.budget is not None:
                restarts = [at for at, _ in self.ledger.of(name)]
                assert within(child.budget, list(record.restarts), self.now) == within(child.budget, restarts, self.now)
            else:
                assert record.restarts == ()

    @invariant()
    def nothing_remembered_lies_ahead_or_out_of_order(self) -> None:
        for times in (self.window, *(record.restarts for record in self.records.values())):
            assert list(times) == sorted(times)
            assert all(at <= self.now for at in times)


def compare(decision: Decision, verdict: Verdict, exit_: Exit) -> None:
    assert decision.action is verdict.action
    assert decision.names == verdict.names
    if verdict.action is Action.RESTART:
        assert decision.record.failures == verdict.failures
        assert exit_.child.backoff.ceiling_s(decision.record.failures) == verdict.delay_s
    if verdict.action in {Action.RESTART, Action.GIVE_UP, Action.ESCALATE}:
        if exit_.cause is not None:
            assert decision.cause is exit_.cause
        else:
            assert isinstance(decision.cause, ActorStopped)
            assert decision.cause.actor == exit_.path


Deciding.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestDeciding = Deciding.TestCase


def fail_at(spec: SupervisorSpec, child: AnySpec, times: list[float], ran_s: float = 0.0) -> list[Decision]:
    """The decisions about one child that fails again and again, until it is over."""
    decisions: list[Decision] = []
    window: tuple[float, ...] = ()
    record = Record()
    for now in times:
        exit_ = Exit(child=child, path=f"/{child.name}", incarnation=1, cause=ValueError("boom"), ran_s=ran_s)
        history = History(window=window, record=record, siblings=("a", "b", "c"))
        decision = decide(spec, history, exit_, now)
        decisions.append(decision)
        if decision.action is not Action.RESTART:
            break
        window, record = decision.window, decision.record
    return decisions


def child_with(*, budget: Intensity | None = None, backoff: Backoff | None = None) -> ChildSpec[Actor[None]]:
    return ChildSpec(name="b", factory=Actor, budget=budget, backoff=backoff or Backoff(jitter=0.0))


@settings(deadline=None)
@given(
    allowed=INTENSITIES,
    gaps=st.lists(QUARTERS, max_size=30),
    counter=st.sampled_from(("intensity", "budget")),
)
def test_a_supervisor_loses_patience_exactly_when_more_restarts_than_allowed_stand_within_the_window(
    allowed: Intensity, gaps: list[float], counter: str
) -> None:
    times = [sum(gaps[: place + 1]) for place in range(len(gaps))]
    expected = next(
        (
            place
            for place, now in enumerate(times)
            if len([at for at in times[: place + 1] if at > now - allowed.within_s]) > allowed.restarts_max
        ),
        None,
    )
    if counter == "intensity":
        spec, child, over = SupervisorSpec(name="s", intensity=allowed), child_with(), Action.ESCALATE
    else:
        spec, child, over = SupervisorSpec(name="s", intensity=None), child_with(budget=allowed), Action.GIVE_UP
    actions = [decision.action for decision in fail_at(spec, child, times)]
    if expected is None:
        assert actions == [Action.RESTART] * len(times)
    else:
        assert actions == [Action.RESTART] * expected + [over]


@settings(deadline=None)
@given(allowed=INTENSITIES, count=st.integers(min_value=1, max_value=50))
def test_failures_that_keep_a_lawful_pace_are_restarted_for_ever(allowed: Intensity, count: int) -> None:
    assume(allowed.restarts_max > 0)
    times = [allowed.within_s * (number // allowed.restarts_max) for number in range(count)]
    actions = {
        decision.action for decision in fail_at(SupervisorSpec(name="s", intensity=allowed), child_with(), times)
    }
    assert actions == {Action.RESTART}


@settings(deadline=None)
@given(backoff=BACKOFFS, count=st.integers(min_value=1, max_value=12))
def test_the_delay_is_multiplied_with_every_failure_in_a_row(backoff: Backoff, count: int) -> None:
    assume(backoff.max_s > 0)
    spec = SupervisorSpec(name="s", intensity=None)
    decisions = fail_at(spec, child_with(backoff=backoff), [float(number) for number in range(count)])
    expected = [min(backoff.initial_s * backoff.coefficient**number, backoff.max_s) for number in range(count)]
    assert [backoff.ceiling_s(decision.record.failures) for decision in decisions] == expected


@settings(deadline=None)
@given(backoff=BACKOFFS, count=st.integers(min_value=1, max_value=12))
def test_every_run_of_the_backoffs_maximum_starts_the_delays_afresh(backoff: Backoff, count: int) -> None:
    spec = SupervisorSpec(name="s", intensity=None)
    times = [float(number) for number in range(count)]
    decisions = fail_at(spec, child_with(backoff=backoff), times, ran_s=backoff.max_s)
    assert {decision.record.failures for decision in decisions} == {1}


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("significant", [False, True])
def test_a_child_over_its_budget_goes_alone_where_nobody_needs_it_and_takes_its_supervisor_along_elsewhere(
    strategy: Strategy, significant: bool
) -> None:
    spec = SupervisorSpec(name="s", strategy=strategy, auto_shutdown=AutoShutdown.ALL_SIGNIFICANT)
    budget = Intensity(restarts_max=2, within_s=60.0)
    child: AnySpec = ChildSpec(
        name="b", factory=Actor, restart=Restart.TRANSIENT, significant=significant, budget=budget
    )
    *before, last = fail_at(spec, child, [1.0, 2.0, 3.0])
    assert [decision.action for decision in before] == [Action.RESTART] * 2
    assert last.action is (Action.GIVE_UP if strategy is Strategy.ONE_FOR_ONE and not significant else Action.ESCALATE)
    # What its own budget stopped does not count for the others.
    assert last.window == (1.0, 2.0)


def test_without_a_ceiling_or_a_budget_nothing_piles_up_however_often_a_child_fails() -> None:
    spec = SupervisorSpec(name="s", intensity=None)
    last = fail_at(spec, child_with(), [float(number) for number in range(1_000)])[-1]
    assert len(last.window) <= 1
    assert last.record.restarts == ()


def test_windows_are_swept_however_long_a_supervisor_lives() -> None:
    allowed = Intensity(restarts_max=3, within_s=10.0)
    spec = SupervisorSpec(name="s", intensity=allowed)
    last = fail_at(spec, child_with(budget=allowed), [5.0 * number for number in range(1_000)])[-1]
    assert last.action is Action.RESTART
    assert last.window == last.record.restarts == (4990.0, 4995.0)


def test_deciding_twice_about_one_exit_gives_one_decision_and_changes_nothing() -> None:
    spec = SupervisorSpec(name="s", strategy=Strategy.ONE_FOR_ALL)
    siblings = ["a", "b", "c"]
    history = History(window=(1.0,), record=Record(failures=2, restarts=()), siblings=siblings, significant=0)
    before = attrs.asdict(history)
    exit_ = Exit(child=child_with(), path="/b", incarnation=3, cause=ValueError("boom"), ran_s=0.5)
    first, second = (decide(spec, history, exit_, 2.0) for _ in range(2))
    assert first == second
    assert attrs.asdict(history) == before
