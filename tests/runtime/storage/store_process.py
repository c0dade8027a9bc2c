"""A process with a store of its own, for the tests that need one to be killed, crowded out or kept out.

Its arguments are what to do and the data directory.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path

from opscore.runtime.errors import CommitUncertain, StoreError, StoreFull
from opscore.runtime.storage.files import LOCK_FILE
from opscore.runtime.storage.lmdb_reader import LmdbReader
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import JOURNAL_TABLE, Put, Submission

TABLES = ("left", "right")
NOBODY = 65_534
MAP_BYTES = 64 * 1024**2


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def hold(path: Path) -> None:
    """Keep the directory until the input ends."""
    with LmdbStore(path, tables=TABLES):
        say("open")
        sys.stdin.read()


def commit(path: Path) -> None:
    """Commit for ever, and say each sequence number once it is safe."""
    with LmdbStore(path, tables=TABLES) as store:
        with store.snapshot() as view:
            number = view.last_sequence()
        while True:
            number += 1
            body = b"%d " % number * 200
            record = Put(JOURNAL_TABLE, b"", body, 1)
            writes = tuple(Put(table, number.to_bytes(8, "big"), body, 1) for table in TABLES)
            outcomes = store.apply([Submission(writes=writes, records=(record,))])
            assert outcomes == [number]
            say(str(number))


def until_uncertain(path: Path) -> None:
    """Commit until a sync fails, and see that nothing more is taken although the disk is well again."""
    with LmdbStore(path, tables=TABLES) as store:
        number = 0
        while True:
            number += 1
            try:
                store.apply([both(number)])
            except CommitUncertain as error:
                say(f"uncertain {error}")
                break
            say(str(number))
        try:
            store.apply([both(number + 1)])
        except CommitUncertain:
            say("refused")
        with store.snapshot() as view:
            say(f"reads up to {view.last_sequence()}")


def limited(path: Path) -> None:
    """Fill a store that this process may not let grow any further."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 1024**2, resource.RLIM_INFINITY))
    fill(path)


def fill(path: Path) -> None:
    """Write until there is no room, and say what then still goes."""
    with LmdbStore(path, tables=TABLES) as store:
        count = 0
        while isinstance(outcome := store.apply([both(count)])[0], int):
            count += 1
        say(f"full {outcome}" if isinstance(outcome, StoreFull) else repr(outcome))
        with store.snapshot() as view:
            kept = [[key for key, _ in view.scan(table)] for table in TABLES]
        whole = [number.to_bytes(8, "big") for number in range(count)]
        say("whole" if count and kept == [whole, whole] else f"torn: {kept}")
        store.apply([Submission(writes=(Put("left", b"small", b"fits", 1),))])
        say("small fits")


def both(number: int) -> Submission:
    """A submission that writes the same to both tables."""
    key = number.to_bytes(8, "big")
    return Submission(writes=tuple(Put(table, key, os.urandom(90_000), 1) for table in TABLES))


def crowded(path: Path) -> None:
    """Open a store on a disk that became full, without the file that readers share, as of a backup; then with room."""
    LmdbStore(path, tables=TABLES, map_bytes=MAP_BYTES).close()
    (path / LOCK_FILE).unlink()
    with contextlib.suppress(OSError), (path / "else").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4_096))
    for _ in range(2):
        for opened in (LmdbReader, LmdbStore):
            try:
                opened(path, tables=TABLES, map_bytes=MAP_BYTES).close()
                say("open")
            except StoreFull as error:
                say(f"{opened.__name__} {error}")
        (path / "else").unlink(missing_ok=True)


def unprivileged(path: Path) -> None:
    """Open the store as a user who may only read the directory."""
    os.chdir(path)
    if os.geteuid() == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        LmdbStore(Path(), tables=TABLES).close()
    except StoreError as error:
        say(f"{type(error).__name__} {error}")


if __name__ == "__main__":
    work = (hold, commit, until_uncertain, limited, fill, crowded, unprivileged)
    {each.__name__: each for each in work}[sys.argv[1]](Path(sys.argv[2]))
