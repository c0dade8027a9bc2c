"""One measurement in a process of its own: `python -m bench.actors.measurement PEER WORKLOAD CORE SIZES`.

The parent starts it; it pins itself to the core, prints its figures as JSON, and fails if a count is wrong.
"""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs

from bench.actors.registry import PEERS
from bench.actors.workloads import WARMED_UP, WORKLOADS, Figures, Sizes

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


def measure(peer: str, workload: str, core: int, sizes: Sizes) -> Figures:
    """Measure in a fresh process."""
    arguments = (peer, workload, str(core), json.dumps(attrs.asdict(sizes)))
    command = [sys.executable, "-m", "bench.actors.measurement", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if answer.returncode != 0:
        raise RuntimeError(f"{workload} of {peer} failed:\n{answer.stderr}")
    # The figures are on the last line; a peer may print something before.
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


def run(peer: str, workload: str, sizes: Sizes) -> Figures:
    """Measure in this process."""
    entry = PEERS[peer]
    loaded, own = entry.load(), sizes.share(entry.share)
    if workload in WARMED_UP:
        WORKLOADS[workload](loaded, own.share(0.05))
    gc.collect()
    return WORKLOADS[workload](loaded, own)


def main() -> None:
    peer, workload, core, sizes = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    print(json.dumps(run(peer, workload, Sizes(**json.loads(sizes)))), flush=True)
    # Some peers leave threads or an event loop behind that would keep the process alive; the figures are printed.
    os._exit(0)


if __name__ == "__main__":
    main()
