"""Housekeeping in the background: removing what retention allows, and storing measurements of the node."""

import functools
import logging
import math
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from opscore.actors.clock import Clock
from opscore.actors.errors import ActorError
from opscore.runtime.errors import OpscoreError, Superseded
from opscore.runtime.journal.commit_line import Journal
from opscore.runtime.journal.journal import JournalMeter
from opscore.runtime.journal.tables import VITALS
from opscore.runtime.limits import Limits
from opscore.runtime.store import Snapshot, Store, Submission
from opscore.runtime.upkeep import retention
from opscore.runtime.vitals import Vitals

FoundT = TypeVar("FoundT")

EVERY_S: Final = 60.0
LOOKS_FOR_NOTHING_MAX: Final = 10
REST_S: Final = 600.0
"""How long to wait before looking at finished sessions again after so many looks that removed none."""

_log = logging.getLogger("opscore.housekeeping")


class Housekeeper:
    """Does its chores once a minute, in bounded commits that share the journal with all others.

    Args:
        store: the store that it reads.
        journal: the journal through which it commits.
        meter: the source of the journal's measurements.
        limits: for how long, and how many, rows are kept.
        clock: wall time.
    """

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        meter: JournalMeter,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._meter = meter
        self._limits = limits
        self._clock = clock
        self._started_at = clock.now()
        self._noted = 0
        self._revisions_swept = False
        self._sessions_rest_until = -math.inf

    async def run(self) -> None:
        """Do the chores for ever; one that the store can't take is tried again a minute later."""
        while True:
            await trio.sleep(EVERY_S)
            for chore in (
                self._sweep_sessions,
                self._sweep_revisions,
                self._sweep_records,
                self._sweep_signatures,
                self._note_vitals,
                self._free_pages,
            ):
                try:
                    await chore()
                except (OpscoreError, ActorError) as error:
                    _log.warning("housekeeping is put off: %s", error)

    async def _sweep_sessions(self) -> None:
        if trio.current_time() < self._sessions_rest_until:
            return
        after: bytes | None = None
        kept, removed, looks, more = 0, 0, 0, True
        while more:
            look = functools.partial(
                retention.sessions, now=self._clock.now(), limits=self._limits, after=after, kept=kept
            )
            sweep = await self._look(look)
            kept = sweep.kept
            if await self._commit(sweep.submission):
                removed += sweep.sessions
                for definition_key in sweep.definition_keys:
                    await self._sweep_revision(definition_key)
            else:
                kept += sweep.sessions
            after, more, looks = sweep.after, sweep.after is not None, looks + 1
        if removed:
            _log.info("removed %d finished sessions", removed)
        elif looks > LOOKS_FOR_NOTHING_MAX:
            # All surplus sessions have to stay for days, most of them because of their idempotency keys.
            self._sessions_rest_until = trio.current_time() + REST_S

    async def _sweep_revisions(self) -> None:
        """Check every revision, once: a node that ended during a sweep may have left unused ones."""
        after: bytes | None = None
        while not self._revisions_swept:
            page = await self._look(functools.partial(retention.revision_keys, after=after))
            for definition_key in page:
                await self._sweep_revision(definition_key)
            self._revisions_swept, after = not page, page[-1].encode() if page else None

    async def _sweep_revision(self, definition_key: str) -> None:
        await self._commit(await self._look(functools.partial(retention.revision, definition_key=definition_key)))

    async def _sweep_records(self) -> None:
        await self._sweep(retention.records)

    async def _sweep_signatures(self) -> None:
        await self._sweep(retention.signatures)

    async def _sweep(self, chore: Callable[..., Submission | None]) -> None:
        """Remove page after page, until nothing more may be removed."""
        look = functools.partial(chore, now=self._clock.now(), limits=self._limits)
        while await self._commit(await self._look(look)):
            pass

    async def _look(self, look: Callable[[Snapshot], FoundT]) -> FoundT:
        """Read the store, then sleep for as long as that took, so that other tasks get as much time."""
        started = trio.current_time()
        with self._store.snapshot() as view:
            found = look(view)
        await trio.sleep(trio.current_time() - started)
        return found

    async def _commit(self, submission: Submission | None) -> bool:
        """Commit a removal; return `False` if there is none, or if the rows that it was decided on have changed."""
        if submission is None:
            return False
        try:
            await self._journal.commit(submission)
        except Superseded:
            return False
        return True

    async def _free_pages(self) -> None:
        self._store.upkeep()

    async def _note_vitals(self) -> None:
        """Store measurements of the commits, for readers of the store from outside; an idle node writes nothing."""
        found = self._meter.statistics()
        if found.submissions == self._noted:
            return
        vitals = Vitals(
            at=self._clock.now(),
            started_at=self._started_at,
            batches=found.batches,
            submissions=found.submissions,
            refused=found.refused,
            in_line=found.in_line,
            commit_s_median=found.commit_s_median,
            commit_s_p99=found.commit_s_p99,
            commit_s_max=found.commit_s_max,
        )
        await self._journal.commit(Submission(writes=(VITALS.put(vitals),)))
        self._noted = self._meter.statistics().submissions
