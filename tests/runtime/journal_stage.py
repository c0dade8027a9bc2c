"""The journal on a real store, with a writer in the loop that can be held back."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from opscore.actors.actor import handles
from opscore.actors.backoff import Backoff
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import open_system
from opscore.runtime.errors import CommitUncertain
from opscore.runtime.journal.commit_line import CommitLine, Journal
from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.journal import JournalActor, JournalMeter, JournalProtocol
from opscore.runtime.journal.tables import OPEN_SESSIONS
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Outcomes, Put, Snapshot, Submission


@attrs.frozen(kw_only=True)
class Stumble(Message[JournalProtocol, None]):
    """Crashes the journal."""


class StumblingJournal(JournalActor):
    @handles(Stumble)
    async def stumble(self, message: Stumble) -> None:
        raise ValueError("stumbled")


class HeldWriter:
    """A writer in the loop that can be held back, and that notes each batch as it takes it."""

    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._turn = trio.Lock()
        self._may_sync = trio.Event()
        self._may_sync.set()
        self.batches: list[Sequence[Submission]] = []
        self.goes_bad = False

    def hold(self) -> None:
        self._may_sync = trio.Event()

    def release(self) -> None:
        self._may_sync.set()

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        with trio.CancelScope(shield=True):
            async with self._turn:
                self.batches.append(batch)
                await self._may_sync.wait()
                if self.goes_bad:
                    raise CommitUncertain("disk", "Input/output error")
                return self._store.apply(batch)
        raise AssertionError("the scope is never cancelled")

    async def settled(self) -> None:
        async with self._turn:
            pass

    def close(self) -> None: ...


@attrs.frozen
class Stage:
    store: LmdbStore
    writer: HeldWriter
    feed: Feed
    line: CommitLine
    journal: Journal
    ref: Ref[Any]
    fatal: list[CommitUncertain]


def open_stage_store(path: Path) -> LmdbStore:
    return LmdbStore(path, tables=["t", OPEN_SESSIONS.name], map_bytes=4 * 1024**2)


@asynccontextmanager
async def stage(store: LmdbStore, writer: HeldWriter | None = None) -> AsyncIterator[Stage]:
    writer = writer or HeldWriter(store)
    feed, line = Feed(), CommitLine()
    fatal: list[CommitUncertain] = []

    def make() -> StumblingJournal:
        return StumblingJournal(
            store=store, writer=writer, line=line, meter=JournalMeter(line), feed=feed, on_fatal=fatal.append
        )

    spec: ChildSpec[Any] = ChildSpec(name="journal", factory=make, backoff=Backoff(jitter=0.0))
    async with open_system(SupervisorSpec(name="root", children=(spec,))) as system:
        ref = system.ref("/journal")
        assert ref is not None
        try:
            yield Stage(store, writer, feed, line, Journal(line), ref, fatal)
        finally:
            writer.release()


def put(key: str, body: bytes = b"") -> Submission:
    return Submission(writes=(Put("t", key.encode(), body, 1),))


def keys(view: Snapshot) -> list[str]:
    return [key.decode() for key, _ in view.scan("t")]
