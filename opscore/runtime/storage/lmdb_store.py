"""The store in LMDB: one file in a data directory, written in atomic batches with one sync each."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Self

import lmdb

from opscore.runtime.errors import (
    CommitUncertain,
    StoreError,
    StoreFull,
    StoreIncompatible,
    StoreReadOnly,
)
from opscore.runtime.storage import extent, formats, lmdb_failures, measures, readers, room
from opscore.runtime.storage.directory_lock import LOCK_NAME, DirectoryLock
from opscore.runtime.storage.files import DATA_FILE, LOCK_FILE, clear_compacted, make_directory, make_lock_file, sync
from opscore.runtime.storage.held_files import HeldFiles
from opscore.runtime.storage.lmdb_snapshot import META_TABLE, LmdbSnapshot, Reading
from opscore.runtime.storage.lmdb_writing import WriteTransaction
from opscore.runtime.storage.measures import StoreMeasure
from opscore.runtime.store import JOURNAL_TABLE, Outcomes, Put, Submission

MAP_BYTES: Final = 8 * 1024**3
READERS_MAX: Final = 512
REFUSALS_MAX: Final = 8
"""Refusals in a row for lack of room after which pieces of the batch are no longer halved but refused whole."""

_UNFINISHED: Final = "data.mdb.new"
"""The name of a data file while it is created; a file with this name was never finished."""

_log = logging.getLogger("opscore.store")


class LmdbStore:
    """The tables of one data directory. It may be open once in a process, and one thread writes to it.

    Args:
        path: the data directory; created if it does not exist.
        tables: names of the tables.
        indexes: names of the indexes that values of a table may have entries in, by table.
        map_bytes: bytes that the file may grow to; address space for them is reserved.

    Raises:
        StoreLocked: another process has it open for writing, or still reads a data file that was replaced.
        StoreIncompatible: a newer release wrote it, or it is not a store.
        StoreDamaged: the data file is truncated.
        StoreFull: the disk has no room for the lock file.
        StoreError: the directory can't be created or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        tables: Sequence[str],
        indexes: Mapping[str, Sequence[str]] | None = None,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        self.path = path
        self.map_bytes = map_bytes
        self._indexed = frozenset(indexes or ())
        self._names = (JOURNAL_TABLE, *tables, *sorted({name for names in (indexes or {}).values() for name in names}))
        self._applying = threading.Lock()
        self._uncertain: CommitUncertain | None = None
        try:
            make_directory(path)
        except OSError as error:
            raise StoreError(f"{path} can't be used as data directory: {error.strerror or error}") from error
        self._lock = DirectoryLock.acquire(path)
        try:
            clear_compacted(path)
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        try:
            extent.refuse_truncated(self.path / DATA_FILE)
        except OSError as error:
            raise StoreError(f"{self.path / DATA_FILE} can't be read: {error.strerror or error}") from error
        try:
            if not (self.path / DATA_FILE).exists():
                self._create()
            make_lock_file(self.path)
            self._env = lmdb.open(
                os.fsencode(self.path), map_size=self.map_bytes, max_dbs=len(self._names) + 8, max_readers=READERS_MAX
            )
        except (lmdb.Error, OSError) as error:
            raise lmdb_failures.translated(error, self.path) from error
        try:
            readers.refuse_stale(self._env, self.path)
            # The format is checked first, so that the file of another program or of a newer release is not changed.
            self._tables = {META_TABLE: self._open_meta()}
            self.upgrading = self._check_format()
            """The format from which rows have to be upgraded before anything else; None, as a rule."""
            self._tables |= {name: self._env.open_db(name.encode()) for name in self._names}
            sync(self.path)
            with contextlib.suppress(PermissionError):
                # A process that may not read the parent has not created the directory, and need not sync its name.
                sync(self.path.resolve().parent)
            self.upkeep()
            self._note_map()
            with self.snapshot() as view:
                self._sequence = view.last_sequence()
            self._files = HeldFiles(self.path, (DATA_FILE, LOCK_FILE, LOCK_NAME))
        except (lmdb.Error, OSError) as error:
            self._env.close()
            raise lmdb_failures.translated(error, self.path) from error
        except BaseException:
            self._env.close()
            raise

    def _create(self) -> None:
        """Create the data file under another name, and rename it once it is complete and synced.

        LMDB syncs the first pages of a file with its first commit. A loss of power before that would leave an
        incomplete file, which every later start would refuse.
        """
        unfinished = self.path / _UNFINISHED
        unfinished.unlink(missing_ok=True)
        # The directory is locked, so LMDB need not lock the file.
        with lmdb.open(
            os.fsencode(unfinished), subdir=False, lock=False, map_size=self.map_bytes, max_dbs=1
        ) as environment:
            meta = environment.open_db(META_TABLE.encode())
            with environment.begin(write=True) as transaction:
                transaction.put(formats.FORMAT_KEY, str(formats.FORMAT).encode(), db=meta)
        unfinished.rename(self.path / DATA_FILE)
        sync(self.path)

    def _open_meta(self) -> Any:
        try:
            return self._env.open_db(META_TABLE.encode(), create=not self._env.stat()["entries"])
        except lmdb.NotFoundError as error:
            raise StoreIncompatible(str(self.path), "another program keeps its data there") from error

    def _check_format(self) -> int | None:
        with self._env.begin(write=True) as transaction:
            meta = self._tables[META_TABLE]
            found = transaction.get(formats.FORMAT_KEY, db=meta)
            if found is None:
                transaction.put(formats.FORMAT_KEY, str(formats.FORMAT).encode(), db=meta)
                return None
            number = formats.number(found, self.path)
            before = transaction.get(formats.UPGRADING_KEY, db=meta)
            if number < formats.FORMAT:
                # From here on an older release refuses the file, because what it would write lacks something. If the
                # older release was itself upgrading the file, its rows are still in the format before that one.
                before = before or found
                transaction.put(formats.UPGRADING_KEY, before, db=meta)
                transaction.put(formats.FORMAT_KEY, str(formats.FORMAT).encode(), db=meta)
            return None if before is None else int(before)

    def _note_map(self) -> None:
        """Have who looks at the store from outside know what it may grow to, where the file says something else."""
        meta = self._tables[META_TABLE]
        try:
            with self._env.begin() as transaction:
                noted = transaction.get(formats.MAP_KEY, db=meta)
            known = extent.map_bytes(self.path / DATA_FILE) if noted is None else int(noted)
            if known != self.map_bytes:
                with self._env.begin(write=True) as transaction:
                    transaction.put(formats.MAP_KEY, b"%d" % self.map_bytes, db=meta)
        except lmdb.Error:
            # A full disk must not keep a store from being opened to make room in it.
            _log.debug("what the store may grow to could not be noted", exc_info=True)

    def close(self) -> None:
        """Close the store and release the directory; closing it twice is fine.

        While a batch is being applied, the store stays open and locked: closing the files under it would crash the
        process, and another writer must not be admitted while the batch may still reach the disk.
        """
        if not self._applying.acquire(blocking=False):
            _log.critical("%s stays open until the process ends: the disk does not answer", self.path)
            return
        try:
            self._env.close()
            self._files.close()
            self._lock.release()
        finally:
            self._applying.release()

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the store."""
        self.close()

    def snapshot(self) -> AbstractContextManager[LmdbSnapshot]:
        """Read at the newest commit; this never waits for the writer.

        Raises:
            StoreDamaged: a page or a value that is read is damaged.
        """
        return Reading(self._env, self._tables, self.path)

    def measure(self) -> StoreMeasure:
        """Return sizes and counts."""
        with self._env.begin() as transaction:
            return measures.measured(self._env, transaction, self._tables)

    def upkeep(self) -> None:
        """Clear the reader slots of processes that were killed, so that the pages they held can be reused.

        Raises:
            StoreError: the readers can't be checked.
        """
        try:
            self._env.reader_check()
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch in one transaction with one sync, or in several if there is no room for it as a whole.

        Returns:
            for each submission its version (its last sequence number), or why it was refused: a precondition failed
            or its value is damaged, or there is no room.

        Raises:
            CommitUncertain: the sync failed; the store must not be written again before it is reopened.
            StoreReadOnly: the file may no longer be written; nothing was applied.
        """
        with self._applying:
            return self._apply_what_fits(batch)

    def _apply_what_fits(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch; if there is too little room, apply its halves, so that what fits is not refused."""
        outcomes: Outcomes = []
        pieces, refusals = [batch], 0
        while pieces:
            piece = pieces.pop()
            try:
                outcomes += self._transact(piece)
                refusals = 0
            except StoreFull as error:
                if len(piece) > 1 and refusals < REFUSALS_MAX:
                    half = len(piece) // 2
                    pieces += (piece[half:], piece[:half])
                else:
                    outcomes += [error] * len(piece)
                    refusals += 1
            except CommitUncertain:
                raise
            except StoreError as error:
                if not any(isinstance(each, int) for each in outcomes):
                    raise
                # Part of the batch has been applied, so only this piece fails.
                outcomes += [error] * len(piece)
        return outcomes

    def _transact(self, batch: Sequence[Submission]) -> Outcomes:
        sequence = self._sequence
        outcomes: Outcomes = []
        with self._writing() as transaction:
            full = self._reserve_refusal(transaction.transaction) if any(each.new_work for each in batch) else None
            for submission in batch:
                outcome = full if full is not None and submission.new_work else transaction.apply(submission, sequence)
                outcomes.append(outcome)
                if isinstance(outcome, int):
                    sequence = outcome
            transaction.finish(sequence)
        self._sequence = sequence
        return outcomes

    def _reserve_refusal(self, transaction: lmdb.Transaction) -> StoreFull | None:
        if not measures.only_reserve_left(self._env, transaction, self._tables, self.path, self.map_bytes):
            return None
        return StoreFull(str(self.path), f"the last {room.RESERVE:.0%} are kept for finishing accepted work")

    def _refuse_displaced(self) -> None:
        """Refuse to write to files that are not the directory's any more.

        Who removes or replaces them under a server, to restore a backup for example, would lose all that it went on to
        acknowledge; and without the lock's file another server could have begun to write.
        """
        name = self._files.displaced()
        if name is not None:
            raise StoreReadOnly(str(self.path), f"its {name} was removed or replaced: put it back, or start again")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[WriteTransaction]:
        """Yield a transaction that is committed and synced when the block ends, and aborted if it raises.

        Raises:
            StoreFull: nothing was applied; the store can still be used.
            CommitUncertain: the sync failed.
        """
        if self._uncertain is not None:
            # The kernel drops pages whose sync failed, and the next sync reports success.
            raise self._uncertain
        self._refuse_displaced()
        try:
            transaction = self._env.begin(write=True)
        except lmdb.PanicError as error:
            # An earlier commit failed in its last step, and LMDB accepts no more writes.
            raise CommitUncertain(str(self.path), str(error)) from error
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error
        try:
            yield WriteTransaction(transaction, self._tables, self._indexed)
        except BaseException as error:
            transaction.abort()
            if isinstance(error, lmdb.Error):
                raise lmdb_failures.translated(error, self.path) from error
            raise
        try:
            transaction.commit()
        except lmdb.Error as error:
            failure = self._commit_failure(error)
            if isinstance(failure, CommitUncertain):
                self._uncertain = failure
            raise failure from error

    def _commit_failure(self, error: lmdb.Error) -> StoreError:
        try:
            self._env.begin().abort()
        except lmdb.PanicError:
            # The pages were synced and the last step failed, which makes them visible. Whatever the cause, even a full
            # disk, the commit may have happened.
            return CommitUncertain(str(self.path), str(error))
        refused = lmdb_failures.full(error, self.path) or lmdb_failures.not_writable(error, self.path)
        return refused or CommitUncertain(str(self.path), str(error))

    def rewrite(self, rows: Iterable[tuple[Put, int]], *, sequence: int | None = None) -> None:
        """Write values with versions that they already have, in one transaction; for upgrades and imports.

        Args:
            rows: each value with its version; journal records have their own keys.
            sequence: the new sequence number; if None, it does not change.
        """
        with self._applying:
            with self._writing() as transaction:
                for put, version in rows:
                    transaction.put(put, version)
                transaction.finish(self._sequence if sequence is None else sequence)
            self._sequence = self._sequence if sequence is None else sequence

    def upgraded(self) -> None:
        """Note that every row has been upgraded to this format."""
        with self._applying, self._writing() as transaction:
            transaction.transaction.delete(formats.UPGRADING_KEY, db=self._tables[META_TABLE])
        self.upgrading = None
