"""Local agents: async functions of the host's own process."""

import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from opscore.runtime.agents.context import SayAlive, TaskContext, working_on
from opscore.runtime.agents.home import Home
from opscore.runtime.agents.raised import logged
from opscore.runtime.delivery import TIMEOUT, Fact, Raised, Returned
from opscore.runtime.evolving import evolve
from opscore.runtime.models import Agent, AgentSource, Assignment
from opscore.runtime.values import deep_copy

Handler = Callable[[Assignment], Awaitable[Any]]
"""Takes an attempt and returns its result as JSON values, or raises to fail it: a `TaskFailed`, or anything else.

It may call `current_task`.
"""
LEFT_OPEN: Final = (
    "its function ended and left a nursery open, whose tasks were cancelled; "
    "use contextlib.aclosing to close an async generator that opens one"
)
"""The message of an attempt whose function left its task unusable."""

_log = logging.getLogger("opscore.local")


@attrs.frozen
class _Function:
    handler: Handler
    say_alive: SayAlive


class LocalAgents:
    """The functions of local agents, by agent id; implements `Delivery`."""

    def __init__(self) -> None:
        self._functions: dict[str, _Function] = {}
        self._at_work: set[str] = set()

    def add(self, agent_id: str, handler: Handler, say_alive: SayAlive) -> None:
        """Attach a function to an agent id, replacing the one before.

        Args:
            agent_id: the agent.
            handler: the function.
            say_alive: sends its heartbeats.
        """
        self._functions[agent_id] = _Function(handler, say_alive)

    def remove(self, agent_id: str) -> None:
        """Detach the function of an agent id, if there is one."""
        self._functions.pop(agent_id, None)

    def reaches(self, agent: Agent) -> bool:
        """Return whether this process has a function for the agent that is not at work.

        A function that outlives its attempt, because it ignores its cancellation, is not called again until it ends.
        """
        known = agent.source is AgentSource.LOCAL and agent.agent_id in self._functions
        return known and agent.agent_id not in self._at_work

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Run the function to its end, within the attempt's time."""
        function = self._functions[agent.agent_id]
        # A copy, because a function may change its arguments, which must not reach the next attempt, or the store.
        own = evolve(assignment, parameters=deep_copy(assignment.parameters), input=deep_copy(assignment.input))
        self._at_work.add(agent.agent_id)
        try:
            return await _apart(function, own)
        finally:
            self._at_work.remove(agent.agent_id)


def is_async(handler: Handler) -> bool:
    """Return whether a handler is an async function, a partial of one, or an object like one."""
    inner = handler.func if isinstance(handler, functools.partial) else handler
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004 (the method itself is looked at)


async def _apart(function: _Function, assignment: Assignment) -> Fact:
    """Run a function in a task of its own, within the attempt's time.

    If the function leaves something open, such as the nursery of an async generator that it did not exhaust, only that
    task becomes unusable. In the task of the delivery, this would end the node, and again after every start.
    """
    facts: list[Fact] = []
    deadline = trio.current_time() + assignment.timeout_s
    late: Fact = Raised(
        message=f"attempt {assignment.attempt} took longer than its timeout", code=TIMEOUT, timed_out=True
    )

    async def work() -> None:
        with working_on(_context(assignment, function.say_alive, deadline)):
            facts.append(await _outcome(function.handler, assignment))

    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.cancel_scope.deadline = deadline
            nursery.start_soon(work)
    except BaseExceptionGroup as group:
        beyond, own = group.split((KeyboardInterrupt, trio.Cancelled))
        if own is not None:
            _log.warning("agent %s left a nursery open in %s", assignment.agent_id, assignment.task_id, exc_info=own)
        if beyond is not None:
            try:
                raise beyond from None
            finally:
                # What is raised has this frame at hand, which shall not have it.
                del beyond, own
        return late if trio.current_time() >= deadline else Raised(message=LEFT_OPEN)
    # A function that was cancelled by its timeout took too long, whatever it returned or raised after that.
    return late if nursery.cancel_scope.cancel_called else facts[0]


def _context(assignment: Assignment, say_alive: SayAlive, deadline: float) -> TaskContext:
    home, clock = Home(), trio.lowlevel.current_clock()

    async def say(progress: Any) -> None:
        home.require_task("a heartbeat is sent in trio", "task.heartbeat")
        # A function that was cancelled should end by that, and not by the StaleAttempt that a heartbeat would raise.
        await trio.lowlevel.checkpoint_if_cancelled()
        await say_alive(assignment.task_id, assignment.attempt, progress)

    return TaskContext(assignment=assignment, say=say, time_left_s=lambda: deadline - clock.current_time())


async def _outcome(handler: Handler, assignment: Assignment) -> Fact:
    task = trio.lowlevel.current_task()
    try:
        return Returned(result=await handler(assignment))
    except GeneratorExit as error:
        if not (trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is task):
            # The function did not raise it: Python is closing this coroutine, which no trio run executes any more.
            raise
        return _failed(assignment, error)
    except BaseExceptionGroup as group:
        # A cancelled nursery of the function may raise an error as well, which must not reach the node's nursery.
        beyond, own = group.split(_beyond())
        if beyond is None:
            return _failed(assignment, group)
        if own is not None:
            _failed(assignment, own)
        try:
            raise beyond from None
        finally:
            del beyond, own  # As above.
    except BaseException as error:
        if isinstance(error, _beyond()):
            raise
        # Everything else that the host's function raises fails the attempt.
        return _failed(assignment, error)


def _beyond() -> tuple[type[BaseException], ...]:
    """Return the exceptions of a function that are not the attempt's failure, but meant for its surroundings.

    `SystemExit` is not among them: an argument parser raises it, and a function that ends its host would do so again
    after every start. Nor is a `Cancelled` that belongs to another task and is raised where no scope is cancelled.
    """
    is_cancelled = trio.current_effective_deadline() == -math.inf
    return (KeyboardInterrupt, trio.Cancelled) if is_cancelled else (KeyboardInterrupt,)


def _failed(assignment: Assignment, error: BaseException) -> Fact:
    return logged(_log, assignment, error)
