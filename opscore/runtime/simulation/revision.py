"""The revision of opscore that runs: a world plays the same again only on the same commit."""

import importlib.metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
"""The directory that has the `.git` of a checkout."""
_DIGITS: Final = 12


def revision() -> str:
    """Return the version, and the commit if this runs from a git checkout."""
    try:
        version = importlib.metadata.version("opscore")
    except importlib.metadata.PackageNotFoundError:
        version = "of no version"
    commit = _commit(ROOT / ".git")
    return f"opscore {version}" if commit is None else f"opscore {version}, commit {commit[:_DIGITS]}"


def _commit(repository: Path) -> str | None:
    """Return the commit that is checked out, read from git's own files; None if they do not say."""
    try:
        head = (repository / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head or None
        name = head.removeprefix("ref: ")
        loose = repository / name
        if loose.exists():
            return loose.read_text().strip()
        packed = (repository / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except (OSError, UnicodeDecodeError):
        return None
