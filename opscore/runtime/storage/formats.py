"""The numbered layouts of the data file, and how a file says which one it has."""

from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreIncompatible

FORMAT: Final = 6
"""What this release writes; it refuses a higher one. The first knew no indexes, the second no signals and sub-runs, the
third no schedules, the fourth no slots, the fifth neither who was introduced by nobody nor which attempts functions
have."""
ENTRIES_SINCE: Final = 3
"""Rows of this format and of later ones have the entries in indexes that they have now."""
FORMAT_KEY: Final = b"format"
MAP_KEY: Final = b"map_bytes"
"""There, where the file may not grow as far as LMDB says: of all that it was ever opened with, that keeps the most."""
UPGRADING_KEY: Final = b"upgrading"
"""There, with the number of the format before, while the rows of a file are being brought up to this one."""


def number(found: bytes, path: Path) -> int:
    """The format that a file says it has.

    Raises:
        StoreIncompatible: a newer release wrote it, or it is no format that ever was.
    """
    if not found.isdigit() or not 0 < int(found) <= FORMAT:
        reason = f"it has format {found.decode(errors='replace')}, this release reads up to {FORMAT}"
        raise StoreIncompatible(str(path), reason)
    return int(found)
