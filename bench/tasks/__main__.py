"""Compares tasks a second: `python -m bench.tasks [--rounds N] [--contenders NAME ...] [--seconds S] ...`.

A run is one task that is a trivial function, unless the workload is a chain. Each of its steps (triggered, handed out,
done) is durable before anyone sees it. A round measures every workload once with every contender. The order of the
contenders rotates with each round, so that other load on the machine and its disk affects all of them alike: compare
the ratios, not the rates. If the number of workers is a setting, 1, 10 and 100 are tried before the first round, and
the best is taken. A contender whose requirements are not installed (`pip install --group bench-tasks`,
`apt-get install redis-server postgresql`) is not measured.

Sizes are measured for opscore alone: the cost of a decision of the dispatcher, and the memory of a node, with up to
10,000 agents and 100,000 waiting tasks.

`--folder` has to be on the disk to measure: nothing is durable on a tmpfs. The tables are printed; `--output FILE`
writes a page with them and with all that has to be known about the run, and a drawing beside it; `--json FILE` writes
the raw figures. Linux only.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.page import add_outputs
from bench.tasks import sizes
from bench.tasks.measurement import Serving, Turn, measure, serving, tried, turns
from bench.tasks.registry import CONTENDERS, FIGURES, WORKLOADS
from bench.tasks.report import Report
from bench.tasks.sizes import SIZES, TASKS_MIN, Size


def compare(options: argparse.Namespace) -> Report:
    report = Report(
        raw={},
        rounds=options.rounds,
        seconds=options.seconds,
        sizes=[Size(agents=tasks // 10, tasks=tasks) for tasks in options.sizes],
        size_seconds=options.size_seconds,
    )
    present = []
    for name in options.contenders:
        missing = CONTENDERS[name].missing()
        if missing is None:
            present.append(name)
        else:
            report.left_out[name] = missing
    with serving(present, options.folder) as (server, failed):
        for name in present:
            why = failed.get(CONTENDERS[name].server or "")
            if why is not None:
                report.left_out[name] = why
        measured = [name for name in present if name not in report.left_out]
        needed = sorted({each for name in measured if (each := CONTENDERS[name].server) is not None})
        report.servers.extend(f"{server(each).name} {server(each).version()}" for each in needed)
        workers = try_workers(report, measured, options, server)
        all_turns = list(turns(options.rounds, measured, options.workloads))
        started = time.monotonic()
        for count, turn in enumerate(all_turns, start=1):
            figures = measure(
                turn.contender,
                turn.workload,
                seconds=options.seconds,
                workers=workers.get((turn.contender, turn.workload), 1),
                folder=options.folder,
                server=server,
            )
            _noted(report, turn, figures)
            left_s = (time.monotonic() - started) / count * (len(all_turns) - count)
            shown = ", ".join(f"{FIGURES[name].shown(figures[name])} {FIGURES[name].unit}" for name in ("rate", "cpu"))
            _told(f"[{count}/{len(all_turns)}, {left_s:.0f} s left] round {turn.round + 1}", turn, shown)
            if count == len(all_turns) or all_turns[count].round > turn.round:
                _measure_sizes(report, turn.round, options.folder)
    return report


def try_workers(
    report: Report, contenders: list[str], options: argparse.Namespace, server: Serving
) -> dict[tuple[str, str], int]:
    """Try the numbers of workers; return the best for each contender and workload."""
    best = {}
    for name in contenders:
        for workload in options.workloads:
            rates = tried(name, workload, seconds=options.seconds, folder=options.folder, server=server)
            if rates:
                best[name, workload] = max(rates, key=rates.__getitem__)
                report.tried.setdefault(name, {})[workload] = rates
                shown = ", ".join(f"{workers}: {rate:,.0f} 1/s" for workers, rate in rates.items())
                _told("tried", Turn(round=0, workload=workload, contender=name), shown)
    return best


def _noted(report: Report, turn: Turn, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        report.raw.setdefault(turn.contender, {}).setdefault(f"{name}@{turn.workload}", []).append(value)


def _told(progress: str, turn: Turn, shown: str) -> None:
    print(f"{progress}  {turn.workload:10} {turn.contender:16} {shown}", file=sys.stderr, flush=True)


def _measure_sizes(report: Report, round_: int, folder: Path) -> None:
    """Measure the book in every round, the whole runtime only in the first: it takes minutes, mostly for triggers."""
    for size in report.sizes:
        for what in ("book", "runtime") if round_ == 0 else ("book",):
            figures = sizes.measured(what, size, report.size_seconds, folder)
            for name, value in figures.items():
                report.raw.setdefault(size.name, {}).setdefault(name, []).append(value)
            shown = ", ".join(f"{name} {sizes.FIGURES[name].shown(value)}" for name, value in figures.items())
            print(f"round {round_ + 1}  {what:8} {size.name:30} {shown}", file=sys.stderr, flush=True)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.tasks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each measurement takes")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        default=list(CONTENDERS),
        metavar="NAME",
        help=", ".join(CONTENDERS),
    )
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME", help=", ".join(WORKLOADS)
    )
    parser.add_argument(
        "--sizes",
        nargs="*",
        type=int,
        default=[size.tasks for size in SIZES],
        metavar="TASKS",
        help="tasks that wait, with a tenth as many agents; the largest takes about three minutes and 1 GiB of disk",
    )
    parser.add_argument("--size-seconds", type=float, default=20.0, help="how long each size is measured at most")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where stores and servers are")
    add_outputs(parser)
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if min(options.sizes, default=TASKS_MIN) < TASKS_MIN:
        parser.error(f"{TASKS_MIN} tasks at least: each capability needs an agent")
    report = compare(options)
    report.publish(options.output, options.json)


if __name__ == "__main__":
    main()
