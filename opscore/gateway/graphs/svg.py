"""A task graph as SVG: a self-contained file without scripts that follows the reader's light or dark scheme."""

from collections import Counter
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from rich.cells import cell_len

from opscore.gateway.graphs.layout import Layout, Slot, layered, placed
from opscore.gateway.graphs.tasks import Edge, Node, NodeKind, TaskGraph
from opscore.gateway.process.terminal import cut, harmless

LABEL_CELLS: Final = 60
CELL: Final = 8.4
"""The width of a character in pixels: six tenths of a monospaced font's size, which is 14 pixels."""
LINE: Final = 20
PADDING: Final = 14
GAP: Final = 36
"""The space between two boxes."""
CHANNEL: Final = 56
"""The space between two layers."""
MARGIN: Final = 16
CORNERS: Final = {
    NodeKind.AGENT: 3,
    NodeKind.SIGNAL: 18,
    NodeKind.DELAY: 18,
    NodeKind.WORKFLOW: 3,
    NodeKind.TOOL: 3,
    NodeKind.FAILED_RUN: 18,
}
"""The corner radius of each kind of node."""
_SHAPES: Final = """\
.box { stroke-width: 1.5 } .tool .box { stroke-width: 3 } .inner { fill: none }
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; text-anchor: middle }
.name { font-weight: 600 } .way { font-size: 11px; text-anchor: start }
.edge { fill: none; stroke-width: 1.5; marker-end: url(#order) }
.handler { stroke-dasharray: 5 4; marker-end: url(#handler) }"""
# Written out for each scheme, because many viewers do not support CSS variables.
_COLOURS: Final = """\
.paper {{ fill: {paper} }} .box {{ fill: {box}; stroke: {line} }} .inner, .edge {{ stroke: {line} }}
text {{ fill: {quiet} }} .name {{ fill: {ink} }} #order path {{ fill: {line} }}
.failed-run .box, .handler {{ stroke: {handler} }} #handler path, .way {{ fill: {handler} }}"""
_LIGHT: Final = {
    "paper": "#ffffff", "box": "#f6f8fa", "line": "#6e7781", "quiet": "#59636e", "ink": "#1f2328", "handler": "#bc4c00",
}  # fmt: skip
_DARK: Final = {
    "paper": "#0d1117", "box": "#151b23", "line": "#7d8590", "quiet": "#9198a1", "ink": "#f0f6fc", "handler": "#f0883e",
}  # fmt: skip
STYLE: Final = (
    f"{_SHAPES}\n{_COLOURS.format(**_LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{_COLOURS.format(**_DARK)}\n}}"
)
_HEAD: Final = (
    '<marker id="{}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 10 5 0 10z"/></marker>'
)


def svg(graph: TaskGraph) -> str:
    """Draw the graph.

    Raises:
        NotDrawable: it is too large.
    """
    return _Drawing(graph, layered(graph)).text()


class _Drawing:
    def __init__(self, graph: TaskGraph, layout: Layout) -> None:
        self._graph = graph
        self._nodes = {node.key: node for node in graph.nodes}
        self._lines = {
            node.key: [cut(harmless(line), LABEL_CELLS) for line in (node.label, *node.lines)] for node in graph.nodes
        }
        self._middles = placed(layout, self._width, GAP, float("inf"))
        self._slots = {slot.key: slot for slot in self._middles if slot.passing is None}
        self._ways = layout.ways
        self._tops: list[float] = []
        self._heights = [max(self._height(slot) for slot in layer) for layer in layout.layers]
        top = float(MARGIN)
        for height in self._heights:
            self._tops.append(top)
            top += height + CHANNEL
        self._bottom = top - CHANNEL + MARGIN
        ends = (middle + self._width(slot) / 2 for slot, middle in self._middles.items())
        # The word beside the last arrow may stand out to the right of all boxes.
        beside = 100 if any(edge.kind.handles for edge in graph.edges) else 0
        self._right = max(ends, default=0) + 2 * MARGIN + beside

    def text(self) -> str:
        """The whole file."""
        name = escape(harmless(self._graph.name))
        size = f'width="{self._right:.0f}" height="{self._bottom:.0f}"'
        box = f'viewBox="0 0 {self._right:.0f} {self._bottom:.0f}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img">',
            f"  <title>{name}</title>",
            f"  <style>\n{STYLE}\n  </style>",
            f"  <defs>{_HEAD.format('order')}{_HEAD.format('handler')}</defs>",
            '  <rect class="paper" width="100%" height="100%"/>',
            *(f"  {line}" for line in self._edges()),
            *(f"  {line}" for node in self._graph.nodes for line in self._node(node)),
            "</svg>",
        ]
        return "\n".join(parts)

    def _width(self, slot: Slot) -> float:
        if slot.passing is not None:
            return 4.0
        return max(map(cell_len, self._lines[slot.key])) * CELL + 2 * PADDING

    def _height(self, slot: Slot) -> float:
        return 0.0 if slot.passing is not None else len(self._lines[slot.key]) * LINE + PADDING

    def _x(self, slot: Slot) -> float:
        return MARGIN + self._middles[slot]

    def _node(self, node: Node) -> Iterator[str]:
        slot = self._slots[node.key]
        left, top = self._x(slot) - self._width(slot) / 2, self._tops[slot.layer]
        width, height, round_by = self._width(slot), self._height(slot), CORNERS[node.kind]
        yield f'<g class="{node.kind.replace(" ", "-")}">'
        yield f"  <title>{escape(', '.join((harmless(node.label), *map(harmless, node.lines))))}</title>"
        size = f'width="{width:.1f}" height="{height:.1f}"'
        yield f'  <rect class="box" x="{left:.1f}" y="{top:.1f}" {size} rx="{round_by}"/>'
        if node.kind is NodeKind.WORKFLOW:
            sides = "".join(f"M{x:.1f} {top:.1f}v{height:.1f}" for x in (left + 6, left + width - 6))
            yield f'  <path class="inner" d="{sides}"/>'
        for number, line in enumerate(self._lines[node.key]):
            kind = "" if number else ' class="name"'
            y = top + PADDING / 2 + LINE * (number + 0.7)
            yield f'  <text{kind} x="{self._x(slot):.1f}" y="{y:.1f}">{escape(line)}</text>'
        yield "</g>"

    def _edges(self) -> Iterator[str]:
        """The lines, with the kind of edge beside the end of each edge to a handler."""
        told: Counter[str] = Counter()
        for edge in self._graph.edges:
            kind = "edge handler" if edge.kind.handles else "edge"
            yield f'<path class="{kind}" d="{self._way(edge)}"/>'
        for target, kind in dict.fromkeys((each.target, each.kind) for each in self._graph.edges if each.kind.handles):
            slot = self._slots[target]
            x, y = self._x(slot) + 8, self._tops[slot.layer] - 8 - 12 * told[target]
            told[target] += 1
            yield f'<text class="way" x="{x:.1f}" y="{y:.1f}">{kind}</text>'

    def _way(self, edge: Edge) -> str:
        """A curve from box to box, vertical where it leaves, arrives, and passes a layer."""
        first, *others = self._ways[edge]
        x, y = self._x(first), self._tops[first.layer] + self._height(first)
        way = [f"M{x:.1f} {y:.1f}"]
        for slot in others:
            end, top = self._x(slot), self._tops[slot.layer]
            half = (y + top) / 2
            way.append(f"C{x:.1f} {half:.1f} {end:.1f} {half:.1f} {end:.1f} {top:.1f}")
            x, y = end, top
            if slot.passing is not None:
                y = top + self._heights[slot.layer]
                way.append(f"V{y:.1f}")
        return "".join(way)
