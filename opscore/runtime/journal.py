"""The journal: the one place through which state changes, shared by group commit.

What stands in line while the writer is at the batch before becomes the next batch; a submission is answered only when
its batch is synced. Loads stand in the same line, so a restarted actor never reads past a submission of its former
incarnation that was sent before.
"""

import collections
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import attrs
import trio

from opscore.actors.actor import Actor
from opscore.runtime.commit_line import CommitLine, Place
from opscore.runtime.errors import CommitUnanswered, CommitUncertain, OpscoreError, StoreFull, StoreReadOnly
from opscore.runtime.feed import Feed
from opscore.runtime.protocols import JournalProtocol
from opscore.runtime.store import Outcomes, Store, Submission
from opscore.runtime.writer import Writer

BATCH_MAX: Final = 4_096
"""Submissions in one transaction."""
ANSWER_TIMEOUT_S: Final = 120.0
"""How long the disk may take for a batch before everyone who waits is told that it does not answer."""
TOLD_EVERY_S: Final = 60.0
"""How soon the log says again that the store takes nothing."""
LATENCIES_MAX: Final = 1_024
"""Commits whose duration is remembered."""


@attrs.frozen(kw_only=True)
class JournalStatistics:
    """What the journal has done since it started; durations are of the newest commits, in seconds."""

    batches: int
    submissions: int
    refused: int
    in_line: int
    """Commits and loads that wait at the moment."""
    commit_s_median: float | None
    commit_s_p99: float | None
    commit_s_max: float | None


class JournalMeter:
    """Counts what the journal does; it outlives the journal's actor.

    Args:
        line: whose length it tells.
    """

    def __init__(self, line: CommitLine) -> None:
        self._line = line
        self._latencies_s: collections.deque[float] = collections.deque(maxlen=LATENCIES_MAX)
        self._batches = self._submissions = self._refused = 0

    def count(self, *, submissions: int, refused: int, seconds: float) -> None:
        """A batch was committed."""
        self._batches += 1
        self._submissions += submissions
        self._refused += refused
        self._latencies_s.append(seconds)

    def statistics(self) -> JournalStatistics:
        """What has been done so far."""
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


class JournalActor(Actor[JournalProtocol]):
    """The single writer's actor.

    Args:
        store: read for loads.
        writer: applies the batches.
        line: where commits and loads wait.
        meter: counts what is done.
        feed: told what was committed, after the commit.
        on_fatal: told of a commit whose outcome is unknown; the node stops.
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
        """Why the store refused new work, as the log says, until it takes some again."""
        self._told_again_from = -math.inf

    async def on_start(self) -> None:
        """Wait for what a former incarnation left with the writer, then begin."""
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
                # To crash would be no help: who depends on the journal is restarted with it, and can't end as long as
                # it waits for a commit that nobody serves.
                self.context.log.exception("a batch failed")
                self._answer_unknown(f"its batch failed: {error!r}")
            except BaseException as error:
                # Nobody else would answer them: the next incarnation knows nothing of this batch.
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
                # Whoever stands in line could not end with the node: nothing of theirs will be applied any more.
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
        """Have the log say, once a minute at most, that the store takes nothing: those who ask are all that know it."""
        if isinstance(error, StoreFull | StoreReadOnly) and trio.current_time() >= self._told_again_from:
            self._refusal, self._told_again_from = error, trio.current_time() + TOLD_EVERY_S
            self.context.log.warning("%s", error)

    def _note_whether_it_is_over(self, submissions: Sequence[Submission], outcomes: Outcomes) -> None:
        """A store that is full finishes what it had accepted; not before new work is taken again does it take all."""
        is_new = [each.new_work for each in submissions]
        taken = [each for each, outcome in zip(is_new, outcomes, strict=True) if isinstance(outcome, int)]
        if any(taken) or (taken and isinstance(self._refusal, StoreReadOnly)):
            self._refusal = None
            self.context.log.info("the store takes new work again")

    def _read(self, place: Place, read: Callable[[Any], Any]) -> None:
        try:
            with self._store.snapshot() as view:
                found = read(view)
        except Exception as error:  # noqa: BLE001 (the read is the asker's own, and so is what goes wrong in it)
            place.fail(error)
        else:
            place.answer(found)

    async def _watch(self) -> None:
        """Tell who waits that the disk does not answer; the batch itself can't be called back."""
        while True:
            with self._patience:
                await trio.sleep_forever()
            if not self._under_way:
                self._patience = trio.CancelScope()
                continue
            # Whoever comes from now on waits as long as these did, and is told then.
            self._patience = trio.CancelScope(deadline=trio.current_time() + ANSWER_TIMEOUT_S)
            reason, told = f"the disk has not answered for {ANSWER_TIMEOUT_S:.0f} s", len(self._taken) + len(self._line)
            if told:
                self.context.log.error("%s; %d commits and loads are told so", reason, told)
            self._answer_unknown(reason)
            self._taken = ()
            self._line.refuse(CommitUnanswered(reason))

    def _answer_unknown(self, reason: str) -> None:
        for place in self._taken:
            place.fail(CommitUnanswered(reason))
