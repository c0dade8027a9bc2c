"""The report of a run of commits: a table, the bars, the environment, and the raw figures as JSON."""

import importlib.metadata
import os
import platform
import sqlite3
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import lmdb

from bench.durability.bars import commit_verdicts, p99_in_commits
from bench.durability.contenders import CONTENDERS
from bench.page import Figure, Page, Verdict, bar_rows, commit, loads, machine

Raw = dict[str, dict[str, list[float]]]
"""The figures by store and name, one number per round."""
FIGURES: Final[Mapping[str, Figure]] = {
    "rate": Figure(title="durable operations", unit="1/s"),
    "p50": Figure(title="latency, median", unit="ms", scale=1_000, form="{:,.2f}"),
    "p99": Figure(title="latency, p99", unit="ms", scale=1_000, form="{:,.2f}"),
    "cpu": Figure(title="CPU an operation, all threads", unit="µs", scale=1_000_000, form="{:,.1f}"),
    "batch": Figure(title="a batch, from the hand-over to the thread and back", unit="ms", scale=1_000, form="{:,.2f}"),
    "batch_size": Figure(title="operations in a batch, mean", unit="", form="{:,.1f}"),
}
RATIO: Final = Figure(title="", unit="×", form="{:,.2f}")
COMPARED: Final = ("sqlite", "floor", "fdatasync")


@attrs.frozen(kw_only=True)
class Report(Page):
    HEADER = """# Commits beside other stores

What an operation is stands at the top of [contenders.py](contenders.py), who submits and how it reaches the thread at
the top of [waiters.py](waiters.py), how turns are taken at the top of [__main__.py](__main__.py). Run it again with
`just bench-durability`; how fast a store opens stands in [results-opening.md](results-opening.md).
"""

    waiters: list[int]
    seconds: float
    operation: str
    """Size of opscore's operation."""

    def verdicts(self) -> Iterator[Verdict]:
        return commit_verdicts(self.medians())

    def document(self) -> dict[str, Any]:
        return {**super().document(), "seconds": self.seconds}

    def conditions(self) -> Iterator[str]:
        yield (
            f"{self.rounds} rounds of {self.seconds:g} s, interleaved over the stores, every measurement in a fresh "
            "process and a fresh directory. Each cell: median (min–max)."
        )
        yield "Every store was opened again afterwards, and held every operation that it had acknowledged."
        yield f"Used: {'; '.join(f'{store}: {CONTENDERS[store].used}' for store in self.raw)}."
        yield f"opscore writes {self.operation} for an operation, and so does the floor; the others write 200 bytes."
        yield "A ratio is one of medians; behind it the lowest and highest ratio within a round."

    def table(self) -> Iterator[str]:
        yield f"| waiting | figure | unit | {' | '.join(self.raw)} |"
        yield f"|---:|---|---|{'---:|' * len(self.raw)}"
        for waiters in self.waiters:
            for name, figure in FIGURES.items():
                cells = [figure.cell(figures.get(f"{name}@{waiters}")) for figures in self.raw.values()]
                yield f"| {waiters:,} | {figure.title} | {figure.unit} | {' | '.join(cells)} |"
            for peer in COMPARED:
                if peer in self.raw:
                    cells = [self._ratio(store, peer, f"rate@{waiters}") for store in self.raw]
                    yield f"| {waiters:,} | operations beside {peer}'s | × | {' | '.join(cells)} |"
        commits = [p99_in_commits(figures) for figures in self.medians().values()]
        if any(commits):
            cells = ["–" if count is None else f"{count:.1f}" for count in commits]
            yield f"| 100 | p99 in times of a lone commit | × | {' | '.join(cells)} |"

    def bars(self) -> Iterator[str]:
        yield "| bar, on the medians | measured | |"
        yield "|---|---:|---|"
        yield from bar_rows(self.verdicts())

    def surroundings(self) -> Iterator[str]:
        yield (
            f"{versions()}, lmdb {importlib.metadata.version('lmdb')} "
            f"(LMDB {'.'.join(map(str, lmdb.version()))}), SQLite {sqlite3.sqlite_version}."
        )
        yield f"Commit {commit()}. {machine()}, {len(os.sched_getaffinity(0))} cores. {loads(self.load_at_start)}."

    def _ratio(self, store: str, peer: str, figure: str) -> str:
        ours, theirs = self.raw[store].get(figure), self.raw[peer].get(figure)
        if not ours or not theirs:
            return "–"
        median = RATIO.shown(statistics.median(ours) / statistics.median(theirs))
        each = [mine / other for mine, other in zip(ours, theirs, strict=False)]
        return median if len(each) == 1 else f"{median} ({RATIO.shown(min(each))}–{RATIO.shown(max(each))})"


def versions() -> str:
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("opscore", "trio", "cattrs"))
    return f"Python {platform.python_version()}, {packages}"
