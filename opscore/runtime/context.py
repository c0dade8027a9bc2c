"""What the function of a local agent knows of its attempt, and can say of it while it works."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import attrs
import trio

from opscore.runtime.home import Home
from opscore.runtime.models import Assignment

DEFAULT_CODE: Final = "task_failed"
"""The code of a failure that has none of its own."""
SayAlive = Callable[[str, int, Any], Awaitable[None]]
"""Renews the lease of an attempt of a task, and says how far it is."""

# A variable of the context, not of the module: each function sees its own attempt, in what it calls and starts as well.
_current: Final[ContextVar["TaskContext"]] = ContextVar("opscore.task")


class TaskFailed(Exception):
    """Raised by the function of an agent: its attempt has failed, and this is why.

    Any other exception fails the attempt as well, with its type and text and the code `task_failed`, and is retried.

    Args:
        message: A sentence for people.
        code: A name for programs, by which `nonRetryable` and the dead letters know it.
        retryable: Whether another attempt may do better; if not, no retry follows.

    Raises:
        TypeError: message or code is no text.
    """

    def __init__(self, message: str, *, code: str = DEFAULT_CODE, retryable: bool = True) -> None:
        if not all(isinstance(each, str) for each in (message, code)):
            raise TypeError("a task fails with a message and a code that are texts")
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable


@attrs.frozen(kw_only=True, eq=False)
class TaskContext:
    """The attempt that a function works on; `current_task` returns it.

    Its values may be read anywhere. What is awaited is awaited in trio: a thread goes through `trio.from_thread.run`,
    a function of an asyncio host through `guest.call`.
    """

    assignment: Assignment
    """What the function was handed: task, attempt, session, parameters."""
    _say_alive: SayAlive
    _deadline: float
    """By trio's clock."""
    _clock: trio.abc.Clock = attrs.field(factory=trio.lowlevel.current_clock, init=False)
    _home: Home = attrs.field(factory=Home, init=False)

    def time_left_s(self) -> float:
        """How many seconds are left until the attempt takes longer than its timeout and is cancelled; 0 at least."""
        return max(0.0, self._deadline - self._clock.current_time())

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

    async def _say(self, progress: Any) -> None:
        self._home.require_task("a heartbeat is sent in trio", "task.heartbeat")
        # Who was cancelled is to end, and needs no other reason.
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._say_alive(self.assignment.task_id, self.assignment.attempt, progress)


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
