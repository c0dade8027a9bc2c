"""Many actors on few tasks: an actor takes a task only while it has something to do.

A worker is a trio task with a cancel scope. It gives actors that have mail their turns, one after the other; a
handler that waits keeps its worker, and another one goes on with the rest. Cancelling an actor cancels the scope of
the worker it is on, and nobody else is ever on that one. ADR 8 tells why, and what was measured.
"""

from __future__ import annotations

import enum
import math
import operator
from collections import deque
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from opscore.actors.errors import NurseryLeftOpen
from opscore.actors.left_open import close_left_open, is_left_open
from opscore.actors.steps import Steps, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context as Variables

    from opscore.actors.mailbox import Mailbox

SLICE_S: Final = 0.001
"""Seconds that actors may run before the rest of the program gets a turn."""
TURN_S: Final = SLICE_S / 2
"""Seconds that one actor may run before the others get a turn; it may exceed them by one message."""
BATCH_MAX: Final = 64
"""Messages that an actor may handle in one turn where the clock stands still, as virtual ones do."""
MESSAGES_MAX: Final = 128
"""About how many messages are handled before the rest of the program gets a turn, where the clock stands still."""
STRIDE: Final = 8
"""Messages handled from one look at the clock to the next, as long as they are quick."""
QUICK_S: Final = SLICE_S / 8
"""A stride, or a first message, that took longer than this has every message after it looked at."""
ANSWERS_MAX: Final = 32
"""Questions that are answered at once in one pass of trio's loop, at least, before one is queued: others get a turn."""
REACH_MAX: Final = 32
"""Workers that are sent on their way at once, at most."""
IDLE_MAX: Final = 256
"""Workers kept for later when there is nothing to do."""

WORKER: ContextVar[Worker | None] = ContextVar("opscore_actors_worker", default=None)
"""The worker whose task the current one came from; `asker` tells whether its actor waits for it."""


class Turn(enum.Enum):
    """How an actor left its turn."""

    IDLE = "idle"
    """It wants to be woken."""
    MORE = "more"
    """It has more to do."""
    ENDED = "ended"
    """Its incarnation is over."""


class Runnable(Protocol):
    """What workers run."""

    queue: RunQueue
    worker: Worker | None

    @property
    def mailbox(self) -> Mailbox:
        """Where its messages wait."""
        ...

    async def turn(self, now: float) -> Turn:
        """Do what there is to do, for `TURN_S` at most from `now` on, which is by the queue's clock."""
        ...

    def fail(self, cause: BaseException) -> None:
        """Crash the incarnation from outside its turn."""
        ...

    def finish(self, cause: BaseException | None) -> None:
        """Take note that the incarnation is over."""
        ...


def asker() -> Mailbox | None:
    """Return the mailbox of the actor that waits for the current task, if one does.

    A handler waits for what it runs and for the nurseries it opens, not for what it starts in a nursery of others,
    though that inherits its context variables.
    """
    worker = WORKER.get()
    if worker is None or worker.actor is None:
        return None
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None and task is not worker.task:
        nursery = task.parent_nursery
        task = None if nursery is None else nursery.parent_task
    return None if task is None else worker.actor.mailbox


@attrs.frozen(kw_only=True)
class SchedulerStatistics:
    """The workers of one system as they were at one moment."""

    workers: int
    """Tasks that run actors, those of pinned actors included."""
    idle: int
    """How many of them have nothing to do."""
    ready: int
    """Actors that wait for their turn."""


class RunQueue:
    """Actors that wait for their turn, and the workers that give it to them.

    Whenever an actor waits here, a worker is on its way: it was rescheduled (`called`), or it is running and looks
    here again before it does anything else.

    A worker whose handler waits is followed by another one within the next pass of trio's loop. Where handlers wait
    one after the other, as they do who commit, each pass sends twice as many: a hundred actors take eight passes and
    not a hundred.
    """

    def __init__(
        self,
        spawn: Callable[[Worker, Variables], None],
        clock: Callable[[], float],
        variables: Variables,
        shared: RunQueue | None = None,
        ready: deque[Runnable] | None = None,
    ) -> None:
        self.ready: deque[Runnable] = deque() if ready is None else ready
        self.idle: list[Worker] = []
        self.called = 0
        """Workers that were idle and are on their way; they arrive within one pass of trio's loop."""
        self.began = -math.inf
        """When the newest slice began: workers that arrive in one pass share it."""
        self.workers = 0
        self.clock = clock
        self.shared = self if shared is None else shared
        """The queue of most actors; another one is that of a single, pinned actor."""
        self.aside = variables.copy()
        """Context variables for questions that are answered in their askers' tasks."""
        self.owner: Runnable | None = None
        """The pinned actor whose own queue it is."""
        self.answered = 0
        """Questions that were, since the last one that was not, or since a worker came."""
        self._spawn = spawn
        self._variables = variables
        self._newest: Worker | None = None
        self._waiting = 0
        self._is_open = False

    def push(self, actor: Runnable) -> None:
        """Have an actor run."""
        self.ready.append(actor)
        if not self.called:
            self.call()

    def call(self) -> None:
        """Send a worker on its way."""
        self.expect()
        if self.idle:
            trio.lowlevel.reschedule(self.idle.pop().task)
        else:
            self._spawn(Worker(self), self._variables)

    def call_followers(self) -> None:
        """Send those on their way who go on with the rest, should the handler wait that is about to run.

        They are two for each worker that was found waiting since the last ones were sent.
        """
        count, self._waiting = max(1, 2 * self._waiting), 0
        for _ in range(min(count, REACH_MAX, len(self.ready))):
            self.call()

    def expect(self) -> None:
        """Note that a worker is on its way; what it finds is for the next slice."""
        self.called += 1
        self._is_open = False

    def arrive(self, worker: Worker) -> None:
        """Note that a worker has come; the first of those that come in one pass begins the slice."""
        self.called -= 1
        # It has waited for its turn, and so has everyone had one.
        self.answered = 0
        before, self._newest = self._newest, worker
        if before is not None and before is not worker and before.actor is not None:
            self._waiting += 1
        if not self._is_open:
            self._is_open = True
            self.began = self.clock()

    def pin(self, actor: Runnable, variables: Variables) -> None:
        """Give an actor a queue of its own, whose worker starts from the context variables that it set."""
        actor.queue = RunQueue(self._spawn, self.clock, variables, self)
        actor.queue.owner = actor

    def pin_if_marked(self, actor: Runnable) -> None:
        """See whether an answer set context variables, and pin the actor that gave it if so."""
        if _differ(self.aside, self._variables):
            self.pin(actor, self.aside)
            self.aside = self._variables.copy()

    def statistics(self) -> SchedulerStatistics:
        """Return the workers as they are now."""
        return SchedulerStatistics(workers=self.workers, idle=len(self.idle), ready=len(self.ready))


def _differ(now: Variables, before: Variables) -> bool:
    """Return whether any context variable is another object than before."""
    try:
        # Two contexts that share their contents, as these do nearly always, are compared by identity within.
        if now != before:
            return True
    except Exception:  # noqa: BLE001 (values that cannot be compared, such as arrays, are others)
        return True
    # What equals the value before may be another object, which its actor may change later.
    return not all(map(operator.is_, now.values(), before.values()))


class Worker:
    """A task that runs one actor at a time.

    What an actor sets in context variables is its own for as long as it lives, and nobody else's: one that does so, or
    that leaves a nursery open between messages, is pinned: it keeps its worker for itself until it ends.
    """

    task: trio.lowlevel.Task

    def __init__(self, queue: RunQueue) -> None:
        self.actor: Runnable | None = None
        """Whose turn it is."""
        self.steps: Steps
        """What tells whether its task has waited."""
        self._queue = queue
        self._scope = trio.CancelScope()
        self._cancelled = False
        self._spoilt = False

    def cancel(self) -> None:
        """Cancel what the actor on this worker is doing."""
        self._cancelled = True
        self._scope.cancel()

    async def close_left_open(self, actor: str) -> None:
        """Close what the actor that ends leaves open; this worker ends with it."""
        if is_left_open(self.task, self._scope):
            self._spoilt = True
            await close_left_open(self.task, self._scope, actor)

    # Ctrl-C belongs to whoever opened the system, who stops it in order, and not to the handler that happens to run.
    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run actors for as long as this worker is needed."""
        self.task = trio.lowlevel.current_task()
        self.steps = steps_of(self.task)
        WORKER.set(self)
        self._variables = copy_context()
        self._queue.arrive(self)
        shared = self._queue.shared
        shared.workers += 1
        try:
            while await self._run_until_cancelled():
                # A cancel scope serves once: the next actor gets a new one.
                self._scope = trio.CancelScope()
                self._cancelled = False
        finally:
            shared.workers -= 1

    async def _run_until_cancelled(self) -> bool:
        """Run actors until one of them is cancelled; return whether the worker can go on after that."""
        cause: BaseException | None = None
        try:
            with self._scope:
                return await self._serve()
        except Exception as error:  # noqa: BLE001 (what an actor raised beside its cancellation is for its supervisor)
            cause = error
        except BaseException as error:
            if not self._is_stray(error):
                # The whole program is on its way out: whoever waits for this actor's end must not wait for ever.
                if self.actor is not None:
                    self._ended(self.actor, None)
                raise
            assert self.actor is not None, "only an actor leaves something open"
            cause = NurseryLeftOpen(self.actor.mailbox.name, error)
        assert self.actor is not None, "only actors are cancelled"
        return self._ended(self.actor, cause)

    async def _serve(self) -> bool:
        """Give actors their turns; return whether the worker can go on with another cancel scope."""
        queue = self._queue
        ready, clock = queue.ready, queue.clock
        began, messages = queue.began, 0
        while not self._cancelled:
            now = clock()
            if not ready or now >= began + SLICE_S or (now == began and messages >= MESSAGES_MAX):
                if not await self._pause_unless_left_open():
                    return False
                began, messages = queue.began, 0
                continue
            messages += 1
            self.actor = actor = ready.popleft()
            if ready and not queue.called:
                # Should this actor wait for something, another worker goes on with the others.
                queue.call_followers()
            actor.worker = self
            try:
                turn = await actor.turn(now)
            except Exception as error:  # noqa: BLE001 (whatever an actor raises is for its supervisor to judge)
                if not self._ended(actor, error):
                    return False
                continue
            if turn is Turn.ENDED:
                if not self._ended(actor, None):
                    return False
                continue
            self.actor = actor.worker = None
            if queue is queue.shared and self._is_marked():
                queue = self._pin(actor)
                ready = queue.ready
            if turn is Turn.MORE:
                messages += BATCH_MAX
                # No call for another worker: this one looks here again, and a pinned actor must stay on it.
                ready.append(actor)
        return True

    def _ended(self, actor: Runnable, cause: BaseException | None) -> bool:
        """Let go of an actor whose incarnation is over; return whether others can run here."""
        queue = self._queue
        self.actor = actor.worker = None
        actor.queue = queue.shared
        can_go_on = queue is queue.shared and not self._spoilt and not self._is_marked()
        if not can_go_on:
            self._hand_over()
        actor.finish(cause)
        return can_go_on

    async def _pause(self) -> bool:
        """Let the rest of the program run, or wait to be called; return whether the worker is still needed."""
        queue = self._queue
        if queue.ready and not queue.called:
            queue.expect()
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif len(queue.idle) >= IDLE_MAX:
            return False
        else:
            queue.idle.append(self)
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        queue.arrive(self)
        return True

    async def _pause_unless_left_open(self) -> bool:
        """Pause; if a nursery that the pinned actor left open is cancelled meanwhile, the actor fails."""
        try:
            return await self._pause()
        except trio.Cancelled as error:
            owner = self._queue.owner
            if owner is None or not self._is_stray(error):
                raise
            # This worker is on its way already.
            self._queue.expect()
            owner.fail(NurseryLeftOpen(owner.mailbox.name, error))
            self._queue.arrive(self)
            return True

    def _is_stray(self, error: BaseException) -> bool:
        """Return whether nothing but a scope that the actor left open asked for a cancellation."""
        nursery = self.task.parent_nursery
        if nursery is None or nursery.cancel_scope.cancel_called:
            return False
        if isinstance(error, BaseExceptionGroup):
            rest = error.split(trio.Cancelled)[1]
            return rest is None or isinstance(rest, Exception)
        return isinstance(error, trio.Cancelled)

    def _is_marked(self) -> bool:
        """Return whether an actor left something behind in the task that others must not see."""
        return _differ(copy_context(), self._variables) or is_left_open(self.task, self._scope)

    def _pin(self, actor: Runnable) -> RunQueue:
        """Let this worker run the one actor only."""
        self._hand_over()
        self._queue.pin(actor, self._variables)
        self._queue = actor.queue
        return self._queue

    def _hand_over(self) -> None:
        """Have another worker go on with what waits in the shared queue."""
        queue = self._queue
        if queue is queue.shared and queue.ready and not queue.called:
            queue.call()

    def _leave(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._queue.idle.remove(self)
        return trio.lowlevel.Abort.SUCCEEDED
