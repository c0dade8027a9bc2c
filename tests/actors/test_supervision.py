import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorStopped
from opscore.actors.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.supervision import CLEAN, Action, Decision, Exit, History, Record, decide
from tests.actors.cast import Player

SIBLINGS = ("a", "b", "c")
BOOM = ValueError("boom")
DEFAULT = Intensity()


def child(
    restart: Restart = Restart.PERMANENT, budget: Intensity | None = None, *, significant: bool = False
) -> ChildSpec[Player]:
    return ChildSpec(
        name="b",
        factory=Actor,
        restart=restart,
        significant=significant,
        backoff=Backoff(initial_s=1.0, jitter=0.0, max_s=10.0),
        budget=budget,
    )


def supervisor(
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity | None = DEFAULT,
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
) -> SupervisorSpec:
    return SupervisorSpec(name="s", strategy=strategy, intensity=intensity, auto_shutdown=auto_shutdown)


def after(
    spec: ChildSpec[Player] | SupervisorSpec,
    under: SupervisorSpec | None = None,
    *,
    cause: BaseException | None = BOOM,
    window: tuple[float, ...] = (),
    record: Record = CLEAN,
    significant: int = 0,
    ran_s: float = 0.5,
    now: float = 100.0,
) -> Decision:
    history = History(window=window, record=record, siblings=SIBLINGS, significant=significant)
    exit_ = Exit(child=spec, path="/b", incarnation=1, cause=cause, ran_s=ran_s)
    return decide(under or supervisor(), history, exit_, now)


@pytest.mark.parametrize(
    ("restart", "cause", "action"),
    [
        (Restart.PERMANENT, BOOM, Action.RESTART),
        (Restart.PERMANENT, None, Action.RESTART),
        (Restart.TRANSIENT, BOOM, Action.RESTART),
        (Restart.TRANSIENT, None, Action.DROP),
        (Restart.TEMPORARY, BOOM, Action.DROP),
        (Restart.TEMPORARY, None, Action.DROP),
    ],
)
def test_the_restart_type_says_after_which_exits_a_child_returns(
    restart: Restart, cause: BaseException | None, action: Action
) -> None:
    assert after(child(restart), cause=cause).action is action


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        (Strategy.ONE_FOR_ONE, ("b",)),
        (Strategy.ONE_FOR_ALL, ("a", "b", "c")),
        (Strategy.REST_FOR_ONE, ("b", "c")),
    ],
)
def test_the_strategy_says_who_is_restarted_with_a_child(strategy: Strategy, names: tuple[str, ...]) -> None:
    assert after(child(), supervisor(strategy)).names == names


def test_the_delay_grows_with_failures_in_a_row_and_starts_afresh_after_a_long_run() -> None:
    record, delays = CLEAN, []
    for ran_s in (0.0, 9.0, 9.9, 10.0, 0.0):
        decision = after(child(), record=record, ran_s=ran_s)
        record = decision.record
        delays.append(child().backoff.ceiling_s(record.failures))
    assert delays == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_restarts_beyond_the_intensity_escalate() -> None:
    intensity = Intensity(restarts_max=2, within_s=10.0)
    decision = after(child(), supervisor(intensity=intensity), window=(95.0,))
    assert (decision.action, decision.window) == (Action.RESTART, (95.0, 100.0))
    decision = after(child(), supervisor(intensity=intensity), window=(95.0, 96.0))
    assert (decision.action, decision.cause) == (Action.ESCALATE, BOOM)


def test_restarts_that_slid_out_of_the_window_no_longer_count() -> None:
    decision = after(child(), supervisor(intensity=Intensity(restarts_max=2, within_s=10.0)), window=(90.0, 96.0))
    assert (decision.action, decision.window) == (Action.RESTART, (96.0, 100.0))


def test_an_intensity_of_zero_escalates_the_first_failure() -> None:
    assert after(child(), supervisor(intensity=Intensity(restarts_max=0))).action is Action.ESCALATE


def test_a_permanent_child_that_stopped_too_often_escalates_with_actor_stopped() -> None:
    decision = after(child(), supervisor(intensity=Intensity(restarts_max=0)), cause=None)
    assert isinstance(decision.cause, ActorStopped)


def test_a_child_beyond_its_own_budget_is_given_up_alone_and_does_not_count_against_its_supervisor() -> None:
    spec = child(budget=Intensity(restarts_max=2, within_s=10.0))
    record, window = CLEAN, tuple[float, ...]()
    actions = []
    for now in (100.0, 101.0, 102.0):
        decision = after(spec, record=record, window=window, now=now)
        record, window = decision.record, decision.window
        actions.append(decision.action)
    assert actions == [Action.RESTART, Action.RESTART, Action.GIVE_UP]
    assert window == (100.0, 101.0)


def test_restarts_within_a_budget_count_against_the_supervisors_ceiling() -> None:
    spec = child(budget=Intensity(restarts_max=2, within_s=10.0))
    ceiling = supervisor(intensity=Intensity(restarts_max=0))
    assert after(spec, ceiling).action is Action.ESCALATE


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
def test_a_child_beyond_its_budget_whose_siblings_need_it_escalates(strategy: Strategy) -> None:
    spec = child(budget=Intensity(restarts_max=0))
    assert after(spec, supervisor(strategy)).action is Action.ESCALATE


def test_without_a_ceiling_nothing_escalates_and_nothing_is_remembered() -> None:
    decision = after(child(), supervisor(intensity=None))
    assert (decision.action, decision.window, decision.record.restarts) == (Action.RESTART, (), ())


@pytest.mark.parametrize(
    ("auto_shutdown", "left", "action"),
    [
        (AutoShutdown.ANY_SIGNIFICANT, 2, Action.SHUT_DOWN),
        (AutoShutdown.ALL_SIGNIFICANT, 2, Action.DROP),
        (AutoShutdown.ALL_SIGNIFICANT, 1, Action.SHUT_DOWN),
    ],
)
def test_the_end_of_significant_children_shuts_their_supervisor_down(
    auto_shutdown: AutoShutdown, left: int, action: Action
) -> None:
    under = supervisor(auto_shutdown=auto_shutdown)
    spec = child(Restart.TRANSIENT, significant=True)
    assert after(spec, under, cause=None, significant=left).action is action
    assert after(child(Restart.TRANSIENT), under, cause=None, significant=left).action is Action.DROP
    # One that failed comes back, as its restart type says.
    assert after(spec, under, significant=left).action is Action.RESTART


def test_a_significant_child_beyond_its_budget_escalates() -> None:
    spec = child(Restart.TRANSIENT, Intensity(restarts_max=0), significant=True)
    assert after(spec, supervisor(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)).action is Action.ESCALATE


def test_a_permanent_child_cannot_be_significant() -> None:
    with pytest.raises(ValueError, match="permanent"):
        child(significant=True)


def test_a_significant_child_needs_a_supervisor_that_shuts_down() -> None:
    with pytest.raises(ValueError, match="set auto_shutdown"):
        SupervisorSpec(name="s", children=(child(Restart.TRANSIENT, significant=True),))


def test_a_supervisor_is_restarted_like_any_other_child() -> None:
    spec = SupervisorSpec(name="b", backoff=Backoff(initial_s=3.0, jitter=0.0))
    decision = after(spec)
    assert (decision.action, spec.backoff.ceiling_s(decision.record.failures)) == (Action.RESTART, 3.0)
    assert after(SupervisorSpec(name="b", restart=Restart.TEMPORARY)).action is Action.DROP


@given(
    times=st.lists(st.floats(min_value=0.0, max_value=200.0), max_size=40).map(sorted),
    restarts_max=st.integers(min_value=0, max_value=5),
    within_s=st.floats(min_value=0.1, max_value=50.0),
)
def test_it_escalates_exactly_when_a_plain_count_of_the_window_says_so(
    times: list[float], restarts_max: int, within_s: float
) -> None:
    window = tuple[float, ...]()
    for index, now in enumerate(times):
        under = supervisor(intensity=Intensity(restarts_max=restarts_max, within_s=within_s))
        decision = after(child(), under, window=window, now=now)
        recent = [at for at in times[: index + 1] if at > now - within_s]
        assert (decision.action is Action.ESCALATE) == (len(recent) > restarts_max)
        window = decision.window


@pytest.mark.parametrize("name", ["", "a/b", "/"])
def test_names_that_would_break_a_path_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        ChildSpec(name=name, factory=Actor)
    with pytest.raises(ValueError, match="slash"):
        SupervisorSpec(name=name)


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        SupervisorSpec(name="s", children=(child(), child()))
