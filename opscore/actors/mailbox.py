"""A bounded queue with lanes, and the one parked task that reads it."""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio
from outcome import Error

from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorStopped, MailboxFull
from opscore.actors.message import Message
from opscore.actors.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from opscore.actors.dead_letters import DeadLetters

Entry: TypeAlias = Message[Any, Any] | Reply[Any]
"""What waits in the user lane: a told message, or the reply of an asked one."""

HANDLING: ContextVar[Mailbox | None] = ContextVar("opscore_actors_handling", default=None)
"""The mailbox whose actor the current task came from; `asker` tells whether the actor waits for it."""


def asker() -> Mailbox | None:
    """Return the mailbox of the actor that waits for the current task, if one does.

    A handler waits for what it runs and for the nurseries it opens, not for what it starts in a nursery of others,
    though that inherits its context variables.
    """
    mailbox = HANDLING.get()
    if mailbox is None:
        return None
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None and task is not mailbox.task:
        nursery = task.parent_nursery
        task = None if nursery is None else nursery.parent_task
    return None if task is None else mailbox


class Overflow(enum.Enum):
    """What a full mailbox does with a tell; `send` waits for room under each of them."""

    REJECT = "reject"
    """Raise `MailboxFull` to the sender."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting message becomes a dead letter."""
    DROP_NEWEST = "drop_newest"
    """The message told becomes a dead letter; an ask gets `MailboxFull`."""


class Lane(enum.IntEnum):
    """Control lanes in the order they are read; they go before user messages and never refuse."""

    KILL = 0
    STOP = 1
    SUPERVISION = 2
    WATCH = 3


@attrs.frozen(kw_only=True)
class MailboxSpec:
    """How much a mailbox holds, and what it does when it is full."""

    capacity: int = attrs.field(default=1024, validator=attrs.validators.ge(1))
    """User messages that may wait at a time."""
    overflow: Overflow = Overflow.REJECT


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """A mailbox as it was at one moment."""

    depth: int
    """User messages waiting."""
    high_water: int
    """The most that ever waited at a time."""
    handled: int
    """Messages whose handler returned or answered with a declared error."""
    dropped: int
    """Messages that the overflow policy dropped."""


class Mailbox:
    """Holds what an actor has yet to handle, across its restarts."""

    __slots__ = (
        "_dead_letters",
        "_high_water",
        "_limit",
        "_order",
        "_reader",
        "_spec",
        "_watchers",
        "closed",
        "current",
        "dropped",
        "entries",
        "handled",
        "name",
        "senders",
        "signals",
        "task",
    )

    def __init__(self, name: str, spec: MailboxSpec, dead_letters: DeadLetters) -> None:
        self.name = name
        self.closed = False
        self.current: Entry | None = None
        self.task: trio.lowlevel.Task | None = None
        # The receive loop reads these three without a call between: they are filled and emptied in place.
        self.signals: list[tuple[Lane, int, Any]] = []
        self.entries: deque[Entry] = deque()
        self.senders: dict[trio.lowlevel.Task, Entry] = {}
        self.handled = 0
        self.dropped = 0
        self._spec = spec
        self._dead_letters = dead_letters
        # A closed mailbox has a limit of -1, so that the way of most messages costs one comparison.
        self._limit = spec.capacity
        self._high_water = 0
        self._order = itertools.count()
        self._reader: trio.lowlevel.Task | None = None
        self._watchers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        """Return how many user messages wait."""
        return len(self.entries)

    def put(self, entry: Entry) -> None:
        """Queue a message without waiting; a full mailbox follows its policy.

        Raises:
            MailboxFull: The policy is to reject, or it would drop an ask.
            ActorStopped: An ask came to an actor that is gone. A told message becomes a dead letter.
        """
        depth = len(self.entries)
        if depth >= self._limit:
            self._overflow(entry)
            return
        self.entries.append(entry)
        if depth >= self._high_water:
            self._high_water = depth + 1
        reader = self._reader
        if reader is not None:
            self._reader = None
            trio.lowlevel.reschedule(reader)

    async def put_when_room(self, entry: Entry) -> None:
        """Queue a message, waiting for room in order of arrival; a checkpoint only when it waits.

        Raises:
            ActorStopped: The actor is gone, or went while this waited.
        """
        if self.closed:
            raise ActorStopped(self.name)
        if len(self.entries) < self._limit:
            self.put(entry)
            return
        task = trio.lowlevel.current_task()
        self.senders[task] = entry

        def abandon(_: Callable[[], None]) -> trio.lowlevel.Abort:
            del self.senders[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)

    def signal(self, lane: Lane, item: object = None) -> None:
        """Queue a control message; it is never refused and goes before every user message."""
        heapq.heappush(self.signals, (lane, next(self._order), item))
        self._wake()

    def take_signal(self) -> tuple[Lane, Any]:
        """Take the first control message."""
        lane, _, item = heapq.heappop(self.signals)
        return lane, item

    def take(self) -> Entry:
        """Take the oldest user message."""
        entry = self.entries.popleft()
        if self.senders:
            self.admit()
        return entry

    def admit(self) -> None:
        """Queue the message of the sender who has waited longest; called whenever a message was taken."""
        task = next(iter(self.senders))
        self.entries.append(self.senders.pop(task))
        trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait until there is something to take; a checkpoint only when it waits."""
        if self.entries or self.signals:
            return
        assert self._reader is None, "a mailbox has one reader"
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def close(self) -> None:
        """Refuse everything from now on; what waits becomes dead letters and asks get `ActorStopped`."""
        if self.closed:
            return
        self.closed = True
        self._limit = -1
        entries = tuple(self.entries)
        self.entries.clear()
        for entry in entries:
            self.discard(entry, DeadLetterReason.STOPPED, ActorStopped(self.name))
        senders = tuple(self.senders)
        self.senders.clear()
        for task in senders:
            trio.lowlevel.reschedule(task, Error(ActorStopped(self.name)))
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    def discard(self, entry: Entry, reason: DeadLetterReason, error: Exception) -> None:
        """Make a message a dead letter and fail its asker, if it has one."""
        message = entry
        if isinstance(entry, Reply):
            entry.fail(error)
            message = entry.message
        self._dead_letters.record(self.name, message, reason)

    def watch(self, on_closed: Callable[[], None]) -> Callable[[], None]:
        """Call back once this mailbox is closed, at once if it is; returns what ends the watch."""
        if self.closed:
            on_closed()
        else:
            self._watchers.append(on_closed)

        def unwatch() -> None:
            if on_closed in self._watchers:
                self._watchers.remove(on_closed)

        return unwatch

    def statistics(self) -> MailboxStatistics:
        """Return the mailbox as it is now."""
        return MailboxStatistics(
            depth=len(self.entries),
            high_water=self._high_water,
            handled=self.handled,
            dropped=self.dropped,
        )

    def _overflow(self, entry: Entry) -> None:
        asked = isinstance(entry, Reply)
        message = entry.message if isinstance(entry, Reply) else entry
        if self.closed:
            if asked:
                raise ActorStopped(self.name)
            self._dead_letters.record(self.name, message, DeadLetterReason.STOPPED)
        elif self._spec.overflow is Overflow.DROP_OLDEST:
            self.dropped += 1
            oldest = self.entries.popleft()
            self.entries.append(entry)
            lost = oldest.message if isinstance(oldest, Reply) else oldest
            self.discard(oldest, DeadLetterReason.DROPPED_OLDEST, MailboxFull(self.name, lost))
        elif self._spec.overflow is Overflow.DROP_NEWEST and not asked:
            self.dropped += 1
            self._dead_letters.record(self.name, message, DeadLetterReason.DROPPED_NEWEST)
        else:
            raise MailboxFull(self.name, message)

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None:
            self._reader = None
            trio.lowlevel.reschedule(reader)

    def _leave(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED
