"""The Python that the README and the guides show runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAYS = {
    "README.md": "{'greet': {'greeting': 'Hello, Ada!'}}",
    "docs/guide/embedding.md": "{'greet': 'Hello, Ada!'}",
    "docs/guide/schedules.md": "{'books': 'books of Bonn closed'}",
}


def printed(directory: Path) -> str:
    command = [sys.executable, "-W", "error", "example.py"]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("page", SAYS)
def test_the_example_of_a_page_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    assert printed(tmp_path) == SAYS[page]


def test_an_embedded_example_can_be_run_again_on_the_same_directory(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    for _ in range(2):
        assert printed(tmp_path) == SAYS["README.md"]
