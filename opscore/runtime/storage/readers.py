"""Who reads a store, in this process and in others: what LMDB's readers say in the file that they share."""

import time
from pathlib import Path
from typing import Final

import lmdb

from opscore.runtime.errors import StoreLocked
from opscore.runtime.storage import extent
from opscore.runtime.storage.files import DATA_FILE

LOOKS_MAX: Final = 100
LOOK_AGAIN_S: Final = 0.005
"""How often, and after how long, one looks again at what a writer may be changing."""


def snapshots(environment: lmdb.Environment) -> list[int]:
    """The commits that are being read; LMDB lists its readers as text, with a dash for those that read nothing."""
    lines = environment.readers().splitlines()[1:]
    return [int(commit) for commit in (line.split()[-1] for line in lines) if commit != "-"]


def commits_held(environment: lmdb.Environment) -> int:
    """How many commits have been made since the oldest snapshot that is open."""
    return int(environment.info()["last_txnid"]) - min(snapshots(environment), default=2**63)


def refuse_stale(environment: lmdb.Environment, path: Path) -> None:
    """Refuse a file that took the place of another one which a process still reads.

    What the readers share says which commit is the newest, and while one of them is there it says so of the file
    before: LMDB would take an older commit of this one for the newest. A writer makes a commit visible in the file a
    moment before it tells the readers, so there may be another look.

    Raises:
        StoreLocked: such a reader is there.
    """
    for _ in range(LOOKS_MAX):
        oldest = extent.newest_commit(path / DATA_FILE)
        with environment.begin() as transaction:
            shared = int(transaction.id())
        if oldest <= shared <= extent.newest_commit(path / DATA_FILE):
            return
        time.sleep(LOOK_AGAIN_S)
    raise StoreLocked(str(path), "a process that read the file which was here before")
