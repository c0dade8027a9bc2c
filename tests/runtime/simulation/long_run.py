"""Plays many worlds, each drawn from a seed of its own: `python -m tests.runtime.simulation.long_run [--worlds N] ...`.

Every core plays a share of them. A world that breaks a promise is made smaller, and told with its seed, the commit, the
smallest scenario as Python and its timeline; the run goes on, and ends with 1. Ctrl-C tells what is known so far.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import attrs

from opscore.gateway.process.garbage import collect_seldom
from opscore.runtime.simulation import Played, WorldFailed, play
from opscore.runtime.simulation.drawing.scenarios import drawn
from opscore.runtime.simulation.shrinking import smallest

WORLDS = 2_000
SHARE = 50
"""Worlds that a core plays before it says how they went."""
PROGRESS_EVERY_S = 10.0
ROOT = Path(__file__).parents[3]


@attrs.define(kw_only=True)
class Figures:
    """What came of some worlds."""

    worlds: int = 0
    commits: int = 0
    sessions: int = 0
    tasks: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    faults: Counter[str] = attrs.field(factory=Counter)
    broken: list[tuple[int, str]] = attrs.field(factory=list)
    """Seeds, and what was broken."""

    def add(self, other: "Figures") -> None:
        for name in ("worlds", "commits", "sessions", "tasks", "virtual_s", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults
        self.broken += other.broken

    def lines(self) -> Iterator[str]:
        yield f"{self.worlds:,} worlds, {len(self.broken)} of them broke a promise"
        yield f"{self.sessions:,} runs of {self.tasks:,} tasks, {self.commits:,} commits, every one looked at"
        yield f"{self.virtual_s / 86_400:,.0f} virtual days in {self.cpu_s / 3_600:.2f} hours of processor time"
        yield f"{sum(self.faults.values()):,} faults: " + ", ".join(
            f"{name} {count:,}" for name, count in self.faults.most_common()
        )


def played(seeds: range) -> Figures:
    """Play the worlds of these seeds."""
    figures, began = Figures(), time.process_time()
    for seed in seeds:
        world = play(drawn(seed))
        figures.worlds += 1
        figures.commits += world.commits
        figures.sessions += len(world.sessions)
        figures.tasks += len(world.tasks)
        figures.virtual_s += world.elapsed_s
        figures.faults += world.faults
        if world.broken is not None:
            figures.broken.append((seed, str(world.broken)))
    figures.cpu_s = time.process_time() - began
    return figures


def told(seed: int) -> str:
    """Make the world of a seed as small as it goes, and tell of it."""
    first = play(drawn(seed))
    assert first.broken is not None, "the same seed breaks the same promise"
    invariant = first.broken.invariant

    def fails(world: Played) -> bool:
        return world.broken is not None and world.broken.invariant == invariant

    return str(WorldFailed(play(smallest(first.scenario, fails, promise=True))))


def commit() -> str:
    answer = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, check=False)
    return answer.stdout.decode().strip() or "unknown"


def run(start: int, worlds: int, cores: int) -> Figures:
    """Play them on all cores, with progress."""
    total, began, said = Figures(), time.monotonic(), time.monotonic()
    shares = [range(first, min(first + SHARE, start + worlds)) for first in range(start, start + worlds, SHARE)]
    with ProcessPoolExecutor(cores, initializer=collect_seldom) as pool:
        waiting: set[Future[Figures]] = set()
        try:
            while shares or waiting:
                while shares and len(waiting) < 2 * cores:
                    waiting.add(pool.submit(played, shares.pop(0)))
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for each in done:
                    figures = each.result()
                    total.add(figures)
                    for seed, what in figures.broken:
                        print(f"seed {seed}: {what}", flush=True)
                if time.monotonic() - said >= PROGRESS_EVERY_S:
                    said = time.monotonic()
                    rate = total.worlds / (said - began)
                    left = f"{(worlds - total.worlds) / rate:,.0f} s left" if rate else "…"
                    words = f"[{total.worlds:,}/{worlds:,}, {rate:.1f}/s, {left}] {len(total.broken)} broke a promise"
                    print(words, file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            print("stopped", file=sys.stderr)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(prog="sim", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--start", type=int, default=0, metavar="SEED", help="the first seed")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    total = run(options.start, options.worlds, options.cores)
    print(*total.lines(), f"commit {commit()}", sep="\n")
    for seed, _ in total.broken[:3]:
        print(f"\n--- seed {seed}, commit {commit()}, made smaller ---\n{told(seed)}", flush=True)
    sys.exit(1 if total.broken else 0)


if __name__ == "__main__":
    main()
