"""Running one actor: its receive loop, and what becomes of the messages it leaves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from opscore.actors.actor import handler_of
from opscore.actors.cell import ActorSnapshot, Cell, State
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed, ActorRestarted, ActorStopped, StartFailed
from opscore.actors.incarnation import Incarnation
from opscore.actors.mailbox import Lane, Mailbox
from opscore.actors.ref import Ref
from opscore.actors.reply import Reply
from opscore.actors.supervision import ChildSpec, Restart

if TYPE_CHECKING:
    from opscore.actors.actor import Actor
    from opscore.actors.cell import Environment, Parent
    from opscore.actors.mailbox import Entry

ProtocolT = TypeVar("ProtocolT")

_LOGGER = logging.getLogger("opscore.actors")
_BATCH = 64
"""Messages an actor may handle without letting its neighbours run."""


class ActorCell(Cell, Generic[ProtocolT]):
    """The place of one actor in the tree."""

    spec: ChildSpec[ProtocolT]

    def __init__(self, path: str, spec: ChildSpec[ProtocolT], parent: Parent, environment: Environment) -> None:
        super().__init__(path, spec, parent, environment)
        self._mailbox = Mailbox(path, spec.mailbox, environment.dead_letters)
        self.ref: Ref[ProtocolT] = Ref(self._mailbox, environment.timers)
        self._unanswered: list[Reply[Any]] = []

    @property
    def mailbox(self) -> Mailbox:
        """Where its messages wait."""
        return self._mailbox

    def leave(self) -> None:
        """End this incarnation normally after the current message; for good unless the actor is permanent."""
        if self.spec.restart is not Restart.PERMANENT and not self._mailbox.closed:
            self.close()
            self.parent.child_leaves(self)
        self._mailbox.signal(Lane.STOP)

    def kill(self) -> None:
        """Cancel whatever the incarnation is doing."""
        # The signal stops a loop of handlers that never let a cancellation through.
        self._mailbox.signal(Lane.KILL)
        super().kill()

    def fail(self, cause: BaseException) -> None:
        """Crash the incarnation from outside its handlers."""
        self._mailbox.signal(Lane.KILL)
        super().fail(cause)

    def close(self) -> None:
        """Let no other incarnation follow: what waits becomes dead letters, asks get `ActorStopped`."""
        self._mailbox.close()
        if not self.running:
            self.state = State.GONE
            self._cancel_timer()
            self._answer(ActorStopped(self.path))

    def restarting(self) -> None:
        """Tell askers whose replies were deferred that the incarnation is gone."""
        self._answer(ActorRestarted(self.path))

    def snapshots(self) -> list[ActorSnapshot]:
        """Return the state of this actor."""
        return [self.snapshot()]

    def _ask_to_stop(self, *, final: bool) -> None:
        if final:
            self._mailbox.close()
        self._mailbox.signal(Lane.STOP)

    async def _live(self) -> None:
        incarnation = Incarnation(self)
        actor: Actor[ProtocolT] | None = None
        try:
            actor = await self._begin(incarnation)
            self._mark_started()
            await self._receive(actor)
        except Exception as error:
            self._refuse_current(error)
            raise
        finally:
            await incarnation.end()
            if actor is not None:
                await self._say_farewell(actor)
            self._unanswered.extend(incarnation.deferred)

    async def _begin(self, incarnation: Incarnation[ProtocolT]) -> Actor[ProtocolT]:
        try:
            actor = self.spec.factory()
            actor.context = incarnation
            await actor.on_start()
        except Exception as error:
            raise StartFailed(self.path, error) from error
        return actor

    async def _receive(self, actor: Actor[ProtocolT]) -> None:
        """Handle messages until a stop message; checkpoints only when idle or after a batch."""
        mailbox = self._mailbox
        signals, entries, senders = mailbox.signals, mailbox.entries, mailbox.senders
        table = actor.handler_table
        while True:
            await mailbox.wait()
            for _ in range(_BATCH):
                if signals:
                    lane, entry = mailbox.take_signal()
                    if lane is not Lane.WATCH:
                        return
                elif entries:
                    entry = entries.popleft()
                    if senders:
                        mailbox.admit()
                else:
                    break
                mailbox.current = entry
                message = entry.message if type(entry) is Reply else entry
                handler = table.get(type(message)) or handler_of(actor, type(message))
                if handler is None:
                    self._refuse_unhandled(entry, message)
                    continue
                try:
                    value = await handler(actor, message)
                except message.declared_errors as error:
                    self._answer_declared(entry, error)
                else:
                    if type(entry) is Reply and not entry.deferred:
                        entry.set(value)
                mailbox.current = None
                mailbox.handled += 1
            else:
                await trio.lowlevel.checkpoint()

    async def _say_farewell(self, actor: Actor[ProtocolT]) -> None:
        with trio.move_on_after(self.spec.shutdown_s, shield=True) as scope:
            try:
                await actor.on_stop()
            except Exception:
                # The incarnation has ended already; how it cleaned up does not change why.
                _LOGGER.exception("on_stop of %s raised", self.path, extra={"actor": self.path})
        if scope.cancelled_caught:
            _LOGGER.warning("on_stop of %s was cancelled after %g s", self.path, self.spec.shutdown_s)

    def _answer_declared(self, entry: Entry, error: Exception) -> None:
        if isinstance(entry, Reply):
            entry.fail(error)
        else:
            _LOGGER.warning("%s answered a told %s with %r", self.path, type(entry).__name__, error)

    def _refuse_unhandled(self, entry: Entry, message: object) -> None:
        self._mailbox.current = None
        error = TypeError(f"{self.path} has no handler for {type(message).__name__}")
        self._mailbox.discard(entry, DeadLetterReason.UNHANDLED, ActorFailed(self.path, error))

    def _refuse_current(self, cause: BaseException) -> None:
        """Answer the asker of the message whose handler raised."""
        entry, self._mailbox.current = self._mailbox.current, None
        if entry is not None:
            self._mailbox.discard(entry, DeadLetterReason.FAILED, ActorFailed(self.path, cause))

    def _close_down(self, cause: BaseException | None) -> None:
        entry = self._mailbox.current
        if cause is not None:
            # An exception group or a background task's failure reaches here with the message still open.
            self._refuse_current(cause)
        elif entry is not None:
            self._mailbox.current = None
            self.environment.dead_letters.record(
                self.path, entry.message if isinstance(entry, Reply) else entry, DeadLetterReason.INTERRUPTED
            )
            if isinstance(entry, Reply):
                self._unanswered.append(entry)

    def _answer(self, error: ActorRestarted | ActorStopped) -> None:
        unanswered, self._unanswered = self._unanswered, []
        for reply in unanswered:
            reply.fail(error)
