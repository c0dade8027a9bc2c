"""Compares actor libraries: `python -m bench.actors [--rounds N] [--peers NAME ...] [--workloads NAME ...] ...`.

Every measurement runs in a fresh process pinned to one core. A round measures every workload once with every peer. The
order of the peers rotates with each round, so that other load on the machine affects all of them alike: compare the
ratios, not the rates. Only messages that the actors handled count, and a wrong number ends the run. Peers that are not
installed are left out: `pip install --group bench-actors`, and `erl` from the system's packages. Linux only.

The table is printed after each round; `--output FILE` writes a page with it and with all that has to be known about
the run, and `--json FILE` writes the raw figures.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

import attrs

from bench.actors.measurement import measure
from bench.actors.registry import PEERS
from bench.actors.report import Report
from bench.actors.workloads import FIGURES, ROUNDS_MAX, WORKLOADS, Sizes
from bench.page import add_outputs


@attrs.frozen(kw_only=True)
class Turn:
    round: int
    workload: str
    peer: str


def turns(rounds: int, peers: list[str], workloads: list[str]) -> Iterator[Turn]:
    """Return the order in which peers and workloads are measured."""
    for round_ in range(rounds):
        for workload in workloads:
            if round_ >= ROUNDS_MAX.get(workload, rounds):
                continue
            taking = [peer for peer in peers if workload in PEERS[peer].workloads()]
            first = round_ % len(taking) if taking else 0
            for peer in (*taking[first:], *taking[:first]):
                yield Turn(round=round_, workload=workload, peer=peer)


def compare(options: argparse.Namespace, peers: list[str], sizes: Sizes) -> Report:
    report = Report(
        raw={peer: {} for peer in peers},
        sizes=sizes,
        rounds=options.rounds,
        slice_ms=options.slice_ms,
        core=options.core,
    )
    all_turns = list(turns(options.rounds, peers, options.workloads))
    started = time.monotonic()
    for count, turn in enumerate(all_turns, start=1):
        figures = measure(turn.peer, turn.workload, options.core, sizes)
        for name, value in figures.items():
            report.raw[turn.peer].setdefault(name, []).append(value)
        left_s = (time.monotonic() - started) / count * (len(all_turns) - count)
        shown = ", ".join(f"{FIGURES[name].shown(value)} {FIGURES[name].unit}" for name, value in figures.items())
        progress = f"[{count}/{len(all_turns)}, {left_s:.0f} s left] round {turn.round + 1}"
        print(f"{progress}  {turn.workload:14} {turn.peer:14} {shown}", file=sys.stderr, flush=True)
        ends_round = count == len(all_turns) or all_turns[count].round > turn.round
        if ends_round and count < len(all_turns):
            print(f"\nAfter round {turn.round + 1}:\n", *report.table(), "", sep="\n", flush=True)
    return report


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.actors", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=WORKLOADS,
        default=list(WORKLOADS),
        metavar="NAME",
        help=", ".join(WORKLOADS),
    )
    for field in attrs.fields(Sizes):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to measure on")
    parser.add_argument(
        "--slice-ms", type=float, default=1.0, help="the time slice that fairness is held against; opscore's is 1 ms"
    )
    add_outputs(parser)
    return parser


def main() -> None:
    options = arguments().parse_args()
    sizes = Sizes(**{field.name: getattr(options, field.name) for field in attrs.fields(Sizes)})
    peers = []
    for peer in options.peers:
        missing = PEERS[peer].missing()
        if missing is None:
            peers.append(peer)
        else:
            print(f"{peer} is left out: {missing} is not installed ({PEERS[peer].install})", file=sys.stderr)
    report = compare(options, peers, sizes)
    report.publish(options.output, options.json)


if __name__ == "__main__":
    main()
