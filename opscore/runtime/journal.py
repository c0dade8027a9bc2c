"""The journal: the one place through which state changes, shared by group commit.

The actor collects what its mailbox brings while the writer is at the batch before; a submission is answered
only when its batch is synced. Loads stand in the same line, so a restarted actor never reads past a submission
of its former incarnation that was sent before.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
import trio

from opscore.actors.actor import Actor, handles
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.ref import Ref, Reply
from opscore.runtime.errors import CommitUncertain, OpscoreError
from opscore.runtime.feed import Feed
from opscore.runtime.messages import Commit, JournalProtocol, Load
from opscore.runtime.store import Snapshot, Store, Submission
from opscore.runtime.writer import Writer

ResultT = TypeVar("ResultT")

BATCH_MAX: Final = 4_096
"""Submissions in one transaction."""
MAILBOX: Final = MailboxSpec(capacity=262_144)
ANSWER_TIMEOUT_S: Final = 120.0
"""How long an actor waits for a disk before it gives its commit up as unknown and starts anew."""


@attrs.frozen(kw_only=True)
class JournalStatistics:
    """What the journal has done since it started."""

    batches: int
    submissions: int
    refused: int


class JournalActor(Actor[JournalProtocol]):
    """The single writer's actor.

    Args:
        store: read for loads.
        writer: applies the batches.
        feed: told what was committed, after the commit.
        on_fatal: told of a commit whose outcome is unknown; the node stops.
    """

    def __init__(
        self, *, store: Store, writer: Writer, feed: Feed, on_fatal: Callable[[CommitUncertain], None]
    ) -> None:
        self._store = store
        self._writer = writer
        self._feed = feed
        self._on_fatal = on_fatal
        self._waiting: list[tuple[Commit | Load, Reply[Any]]] = []
        self._more = trio.Event()
        self._batches = self._submissions = self._refused = 0

    async def on_start(self) -> None:
        """Wait for what a former incarnation left with the writer, then begin."""
        await self._writer.settled()
        self.context.start_soon(self._work)

    @handles(Commit)
    async def commit(self, message: Commit) -> Reply[int]:
        """Put a submission in line."""
        return self._in_line(message)

    @handles(Load)
    async def load(self, message: Load) -> Reply[Any]:
        """Put a read in line."""
        return self._in_line(message)

    def _in_line(self, message: Commit | Load) -> Reply[Any]:
        reply = self.context.defer()
        self._waiting.append((message, reply))
        self._more.set()
        return reply

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                self._more = trio.Event()
                await self._more.wait()
            line, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            await self._apply([(message, reply) for message, reply in line if isinstance(message, Commit)])
            for message, reply in line:
                if isinstance(message, Load):
                    self._read(message, reply)

    async def _apply(self, line: list[tuple[Commit, Reply[Any]]]) -> None:
        if not line:
            return
        try:
            outcomes = await self._writer.apply([message.submission for message, _ in line])
        except CommitUncertain as error:
            self._on_fatal(error)
            raise
        except OpscoreError as error:
            # Nothing was applied, so each waiter is told, and the journal goes on.
            for _, reply in line:
                reply.fail(error)
            return
        self._batches += 1
        self._submissions += len(line)
        for (message, reply), outcome in zip(line, outcomes, strict=True):
            if isinstance(outcome, OpscoreError):
                self._refused += 1
                reply.fail(outcome)
            else:
                self._feed.publish(_entities(message.submission))
                reply.set(outcome)

    def _read(self, message: Load, reply: Reply[Any]) -> None:
        try:
            with self._store.snapshot() as view:
                reply.set(message.read(view))
        except Exception as error:  # noqa: BLE001 (the read is the asker's own, and so is what goes wrong in it)
            reply.fail(error)

    def statistics(self) -> JournalStatistics:
        """What has been done so far."""
        return JournalStatistics(batches=self._batches, submissions=self._submissions, refused=self._refused)


def _entities(submission: Submission) -> list[str]:
    return [write.key.decode() for write in submission.writes]


class Journal:
    """How actors reach the journal."""

    def __init__(self, ref: Ref[JournalProtocol]) -> None:
        self._ref = ref

    async def commit(self, submission: Submission) -> int:
        """Apply a submission durably; returns the version of what it wrote. Not cancellable.

        Raises:
            Superseded: a precondition did not hold; nothing of it was applied.
            StoreFull: nothing was applied.
        """
        with trio.CancelScope(shield=True) as scope:
            return await self._ref.ask(Commit(submission=submission), timeout_s=ANSWER_TIMEOUT_S)
        raise AssertionError(f"{scope} is never cancelled, so it swallows nothing")

    async def load(self, read: Callable[[Snapshot], ResultT]) -> ResultT:
        """Read behind every submission sent before."""
        result: ResultT = await self._ref.ask(Load(read=read), timeout_s=ANSWER_TIMEOUT_S)
        return result
