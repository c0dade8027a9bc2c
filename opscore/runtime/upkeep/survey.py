"""Statistics of a store, read from outside: sizes, counts, rates, and the durations of commits."""

import itertools
from collections.abc import Iterator
from typing import Final

import attrs

from opscore.runtime.journal.tables import OPEN_SESSIONS, RECORDS, SESSIONS_ENDED, VITALS
from opscore.runtime.journal.typed_tables import time_at
from opscore.runtime.storage.lmdb_reader import LmdbReader
from opscore.runtime.storage.measures import StoreMeasure
from opscore.runtime.store import JOURNAL_TABLE, Snapshot
from opscore.runtime.vitals import Vitals

SPANS_S: Final = (60.0, 600.0, 3_600.0)
LOOKED_AT_MAX: Final = 100_000
"""Records and index entries from which rates are computed."""


@attrs.frozen(kw_only=True)
class Survey:
    """A store at one commit. Times are Unix seconds; rates are per second, by the length of their span in seconds."""

    format: int
    sequence: int
    measure: StoreMeasure
    only_reserve_left: bool
    """Whether new work is refused."""
    sessions_unfinished: int
    sessions_ended: int
    oldest_ended_at: float | None
    oldest_record_at: float | None
    record_rates: dict[int, float]
    ended_rates: dict[int, float]
    vitals: Vitals | None
    """The measurements that the newest node on this store wrote, once a minute."""


def surveyed(reader: LmdbReader, now: float) -> Survey:
    """Return the statistics of a store; this reads a bounded number of rows."""
    measure = reader.measure()
    with reader.snapshot() as view:
        oldest = next(SESSIONS_ENDED.lines(view), None)
        first = next(view.scan(JOURNAL_TABLE), None)
        return Survey(
            format=reader.format,
            sequence=view.last_sequence(),
            measure=measure,
            only_reserve_left=reader.only_reserve_left(),
            sessions_unfinished=view.count(OPEN_SESSIONS.name),
            sessions_ended=view.count(SESSIONS_ENDED.name),
            oldest_ended_at=None if oldest is None else time_at(oldest[0]),
            oldest_record_at=None if first is None else RECORDS.decode(*first).at,
            record_rates=_rates(_record_times(view), now),
            ended_rates=_rates((time_at(line) for line, _ in SESSIONS_ENDED.lines(view, reverse=True)), now),
            vitals=VITALS.read(view, "node").row,
        )


def _record_times(view: Snapshot) -> Iterator[float]:
    return (RECORDS.decode(key, stored).at for key, stored in view.scan(JOURNAL_TABLE, reverse=True))


def _rates(times: Iterator[float], now: float) -> dict[int, float]:
    """Return the rate of these times, newest first, in each span; if there are too many, in a shorter span."""
    recent = list(itertools.takewhile(lambda time: time > now - SPANS_S[-1], itertools.islice(times, LOOKED_AT_MAX)))
    covered_s = now - recent[-1] if len(recent) == LOOKED_AT_MAX else SPANS_S[-1]
    rates = {}
    for span_s in SPANS_S:
        taken_s = max(min(span_s, covered_s), 1.0)
        rates[round(span_s)] = sum(1 for time in recent if time > now - taken_s) / taken_s
    return rates
