"""opscore: sessions whose tasks go to local agents of the same process, through the public API.

`clients` is the number of triggers that wait at once, and of agents. Garbage is collected as seldom as by
`opscore serve`, as the guide to embedding recommends. Afterwards the store is opened again, and every session that was
waited for has to be completed in it.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import trio

import opscore
from bench.durability.waiters import Outcome, run_waiters
from bench.tasks.protocol import WARM_UP_SHARE, Figures, Parameters, answer, figures, work
from bench.tasks.sessions import CAPABILITY, MAP_BYTES, TASKS_EACH, check_completed, check_result, workflow
from opscore.gateway.process.garbage import collect_seldom


async def count(task: opscore.Assignment) -> int:
    return work(task.input["number"])


async def run(parameters: Parameters, acknowledged: set[str]) -> tuple[Outcome, Callable[[str], float]]:
    tasks = TASKS_EACH[parameters.workload]
    async with opscore.open_runtime(parameters.folder, map_bytes=MAP_BYTES) as runtime:
        for index in range(parameters.clients):
            await runtime.register_agent(f"agent-{index:05}", capabilities=[CAPABILITY], handler=count)
        saved = await runtime.save_definition(workflow(tasks))

        async def submit(_: int, number: int) -> None:
            session = await runtime.trigger(saved.workflow_id, payload={"number": number})
            check_result(await runtime.wait(session.session_id), number, tasks)
            acknowledged.add(session.session_id)

        numbers = itertools.count(1)

        async def waited(seconds: float) -> Outcome:
            return await run_waiters(submit, waiters=parameters.clients, seconds=seconds, numbers=numbers)

        collect_seldom()
        await waited(parameters.seconds * WARM_UP_SHARE)
        before = runtime.statistics().journal
        outcome = await waited(parameters.seconds)
        after = runtime.statistics().journal
        return outcome, lambda name: float(getattr(after, name) - getattr(before, name))


def measure(parameters: Parameters) -> Figures:
    acknowledged: set[str] = set()
    outcome, grown = trio.run(run, parameters, acknowledged)
    tasks = TASKS_EACH[parameters.workload]
    check_completed(Path(parameters.folder), acknowledged, tasks)
    done = len(outcome.acknowledged) * tasks
    return figures(outcome, tasks) | {"commits": grown("submissions") / done, "syncs": grown("batches") / done}


if __name__ == "__main__":
    answer(measure)
