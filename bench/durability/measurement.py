"""One measurement in a process of its own: `python -m bench.durability.measurement STORE WAITERS SECONDS FOLDER`.

The parent starts it; it prints its figures as JSON, and fails if an operation that was acknowledged is missing when the
store is opened again.
"""

import gc
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from bench.durability.contenders import CONTENDERS, Contender
from bench.durability.waiters import Outcome, run_waiters

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300
WARM_UP_SHARE = 0.15
"""Share of the time that is a warm-up and not measured: caches fill and files begin to grow."""

Figures = dict[str, float]


class LostError(Exception):
    """An operation that was acknowledged is missing."""

    def __init__(self, store: str, lost: int, acknowledged: int) -> None:
        super().__init__(f"{store} lost {lost} of {acknowledged} operations that it had acknowledged")


def measure(store: str, waiters: int, seconds: float, folder: Path) -> Figures:
    """Measure in a fresh process, in a fresh directory inside the folder."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="opscore-durability-") as directory:
        arguments = (store, str(waiters), str(seconds), directory)
        command = [sys.executable, "-m", "bench.durability.measurement", *arguments]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if answer.returncode != 0:
        raise RuntimeError(f"{store} with {waiters} waiters failed:\n{answer.stderr}")
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


def run(store: str, waiters: int, seconds: float, path: Path, contender: Contender | None = None) -> Figures:
    """Measure in this process, and check afterwards that nothing is missing."""
    contender = contender or CONTENDERS[store]
    batch_seconds: list[float] = []
    warm, outcome = trio.run(_waited, contender, waiters, seconds, path, batch_seconds)
    acknowledged = {*warm.acknowledged, *outcome.acknowledged}
    if not outcome.acknowledged:
        raise RuntimeError(f"{store} acknowledged nothing")
    lost = acknowledged.difference(contender.found(path))
    if lost:
        raise LostError(store, len(lost), len(acknowledged))
    count = len(outcome.acknowledged)
    return {
        "rate": count / outcome.seconds,
        "p50": outcome.quantile(0.5),
        "p99": outcome.quantile(0.99),
        "cpu": outcome.cpu_s / count,
        "batch": statistics.median(batch_seconds),
        "batch_size": count / len(batch_seconds),
    }


async def _waited(
    contender: Contender, waiters: int, seconds: float, path: Path, batch_seconds: list[float]
) -> tuple[Outcome, Outcome]:
    numbers = itertools.count(1)
    async with contender.running(path, batch_seconds) as submit:
        warm = await run_waiters(submit, waiters=waiters, seconds=seconds * WARM_UP_SHARE, numbers=numbers)
        batch_seconds.clear()
        gc.collect()
        return warm, await run_waiters(submit, waiters=waiters, seconds=seconds, numbers=numbers)


def main() -> None:
    store, waiters, seconds, directory = sys.argv[1:]
    print(json.dumps(run(store, int(waiters), float(seconds), Path(directory))), flush=True)


if __name__ == "__main__":
    main()
