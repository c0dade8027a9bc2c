"""A task graph as Mermaid, the diagrams that Markdown pages on many sites show (https://mermaid.js.org)."""

import string
from typing import Final

from opscore.gateway.graphs.tasks import EdgeKind, NodeKind, TaskGraph
from opscore.gateway.terminal import harmless

SHAPES: Final = {
    NodeKind.AGENT: ("[", "]"),
    NodeKind.SIGNAL: ("([", "])"),
    NodeKind.DELAY: ("(", ")"),
    NodeKind.WORKFLOW: ("[[", "]]"),
    NodeKind.TOOL: ("{{", "}}"),
    NodeKind.FAILED_RUN: ("([", "])"),
}
"""What stands around the label of each kind of node."""
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + " .,:()@/+-_")
"""Of ASCII what means nothing to Mermaid within quotes; it takes the rest by number."""


def mermaid(graph: TaskGraph) -> str:
    """Write the graph; nodes are called n0, n1, … in its order, so that no id can be a word of the language."""
    names = {node.key: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    for node in graph.nodes:
        opening, closing = SHAPES[node.kind]
        label = "<br/>".join(_quoted(line) for line in (node.label, *node.lines))
        lines.append(f'    {names[node.key]}{opening}"{label}"{closing}')
    for edge in graph.edges:
        arrow = f"-. {edge.kind} .->" if edge.kind is not EdgeKind.ORDER else "-->"
        lines.append(f"    {names[edge.source]} {arrow} {names[edge.target]}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "".join(each if each in _PLAIN or not each.isascii() else f"#{ord(each)};" for each in harmless(text))
