"""The scheduler, which runs many actors on few tasks: an actor occupies a task only while it has something to do.

A worker is a trio task with a cancel scope. It gives actors that have mail their turns, one after the other. A handler
that waits keeps its worker, and another worker goes on with the rest. Cancelling an actor cancels the scope of the
worker that it is on, which no other actor shares at that time. ADR 8 gives the reasons and the measurements.
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
"""Seconds that one actor may run before the others get a turn; it may exceed this by one message."""
BATCH_MAX: Final = 64
"""Messages that an actor may handle in one turn while the clock stands still, as a virtual clock does."""
MESSAGES_MAX: Final = 128
"""About how many messages are handled before the rest of the program gets a turn, while the clock stands still."""
STRIDE: Final = 8
"""Messages handled between two reads of the clock, as long as they are quick."""
QUICK_S: Final = SLICE_S / 8
"""After a stride or a first message that took longer than this, the clock is read after each message."""
ANSWERS_MAX: Final = 32
"""Asks answered at once before one is queued, so that others get a turn; the count restarts when a worker arrives."""
REACH_MAX: Final = 32
"""Maximum number of workers that are called at once."""
IDLE_MAX: Final = 256
"""Maximum number of idle workers that are kept."""

WORKER: ContextVar[Worker | None] = ContextVar("opscore_actors_worker", default=None)
"""The worker whose task the current task descends from; `asker` tells whether its actor waits for the current task."""


class Turn(enum.Enum):
    """How an actor left its turn."""

    IDLE = "idle"
    """It has nothing to do, and wants to be woken by the next message."""
    MORE = "more"
    """It has more to do."""
    ENDED = "ended"
    """Its incarnation is over."""


class Runnable(Protocol):
    """An actor as workers see it."""

    queue: RunQueue
    worker: Worker | None

    @property
    def mailbox(self) -> Mailbox:
        """The actor's mailbox."""
        ...

    async def turn(self, now: float) -> Turn:
        """Handle messages, for at most `TURN_S` from `now`, which is a time of the queue's clock."""
        ...

    def fail(self, cause: BaseException) -> None:
        """Crash the incarnation from outside of its turn."""
        ...

    def finish(self, cause: BaseException | None) -> None:
        """Record that the incarnation has ended."""
        ...


def asker() -> Mailbox | None:
    """Return the mailbox of the actor that waits for the current task, or None.

    A handler waits for its own task and for the nurseries that it opens. It does not wait for a task that it starts in
    another nursery, though that task inherits its context variables.
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
    """The workers of one system at one moment."""

    workers: int
    """Number of workers, including those of pinned actors."""
    idle: int
    """Number of workers that have nothing to do."""
    ready: int
    """Number of actors that wait for their turn."""


class RunQueue:
    """The actors that wait for their turn, and the workers that serve them.

    Whenever an actor waits here, a worker is coming: it was rescheduled (`called`), or it is running and looks here
    again before it does anything else.

    If a handler waits, another worker follows within the next pass of trio's loop. If one handler after the other
    waits, as when all of them commit, each pass calls twice as many workers as the last: a hundred actors take eight
    passes instead of a hundred.
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
        """Number of workers that were called and have not arrived; they arrive within one pass of trio's loop."""
        self.began = -math.inf
        """When the newest slice began; workers that arrive in the same pass share it."""
        self.workers = 0
        self.clock = clock
        self.shared = self if shared is None else shared
        """The queue that most actors share; any other queue belongs to a single, pinned actor."""
        self.aside = variables.copy()
        """Context variables for handlers that run in the asker's task."""
        self.owner: Runnable | None = None
        """The pinned actor that this queue belongs to, if any."""
        self.answered = 0
        """Asks answered in the asker's task since one was last queued or a worker last arrived."""
        self._spawn = spawn
        self._variables = variables
        self._newest: Worker | None = None
        self._waiting = 0
        self._is_open = False

    def push(self, actor: Runnable) -> None:
        """Queue an actor for a turn."""
        self.ready.append(actor)
        if not self.called:
            self.call()

    def call(self) -> None:
        """Call a worker: wake an idle one, or start another."""
        self.expect()
        if self.idle:
            trio.lowlevel.reschedule(self.idle.pop().task)
        else:
            self._spawn(Worker(self), self._variables)

    def call_followers(self) -> None:
        """Call the workers that go on with the rest if the next handler waits.

        They are two for each worker that was found waiting since the last such call, and at least one.
        """
        count, self._waiting = max(1, 2 * self._waiting), 0
        for _ in range(min(count, REACH_MAX, len(self.ready))):
            self.call()

    def expect(self) -> None:
        """Note that a worker was called; its arrival begins the next slice."""
        self.called += 1
        self._is_open = False

    def arrive(self, worker: Worker) -> None:
        """Note that a worker has arrived; the first to arrive in a pass begins the slice."""
        self.called -= 1
        # By the time a worker arrives, all other tasks that were ready have had a turn.
        self.answered = 0
        before, self._newest = self._newest, worker
        if before is not None and before is not worker and before.actor is not None:
            self._waiting += 1
        if not self._is_open:
            self._is_open = True
            self.began = self.clock()

    def pin(self, actor: Runnable, variables: Variables) -> None:
        """Give an actor a queue of its own, whose worker starts with the context variables that the actor has set."""
        actor.queue = RunQueue(self._spawn, self.clock, variables, self)
        actor.queue.owner = actor

    def pin_if_marked(self, actor: Runnable) -> None:
        """Pin the actor if its handler, which ran in the asker's task, has set context variables."""
        if _differ(self.aside, self._variables):
            self.pin(actor, self.aside)
            self.aside = self._variables.copy()

    def statistics(self) -> SchedulerStatistics:
        """Return the current figures."""
        return SchedulerStatistics(workers=self.workers, idle=len(self.idle), ready=len(self.ready))


def _differ(now: Variables, before: Variables) -> bool:
    """Return whether any context variable is another object than before."""
    try:
        # This is fast: the two contexts nearly always share their contents, and identity is checked first.
        if now != before:
            return True
    except Exception:  # noqa: BLE001 (values that can't be compared, such as arrays, count as different)
        return True
    # An equal value may still be another object, which the actor may change later.
    return not all(map(operator.is_, now.values(), before.values()))


class Worker:
    """A task that runs one actor at a time.

    Context variables that an actor sets must last as long as the actor and be seen by no other. So an actor that sets
    some, or that leaves a nursery open between messages, is pinned: it keeps its worker to itself until it ends.
    """

    task: trio.lowlevel.Task

    def __init__(self, queue: RunQueue) -> None:
        self.actor: Runnable | None = None
        """The actor whose turn it is."""
        self.steps: Steps
        """Tells whether the worker's task has waited."""
        self._queue = queue
        self._scope = trio.CancelScope()
        self._cancelled = False
        self._spoilt = False

    def cancel(self) -> None:
        """Cancel what the current actor is doing."""
        self._cancelled = True
        self._scope.cancel()

    async def close_left_open(self, actor: str) -> None:
        """Close what the ending actor has left open, if anything; then this worker ends as well."""
        if is_left_open(self.task, self._scope):
            self._spoilt = True
            await close_left_open(self.task, self._scope, actor)

    # Ctrl-C is for the task that opened the system, which stops it in order, not for the handler that happens to run.
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
                # A cancel scope can be used only once, so the next actor gets a new one.
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
                # The whole program is ending: tasks that wait for the end of this actor must not wait for ever.
                if self.actor is not None:
                    self._ended(self.actor, None)
                raise
            assert self.actor is not None, "only an actor leaves a nursery or scope open"
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
                # If this actor waits, other workers go on with the rest.
                queue.call_followers()
            actor.worker = self
            try:
                turn = await actor.turn(now)
            except Exception as error:  # noqa: BLE001 (an actor's error is for its supervisor to judge)
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
                # No worker is called: this one looks here again, and a pinned actor must stay on it.
                ready.append(actor)
        return True

    def _ended(self, actor: Runnable, cause: BaseException | None) -> bool:
        """Release an actor whose incarnation has ended; return whether other actors can run on this worker."""
        queue = self._queue
        self.actor = actor.worker = None
        actor.queue = queue.shared
        can_go_on = queue is queue.shared and not self._spoilt and not self._is_marked()
        if not can_go_on:
            self._hand_over()
        actor.finish(cause)
        return can_go_on

    async def _pause(self) -> bool:
        """Let the rest of the program run or wait to be called; return False if the worker is no longer needed."""
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
        """Pause; if a nursery that the pinned actor left open is cancelled in the meantime, crash the actor."""
        try:
            return await self._pause()
        except trio.Cancelled as error:
            owner = self._queue.owner
            if owner is None or not self._is_stray(error):
                raise
            # This worker counts as called, so that `fail` calls no other.
            self._queue.expect()
            owner.fail(NurseryLeftOpen(owner.mailbox.name, error))
            self._queue.arrive(self)
            return True

    def _is_stray(self, error: BaseException) -> bool:
        """Return whether the cancellation comes only from a scope that the actor left open."""
        nursery = self.task.parent_nursery
        if nursery is None or nursery.cancel_scope.cancel_called:
            return False
        if isinstance(error, BaseExceptionGroup):
            rest = error.split(trio.Cancelled)[1]
            return rest is None or isinstance(rest, Exception)
        return isinstance(error, trio.Cancelled)

    def _is_marked(self) -> bool:
        """Return whether the actor has left something in this task that other actors must not see."""
        return _differ(copy_context(), self._variables) or is_left_open(self.task, self._scope)

    def _pin(self, actor: Runnable) -> RunQueue:
        """Reserve this worker for one actor."""
        self._hand_over()
        self._queue.pin(actor, self._variables)
        self._queue = actor.queue
        return self._queue

    def _hand_over(self) -> None:
        """Call another worker for the actors that wait in the shared queue."""
        queue = self._queue
        if queue is queue.shared and queue.ready and not queue.called:
            queue.call()

    def _leave(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._queue.idle.remove(self)
        return trio.lowlevel.Abort.SUCCEEDED
