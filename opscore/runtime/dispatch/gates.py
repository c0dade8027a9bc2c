"""Gates bound how many attempts are open at once, and how many begin within an interval.

A gate stands before the tasks of a capability or a workflow that the node limits, and before the tasks that share a
concurrency key. A limit on open attempts has slots: an attempt takes one in the commit that grants it, so that no crash
can let one too many through. A closed gate stays closed until it is checked again: when a slot was freed, or when the
oldest attempt in the interval began long enough ago.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

import attrs

from opscore.runtime.dispatch.lines import SLACK, Entry
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.waiting import CAPABILITY, ReadyTask, Requirement, line_name

WORKFLOW: Final = "workflow"
KEY: Final = "key"
ONE_AT_ONCE: Final = DispatchLimit(at_once=1)
"""The limit of a concurrency key."""
_NEVER: Final = math.inf


@attrs.frozen(kw_only=True)
class Passage:
    """A task's passage through a gate, with the slot that it took."""

    gate: str
    slot: str | None


@attrs.define
class _Aside:
    entries: list[Entry] = attrs.field(factory=list)
    """A heap of the tasks of one line that wait before a gate; outdated entries are skipped when they are taken."""
    changes: int = 0
    """Tasks that came or went since it was tidied."""


class Gate:
    """One limit, and the tasks that wait before it.

    Args:
        name: a name such as `capability/gpu`.
        limit: how much it lets through.
    """

    def __init__(self, name: str, limit: DispatchLimit) -> None:
        self.name = name
        self.is_open = True
        self._waiting: dict[Requirement, _Aside] = {}
        self._limit = limit
        self._taken: set[str] = set()
        self._left: list[int] = []
        self._next = 0
        self._under_way = 0
        self._begun: deque[float] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether no attempt has a slot or is under way, and no task waits."""
        return not self._taken and not self._under_way and not self._waiting

    @property
    def lines(self) -> list[Requirement]:
        """The lines of the tasks that wait before it."""
        return list(self._waiting)

    def put_aside(self, requirement: Requirement, entry: Entry) -> None:
        """Let a task wait that came to the front of its line while the gate was closed."""
        heapq.heappush(self._waiting.setdefault(requirement, _Aside()).entries, entry)

    def take_first(self, requirement: Requirement) -> Entry | None:
        """Remove and return the first entry of a line that waits, which may be outdated; None if there is none."""
        aside = self._waiting.get(requirement)
        if aside is None:
            return None
        entry = heapq.heappop(aside.entries)
        if not aside.entries:
            del self._waiting[requirement]
        return entry

    def tidy(self, requirement: Requirement, stands_aside: Callable[[Requirement, Entry], bool]) -> None:
        """Note a change in a line. Every so many changes, drop the entries of tasks that no longer wait here.

        Who stays closed may never ask for the first, so nobody else would. Each change pays for about two entries.
        """
        aside = self._waiting.get(requirement)
        if aside is None:
            return
        aside.changes += 1
        if 2 * aside.changes > len(aside.entries) + SLACK:
            # A sorted list is a heap.
            aside.entries = sorted(entry for entry in aside.entries if stands_aside(requirement, entry))
            aside.changes = 0
            if not aside.entries:
                del self._waiting[requirement]

    def let_through(self, now: float) -> "Passage":
        """Let a task through; the gate must be open."""
        self._under_way += 1
        slot = None
        if self._limit.at_once is not None:
            slot = f"{self.name}/{self._number()}"
            self._taken.add(slot)
        self._close(now)
        return Passage(gate=self.name, slot=slot)

    def given_out(self, now: float) -> None:
        """Note that a task that was let through has been given out by now."""
        self._under_way -= 1
        if self._limit.per_interval is not None:
            self._begun.append(now)

    def take_back(self, passage: "Passage", *, keeps_slot: bool = False) -> None:
        """Note that a task was not given out after all; `keeps_slot` if another attempt turned out to have its slot."""
        self._under_way -= 1
        if passage.slot is not None and not keeps_slot:
            self.leave(passage.slot)

    def hold(self, slot: str, now: float) -> None:
        """Note that an attempt has this slot, according to the rows."""
        self._taken.add(slot)
        self._close(now)

    def leave(self, slot: str) -> None:
        """Note that this slot is free."""
        if slot in self._taken:
            self._taken.remove(slot)
            heapq.heappush(self._left, int(slot.rpartition("/")[2]))

    def begun(self, times: Collection[float], now: float) -> None:
        """Add the times at which earlier attempts began, in order, according to the journal."""
        self._begun.extend(times)
        self._close(now)

    def look(self, now: float) -> float | None:
        """Open the gate if possible; return when to check again, if only time keeps it closed."""
        opens_at = self._opens_at(now)
        self.is_open = opens_at <= now
        return None if self.is_open or opens_at == _NEVER else opens_at

    def _close(self, now: float) -> None:
        if self._opens_at(now) > now:
            self.is_open = False

    def _opens_at(self, now: float) -> float:
        if self._limit.at_once is not None and len(self._taken) >= self._limit.at_once:
            return _NEVER
        if self._limit.per_interval is None:
            return now
        while self._begun and self._begun[0] + self._limit.interval_s <= now:
            self._begun.popleft()
        # An offer under way begins no later than its outcome is known, and is counted from then on.
        left = self._limit.per_interval - self._under_way
        if left <= 0:
            return _NEVER
        return now if len(self._begun) < left else self._begun[-left] + self._limit.interval_s

    def _number(self) -> int:
        """Return the number of a free slot, nearly always the smallest."""
        while True:
            if self._left:
                number = heapq.heappop(self._left)
            else:
                number, self._next = self._next, self._next + 1
            if f"{self.name}/{number}" not in self._taken:
                return number


def gate_of(slot: str) -> str:
    """Return the name of the gate that a slot belongs to."""
    return slot.rpartition("/")[0]


def gate_of_key(key: str) -> str:
    """Return the name of the gate of a concurrency key."""
    return f"{KEY}/{key}"


def limited(limits: Limits) -> Iterator[tuple[str, DispatchLimit]]:
    """Yield the names and limits of the gates that are configured."""
    for kind, named in ((CAPABILITY, limits.capability_limits), (WORKFLOW, limits.workflow_limits)):
        for name, limit in named.items():
            yield f"{kind}/{name}", limit


class Gates:
    """Every gate by its name: those that are configured, and those of the concurrency keys in use.

    Args:
        limits: the limits of capabilities and workflows.
    """

    def __init__(self, limits: Limits) -> None:
        self._gates = {name: Gate(name, limit) for name, limit in limited(limits)}
        self._look_at: dict[str, float] = {}

    def __getitem__(self, name: str) -> Gate:
        return self._gates[name]

    def known(self, names: Iterable[str]) -> list[Gate]:
        """Return the gates that exist among these names."""
        return [self._gates[name] for name in names if name in self._gates]

    def get_or_make(self, name: str) -> Gate | None:
        """Return the gate of this name; that of a concurrency key is made when it is first needed."""
        if name not in self._gates and name.startswith(f"{KEY}/"):
            self._gates[name] = Gate(name, ONE_AT_ONCE)
        return self._gates.get(name)

    def forget_if_idle(self, gate: Gate) -> None:
        """Drop the gate of a concurrency key that is no longer in use."""
        if gate.is_idle and gate.name.startswith(f"{KEY}/"):
            self._gates.pop(gate.name, None)

    def before(self, task: ReadyTask) -> Iterator[Gate]:
        """Yield the gates that a task meets at the front of its line."""
        if not self._gates:
            return
        of_workflow = self._gates.get(f"{WORKFLOW}/{task.workflow_id}")
        if of_workflow is not None:
            yield of_workflow
        keyed = None if task.concurrency_key is None else self._gates.get(gate_of_key(task.concurrency_key))
        if keyed is not None:
            yield keyed

    def passed_by(self, task: ReadyTask) -> list[Gate]:
        """Return every gate that a task goes through when it is given out."""
        if task.concurrency_key is not None:
            self.get_or_make(gate_of_key(task.concurrency_key))
        of_capability = self._gates.get(f"{CAPABILITY}/{task.capability}") if self._gates else None
        return [*self.before(task), *(() if of_capability is None else (of_capability,))]

    def let_on(self, requirement: Requirement) -> bool:
        """Whether the gate of a line's capability, if it has one, is open."""
        gate = self._gates.get(line_name(requirement)) if self._gates else None
        return gate is None or gate.is_open

    def look(self, gate: Gate, now: float) -> None:
        """Open a gate if possible; if only time keeps it closed, note when to check it again."""
        look_at = gate.look(now)
        if look_at is not None:
            self._look_at[gate.name] = look_at

    def looked_at(self, name: str) -> None:
        """Note that the time to check a gate has come."""
        self._look_at.pop(name, None)

    def take_times(self) -> dict[str, float]:
        """Return the gates that only time keeps closed, each with when to check it; each is returned once."""
        times, self._look_at = self._look_at, {}
        return times
