"""A task graph as text: boxes and lines for a terminal, or a list if these would be too wide."""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from math import floor
from typing import Final

from rich.cells import cell_len, chop_cells

from opscore.gateway.graphs.channels import Cells, Ports, buses_of, channel
from opscore.gateway.graphs.layout import Layout, NotDrawable, Slot, layered, placed
from opscore.gateway.graphs.tasks import FAILED_RUN, Edge, EdgeKind, Node, NodeKind, TaskGraph
from opscore.gateway.process.terminal import Terminal, cut, harmless

LABEL_CELLS: Final = (36, 24, 16, 11)
"""The maximum lengths of a line in a box that are tried, until the drawing fits."""
GAP: Final = 3
"""The cells between two boxes."""
INDENT: Final = "    "
"""The indentation of continued lines in a list."""
FRAMES: Final = {
    NodeKind.AGENT: "┌─┐│└┘┬",
    NodeKind.SIGNAL: "╭─╮│╰╯┬",
    NodeKind.DELAY: "╭─╮│╰╯┬",
    NodeKind.WORKFLOW: "╔═╗║╚╝╤",
    NodeKind.TOOL: "┏━┓┃┗┛┯",
    NodeKind.FAILED_RUN: "╭─╮│╰╯┬",
}
"""The characters for the box of each kind of node: its corners and sides, and the place where a line leaves it."""
HEADS: Final = {kind: "▽" if kind.handles else "▼" for kind in EdgeKind}


def drawn(graph: TaskGraph, terminal: Terminal) -> str:
    """Draw a graph, as wide as the terminal allows, or list it."""
    if not terminal.draws:
        return listed(graph, terminal, "the terminal has no characters for lines, so it is not drawn")
    try:
        layout = layered(graph, across_max=terminal.width // (GAP + 2))
    except NotDrawable as error:
        return listed(graph, terminal, f"{error} to be drawn in {terminal.width} columns")
    for cells in LABEL_CELLS:
        with contextlib.suppress(NotDrawable):
            return _Drawing(graph, layout, cells).text(terminal.width)
    return listed(graph, terminal, f"it is too wide to be drawn in {terminal.width} columns")


class _Drawing:
    """A drawing with one maximum length of labels: boxes, and the lines between them."""

    def __init__(self, graph: TaskGraph, layout: Layout, label_cells: int) -> None:
        self._nodes = {node.key: node for node in graph.nodes}
        self._layout = layout
        self._buses = buses_of(layout)
        self._into = _kinds_into(graph.edges)
        self._lines = {node.key: self._label(node, label_cells) for node in graph.nodes}

    def text(self, width: int) -> str:
        """The whole drawing.

        Raises:
            NotDrawable: it is wider than this, or its lines would be confusing.
        """
        middles = placed(self._layout, self._width, GAP, width)
        lefts = {slot: floor(middle - self._width(slot) / 2) for slot, middle in middles.items()}
        ports = Ports(self._buses, {slot: (left, self._width(slot)) for slot, left in lefts.items()})
        cells: Cells = {}
        top = 0
        for number, layer in enumerate(self._layout.layers):
            height = max(self._height(slot) for slot in layer)
            for slot in layer:
                self._draw(slot, lefts[slot], top, height, ports, cells)
            top += height
            if number < len(self._buses):
                top += channel(self._buses[number], ports, top, cells)
        return _text(cells, top)

    def _label(self, node: Node, room: int) -> list[str]:
        ways = [kind.value for kind in self._into[node.key] if kind.handles]
        return [cut(harmless(line), room) for line in (node.label, *node.lines, *ways)]

    def _width(self, slot: Slot) -> int:
        """The width of a slot: an odd number, so that there is a cell in the middle."""
        if slot.passing is not None:
            return 1
        lines = max(map(cell_len, self._lines[slot.key]))
        needed = max(lines + 4, 2 * Ports.most(self._buses, slot) + 1)
        return needed + (needed + 1) % 2

    def _height(self, slot: Slot) -> int:
        return 1 if slot.passing is not None else len(self._lines[slot.key]) + 2

    def _draw(self, slot: Slot, left: int, top: int, height: int, ports: Ports, cells: Cells) -> None:
        bottom = top
        if slot.passing is None:
            bottom = top + self._height(slot)
            self._box(slot, left, top, cells)
            frame = FRAMES[self._nodes[slot.key].kind]
            for column, bus in ports.above(slot):
                cells[top, column] = HEADS[bus.kind]
            for column, _ in ports.below(slot):
                cells[bottom - 1, column] = frame[6]
        for column, bus in ports.below(slot):
            for row in range(bottom, top + height):
                cells[row, column] = "╎" if bus.kind.handles else "│"

    def _box(self, slot: Slot, left: int, top: int, cells: Cells) -> None:
        inner = self._width(slot) - 2
        corner, level, other_corner, side, low_corner, other_low_corner, _ = tuple(FRAMES[self._nodes[slot.key].kind])
        rows = [f"{corner}{level * inner}{other_corner}"]
        for line in self._lines[slot.key]:
            free = inner - cell_len(line)
            rows.append(f"{side}{' ' * (free // 2)}{line}{' ' * (free - free // 2)}{side}")
        rows.append(f"{low_corner}{level * inner}{other_low_corner}")
        for row, text in enumerate(rows, start=top):
            _write(text, row, left, cells)


def _write(text: str, row: int, column: int, cells: Cells) -> None:
    """Write text into cells: a character of two cells leaves the second empty; a combining one joins the one before."""
    for each in text:
        if cell_len(each):
            cells[row, column] = each
            if cell_len(each) > 1:
                cells[row, column + 1] = ""
            column += cell_len(each)
        else:
            cells[row, column - 1] = cells.get((row, column - 1), "") + each


def _text(cells: Cells, height: int) -> str:
    width = max((column for _, column in cells), default=0) + 1
    rows = ("".join(cells.get((row, column), " ") for column in range(width)).rstrip() for row in range(height))
    return "\n".join(rows)


def _kinds_into(edges: Sequence[Edge]) -> dict[str, list[EdgeKind]]:
    kinds: dict[str, list[EdgeKind]] = defaultdict(list)
    for edge in edges:
        if edge.kind not in kinds[edge.target]:
            kinds[edge.target].append(edge.kind)
    return kinds


# --- as a list ------------------------------------------------------------------------------------------------


def listed(graph: TaskGraph, terminal: Terminal, why: str) -> str:
    """List the nodes, a line for each, with the nodes before it."""
    before: dict[str, dict[EdgeKind, list[str]]] = defaultdict(lambda: defaultdict(list))
    for edge in graph.edges:
        before[edge.target][edge.kind].append(edge.source)
    lines = [f"{graph.name}: {why}", ""]
    for node in graph.nodes:
        about = f" ({', '.join(node.lines)})" if node.lines else ""
        ways = [_came(kind, sources) for kind, sources in before[node.key].items()]
        lines.append(", ".join([node.label + about, *ways]))
    return "\n".join(_wrapped(harmless(line), terminal.width) for line in lines)


def _came(kind: EdgeKind, sources: Sequence[str]) -> str:
    if kind is EdgeKind.ORDER:
        return f"after {', '.join(sources)}"
    return kind.value if FAILED_RUN in sources else f"{kind.value} of {', '.join(sources)}"


def _wrapped(line: str, width: int) -> str:
    """Wrap a line, with continued lines indented; a word that is wider than the terminal is split."""
    rows = [""]
    for word in line.split(" "):
        longer = f"{rows[-1]} {word}" if rows[-1] else word
        if cell_len(longer) > width and rows[-1]:
            rows.append(f"{INDENT}{word}")
        else:
            rows[-1] = longer
    return "\n".join(piece for row in rows for piece in chop_cells(row, width) or [""])
