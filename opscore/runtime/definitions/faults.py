"""Validation of workflow documents: it finds every fault at once, each with its path."""

import difflib
import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import jsonschema

from opscore.runtime.definitions.expressions import characters_in, expression_faults, reading_faults
from opscore.runtime.definitions.graph import HANDLER_FIELDS, edge_ends, handler_faults, handlers_of, order_faults
from opscore.runtime.definitions.input_schemas import said_of, schema_faults
from opscore.runtime.definitions.kinds import kind_faults
from opscore.runtime.definitions.schema import WORKFLOW_SCHEMA
from opscore.runtime.errors import FAULTS_MAX, Fault, InvalidDocument
from opscore.runtime.identity import unusable
from opscore.runtime.limits import Limits
from opscore.runtime.values import document_faults, path_of

SUGGESTIONS_MAX: Final = 20
"""Unknown names in one document that get a suggestion; comparing names is the most expensive part of validation."""
COMPARED_CHARACTERS_MAX: Final = 128


def check(document: Any, limits: Limits) -> None:
    """Refuse a document that is not a valid workflow.

    Raises:
        InvalidDocument: with every fault of the document.
    """
    # A document that is not JSON or exceeds the limits gets that fault alone: the checks below rely on both.
    faults = document_faults(document, limits)
    if not faults:
        faults = list(itertools.islice(_faults(document, limits), FAULTS_MAX))
        if _can_be_read(document, limits):
            faults += itertools.islice(reading_faults(document, in_order=not faults), FAULTS_MAX - len(faults))
    if faults:
        inspected = {fault.shortened(): None for fault in faults}
        raise InvalidDocument(
            "workflow definition", tuple(sorted(inspected, key=lambda fault: (fault.path, fault.message)))
        )


def _can_be_read(document: Any, limits: Limits) -> bool:
    """Return whether what expressions read can be checked: task ids are distinct, and there is not too much of it."""
    tasks = document.get("tasks") if isinstance(document, dict) else None
    if (
        not isinstance(tasks, list)
        or len(tasks) > limits.tasks_max
        or not all(isinstance(task, dict) for task in tasks)
    ):
        return False
    ids = [task.get("taskId") for task in tasks]
    distinct = all(isinstance(each, str) for each in ids) and len(set(ids)) == len(ids)
    return distinct and characters_in(document) <= limits.expression_characters_max


def _faults(document: Any, limits: Limits) -> Iterator[Fault]:
    nearest = _Nearest()
    tasks = document.get("tasks") if isinstance(document, dict) else None
    if isinstance(tasks, list) and len(tasks) > limits.tasks_max:
        yield Fault(path="tasks", message=f"tasks_max allows {limits.tasks_max:,} tasks, found {len(tasks):,}")
        document, tasks = {**document, "tasks": []}, None
    for error in _validator().iter_errors(document):
        yield from _described(error, nearest)
    if isinstance(document, dict):
        yield from _id_faults(document.get("id"), "id", limits)
        yield from _path_faults(document.get("id"))
        yield from schema_faults(document.get("inputSchema"), "inputSchema")
    if isinstance(tasks, list):
        yield from _graph_faults(document, limits, nearest)
        yield from expression_faults(document, limits)


def _path_faults(workflow_id: Any) -> Iterator[Fault]:
    """Check that the workflow's id can be part of a URL; the ids of its tasks never are."""
    why = unusable(workflow_id) if isinstance(workflow_id, str) and workflow_id.strip() else None
    if why is not None:
        yield Fault(path="id", message=f"{workflow_id!r} {why}")


class _Nearest:
    """Suggests the known name that is nearest to an unknown one, a bounded number of times."""

    def __init__(self) -> None:
        self._left = SUGGESTIONS_MAX

    def to(self, name: str, known: Iterable[str]) -> str:
        if not self._left or len(name) > COMPARED_CHARACTERS_MAX:
            return ""
        self._left -= 1
        comparable = [other for other in known if len(other) <= COMPARED_CHARACTERS_MAX]
        near = difflib.get_close_matches(name, comparable, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""


@functools.cache
def _validator() -> Any:
    # The library compares every pair of items if they can't be sorted. Here all valid items are strings.
    checks = {"uniqueItems": _repeated}
    kind: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, checks)  # type: ignore[no-untyped-call]
    return kind(WORKFLOW_SCHEMA)


def _repeated(_validator: Any, wanted: bool, items: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:  # noqa: FBT001
    counts = Counter(item for item in items if isinstance(item, str)) if wanted and isinstance(items, list) else {}
    for name, count in counts.items():
        if count > 1:
            yield jsonschema.ValidationError(f"{name!r} is named {count} times")


def _described(error: jsonschema.ValidationError, nearest: _Nearest) -> Iterator[Fault]:
    path = path_of(error.absolute_path)
    schema: Any = error.schema
    instance: Any = error.instance
    wanted: Any = error.validator_value
    message = said_of(error)
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        for name in (name for name in instance if name not in known):
            yield Fault(path=path, message=f"unknown field {name!r}{nearest.to(name, known)}", field=name)
        return
    if error.validator == "required":
        missing = [name for name in wanted if name not in instance]
        message = f"{' and '.join(missing)} must be given"
    yield Fault(path=path, message=message)


def _id_faults(identity: Any, path: str, limits: Limits) -> Iterator[Fault]:
    """Check an id's length in bytes, which bounds the keys of the store; the schema only counts characters."""
    if isinstance(identity, str) and (size := len(identity.encode())) > limits.id_bytes_max:
        yield Fault(path=path, message=f"id_bytes_max allows {limits.id_bytes_max} bytes, found {size:,}")


def _graph_faults(document: dict[str, Any], limits: Limits, nearest: _Nearest) -> Iterator[Fault]:
    tasks: list[Any] = document["tasks"]
    numbered = [
        (index, task)
        for index, task in enumerate(tasks)
        if isinstance(task, dict) and isinstance(task.get("taskId"), str)
    ]
    named = [task for _, task in numbered]
    counts = Counter(task["taskId"] for task in named)
    for index, task in numbered:
        where = f"tasks[{index}]"
        yield from _id_faults(task["taskId"], f"{where}.taskId", limits)
        if counts[task["taskId"]] > 1:
            yield Fault(path=f"{where}.taskId", message=f"{task['taskId']!r} is used {counts[task['taskId']]} times")
        yield from kind_faults(task, where)
        if task.get("agentCapability") and task.get("agentId"):
            yield Fault(path=where, message="agentCapability and agentId exclude each other")
        for path, target in (*edge_ends(task, where), *_handlers_named(task, where)):
            if target not in counts:
                yield Fault(path=path, message=f"no task is called {target!r}{nearest.to(target, counts)}")
    at_the_end = document.get("onFailure")
    if isinstance(at_the_end, str) and at_the_end not in counts:
        yield Fault(path="onFailure", message=f"no task is called {at_the_end!r}{nearest.to(at_the_end, counts)}")
    if len(named) == len(tasks) and all(count == 1 for count in counts.values()):
        found = list(handler_faults(document))
        yield from found
        if not found:
            yield from order_faults(named, handlers_of(document))


def _handlers_named(task: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    return ((f"{where}.{field}", task[field]) for field in HANDLER_FIELDS if isinstance(task.get(field), str))
