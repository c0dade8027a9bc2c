"""A workflow as a graph to draw: its tasks and the edges between them, with their kinds."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import attrs

from opscore.runtime.definitions.definition import Definition, TaskDefinition
from opscore.runtime.definitions.expressions import unspaced

FAILED_RUN: Final = ""
"""The key of the node that stands for a run that fails; no task has this key."""


class NodeKind(StrEnum):
    """The kind of a node: the type of a task, or a run that fails."""

    AGENT = "agent"
    SIGNAL = "signal"
    DELAY = "delay"
    WORKFLOW = "workflow"
    TOOL = "tool"
    FAILED_RUN = "failed run"


class EdgeKind(StrEnum):
    """The kind of an edge; all but `ORDER` lead to handlers."""

    ORDER = "order"
    FALLBACK = "fallback"
    COMPENSATION = "compensation"
    ON_FAILURE = "on failure"

    @property
    def handles(self) -> bool:
        """Whether it leads to a handler, and so is drawn dashed."""
        return self is not EdgeKind.ORDER


HANDLER_FIELDS: Final = {"fallbackTaskId": EdgeKind.FALLBACK, "compensateTaskId": EdgeKind.COMPENSATION}
"""The fields of a task that name a handler, and the kinds of edges to it."""

TOLD_OF: Final = {
    NodeKind.SIGNAL: ("name", "{}"),
    NodeKind.DELAY: ("seconds", "{} s"),
    NodeKind.WORKFLOW: ("workflowId", "{}"),
}
"""For some kinds, the parameter that a drawing shows, and its format."""


@attrs.frozen(kw_only=True)
class Node:
    """A task, or a run that fails."""

    key: str
    kind: NodeKind = NodeKind.AGENT
    who: str = ""
    """Its capability, its agent's id or its main parameter; empty if the session's agent does it."""
    notes: tuple[str, ...] = ()
    """Its conditions and repetitions, such as `when …` and `for each …`."""

    @property
    def label(self) -> str:
        """Its name on a drawing."""
        return "the run fails" if self.key == FAILED_RUN else self.key

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of a drawing below its name: its type, unless an agent does it; who does it; and the notes."""
        kind = "" if self.kind in (NodeKind.AGENT, NodeKind.FAILED_RUN) else self.kind.value
        return tuple(line for line in (": ".join(word for word in (kind, self.who) if word), *self.notes) if line)


@attrs.frozen(kw_only=True)
class Edge:
    """A connection from one node to another."""

    source: str
    target: str
    kind: EdgeKind = EdgeKind.ORDER


@attrs.frozen(kw_only=True)
class TaskGraph:
    """The graph of a workflow."""

    name: str
    nodes: tuple[Node, ...]
    """In the order of the document."""
    edges: tuple[Edge, ...]
    """Without duplicates; both ends are keys of nodes."""


def graph_of(definition: Definition) -> TaskGraph:
    """Make the graph of a workflow."""
    nodes = [_node(task, definition.document["tasks"][task.ordinal]) for task in definition.tasks]
    keys = {node.key for node in nodes}
    edges = [edge for edge in _edges(definition) if edge.target in keys]
    if any(edge.source == FAILED_RUN for edge in edges):
        nodes.append(Node(key=FAILED_RUN, kind=NodeKind.FAILED_RUN))
    return TaskGraph(name=definition.workflow_id, nodes=tuple(nodes), edges=tuple(dict.fromkeys(edges)))


def _node(task: TaskDefinition, written: dict[str, Any]) -> Node:
    kind = NodeKind(written.get("type", NodeKind.AGENT))
    notes = [
        f"{word} {unspaced(written[field])}"
        for field, word in (("when", "when"), ("forEach", "for each"))
        if field in written
    ]
    field, told = TOLD_OF.get(kind, ("", ""))
    what = task.parameters.get(field)
    who = task.capability or (f"@{task.agent_id}" if task.agent_id else "") or (told.format(what) if what else "")
    return Node(key=task.key, kind=kind, who=who, notes=tuple(notes))


def _edges(definition: Definition) -> Iterator[Edge]:
    for task in definition.tasks:
        written = definition.document["tasks"][task.ordinal]
        for key in task.depends_on:
            yield Edge(source=key, target=task.key)
        for field, kind in HANDLER_FIELDS.items():
            if written.get(field):
                yield Edge(source=task.key, target=written[field], kind=kind)
    if definition.document.get("onFailure"):
        yield Edge(source=FAILED_RUN, target=definition.document["onFailure"], kind=EdgeKind.ON_FAILURE)
