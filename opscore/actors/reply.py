"""The reply to one ask, given now or later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, final

import trio
from outcome import Error, Value

from opscore.actors.errors import AskTimeout
from opscore.actors.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from outcome import Outcome

ReplyT = TypeVar("ReplyT")


@final
class Reply(Generic[ReplyT]):
    """A reply that can be given later: the first answer counts, later ones are ignored.

    A handler gets it from `context.defer()` and returns it. If the incarnation ends before the reply is given, the
    asker gets `ActorRestarted` or `ActorStopped`.
    """

    __slots__ = (
        "_error",
        "_on_done",
        "_task",
        "_then",
        "_timeout_s",
        "_value",
        "actor",
        "done",
        "failures",
        "held",
        "message",
    )

    def __init__(self, actor: str, message: Message[Any, ReplyT], timeout_s: float = 0.0) -> None:
        self.actor = actor
        """Path of the actor that was asked."""
        self.message = message
        """The message that is answered."""
        self.done = False
        """Whether the answer was given, or the ask was abandoned."""
        self.held = False
        """Whether it stays open when the handler returns: it was deferred, or its message was stashed."""
        self.failures = 0
        """How often the message's handler did not complete."""
        self._timeout_s = timeout_s
        self._task: trio.lowlevel.Task | None = None
        self._value: ReplyT | None = None
        self._error: Exception | None = None
        self._on_done: Callable[[Reply[Any]], None] | None = None
        self._then: Callable[[Outcome[ReplyT]], None] | None = None

    def set(self, value: ReplyT) -> None:
        """Answer with a value."""
        if not self.done:
            self._value = value
            self._finish()

    def fail(self, error: Exception) -> None:
        """Answer with an error, which the ask raises."""
        if not self.done:
            self._error = error
            self._finish()

    def expire(self) -> None:
        """Answer with `AskTimeout`; called when the deadline has passed."""
        self.fail(AskTimeout(self.actor, self.message, self._timeout_s))

    def hold(self, on_done: Callable[[Reply[Any]], None]) -> None:
        """Keep it open when the handler returns; `on_done` is called once it is answered or abandoned."""
        self.held = True
        self._on_done = on_done

    def undefer(self) -> None:
        """Undo a `hold`, because the message goes back to the mailbox or the stash."""
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(self)

    def call_back(self, then: Callable[[Outcome[ReplyT]], None]) -> None:
        """Call a function with the answer; for asks that no task waits for."""
        self._then = then

    async def wait(self) -> ReplyT:
        """Wait for the answer; cancellation abandons the ask."""
        if not self.done:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        error = self._error
        if error is not None:
            self._error = None
            try:
                raise error
            finally:
                # Break the reference cycle from the error's traceback through this frame back to the error.
                del error
        value, self._value = self._value, None
        return cast("ReplyT", value)

    def _finish(self) -> None:
        self.done = True
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)
        if self._on_done is not None:
            self._on_done(self)
        then, self._then = self._then, None
        if then is not None:
            answer = Value(cast("ReplyT", self._value)) if self._error is None else Error(self._error)
            # As in `wait`: the frames of who raised it hold this reply.
            self._value = self._error = None
            then(answer)

    def _abandon(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._task = None
        self._finish()
        return trio.lowlevel.Abort.SUCCEEDED


Entry: TypeAlias = Message[Any, Any] | Reply[Any]
"""What waits in a mailbox: the message itself if it was told, its reply if it was asked."""


def message_of(entry: Entry) -> Message[Any, Any]:
    """Return the message of an entry, whether told or asked."""
    return entry.message if isinstance(entry, Reply) else entry
