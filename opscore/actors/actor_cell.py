"""The cell of an actor: it runs the actor's turns, and accounts for the messages that an incarnation leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import trio

from opscore.actors.actor import Actor
from opscore.actors.cell import Cell
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed, ActorRestarted, ActorStopped, StartFailed
from opscore.actors.incarnation import Incarnation
from opscore.actors.mailbox import Lane, Mailbox
from opscore.actors.ref import Ref
from opscore.actors.reply import Reply, message_of
from opscore.actors.scheduler import ANSWERS_MAX, BATCH_MAX, QUICK_S, STRIDE, TURN_S, Turn
from opscore.actors.snapshot import ActorSnapshot, State
from opscore.actors.spec import ChildSpec, Restart

if TYPE_CHECKING:
    from opscore.actors.cell import Environment, Parent
    from opscore.actors.reply import Entry
    from opscore.actors.scheduler import RunQueue, Worker

ProtocolT = TypeVar("ProtocolT")

_LOGGER = logging.getLogger("opscore.actors")
_OVERDUE_EVERY_S: Final = 1.0


class ActorCell(Cell, Generic[ProtocolT]):
    """The place of one actor in the tree."""

    __slots__ = ("_actor", "_begun", "_incarnation", "_unanswered", "queue", "ref", "worker")

    spec: ChildSpec[ProtocolT]

    def __init__(self, path: str, spec: ChildSpec[ProtocolT], parent: Parent, environment: Environment) -> None:
        mailbox = Mailbox(path, spec.mailbox, environment.dead_letters)
        super().__init__(path, spec, parent, environment, mailbox)
        mailbox.reader = self
        self.ref: Ref[ProtocolT] = Ref(mailbox, environment.timers)
        self.queue: RunQueue = environment.queue
        self.worker: Worker | None = None
        self._actor: Actor[ProtocolT] | None = None
        self._incarnation: Incarnation[ProtocolT] | None = None
        self._begun: tuple[Reply[Any], Awaitable[Any]] | None = None
        self._unanswered: tuple[Reply[Any], ...] = ()

    def wake(self) -> None:
        """Queue for a turn: a message has arrived."""
        self.queue.push(self)

    def leave(self) -> None:
        """End this incarnation normally after the current message; no other follows unless the actor is permanent."""
        if self.spec.restart is not Restart.PERMANENT and not self.mailbox.sealed:
            if self.spec.drain:
                self.mailbox.seal()
                self._limit_stopping()
            elif not self.spec.significant:
                self.close()
            if not self.spec.significant:
                # What the end of a significant child means is for the supervisor to decide; until then the child stays.
                self.parent.child_leaves(self)
        self._signal_stop()

    def kill(self) -> None:
        """Cancel what the incarnation is doing, and name it in the log every second until it has ended."""
        self.state = State.STOPPING
        # The signal ends the turn even if every handler swallows the cancellation.
        self.mailbox.signal(Lane.KILL)
        if self.worker is not None:
            self.worker.cancel()
        self._cancel_timer()
        self._timer = self.environment.timers.call_later(_OVERDUE_EVERY_S, self._log_overdue)

    def fail(self, cause: BaseException) -> None:
        """Crash the incarnation from outside of its handlers."""
        if self.crash is None:
            self.crash = cause
        self.kill()

    def close(self) -> None:
        """Prevent further incarnations: messages that wait become dead letters, and asks get `ActorStopped`."""
        if self.running:
            self.mailbox.close()
            return
        self.state = State.GONE
        self.mailbox.bury(None if self.last_exit is None else self.last_exit.cause)
        self._cancel_timer()
        self._answer(ActorStopped(self.path))

    def restarting(self) -> None:
        """Answer the asks that the ended incarnation left open with `ActorRestarted`."""
        self._answer(ActorRestarted(self.path))

    def snapshots(self) -> list[ActorSnapshot]:
        """Return the state of this actor."""
        return [self.snapshot()]

    # Ctrl-C is for the task that opened the system. If that is the asker, it must not be raised inside the handler.
    @trio.lowlevel.enable_ki_protection
    def answer_now(self, reply: Reply[Any]) -> bool:
        """Handle an ask in the asker's task, if the actor's handler is a plain function, which never waits.

        The actor is idle. Return whether the message was taken; its reply may have been deferred.
        """
        queue, mailbox, actor, message = self.queue, self.mailbox, self._actor, reply.message
        if actor is None or not actor.routes.is_plain(type(message)) or queue is not queue.shared:
            return False
        queue.answered += 1
        if queue.answered > ANSWERS_MAX:
            queue.answered = 0
            return False
        mailbox.idle = False
        mailbox.current = reply
        mailbox.since = queue.clock()
        try:
            self._answer_plainly(actor, reply)
        except BaseException as error:
            self._refuse_current(error)
            self.fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            queue.pin_if_marked(self)
            if self._begun is not None or mailbox.entries or mailbox.signals or mailbox.sealed:
                self.wake()
            else:
                mailbox.idle = True
        return True

    async def turn(self, now: float) -> Turn:
        """Start if necessary, then handle messages until none waits, the turn is over, or a stop message comes.

        It has no checkpoints except those of hooks and handlers.
        """
        try:
            if self._actor is None:
                if self.mailbox.signals:
                    # The incarnation was stopped before it began.
                    return Turn.ENDED
                await self._begin()
            turn = await (self._receive(now) if self._begun is None else self._go_on(self._begun))
            self.mailbox.current = None
        except Exception as error:
            self._refuse_current(error)
            await self._wind_down()
            raise
        except BaseException:
            await self._wind_down()
            raise
        if turn is Turn.ENDED:
            await self._wind_down()
        return turn

    async def _begin(self) -> None:
        incarnation = self._incarnation = Incarnation(self)
        try:
            actor = self.spec.factory()
            actor.context = incarnation
            await actor.on_start()
        except Exception as error:
            raise StartFailed(self.path, error) from error
        self._actor = actor
        self._mark_started()

    # Every message passes through this loop. It is one function because calls would be a large part of its cost.
    async def _receive(self, now: float) -> Turn:  # noqa: C901, PLR0912, PLR0915
        mailbox, actor, worker = self.mailbox, self._actor, self.worker
        assert actor is not None, "an actor has started before it handles messages"
        assert worker is not None, "an actor is on a worker during its turn"
        routes, entries, task = actor.routes, mailbox.entries, worker.steps
        entry: Any
        message: Any
        kind, handler = None, None
        began, taken, stride, high_water = now, 0, 1, mailbox.high_water
        while True:
            taken += stride
            mailbox.since, steps = now, task._schedule_points  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            for _ in range(stride):
                depth = len(entries)
                if mailbox.signals:
                    entry = mailbox.take_watch()
                    if entry is None:
                        return Turn.ENDED
                elif depth:
                    if depth > high_water:
                        mailbox.high_water = high_water = depth
                    entry = entries.popleft()
                    if mailbox.senders:
                        mailbox.admit()
                else:
                    return self._rest()
                mailbox.current = entry
                if type(entry) is kind:
                    # It was told and has the type of the message before it: the usual case in a stream of messages.
                    message = entry
                elif type(entry) is Reply:
                    message, kind = entry.message, None
                    handler = routes[type(message)]
                else:
                    message, kind = entry, type(entry)
                    handler = routes[kind]
                if handler is None:
                    self._refuse_unhandled(entry, message)
                    continue
                try:
                    value = handler(actor, message)
                    # A missing attribute is found out fast; a present one may mislead, in a proxy or a class.
                    if value is not None and (
                        type(value) is CoroutineType or (hasattr(value, "__await__") and isinstance(value, Awaitable))
                    ):
                        value = await value
                except message.declared_errors as error:
                    self._answer_declared(entry, error)
                else:
                    if message is not entry and not entry.held:
                        entry.set(value)
                mailbox.handled += 1
                if task._schedule_points != steps:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                    # The handler has waited for an unknown time, so look at the clock.
                    break
            if not entries and not mailbox.signals:
                return self._rest()
            now = self.queue.clock()
            if now >= began + TURN_S or (now == began and taken + STRIDE > BATCH_MAX):
                break
            stride = STRIDE if now - mailbox.since < QUICK_S else 1
        return Turn.MORE

    def _rest(self) -> Turn:
        """Return how the turn ends, now that nothing seems to wait."""
        mailbox = self.mailbox
        if mailbox.entries or mailbox.signals:
            # The mailbox has created its queue since the turn began, for its first message.
            return Turn.MORE
        # A sealed mailbox that is empty has been drained.
        mailbox.idle = not mailbox.sealed
        return Turn.IDLE if mailbox.idle else Turn.ENDED

    def _answer_plainly(self, actor: Actor[ProtocolT], reply: Reply[Any]) -> None:
        mailbox, message = self.mailbox, reply.message
        handler = actor.routes[type(message)]
        assert handler is not None, "only a handler is plain"
        try:
            value = self.queue.aside.run(handler, actor, message)
        except message.declared_errors as error:
            self._answer_declared(reply, error)
        else:
            if value is not None and hasattr(value, "__await__") and isinstance(value, Awaitable):
                # The handler only looked plain; what it returned is awaited in a turn.
                self._begun = (reply, value)
                return
            if not reply.held:
                reply.set(value)
        mailbox.current = None
        mailbox.handled += 1

    async def _go_on(self, begun: tuple[Reply[Any], Awaitable[Any]]) -> Turn:
        """Await what a handler that looked plain has returned, and answer with the result."""
        self._begun = None
        signals = self.mailbox.signals
        if signals and signals[0][0] is Lane.KILL:
            # The kill found the actor on no worker, and so had nothing to cancel.
            assert self.worker is not None, "an actor is on a worker during its turn"
            self.worker.cancel()
        reply, awaitable = begun
        try:
            value = await awaitable
        except reply.message.declared_errors as error:
            self._answer_declared(reply, error)
        else:
            if not reply.held:
                reply.set(value)
        self.mailbox.handled += 1
        return Turn.MORE

    async def _wind_down(self) -> None:
        """End the incarnation, even under cancellation: its tasks and timers, `on_stop`, then what it left open."""
        self.mailbox.idle = False
        actor, self._actor = self._actor, None
        incarnation, self._incarnation = self._incarnation, None
        assert incarnation is not None, "an incarnation that ends has begun"
        await incarnation.end()
        if actor is not None and type(actor).on_stop is not Actor.on_stop:
            await self._say_farewell(actor)
        assert self.worker is not None, "an actor is on a worker while it ends"
        await self.worker.close_left_open(self.path)
        self._unanswered += incarnation.deferred

    async def _say_farewell(self, actor: Actor[ProtocolT]) -> None:
        scope = trio.CancelScope(deadline=trio.current_time() + self.spec.shutdown_s, shield=True)
        try:
            # The scope is inside of `try`, because leaving it removes its own cancellation from an exception group.
            with scope:
                await actor.on_stop()
        except Exception:
            # The incarnation's exit is decided already; an error of its cleanup must not replace it.
            _LOGGER.exception("on_stop of %s raised", self.path, extra={"actor": self.path})
        if scope.cancelled_caught:
            _LOGGER.warning(
                "on_stop of %s was cancelled after %g s", self.path, self.spec.shutdown_s, extra={"actor": self.path}
            )

    def _launch(self) -> None:
        # An actor that was stopping by itself when a group restart overtook it takes messages again.
        self.mailbox.reopen()
        self.wake()

    def _ask_to_stop(self, *, final: bool) -> None:
        if final and self.spec.drain:
            self.mailbox.seal()
        elif final:
            self.mailbox.close()
        self._signal_stop()

    def _signal_stop(self) -> None:
        """Send the stop message, unless the mailbox is draining: then the actor ends once it is empty."""
        if self.mailbox.closed or not self.mailbox.sealed or not self.mailbox.entries:
            self.mailbox.signal(Lane.STOP)

    def _answer_declared(self, entry: Entry, error: Exception) -> None:
        if self.mailbox.current is None:
            # The message was stashed; it is answered when it is handled again.
            return
        if isinstance(entry, Reply):
            entry.fail(error)
        else:
            _LOGGER.warning(
                "%s answered a told %s with %r", self.path, type(entry).__name__, error, extra={"actor": self.path}
            )

    def _refuse_unhandled(self, entry: Entry, message: object) -> None:
        self.mailbox.current = None
        error = TypeError(f"{self.path} has no handler for {type(message).__name__}")
        self.mailbox.discard(entry, DeadLetterReason.UNHANDLED, ActorFailed(self.path, error))

    def _refuse_current(self, cause: BaseException) -> None:
        """Make the message whose handler raised a dead letter and answer its asker, unless it is redelivered."""
        mailbox = self.mailbox
        entry, mailbox.current = mailbox.current, None
        if entry is None and self._actor is not None:
            # The handler stashed the message and then raised. The stash has taken one off the count; add it again.
            mailbox.handled += 1
        if entry is not None and not mailbox.take_back(entry):
            mailbox.discard(entry, DeadLetterReason.FAILED, ActorFailed(self.path, cause))

    def _close_down(self, cause: BaseException | None) -> None:
        mailbox = self.mailbox
        if cause is not None:
            # After an exception group or the failure of a background task, the message is still open here.
            self._refuse_current(cause)
        entry, mailbox.current = mailbox.current, None
        if entry is not None and mailbox.take_back(entry):
            # Its reply may have been deferred; now the message waits again.
            self._unanswered = tuple(reply for reply in self._unanswered if reply is not entry)
        elif entry is not None:
            self.environment.dead_letters.record(self.path, message_of(entry), DeadLetterReason.INTERRUPTED)
            if isinstance(entry, Reply):
                self._unanswered += (entry,)
        mailbox.unstash()

    def _answer(self, error: ActorRestarted | ActorStopped) -> None:
        unanswered, self._unanswered = self._unanswered, ()
        for reply in unanswered:
            reply.fail(error)

    def _log_overdue(self) -> None:
        mailbox = self.mailbox
        doing = "its hooks or background tasks"
        if mailbox.current is not None:
            age_s = trio.current_time() - mailbox.since
            doing = f"{type(message_of(mailbox.current)).__name__} for {age_s:.1f} s"
        _LOGGER.warning(
            "%s was cancelled and still runs: %s",
            self.path,
            doing,
            extra={"actor": self.path, "incarnation": self.incarnation},
        )
        self._timer = self.environment.timers.call_later(_OVERDUE_EVERY_S, self._log_overdue)
