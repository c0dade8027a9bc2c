"""Worlds that once broke a promise, too rare among drawn ones to be met again soon."""

import pytest

from opscore.runtime.limits import Limits
from opscore.runtime.simulation import AgentModel, Faults, Scenario, Skill, Trigger, play


@pytest.mark.parametrize("seed", [49, 225, 258, 280, 360])
def test_a_run_whose_actor_starts_again_before_it_begins_counts_among_the_unfinished(seed: int) -> None:
    world = play(
        Scenario(
            seed=seed,
            workflows=[{"id": "w", "tasks": [{"taskId": "a", "agentCapability": "y"}]}],
            agents=[AgentModel(name="a", count=2, skills={"y": Skill()})],
            triggers=[Trigger(at_s=10.0 + number / 2, payload=number) for number in range(6)],
            # Its actor can't read while the disk stalls, is restarted, and finds what it is to begin in its mailbox.
            faults=Faults(commit_stalled=0.3, commit_split=0.3),
            limits=Limits(sessions_open_max=3, close_grace_s=0.1, passivate_s=5.0),
        )
    )
    world.check()
    assert world.faults["commit_stalled"] > 0
