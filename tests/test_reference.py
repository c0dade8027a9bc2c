"""The site builds without a warning, needs no network to be read, and its reference leaves no public name out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import opscore.actors
import opscore.actors.testkit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# What a browser fetches by itself: scripts, styles, fonts and pictures, but no links.
FETCHED = re.compile(
    r"""<(?:script|img|source|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="https?://|url\("?https?:"""
)


@pytest.mark.parametrize(
    ("page", "names"),
    [("actors", opscore.actors.__all__), ("testkit", opscore.actors.testkit.__all__)],
    ids=["actors", "testkit"],
)
def test_the_reference_has_every_public_name_once(page: str, names: list[str]) -> None:
    text = (DOCS / "reference" / f"{page}.md").read_text()
    described = re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)(?:\(\))?$", text, flags=re.MULTILINE)
    assert sorted(described) == sorted(names)


def test_the_site_builds_without_a_warning_and_can_be_read_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html", str(DOCS)]
    built = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stderr
    assert [page.name for page in tmp_path.rglob("*.html") if FETCHED.search(page.read_text())] == []
    assert "a supervised actor library" in (tmp_path / "guide" / "actors.html").read_text()
