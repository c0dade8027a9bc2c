"""The report of a run: tables, the bars, the environment, a drawing, and the raw figures as JSON."""

import importlib.metadata
import os
import platform
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import lmdb

from bench.page import Page, Verdict, bar_rows, commit, loads, machine
from bench.tasks import sizes
from bench.tasks.bars import size_verdicts, task_verdicts
from bench.tasks.registry import CONTENDERS, FIGURES, LATENCIES, WORKLOADS
from bench.tasks.sizes import Size

BESIDE: Final = ("redis", "psycopg", "sqlalchemy")
"""Packages on which the speed of the contenders depends."""


@attrs.frozen(kw_only=True)
class Report(Page):
    HEADER = """# Tasks beside other runtimes and queues

What a contender does stands at the top of its module in [peers](peers), how it is asked at the top of
[protocol.py](protocol.py) and [clients.py](clients.py), how its server runs at the top of [servers.py](servers.py),
how turns are taken at the top of [\\_\\_main\\_\\_.py](__main__.py), and what a size is at the top of
[size.py](size.py). Run it again with `just bench-tasks`.
"""

    seconds: float
    sizes: list[Size]
    size_seconds: float
    left_out: dict[str, str] = attrs.field(factory=dict)
    """Contenders that were not measured, with the reasons."""
    tried: dict[str, dict[str, dict[int, float]]] = attrs.field(factory=dict)
    """Tasks per second by contender, workload and number of workers."""
    servers: list[str] = attrs.field(factory=list)
    """The servers that ran, with their versions."""
    drawing: str | None = None
    """The file beside the page with the drawing of the sizes."""

    def contenders(self) -> list[str]:
        return [name for name in CONTENDERS if name in self.raw or name in self.left_out]

    def verdicts(self) -> Iterator[Verdict]:
        yield from task_verdicts(self.medians())
        yield from size_verdicts(self.medians())

    def document(self) -> dict[str, Any]:
        return {
            **super().document(),
            "seconds": self.seconds,
            "size_seconds": self.size_seconds,
            "left_out": self.left_out,
            "tried": self.tried,
        }

    def conditions(self) -> Iterator[str]:
        yield (
            f"{self.rounds} rounds of {self.seconds:g} s, interleaved over the contenders, every measurement in a "
            "fresh process, a fresh directory and an emptied server. Each cell: median (min–max)."
        )
        yield (
            "A task returns the number after the one that it is given. Every result was looked at, and opscore's store "
            "was opened again and held every run as completed."
        )
        yield f"Used: {'; '.join(f'{name}: {CONTENDERS[name].used}' for name in self.contenders())}."
        for name, workloads in self.tried.items():
            for workload, rates in workloads.items():
                shown = ", ".join(f"{workers}: {rate:,.0f}" for workers, rate in rates.items())
                yield f"Tried of {name}, {WORKLOADS[workload].title}, tasks/s by workers: {shown}."
        for name, why in self.left_out.items():
            yield f"Not measured: {name}: {why}."
        yield "CPU is that of all processes of a contender, its clients, workers and server."
        yield "On a busy machine, contenders of several processes get a larger share of it than those of one."

    def table(self) -> Iterator[str]:
        names = self.contenders()
        yield f"| asked for | figure | unit | {' | '.join(names)} |"
        yield f"|---|---|---|{'---:|' * len(names)}"
        for workload in WORKLOADS:
            for figure_name, figure in FIGURES.items():
                if figure_name in LATENCIES and workload != "sequential":
                    continue
                cells = [self._cell(name, workload, figure_name) for name in names]
                if any(cell not in {"–", "not measured"} for cell in cells):
                    yield f"| {WORKLOADS[workload].title} | {figure.title} | {figure.unit} | {' | '.join(cells)} |"
        yield ""
        yield from self._size_table()

    def bars(self) -> Iterator[str]:
        yield "| bar, on the medians | measured | |"
        yield "|---|---:|---|"
        yield from bar_rows(self.verdicts())

    def surroundings(self) -> Iterator[str]:
        own = [CONTENDERS[name].package for name in self.contenders() if name in self.raw]
        packages = {"opscore", "trio", "lmdb", *BESIDE, *(package for package in own if package is not None)}
        versions = ", ".join(f"{name} {version}" for name in sorted(packages) if (version := _version(name)))
        yield (
            f"Python {platform.python_version()}, {versions}, LMDB {'.'.join(map(str, lmdb.version()))}, "
            f"SQLite {sqlite3.sqlite_version}{''.join(f', {server}' for server in self.servers)}."
        )
        yield f"Commit {commit()}. {machine()}, {len(os.sched_getaffinity(0))} cores. {loads(self.load_at_start)}."

    def publish(self, output: Path | None, raw: Path | None) -> None:
        """Print the report, and write it and its drawing to the files that were named."""
        lines = sizes.curves(self.sizes, self.medians())
        page = self
        if output is not None and lines and sizes.missing() is None:
            drawing = output.with_suffix(".svg")
            sizes.drawn(lines, drawing)
            page = attrs.evolve(self, drawing=drawing.name)
        super(Report, page).publish(output, raw)
        print("", *sizes.as_text(lines), sep="\n")

    def _cell(self, name: str, workload: str, figure: str) -> str:
        if name in self.left_out:
            return "not measured" if workload in CONTENDERS[name].workloads else "–"
        return FIGURES[figure].cell(self.raw[name].get(f"{figure}@{workload}"))

    def _size_table(self) -> Iterator[str]:
        yield (
            f"At a size, MatchBook alone was measured for {self.size_seconds:g} s in every round; the whole runtime "
            f"once, for as long at most, with all tasks durable before."
        )
        yield ""
        yield f"| figure | unit | {' | '.join(size.name for size in self.sizes)} |"
        yield f"|---|---|{'---:|' * len(self.sizes)}"
        for name, figure in sizes.FIGURES.items():
            cells = [figure.cell(self.raw.get(size.name, {}).get(name)) for size in self.sizes]
            yield f"| {figure.title} | {figure.unit} | {' | '.join(cells)} |"
        if self.drawing is not None:
            yield ""
            yield f"![Cost against size]({self.drawing})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
