"""The Python that the README, the guides and the reference show runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = "{'greet': {'greeting': 'Hello, Ada!'}}"
SAYS = {
    "README.md": [README],
    "docs/guide/embedding.md": ["{'pages': 2}", "{'greet': 'Hello, Ada!'}", "{'greet': 'Hello, Ada!'}"],
    "docs/guide/schedules.md": ["{'books': 'books of Bonn closed'}"],
    "docs/reference/runtime.md": ["[{'price': 120}, None] empty"],
    "docs/reference/simulation.md": ["['completed', 'completed', 'completed']"],
}
"""What each example of a page prints, in the order of the page."""


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def printed(directory: Path) -> str:
    command = [sys.executable, "-W", "error", "example.py"]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("page", SAYS)
def test_each_example_of_a_page_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    for number, (example, says) in enumerate(zip(examples(page), SAYS[page], strict=True)):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "example.py").write_text(example)
        assert f"# {says}" in example
        assert printed(directory) == says


def test_an_embedded_example_can_be_run_again_on_the_same_directory(tmp_path: Path) -> None:
    (example,) = examples("README.md")
    (tmp_path / "example.py").write_text(example)
    for _ in range(2):
        assert printed(tmp_path) == README
