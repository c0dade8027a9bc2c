"""Builds a store and waits to be killed: `python -m bench.durability.opening_store DIRECTORY FINISHED UNFINISHED`.

The sessions are written by the store itself, in large batches, and nothing is closed: the parent ends the process with
SIGKILL once it has said how many there are.
"""

import itertools
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bench.durability.rows import Rows
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import OPEN_SESSIONS
from opscore.runtime.store import Store, Submission

BATCH: Final = 5_000


def write(store: Store, *, finished: int, unfinished: int) -> int:
    """Write the sessions; returns how many of them the store holds as unfinished."""
    rows = Rows(time.time())
    store.apply([rows.workflow()])
    for batch in _batches(itertools.chain(rows.finished(finished), rows.unfinished(unfinished))):
        for outcome in store.apply(batch):
            if not isinstance(outcome, int):
                raise outcome
    with store.snapshot() as view:
        return sum(1 for _ in OPEN_SESSIONS.scan(view))


def _batches(submissions: Iterable[Submission]) -> Iterator[list[Submission]]:
    left = iter(submissions)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch


def main() -> None:
    directory, finished, unfinished = sys.argv[1:]
    store = open_store(Path(directory))
    print(json.dumps(write(store, finished=int(finished), unfinished=int(unfinished))), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
