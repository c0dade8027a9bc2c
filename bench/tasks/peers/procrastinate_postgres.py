"""Procrastinate: jobs in PostgreSQL, with fsync and synchronous_commit on, as they are by default.

A worker that does `workers` jobs at once runs in a process of its own, and is notified of new ones. Procrastinate
keeps no results: a client looks every 2 ms whether its job has succeeded.
"""

import asyncio
import threading
import time

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from bench.tasks import protocol
from bench.tasks.protocol import Figures, Parameters, answer, measured, workers

POLLING_S = 0.002
FETCHING_S = 0.05
"""Interval at which the worker polls for jobs whose notification it missed; 5 s by default."""
TIMEOUT_S = 60.0
CONNECTIONS_MAX = 20
STATUS = "SELECT status FROM procrastinate_jobs WHERE id = %s"


class Looking:
    """Waits for jobs, with a connection of its own for each thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()

    def ended(self, job: tuple[int, int]) -> int:
        """Return the next number once the job has succeeded: Procrastinate keeps no result to return."""
        job_id, number = job
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._url, autocommit=True)
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            row = self._local.connection.execute(STATUS, (job_id,)).fetchone()
            if row is None or row[0] in {"failed", "cancelled", "aborted"}:
                raise RuntimeError(f"job {job_id} is {row}")
            if row[0] == "succeeded":
                return number + 1
            time.sleep(POLLING_S)
        raise TimeoutError(f"job {job_id} has not ended in {TIMEOUT_S:g} s")


def measure(parameters: Parameters) -> Figures:
    app = App(connector=SyncPsycopgConnector(conninfo=parameters.server, min_size=1, max_size=CONNECTIONS_MAX))
    task = app.task(name="work")(protocol.work)
    with app.open():
        app.schema_manager.apply_schema()
        looking = Looking(parameters.server)
        with workers("bench.tasks.peers.procrastinate_postgres", parameters):
            return measured(lambda number: (task.defer(number=number), number), looking.ended, parameters)


async def served(parameters: Parameters) -> None:
    app = App(connector=PsycopgConnector(conninfo=parameters.server, min_size=1, max_size=CONNECTIONS_MAX))

    @app.task(name="work")
    async def _(number: int) -> int:
        return protocol.work(number)

    async with app.open_async():
        await app.run_worker_async(concurrency=parameters.workers, fetch_job_polling_interval=FETCHING_S)


def work(parameters: Parameters) -> None:
    asyncio.run(served(parameters))


if __name__ == "__main__":
    answer(measure, work)
