"""The writer of a simulated node, which makes batches durable or fails to."""

from collections.abc import Sequence
from typing import Final

import trio

from opscore.runtime.errors import CommitUncertain, NotReady, StoreError, StoreFull
from opscore.runtime.simulation.disk import SimulatedStore
from opscore.runtime.simulation.faults import Dice
from opscore.runtime.store import Outcomes, Submission

STALL_S_MAX: Final = 300.0
"""The longest stall, which is longer than callers that wait for the disk are left without an answer."""
FULL_S_MAX: Final = 120.0


class WriterFailed(Exception):
    """The writer itself failed, before or after the commit; this is no error of the store."""


class Room:
    """The free room of a disk, which outlives the process."""

    def __init__(self) -> None:
        self.full_until = 0.0
        self.nearly_full_until = 0.0

    def clear(self) -> None:
        """Make room."""
        self.full_until = self.nearly_full_until = 0.0

    def refused(self, submission: Submission) -> StoreFull | None:
        """Return the error for a submission that does not fit; None if it does."""
        now = trio.current_time()
        if now < self.full_until:
            return StoreFull("the simulated disk", "it is full")
        if now < self.nearly_full_until and submission.new_work:
            return StoreFull("the simulated disk", "only the reserve is left")
        return None


class SimulatedWriter:
    """A `Writer` that applies batches in the event loop, for as long as its process lives.

    Args:
        store: where batches are applied.
        dice: decides what goes wrong.
        room: the free room of the disk.
    """

    def __init__(self, store: SimulatedStore, dice: Dice, room: Room) -> None:
        self._store = store
        self._dice = dice
        self._room = room
        self._turn = trio.Lock()
        self._severed = False
        self._waits = trio.CancelScope(shield=True)
        self._unapplied: Sequence[Submission] = ()

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch, if nothing goes wrong.

        Raises:
            StoreError: nothing of it was applied.
            CommitUncertain: it may have been applied; the node has to stop.
            WriterFailed: it may have been applied; the node goes on.
        """
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            with trio.CancelScope(shield=True):
                await self._turn.acquire()
        try:
            self._check_alive()
            self._unapplied = batch
            outcomes = await self._applied_in_time(batch)
        finally:
            self._unapplied = ()
            self._turn.release()
        return outcomes

    async def _applied_in_time(self, batch: Sequence[Submission]) -> Outcomes:
        dice = self._dice
        if dice.happens("commit_stalled"):
            await self._wait(dice.rng("commit_stalled").uniform(1.0, STALL_S_MAX))
        self._check_alive()
        for name in ("disk_full", "disk_nearly_full"):
            if dice.happens(name):
                until = trio.current_time() + dice.rng(name).uniform(1.0, FULL_S_MAX)
                setattr(self._room, name.removeprefix("disk_") + "_until", until)
        if dice.happens("commit_refused"):
            raise StoreError("the simulated disk: input/output error")
        if dice.happens("commit_uncertain"):
            if dice.rng("commit_uncertain").random() < 0.5:  # noqa: PLR2004 (an even chance)
                self._store.apply(batch)
            self._unapplied = ()
            self._severed = True
            raise CommitUncertain("the simulated disk", "input/output error")
        if dice.happens("commit_unanswered"):
            if dice.rng("commit_unanswered").random() < 0.5:  # noqa: PLR2004 (an even chance)
                self._applied(batch)
            raise WriterFailed("the simulated writer")
        if len(batch) > 1 and dice.happens("commit_split"):
            place = dice.rng("commit_split").randrange(1, len(batch))
            outcomes = self._applied(batch[:place])
            self._unapplied = batch[place:]
            await self._wait(dice.rng("commit_split").uniform(0.0, 2.0))
            self._check_alive()
            outcomes += self._applied(batch[place:])
        else:
            outcomes = self._applied(batch)
        self._unapplied = ()
        # The process may die after the commit and before anybody learns of it.
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._check_alive()
        return outcomes

    def _applied(self, batch: Sequence[Submission]) -> Outcomes:
        refusals = [self._room.refused(each) for each in batch]
        fitting = [each for each, refusal in zip(batch, refusals, strict=True) if refusal is None]
        answers = iter(self._store.apply(fitting) if fitting else ())
        return [next(answers) if refusal is None else refusal for refusal in refusals]

    async def settled(self) -> None:
        """Wait until no batch is in progress."""
        async with self._turn:
            pass

    def sever(self, included: float) -> None:
        """Let the process die: apply nothing more, except for a part of the batch in progress.

        Args:
            included: the share of the batch in progress that is on the disk all the same, from 0 to 1.
        """
        if self._severed:
            return
        self._severed = True
        batch = self._unapplied
        if batch:
            self._applied(batch[: round(included * len(batch))])
        self._waits.cancel()

    def close(self) -> None:
        """Accept no more batches."""
        self._severed = True

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with self._waits:
                await trio.sleep(seconds)
            self._waits = trio.CancelScope(shield=True)

    def _check_alive(self) -> None:
        if self._severed:
            raise NotReady("the process has died")
