"""Bugs that are planted in a server's ports, to show that the harness finds such."""

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from opscore.runtime import codec
from opscore.runtime.delivery import Delivery, Fact
from opscore.runtime.models import Agent, Assignment, Task, TaskStatus
from opscore.runtime.store import ABSENT, Delete, Expect, Outcomes, Put, Store, Submission
from opscore.runtime.tables import IDEMPOTENCY, LEASES, OPEN_SESSIONS, TASKS
from opscore.runtime.writer import Writer

EVERY: Final = 40
"""Which batches the bugs spoil that would be found at once otherwise."""


class SpoilingWriter:
    """A writer that does as a bug says.

    Args:
        inner: applies what the bug lets through.
        spoil: what is done with a batch.
    """

    def __init__(self, inner: Writer, spoil: Callable[[Writer, list[Submission]], "Spoiling"]) -> None:
        self._inner = inner
        self._spoil = spoil

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch, wrongly."""
        return await self._spoil(self._inner, list(batch)).apply()

    async def settled(self) -> None:
        """Wait until no batch is under way."""
        await self._inner.settled()

    def close(self) -> None:
        """Take no more batches."""
        self._inner.close()


@attrs.define
class Spoiling:
    """One batch under a bug; this one is applied as it should be."""

    inner: Writer
    batch: list[Submission]

    async def apply(self) -> Outcomes:
        """Apply the batch."""
        return await self.inner.apply(self.batch)


class AppliedTwice(Spoiling):
    """The batch is applied again, as by a writer that repeats what it took for failed."""

    async def apply(self) -> Outcomes:
        """Apply it twice."""
        first = await self.inner.apply(self.batch)
        taken = [index for index, outcome in enumerate(first) if isinstance(outcome, int)]
        again = await self.inner.apply([attrs.evolve(self.batch[index], expects=()) for index in taken])
        second = dict(zip(taken, again, strict=True))
        return [second.get(index, outcome) for index, outcome in enumerate(first)]


class Torn(Spoiling):
    """Each submission takes two transactions, the first without its last write."""

    async def apply(self) -> Outcomes:
        """Apply it in two parts."""
        parts = [(attrs.evolve(each, writes=each.writes[:-1], records=()), each) for each in self.batch]
        await self.inner.apply([first for first, _ in parts])
        await trio.sleep(0.002)
        # What was refused at first would be refused again: only the rows written in the first part have moved on.
        return await self.inner.apply([_without_expects_on(whole, first) for first, whole in parts])


def _without_expects_on(whole: Submission, first: Submission) -> Submission:
    written = {(write.table, write.key) for write in first.writes}
    return attrs.evolve(
        whole, expects=tuple(each for each in _versions(whole) if (each.table, each.key) not in written)
    )


def _versions(submission: Submission) -> list[Expect]:
    """The preconditions on versions; these servers run for too short a time for retention to have others."""
    return [each for each in submission.expects if isinstance(each, Expect)]


def without_writes_to(table: str) -> Callable[[Writer, list[Submission]], Spoiling]:
    """Forget what is written to a table."""

    def spoil(inner: Writer, batch: list[Submission]) -> Spoiling:
        kept = [
            attrs.evolve(each, writes=tuple(write for write in each.writes if write.table != table)) for each in batch
        ]
        return Spoiling(inner, kept)

    return spoil


class Foretelling:
    """Answers batches before, or without, applying them: what the store would say is foretold.

    Args:
        inner: applies the other batches.
        store: read to foretell.
        lost: whether a batch that was answered is never applied, instead of later.
    """

    def __init__(self, inner: Writer, store: Store, *, lost: bool) -> None:
        self._inner = inner
        self._store = store
        self._lost = lost
        self._numbers = itertools.count(1)
        self._late: list[Submission] = []

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Answer a batch that would be taken whole, before what was answered so last time is applied."""
        late, self._late = self._late, []
        if late:
            await self._inner.apply(late)
        number = next(self._numbers)
        foretold = self._foretold(batch) if not self._lost or number % EVERY == 0 else None
        if foretold is None:
            return await self._inner.apply(batch)
        if not self._lost:
            self._late = list(batch)
        await trio.lowlevel.checkpoint()
        return foretold

    def _foretold(self, batch: Sequence[Submission]) -> Outcomes | None:
        """The versions that the batch would get; nothing unless every precondition holds."""
        outcomes: Outcomes = []
        with self._store.snapshot() as view:
            version = view.last_sequence()
            for submission in batch:
                for expect in _versions(submission):
                    stored = view.get(expect.table, expect.key)
                    if (ABSENT if stored is None else stored.version) != expect.version:
                        return None
                version += max(1, len(submission.records))
                outcomes.append(version)
        return outcomes

    async def settled(self) -> None:
        """Wait until no batch is under way."""
        await self._inner.settled()

    def close(self) -> None:
        """Take no more batches."""
        self._inner.close()


def stretched(inner: Writer, batch: list[Submission]) -> Spoiling:
    """Store retry delays an hour longer than they are: only a server that reads them back ever waits that long."""
    return Spoiling(inner, [attrs.evolve(each, writes=tuple(map(_stretched, each.writes))) for each in batch])


def _stretched(write: Put | Delete) -> Put | Delete:
    if not isinstance(write, Put) or write.table != TASKS.name:
        return write
    task = codec.decode_row(write.body, Task)
    return write if task.due_at is None else TASKS.put(attrs.evolve(task, due_at=task.due_at + 3_600.0))


class BumpedDelivery:
    """Hands attempts over under a number that nothing committed."""

    def __init__(self, inner: Delivery) -> None:
        self._inner = inner

    def reaches(self, agent: Agent) -> bool:
        """Whether there is a way to this agent."""
        return self._inner.reaches(agent)

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Hand the attempt over as the next one."""
        return await self._inner.deliver(attrs.evolve(assignment, attempt=assignment.attempt + 1), agent)


_SPOILS: Final[dict[str, Callable[[Writer, list[Submission]], Spoiling]]] = {
    "applies-twice": AppliedTwice,
    "tears-submissions": Torn,
    "forgets-idempotency": without_writes_to(IDEMPOTENCY.name),
    "forgets-open-sessions": without_writes_to(OPEN_SESSIONS.name),
    "stretches-retry-delays": stretched,
}
BUGS: Final = (
    *_SPOILS,
    "answers-before-it-applies",
    "drops-batches",
    "bumps-attempts",
    "drops-leases-at-opening",
    "reruns-finished-tasks-at-opening",
)


def planted_writer(bug: str | None, writer: Writer, store: Store) -> Writer:
    """The writer under a bug."""
    if bug in _SPOILS:
        return SpoilingWriter(writer, _SPOILS[bug])
    if bug in {"answers-before-it-applies", "drops-batches"}:
        return Foretelling(writer, store, lost=bug == "drops-batches")
    return writer


def planted_way(bug: str | None, way: Delivery) -> Delivery:
    """The way to agents under a bug."""
    return BumpedDelivery(way) if bug == "bumps-attempts" else way


def spoil_opened(bug: str | None, store: Store) -> None:
    """Do what a bug does to a store that is opened."""
    with store.snapshot() as view:
        if bug == "drops-leases-at-opening":
            writes: list[Put | Delete] = [LEASES.delete(lease.agent_id) for lease, _ in LEASES.scan(view)]
        elif bug == "reruns-finished-tasks-at-opening":
            unfinished = {row.session_id for row, _ in OPEN_SESSIONS.scan(view)}
            writes = [
                TASKS.put(attrs.evolve(task, status=TaskStatus.READY))
                for task, _ in TASKS.scan(view)
                if task.status is TaskStatus.COMPLETED and task.session_id in unfinished
            ]
        else:
            return
    if writes:
        store.apply([Submission(writes=tuple(writes))])
