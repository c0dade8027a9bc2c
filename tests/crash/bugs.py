"""Bugs that are planted in a server's ports, to prove that the harness finds them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from opscore.runtime import codec
from opscore.runtime.delivery import Delivery, Fact
from opscore.runtime.journal.tables import IDEMPOTENCY, LEASES, OPEN_SESSIONS, TASKS
from opscore.runtime.journal.writer import Writer
from opscore.runtime.models import Agent, Assignment, Task, TaskStatus
from opscore.runtime.store import ABSENT, Delete, Expect, Outcomes, Put, Store, Submission

EVERY: Final = 40
"""Some bugs spoil only one batch in so many; they would be found at once otherwise."""


class SpoilingWriter:
    """A writer with a bug.

    Args:
        inner: applies what the bug lets through.
        spoil: applies a batch wrongly.
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
    """Applies one batch; subclasses do so wrongly."""

    inner: Writer
    batch: list[Submission]

    async def apply(self) -> Outcomes:
        """Apply the batch."""
        return await self.inner.apply(self.batch)


class AppliedTwice(Spoiling):
    """Applies the batch twice, like a writer that repeats a batch because it takes it for failed."""

    async def apply(self) -> Outcomes:
        """Apply it twice."""
        first = await self.inner.apply(self.batch)
        taken = [index for index, outcome in enumerate(first) if isinstance(outcome, int)]
        again = await self.inner.apply([attrs.evolve(self.batch[index], expects=()) for index in taken])
        second = dict(zip(taken, again, strict=True))
        return [second.get(index, outcome) for index, outcome in enumerate(first)]


class Torn(Spoiling):
    """Applies each submission in two transactions, the first without its last write."""

    async def apply(self) -> Outcomes:
        """Apply it in two parts."""
        parts = [(attrs.evolve(each, writes=each.writes[:-1], records=()), each) for each in self.batch]
        await self.inner.apply([first for first, _ in parts])
        await trio.sleep(0.002)
        # A submission refused in the first part would be refused again: only rows written in that part have changed.
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
    """Drop the writes to a table."""

    def spoil(inner: Writer, batch: list[Submission]) -> Spoiling:
        kept = [
            attrs.evolve(each, writes=tuple(write for write in each.writes if write.table != table)) for each in batch
        ]
        return Spoiling(inner, kept)

    return spoil


class Foretelling:
    """Answers batches before, or without, applying them, by predicting the store's answer.

    Args:
        inner: applies the other batches.
        store: the store, which is read for the prediction.
        lost: whether an answered batch is never applied, instead of later.
    """

    def __init__(self, inner: Writer, store: Store, *, lost: bool) -> None:
        self._inner = inner
        self._store = store
        self._lost = lost
        self._numbers = itertools.count(1)
        self._late: list[Submission] = []

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Answer a batch that would be accepted as a whole, before the previous such batch is applied."""
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
        """Return the versions that the batch would get; None unless every precondition holds."""
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
    """Store retry delays an hour too long, which only affects a server that reads them back."""
    return Spoiling(inner, [attrs.evolve(each, writes=tuple(map(_stretched, each.writes))) for each in batch])


def _stretched(write: Put | Delete) -> Put | Delete:
    if not isinstance(write, Put) or write.table != TASKS.name:
        return write
    task = codec.decode_row(write.body, Task)
    return write if task.due_at is None else TASKS.put(attrs.evolve(task, due_at=task.due_at + 3_600.0))


class BumpedDelivery:
    """Delivers attempts under a number that was not committed."""

    def __init__(self, inner: Delivery) -> None:
        self._inner = inner

    def reaches(self, agent: Agent) -> bool:
        """Whether this agent can be reached."""
        return self._inner.reaches(agent)

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Deliver the attempt under the next number."""
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
    """Return the writer with a bug."""
    if bug in _SPOILS:
        return SpoilingWriter(writer, _SPOILS[bug])
    if bug in {"answers-before-it-applies", "drops-batches"}:
        return Foretelling(writer, store, lost=bug == "drops-batches")
    return writer


def planted_way(bug: str | None, way: Delivery) -> Delivery:
    """Return the delivery with a bug."""
    return BumpedDelivery(way) if bug == "bumps-attempts" else way


def spoil_opened(bug: str | None, store: Store) -> None:
    """Apply a bug to a store that is being opened."""
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
