"""Agents that are async functions of the host's own process."""

import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from opscore.actors.errors import text_of
from opscore.actors.groups import leaves
from opscore.runtime.context import SayAlive, TaskContext, working_on
from opscore.runtime.delivery import TIMEOUT, Fact, Raised, Returned
from opscore.runtime.models import Agent, AgentSource, Assignment
from opscore.runtime.values import deep_copy

Handler = Callable[[Assignment], Awaitable[Any]]
"""Takes an attempt, returns its result (JSON), raises to fail it; `current_task` tells it more while it works."""

TOLD_MAX: Final = 3
"""Errors that are told of a group with several."""
TOLD_CHARACTERS_MAX: Final = 500
"""Characters of each of them, so that none takes the room of all."""
LEFT_OPEN: Final = (
    "its function ended and left a nursery open, whose tasks were cancelled; "
    "an async generator that opens one is closed by contextlib.aclosing"
)
"""What an attempt fails with whose function spoilt its task."""

_log = logging.getLogger("opscore.local")


@attrs.frozen
class _Function:
    handler: Handler
    say_alive: SayAlive


class LocalAgents:
    """The functions by agent id; a `Delivery`."""

    def __init__(self) -> None:
        self._functions: dict[str, _Function] = {}
        self._at_work: set[str] = set()

    def add(self, agent_id: str, handler: Handler, say_alive: SayAlive) -> None:
        """Attach a function to an agent id, in place of the one before.

        Args:
            agent_id: the agent.
            handler: the function.
            say_alive: where its heartbeats go.
        """
        self._functions[agent_id] = _Function(handler, say_alive)

    def remove(self, agent_id: str) -> None:
        """Detach it."""
        self._functions.pop(agent_id, None)

    def reaches(self, agent: Agent) -> bool:
        """Whether this process has a function for the agent that is not at work.

        One that outlives its attempt, because it does not heed its cancellation, is not called a second time meanwhile.
        """
        known = agent.source is AgentSource.LOCAL and agent.agent_id in self._functions
        return known and agent.agent_id not in self._at_work

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Run the function to its end, within the attempt's time."""
        function = self._functions[agent.agent_id]
        # A copy of its own: what a function does to its arguments must not reach the next attempt, or the store.
        own = attrs.evolve(assignment, parameters=deep_copy(assignment.parameters), input=deep_copy(assignment.input))
        late: Fact = Raised(message=f"attempt {assignment.attempt} took longer than its timeout", code=TIMEOUT)
        fact = late
        self._at_work.add(agent.agent_id)
        try:
            with trio.move_on_after(assignment.timeout_s) as scope:
                task = TaskContext(assignment=own, say_alive=function.say_alive, deadline=scope.deadline)
                fact = await _apart(function.handler, own, task)
        finally:
            self._at_work.remove(agent.agent_id)
        # Whatever it says after that, it took too long.
        return late if scope.cancel_called else fact


def is_async(handler: Handler) -> bool:
    """Whether calling it gives something to await: an async function, a partial of one, or an object like one."""
    inner = handler.func if isinstance(handler, functools.partial) else handler
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004 (the method itself is looked at)


async def _apart(handler: Handler, assignment: Assignment, context: TaskContext) -> Fact:
    """Run a function in a task of its own.

    What it leaves open, such as the nursery of an async generator that it did not go through to its end, spoils that
    task alone: in the one of the delivery it would end the node, at every start again.
    """
    facts: list[Fact] = []

    async def work() -> None:
        with working_on(context):
            facts.append(await _outcome(handler, assignment))

    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(work)
    except BaseExceptionGroup as group:
        beyond, own = group.split((KeyboardInterrupt, trio.Cancelled))
        if own is not None:
            _log.warning("agent %s spoilt task %s", assignment.agent_id, assignment.task_id, exc_info=own)
        if beyond is not None:
            try:
                raise beyond from None
            finally:
                # What is raised has this frame at hand, which shall not have it.
                del beyond, own
        return Raised(message=LEFT_OPEN)
    return facts[0]


async def _outcome(handler: Handler, assignment: Assignment) -> Fact:
    task = trio.lowlevel.current_task()
    try:
        return Returned(result=await handler(assignment))
    except GeneratorExit as error:
        if not (trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is task):
            # The function did not raise it: nobody runs this task any more, and it is thrown away.
            raise
        return _failed(assignment, error)
    except BaseExceptionGroup as group:
        # A nursery that is cancelled may bring an error of its own along, which must not reach the node's.
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
        # Whatever else the host's function raises is the attempt's failure.
        return _failed(assignment, error)


def _beyond() -> tuple[type[BaseException], ...]:
    """What comes out of a function and is meant for those around it.

    `SystemExit` is not: a parser of arguments raises it, and a function that ends its host does so again at every
    start. Nor is a cancellation that was another task's, kept and raised here, where nobody waits for it.
    """
    is_cancelled = trio.current_effective_deadline() == -math.inf
    return (KeyboardInterrupt, trio.Cancelled) if is_cancelled else (KeyboardInterrupt,)


def _failed(assignment: Assignment, error: BaseException) -> Fact:
    _log.warning("agent %s failed task %s: %r", assignment.agent_id, assignment.task_id, error, exc_info=error)
    return Raised(message=_told(error))


def _told(error: BaseException) -> str:
    """Tell an error by its kind and text; of a group, which says nothing itself, what is in it."""
    errors = leaves(error)
    if len(errors) == 1:
        return _named(errors[0])
    told = [_named(each) for each in errors[:TOLD_MAX]]
    told = [each if len(each) <= TOLD_CHARACTERS_MAX else each[: TOLD_CHARACTERS_MAX - 1] + "…" for each in told]
    return f"{len(errors)} errors: {'; '.join(told)}{'; …' if len(errors) > TOLD_MAX else ''}"


def _named(error: BaseException) -> str:
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
