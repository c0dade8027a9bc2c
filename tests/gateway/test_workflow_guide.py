"""The guide to workflow documents: its commands, run on its files, print what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.guides import FOLDER, files_of

GUIDE = (FOLDER / "workflows.md").read_text()
FILES = files_of(GUIDE)
COMMANDS: list[tuple[str, str, str]] = re.findall(
    r"<!-- exits with (\d) -->\n```sh\nopscore (.*?)\n```\n+```\w*\n(.*?)```", GUIDE, flags=re.DOTALL
)
PATIENCE_S = 60.0


def test_every_command_of_the_guide_is_tried() -> None:
    assert len(COMMANDS) == GUIDE.count("```sh") == 5


@pytest.mark.parametrize(("code", "command", "shown"), COMMANDS)
def test_a_command_of_the_guide_prints_what_it_shows(code: str, command: str, shown: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "opscore", *command.split()],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        env={**environment, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stderr.decode() == ""
    assert (done.returncode, done.stdout.decode()) == (int(code), shown)


def test_the_drawing_that_the_guide_saves_is_one(tmp_path: Path) -> None:
    (command,) = re.findall(r"`opscore (workflow graph \S+ --format svg --output \S+)`", GUIDE)
    (tmp_path / "orders.yaml").write_text(FILES["orders.yaml"])
    arguments = [sys.executable, "-m", "opscore", *command.split()]
    subprocess.run(arguments, cwd=tmp_path, check=True, timeout=PATIENCE_S)
    assert (tmp_path / "orders.svg").read_text().startswith("<svg ")
