"""What senders and handlers are held to by mypy and by pyright, both strict: the samples stand in `typing/`.

`positive.py` passes. In `negative.py` each wrong line says what it is refused with, and every other line passes.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
POSITIVE, NEGATIVE = (f"tests/actors/typing/{name}.py" for name in ("positive", "negative"))
MARKER = re.compile(r"# error: (?P<mypy>[a-z-]+(?:, [a-z-]+)*) / (?P<pyright>[A-Za-z]+(?:, [A-Za-z]+)*)$")


class Refusal(NamedTuple):
    """A line that a type checker refuses, and the code it does so with."""

    file: str
    line: int
    code: str


def run(checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments, POSITIVE, NEGATIVE]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    # Both leave with 1 when they refuse a line, and with more when they could not do their work.
    assert ran.returncode == 1, f"{checker} left with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def mypys_words(cache: Path) -> dict[Refusal, str]:
    printed = run("mypy", "--strict", "--output=json", f"--cache-dir={cache}")
    errors: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    return {
        Refusal(Path(error["file"]).as_posix(), error["line"], error["code"]): error["message"]
        for error in errors
        if error["severity"] == "error"
    }


def pyrights_words(_: Path) -> dict[Refusal, str]:
    # Asked for JSON, it does not look for a newer version of itself on the network.
    printed = run("pyright", "--outputjson", f"--pythonpath={sys.executable}")
    errors: list[dict[str, Any]] = json.loads(printed)["generalDiagnostics"]
    return {
        Refusal(
            Path(error["file"]).relative_to(ROOT).as_posix(),
            error["range"]["start"]["line"] + 1,
            error.get("rule", "no code"),
        ): error["message"]
        for error in errors
    }


CHECKERS: dict[str, Callable[[Path], dict[Refusal, str]]] = {"mypy": mypys_words, "pyright": pyrights_words}


def lines(file: str) -> list[str]:
    return (ROOT / file).read_text(encoding="utf-8").splitlines()


def marked(checker: str) -> set[Refusal]:
    found: set[Refusal] = set()
    for number, line in enumerate(lines(NEGATIVE), start=1):
        if "# error" in line:
            marker = MARKER.search(line)
            assert marker, f"{NEGATIVE}:{number}: a marker reads `# error: mypys-code / pyrightsCode`: {line.strip()}"
            found.update(Refusal(NEGATIVE, number, code) for code in marker[checker].split(", "))
    return found


def unlike(expected: set[Refusal], words: dict[Refusal, str]) -> list[str]:
    """Tell where the markers and a checker differ: the line, what stands there, and the checker's words."""
    told: list[str] = []
    for refusal in sorted(expected ^ words.keys()):
        verb = "passes without" if refusal in expected else "is refused with"
        told.append(
            f"{refusal.file}:{refusal.line} {verb} {refusal.code}: {lines(refusal.file)[refusal.line - 1].strip()}"
        )
        if refusal in words:
            told.append(indent(words[refusal], "    "))
    return told


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_type_checker_refuses_exactly_the_lines_that_are_marked(checker: str, tmp_path: Path) -> None:
    told = unlike(marked(checker), CHECKERS[checker](tmp_path))
    assert not told, "\n".join([f"{checker} and the markers differ:", *told])


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_line_that_passes_and_a_line_that_is_refused_are_both_told(checker: str) -> None:
    first, *others = sorted(marked(checker))
    assert unlike({first}, {first: "Words."}) == []
    words = dict.fromkeys(others, "Words.") | {Refusal(POSITIVE, 1, "new"): "No docstring."}
    passes, refused, why = unlike({first, *others}, words)
    assert passes == f"{NEGATIVE}:{first.line} passes without {first.code}: {lines(NEGATIVE)[first.line - 1].strip()}"
    assert refused == f"{POSITIVE}:1 is refused with new: {lines(POSITIVE)[0]}"
    assert why == "    No docstring."
