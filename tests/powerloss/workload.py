"""The program that is recorded: it writes a store in an empty directory and marks what it was promised.

Its arguments are the workload, the data directory, a seed and what to do wrong, if anything.
"""

import contextlib
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import trio

from opscore.runtime.journal.writer import ThreadWriter
from opscore.runtime.models import Assignment
from opscore.runtime.node import Node, open_node
from opscore.runtime.store import JOURNAL_TABLE, Delete, Expect, Outcomes, Put, Store, Submission
from tests.powerloss.ledger import MAP_BYTES, TABLES, Ledger, careless, open_store

BATCHES: Final = 150
RUNS: Final = 40
RUNS_AT_ONCE: Final = 4
KEYS: Final = 120
WRONG: Final[dict[str, Callable[[], AbstractContextManager[object]]]] = {
    "nothing": contextlib.nullcontext,
    "early": contextlib.nullcontext,
    "no sync": lambda: careless(sync=False),
    "no metasync": lambda: careless(metasync=False),
}
CHAIN: Final = {
    "id": "chain",
    "tasks": [
        {"taskId": "first", "agentCapability": "work", "nextTaskId": "second"},
        {"taskId": "second", "agentCapability": "other"},
    ],
}


def store(path: Path, rng: random.Random, ledger: Ledger) -> None:
    """Commit batches of every size, and open the store anew now and then."""
    left = BATCHES
    while left:
        with open_store(path, "store") as opened:
            ledger.marker.mark(opened=True)
            for _ in range(min(left, rng.randint(20, 80))):
                left -= 1
                batch = any_batch(rng, ledger)
                with ledger.commit(batch) as outcomes:
                    outcomes.extend(opened.apply(batch))


def any_batch(rng: random.Random, ledger: Ledger) -> list[Submission]:
    """Mostly small, at times one that splits many pages or removes most of a table."""
    kind = rng.random()
    if kind < 0.03:
        keys = [key for key in ledger.contents.keys("right") if rng.random() < 0.8]
        return [Submission(writes=tuple(Delete("right", key) for key in keys))]
    count = rng.randint(50, 150) if kind < 0.08 else rng.randint(1, 8)
    return [any_submission(rng, ledger, large=kind > 0.9) for _ in range(count)]


def any_submission(rng: random.Random, ledger: Ledger, *, large: bool) -> Submission:
    writes = tuple(any_write(rng, large=large and number == 0) for number in range(rng.randint(1, 3)))
    records = tuple(Put(JOURNAL_TABLE, b"", any_body(rng, 200), 1) for _ in range(rng.choice([0, 0, 0, 1, 2])))
    first = writes[0]
    # Another one of the batch may be first: then this one is refused, and alone.
    guard = Expect(first.table, first.key, ledger.contents.version(first.table, first.key))
    return Submission(expects=(guard,) if rng.random() < 0.3 else (), writes=writes, records=records)


def any_write(rng: random.Random, *, large: bool) -> Put | Delete:
    table = rng.choice(TABLES["store"])
    key = b"%04d" % rng.randrange(KEYS)
    if rng.random() < 0.1:
        key = key.ljust(rng.randint(100, 500), b"-")
    if rng.random() < 0.25:
        return Delete(table, key)
    return Put(table, key, any_body(rng, 100_000 if large else rng.choice([20, 20, 300, 3_000])), rng.randint(1, 3))


def any_body(rng: random.Random, most: int) -> bytes:
    return rng.randbytes(rng.randint(0, most))


class MarkingWriter:
    """A node's writer whose every batch stands in the ledger."""

    def __init__(self, opened: Store, ledger: Ledger) -> None:
        self._writer = ThreadWriter(opened)
        self._ledger = ledger

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        with self._ledger.commit(batch) as outcomes:
            outcomes.extend(await self._writer.apply(batch))
        return outcomes

    async def settled(self) -> None:
        await self._writer.settled()

    def close(self) -> None:
        self._writer.close()


async def node(path: Path, ledger: Ledger) -> None:
    """Run workflows with local agents, some at a time."""
    mark = ledger.marker.mark
    async with open_node(path, map_bytes=MAP_BYTES, make_writer=lambda opened: MarkingWriter(opened, ledger)) as opened:
        mark(opened=True)
        await hire(opened)
        numbers = iter(range(RUNS))

        async def run_in_turn() -> None:
            for number in numbers:
                mark(asked=number)
                session = await opened.trigger(CHAIN, payload={"number": number})
                mark(accepted=number)
                ended = await opened.wait(session.session_id)
                assert ended.result == {"second": number}
                mark(completed=number)

        async with trio.open_nursery() as nursery:
            for _ in range(RUNS_AT_ONCE):
                nursery.start_soon(run_in_turn)


async def hire(opened: Node) -> None:
    """Register the agents that the workflow needs; each answers with the run's number."""

    async def work(task: Assignment) -> int:
        number: int = task.input["number"]
        return number

    for name, capability in (("ada", "work"), ("ben", "work"), ("cyd", "other")):
        await opened.register_agent(name, capabilities=[capability], handler=work)


def main(workload: str, path: Path, seed: int, wrong: str) -> None:
    ledger = Ledger(early=wrong == "early")
    with WRONG[wrong]():
        if workload == "store":
            store(path, random.Random(seed), ledger)
        else:
            trio.run(node, path, ledger)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
