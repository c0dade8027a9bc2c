"""huey: a queue and results in one SQLite file, write-ahead log, synchronous=FULL.

A consumer of `workers` threads runs in a process of its own; it and the clients poll every millisecond or two. huey
takes a task out of its queue before it runs it, so one that is under way when the consumer dies is gone: it promises
less than the others.
"""

import os
from pathlib import Path

from huey import SqliteHuey
from huey.api import TaskWrapper

from bench.tasks import protocol
from bench.tasks.protocol import Figures, Parameters, answer, measured, workers

POLLING_S = 0.001
TIMEOUT_S = 60.0


def queue(parameters: Parameters) -> tuple[SqliteHuey, TaskWrapper]:
    path = Path(parameters.folder) / "huey.sqlite"
    opened = SqliteHuey("measured", filename=os.fspath(path), fsync=True, timeout=TIMEOUT_S)
    return opened, opened.task(name="work")(protocol.work)


def measure(parameters: Parameters) -> Figures:
    _, task = queue(parameters)
    with workers("bench.tasks.peers.huey_sqlite", parameters):
        return measured(
            task, lambda result: int(result.get(blocking=True, timeout=TIMEOUT_S, max_delay=POLLING_S)), parameters
        )


def work(parameters: Parameters) -> None:
    opened, _ = queue(parameters)
    opened.create_consumer(
        workers=parameters.workers, periodic=False, initial_delay=POLLING_S, max_delay=2 * POLLING_S
    ).run()


if __name__ == "__main__":
    answer(measure, work)
