"""Adds more than plain tasks to drawn workflows: handlers, conditions, lists, timeouts, and tasks without an agent."""

import functools
from typing import Any, Final

from hypothesis import strategies as st

from opscore.runtime.definitions.kinds import WITHOUT

BELOW: Final[dict[str, Any]] = {
    "id": "below",
    "tasks": [{"taskId": "deep", "agentCapability": "a", "leaseSeconds": 30}],
}
"""The workflow that other workflows start as a task."""
CONDITIONS: Final = ("true", "false", "input == null", "input.x == 1", "session.agentId != null")
LISTS: Final[tuple[Any, ...]] = ([], [1], ["a", "b", "c", "d"], "${[1, 2, 3]}", "${input}")
OUTPUTS: Final[tuple[Any, ...]] = (None, "fixed", {"by": "${session.workflowId}"}, "${input.x}")
_SECONDS: Final = st.sampled_from((60, 5.0, 600, 0.5))
_SELDOM: Final = st.sampled_from((False, False, False, True))
_DELAYS: Final = st.sampled_from((0, 3, 45.5))

Document = dict[str, Any]


@functools.cache
def timed() -> dict[str, st.SearchStrategy[Any]]:
    """Return strategies for the timeouts that tasks and defaults may have."""
    return {"heartbeatSeconds": _SECONDS, "scheduleToStartSeconds": _SECONDS, "scheduleToCloseSeconds": _SECONDS}


@st.composite
def enriched(draw: st.DrawFn, document: Document, capabilities: tuple[str, ...]) -> Document:
    """Draw a workflow with more features of the language, or the same one.

    Args:
        document: a valid workflow of plain tasks.
        capabilities: the capabilities that its handlers may ask for.
    """
    if not document["tasks"] or not draw(_SELDOM):
        return document
    tasks = [_of_kind(draw, dict(task)) for task in document["tasks"]]
    handlers: list[Document] = []
    for task in tasks:
        if draw(_SELDOM):
            task["when"] = draw(st.sampled_from(CONDITIONS))
        if draw(_SELDOM) and task.get("type") != "signal":
            task |= {"forEach": draw(st.sampled_from(LISTS)), "concurrency": draw(st.sampled_from((100, 1, 2)))}
        if draw(_SELDOM):
            task["continueOnFailure"] = draw(st.booleans())
        for field in ("fallbackTaskId", "compensateTaskId"):
            if draw(_SELDOM):
                task[field] = f"{field[:4]}-{task['taskId']}"
                handlers.append(_handler(draw, task[field], capabilities))
    document = {**document, "tasks": [*tasks, *handlers]}
    if draw(st.booleans()):
        document["onFailure"] = "told"
        document["tasks"].append(_handler(draw, "told", capabilities))
    if draw(st.booleans()):
        document["sessionTimeoutSeconds"] = draw(_SECONDS)
    if draw(st.booleans()):
        document["outputs"] = draw(st.sampled_from(OUTPUTS))
    if draw(st.booleans()):
        document["inputSchema"] = draw(st.sampled_from(({}, {"title": "anything"}, None)))
    return document


def _of_kind(draw: st.DrawFn, task: Document) -> Document:
    kind = draw(st.sampled_from(("agent", "agent", "agent", "delay", "signal", "workflow", "tool")))
    if kind == "agent":
        return task
    task = {name: value for name, value in task.items() if name not in WITHOUT.get(kind, ()) and name != "parameters"}
    task["type"] = kind
    if kind == "delay":
        task["parameters"] = {"seconds": draw(_DELAYS)}
    elif kind == "signal":
        # The signal may never come.
        task |= {"parameters": draw(st.sampled_from(({}, {"name": "go"}))), "timeoutSeconds": draw(_SECONDS)}
    elif kind == "tool":
        task |= {"parameters": {"tool": "adder", "arguments": {"a": 1}}, "idempotent": draw(st.booleans())}
    else:
        task["parameters"] = {"workflowId": draw(st.sampled_from(("below", "nowhere"))), "input": draw(st.booleans())}
    return task


def _handler(draw: st.DrawFn, task_id: str, capabilities: tuple[str, ...]) -> Document:
    if draw(_SELDOM):
        return {"taskId": task_id, "type": "delay", "parameters": {"seconds": draw(_DELAYS)}}
    retry = {"maxRetries": draw(st.sampled_from((1, 0))), "initialDelaySeconds": 1}
    return {"taskId": task_id, "agentCapability": draw(st.sampled_from(capabilities)), "retry": retry}
