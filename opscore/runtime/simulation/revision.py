"""Which opscore this is: a world plays the same again on the same commit alone."""

import importlib.metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
"""Where a checkout has its `.git`."""
_DIGITS: Final = 12


def revision() -> str:
    """The version, and the commit where this runs from a checkout of git."""
    try:
        version = importlib.metadata.version("opscore")
    except importlib.metadata.PackageNotFoundError:
        version = "of no version"
    commit = _commit(ROOT / ".git")
    return f"opscore {version}" if commit is None else f"opscore {version}, commit {commit[:_DIGITS]}"


def _commit(repository: Path) -> str | None:
    """The commit that is checked out, as git's own files say; whatever else they say is none."""
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
