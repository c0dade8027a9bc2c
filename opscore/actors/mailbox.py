"""A bounded queue with lanes, which outlives the incarnations of the actor that reads it."""

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
    """Control lanes in the order they are read; they go before user messages and never refuse."""

    KILL = 0
    STOP = 1
    SUPERVISION = 2
    WATCH = 3


class Reader(Protocol):
    """Who reads a mailbox, and has nothing to read."""

    def wake(self) -> None:
        """Read again: something came."""
        ...

    def answer_now(self, reply: Reply[Any]) -> bool:
        """Answer a question at once, without a queue, if that takes no waiting; return whether it was taken."""
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
"""Messages taken while somebody waits for room, before one of those who wait is let in."""
_NOT_OPENED: Final[deque[Entry]] = deque(maxlen=0)
_NO_ONE_WAITS: Final[Mapping[trio.lowlevel.Task, Entry]] = MappingProxyType({})


class Mailbox:
    """Holds what an actor has yet to handle, across its restarts.

    Queues are made when they are first used, because a deque is most of what an idle actor would weigh.
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
        """Takes nothing new; what waits may still be handled."""
        self.closed = False
        """Sealed and empty: the actor may still be ending, and handles no other message."""
        self.gone = False
        """Whether the actor is gone for good."""
        self.cause: BaseException | None = None
        """What it failed with, if that is why it is gone."""
        self.idle = False
        """Whether `reader` wants to be woken."""
        self.reader: Reader | None = None
        self.current: Entry | None = None
        """What is being handled."""
        self.since = 0.0
        """When its handler began, by trio's clock."""
        self.asks: tuple[tuple[Mailbox, Reply[Any]], ...] = ()
        """Whom the actor's handlers are waiting for."""
        # Whoever reads the mailbox looks at these without a call between: they are emptied in place.
        self.signals: list[tuple[Lane, int, Any]] | tuple[()] = ()
        self.entries: deque[Entry] = _NOT_OPENED
        self.senders: dict[trio.lowlevel.Task, Entry] | Mapping[trio.lowlevel.Task, Entry] = _NO_ONE_WAITS
        self.handled = 0
        self.dropped = 0
        self._spec = spec
        self._dead_letters = dead_letters
        self.limit = 0
        """How many may wait: 0 for one that is sealed or not opened yet, so that one comparison tells."""
        self.high_water = 0
        """The most that ever waited when the reader looked, which is when there can be no more."""
        self._order = 0
        self._passed_over = 0
        self._stash: list[Entry] | None = None
        self._watchers: dict[object, Callable[[], None]] | None = None

    def __len__(self) -> int:
        """Return how many user messages wait."""
        return len(self.entries)

    def put(self, entry: Entry) -> None:
        """Queue a message without waiting; a full mailbox follows its policy.

        Raises:
            MailboxFull: The policy is to reject, or it would drop an ask.
            ActorStopped: An ask came to an actor that is gone. A told message becomes a dead letter.
        """
        entries = self.entries
        if len(entries) >= self.limit:
            self.put_at_limit(entry)
            return
        entries.append(entry)
        if self.idle:
            self.wake()

    async def put_when_room(self, entry: Entry) -> None:
        """Queue a message, waiting for room in order of arrival; a checkpoint only when it waits.

        Raises:
            ActorStopped: The actor is gone, or went while this waited.
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
        """Queue a control message; it is never refused and goes before every user message."""
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
        """Let in those who wait for room, longest first; called after every take while anybody waits.

        They wait until half of the mailbox is free: each then has room for more than the one message that it waited
        with, so that a stream of messages does not cost a switch of tasks each. One is let in earlier now and then,
        because tells may keep the mailbox fuller than that.
        """
        self._passed_over += 1
        if 2 * len(self.entries) <= self._spec.capacity:
            while self.senders and len(self.entries) < self._spec.capacity:
                self._admit_one()
        elif self._passed_over >= _PASSED_OVER_MAX and len(self.entries) < self._spec.capacity:
            self._admit_one()

    def _admit_one(self) -> None:
        assert isinstance(self.senders, dict), "those who wait stand in a dictionary"
        self._passed_over = 0
        task = next(iter(self.senders))
        self.entries.append(self.senders.pop(task))
        trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait until there is something to take; a checkpoint only when it waits."""
        if self.entries or self.signals:
            return
        assert not self.idle, "a mailbox has one reader"
        self.reader = _ParkedTask(trio.lowlevel.current_task())
        self.idle = True
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def stash(self) -> None:
        """Put the message being handled aside.

        Raises:
            StashFull: As many as `stash_max` are put aside already; the message rides back.
        """
        entry = self.current
        assert entry is not None, "only what is being handled can be put aside"
        if self._stash is None:
            self._stash = []
        if len(self._stash) >= self._spec.stash_max:
            raise StashFull(self.name, message_of(entry))
        self._stash.append(entry)
        self.current = None
        # The end of the handler counts it as handled.
        self.handled -= 1
        if isinstance(entry, Reply):
            entry.undefer()
            entry.held = True

    def unstash(self) -> None:
        """Put everything that was set aside before what waits, in the order it came, even beyond the capacity."""
        stashed, self._stash = self._stash, None
        for entry in reversed(stashed or ()):
            self._return(entry)

    def take_back(self, entry: Entry) -> bool:
        """Put a message whose handler did not end first again, if it may be redelivered; return whether it was."""
        again = entry if isinstance(entry, Reply) else Reply(self.name, entry)
        again.failures += 1
        if again.failures > self._spec.redeliveries or self.closed or again.done:
            return False
        self._return(again)
        return True

    def seal(self) -> None:
        """Take nothing new; what waits is still there to be handled, and who waits for room is refused."""
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
        """Refuse everything from now on; what waits becomes dead letters and asks get `ActorStopped`."""
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
        """Close, and tell those who watch that the actor is gone for good.

        Args:
            cause: What the actor failed with.
        """
        self.close()
        self.gone = True
        self.cause = cause
        # Who read it is gone as well, and shall not wait for the garbage collector because they refer to each other.
        self.reader, self.idle = None, False
        watchers, self._watchers = self._watchers, None
        for watcher in tuple((watchers or {}).values()):
            try:
                watcher()
            except Exception:
                # Neither the actor that is gone nor the others who watch it answer for one of them.
                _LOGGER.exception("a watch on %s raised", self.name, extra={"actor": self.name})

    def discard(self, entry: Entry, reason: DeadLetterReason, error: Exception) -> None:
        """Make a message a dead letter and fail its asker, if it has one."""
        if isinstance(entry, Reply):
            entry.fail(error)
        self._dead_letters.record(self.name, message_of(entry), reason)

    def watch(self, on_gone: Callable[[], None]) -> Callable[[], None]:
        """Call back once the actor is gone for good, at once if it is; returns what ends the watch."""
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
        """Return the mailbox as it is now."""
        return MailboxStatistics(
            depth=len(self.entries),
            high_water=max(self.high_water, len(self.entries)),
            stashed=len(self._stash or ()),
            handled=self.handled,
            dropped=self.dropped,
        )

    def put_at_limit(self, entry: Entry) -> None:
        """Queue a message where `limit` is reached: open the mailbox, or follow its policy; raises as `put` does."""
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
        """Wake the reader, who is idle."""
        self.idle = False
        assert self.reader is not None, "who is idle has said how to be woken"
        self.reader.wake()

    def _leave(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self.idle = False
        return trio.lowlevel.Abort.SUCCEEDED
