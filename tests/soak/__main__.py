"""`python -m tests.soak --minutes N`: keep a server under load, and report what grows or slows down.

The exit code is 1 if anything does.
"""

import argparse
import random
import sys

from tests.crash.failpoints import say
from tests.soak import verdict
from tests.soak.leaks import LEAKS
from tests.soak.soak import Plan, Result, Soak
from tests.soak.trend import Sample

MEBIBYTE = 2**20
REST_S = 15.0
FAULTS_SHOWN = 60


def main() -> int:
    """Run a soak, with progress on the terminal."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load lasts")
    parser.add_argument("--runs", type=int, default=0, help="how many runs have to begin at least")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument("--load", type=float, default=1.0, help="how many times the usual load")
    parser.add_argument("--kills", type=int, default=0, help="kill the server so often, and start it again")
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds that what is left then may take to go")
    parser.add_argument("--untimed", action="store_true", help="let calls and runs take longer: others use the machine")
    parser.add_argument("--leak", choices=LEAKS, default="", help="plant a leak, to see it found")
    given = parser.parse_args()
    plan = Plan(
        seconds=60.0 * given.minutes,
        seed=given.seed,
        runs_min=given.runs,
        every_s=given.every,
        load=given.load,
        kills=given.kills,
        timed=not given.untimed,
        rest_s=given.rest,
        leak=given.leak,
    )
    soak = Soak(plan, on_sample=progress)
    interrupted = False
    try:
        soak.run()
    except KeyboardInterrupt:
        interrupted = True
    if sys.stdout.isatty():
        say("")
    for line in report(soak.result):
        say(line)
    if soak.result.faults or interrupted:
        say(f"Directory, log and samples are kept in {soak.folder}; again with --seed {given.seed}.")
    return 130 if interrupted else int(bool(soak.result.faults))


def report(result: Result) -> list[str]:
    """Return the report of a soak; if that was broken off, what is known so far."""
    samples = [sample for life in result.lives for sample in life]
    lines = [f"  {number:>9,} {what}" for what, number in sorted(result.counts.items(), key=lambda pair: -pair[1])]
    lines += [status(sample) for sample in (*samples[:1], *samples[-1:])]
    faults = list(result.faults)
    if not result.at_rest:
        faults += [each for life in result.lives for each in verdict.of_samples(life, timed=result.plan.timed)]
        lines.append("It did not come to its end: whether anything is left when all is over is not known.")
    if not faults:
        return [*lines, "Nothing grows and nothing slows." + (" Nothing is left over." if result.at_rest else "")]
    return [*lines, f"{len(faults):,} faults:", *(f"  {fault}" for fault in faults[:FAULTS_SHOWN])]


def progress(result: Result) -> None:
    """Print the progress."""
    if not result.lives[-1]:
        return
    line = status(result.lives[-1][-1])
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{line}")
        sys.stdout.flush()
    else:
        say(line)


def status(sample: Sample) -> str:
    """Format a sample as one line."""

    def figure(name: str) -> float:
        return sample.figures.get(name, 0.0)

    return (
        f"{sample.at:>7,.0f} s {sample.runs:>8,.0f} runs  {figure('anonymous memory') / MEBIBYTE:>6.1f} MiB"
        f" {figure('objects'):>8,.0f} objects {figure('actors'):>4,.0f} actors {figure('due times armed'):>5,.0f} due"
        f" {figure('files'):>4,.0f} files {figure('threads'):>3,.0f} threads"
        f" {figure('store used') / MEBIBYTE:>5.1f} MiB stored"
        f"  run {1_000 * figure('a run p50'):>4,.0f} ms, p99 {1_000 * figure('a run p99'):>5,.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
