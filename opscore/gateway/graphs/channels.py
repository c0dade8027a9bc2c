"""The lines between two layers of a drawing in cells: which are bundled, where they leave and arrive, on which rows.

Edges from the same nodes to the same nodes are one bus: a single horizontal line with all of its ends above and below,
so that it is clear which nodes are connected. No two buses share a horizontal or vertical line; where they cross, the
vertical one is drawn on top.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import attrs

from opscore.gateway.graphs.layout import Layout, NotDrawable, Slot
from opscore.gateway.graphs.tasks import EdgeKind

Cells = dict[tuple[int, int], str]
"""Characters, by row and column."""

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
    """Edges of one kind that lead from each of some slots to each of some slots in the next layer."""

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
    """The columns in which buses leave the bottom of slots, and arrive at the top of slots."""

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
        """The larger of the numbers of buses that arrive at a slot and that leave it."""
        above = sum(slot in bus.lowers for bus in (buses[slot.layer - 1] if slot.layer else ()))
        below = sum(slot in bus.uppers for bus in (buses[slot.layer] if slot.layer < len(buses) else ()))
        return max(above, below)

    def above(self, slot: Slot) -> Sequence[tuple[int, Bus]]:
        """The buses that arrive at a slot, with their columns."""
        return self._above[slot]

    def below(self, slot: Slot) -> Sequence[tuple[int, Bus]]:
        """The buses that leave a slot, with their columns."""
        return self._below[slot]

    def columns(self, bus: Bus) -> tuple[list[int], list[int]]:
        """The columns in which a bus leaves, and those in which it arrives."""
        uppers = [column for slot in bus.uppers for column, each in self._below[slot] if each is bus]
        lowers = [column for slot in bus.lowers for column, each in self._above[slot] if each is bus]
        return uppers, lowers

    def _middle(self, slots: Sequence[Slot]) -> float:
        return sum(self._extents[slot][0] + self._extents[slot][1] / 2 for slot in slots) / len(slots)

    def _spread(self, slot: Slot, count: int) -> list[int]:
        left, width = self._extents[slot]
        return [left + (number + 1) * width // (count + 1) for number in range(count)]

    def _leaving(self, slot: Slot, buses: Sequence[Bus], taken: Mapping[int, Bus]) -> list[tuple[int, Bus]]:
        """Columns, spread as evenly as possible, but avoiding those below which another bus arrives.

        There, one of the two would have to go around the other.
        """
        left, width = self._extents[slot]
        free = list(range(left + 1, left + width - 1)) or [left]
        found: list[tuple[int, Bus]] = []
        for number, (wanted, bus) in enumerate(zip(self._spread(slot, len(buses)), buses, strict=True)):
            # The columns are assigned from the left, and the buses that remain need room to the right.
            possible = free[: len(free) - (len(buses) - number - 1)] or free
            good = [column for column in possible if taken.get(column, bus) is bus] or possible
            column = min(good, key=lambda each: (abs(each - wanted), each))
            found.append((column, bus))
            free = [each for each in free if each > column] or free
        return found


def _ends(buses: Sequence[Bus]) -> tuple[dict[Slot, list[Bus]], dict[Slot, list[Bus]]]:
    """For each slot, the buses that arrive, and those that leave."""
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
        NotDrawable: two would have to share a vertical line.
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
    """The row of each bus's horizontal line; None if the bus goes straight down.

    If one bus leaves in the column in which another one arrives, its row has to be the higher one.
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
    """The cells of one bus, each with the directions in which its line leaves the cell."""
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
