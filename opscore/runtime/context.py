"""What the function of a local agent knows of its attempt, and can say of it while it works."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import attrs

from opscore.runtime.models import Assignment

SayAlive = Callable[[str, int, Any], Awaitable[None]]
"""Renews the lease of an attempt of a task, and says how far it is."""

# A variable of the context, not of the module: each function sees its own attempt, in what it calls and starts as well.
_current: Final[ContextVar["TaskContext"]] = ContextVar("opscore.task")


@attrs.frozen(kw_only=True, eq=False)
class TaskContext:
    """The attempt that a function works on; `current_task` returns it.

    Its values may be read anywhere. What is awaited is awaited where the function runs: in the runtime's own process
    in trio, so a thread goes through `trio.from_thread.run` and a function of an asyncio host through `guest.call`.
    """

    assignment: Assignment
    """What the function was handed: task, attempt, session, parameters."""
    _say: Callable[[Any], Awaitable[None]]
    """Renews the lease, and says how far the attempt is, unless that is None."""
    _time_left_s: Callable[[], float]

    def time_left_s(self) -> float:
        """How many seconds are left until the attempt takes longer than its timeout and is cancelled; 0 at least."""
        return max(0.0, self._time_left_s())

    async def heartbeat(self) -> None:
        """Say that the function is alive; once this returns, that is committed.

        The first one makes the task `running`, and from then on it may be silent for no longer than its
        `heartbeatSeconds`. While the store can't take it, it waits.

        Raises:
            StaleAttempt: the attempt is over; nothing that is said of it counts any more.
            RuntimeError: it is called outside of trio.
        """
        await self._say(None)

    async def progress(self, value: Any) -> None:
        """Send a heartbeat that says how far the function is; the task shows it while the attempt is out.

        Args:
            value: JSON of `progress_bytes_max` at most, such as `{"done": 3, "of": 10}`; takes the place of what was
                said before. None says nothing new.

        Raises:
            StaleAttempt, RuntimeError: as `heartbeat`.
            LimitExceeded: the value is too large.
            ValueError, TypeError: it is not JSON.
        """
        await self._say(value)


def current_task() -> TaskContext:
    """Return the attempt that the calling function works on.

    It is there for the function of a local agent, for everything that this calls, and for the tasks and threads of
    trio and the tasks of asyncio that it starts.

    Raises:
        RuntimeError: nothing of the kind is at work here.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError(
            "there is no current task here; current_task() is for the function of a local agent, and what it calls"
        ) from None


@contextlib.contextmanager
def working_on(task: TaskContext) -> Iterator[None]:
    """Have this be the current task, for as long as the block lasts."""
    before = _current.set(task)
    try:
        yield
    finally:
        _current.reset(before)
