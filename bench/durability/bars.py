"""What opscore has to reach; computed on the medians of one run."""

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from bench.page import Verdict

Medians = Mapping[str, Mapping[str, float]]
"""The medians by store and figure."""


@attrs.frozen(kw_only=True)
class RateBar:
    """The minimum ratio to the commits of another store, with a given number of waiters."""

    waiters: int
    times: float
    peer: str = "sqlite"


RATE_BARS: Final = (
    RateBar(waiters=1, times=0.6),
    RateBar(waiters=10, times=0.6),
    RateBar(waiters=100, times=0.5),
    RateBar(waiters=1_000, times=0.5),
)
P99_WAITERS: Final = 100
P99_COMMITS_MAX: Final = 5.0
"""How many times as long as a lone commit the slowest hundredth may take beside 99 others."""

OPENING_UNFINISHED: Final = 100_000
OPENING_UNFINISHED_S_MAX: Final = 10.0
OPENING_FINISHED: Final = 1_000_000
OPENING_FINISHED_S_MAX: Final = 1.0
ANONYMOUS_GROWTH_BYTES_MAX: Final = 8 * 1024**2
"""From no finished session to a million."""


def p99_in_commits(figures: Mapping[str, float]) -> float | None:
    """The slowest hundredth among many waiters, as a multiple of a commit that waits for no other."""
    p99, alone = figures.get(f"p99@{P99_WAITERS}"), figures.get("p50@1")
    return None if p99 is None or alone is None else p99 / alone


def commit_verdicts(medians: Medians) -> Iterator[Verdict]:
    ours = medians.get("opscore", {})
    for bar in RATE_BARS:
        mine, theirs = ours.get(f"rate@{bar.waiters}"), medians.get(bar.peer, {}).get(f"rate@{bar.waiters}")
        ratio = None if mine is None or theirs is None else mine / theirs
        yield Verdict(
            bar=f"commits with {bar.waiters:,} waiting ≥ {bar.times:g} × {bar.peer}",
            measured="not measured" if ratio is None else f"{ratio:.2f} ×",
            passed=None if ratio is None else ratio >= bar.times,
        )
    commits = p99_in_commits(ours)
    yield Verdict(
        bar=f"p99 with {P99_WAITERS} waiting ≤ {P99_COMMITS_MAX:g} times of a lone commit",
        measured="not measured" if commits is None else f"{commits:.1f} ×",
        passed=None if commits is None else commits <= P99_COMMITS_MAX,
    )


def opening_verdicts(medians: Medians) -> Iterator[Verdict]:
    """Compare the cold openings, which are the slower ones, with their bars."""
    for finished, unfinished, most_s in (
        (0, OPENING_UNFINISHED, OPENING_UNFINISHED_S_MAX),
        (OPENING_FINISHED, 0, OPENING_FINISHED_S_MAX),
    ):
        seconds = medians.get(f"{finished}+{unfinished}", {}).get("cold")
        what = f"{unfinished:,} unfinished" if unfinished else f"{finished:,} finished"
        yield Verdict(
            bar=f"opening with {what} sessions ≤ {most_s:g} s",
            measured="not measured" if seconds is None else f"{seconds:.2f} s",
            passed=None if seconds is None else seconds <= most_s,
        )
    none = medians.get("0+0", {}).get("anonymous")
    many = medians.get(f"{OPENING_FINISHED}+0", {}).get("anonymous")
    growth = None if none is None or many is None else many - none
    yield Verdict(
        bar=f"anonymous memory, {OPENING_FINISHED:,} finished sessions − none ≤ "
        f"{ANONYMOUS_GROWTH_BYTES_MAX / 1024**2:g} MiB",
        measured="not measured" if growth is None else f"{growth / 1024**2:+.2f} MiB",
        passed=None if growth is None else growth <= ANONYMOUS_GROWTH_BYTES_MAX,
    )
