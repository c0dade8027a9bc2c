"""The guide to the simulator: its files are taken, and its commands end and say what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.guides import FOLDER, files_of

GUIDE = (FOLDER / "simulation.md").read_text()
FILES = files_of(GUIDE)
COMMANDS: list[tuple[str, str, str]] = re.findall(
    r'<!-- exits with (\d), says: (".*?") -->\n```sh\nopscore (.*?)\n```', GUIDE, flags=re.DOTALL
)
PATIENCE_S = 120.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_command_of_the_guide_is_tried() -> None:
    assert len(COMMANDS) == GUIDE.count("```sh") == 6


@pytest.mark.parametrize(("code", "words", "command"), COMMANDS)
def test_a_command_of_the_guide_ends_and_says_what_it_says(code: str, words: str, command: str, path: Path) -> None:
    arguments = [sys.executable, "-m", "opscore", *command.split()]
    done = subprocess.run(arguments, cwd=path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == int(code), done.stdout + done.stderr
    for said in re.findall(r'"(.*?)"', words):
        assert said in done.stdout


def test_orders_survive_agents_that_break_and_hang(path: Path) -> None:
    def tried() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "orders_test.py"]
        return subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    done = tried()
    assert done.returncode == 0, done.stdout
    (path / "fixed.yaml").write_text(FILES["orders.yaml"])
    assert "task 'charge' failed" in tried().stdout


def test_orders_come_to_an_end_whatever_happens(path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "orders_test.py", "-k", "come_to_an_end"]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def tried_promise(path: Path, name: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "promises_test.py", "-k", name]
    return subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout


def test_who_was_charged_in_vain_is_refunded(path: Path) -> None:
    assert "1 passed" in tried_promise(path, "refunded")


def test_nobody_is_charged_twice(path: Path) -> None:
    said = tried_promise(path, "charged_twice")
    assert "1 failed" in said
    assert "nobody_is_charged_twice: ses_" in said
    assert "is charged again, in attempt 2" in said
