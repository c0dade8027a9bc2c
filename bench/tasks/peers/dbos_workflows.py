"""DBOS: a workflow of one step, its state in SQLite or, where a server is given, in PostgreSQL.

Sequential and threads: clients call the workflow, which runs where it is called. Queue: clients enqueue it, a queue of
the same process takes it up, `workers` at a time, and clients wait for the handle. Polling intervals are 10 ms, because
the default of a second would dominate the measurement. SQLite is used as DBOS opens it, with a rollback journal and
synchronous=FULL, which syncs the files at every commit.
"""

from pathlib import Path

from dbos import DBOS

from bench.tasks import protocol
from bench.tasks.protocol import Figures, Parameters, answer, measured

POLLING_S = 0.01


@DBOS.step()
def step(number: int) -> int:
    return protocol.work(number)


@DBOS.workflow()
def workflow(number: int) -> int:
    return int(step(number))


def measure(parameters: Parameters) -> Figures:
    url = parameters.server or f"sqlite:///{Path(parameters.folder) / 'dbos.sqlite'}"
    DBOS(config={"name": "bench-tasks", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    if parameters.workload != "queue":
        return measured(workflow, lambda number: number, parameters)
    DBOS.register_queue("measured", worker_concurrency=parameters.workers, polling_interval_sec=POLLING_S)
    return measured(
        lambda number: DBOS.enqueue_workflow("measured", workflow, number),
        lambda handle: handle.get_result(polling_interval_sec=POLLING_S),
        parameters,
    )


if __name__ == "__main__":
    answer(measure)
