"""The numbered formats of the data file, and how a file states its own."""

from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreIncompatible

FORMAT: Final = 6
"""The format that this release writes; it refuses a higher one. Format 1 had no indexes, 2 no signals and child runs,
3 no schedules and 4 no slots. Format 5 did not record which agents are known by their reports alone, nor which attempts
local functions have."""
ENTRIES_SINCE: Final = 3
"""Rows of this format and of later ones have the index entries that they have now."""
FORMAT_KEY: Final = b"format"
MAP_KEY: Final = b"map_bytes"
"""There, where the file may not grow as far as LMDB says: of all that it was ever opened with, that keeps the most."""
UPGRADING_KEY: Final = b"upgrading"
"""Key that exists while the rows of a file are being upgraded; its value is the number of the format before."""


def number(found: bytes, path: Path) -> int:
    """Return the number of the format that a file states.

    Raises:
        StoreIncompatible: a newer release wrote the file, or the format never existed.
    """
    if not found.isdigit() or not 0 < int(found) <= FORMAT:
        reason = f"it has format {found.decode(errors='replace')}, this release reads up to {FORMAT}"
        raise StoreIncompatible(str(path), reason)
    return int(found)
