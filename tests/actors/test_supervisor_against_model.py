"""The real system, under virtual time, against a model of it: both play a scenario, and their diaries have to agree."""

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, assume, event, given, settings

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.spec import ChildSpec, Intensity, Strategy, SupervisorSpec
from tests.actors.scenario import Diary, Event, Line, Scenario, What
from tests.actors.scenario_strategies import BRANCH, DYNAMIC, scenarios
from tests.actors.stage import perform
from tests.actors.tree_model import World

# More of them: `--hypothesis-profile=long` with a profile of that name, or a larger number here.
EXAMPLES = 100
AT_LENGTH = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def foretold(scenario: Scenario) -> Diary:
    """What has to happen; scenarios of which nobody can say what has to are left out."""
    world = World(scenario)
    diary = world.run()
    for word in world.silent:
        event(f"silent: {word}")
    assume(not world.tied)
    assume(not world.silent)
    return diary


def in_order(diary: Diary) -> Diary:
    """Leave out of an instant what order nobody promised.

    Dynamic children that stop together do so in no order: theirs is the alphabet's. Two supervisors may do what they do
    in any order: that of the branch comes last.
    """
    lines: list[Line] = []
    for _, instant in itertools.groupby(diary.lines, key=lambda line: line.at):
        present = sorted(instant, key=lambda line: line.who.startswith(BRANCH))
        free = [place for place, line in enumerate(present) if line.what == "stop" and is_dynamic(line.who)]
        together = sorted((present[place] for place in free), key=lambda line: line.who)
        for place, line in zip(free, together, strict=True):
            present[place] = line
        lines += present
    return attrs.evolve(diary, lines=tuple(lines))


def is_dynamic(name: str) -> bool:
    return name in DYNAMIC or name.endswith("-x")


def in_no_order(diary: Diary) -> Diary:
    """Within an instant, anything may come first."""
    return attrs.evolve(diary, lines=tuple(sorted(diary.lines, key=lambda line: (line.at, str(line)))))


def both_orders(scenario: Scenario) -> tuple[Scenario, ...]:
    """Of two that blow up at once, either may be the first."""
    turned = tuple(attrs.evolve(each, names=each.names[::-1]) for each in scenario.events)
    return scenario, attrs.evolve(scenario, events=turned)


def report(scenario: Scenario, expected: list[Diary], seen: Diary) -> str:
    words = [f"the diary of the performance is not what was foretold\n{scenario}", "performed", str(seen)]
    for diary in expected:
        words += ["foretold", str(diary)]
    return "\n".join(words)


@AT_LENGTH
@given(scenario=scenarios())
def test_a_supervisor_does_what_the_model_foretells(scenario: Scenario) -> None:
    expected = in_order(foretold(scenario))
    seen = in_order(perform(scenario))
    if seen != expected:
        pytest.fail(report(scenario, [expected], seen))


@AT_LENGTH
@given(scenario=scenarios(together=True))
def test_of_two_that_crash_in_one_instant_either_may_be_the_first(scenario: Scenario) -> None:
    assume(any(len(each.names) > 1 for each in scenario.events if each.what is What.BOMB))
    expected = [in_no_order(foretold(each)) for each in both_orders(scenario)]
    seen = in_no_order(perform(scenario))
    if seen not in expected:
        pytest.fail(report(scenario, expected, seen))


@pytest.mark.parametrize("strategy", Strategy)
def test_two_that_crash_at_once_and_take_no_time_are_decided_about_one_after_the_other(strategy: Strategy) -> None:
    at_once = Backoff(initial_s=0.0, jitter=0.0)
    children: tuple[ChildSpec[Any], ...] = tuple(ChildSpec(name=name, factory=Actor, backoff=at_once) for name in "abc")
    events = (Event(at=1.0, what=What.BOMB, names=("a", "b")), Event(at=2.0, what=What.QUIT))
    root = SupervisorSpec(name="root", strategy=strategy, intensity=Intensity(restarts_max=2), children=children)
    scenario = Scenario(root=root, lives={}, events=events)
    expected = [in_no_order(World(each).run()) for each in both_orders(scenario)]
    # The scheduler of trio throws a coin about who goes first.
    for _ in range(20):
        seen = in_no_order(perform(scenario))
        if seen not in expected:
            pytest.fail(report(scenario, expected, seen))
