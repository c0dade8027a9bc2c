"""Measures openings: `python -m bench.durability.opening [--finished N ...] [--unfinished N ...] [--rounds N] ...`.

First every store is built by a process of its own, which writes one-task sessions through the store in large batches
and is killed with SIGKILL. Then fresh processes open each store again and again, interleaved: each opens a complete
node on it, and the clock runs until all unfinished work has been taken up. The time to load Python is not included.
These processes end without closing anything, so that every opening follows a crash.

Each round opens a store twice: cold, after the kernel was asked to drop the file's pages, so that everything is read
from the disk; and warm, right after. Memory is that of the warm opening, while the node is open: anonymous memory is
the process's own; file-backed memory is mapped, mostly pages of the store, and the kernel can reclaim it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs
import lmdb

from bench.durability.bars import opening_verdicts
from bench.durability.opening_process import Figures
from bench.durability.report import versions
from bench.page import Figure, Page, Verdict, add_outputs, bar_rows, commit, loads, machine
from opscore.runtime.storage.files import DATA_FILE

ROOT: Final = Path(__file__).parents[2]
BUILD_TIMEOUT_S: Final = 900.0
OPENING_TIMEOUT_S: Final = 600.0
FIGURES: Final = {
    "cold": Figure(title="open, cold", unit="s", form="{:,.3f}"),
    "warm": Figure(title="open, warm", unit="s", form="{:,.3f}"),
    "anonymous": Figure(title="anonymous", unit="MiB", scale=1 / 1024**2, form="{:,.1f}"),
    "file": Figure(title="file-backed", unit="MiB", scale=1 / 1024**2, form="{:,.1f}"),
}


@attrs.frozen(kw_only=True)
class Kind:
    """The contents of a store."""

    finished: int
    unfinished: int

    @property
    def name(self) -> str:
        return f"{self.finished}+{self.unfinished}"


@attrs.frozen(kw_only=True)
class Built:
    directory: Path
    seconds: float
    bytes: int


@attrs.frozen(kw_only=True)
class Report(Page):
    HEADER = """# Opening a store

What is opened, and how, stands at the top of [opening.py](opening.py), what the sessions are in [rows.py](rows.py). Run
it again with `just bench-opening`.
"""

    kinds: list[Kind]
    built: dict[str, Built]

    def verdicts(self) -> Iterator[Verdict]:
        return opening_verdicts(self.medians())

    def conditions(self) -> Iterator[str]:
        yield (
            f"{self.rounds} rounds, interleaved over the stores, every opening in a fresh process. "
            "Each cell: median (min–max)."
        )
        yield "Every writer and every opener was killed; every opening took up as many sessions as are unfinished."

    def table(self) -> Iterator[str]:
        shown = [f"{figure.title}, {figure.unit}" for figure in FIGURES.values()]
        yield f"| finished sessions | unfinished | file, MiB | built in, s | {' | '.join(shown)} |"
        yield "|---:|---:|---:|---:|---:|---:|---:|---:|"
        for kind in self.kinds:
            built = self.built[kind.name]
            cells = [figure.cell(self.raw[kind.name][name]) for name, figure in FIGURES.items()]
            size = f"{built.bytes / 1024**2:,.0f} | {built.seconds:.0f}"
            yield f"| {kind.finished:,} | {kind.unfinished:,} | {size} | {' | '.join(cells)} |"

    def bars(self) -> Iterator[str]:
        yield "| bar, on the medians; cold, if it is a time | measured | |"
        yield "|---|---:|---|"
        yield from bar_rows(self.verdicts())

    def surroundings(self) -> Iterator[str]:
        yield f"{versions()}, LMDB {'.'.join(map(str, lmdb.version()))}."
        yield f"Commit {commit()}. {machine()}, {len(os.sched_getaffinity(0))} cores. {loads(self.load_at_start)}."


def build(kind: Kind, directory: Path) -> Built:
    """Have a process of its own write the store, and kill it."""
    began = time.monotonic()
    arguments = (str(directory), str(kind.finished), str(kind.unfinished))
    command = [sys.executable, "-m", "bench.durability.opening_store", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        watch = threading.Timer(BUILD_TIMEOUT_S, writer.kill)
        watch.start()
        try:
            assert writer.stdout is not None, "it was asked for"
            said = writer.stdout.readline()
        finally:
            watch.cancel()
            writer.kill()
    if not said or json.loads(said) != kind.unfinished:
        raise RuntimeError(f"a store with {kind.unfinished:,} unfinished sessions was not built: {said!r}")
    seconds = time.monotonic() - began
    return Built(directory=directory, seconds=seconds, bytes=(directory / DATA_FILE).stat().st_blocks * 512)


def forget(file: Path) -> None:
    """Write a file to the disk, then ask the kernel to drop its cached pages."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def opening(kind: Kind, directory: Path) -> Figures:
    """Open it in a fresh process."""
    command = [sys.executable, "-m", "bench.durability.opening_process", str(directory), str(kind.unfinished)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=OPENING_TIMEOUT_S)
    if answer.returncode != 0:
        raise RuntimeError(f"{kind.name} was not opened:\n{answer.stderr}")
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


def compare(kinds: list[Kind], rounds: int, folder: Path) -> Report:
    load_at_start = os.getloadavg()[0]
    raw: dict[str, dict[str, list[float]]] = {kind.name: {name: [] for name in FIGURES} for kind in kinds}
    built = {}
    for kind in kinds:
        built[kind.name] = build(kind, folder / kind.name)
        print(f"built {kind.name} in {built[kind.name].seconds:.0f} s", file=sys.stderr, flush=True)
    for round_ in range(rounds):
        for kind in _turned(kinds, round_):
            directory = built[kind.name].directory
            forget(directory / DATA_FILE)
            cold, warm = opening(kind, directory), opening(kind, directory)
            found = {"cold": cold["seconds"], "warm": warm["seconds"]}
            for name, value in (found | {"anonymous": warm["anonymous"], "file": warm["file"]}).items():
                raw[kind.name][name].append(value)
            shown = ", ".join(f"{name} {FIGURES[name].shown(value)} s" for name, value in found.items())
            print(f"round {round_ + 1}  {kind.name:16} {shown}", file=sys.stderr, flush=True)
    return Report(raw=raw, kinds=kinds, built=built, rounds=rounds, load_at_start=load_at_start)


def _turned(kinds: list[Kind], round_: int) -> Iterable[Kind]:
    first = round_ % len(kinds)
    return (*kinds[first:], *kinds[:first])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.durability.opening", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--finished", nargs="*", type=int, default=[0, 10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--unfinished", nargs="*", type=int, default=[100_000], metavar="N")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the stores are put")
    add_outputs(parser)
    return parser


def main() -> None:
    options = arguments().parse_args()
    kinds = [Kind(finished=count, unfinished=0) for count in options.finished]
    kinds += [Kind(finished=0, unfinished=count) for count in options.unfinished]
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="opscore-opening-") as folder:
        report = compare(kinds, options.rounds, Path(folder))
    report.publish(options.output, options.json)


if __name__ == "__main__":
    main()
