"""A local agent function's view of its attempt: what it is, how much time is left, and how to send heartbeats."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import attrs

from opscore.runtime.models import Assignment

SayAlive = Callable[[str, int, Any], Awaitable[None]]
"""Sends a heartbeat: takes a task's id, the number of its attempt, and the progress."""

# A context variable, so that each function, and everything that it calls and starts, sees its own attempt.
_current: Final[ContextVar["TaskContext"]] = ContextVar("opscore.task")


@attrs.frozen(kw_only=True, eq=False)
class TaskContext:
    """The attempt that a function works on; `current_task` returns it.

    Its plain attributes and methods can be used anywhere. Its async methods are awaited where the function runs. In the
    runtime's own process that is trio: a thread uses `trio.from_thread.run`, an asyncio host's function `guest.call`.

    In a function of `OpscoreClient.work`, async methods may be awaited in asyncio as well. `StaleAttempt` is the same
    there; anything else that the server refuses is a `ProblemError`, and `Unreachable` says that it is away.
    """

    assignment: Assignment
    """What the function was handed: task, attempt, session, parameters."""
    _say: Callable[[Any], Awaitable[None]]
    """Renews the lease, and reports progress unless that is None."""
    _time_left_s: Callable[[], float]

    def time_left_s(self) -> float:
        """Return the seconds that are left until the attempt exceeds its timeout and is cancelled; at least 0."""
        return max(0.0, self._time_left_s())

    async def heartbeat(self) -> None:
        """Report that the function is alive; the heartbeat is committed when this returns.

        The first heartbeat makes the task `running`; from then on the function may not be silent for longer than its
        `heartbeatSeconds`. While the store can't take the heartbeat, this waits. A function that has been cancelled
        gets its cancellation here, unless it shields itself.

        Raises:
            StaleAttempt: the attempt is over; its heartbeats and its result no longer count.
            RuntimeError: it is called outside of trio.
        """
        await self._say(None)

    async def progress(self, value: Any) -> None:
        """Send a heartbeat with the function's progress, which the task shows while the attempt is open.

        Args:
            value: JSON of `progress_bytes_max` at most, such as `{"done": 3, "of": 10}`; replaces the earlier progress.
                None keeps it.

        Raises:
            StaleAttempt, RuntimeError: as `heartbeat`.
            LimitExceeded: the value is too large.
            ValueError, TypeError: it is not JSON.
        """
        await self._say(value)


def current_task() -> TaskContext:
    """Return the attempt that the calling function works on.

    This works in the function of a local agent or of `OpscoreClient.work`, in everything that it calls, and in the trio
    tasks, trio threads and asyncio tasks that it starts.

    Raises:
        RuntimeError: it is called anywhere else.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            "there is no current task here; call current_task() in the function of a local agent, or in what it calls"
        ) from None


@contextlib.contextmanager
def working_on(task: TaskContext) -> Iterator[None]:
    """Make this the current task for as long as the block lasts."""
    before = _current.set(task)
    try:
        yield
    finally:
        _current.reset(before)
