from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorStopped
from opscore.actors.supervision import (
    Action,
    ChildSpec,
    Decision,
    Exit,
    Intensity,
    Record,
    Restart,
    Strategy,
    SupervisorSpec,
    decide,
)
from tests.actors.cast import Player

SIBLINGS = ("a", "b", "c")
BOOM = ValueError("boom")


def child(
    restart: Restart = Restart.PERMANENT, budget: Intensity | None = None, *, quarantine: bool = False
) -> ChildSpec[Player]:
    return ChildSpec(
        name="b",
        factory=Actor,
        restart=restart,
        backoff=Backoff(initial_s=1.0, jitter=0.0, max_s=10.0),
        budget=budget,
        on_given_up=(lambda _name, _cause: None) if quarantine else None,
    )


def after(
    spec: ChildSpec[Player] | SupervisorSpec,
    *,
    cause: BaseException | None = BOOM,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity | None = None,
    window: tuple[float, ...] = (),
    record: Record | None = None,
    ran_s: float = 0.5,
    now: float = 100.0,
) -> Decision:
    return decide(
        supervisor=SupervisorSpec(name="s", strategy=strategy, intensity=intensity or Intensity()),
        child=spec,
        siblings=SIBLINGS,
        window=window,
        record=record or Record(),
        exit_=Exit(name="/b", incarnation=1, cause=cause, ran_s=ran_s),
        now=now,
        random=Random(1),
    )


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
    assert after(child(), strategy=strategy).names == names


def test_the_delay_grows_with_failures_in_a_row_and_starts_afresh_after_a_long_run() -> None:
    record = Record()
    delays = []
    for ran_s in (0.0, 9.0, 9.9, 10.0, 0.0):
        decision = after(child(), record=record, ran_s=ran_s)
        record = decision.record
        delays.append(decision.delay_s)
    assert delays == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_restarts_beyond_the_intensity_escalate() -> None:
    intensity = Intensity(restarts_max=2, within_s=10.0)
    decision = after(child(), intensity=intensity, window=(95.0,))
    assert (decision.action, decision.window) == (Action.RESTART, (95.0, 100.0))
    decision = after(child(), intensity=intensity, window=(95.0, 96.0))
    assert (decision.action, decision.cause) == (Action.ESCALATE, BOOM)


def test_restarts_that_slid_out_of_the_window_no_longer_count() -> None:
    decision = after(child(), intensity=Intensity(restarts_max=2, within_s=10.0), window=(90.0, 96.0))
    assert (decision.action, decision.window) == (Action.RESTART, (96.0, 100.0))


def test_an_intensity_of_none_escalates_the_first_failure() -> None:
    assert after(child(), intensity=Intensity(restarts_max=0)).action is Action.ESCALATE


def test_a_permanent_child_that_stopped_too_often_escalates_with_actor_stopped() -> None:
    decision = after(child(), cause=None, intensity=Intensity(restarts_max=0))
    assert isinstance(decision.cause, ActorStopped)


def test_a_budget_of_its_own_escalates_below_the_supervisors_intensity() -> None:
    budget = Intensity(restarts_max=1, within_s=10.0)
    assert after(child(budget=budget)).action is Action.RESTART
    assert after(child(budget=budget), record=Record(restarts=(95.0,))).action is Action.ESCALATE


def test_a_child_that_may_be_given_up_never_counts_against_its_supervisor() -> None:
    spec = child(budget=Intensity(restarts_max=2, within_s=10.0), quarantine=True)
    record, window = Record(), tuple[float, ...]()
    actions = []
    for _ in range(3):
        decision = after(spec, record=record, window=window, intensity=Intensity(restarts_max=0))
        record, window = decision.record, decision.window
        actions.append(decision.action)
    assert actions == [Action.RESTART, Action.RESTART, Action.GIVE_UP]
    assert window == ()


def test_without_a_budget_a_child_is_given_up_by_its_supervisors_intensity() -> None:
    intensity = Intensity(restarts_max=0)
    assert after(child(quarantine=True), intensity=intensity).action is Action.GIVE_UP


def test_a_supervisor_is_restarted_like_any_other_child() -> None:
    spec = SupervisorSpec(name="b", backoff=Backoff(initial_s=3.0, jitter=0.0))
    decision = after(spec)
    assert (decision.action, decision.delay_s) == (Action.RESTART, 3.0)
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
        decision = after(
            child(), intensity=Intensity(restarts_max=restarts_max, within_s=within_s), window=window, now=now
        )
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
