"""Hypothesis strategies for valid workflow documents, with all fields, in any order."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from opscore.runtime.definitions.definition import parse
from opscore.runtime.definitions.schema import WORKFLOW_SCHEMA
from opscore.runtime.limits import Limits
from opscore.runtime.simulation.language import enriched, timed
from opscore.runtime.simulation.scenario import SIMULATED_LIMITS

CAPABILITIES: Final = ("a", "b", "c")
"""The capabilities that the tasks of drawn workflows ask for."""
NAMED: Final = ("solo", "pair-0", "pair-1")
"""The agents that the tasks of drawn workflows name."""
TASKS_MAX: Final = 6
CODES: Final = ("task_failed", "agent_error", "timeout", "lost", "undelivered")

_IDS: Final = ("w", "v", "ø 1")
_SECONDS: Final = st.sampled_from((60, 5.0, 600, 0.5, 30))
_TIMEOUTS: Final = st.sampled_from((300, 20.0, 3_600, 0.5, 7_200))
_SELDOM: Final = st.sampled_from((*(False,) * 15, True))
_FREE: Final = st.sampled_from(({}, {"team": "x"}, {"nested": {"list": [1, None, "ü"]}}))
_TEXTS: Final = st.sampled_from(("", "text", "zwölf Wörter"))
_MAYBE: Final[st.SearchStrategy[bool]] = st.booleans()
_NEXT_IS_NONE: Final = st.fixed_dictionaries({}, optional={"nextTaskId": st.none()})

Document = dict[str, Any]


@functools.cache
def values() -> st.SearchStrategy[Any]:
    """Draw JSON of any shape, for payloads, parameters and results."""
    plain = st.none() | st.booleans() | st.integers(-9, 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    texts = st.text(st.characters(codec="utf-8"), max_size=8)
    return st.recursive(
        plain | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    )


# --- workflows ----------------------------------------------------------------------------------------------


@functools.cache
def retries() -> st.SearchStrategy[Document]:
    """Draw retry policies for tasks or defaults, with delays of a few minutes at most."""
    return st.fixed_dictionaries(
        {},
        optional={
            "maxRetries": st.sampled_from((0, 1, 2, 3)),
            "initialDelaySeconds": st.sampled_from((0, 1, 0.25, 30.0, 86_400)),
            "backoffCoefficient": st.sampled_from((1, 2, 1.5, 100)),
            "maxDelaySeconds": st.sampled_from((10, 0, 0.5, 300)),
            "jitter": st.booleans(),
            "nonRetryable": st.lists(st.sampled_from((*CODES, "never seen")), max_size=3),
        },
    )


@functools.cache
def _per_task() -> dict[str, st.SearchStrategy[Any]]:
    """Return strategies for the fields that tasks and defaults may have."""
    return {
        "retry": retries(),
        "timeoutSeconds": _TIMEOUTS,
        "leaseSeconds": _SECONDS,
        "priority": st.sampled_from((0, 1, 5, 9)),
        **timed(),
    }


@functools.cache
def _about() -> st.SearchStrategy[Document]:
    """Draw the fields of a document other than its tasks."""
    return st.fixed_dictionaries(
        {},
        optional={
            "name": _TEXTS,
            "version": st.sampled_from(("1.0", "2", "")),
            "description": st.none() | _TEXTS,
            "defaults": st.fixed_dictionaries({}, optional=_per_task()),
            "labels": _FREE,
            "metadata": _FREE,
        },
    )


@functools.cache
def _tasks(capabilities: tuple[str, ...], named: tuple[str, ...]) -> st.SearchStrategy[Document]:
    """Draw tasks without an order: which agent they ask for, and their settings."""
    by_capability = st.fixed_dictionaries(
        {"agentCapability": st.sampled_from(capabilities)}, optional={"agentId": st.none()}
    )
    by_name = st.fixed_dictionaries(
        {"agentId": st.sampled_from(named or ("",))}, optional={"agentCapability": st.none()}
    )
    by_session = st.fixed_dictionaries({}, optional={"agentCapability": st.none(), "agentId": st.none()})
    whose = (by_capability, by_name, by_session) if named else (by_capability, by_session)
    said = st.fixed_dictionaries(
        {},
        optional={
            "name": _TEXTS,
            "description": st.none() | _TEXTS,
            "type": st.just("agent"),
            "parameters": st.none() | st.dictionaries(st.sampled_from(("p", "q")), values(), max_size=2),
            "concurrencyKey": st.none() | st.sampled_from(("one", "of ${session.workflowId}", "${session.id}")),
            "labels": _FREE,
            "metadata": _FREE,
            **_per_task(),
        },
    )
    return st.builds(_joined, st.one_of(whose), said)


def _joined(first: Document, second: Document) -> Document:
    return {**first, **second}


@st.composite
def definitions(
    draw: st.DrawFn,
    *,
    capabilities: Sequence[str] = CAPABILITIES,
    named: Sequence[str] = NAMED,
    tasks_max: int = TASKS_MAX,
    limits: Limits = SIMULATED_LIMITS,
) -> Document:
    """Draw valid workflow documents with all fields, whose tasks are in list order, chained, fanned out and joined.

    Args:
        capabilities: what tasks may ask for.
        named: the agents that they may name.
        tasks_max: how many tasks at most.
        limits: what the documents have to be valid by.
    """
    drawn = draw(st.lists(_tasks(tuple(capabilities), tuple(named)), min_size=1, max_size=tasks_max))
    if draw(_SELDOM):
        drawn = []
    tasks = [{"taskId": f"t{number}", **task} for number, task in enumerate(drawn)]
    document = {
        "id": draw(st.sampled_from(_IDS)),
        "tasks": draw(st.sampled_from(_ORDERS))(draw, tasks) if len(tasks) > 1 else tasks,
        **draw(_about()),
    }
    document = draw(enriched(document, tuple(capabilities)))
    parse(document, limits)
    return document


def _listed(draw: st.DrawFn, tasks: list[Document]) -> list[Document]:
    """Order tasks as they are listed; a `nextTaskId` of null changes nothing."""
    return [{**task, **draw(_NEXT_IS_NONE)} for task in tasks]


def _chained(draw: st.DrawFn, tasks: list[Document]) -> list[Document]:
    """Chain tasks by `nextTaskId`; only the first one has to come first in the list."""
    for task, following in itertools.pairwise(tasks):
        task["nextTaskId"] = following["taskId"]
    return [tasks[0], *draw(st.permutations(tasks[1:]))]


def _graph(draw: st.DrawFn, tasks: list[Document]) -> list[Document]:
    """Fan out and join tasks by `dependsOn`; the list may be in any order."""
    for place, task in enumerate(tasks):
        before = [each["taskId"] for each in tasks[:place]]
        depends_on: list[str] = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        if draw(_MAYBE) or depends_on:
            task["dependsOn"] = depends_on
    return draw(st.permutations(tasks))


def _mixed(draw: st.DrawFn, tasks: list[Document]) -> list[Document]:
    """Order tasks by `dependsOn`, and some by a `nextTaskId` that does not contradict it."""
    tasks = sorted(_graph(draw, tasks), key=lambda task: str(task["taskId"]))
    # If any task has dependsOn, not every task has to be reachable from the first one.
    tasks[0]["dependsOn"] = []
    for place, task in enumerate(tasks):
        possible = [
            each["taskId"]
            for each in tasks[place + 1 :]
            if not each.get("dependsOn") or task["taskId"] in each["dependsOn"]
        ]
        if draw(_MAYBE) and possible:
            task["nextTaskId"] = draw(st.sampled_from(possible))
    return draw(st.permutations(tasks))


_Order = Callable[[st.DrawFn, list[Document]], list[Document]]
_ORDERS: Final[tuple[_Order, ...]] = (_listed, _chained, _graph, _mixed)


def schema_fields() -> frozenset[str]:
    """Return every field of the schema of workflow documents by its path, such as `tasks.retry.jitter`."""
    return frozenset(_fields(WORKFLOW_SCHEMA, ""))


def _fields(schema: Mapping[str, Any], path: str) -> list[str]:
    inner = schema.get("items", schema).get("properties", {})
    return [
        name
        for key, value in inner.items()
        for name in (f"{path}{key}", *(_fields(value, f"{path}{key}.") if isinstance(value, Mapping) else ()))
    ]
