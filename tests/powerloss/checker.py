"""The program that opens images, in a separate process, because a damaged file may crash LMDB.

Each line it reads names a workload and a data directory; each line it writes says what was found there.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Final

import trio
from trio.testing import MockClock

from opscore.runtime.errors import StoreError
from opscore.runtime.journal.tables import SESSIONS
from opscore.runtime.models import SESSION_ENDED, Session, SessionStatus
from opscore.runtime.storage.lmdb_snapshot import LmdbSnapshot
from opscore.runtime.store import JOURNAL_TABLE, Delete, Put, Submission
from tests.powerloss.ledger import DATA, TABLES, Contents, open_store
from tests.powerloss.workload import hire
from tests.runtime.world import World, check_rows

DONE_WITHIN_S: Final = 1_000_000.0
"""Of virtual time, for every run to end."""
LARGE: Final = 60_000
VERIFIER: Final = "lmdb.verify"
MORE_PAGES_THAN_NEEDED: Final = "header mp_pages"


def found_in(workload: str, path: Path) -> dict[str, Any]:
    """Open an image, use it, and say what it held; exceptions other than the store's own reach the caller."""
    try:
        with open_store(path, workload) as store, store.snapshot() as view:
            held = Contents.read(view, workload)
            before = sessions(view) if workload == "node" else []
    except StoreError as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    check_pages(path)
    found = {"sequence": held.sequence, "digest": held.digest()}
    if workload == "store":
        go_on(path, held)
    else:
        check_same(path, workload, held, "opening it again changes nothing")
        trio.run(run_on, path, before, clock=MockClock(autojump_threshold=0))
        found |= compared(path, before)
    check_pages(path)
    return found


def check_same(path: Path, workload: str, expected: Contents, why: str) -> None:
    with open_store(path, workload) as store, store.snapshot() as view:
        held = Contents.read(view, workload)
    assert (held.sequence, held.digest()) == (expected.sequence, expected.digest()), why


def check_pages(path: Path) -> None:
    """Check that every page of the file is used once or free, if the installed LMDB has its verifier."""
    if importlib.util.find_spec(VERIFIER) is None:
        return
    faults = importlib.import_module(VERIFIER).verify(path / DATA, subdir=False)
    # A value that was made smaller by the transaction that wrote it keeps its pages. LMDB gives all of them back when
    # it goes; its verifier takes them for lost, and what else it says then can't be told from that.
    if not any(MORE_PAGES_THAN_NEEDED in fault for fault in faults):
        assert faults == [], f"the pages of the file are not as they should be: {faults}"


def go_on(path: Path, held: Contents) -> None:
    """Open the image again, commit large and small batches, and read everything back from a newly opened store."""
    check_same(path, "store", held, "opening it again changes nothing")
    old = [Delete(table, key) for table in TABLES["store"] for key in sorted(held.keys(table))[::2]]
    new = [Put("left", b"new %d" % number, bytes([number]) * LARGE, 1) for number in range(4)]
    batch = [
        Submission(writes=(Put("right", b"new", b"small", 1),), records=(Put(JOURNAL_TABLE, b"", b"new", 1),)),
        Submission(writes=(*old, *new)),
    ]
    with open_store(path, "store") as store:
        assert store.apply(batch) == held.apply(batch), "it takes one more commit"
    check_same(path, "store", held, "that commit is there, and everything else as it was")


async def run_on(path: Path, before: list[Session]) -> None:
    """Open a node, and let every run end."""
    async with World(path, look=check_rows).node() as node:
        await hire(node)
        with trio.fail_after(DONE_WITHIN_S):
            for session in before:
                await node.wait(session.session_id)


def compared(path: Path, before: list[Session]) -> dict[str, Any]:
    """Say which runs there are and which had ended before."""
    with open_store(path, "node") as store, store.snapshot() as view:
        after = sessions(view)
    assert [each.session_id for each in after] == [each.session_id for each in before], "no run comes or goes"
    for session in after:
        assert session.status is SessionStatus.COMPLETED, f"{session} completes"
        assert session.result == {"second": number_of(session)}, f"{session} has the result that it should"
    ended = [session for session in before if session.status in SESSION_ENDED]
    assert [each for each in ended if each not in after] == [], "what had ended stays as it was"
    return {"runs": [number_of(session) for session in before], "ended": [number_of(session) for session in ended]}


def sessions(view: LmdbSnapshot) -> list[Session]:
    check_rows(view)
    return [session for session, _ in SESSIONS.scan(view)]


def number_of(session: Session) -> int:
    number: int = session.payload["number"]
    return number


def answered(workload: str, path: Path) -> dict[str, Any]:
    try:
        return found_in(workload, path)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what this image leads to)
        return {"fault": f"{type(error).__name__}: {error}"}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        found = answered(asked["workload"], Path(asked["path"]))
        sys.stdout.write(f"{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
