"""Runs the measurements: each in a fresh process, with a fresh directory and an empty server."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from bench.tasks.protocol import ROOT, Figures, Parameters
from bench.tasks.registry import CONTENDERS, TRIED_WORKERS
from bench.tasks.servers import Server, ServerError, running

TIMEOUT_S: Final = 300.0
TRIAL_SHARE: Final = 0.5
"""Share of a measurement's seconds for each number of workers that is tried."""

Serving = Callable[[str], Server]


@attrs.frozen(kw_only=True)
class Turn:
    round: int
    workload: str
    contender: str


def turns(rounds: int, contenders: Sequence[str], workloads: Sequence[str]) -> Iterator[Turn]:
    """Return the order of the measurements: in each round, every workload once with each contender that has it."""
    for round_ in range(rounds):
        for workload in workloads:
            taking = [name for name in contenders if workload in CONTENDERS[name].workloads]
            first = round_ % len(taking) if taking else 0
            for name in (*taking[first:], *taking[:first]):
                yield Turn(round=round_, workload=workload, contender=name)


@contextlib.contextmanager
def serving(contenders: Sequence[str], folder: Path) -> Iterator[tuple[Serving, dict[str, str]]]:
    """Run the servers that these contenders need.

    Yields:
        a function that returns a server by name, and the reasons why servers did not start.
    """
    needed = {entry.server for name in contenders if (entry := CONTENDERS[name]).server is not None}
    with contextlib.ExitStack() as stack:
        begun: dict[str, Server] = {}
        failed: dict[str, str] = {}
        for name in sorted(needed):
            try:
                begun[name] = stack.enter_context(running(name, folder))
            except (ServerError, OSError, subprocess.CalledProcessError) as error:
                failed[name] = f"{name} did not begin: {error}"
        yield begun.__getitem__, failed


def measure(name: str, workload: str, *, seconds: float, workers: int, folder: Path, server: Serving) -> Figures:
    """Measure one contender at one workload.

    Raises:
        RuntimeError: it failed, or its results were wrong.
    """
    entry = CONTENDERS[name]
    own = None if entry.server is None else server(entry.server)
    with tempfile.TemporaryDirectory(dir=folder, prefix="opscore-tasks-") as directory:
        parameters = Parameters(
            workload=workload,
            seconds=seconds,
            folder=directory,
            clients=entry.workloads[workload].clients,
            in_flight=entry.workloads[workload].in_flight,
            workers=workers,
            server="" if own is None else own.fresh(),
            server_pid=0 if own is None else own.pid,
        )
        command = [sys.executable, "-m", f"bench.tasks.peers.{entry.module}", "measure", parameters.line()]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if answer.returncode != 0:
        raise RuntimeError(f"{workload} of {name} failed:\n{answer.stderr}")
    # The figures are on the last line; a contender may print something before.
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


def tried(name: str, workload: str, *, seconds: float, folder: Path, server: Serving) -> dict[int, float]:
    """Return the tasks per second with each number of workers, if the contender has such a setting."""
    if workload not in CONTENDERS[name].tried:
        return {}
    return {
        workers: measure(name, workload, seconds=seconds * TRIAL_SHARE, workers=workers, folder=folder, server=server)[
            "rate"
        ]
        for workers in TRIED_WORKERS
    }
