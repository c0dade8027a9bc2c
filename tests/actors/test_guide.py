"""The Python of the guide runs, prints what the guide says, and is typed; its tables leave nothing out."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opscore.actors import DeadLetterReason

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = [GUIDE / "actors.md", *sorted((GUIDE / "actors").glob("*.md"))]


def blocks(page: Path, language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "".join(found)


EXAMPLES = [page for page in PAGES if blocks(page, "python")]


def words_of_the_log() -> set[str]:
    """Find every line that the library itself logs, each of its arguments as an ellipsis."""
    calls = (
        node
        for file in (ROOT / "opscore" / "actors").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    )
    return {
        re.sub(r"%[a-z]", "…", line)
        for call in calls
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "_LOGGER"
        for line in [ast.literal_eval(call.args[0])]
    }


def test_the_guide_has_examples() -> None:
    assert len(EXAMPLES) >= 7


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.stem)
def test_the_guides_code_prints_what_the_guide_says(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "guide.py"
    script.write_text(blocks(page, "python"))
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == blocks(page, "text")


def test_the_guides_code_is_typed(tmp_path: Path) -> None:
    scripts = [tmp_path / f"guide_{page.stem}.py" for page in EXAMPLES]
    for page, script in zip(EXAMPLES, scripts, strict=True):
        script.write_text(blocks(page, "python"))
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *map(str, scripts)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout


def test_the_guides_code_imports_public_names_only() -> None:
    code = "".join(blocks(page, "python") for page in EXAMPLES)
    imported = re.findall(r"^(?:from|import) (opscore\S*)", code, flags=re.MULTILINE)
    assert set(imported) == {"opscore.actors", "opscore.actors.testkit"}


def test_every_line_of_the_log_is_explained() -> None:
    rows = re.findall(
        r"^\| [A-Z]+ \| `([^`]+)` \|", (GUIDE / "actors" / "operations.md").read_text(), flags=re.MULTILINE
    )
    assert set(rows) == words_of_the_log()


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    page = (GUIDE / "actors" / "operations.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", page, flags=re.MULTILINE)
    assert dict(rows) == {reason.name: reason.value for reason in DeadLetterReason}


def test_every_page_of_the_guide_is_linked_from_its_entrance() -> None:
    entrance = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if f"(actors/{page.name})" not in entrance] == []
