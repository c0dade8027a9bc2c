"""How a contender is run: as a process, with a role and parameters on its command line, and figures as JSON in its last
line.

A module of `peers` calls `answer` with its functions: `measure`, and `work` if its workers are a process of their own.
Every contender has the same function as its task: it takes a number and returns the next. A result that is not the next
number ends the run, so only tasks that were done are counted.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from bench.durability.waiters import Outcome
from bench.tasks.clients import run_clients
from bench.tasks.cpu import Processor

ROOT: Final = Path(__file__).parents[2]
WARM_UP_SHARE: Final = 0.15
"""Share of the time that is a warm-up and not measured: connections and workers start, caches fill."""
END_S: Final = 10.0
"""How long a worker may take to end before it is killed."""

Figures = dict[str, float]
RunT = TypeVar("RunT")


@attrs.frozen(kw_only=True)
class Parameters:
    """The parameters of one measurement of a contender."""

    workload: str
    """One of `registry.WORKLOADS`."""
    seconds: float
    folder: str
    """An empty directory on the disk to measure."""
    clients: int = 1
    """Number of clients that start runs at the same time."""
    in_flight: int = 1
    """Number of runs that each client waits for at once."""
    workers: int = 1
    """Number of tasks that the contender's workers do at once; its module says what that means."""
    server: str = ""
    """Address of its server."""
    server_pid: int = 0
    """Process of the server, whose processor time counts; 0 if there is none."""

    def line(self) -> str:
        return json.dumps(attrs.asdict(self))


def work(number: int) -> int:
    """The task."""
    return number + 1


def figures(outcome: Outcome, tasks_each: int = 1) -> Figures:
    """The figures of a measurement: runs and tasks per second, latencies of a run, and CPU seconds per task."""
    runs = len(outcome.acknowledged)
    if not runs:
        raise RuntimeError("no run ended")
    return {
        "rate": runs * tasks_each / outcome.seconds,
        "p50": outcome.quantile(0.5),
        "p99": outcome.quantile(0.99),
        "cpu": outcome.cpu_s / (runs * tasks_each),
    }


def measured(start: Callable[[int], RunT], finish: Callable[[RunT], int], parameters: Parameters) -> Figures:
    """Let clients in threads start runs and wait for them.

    Args:
        start: takes a number, begins a run, and returns it once it is durable.
        finish: waits until a run has ended, and returns its result.
        parameters: number of clients, and duration.
    """
    numbers = itertools.count(1)
    processor = Processor((parameters.server_pid,))

    def asked(seconds: float) -> Outcome:
        return run_clients(
            start,
            finish,
            clients=parameters.clients,
            in_flight=parameters.in_flight,
            seconds=seconds,
            numbers=numbers,
            processor=processor,
        )

    asked(parameters.seconds * WARM_UP_SHARE)
    return figures(asked(parameters.seconds))


@contextlib.contextmanager
def workers(module: str, parameters: Parameters) -> Iterator[None]:
    """Run a contender's workers in a process of their own, and end it."""
    command = [sys.executable, "-m", module, "work", parameters.line()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def answer(measure: Callable[[Parameters], Figures], work: Callable[[Parameters], Any] | None = None) -> None:
    """Carry out the role that the command line names."""
    role, line = sys.argv[1:]
    parameters = Parameters(**json.loads(line))
    if role == "work":
        assert work is not None, "its workers have no process of their own"
        work(parameters)
        return
    # Some contenders leave threads behind that would keep the process alive; the figures are printed.
    print(json.dumps(measure(parameters)), flush=True)
    os._exit(0)
