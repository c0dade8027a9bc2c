"""Agents that are async functions of the host's own process."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from opscore.runtime.context import SayAlive, TaskContext, working_on
from opscore.runtime.delivery import Fact, Raised, Returned
from opscore.runtime.models import Agent, AgentSource, Assignment
from opscore.runtime.values import deep_copy

Handler = Callable[[Assignment], Awaitable[Any]]
"""Takes an attempt, returns its result (JSON), raises to fail it; `current_task` tells it more while it works."""

_log = logging.getLogger("opscore.local")


@attrs.frozen
class _Function:
    handler: Handler
    say_alive: SayAlive


class LocalAgents:
    """The functions by agent id; a `Delivery`."""

    def __init__(self) -> None:
        self._functions: dict[str, _Function] = {}

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
        """Whether this process has a function for the agent."""
        return agent.source is AgentSource.LOCAL and agent.agent_id in self._functions

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Run the function to its end, within the attempt's time."""
        function = self._functions[agent.agent_id]
        # A copy of its own: what a function does to its arguments must not reach the next attempt, or the store.
        own = attrs.evolve(assignment, parameters=deep_copy(assignment.parameters), input=deep_copy(assignment.input))
        with trio.move_on_after(assignment.timeout_s) as scope:
            task = TaskContext(assignment=own, say_alive=function.say_alive, deadline=scope.deadline)
            try:
                with working_on(task):
                    return Returned(result=await function.handler(own))
            except Exception as error:  # noqa: BLE001 (whatever the host's function raises is the attempt's failure)
                _log.warning("agent %s failed task %s: %r", agent.agent_id, assignment.task_id, error, exc_info=error)
                return Raised(message=f"{type(error).__name__}: {error}")
        assert scope.cancelled_caught
        return Raised(message=f"it took longer than {assignment.timeout_s:g} s", code="timeout")
