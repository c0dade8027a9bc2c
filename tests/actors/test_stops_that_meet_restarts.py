"""Scenarios in which a stop and a restart meet: played on the real system, and foretold by the model."""

from typing import Any

import pytest

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.spec import AutoShutdown, ChildSpec, Restart, Strategy, SupervisorSpec
from tests.actors.scenario import Event, Life, Scenario, What
from tests.actors.stage import perform
from tests.actors.tree_model import World

AT_ONCE = Backoff(initial_s=0.0, jitter=0.0)
QUIT = Event(at=50.0, what=What.QUIT)


def child(name: str, *, restart: Restart = Restart.PERMANENT, significant: bool = False) -> ChildSpec[Any]:
    return ChildSpec(
        name=name, factory=Actor, restart=restart, significant=significant, backoff=AT_ONCE, shutdown_s=20.0
    )


def slow_to_stop(*names: str, stop_s: float = 10.0) -> dict[str, tuple[Life, ...]]:
    return {name: (Life(stop_s=stop_s),) for name in names}


def bomb(at: float, name: str) -> Event:
    return Event(at=at, what=What.BOMB, names=(name,))


def backoff_that_ends_during_a_stop() -> tuple[Scenario, list[str]]:
    waiting: ChildSpec[Any] = ChildSpec(name="a", factory=Actor, backoff=Backoff(initial_s=5.0, jitter=0.0))
    root = SupervisorSpec(name="root", shutdown_s=1_000.0, children=(waiting, child("b")))
    events = (bomb(1.0, "a"), Event(at=2.0, what=What.QUIT))
    return Scenario(root=root, lives=slow_to_stop("b"), events=events), ["0 start a 1", "1 stop a 1"]


def leaver_that_a_group_restart_overtakes() -> tuple[Scenario, list[str]]:
    children = (child("a"), child("b", restart=Restart.TRANSIENT, significant=True))
    root = SupervisorSpec(
        name="root",
        strategy=Strategy.ONE_FOR_ALL,
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
        children=children,
        shutdown_s=1_000.0,
    )
    leave = Event(at=1.0, what=What.LEAVE, names=("b",))
    lines = ["0 start a 1", "2 stop a 1", "11 start a 2", "60 stop a 2"]
    return Scenario(root=root, lives=slow_to_stop("b"), events=(leave, bomb(2.0, "a"), QUIT)), lines


def temporary_child_whose_supervisor_is_restarted_while_it_stops() -> tuple[Scenario, list[str]]:
    branch = SupervisorSpec(
        name="n",
        strategy=Strategy.ONE_FOR_ALL,
        children=(child("n1"), child("n2", restart=Restart.TEMPORARY)),
        shutdown_s=1_000.0,
        backoff=AT_ONCE,
    )
    root = SupervisorSpec(name="root", strategy=Strategy.ONE_FOR_ALL, children=(branch, child("b")), shutdown_s=1_000.0)
    lines = ["0 start b 1", "2 stop b 1", "11 start b 2", "50 stop b 2"]
    return Scenario(root=root, lives=slow_to_stop("n2"), events=(bomb(1.0, "n1"), bomb(2.0, "b"), QUIT)), lines


@pytest.mark.parametrize(
    ("scenario", "lines"),
    [
        pytest.param(*make(), id=make.__name__)
        for make in (
            backoff_that_ends_during_a_stop,
            leaver_that_a_group_restart_overtakes,
            temporary_child_whose_supervisor_is_restarted_while_it_stops,
        )
    ],
)
def test_after_a_stop_and_a_restart_met_everybody_is_where_the_model_says(scenario: Scenario, lines: list[str]) -> None:
    seen, expected = perform(scenario), World(scenario).run()
    if seen != expected:
        pytest.fail(f"{scenario}\nperformed\n{seen}\nforetold\n{expected}")
    # That the model itself says the right thing is written down for one of the children, by hand.
    who = lines[0].split()[2]
    assert [f"{line.at:g} {line.what} {line.who} {line.incarnation}" for line in seen.lines if line.who == who] == lines
