"""A mailbox: a bounded queue with control lanes, which outlives the incarnations of its actor."""

from __future__ import annotations

import enum
import heapq
import logging
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import trio
from outcome import Error

from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorStopped, MailboxFull, StashFull
from opscore.actors.mailbox_spec import MailboxSpec, MailboxStatistics, Overflow
from opscore.actors.reply import Reply, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opscore.actors.dead_letters import DeadLetters
    from opscore.actors.reply import Entry


_LOGGER = logging.getLogger("opscore.actors")


class Lane(enum.IntEnum):
    """Control lanes, in the order in which they are read: before user messages. They never refuse a message."""

    KILL = 0
    STOP = 1
    SUPERVISION = 2
    WATCH = 3


class Reader(Protocol):
    """The reader of a mailbox, as the mailbox calls it while it is idle."""

    def wake(self) -> None:
        """Read again: a message has arrived."""
        ...

    def answer_now(self, reply: Reply[Any]) -> bool:
        """Handle an ask at once, without the queue, if its handler never waits; return whether it was taken."""
        ...


@attrs.frozen
class _ParkedTask:
    """A task that waits in `Mailbox.wait`."""

    task: trio.lowlevel.Task

    def wake(self) -> None:
        trio.lowlevel.reschedule(self.task)

    def answer_now(self, reply: Reply[Any]) -> bool:
        return False


_PASSED_OVER_MAX: Final = 32
"""Messages that are taken from a mailbox while senders wait for room, before one of them is let in early."""
_NOT_OPENED: Final[deque[Entry]] = deque(maxlen=0)
_NO_ONE_WAITS: Final[Mapping[trio.lowlevel.Task, Entry]] = MappingProxyType({})


class Mailbox:
    """The messages that an actor has yet to handle, kept across its restarts.

    Queues are created when they are first used, because a deque would take most of the memory of an idle actor.
    """

    __slots__ = (
        "_dead_letters",
        "_order",
        "_passed_over",
        "_spec",
        "_stash",
        "_watchers",
        "asks",
        "cause",
        "closed",
        "current",
        "dropped",
        "entries",
        "gone",
        "handled",
        "high_water",
        "idle",
        "limit",
        "name",
        "reader",
        "sealed",
        "senders",
        "signals",
        "since",
    )

    def __init__(self, name: str, spec: MailboxSpec, dead_letters: DeadLetters) -> None:
        self.name = name
        self.sealed = False
        """Whether it takes no new messages; those that wait may still be handled."""
        self.closed = False
        """Whether it is sealed and emptied; the actor may still be ending, but handles no further message."""
        self.gone = False
        """Whether the actor is gone."""
        self.cause: BaseException | None = None
        """The error that the actor failed with, if it is gone because of one."""
        self.idle = False
        """Whether `reader` wants to be woken."""
        self.reader: Reader | None = None
        self.current: Entry | None = None
        """The entry that is being handled."""
        self.since = 0.0
        """When its handler began, by trio's clock."""
        self.asks: tuple[tuple[Mailbox, Reply[Any]], ...] = ()
        """The asks that the actor's handlers are waiting for."""
        # To save calls, the reader reads these directly and keeps a reference to `entries`, which is emptied in place.
        self.signals: list[tuple[Lane, int, Any]] | tuple[()] = ()
        self.entries: deque[Entry] = _NOT_OPENED
        self.senders: dict[trio.lowlevel.Task, Entry] | Mapping[trio.lowlevel.Task, Entry] = _NO_ONE_WAITS
        self.handled = 0
        self.dropped = 0
        self._spec = spec
        self._dead_letters = dead_letters
        self.limit = 0
        """Capacity, or 0 while the mailbox is sealed or not opened yet, so that `put` needs one comparison."""
        self.high_water = 0
        """Highest depth that the reader has found; only the reader lowers the depth, so it misses no peak."""
        self._order = 0
        self._passed_over = 0
        self._stash: list[Entry] | None = None
        self._watchers: dict[object, Callable[[], None]] | None = None

    def __len__(self) -> int:
        """Return the number of user messages that wait."""
        return len(self.entries)

    def put(self, entry: Entry) -> None:
        """Queue a message without waiting; a full mailbox follows its overflow policy.

        Raises:
            MailboxFull: The policy is to reject, or it is to drop the newest and the message was asked.
            ActorStopped: The message was asked, and the mailbox is sealed. A told message becomes a dead letter.
        """
        entries = self.entries
        if len(entries) >= self.limit:
            self.put_at_limit(entry)
            return
        entries.append(entry)
        if self.idle:
            self.wake()

    async def put_when_room(self, entry: Entry) -> None:
        """Queue a message, waiting for room in order of arrival. It is a checkpoint only if it waits.

        Raises:
            ActorStopped: The mailbox is sealed, or was sealed during the wait.
        """
        if self.sealed:
            raise ActorStopped(self.name)
        if len(self.entries) < self._spec.capacity and not self.senders:
            self.put(entry)
            return
        task = trio.lowlevel.current_task()
        if not isinstance(self.senders, dict):
            self.senders = {}
        senders = self.senders
        senders[task] = entry

        def abandon(_: Callable[[], None]) -> trio.lowlevel.Abort:
            del senders[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abandon)

    def signal(self, lane: Lane, item: object = None) -> None:
        """Queue a control message; it is never refused and goes before all user messages."""
        if not isinstance(self.signals, list):
            self.signals = []
        self._order += 1
        heapq.heappush(self.signals, (lane, self._order, item))
        if self.idle:
            self.wake()

    def take_signal(self) -> tuple[Lane, Any]:
        """Take the first control message."""
        assert isinstance(self.signals, list), "there is a signal to take"
        lane, _, item = heapq.heappop(self.signals)
        return lane, item

    def take_watch(self) -> Entry | None:
        """Take the first control message; None if it ends the incarnation."""
        lane, item = self.take_signal()
        return item if lane is Lane.WATCH else None

    def take(self) -> Entry:
        """Take the oldest user message."""
        self.high_water = max(self.high_water, len(self.entries))
        entry = self.entries.popleft()
        if self.senders:
            self.admit()
        return entry

    def admit(self) -> None:
        """Let in the senders that wait for room, longest wait first; called after every take while any wait.

        They wait until half of the mailbox is free. Each then finds room for more than one message, so that a stream
        of messages does not cost a task switch for each. Now and then one sender is let in earlier, because tells may
        keep the mailbox more than half full.
        """
        self._passed_over += 1
        if 2 * len(self.entries) <= self._spec.capacity:
            while self.senders and len(self.entries) < self._spec.capacity:
                self._admit_one()
        elif self._passed_over >= _PASSED_OVER_MAX and len(self.entries) < self._spec.capacity:
            self._admit_one()

    def _admit_one(self) -> None:
        assert isinstance(self.senders, dict), "waiting senders are kept in a dictionary"
        self._passed_over = 0
        task = next(iter(self.senders))
        self.entries.append(self.senders.pop(task))
        trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait until there is something to take. It is a checkpoint only if it waits."""
        if self.entries or self.signals:
            return
        assert not self.idle, "a mailbox has one reader"
        self.reader = _ParkedTask(trio.lowlevel.current_task())
        self.idle = True
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def stash(self) -> None:
        """Stash the message being handled.

        Raises:
            StashFull: The stash holds `stash_max` messages already; the error carries the message.
        """
        entry = self.current
        assert entry is not None, "only a message that is being handled can be stashed"
        if self._stash is None:
            self._stash = []
        if len(self._stash) >= self._spec.stash_max:
            raise StashFull(self.name, message_of(entry))
        self._stash.append(entry)
        self.current = None
        # When the handler returns, the message is counted as handled, which it is not.
        self.handled -= 1
        if isinstance(entry, Reply):
            entry.undefer()
            entry.held = True

    def unstash(self) -> None:
        """Put the stashed messages before those that wait, in order of arrival, even beyond the capacity."""
        stashed, self._stash = self._stash, None
        for entry in reversed(stashed or ()):
            self._return(entry)

    def take_back(self, entry: Entry) -> bool:
        """Put an unfinished message back at the head, if it may be redelivered; return whether it was put back."""
        again = entry if isinstance(entry, Reply) else Reply(self.name, entry)
        again.failures += 1
        if again.failures > self._spec.redeliveries or self.closed or again.done:
            return False
        self._return(again)
        return True

    def seal(self) -> None:
        """Take no new messages and refuse the senders that wait for room; messages that wait may still be handled."""
        if self.sealed:
            return
        self.sealed = True
        self.limit = 0
        waiting = tuple(self.senders)
        self.senders = _NO_ONE_WAITS
        for task in waiting:
            trio.lowlevel.reschedule(task, Error(ActorStopped(self.name)))

    def reopen(self) -> None:
        """Take messages again, unless it is closed."""
        if self.sealed and not self.closed:
            self.sealed = False
            if self.entries is not _NOT_OPENED:
                self.limit = self._spec.capacity

    def close(self) -> None:
        """Refuse everything from now on; messages that wait become dead letters, and asks get `ActorStopped`."""
        if self.closed:
            return
        self.seal()
        self.closed = True
        self.unstash()
        entries = tuple(self.entries)
        self.entries.clear()
        for entry in entries:
            self.discard(entry, DeadLetterReason.STOPPED, ActorStopped(self.name))

    def bury(self, cause: BaseException | None = None) -> None:
        """Close the mailbox and tell the watchers that the actor is gone.

        Args:
            cause: The error that the actor failed with, if it did.
        """
        self.close()
        self.gone = True
        self.cause = cause
        # The reader and the mailbox refer to each other; this frees both without the garbage collector.
        self.reader, self.idle = None, False
        watchers, self._watchers = self._watchers, None
        for watcher in tuple((watchers or {}).values()):
            try:
                watcher()
            except Exception:
                # An error in one watcher must affect neither the end of the actor nor the other watchers.
                _LOGGER.exception("a watch on %s raised", self.name, extra={"actor": self.name})

    def discard(self, entry: Entry, reason: DeadLetterReason, error: Exception) -> None:
        """Make a message a dead letter and fail its asker, if it has one."""
        if isinstance(entry, Reply):
            entry.fail(error)
        self._dead_letters.record(self.name, message_of(entry), reason)

    def watch(self, on_gone: Callable[[], None]) -> Callable[[], None]:
        """Call a function once the actor is gone, at once if it is gone already; return what ends the watch."""
        key = object()
        if self.gone:
            on_gone()
        elif self._watchers is None:
            self._watchers = {key: on_gone}
        else:
            self._watchers[key] = on_gone

        def unwatch() -> None:
            if self._watchers is not None:
                self._watchers.pop(key, None)

        return unwatch

    def statistics(self) -> MailboxStatistics:
        """Return the current statistics."""
        return MailboxStatistics(
            depth=len(self.entries),
            high_water=max(self.high_water, len(self.entries)),
            stashed=len(self._stash or ()),
            handled=self.handled,
            dropped=self.dropped,
        )

    def put_at_limit(self, entry: Entry) -> None:
        """Queue a message when `limit` is reached: open the mailbox or follow its policy. Raises as `put` does."""
        asked = isinstance(entry, Reply)
        message = message_of(entry)
        if self.sealed:
            if asked:
                raise ActorStopped(self.name)
            self._dead_letters.record(self.name, message, DeadLetterReason.STOPPED)
        elif self.entries is _NOT_OPENED:
            self._open()
            self.put(entry)
        elif self._spec.overflow is Overflow.DROP_OLDEST:
            self.dropped += 1
            oldest = self.entries.popleft()
            self.entries.append(entry)
            self.discard(oldest, DeadLetterReason.DROPPED_OLDEST, MailboxFull(self.name, message_of(oldest)))
        elif self._spec.overflow is Overflow.DROP_NEWEST and not asked:
            self.dropped += 1
            self._dead_letters.record(self.name, message, DeadLetterReason.DROPPED_NEWEST)
        else:
            raise MailboxFull(self.name, message)

    def _open(self) -> None:
        if self.entries is _NOT_OPENED:
            self.entries = deque()
            self.limit = 0 if self.sealed else self._spec.capacity

    def _return(self, entry: Entry) -> None:
        if isinstance(entry, Reply):
            entry.undefer()
            entry.held = False
        self._open()
        self.entries.appendleft(entry)
        if self.idle:
            self.wake()

    def wake(self) -> None:
        """Wake the idle reader."""
        self.idle = False
        assert self.reader is not None, "an idle mailbox has a reader to wake"
        self.reader.wake()

    def _leave(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self.idle = False
        return trio.lowlevel.Abort.SUCCEEDED
