import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "actors.md"


def blocks(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "".join(found)


def test_the_guides_code_prints_what_the_guide_says(tmp_path: Path) -> None:
    script = tmp_path / "guide.py"
    script.write_text(blocks("python"))
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == blocks("text")


def test_the_guides_code_is_typed(tmp_path: Path) -> None:
    script = tmp_path / "guide.py"
    script.write_text(blocks("python"))
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
