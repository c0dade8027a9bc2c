"""The stores beside one another. Each makes operations of about 200 bytes durable, and says afterwards which it has.

opscore: the real journal in a running actor system, the real writer's thread, the real store. An operation is a step
of a task as the domain commits it: the task's row, encoded by the domain's codec, under the precondition that it stands
at the version that the step before wrote, with its record in the journal. Every fourth step begins another task.
The others get a number for a key, always the next one, and 200 bytes that are there already: what they have to beat is
nothing but their own sync.
"""

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import attrs
import lmdb
import trio

from bench.durability.waiters import HandOver, Store, Submit
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import open_system
from opscore.runtime.codec import decode_row
from opscore.runtime.commit_line import CommitLine, Journal
from opscore.runtime.errors import CommitUncertain
from opscore.runtime.feed import Feed
from opscore.runtime.identity import new_id
from opscore.runtime.journal import JournalActor, JournalMeter
from opscore.runtime.models import Record, Task, TaskStatus
from opscore.runtime.opening import open_store
from opscore.runtime.store import ABSENT, JOURNAL_TABLE, Outcomes, Put, Submission
from opscore.runtime.store import Store as OpscoreStore
from opscore.runtime.tables import TASKS, record
from opscore.runtime.writer import ThreadWriter

BODY: Final = bytes(range(200))
SEED: Final = 7
BEGAN_AT: Final = 1_700_000_000.0
TASKS_AHEAD: Final = 25_000
MAP_BYTES: Final = 8 * 1024**3
STEPS: Final = (TaskStatus.PENDING, TaskStatus.READY, TaskStatus.DISPATCHED, TaskStatus.COMPLETED)

Running = Callable[[Path, list[float]], AbstractAsyncContextManager[Submit]]


@attrs.frozen(kw_only=True)
class Contender:
    """One store: how it runs in a directory, noting how long its batches take, and what it holds when reopened."""

    used: str
    running: Running
    found: Callable[[Path], Collection[int]]


# --- opscore ---------------------------------------------------------------------------------------------


class _TimedWriter:
    """The real writer, and how long its batches take."""

    def __init__(self, store: OpscoreStore, batch_seconds: list[float]) -> None:
        self._writer = ThreadWriter(store)
        self._batch_seconds = batch_seconds

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        began = time.perf_counter()
        outcomes = await self._writer.apply(batch)
        self._batch_seconds.append(time.perf_counter() - began)
        return outcomes

    async def settled(self) -> None:
        await self._writer.settled()

    def close(self) -> None:
        self._writer.close()


class _Steps:
    """Commits the steps of each waiter's task, one after another. What rows say is decided before the clock runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._random = Random(SEED)
        self._ahead = [self._task() for _ in range(TASKS_AHEAD)]
        self._left: dict[int, Iterator[Task]] = {}
        self._versions: dict[int, int] = {}

    async def submit(self, waiter: int, number: int) -> None:
        row = next(self._left.get(waiter, iter(())), None)
        if row is None:
            self._left[waiter] = left = iter(self._ahead.pop() if self._ahead else self._task())
            row, self._versions[waiter] = next(left), ABSENT
        step = Submission(
            expects=(TASKS.expect(row.task_id, self._versions[waiter]),),
            writes=(TASKS.put(row),),
            records=(_line(row, number),),
        )
        self._versions[waiter] = await self._journal.commit(step)

    def _task(self) -> list[Task]:
        return _rows_of(new_id("ses", BEGAN_AT, self._random))


def _rows_of(session_id: str) -> list[Task]:
    begun = Task(task_id=f"{session_id}.0", session_id=session_id, key="measure", ordinal=0)
    return [attrs.evolve(begun, status=status) for status in STEPS]


def _line(row: Task, number: int) -> Put:
    line = Record(
        at=BEGAN_AT,
        entity="task",
        entity_id=row.task_id,
        session_id=row.session_id,
        kind=f"task.{row.status}",
        data={"taskKey": row.key, "attempt": number, "agentId": row.agent_id},
    )
    return record(line)


@asynccontextmanager
async def _opscore(path: Path, batch_seconds: list[float]) -> AsyncIterator[Submit]:
    with open_store(path, map_bytes=MAP_BYTES) as store:
        writer, line = _TimedWriter(store, batch_seconds), CommitLine()

        def journal() -> JournalActor:
            return JournalActor(
                store=store, writer=writer, line=line, meter=JournalMeter(line), feed=Feed(), on_fatal=_raise
            )

        try:
            async with open_system(SupervisorSpec(name="root")) as system:
                system.supervisor("/").start_child(ChildSpec(name="journal", factory=journal))
                yield _Steps(Journal(line)).submit
        finally:
            writer.close()


def _raise(error: CommitUncertain) -> None:
    raise error


def _opscore_found(path: Path) -> Collection[int]:
    """The numbers in the journal, provided that every row stands where its last record says."""
    numbers, last_kinds = [], dict[str, str]()
    with open_store(path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        for _, stored in view.scan(JOURNAL_TABLE):
            line = decode_row(stored.body, Record)
            numbers.append(int(line.data["attempt"]))
            last_kinds[line.entity_id] = line.kind
        rows = {task.task_id: f"task.{task.status}" for task, _ in TASKS.scan(view)}
    if rows != last_kinds:
        raise RuntimeError("a task does not stand where its last record says")
    return numbers


# --- the others ------------------------------------------------------------------------------------------


def _handed_over(make: Callable[[Path], Store]) -> Running:
    @asynccontextmanager
    async def running(path: Path, batch_seconds: list[float]) -> AsyncIterator[Submit]:
        hand_over = HandOver(make(path), batch_seconds)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hand_over.gather)
                yield hand_over.submit
                nursery.cancel_scope.cancel()
        finally:
            hand_over.close()

    return running


class RawLmdb:
    """One table of LMDB, and nothing around it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        self._env = lmdb.open(str(self._path), map_size=MAP_BYTES, max_dbs=1)
        self._table = self._env.open_db(b"operations")

    def apply(self, numbers: Sequence[int]) -> None:
        with self._env.begin(write=True, db=self._table) as transaction:
            for number in numbers:
                transaction.put(number.to_bytes(8, "big"), BODY)

    def close(self) -> None:
        self._env.close()


def _lmdb_found(path: Path) -> Collection[int]:
    with lmdb.open(str(path), map_size=MAP_BYTES, max_dbs=1) as env, env.begin(db=env.open_db(b"operations")) as view:
        return [int.from_bytes(key, "big") for key, value in view.cursor() if value == BODY]


class Sqlite:
    """The standard library's sqlite3 with a write-ahead log that is synced by every commit."""

    def __init__(self, path: Path) -> None:
        self._file = path / "operations.sqlite"

    def open(self) -> None:
        self._connection = sqlite3.connect(self._file, isolation_level=None)
        (mode,) = self._connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise RuntimeError(f"SQLite keeps its journal as {mode}")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE operations (number INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def apply(self, numbers: Sequence[int]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO operations VALUES (?, ?)", [(number, BODY) for number in numbers])
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


def _sqlite_found(path: Path) -> Collection[int]:
    connection = sqlite3.connect(path / "operations.sqlite")
    try:
        return [number for (number,) in connection.execute("SELECT number FROM operations WHERE body = ?", (BODY,))]
    finally:
        connection.close()


class Append:
    """A file that each batch is appended to with one write and one fdatasync: what a disk gives at most."""

    def __init__(self, path: Path) -> None:
        self._file = path / "operations.log"

    def open(self) -> None:
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def apply(self, numbers: Sequence[int]) -> None:
        lines = b"".join(number.to_bytes(8, "big") + BODY for number in numbers)
        if os.write(self._descriptor, lines) != len(lines):
            raise OSError(f"{self._file} took a part only")
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _append_found(path: Path) -> Collection[int]:
    content = (path / "operations.log").read_bytes()
    width = 8 + len(BODY)
    lines = [content[at : at + width] for at in range(0, len(content), width)]
    return [int.from_bytes(line[:8], "big") for line in lines if line[8:] == BODY]


CONTENDERS: Final = {
    "opscore": Contender(used="the journal, with codec and preconditions", running=_opscore, found=_opscore_found),
    "lmdb raw": Contender(used="puts into one table", running=_handed_over(RawLmdb), found=_lmdb_found),
    "sqlite": Contender(
        used="WAL, synchronous=FULL, one INSERT each", running=_handed_over(Sqlite), found=_sqlite_found
    ),
    "fdatasync": Contender(used="one append and one sync a batch", running=_handed_over(Append), found=_append_found),
}


def operation() -> str:
    """Say what opscore's operation weighs, without the checks around it."""
    row = _rows_of(new_id("ses", BEGAN_AT, Random(SEED)))[-1]
    return f"a row of {len(TASKS.put(row).body)} bytes and a record of {len(_line(row, 1).body)}"
