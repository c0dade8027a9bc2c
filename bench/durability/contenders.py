"""The stores that are compared. Each makes operations of about 200 bytes durable, and lists afterwards which it has.

opscore: the real journal in a running actor system, the real writer's thread, the real store. An operation is a step
of a task as the domain commits it: the task's row, encoded by the domain's codec, with the precondition that it has
the version which the step before wrote, and its record in the journal. Every fourth step begins another task.
The floor makes the same rows durable by the same LMDB calls with the same precondition, and has nothing else: no
actors, no indexes, no typed errors, no submission that is refused alone. Less is not possible in Python.
The others write 200 bytes made beforehand under the next number as key: they have no other work than their own sync.
"""

import json
import os
import sqlite3
import struct
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from zlib import crc32

import attrs
import lmdb
import msgspec
import trio

from bench.durability.steps import Steps, line_of
from bench.durability.waiters import HandOver, OperationT, Store, Submit
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import open_system
from opscore.runtime.codec import decode_row
from opscore.runtime.errors import CommitUncertain
from opscore.runtime.journal.commit_line import CommitLine, Journal
from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.journal import JournalActor, JournalMeter
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import TASKS, record
from opscore.runtime.journal.writer import ThreadWriter
from opscore.runtime.models import Record
from opscore.runtime.store import ABSENT, JOURNAL_TABLE, Outcomes, Submission
from opscore.runtime.store import Store as OpscoreStore

BODY: Final = bytes(range(200))
_SUM: Final = struct.Struct(">QI")
"""Version and checksum."""
MAP_BYTES: Final = 8 * 1024**3

Running = Callable[[Path, list[float]], AbstractAsyncContextManager[Submit]]


@attrs.frozen(kw_only=True)
class Contender:
    """One store: runs in a directory, notes how long its batches take, and lists what it holds when reopened."""

    used: str
    running: Running
    found: Callable[[Path], Collection[int]]


# --- opscore ---------------------------------------------------------------------------------------------


class _TimedWriter:
    """The real writer; it also notes how long its batches take."""

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


class _Committed:
    """Commits the steps of each waiter's task."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._steps = Steps()
        self._versions: dict[int, int] = {}

    async def submit(self, waiter: int, number: int) -> None:
        row, first = self._steps.next_of(waiter)
        step = Submission(
            expects=(TASKS.expect(row.task_id, ABSENT if first else self._versions[waiter]),),
            writes=(TASKS.put(row),),
            records=(record(line_of(row, number)),),
        )
        self._versions[waiter] = await self._journal.commit(step)


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
                yield _Committed(Journal(line)).submit
        finally:
            writer.close()


def _raise(error: CommitUncertain) -> None:
    raise error


def _opscore_found(path: Path) -> Collection[int]:
    """Return the numbers in the journal, if every row has the version that its last record says."""
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


# --- the floor ------------------------------------------------------------------------------------------


@attrs.frozen
class _Rows:
    """An operation of the floor."""

    key: bytes
    row: bytes
    line: bytes
    first: bool


class Floor:
    """Writes the rows that opscore writes, and checks that each replaces the expected version."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sequence = 0

    def open(self) -> None:
        self._env = lmdb.open(str(self._path), map_size=MAP_BYTES, max_dbs=2)
        self._rows, self._journal = self._env.open_db(b"rows"), self._env.open_db(b"journal")

    def apply(self, operations: Sequence[_Rows]) -> None:
        rows, lines, sequence = self._rows, [], self._sequence
        with self._env.begin(write=True) as transaction:
            for operation in operations:
                key = operation.key
                if (transaction.get(key, db=rows) is None) is not operation.first:
                    raise RuntimeError(f"{key!r} is not what its last step left")
                sequence += 1
                transaction.put(key, _summed(key, operation.row, sequence), db=rows)
                place = sequence.to_bytes(8, "big")
                lines.append((place, _summed(place, operation.line, sequence)))
            with transaction.cursor(db=self._journal) as cursor:
                cursor.putmulti(lines, append=True)
        self._sequence = sequence

    def close(self) -> None:
        self._env.close()


def _summed(key: bytes, body: bytes, sequence: int) -> bytes:
    return _SUM.pack(sequence, crc32(body, crc32(key))) + body


@asynccontextmanager
async def _floor(path: Path, batch_seconds: list[float]) -> AsyncIterator[Submit]:
    steps, encode = Steps(), msgspec.json.Encoder().encode
    async with _handing_over(Floor(path), batch_seconds) as hand_over:

        async def submit(waiter: int, number: int) -> None:
            row, first = steps.next_of(waiter)
            await hand_over.submit(_Rows(row.task_id.encode(), encode(row), encode(line_of(row, number)), first))

        yield submit


def _floor_found(path: Path) -> Collection[int]:
    with lmdb.open(str(path), map_size=MAP_BYTES, max_dbs=2) as env, env.begin(db=env.open_db(b"journal")) as view:
        return [json.loads(line[_SUM.size :])["data"]["attempt"] for _, line in view.cursor()]


# --- the others ------------------------------------------------------------------------------------------


def _handed_over(make: Callable[[Path], Store[int]]) -> Running:
    @asynccontextmanager
    async def running(path: Path, batch_seconds: list[float]) -> AsyncIterator[Submit]:
        async with _handing_over(make(path), batch_seconds) as hand_over:

            async def submit(_: int, number: int) -> None:
                await hand_over.submit(number)

            yield submit

    return running


@asynccontextmanager
async def _handing_over(store: Store[OperationT], batch_seconds: list[float]) -> AsyncIterator[HandOver[OperationT]]:
    hand_over = HandOver(store, batch_seconds)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand_over.gather)
            yield hand_over
            nursery.cancel_scope.cancel()
    finally:
        hand_over.close()


class RawLmdb:
    """One LMDB table, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        self._env = lmdb.open(str(self._path), map_size=MAP_BYTES, max_dbs=1)
        self._table = self._env.open_db(b"operations")

    def apply(self, operations: Sequence[int]) -> None:
        with self._env.begin(write=True, db=self._table) as transaction:
            for number in operations:
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

    def apply(self, operations: Sequence[int]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO operations VALUES (?, ?)", [(number, BODY) for number in operations])
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
    """A file to which each batch is appended with one write and one fdatasync: the most that a disk can do."""

    def __init__(self, path: Path) -> None:
        self._file = path / "operations.log"

    def open(self) -> None:
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def apply(self, operations: Sequence[int]) -> None:
        lines = b"".join(number.to_bytes(8, "big") + BODY for number in operations)
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
    "floor": Contender(used="the same rows in LMDB, with nothing around them", running=_floor, found=_floor_found),
    "lmdb raw": Contender(used="puts into one table", running=_handed_over(RawLmdb), found=_lmdb_found),
    "sqlite": Contender(
        used="WAL, synchronous=FULL, one INSERT each", running=_handed_over(Sqlite), found=_sqlite_found
    ),
    "fdatasync": Contender(used="one append and one sync a batch", running=_handed_over(Append), found=_append_found),
}


def operation() -> str:
    """Return the size of opscore's operation, without the checks around it."""
    row, _ = Steps().next_of(0)
    return f"a row of {len(TASKS.put(row).body)} bytes and a record of {len(record(line_of(row, 1)).body)}"
