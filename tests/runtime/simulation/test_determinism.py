"""One seed, one history: byte for byte, in any process, whatever else it does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opscore.runtime.simulation import AgentModel, Latency, Played, Scenario, Skill, Trigger, play
from opscore.runtime.simulation.drawing.scenarios import drawn

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from opscore.runtime.simulation import play
from opscore.runtime.simulation.drawing.scenarios import drawn
for seed in map(int, sys.argv[1:]):
    played = play(drawn(seed))
    print(seed, played.fingerprint, played.commits, len(played.history.events), played.elapsed_s)
"""
SEEDS = range(12)


def _told(seed: int, played: Played) -> str:
    return f"{seed} {played.fingerprint} {played.commits} {len(played.history.events)} {played.elapsed_s}"


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_the_same_seed_is_the_same_journal_in_every_process(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PROGRAM, *map(str, SEEDS)]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [_told(seed, play(drawn(seed))) for seed in SEEDS]


def test_every_seed_is_a_world_of_its_own() -> None:
    fingerprints = {play(drawn(seed)).fingerprint for seed in SEEDS}
    assert len(fingerprints) == len(SEEDS)


def test_the_order_of_what_happens_at_one_moment_is_drawn_too() -> None:
    steady = Skill(latency=Latency("constant", 1.0))
    document = {"id": "w", "tasks": [{"taskId": "only", "agentCapability": "x"}]}

    def order(seed: int) -> tuple[str, ...]:
        """Who does what, where nothing but the order is drawn."""
        agents = [AgentModel(name="a", kind="claim", count=4, skills={"x": steady})]
        world = play(Scenario(seed=seed, workflows=[document], agents=agents, triggers=[Trigger()]))
        return tuple(event.what for event in world.history.events if event.what.startswith("agent.claimed"))

    assert len({order(seed) for seed in range(10)}) > 5
