"""Proves that the simulator's net has no hole: `python -m tests.runtime.simulation.mutants.hunt [NAME ...]`.

Each planted bug runs in a process of its own, where worlds are played from seed 0 on until one breaks a promise. The
table says how many that took and which promise it was. One that nobody finds within the budget ends the hunt with 1.
Whether it is found by luck shows from another first seed on: `--start`.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import attrs

from tests.runtime.simulation.mutants import (
    changed,
    fresh,
    language,
    moved_clock,
    overlooked,
    planted,
    short_memory,
    stood_still,
    unasked,
    unseen,
    unwinding,
)
from tests.runtime.simulation.mutants.mutant import ROOT, Mutant

WORLDS_MAX = 2_500
HANG_S = 20.0
"""A world that takes longer, in processor time or without doing anything, never ends: that is found as well."""
IDLE_S = 0.5
"""Processor time within `HANG_S` seconds, up to which a world does nothing."""
MODULES = (
    planted,
    fresh,
    language,
    overlooked,
    unseen,
    unwinding,
    moved_clock,
    stood_still,
    short_memory,
    changed,
    unasked,
)
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for module in MODULES for mutant in module.MUTANTS}


@attrs.frozen(kw_only=True)
class Found:
    """How a planted bug was found, if it was."""

    mutant: Mutant
    worlds: int
    invariant: str | None
    what: str
    seconds: float


def hunt(mutant: Mutant, worlds: int, start: int = 0) -> Found:
    """Play worlds with a planted bug, in a fresh process, until one breaks a promise."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.runtime.simulation.mutants.prey", mutant.name, str(worlds), str(start)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    words = process.stdout.strip("\n").split("\t")
    if process.returncode != 0 or len(words) != 3:
        raise RuntimeError(f"{mutant.name}: {process.stdout[-500:]}{process.stderr[-2_000:]}")
    count, invariant, what = words
    return Found(mutant=mutant, worlds=int(count), invariant=invariant or None, what=what, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="hunt", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="planted bugs; all of them by default")
    parser.add_argument("--worlds", type=int, default=WORLDS_MAX, help="how many worlds each may take")
    parser.add_argument("--start", type=int, default=0, metavar="SEED", help="the first seed")
    options = parser.parse_args()
    unknown = set(options.names) - set(MUTANTS)
    if unknown:
        parser.error(f"there is no planted bug {', '.join(sorted(unknown))}")
    chosen = [MUTANTS[name] for name in options.names] or list(MUTANTS.values())
    missed = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(lambda mutant: hunt(mutant, options.worlds, options.start), chosen):
            line = f"after {found.worlds:5,} worlds, {found.seconds:5.1f} s, by {found.invariant}"
            if found.invariant is None:
                missed.append(found.mutant.name)
                line = f"NOT FOUND in {found.worlds:,} worlds, {found.seconds:.1f} s"
            print(f"{found.mutant.name:52} {line}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} planted bugs found")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
