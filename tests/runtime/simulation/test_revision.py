"""Which opscore a failure tells of: the version, and the commit of a checkout."""

import subprocess
from pathlib import Path

import pytest

from opscore.runtime.simulation import AgentModel, Invariants, Scenario, Skill, Trigger, WorldFailed, play
from opscore.runtime.simulation.revision import revision


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("state", ["branch", "packed", "detached"])
def test_a_checkout_is_told_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    if state == "packed":
        git(tmp_path, "pack-refs", "--all")
    elif state == "detached":
        git(tmp_path, "checkout", "--quiet", "--detach")
    monkeypatch.setattr("opscore.runtime.simulation.revision.ROOT", tmp_path)
    assert revision().endswith(f", commit {commit[:12]}")


def test_what_is_installed_is_told_with_its_version_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opscore.runtime.simulation.revision.ROOT", tmp_path)
    assert revision().startswith("opscore ")
    assert "commit" not in revision()


def test_a_failure_tells_its_seed_its_commit_and_how_to_play_it_again() -> None:
    def never(_rows: object) -> list[str]:
        """Nothing may be at the end."""
        return ["something is"]

    scenario = Scenario(
        seed=7,
        workflows=[{"id": "w", "tasks": [{"taskId": "a", "agentCapability": "y"}]}],
        agents=[AgentModel(name="a", skills={"y": Skill()})],
        triggers=[Trigger()],
    )
    with pytest.raises(WorldFailed) as caught:
        play(scenario, Invariants(at_end=(never,))).check()
    told = str(caught.value)
    assert f"seed 7, {revision()}; to play it again:" in told
    assert "play(Scenario(\n    seed=7," in told
