"""Celery: queue and results in Redis, which syncs its append-only file before it answers.

A worker with a pool of `workers` threads runs in a process of its own. A task is acknowledged once it has ended
(`task_acks_late`), so that a worker that dies loses none; results are kept.
"""

from typing import Any

from celery import Celery

from bench.tasks import protocol
from bench.tasks.protocol import Figures, Parameters, answer, measured, workers

TIMEOUT_S = 60.0


def application(parameters: Parameters) -> tuple[Celery, Any]:
    url = f"redis+socket://{parameters.server}"
    app = Celery("measured", broker=url, backend=url)
    app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
    return app, app.task(name="work")(protocol.work)


def measure(parameters: Parameters) -> Figures:
    _, task = application(parameters)
    with workers("bench.tasks.peers.celery_redis", parameters):
        return measured(task.delay, lambda result: int(result.get(timeout=TIMEOUT_S)), parameters)


def work(parameters: Parameters) -> None:
    app, _ = application(parameters)
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR")
    app.worker_main(["worker", "--pool=threads", f"--concurrency={parameters.workers}", *quiet])


if __name__ == "__main__":
    answer(measure, work)
