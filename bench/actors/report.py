"""The report of a run: a table, the bars, the environment, and the raw figures as JSON."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from typing import Any

import attrs

from bench.actors.bars import verdicts
from bench.actors.registry import PEERS
from bench.actors.workloads import FIGURES, ROUNDS_MAX, Sizes
from bench.page import Page, Verdict, bar_rows, commit, loads, machine

Raw = dict[str, dict[str, list[float]]]
"""The figures by peer and name, one number per round."""


@attrs.frozen(kw_only=True)
class Report(Page):
    HEADER = """# Actor libraries beside one another

What a peer does stands at the top of [peer.py](peer.py), how each is used at the top of its module in [peers](peers),
how turns are taken at the top of [__main__.py](__main__.py). Run it again with `just bench-actors`.
"""

    sizes: Sizes
    slice_ms: float
    core: int

    def verdicts(self) -> Iterator[Verdict]:
        return verdicts(self.medians(), self.slice_ms)

    def document(self) -> dict[str, Any]:
        return {
            **super().document(),
            "sizes": attrs.asdict(self.sizes),
            "shares": {peer: PEERS[peer].share for peer in self.raw},
            "slice_ms": self.slice_ms,
            "figures": {name: attrs.asdict(figure) for name, figure in FIGURES.items()},
        }

    def conditions(self) -> Iterator[str]:
        yield (
            f"{self.rounds} rounds, interleaved over the peers, every measurement in a fresh process on one core. "
            "Each cell: median (min–max)."
        )
        few = ", ".join(f"{workload} {rounds}" for workload, rounds in ROUNDS_MAX.items())
        yield f"Rounds at most, where a figure takes long and hardly varies: {few}."
        yield f"Used: {'; '.join(f'{peer}: {PEERS[peer].used}' for peer in self.raw)}."
        yield (
            f"A rate is of {self.sizes.messages:,} messages, {self.sizes.asks:,} asks or {self.sizes.hops:,} hops; "
            f"slower peers do a share of them. Spawn and idle: {self.sizes.actors:,} actors."
        )

    def table(self) -> Iterator[str]:
        yield f"| figure | unit | {' | '.join(self.raw)} |"
        yield f"|---|---|{'---:|' * len(self.raw)}"
        for name, figure in FIGURES.items():
            cells = [figure.cell(figures.get(name)) for figures in self.raw.values()]
            if any(cell != "–" for cell in cells):
                yield f"| {figure.title} | {figure.unit} | {' | '.join(cells)} |"

    def bars(self) -> Iterator[str]:
        yield f"| bar, on the medians (a time slice is {self.slice_ms:g} ms) | measured | |"
        yield "|---|---:|---|"
        yield from bar_rows(self.verdicts())

    def surroundings(self) -> Iterator[str]:
        versions = [f"{peer} {PEERS[peer].version()}" for peer in self.raw if peer != "asyncio.Queue"]
        if "trio" not in self.raw:
            versions.append(f"trio {importlib.metadata.version('trio')}")
        yield f"Python {platform.python_version()}, {', '.join(versions)}."
        yield f"Commit {commit()}. {machine()}, core {self.core} of {os.cpu_count()}."
        load = loads(self.load_at_start)
        yield f"{load}, with Pykka's thousands of threads in it." if "pykka" in self.raw else f"{load}."
