"""What dispatch costs at a size: `python -m bench.tasks.size book|runtime AGENTS TASKS SECONDS FOLDER`.

Each measurement has a process of its own, which prints its figures as JSON. The tasks wait before the first agent is
there; they have ten capabilities and ten priorities, drawn from a seed. Then the agents come, and each is idle again as
soon as it has done its task.

book: `MatchBook` alone, which decides which agent gets which task. Every task is put into it and matched, and its offer
is closed. The rest of a long line is read from a list that stands for the store. This is repeated until the time is
over, and every task has to be matched once. The cost is processor time.

runtime: a complete node. The tasks are sessions of their own, triggered through the API and durable before the first
agent registers. Agents are local functions, which get their first task when they register and hold it until all have
registered. Then the clock runs until the time is over or no task is left. A hundred agents at a time are between two
tasks: whenever one is given another task, the agent that has held its task for the longest time ends it. So, at every
size, as much is in progress when the clock starts as when it stops. Garbage is collected as seldom as by `opscore
serve`. The cost is processor time, which does not depend on the disk. Memory is read while all tasks wait and again at
the end, and the larger value counts: anonymous memory is the process's own, the rest is mostly pages of the store,
which the kernel can reclaim.
"""

import bisect
import gc
import json
import math
import resource
import sys
import time
from collections import deque
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

import opscore
from bench.durability.opening_process import memory
from bench.tasks.sessions import MAP_BYTES
from opscore.gateway.process.garbage import collect_seldom
from opscore.runtime.dispatch.matching import Match, MatchBook
from opscore.runtime.limits import Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.to_dispatcher import OfferEnded, OfferOutcome
from opscore.runtime.waiting import LinePage, ReadyTask, Requirement

SEED: Final = 7
CAPABILITIES: Final = tuple(f"capability-{index}" for index in range(10))
PRIORITIES: Final = 10
TRIGGERS_AT_ONCE: Final = 1_000
BETWEEN_TASKS: Final = 100

Figures = dict[str, float]


class UnmatchedError(Exception):
    """Some task was not given to an agent exactly once."""

    def __init__(self, matched: int, tasks: int) -> None:
        super().__init__(f"{matched} of {tasks} tasks were matched")


# --- the book ------------------------------------------------------------------------------------------------


def ready_tasks(count: int) -> list[ReadyTask]:
    random = Random(SEED)
    return [
        ReadyTask(
            task_id=f"ses_{number:026}.0",
            session_id=f"ses_{number:026}",
            capability=random.choice(CAPABILITIES),
            agent_id=None,
            preferred_agent_id=None,
            priority=random.randrange(PRIORITIES),
            ready_at=float(number),
            workflow_id="one",
        )
        for number in range(count)
    ]


def free_agents(count: int) -> list[AgentAvailable]:
    return [
        AgentAvailable(
            agent_id=f"agent-{number:05}", capabilities=(CAPABILITIES[number % len(CAPABILITIES)],), version=1, as_of=1
        )
        for number in range(count)
    ]


class _Rows:
    """The waiting tasks in the order of their lines; it stands for the store, from which long lines are read."""

    def __init__(self, tasks: list[ReadyTask]) -> None:
        self._lines: dict[Requirement, list[tuple[float, str]]] = {}
        self._tasks = {task.task_id: task for task in tasks}
        for task in tasks:
            self._lines.setdefault(task.requirement, []).append((task.rank, task.task_id))
        for line in self._lines.values():
            line.sort()

    def read_on(self, book: MatchBook, window: int, now: float) -> list[Match]:
        """Give the book the pages that it asks for; return the matches that follow."""
        found: list[Match] = []
        for requirement, after in list(book.take_wanted()):
            line = self._lines[requirement]
            begin = bisect.bisect_right(line, after)
            places = line[begin : begin + window]
            page = LinePage(
                requirement=requirement,
                tasks=tuple(self._tasks[task_id] for _, task_id in places),
                reached=places[-1] if len(places) == window else None,
            )
            found += book.take_page(page, now)
        return found


def played(tasks: list[ReadyTask], agents: list[AgentAvailable]) -> tuple[float, float, int]:
    """Match every task; return the processor seconds to put them in line, those for the rest, and the matches."""
    rows, limits = _Rows(tasks), Limits()
    book, now = MatchBook(limits), float(len(tasks))
    clock = time.process_time
    began = clock()
    for task in tasks:
        book.task_ready(task, 0, now)
    in_line = clock()
    under_way: list[Match] = [match for agent in agents for match in book.agent_available(agent, now)]
    under_way += rows.read_on(book, limits.line_window, now)
    matched: list[str] = []
    while under_way:
        following: list[Match] = []
        for match in under_way:
            matched.append(match.task.task_id)
            taken = OfferEnded(
                task_id=match.task.task_id, agent_id=match.agent.agent_id, outcome=OfferOutcome.TAKEN, version=2
            )
            book.offer_ended(taken, now)
            # The agent has done its task and is idle again.
            following += book.agent_available(match.agent, now)
            following += rows.read_on(book, limits.line_window, now)
        under_way = following
    ended = clock()
    if len(set(matched)) != len(tasks) or len(matched) != len(tasks):
        raise UnmatchedError(len(matched), len(tasks))
    return in_line - began, ended - in_line, len(matched)


def book(agents: int, tasks: int, seconds: float) -> Figures:
    """Repeat the measurement; the cost is in processor seconds per task."""
    waiting, free = ready_tasks(tasks), free_agents(agents)
    in_line = decided = 0.0
    matches = 0
    until = time.perf_counter() + seconds
    while not matches or time.perf_counter() < until:
        gc.collect()
        one, other, count = played(waiting, free)
        in_line, decided, matches = in_line + one, decided + other, matches + count
    return {"in_line": in_line / matches, "decision": decided / matches}


# --- the whole runtime ---------------------------------------------------------------------------------------


def workflow(capability: str, priority: int) -> dict[str, Any]:
    task = {"taskId": "work", "agentCapability": capability, "priority": priority}
    return {"id": f"{capability}-{priority}", "tasks": [task]}


class _Work:
    """What agents do: hold a task for as long as `BETWEEN_TASKS` others are between two of theirs."""

    def __init__(self, tasks: int) -> None:
        self._to_begin = self._to_end = tasks
        self._holding: deque[trio.Event] = deque()
        self._running = False
        self.last: dict[str, str] = {}
        """The last run of each agent."""
        self.done = trio.Event()

    def begin(self) -> None:
        """Set once all agents have registered."""
        self._running = True
        self._let_go(BETWEEN_TASKS)

    async def do(self, task: opscore.Assignment) -> None:
        self._to_begin -= 1
        may_end = trio.Event()
        self._holding.append(may_end)
        if self._running:
            # Once no task is left, nobody is given another that would have the rest end.
            self._let_go(1 if self._to_begin else len(self._holding))
        await may_end.wait()
        self._to_end -= 1
        self.last[task.agent_id] = task.session_id
        if not self._to_end:
            self.done.set()

    def _let_go(self, count: int) -> None:
        for _ in range(min(count, len(self._holding))):
            self._holding.popleft().set()


async def _triggered(runtime: opscore.Node, tasks: int) -> None:
    """Trigger a number of sessions, many at a time."""
    random = Random(SEED)
    for capability in CAPABILITIES:
        for priority in range(PRIORITIES):
            await runtime.save_definition(workflow(capability, priority))

    async def trigger(count: int) -> None:
        for _ in range(count):
            await runtime.trigger(f"{random.choice(CAPABILITIES)}-{random.randrange(PRIORITIES)}")

    at_once = min(TRIGGERS_AT_ONCE, tasks)
    async with trio.open_nursery() as nursery:
        for index in range(at_once):
            nursery.start_soon(trigger, tasks // at_once + (index < tasks % at_once))


async def _registered(runtime: opscore.Node, agents: int, work: _Work) -> None:
    async def register(numbers: range) -> None:
        for number in numbers:
            capability = CAPABILITIES[number % len(CAPABILITIES)]
            await runtime.register_agent(f"agent-{number:05}", capabilities=[capability], handler=work.do)

    at_once = min(TRIGGERS_AT_ONCE, agents)
    async with trio.open_nursery() as nursery:
        for index in range(at_once):
            nursery.start_soon(register, range(index, agents, at_once))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def runtime(agents: int, tasks: int, seconds: float, folder: Path) -> Figures:
    """Let a node work for a time; the cost is in processor seconds per task, memory in bytes."""
    work = _Work(tasks)
    async with opscore.open_runtime(folder, map_bytes=MAP_BYTES) as node:
        collect_seldom()
        began, cpu_began = time.perf_counter(), _cpu_s()
        await _triggered(node, tasks)
        triggered, cpu_triggered = time.perf_counter() - began, _cpu_s() - cpu_began
        await _registered(node, agents, work)
        before = memory()
        began, cpu_began = time.perf_counter(), _cpu_s()
        work.begin()
        with trio.move_on_after(seconds) as scope:
            await work.done.wait()
            # The last ones are about to be committed.
            for session_id in work.last.values():
                await node.wait(session_id)
        lasted, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_began
        done = tasks - (node.statistics().open_sessions if scope.cancelled_caught else 0)
        after = memory()
    if not done:
        raise UnmatchedError(0, tasks)
    largest = max((before, after), key=lambda figures: math.fsum(figures.values()))
    return {
        "trigger_rate": tasks / triggered,
        "trigger_cpu": cpu_triggered / tasks,
        "task_rate": done / lasted,
        "task_cpu": cpu_s / done,
        "done": float(done),
        "resident": largest["anonymous"] + largest["file"],
        "anonymous": largest["anonymous"],
    }


def main() -> None:
    what, agents, tasks, seconds, folder = sys.argv[1:]
    if what == "book":
        figures = book(int(agents), int(tasks), float(seconds))
    else:
        figures = trio.run(runtime, int(agents), int(tasks), float(seconds), Path(folder))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
