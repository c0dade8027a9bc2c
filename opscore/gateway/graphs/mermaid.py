"""A task graph as Mermaid, a language for diagrams that many sites show in Markdown (https://mermaid.js.org)."""

import string
from typing import Final

from opscore.gateway.graphs.tasks import EdgeKind, NodeKind, TaskGraph
from opscore.gateway.process.terminal import harmless

SHAPES: Final = {
    NodeKind.AGENT: ("[", "]"),
    NodeKind.SIGNAL: ("([", "])"),
    NodeKind.DELAY: ("(", ")"),
    NodeKind.WORKFLOW: ("[[", "]]"),
    NodeKind.TOOL: ("{{", "}}"),
    NodeKind.FAILED_RUN: ("([", "])"),
}
"""The brackets around the label of each kind of node."""
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + " .,:()@/+-_")
"""The ASCII characters without a meaning to Mermaid within quotes; the others are written by number."""


def mermaid(graph: TaskGraph) -> str:
    """Write the graph; nodes are named n0, n1, …, so that no name can be a keyword of the language."""
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
