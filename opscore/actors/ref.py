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
    """The address of an actor; it stays valid across restarts and is dead once the actor is gone for good.

    Use it from the trio thread only.
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
        """Whether the actor takes messages: while it is restarted, yes; once it stops for good, no."""
        return not self._mailbox.sealed

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox behind the reference, for the runtime of the actors and for introspection."""
        return self._mailbox

    def tell(self, message: Message[ProtocolT_co, Any]) -> None:
        """Queue a message and never wait; if the actor is gone it becomes a dead letter.

        Args:
            message: What to tell; what its handler returns goes nowhere.

        Raises:
            MailboxFull: The mailbox is full and its policy is to reject.
        """
        # This is `Mailbox.put`, without a call: it is the way of most messages.
        mailbox = self._mailbox
        entries = mailbox.entries
        if len(entries) >= mailbox.limit:
            mailbox.put_at_limit(message)
            return
        entries.append(message)
        if mailbox.idle:
            mailbox.wake()

    async def send(self, message: Message[ProtocolT_co, Any]) -> None:
        """Queue a message, waiting for room; a checkpoint only when it waits.

        Cancelled while it waits, the message was not sent. Those who wait are served in the order they came.

        Args:
            message: What to send; what its handler returns goes nowhere.

        Raises:
            ActorStopped: The actor is gone, or went while this waited.
        """
        mailbox = self._mailbox
        if mailbox.senders or len(mailbox.entries) >= mailbox.limit:
            await mailbox.put_when_room(message)
            return
        mailbox.put(message)

    async def ask(self, message: Message[ProtocolT_co, ReplyT], *, timeout_s: float = 30.0) -> ReplyT:
        """Send a message and wait for its reply; a checkpoint if it waits, and every now and then if it does not.

        An idle actor whose handler is a plain function answers at once. Cancelled while it waits, the message may
        still be handled; its reply is ignored.

        Args:
            message: What to ask.
            timeout_s: Seconds to wait at most; finite.

        Raises:
            MailboxFull: The mailbox has no room for the question.
            AskTimeout: No reply came in time.
            AskCycle: The actor is waiting for the asker.
            ActorFailed: The handler raised an undeclared error.
            ActorRestarted: The actor was restarted before it answered.
            ActorStopped: The actor is gone.
            Exception: An error that the message declares, or that `Reply.fail` was given.
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
    """Follow who waits for whom from the target on; a reply that was deferred keeps nobody waiting in a handler."""
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
