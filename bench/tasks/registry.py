"""The workloads and the contenders: where each is implemented, what it needs, and which settings are tried."""

import importlib.metadata
from typing import Final

import attrs

from bench.page import Figure
from bench.tasks.servers import SERVERS

TRIED_WORKERS: Final = (1, 10, 100)


@attrs.frozen(kw_only=True)
class Workload:
    """How runs are started."""

    title: str
    clients: int
    in_flight: int = 1
    """Runs that each client waits for at once."""


@attrs.frozen(kw_only=True)
class Entry:
    """One contender."""

    module: str
    """The module in `bench.tasks.peers`."""
    workloads: dict[str, Workload]
    used: str
    """How the contender is used, in a few words."""
    package: str | None = None
    """The distribution that has to be installed beside opscore."""
    server: str | None = None
    """The name in `SERVERS` of the server that it needs."""
    tried: tuple[str, ...] = ()
    """The workloads for which numbers of workers are tried before the rounds; the best is taken."""

    def missing(self) -> str | None:
        """Return what is not installed and how to install it, or None."""
        if self.package is not None:
            try:
                importlib.metadata.version(self.package)
            except importlib.metadata.PackageNotFoundError:
                return f"{self.package} is not installed (pip install --group bench-tasks)"
        lacks = SERVERS[self.server].missing() if self.server is not None else None
        if self.server is None or lacks is None:
            return None
        return f"{lacks} is not installed ({SERVERS[self.server].install})"


SEQUENTIAL: Final = Workload(title="one run at a time", clients=1)
WAITING: Final = {
    "sequential": SEQUENTIAL,
    "concurrent": Workload(title="100 runs at once", clients=100),
    "chain": Workload(title="100 runs at once, of 10 tasks in a row", clients=100),
}
"""Workloads whose clients are trio tasks: each waits for its own run."""
QUEUED: Final = Workload(title="100 runs at once", clients=10, in_flight=10)
THREADED: Final = Workload(title="10 threads, a run at a time each", clients=10)
CALLED: Final = {
    "sequential": SEQUENTIAL,
    "threads": THREADED,
    "queue": attrs.evolve(QUEUED, title="100 runs at once, through its queue"),
}

CONTENDERS: Final = {
    "opscore": Entry(
        module="opscore_sessions", workloads=WAITING, used="local agents, as many as runs are waited for at once"
    ),
    "floor": Entry(
        module="floor", workloads=WAITING, used="what opscore's sessions commit, put into its store by nothing else"
    ),
    "DBOS, SQLite": Entry(
        module="dbos_workflows",
        workloads=CALLED,
        used="a workflow of one step",
        package="dbos",
        tried=("queue",),
    ),
    "DBOS, PostgreSQL": Entry(
        module="dbos_workflows",
        workloads=CALLED,
        used="the same",
        package="dbos",
        server="postgres",
        tried=("queue",),
    ),
    "huey": Entry(
        module="huey_sqlite",
        workloads={"sequential": SEQUENTIAL, "concurrent": QUEUED},
        used="SQLite, synchronous=FULL, threads",
        package="huey",
        tried=("concurrent",),
    ),
    "dramatiq": Entry(
        module="dramatiq_redis",
        workloads={"sequential": SEQUENTIAL, "concurrent": QUEUED},
        used="Redis, appendfsync always, threads",
        package="dramatiq",
        server="redis",
        tried=("concurrent",),
    ),
    "Celery": Entry(
        module="celery_redis",
        workloads={"sequential": SEQUENTIAL, "concurrent": QUEUED},
        used="Redis, appendfsync always, late acknowledgement, results kept, threads",
        package="celery",
        server="redis",
        tried=("concurrent",),
    ),
    "Procrastinate": Entry(
        module="procrastinate_postgres",
        workloads={"sequential": SEQUENTIAL, "concurrent": QUEUED},
        used="PostgreSQL, fsync and synchronous_commit on",
        package="procrastinate",
        server="postgres",
        tried=("concurrent",),
    ),
}
WORKLOADS: Final = {**WAITING, **CALLED}
FIGURES: Final = {
    "rate": Figure(title="tasks", unit="1/s"),
    "p50": Figure(title="a run, median", unit="ms", scale=1_000, form="{:,.2f}"),
    "p99": Figure(title="a run, p99", unit="ms", scale=1_000, form="{:,.2f}"),
    "cpu": Figure(title="CPU a task, all processes", unit="ms", scale=1_000, form="{:,.2f}"),
    "commits": Figure(title="commits a task", unit="", form="{:,.1f}"),
    "syncs": Figure(title="syncs a task", unit="", form="{:,.3f}"),
}
LATENCIES: Final = ("p50", "p99")
"""Shown only for one run at a time: with many, latencies mostly depend on how many runs are started."""
