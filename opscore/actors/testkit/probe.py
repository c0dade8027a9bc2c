"""Probes: addresses whose messages a test reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from opscore.actors.actor import Terminated
from opscore.actors.mailbox import Lane, Mailbox
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.reply import Reply, message_of

if TYPE_CHECKING:
    from opscore.actors.system import System

MessageT = TypeVar("MessageT", bound=Message[Any, Any])


class ProbeFailed(AssertionError):
    """A probe did not get what the test expects; the text says what came instead."""


class Probe:
    """An address to give to actors; the test reads its messages one by one.

    It has no supervisor, so that no restart affects it.

    Args:
        system: The system whose actors send messages to it.
        name: Its path, as the actors see it.
    """

    def __init__(self, system: System, name: str = "/probe") -> None:
        environment = system.environment
        self._mailbox = Mailbox(name, MailboxSpec(capacity=100_000), environment.dead_letters)
        self.ref: Ref[Any] = Ref(self._mailbox, environment.timers)
        """The address; it takes every message."""
        self._asked: Reply[Any] | None = None

    async def expect(self, kind: type[MessageT], *, within_s: float = 3.0) -> MessageT:
        """Return the next message, which must be of a given type.

        Args:
            kind: The type of the message.
            within_s: Maximum seconds to wait.

        Raises:
            ProbeFailed: No message came in time, or one of another type came.
        """
        message = await self._next(within_s)
        if message is None:
            raise ProbeFailed(f"{self.ref.name} expected {kind.__name__} within {within_s:g} s, and nothing came")
        if not isinstance(message, kind):
            raise ProbeFailed(f"{self.ref.name} expected {kind.__name__}, and {message!r} came")
        return message

    async def fish_for(self, kind: type[MessageT], *, within_s: float = 3.0) -> MessageT:
        """Return the next message of a given type, skipping messages of other types.

        Raises:
            ProbeFailed: None came in time; the error names what came instead.
        """
        passed: list[str] = []
        deadline = trio.current_time() + within_s
        while True:
            message = await self._next(max(0.0, deadline - trio.current_time()))
            if message is None:
                came = ", ".join(passed) or "nothing"
                raise ProbeFailed(f"{self.ref.name} fished for {kind.__name__} for {within_s:g} s, and got {came}")
            if isinstance(message, kind):
                return message
            passed.append(repr(message))

    async def expect_nothing(self, *, for_s: float = 1.0) -> None:
        """Wait, and check that no message comes.

        Raises:
            ProbeFailed: A message came.
        """
        message = await self._next(for_s)
        if message is not None:
            raise ProbeFailed(f"{self.ref.name} expected nothing for {for_s:g} s, and {message!r} came")

    def reply(self, value: object) -> None:
        """Answer the message that was read last, which must have been asked.

        Raises:
            ProbeFailed: The message was told or answered already, or none was read yet.
        """
        self._take_asked().set(value)

    def fail(self, error: Exception) -> None:
        """Answer the message that was read last with an error.

        Raises:
            ProbeFailed: The message was told or answered already, or none was read yet.
        """
        self._take_asked().fail(error)

    def watch(self, ref: Ref[Any]) -> None:
        """Deliver `Terminated` to the probe once an actor is gone."""
        watched = ref.mailbox
        watched.watch(lambda: self._mailbox.signal(Lane.WATCH, Terminated(actor=watched.name, cause=watched.cause)))

    async def _next(self, within_s: float) -> Message[Any, Any] | None:
        with trio.move_on_after(within_s):
            await self._mailbox.wait()
        if self._mailbox.signals:
            self._asked = None
            return cast("Message[Any, Any]", self._mailbox.take_signal()[1])
        if not self._mailbox.entries:
            return None
        entry = self._mailbox.take()
        self._asked = entry if isinstance(entry, Reply) else None
        return message_of(entry)

    def _take_asked(self) -> Reply[Any]:
        asked, self._asked = self._asked, None
        if asked is None:
            raise ProbeFailed(f"the newest message that {self.ref.name} read waits for no reply")
        return asked
