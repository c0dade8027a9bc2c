"""The journal: the one actor through which all state changes, in group commits.

What waits in line while the writer applies a batch becomes the next batch. A submission is answered only when its batch
is synced. Loads wait in the same line, so a restarted actor never misses a submission that its former incarnation sent.
"""

import collections
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import attrs
import trio

from opscore.actors.actor import Actor
from opscore.runtime.errors import CommitUnanswered, CommitUncertain, OpscoreError, StoreFull, StoreReadOnly
from opscore.runtime.journal.commit_line import CommitLine, Place
from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.writer import Writer
from opscore.runtime.store import Outcomes, Store, Submission

BATCH_MAX: Final = 4_096
"""Commits and loads that are taken from the line at a time."""
ANSWER_TIMEOUT_S: Final = 120.0
"""How long the disk may take for a batch before everyone who waits gets `CommitUnanswered`."""
TOLD_EVERY_S: Final = 60.0
"""How often the log says, at most, that the store takes no new work."""
LATENCIES_MAX: Final = 1_024
"""Commits whose durations are kept."""


@attrs.frozen(kw_only=True)
class JournalStatistics:
    """What the journal has done since the node was opened; durations are those of the newest commits, in seconds."""

    batches: int
    """Transactions, each with one sync."""
    submissions: int
    """What was committed in them: mostly several in one batch under load."""
    refused: int
    """Submissions that were decided on rows which had changed by then, and were decided again."""
    in_line: int
    """Commits and loads that wait at the moment."""
    commit_s_median: float | None
    """The duration that half of the commits did not exceed; None before the first."""
    commit_s_p99: float | None
    """The duration that 99 % of them did not exceed."""
    commit_s_max: float | None
    """The longest."""


class JournalMeter:
    """Counts what the journal does; it outlives the journal's actor.

    Args:
        line: the line whose length it reports.
    """

    def __init__(self, line: CommitLine) -> None:
        self._line = line
        self._latencies_s: collections.deque[float] = collections.deque(maxlen=LATENCIES_MAX)
        self._batches = self._submissions = self._refused = 0

    def count(self, *, submissions: int, refused: int, seconds: float) -> None:
        """Count a batch that was committed."""
        self._batches += 1
        self._submissions += submissions
        self._refused += refused
        self._latencies_s.append(seconds)

    def statistics(self) -> JournalStatistics:
        """Return what has been done so far."""
        seconds = sorted(self._latencies_s)
        return JournalStatistics(
            batches=self._batches,
            submissions=self._submissions,
            refused=self._refused,
            in_line=len(self._line),
            commit_s_median=statistics.median(seconds) if seconds else None,
            commit_s_p99=seconds[math.ceil(0.99 * len(seconds)) - 1] if seconds else None,
            commit_s_max=seconds[-1] if seconds else None,
        )


class JournalProtocol:
    """The journal's messages: none, because commits and loads wait in a line of their own."""


class JournalActor(Actor[JournalProtocol]):
    """The single writer's actor.

    Args:
        store: is read for loads.
        writer: applies the batches.
        line: the line in which commits and loads wait.
        meter: counts what is done.
        feed: is told of each submission after its commit.
        on_fatal: is called if a sync failed, and stops the node.
    """

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        line: CommitLine,
        meter: JournalMeter,
        feed: Feed,
        on_fatal: Callable[[CommitUncertain], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._line = line
        self._feed = feed
        self._on_fatal = on_fatal
        self._taken: Sequence[Place] = ()
        self._under_way = False
        self._patience = trio.CancelScope()
        self._meter = meter
        self._refusal: StoreFull | StoreReadOnly | None = None
        """Why the store refuses new work, as the log said; None once it takes new work again."""
        self._told_again_from = -math.inf

    async def on_start(self) -> None:
        """Wait for a batch that a former incarnation left with the writer, then begin."""
        await self._writer.settled()
        self.context.start_soon(self._watch)
        self.context.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            self._taken = await self._line.take(BATCH_MAX)
            try:
                await self._serve(self._taken)
            except CommitUncertain:
                raise
            except Exception as error:
                # A crash would not help: the actors that depend on the journal are restarted with it, and can't stop
                # while they wait for a commit that no one serves.
                self.context.log.exception("a batch failed")
                self._answer_unknown(f"its batch failed: {error!r}")
            except BaseException as error:
                # They have to be answered here, because the next incarnation does not know of this batch.
                self._answer_unknown(f"the journal stopped: {error!r}")
                raise
            self._taken = ()

    async def _serve(self, line: Sequence[Place]) -> None:
        commits = [place for place in line if isinstance(place.work, Submission)]
        if commits:
            await self._apply(commits)
        if len(commits) < len(line):
            for place in line:
                if not isinstance(place.work, Submission):
                    self._read(place, place.work)

    async def _apply(self, line: Sequence[Place]) -> None:
        submissions = [cast("Submission", place.work) for place in line]
        started = trio.current_time()
        self._under_way, self._patience.deadline = True, started + ANSWER_TIMEOUT_S
        try:
            outcomes = await self._writer.apply(submissions)
        except OpscoreError as error:
            for place in line:
                place.fail(error)
            self._note_refusal(error)
            if isinstance(error, CommitUncertain):
                # Those who wait in line could otherwise not end with the node, because nothing is applied any more.
                self._line.close(str(error))
                self._on_fatal(error)
                raise
            # Nothing was applied, and the journal goes on.
            return
        finally:
            self._under_way, self._patience.deadline = False, math.inf
        seconds, refused = trio.current_time() - started, 0
        self._feed.committed()
        for place, submission, outcome in zip(line, submissions, outcomes, strict=True):
            if isinstance(outcome, int):
                self._feed.publish(submission)
                place.answer(outcome)
            else:
                refused += 1
                place.fail(outcome)
                self._note_refusal(outcome)
        if self._refusal is not None:
            self._note_whether_it_is_over(submissions, outcomes)
        self._meter.count(submissions=len(line), refused=refused, seconds=seconds)

    def _note_refusal(self, error: BaseException) -> None:
        """Log, at most once a minute, that the store takes no new work; otherwise only refused callers would know."""
        if isinstance(error, StoreFull | StoreReadOnly) and trio.current_time() >= self._told_again_from:
            self._refusal, self._told_again_from = error, trio.current_time() + TOLD_EVERY_S
            self.context.log.warning("%s", error)

    def _note_whether_it_is_over(self, submissions: Sequence[Submission], outcomes: Outcomes) -> None:
        """Log that the store takes new work again; that a full store finishes accepted work does not prove it."""
        is_new = [each.new_work for each in submissions]
        taken = [each for each, outcome in zip(is_new, outcomes, strict=True) if isinstance(outcome, int)]
        if any(taken) or (taken and isinstance(self._refusal, StoreReadOnly)):
            self._refusal = None
            self.context.log.info("the store takes new work again")

    def _read(self, place: Place, read: Callable[[Any], Any]) -> None:
        try:
            with self._store.snapshot() as view:
                found = read(view)
        except Exception as error:  # noqa: BLE001 (the read is the asker's, and so are its errors)
            place.fail(error)
        else:
            place.answer(found)

    async def _watch(self) -> None:
        """Answer those who wait if the disk does not answer; the batch itself can't be withdrawn."""
        while True:
            with self._patience:
                await trio.sleep_forever()
            if not self._under_way:
                self._patience = trio.CancelScope()
                continue
            # Those who join from now on are answered after the same time.
            self._patience = trio.CancelScope(deadline=trio.current_time() + ANSWER_TIMEOUT_S)
            reason, told = f"the disk has not answered for {ANSWER_TIMEOUT_S:.0f} s", len(self._taken) + len(self._line)
            if told:
                self.context.log.error("%s; %d commits and loads are answered with an error", reason, told)
            self._answer_unknown(reason)
            self._taken = ()
            self._line.refuse(CommitUnanswered(reason))

    def _answer_unknown(self, reason: str) -> None:
        for place in self._taken:
            place.fail(CommitUnanswered(reason))
