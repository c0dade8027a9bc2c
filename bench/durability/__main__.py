"""Compares commits: `python -m bench.durability [--rounds N] [--stores NAME ...] [--waiters N ...] ...`.

Every measurement runs in a fresh process and a fresh directory. A round measures every store once with every number of
waiters. The order of the stores rotates with each round, so that other load on the machine and its disk affects all of
them alike: compare the ratios, not the rates. Operations count when they were acknowledged as durable; if one of them
is missing when the store is opened again, the run ends.

`--folder` has to be on the disk to measure: nothing is durable on a tmpfs. The table is printed; `--output FILE` writes
a page with it and with all that has to be known about the run, and `--json FILE` writes the raw figures.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench.durability.contenders import CONTENDERS, operation
from bench.durability.measurement import measure
from bench.durability.report import FIGURES, Report
from bench.page import add_outputs

WAITERS = (1, 10, 100, 1_000)


@attrs.frozen(kw_only=True)
class Turn:
    round: int
    waiters: int
    store: str


def turns(rounds: int, stores: list[str], waiters: list[int]) -> Iterator[Turn]:
    """Return the order of the measurements."""
    for round_ in range(rounds):
        first = round_ % len(stores)
        for count in waiters:
            for store in (*stores[first:], *stores[:first]):
                yield Turn(round=round_, waiters=count, store=store)


def compare(options: argparse.Namespace) -> Report:
    report = Report(
        raw={store: {} for store in options.stores},
        waiters=options.waiters,
        rounds=options.rounds,
        seconds=options.seconds,
        operation=operation(),
    )
    all_turns = list(turns(options.rounds, options.stores, options.waiters))
    started = time.monotonic()
    for count, turn in enumerate(all_turns, start=1):
        figures = measure(turn.store, turn.waiters, options.seconds, options.folder)
        for name, value in figures.items():
            report.raw[turn.store].setdefault(f"{name}@{turn.waiters}", []).append(value)
        left_s = (time.monotonic() - started) / count * (len(all_turns) - count)
        shown = ", ".join(
            f"{FIGURES[name].shown(figures[name])} {FIGURES[name].unit}" for name in ("rate", "p50", "p99")
        )
        progress = f"[{count}/{len(all_turns)}, {left_s:.0f} s left] round {turn.round + 1}"
        print(f"{progress}  {turn.waiters:5,} waiting  {turn.store:10} {shown}", file=sys.stderr, flush=True)
    return report


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.durability", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each measurement takes")
    parser.add_argument(
        "--stores", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME", help=", ".join(CONTENDERS)
    )
    parser.add_argument("--waiters", nargs="+", type=int, default=list(WAITERS), metavar="N")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the stores are put")
    add_outputs(parser)
    return parser


def main() -> None:
    options = arguments().parse_args()
    report = compare(options)
    report.publish(options.output, options.json)


if __name__ == "__main__":
    main()
