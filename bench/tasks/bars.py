"""What opscore has to reach; computed on the medians of one run."""

from collections.abc import Iterator, Mapping
from typing import Final

from bench.page import Verdict
from bench.tasks.sizes import LARGEST, SMALLEST

Medians = Mapping[str, Mapping[str, float]]
"""The medians by contender or size, and by figure."""

DBOS: Final = "DBOS, SQLite"
QUEUES: Final = ("huey", "dramatiq", "Celery", "Procrastinate")
SEQUENTIAL_TIMES: Final = 3.0
SEQUENTIAL_P50_S_MAX: Final = 0.0025
CONCURRENT_TIMES_DBOS: Final = 20.0
CONCURRENT_TIMES_QUEUES: Final = 3.0
CHAIN_RATE_MIN: Final = 3_000.0
GROWTH_TIMES_MAX: Final = 2.0
MEMORY_BYTES_MAX: Final = 400_000_000
NOT_MEASURED: Final = "not measured"


def best_of_dbos(medians: Medians) -> float | None:
    """Return the highest rate of DBOS on SQLite over all ways to call it; None unless all were measured."""
    rates = [medians.get(DBOS, {}).get(f"rate@{way}") for way in ("sequential", "threads", "queue")]
    return _highest(rates)


def best_of_queues(medians: Medians) -> float | None:
    """Return the highest rate of the task queues; None unless all of them were measured."""
    return _highest([medians.get(queue, {}).get("rate@concurrent") for queue in QUEUES])


def task_verdicts(medians: Medians) -> Iterator[Verdict]:
    """Compare rates and latency with their bars."""
    ours = medians.get("opscore", {})
    yield _times(
        "one run at a time",
        ours.get("rate@sequential"),
        SEQUENTIAL_TIMES,
        f"{DBOS}, called directly",
        (medians.get(DBOS, {}).get("rate@sequential")),
    )
    p50 = ours.get("p50@sequential")
    yield Verdict(
        bar=f"one run at a time, median ≤ {SEQUENTIAL_P50_S_MAX * 1_000:g} ms",
        measured=NOT_MEASURED if p50 is None else f"{p50 * 1_000:.2f} ms",
        passed=None if p50 is None else p50 <= SEQUENTIAL_P50_S_MAX,
    )
    rate = ours.get("rate@concurrent")
    yield _times("100 runs at once", rate, CONCURRENT_TIMES_DBOS, f"the best of {DBOS}", best_of_dbos(medians))
    yield _times(
        "100 runs at once", rate, CONCURRENT_TIMES_QUEUES, f"the best of {', '.join(QUEUES)}", best_of_queues(medians)
    )
    chain = ours.get("rate@chain")
    yield Verdict(
        bar=f"100 runs at once of 10 tasks ≥ {CHAIN_RATE_MIN:,.0f} tasks/s",
        measured=NOT_MEASURED if chain is None else f"{chain:,.0f} tasks/s",
        passed=None if chain is None else chain >= CHAIN_RATE_MIN,
    )


def size_verdicts(medians: Medians) -> Iterator[Verdict]:
    """Compare the cost of a decision, and memory, with their bars."""
    small, large = medians.get(SMALLEST.name, {}), medians.get(LARGEST.name, {})
    for figure, what in (("decision", "MatchBook, a decision"), ("task_cpu", "the whole runtime, CPU a task")):
        least, most = small.get(figure), large.get(figure)
        growth = None if least is None or most is None else most / least
        yield Verdict(
            bar=f"{what}: {LARGEST.name} ≤ {GROWTH_TIMES_MAX:g} × {SMALLEST.name}",
            measured=NOT_MEASURED if growth is None else f"{growth:.2f} ×",
            passed=None if growth is None else growth <= GROWTH_TIMES_MAX,
        )
    for figure, what in (("anonymous", "memory of its own"), ("resident", "with the pages of the store, resident")):
        taken = large.get(figure)
        yield Verdict(
            bar=f"{what}: {LARGEST.name} ≤ {MEMORY_BYTES_MAX / 1e6:g} MB",
            measured=NOT_MEASURED if taken is None else f"{taken / 1e6:,.0f} MB",
            passed=None if taken is None else taken <= MEMORY_BYTES_MAX,
        )


def _times(what: str, mine: float | None, times: float, whose: str, theirs: float | None) -> Verdict:
    measured = mine is not None and theirs is not None
    ratio = mine / theirs if mine is not None and theirs is not None else 0.0
    return Verdict(
        bar=f"{what} ≥ {times:g} × {whose}",
        measured=f"{ratio:.2f} ×" if measured else NOT_MEASURED,
        passed=ratio >= times if measured else None,
    )


def _highest(rates: list[float | None]) -> float | None:
    found = [rate for rate in rates if rate is not None]
    return max(found) if len(found) == len(rates) else None
