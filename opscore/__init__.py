"""opscore: durable agent operations on trio.

Where things are:

    opscore.actors     an actor library on trio: mailboxes, supervision, deadlines; knows nothing of agents
    opscore.runtime    agents, sessions, tasks, the dispatcher, and their durability in LMDB
    opscore.gateway    everything that touches a socket, the environment or a terminal: HTTP, SDK, command line

Imports point one way: gateway to runtime to actors. The names below are loaded when they are first used, so
that importing one part of the package does not load the others.
"""

from __future__ import annotations

# Not that of `typing`, which takes half as long to load as Python itself, and a command that is interrupted before its
# first step ends with a traceback. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, Final

    from opscore.gateway.sdk.calls import ClientError, ProblemError, Unreachable
    from opscore.gateway.sdk.client import OpscoreClient
    from opscore.runtime.agents.context import TaskContext, current_task
    from opscore.runtime.agents.raised import TaskFailed
    from opscore.runtime.errors import OpscoreError, StaleAttempt
    from opscore.runtime.limits import DispatchLimit, Limits
    from opscore.runtime.models import Agent, Assignment, Missed, Move, Session, Task
    from opscore.runtime.node import Node
    from opscore.runtime.node import open_node as open_runtime
    from opscore.runtime.runs.triggering import IdempotencyKey

__all__ = [
    "Agent",
    "Assignment",
    "ClientError",
    "DispatchLimit",
    "IdempotencyKey",
    "Limits",
    "Missed",
    "Move",
    "Node",
    "OpscoreClient",
    "OpscoreError",
    "ProblemError",
    "Session",
    "StaleAttempt",
    "Task",
    "TaskContext",
    "TaskFailed",
    "Unreachable",
    "current_task",
    "open_runtime",
]

_PLACES: Final = {
    "Agent": ("opscore.runtime.models", "Agent"),
    "Assignment": ("opscore.runtime.models", "Assignment"),
    "ClientError": ("opscore.gateway.sdk.calls", "ClientError"),
    "DispatchLimit": ("opscore.runtime.limits", "DispatchLimit"),
    "IdempotencyKey": ("opscore.runtime.runs.triggering", "IdempotencyKey"),
    "Limits": ("opscore.runtime.limits", "Limits"),
    "Missed": ("opscore.runtime.models", "Missed"),
    "Move": ("opscore.runtime.models", "Move"),
    "Node": ("opscore.runtime.node", "Node"),
    "OpscoreClient": ("opscore.gateway.sdk.client", "OpscoreClient"),
    "OpscoreError": ("opscore.runtime.errors", "OpscoreError"),
    "ProblemError": ("opscore.gateway.sdk.calls", "ProblemError"),
    "Session": ("opscore.runtime.models", "Session"),
    "StaleAttempt": ("opscore.runtime.errors", "StaleAttempt"),
    "Task": ("opscore.runtime.models", "Task"),
    "TaskContext": ("opscore.runtime.agents.context", "TaskContext"),
    "TaskFailed": ("opscore.runtime.agents.raised", "TaskFailed"),
    "Unreachable": ("opscore.gateway.sdk.calls", "Unreachable"),
    "current_task": ("opscore.runtime.agents.context", "current_task"),
    "open_runtime": ("opscore.runtime.node", "open_node"),
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'opscore' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (as above: no command needs it)

    module, attribute = _PLACES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
