"""The readers of a store, in this process and in others, as LMDB's lock file lists them."""

import time
from pathlib import Path
from typing import Final

import lmdb

from opscore.runtime.errors import StoreLocked
from opscore.runtime.storage import extent
from opscore.runtime.storage.files import DATA_FILE

LOOKS_MAX: Final = 100
LOOK_AGAIN_S: Final = 0.005
"""How many times to look at what a writer may be changing, and how long to wait between two looks."""


def snapshots(environment: lmdb.Environment) -> list[int]:
    """Return the commits that are being read. LMDB lists its readers as text, with a dash for those that are idle."""
    lines = environment.readers().splitlines()[1:]
    return [int(commit) for commit in (line.split()[-1] for line in lines) if commit != "-"]


def commits_held(environment: lmdb.Environment) -> int:
    """Return the number of commits since the oldest open snapshot; negative if none is open."""
    return int(environment.info()["last_txnid"]) - min(snapshots(environment), default=2**63)


def refuse_stale(environment: lmdb.Environment, path: Path) -> None:
    """Refuse a file that has replaced another one which a process still reads.

    The lock file says which commit is the newest, and as long as such a reader exists, it says so of the old file:
    LMDB would take an older commit of this file for the newest. A writer makes a commit visible in the file a moment
    before it updates the lock file, so a mismatch is checked again.

    Raises:
        StoreLocked: a process still reads the file that was replaced.
    """
    for _ in range(LOOKS_MAX):
        oldest = extent.newest_commit(path / DATA_FILE)
        with environment.begin() as transaction:
            shared = int(transaction.id())
        if oldest <= shared <= extent.newest_commit(path / DATA_FILE):
            return
        time.sleep(LOOK_AGAIN_S)
    raise StoreLocked(str(path), "a process that still reads the file that was replaced")
