"""dramatiq: queue and results in Redis, which syncs its append-only file before it answers.

A worker of `workers` threads runs in a process of its own, and looks for messages every 5 ms at least; clients wait
for results in Redis, as dramatiq does it.
"""

import signal
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.tasks import protocol
from bench.tasks.protocol import Figures, Parameters, answer, measured, workers

POLLING_MS = 5
TIMEOUT_MS = 60_000


def actor(parameters: Parameters) -> tuple[RedisBroker, Any]:
    url = f"unix://{parameters.server}"
    broker = RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True))
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(actor_name="work", broker=broker)(protocol.work)


def measure(parameters: Parameters) -> Figures:
    _, work_actor = actor(parameters)
    with workers("bench.tasks.peers.dramatiq_redis", parameters):
        return measured(
            work_actor.send, lambda message: int(message.get_result(block=True, timeout=TIMEOUT_MS)), parameters
        )


def work(parameters: Parameters) -> None:
    broker, _ = actor(parameters)
    worker = dramatiq.Worker(broker, worker_threads=parameters.workers, worker_timeout=POLLING_MS)
    worker.start()
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pause()
    worker.stop()


if __name__ == "__main__":
    answer(measure, work)
