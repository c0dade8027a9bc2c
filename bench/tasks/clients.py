"""Clients in threads: each starts runs, waits for the oldest of them, and starts another one for it.

They begin together, and none starts another run once the time is over; the clock stops at the last result.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bench.durability.waiters import Outcome
from bench.tasks.cpu import Processor

RunT = TypeVar("RunT")


class WrongResultError(Exception):
    """The result of a run is not the one that its task returns."""

    def __init__(self, number: int, result: object) -> None:
        super().__init__(f"the run that was given {number} returned {result!r}")


def run_clients(
    start: Callable[[int], RunT],
    finish: Callable[[RunT], int],
    *,
    clients: int,
    in_flight: int,
    seconds: float,
    numbers: Iterator[int],
    processor: Processor,
) -> Outcome:
    """Let all clients start runs for a time."""
    clock = time.perf_counter

    def ask(until: float) -> list[tuple[int, float]]:
        waiting: deque[tuple[int, float, RunT]] = deque()
        ended = []
        while waiting or clock() < until:
            while len(waiting) < in_flight and clock() < until:
                number, began = next(numbers), clock()
                waiting.append((number, began, start(number)))
            if waiting:
                number, began, run = waiting.popleft()
                result = finish(run)
                if result != number + 1:
                    raise WrongResultError(number, result)
                ended.append((number, clock() - began))
        return ended

    with ThreadPoolExecutor(clients) as threads:
        started, cpu_started = clock(), processor.seconds()
        asked = [threads.submit(ask, started + seconds) for _ in range(clients)]
        ended = [each for future in asked for each in future.result()]
        lasted, cpu_s = clock() - started, processor.seconds() - cpu_started
    return Outcome(
        seconds=lasted,
        cpu_s=cpu_s,
        latencies=sorted(latency for _, latency in ended),
        acknowledged=[number for number, _ in ended],
    )
