"""The lines between two layers of a drawing in cells: which share a way, where they leave and arrive, on which rows.

Edges that leave the same nodes for the same nodes are one bus: a single level line with all of its ends above and
below, so that nobody has to guess who is joined with whom. No two buses share a level line or an upright one; where
they cross, the upright one goes over the other.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import attrs

from opscore.gateway.graphs.layout import Layout, NotDrawable, Slot
from opscore.gateway.graphs.tasks import EdgeKind

Cells = dict[tuple[int, int], str]
"""What stands in which row and column."""

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
_SOLID = dict(
    zip(
        (UP | DOWN, LEFT | RIGHT, UP | LEFT, UP | RIGHT, DOWN | LEFT, DOWN | RIGHT, UP | DOWN | LEFT,
         UP | DOWN | RIGHT, UP | LEFT | RIGHT, DOWN | LEFT | RIGHT, UP | DOWN | LEFT | RIGHT),
        "│─┘└┐┌┤├┴┬┼",
        strict=True,
    )
)  # fmt: skip
_DASHED = _SOLID | {UP | DOWN: "╎", LEFT | RIGHT: "┄"}


@attrs.frozen(kw_only=True)
class Bus:
    """Edges of one kind from all of some slots to all of some slots of the next layer."""

    kind: EdgeKind
    uppers: tuple[Slot, ...]
    lowers: tuple[Slot, ...]


def buses_of(layout: Layout) -> list[list[Bus]]:
    """The buses below each layer but the last."""
    into: dict[tuple[Slot, EdgeKind], list[Slot]] = defaultdict(list)
    for link in layout.links:
        into[link.lower, link.kind].append(link.upper)
    found: list[dict[tuple[EdgeKind, frozenset[Slot]], list[Slot]]] = [defaultdict(list) for _ in layout.layers[1:]]
    for (lower, kind), uppers in into.items():
        found[lower.layer - 1][kind, frozenset(uppers)].append(lower)
    order = {slot: place for layer in layout.layers for place, slot in enumerate(layer)}
    return [
        [
            Bus(
                kind=kind,
                uppers=tuple(sorted(uppers, key=order.__getitem__)),
                lowers=tuple(sorted(lowers, key=order.__getitem__)),
            )
            for (kind, uppers), lowers in each.items()
        ]
        for each in found
    ]


class Ports:
    """The columns in which buses leave slots below, and arrive at slots above."""

    def __init__(self, buses: Sequence[Sequence[Bus]], extents: Mapping[Slot, tuple[int, int]]) -> None:
        self._extents = extents
        self._above: dict[Slot, list[tuple[int, Bus]]] = defaultdict(list)
        self._below: dict[Slot, list[tuple[int, Bus]]] = defaultdict(list)
        for each in buses:
            arriving, leaving = _ends(each)
            taken: dict[int, Bus] = {}
            for slot, ends in arriving.items():
                ends.sort(key=lambda bus: self._middle(bus.uppers))
                columns = self._spread(slot, len(ends))
                self._above[slot] = list(zip(columns, ends, strict=True))
                taken.update(self._above[slot])
            for slot, ends in leaving.items():
                ends.sort(key=lambda bus: self._middle(bus.lowers))
                self._below[slot] = self._leaving(slot, ends, taken)

    @staticmethod
    def most(buses: Sequence[Sequence[Bus]], slot: Slot) -> int:
        """How many buses arrive at a slot, or leave it, whichever are more."""
        above = sum(slot in bus.lowers for bus in (buses[slot.layer - 1] if slot.layer else ()))
        below = sum(slot in bus.uppers for bus in (buses[slot.layer] if slot.layer < len(buses) else ()))
        return max(above, below)

    def above(self, slot: Slot) -> Sequence[tuple[int, Bus]]:
        """Where which buses arrive."""
        return self._above[slot]

    def below(self, slot: Slot) -> Sequence[tuple[int, Bus]]:
        """Where which buses leave."""
        return self._below[slot]

    def columns(self, bus: Bus) -> tuple[list[int], list[int]]:
        """Where a bus leaves, and where it arrives."""
        uppers = [column for slot in bus.uppers for column, each in self._below[slot] if each is bus]
        lowers = [column for slot in bus.lowers for column, each in self._above[slot] if each is bus]
        return uppers, lowers

    def _middle(self, slots: Sequence[Slot]) -> float:
        return sum(self._extents[slot][0] + self._extents[slot][1] / 2 for slot in slots) / len(slots)

    def _spread(self, slot: Slot, count: int) -> list[int]:
        left, width = self._extents[slot]
        return [left + (number + 1) * width // (count + 1) for number in range(count)]

    def _leaving(self, slot: Slot, buses: Sequence[Bus], taken: Mapping[int, Bus]) -> list[tuple[int, Bus]]:
        """Columns as evenly as can be, but none below which another bus arrives: one would have to go around."""
        left, width = self._extents[slot]
        free = list(range(left + 1, left + width - 1)) or [left]
        found: list[tuple[int, Bus]] = []
        for number, (wanted, bus) in enumerate(zip(self._spread(slot, len(buses)), buses, strict=True)):
            # What is left of the others has to go to the left of them, and they need room as well.
            possible = free[: len(free) - (len(buses) - number - 1)] or free
            good = [column for column in possible if taken.get(column, bus) is bus] or possible
            column = min(good, key=lambda each: (abs(each - wanted), each))
            found.append((column, bus))
            free = [each for each in free if each > column] or free
        return found


def _ends(buses: Sequence[Bus]) -> tuple[dict[Slot, list[Bus]], dict[Slot, list[Bus]]]:
    """For each slot the buses that arrive, and those that leave."""
    arriving: dict[Slot, list[Bus]] = defaultdict(list)
    leaving: dict[Slot, list[Bus]] = defaultdict(list)
    for bus in buses:
        for slot in bus.lowers:
            arriving[slot].append(bus)
        for slot in bus.uppers:
            leaving[slot].append(bus)
    return arriving, leaving


def channel(buses: Sequence[Bus], ports: Ports, top: int, cells: Cells) -> int:
    """Draw the lines between two layers.

    Returns:
        How many rows they take.

    Raises:
        NotDrawable: two would have to share an upright line.
    """
    columns = [ports.columns(bus) for bus in buses]
    rows = _rows(columns)
    height = max((row + 1 for row in rows if row is not None), default=1)
    for bus, ends, row in zip(buses, columns, rows, strict=True):
        signs = _DASHED if bus.kind.handles else _SOLID
        for place, mask in _masks(*ends, row, height):
            here = (top + place[0], place[1])
            if mask == UP | DOWN or here not in cells:
                cells[here] = signs[mask]
    return height


def _rows(columns: Sequence[tuple[list[int], list[int]]]) -> list[int | None]:
    """The row of each bus's level line; none where it goes straight down.

    Where one bus leaves above the place at which another arrives, its row has to be the higher one.
    """
    leaves = {column: number for number, (uppers, _) in enumerate(columns) for column in uppers}
    higher: dict[int, set[int]] = {number: set() for number in range(len(columns))}
    for number, (_, lowers) in enumerate(columns):
        higher[number] = {leaves[column] for column in lowers if leaves.get(column, number) != number}
    try:
        order = list(TopologicalSorter(higher).static_order())
    except CycleError as error:
        raise NotDrawable("its edges are too tangled") from error
    rows: list[int | None] = [None] * len(columns)
    used: list[list[tuple[int, int]]] = []
    for number in order:
        uppers, lowers = columns[number]
        low, high = min(uppers + lowers), max(uppers + lowers)
        if low == high:
            continue
        row = max(((rows[other] or 0) + 1 for other in higher[number]), default=0)
        while row < len(used) and any(low <= end + 1 and start - 1 <= high for start, end in used[row]):
            row += 1
        used.extend([] for _ in range(row + 1 - len(used)))
        used[row].append((low, high))
        rows[number] = row
    return rows


def _masks(
    uppers: Sequence[int], lowers: Sequence[int], row: int | None, height: int
) -> Iterator[tuple[tuple[int, int], int]]:
    """The cells of one bus, each with the ways that its line goes from there."""
    if row is None:
        yield from (((place, uppers[0]), UP | DOWN) for place in range(height))
        return
    masks: dict[tuple[int, int], int] = defaultdict(int)
    low, high = min((*uppers, *lowers)), max((*uppers, *lowers))
    for column in range(low, high + 1):
        masks[row, column] = (LEFT if column > low else 0) | (RIGHT if column < high else 0)
    for column in uppers:
        masks[row, column] |= UP
        masks.update({(place, column): UP | DOWN for place in range(row)})
    for column in lowers:
        masks[row, column] |= DOWN
        masks.update({(place, column): UP | DOWN for place in range(row + 1, height)})
    yield from masks.items()
