"""What bounds how much is given out: how many attempts are out at once, and how many begin within a time.

A gate stands before every task of a capability or a workflow that the node limits, and before the tasks that share a
concurrency key. What may be out at once has slots: whoever is given out takes one, in the very commit that gives it
out, so that no crash and no second thought lets one too many through. A gate that is closed stays so until it is
looked at again: when a slot was left, or when the oldest of its beginnings has been long enough ago.
"""

import heapq
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final

import attrs

from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.waiting import CAPABILITY, ReadyTask, Requirement, line_name

if TYPE_CHECKING:
    from opscore.runtime.lines import Entry

WORKFLOW: Final = "workflow"
KEY: Final = "key"
ONE_AT_ONCE: Final = DispatchLimit(at_once=1)
"""What a concurrency key lets through."""
_NEVER: Final = math.inf


@attrs.frozen(kw_only=True)
class Passage:
    """That a gate let one through."""

    gate: str
    slot: str | None


class Gate:
    """One bound, and who waits before it.

    Args:
        name: such as `capability/gpu`.
        limit: what it lets through.
    """

    def __init__(self, name: str, limit: DispatchLimit) -> None:
        self.name = name
        self.is_open = True
        self.waiting: dict[Requirement, list[Entry]] = {}
        """Who has come to the front of their line, and found it closed."""
        self._limit = limit
        self._taken: set[str] = set()
        self._left: list[int] = []
        self._next = 0
        self._under_way = 0
        self._begun: deque[float] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is out, and nobody waits."""
        return not self._taken and not self._under_way and not self.waiting

    def let_through(self, now: float) -> "Passage":
        """Let one through; the gate is open."""
        self._under_way += 1
        slot = None
        if self._limit.at_once is not None:
            slot = f"{self.name}/{self._number()}"
            self._taken.add(slot)
        self._close(now)
        return Passage(gate=self.name, slot=slot)

    def given_out(self, now: float) -> None:
        """One that was let through has begun, by now."""
        self._under_way -= 1
        if self._limit.per_interval is not None:
            self._begun.append(now)

    def take_back(self, passage: "Passage", *, keeps_slot: bool = False) -> None:
        """One that was let through is not given out after all; its slot may be somebody else's."""
        self._under_way -= 1
        if passage.slot is not None and not keeps_slot:
            self.leave(passage.slot)

    def hold(self, slot: str, now: float) -> None:
        """Somebody has this slot, as the rows say."""
        self._taken.add(slot)
        self._close(now)

    def leave(self, slot: str) -> None:
        """Nobody has this slot any more."""
        if slot in self._taken:
            self._taken.remove(slot)
            heapq.heappush(self._left, int(slot.rpartition("/")[2]))

    def begun(self, times: Collection[float], now: float) -> None:
        """Take in when attempts began before, in their order, as the journal says."""
        self._begun.extend(times)
        self._close(now)

    def look(self, now: float) -> float | None:
        """Open where that may be; answers when to look again, where nothing but time keeps it closed."""
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
        # One that is under way begins no later than it is heard of, and counts from then on.
        left = self._limit.per_interval - self._under_way
        if left <= 0:
            return _NEVER
        return now if len(self._begun) < left else self._begun[-left] + self._limit.interval_s

    def _number(self) -> int:
        """The smallest number of a slot that nobody has, nearly always."""
        while True:
            if self._left:
                number = heapq.heappop(self._left)
            else:
                number, self._next = self._next, self._next + 1
            if f"{self.name}/{number}" not in self._taken:
                return number


def gate_of(slot: str) -> str:
    """The name of the gate that a slot belongs to."""
    return slot.rpartition("/")[0]


def gate_of_key(key: str) -> str:
    """The name of the gate that a concurrency key stands for."""
    return f"{KEY}/{key}"


def limited(limits: Limits) -> Iterator[tuple[str, DispatchLimit]]:
    """The gates that are configured, by name."""
    for kind, named in ((CAPABILITY, limits.capability_limits), (WORKFLOW, limits.workflow_limits)):
        for name, limit in named.items():
            yield f"{kind}/{name}", limit


class Gates:
    """Every gate by its name: those that are configured, and those of the keys that are in use.

    Args:
        limits: what is given out at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._gates = {name: Gate(name, limit) for name, limit in limited(limits)}
        self._look_at: dict[str, float] = {}

    def __getitem__(self, name: str) -> Gate:
        return self._gates[name]

    def known(self, names: Iterable[str]) -> list[Gate]:
        """Those of these names that there are."""
        return [self._gates[name] for name in names if name in self._gates]

    def get_or_make(self, name: str) -> Gate | None:
        """The gate of this name; one of a key is made when it is first gone through."""
        if name not in self._gates and name.startswith(f"{KEY}/"):
            self._gates[name] = Gate(name, ONE_AT_ONCE)
        return self._gates.get(name)

    def forget_if_idle(self, gate: Gate) -> None:
        """Keep no gate of a key that is not in use any more."""
        if gate.is_idle and gate.name.startswith(f"{KEY}/"):
            self._gates.pop(gate.name, None)

    def before(self, task: ReadyTask) -> Iterator[Gate]:
        """The gates that a task meets at the front of its line."""
        if not self._gates:
            return
        of_workflow = self._gates.get(f"{WORKFLOW}/{task.workflow_id}")
        if of_workflow is not None:
            yield of_workflow
        keyed = None if task.concurrency_key is None else self._gates.get(gate_of_key(task.concurrency_key))
        if keyed is not None:
            yield keyed

    def passed_by(self, task: ReadyTask) -> list[Gate]:
        """Every gate that a task goes through when it is given out."""
        if task.concurrency_key is not None:
            self.get_or_make(gate_of_key(task.concurrency_key))
        of_capability = self._gates.get(f"{CAPABILITY}/{task.capability}") if self._gates else None
        return [*self.before(task), *(() if of_capability is None else (of_capability,))]

    def let_on(self, requirement: Requirement) -> bool:
        """Whether a line may go on, as far as its capability goes."""
        gate = self._gates.get(line_name(requirement)) if self._gates else None
        return gate is None or gate.is_open

    def look(self, gate: Gate, now: float) -> None:
        """Open a gate where that may be; where only time keeps it closed, it is to be looked at again."""
        look_at = gate.look(now)
        if look_at is not None:
            self._look_at[gate.name] = look_at

    def looked_at(self, name: str) -> None:
        """The time to look at a gate has come."""
        self._look_at.pop(name, None)

    def take_times(self) -> dict[str, float]:
        """The gates that only time keeps closed, each with when to look at it; told once."""
        times, self._look_at = self._look_at, {}
        return times
