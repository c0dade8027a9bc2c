"""The address of an actor: tell, send and ask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opscore.actors.errors import AskCycle
from opscore.actors.reply import Reply
from opscore.actors.scheduler import asker

if TYPE_CHECKING:
    from opscore.actors.mailbox import Mailbox
    from opscore.actors.message import Message
    from opscore.actors.timers import Timers

__all__ = ["Ref", "Reply"]

ProtocolT_co = TypeVar("ProtocolT_co", covariant=True)
ReplyT = TypeVar("ReplyT")


class Ref(Generic[ProtocolT_co]):
    """The address of an actor. It stays valid across restarts, until the actor is gone.

    Use it in the trio thread only.
    """

    __slots__ = ("__weakref__", "_mailbox", "_timers", "name")

    def __init__(self, mailbox: Mailbox, timers: Timers) -> None:
        self.name = mailbox.name
        """Path of the actor, for example `/agents/agent-7`."""
        self._mailbox = mailbox
        self._timers = timers

    def __repr__(self) -> str:
        """Return the reference with its path."""
        return f"<Ref {self.name}>"

    @property
    def alive(self) -> bool:
        """Whether the actor takes messages. It does so during a restart, but not once it is stopping without one."""
        return not self._mailbox.sealed

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox behind the address, for the library itself and for introspection."""
        return self._mailbox

    def tell(self, message: Message[ProtocolT_co, Any]) -> None:
        """Queue a message without waiting. If the actor is gone, the message becomes a dead letter.

        Args:
            message: What to tell; the value that its handler returns is ignored.

        Raises:
            MailboxFull: The mailbox is full and its policy is to reject.
        """
        # This is `Mailbox.put` inlined, because most messages are told.
        mailbox = self._mailbox
        entries = mailbox.entries
        if len(entries) >= mailbox.limit:
            mailbox.put_at_limit(message)
            return
        entries.append(message)
        if mailbox.idle:
            mailbox.wake()

    async def send(self, message: Message[ProtocolT_co, Any]) -> None:
        """Queue a message, waiting for room in the mailbox. It is a checkpoint only if it waits.

        A call that is cancelled while it waits has not sent the message. Senders that wait are served in order.

        Args:
            message: What to send; the value that its handler returns is ignored.

        Raises:
            ActorStopped: The actor is gone or is stopping, perhaps since this call began to wait.
        """
        mailbox = self._mailbox
        if mailbox.senders or len(mailbox.entries) >= mailbox.limit:
            await mailbox.put_when_room(message)
            return
        mailbox.put(message)

    async def ask(self, message: Message[ProtocolT_co, ReplyT], *, timeout_s: float = 30.0) -> ReplyT:
        """Send a message and wait for its reply. It is a checkpoint if it waits, and now and then if it does not.

        An idle actor whose handler is a plain function answers at once. After cancellation the message may still be
        handled, and its reply is ignored.

        Args:
            message: What to ask.
            timeout_s: Maximum seconds to wait; finite.

        Raises:
            MailboxFull: The mailbox has no room for the message, or dropped it for a newer one.
            AskTimeout: No reply came in time.
            AskCycle: The actor is waiting for the asker.
            ActorFailed: The handler raised an undeclared error.
            ActorRestarted: The actor was restarted before it answered.
            ActorStopped: The actor is gone or is stopping.
            Exception: An error that the message declares, or that was passed to `Reply.fail`.
            ValueError: `timeout_s` is not positive and finite.
        """
        if not 0.0 < timeout_s < math.inf:
            msg = f"timeout_s must be positive and finite, not {timeout_s!r}"
            raise ValueError(msg)
        mailbox = self._mailbox
        reply = Reply(self.name, message, timeout_s)
        if mailbox.idle and mailbox.reader is not None and mailbox.reader.answer_now(reply):
            if reply.done:
                return await reply.wait()
            waiting = asker()
        else:
            waiting = asker()
            if waiting is not None:
                _refuse_cycle(waiting, mailbox)
            mailbox.put(reply)
        self._timers.add(timeout_s, reply)
        if waiting is None:
            return await reply.wait()
        link = (mailbox, reply)
        waiting.asks = (*waiting.asks, link)
        try:
            return await reply.wait()
        finally:
            waiting.asks = tuple(each for each in waiting.asks if each is not link)


def _refuse_cycle(asking: Mailbox, target: Mailbox) -> None:
    """Raise `AskCycle` if the target waits for the asker, directly or through others.

    An ask whose message was deferred or stashed does not count: the actor that has it can handle other messages.
    """
    paths: list[tuple[Mailbox, ...]] = [(target,)]
    seen = {target}
    while paths:
        path = paths.pop()
        if path[-1] is asking:
            raise AskCycle((*(each.name for each in path), target.name))
        for mailbox, reply in path[-1].asks:
            if mailbox not in seen and not reply.done and not reply.held:
                seen.add(mailbox)
                paths.append((*path, mailbox))
