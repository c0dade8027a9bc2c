"""Which rare situation a world leads to in the place of a plain one: they come in turns, so that none is left out.

A share that is drawn by chance leaves a kind of world out for hundreds of seeds now and then. In turns, each kind comes
after about as many worlds as before.
"""

import random
from collections.abc import Callable
from typing import Final

import attrs

from opscore.runtime.simulation.drawing import attempts, clock, disks, growth, keeping, lines, restarts, unwinding
from opscore.runtime.simulation.scenario import Scenario

Kind = Callable[[random.Random, Scenario], Scenario]


def _plain(_: random.Random, scenario: Scenario) -> Scenario:
    """Leave the scenario as it is."""
    return scenario


_TURNS: Final[tuple[Kind, ...]] = (
    # Those whose trouble takes some luck also within such a world come more than once.
    lines.short_lines,
    clock.frozen_while_given_out,
    keeping.kept_by_age,
    clock.set_back_and_resumed,
    attempts.outlasting_functions,
    attempts.calls_cut_off,
    _plain,
    attempts.late_answers,
    restarts.restarted_while_waiting,
    unwinding.failing_at_once,
    lines.short_lines,
    clock.frozen_while_given_out,
    keeping.kept_by_number,
    disks.stopped_while_stalled,
    clock.set_back_and_resumed,
    lines.ready_together,
    attempts.cancelled_functions,
    disks.due_while_full,
    clock.frozen_while_given_out,
    attempts.cancelled_while_refused,
    growth.more_than_may_be,
)


def in_turn(scenario: Scenario, turn: int) -> Scenario:
    """Return the world whose turn it is in the place of a plain one; for some turns, that is the plain one.

    Args:
        scenario: a scenario to which nothing special was added, except that its clock may be moved, for example.
        turn: the number of its turn.
    """
    kind = _TURNS[turn % len(_TURNS)]
    if kind is _plain:
        return scenario
    return kind(random.Random(f"{scenario.seed}/rotation"), attrs.evolve(scenario, cordons=()))
