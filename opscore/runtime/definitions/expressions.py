"""The expressions of a workflow document: where they are allowed, and what each may read there."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from opscore.runtime.definitions.graph import edges_of, handlers_of
from opscore.runtime.errors import ExpressionInvalid, Fault
from opscore.runtime.expressions.expression import (
    OPENS,
    Expression,
    compile_expression,
    compile_template,
    expressions_in,
    template_faults,
)
from opscore.runtime.limits import Limits
from opscore.runtime.values import walk

PLAIN: Final = frozenset(
    {"name", "description", "labels", "metadata", "parameters", "when", "forEach", "concurrencyKey"}
)
"""Fields of a task in which `${` is no fault: those that mean nothing to a run, and those that may hold expressions."""
MEANT: Final = frozenset({"id", "version", "defaults", "onFailure"})
"""Fields of the document that mean something to a run and can't hold expressions."""
_FILLED: Final = ("parameters", "forEach", "concurrencyKey")
"""Fields of a task that are templates."""
_OF_ITEMS: Final = ("parameters", "concurrencyKey")
"""Those that are evaluated for each item of a list."""
_WHOLE: Final = re.compile(r"\s*\$\{(.*)\}\s*", re.DOTALL)


def bare(text: str) -> str:
    """Return a condition without the `${…}` that may enclose it."""
    whole = _WHOLE.fullmatch(text)
    return text if whole is None else whole.group(1)


def unspaced(value: Any) -> Any:
    """Return the value of `forEach` without space around an expression, such as the newline that YAML's `|` leaves."""
    return value.strip() if isinstance(value, str) else value


def expression_faults(document: dict[str, Any], limits: Limits) -> Iterator[Fault]:
    """Yield the faults of expressions, and of those that are not allowed where they are."""
    written = characters_in(document)
    if written > limits.expression_characters_max:
        allowed = f"{limits.expression_characters_max:,}"
        yield Fault(path="", message=f"expression_characters_max allows {allowed} characters, found {written:,}")
        return
    for index, task in enumerate(document["tasks"]):
        if isinstance(task, dict):
            yield from _syntax_faults(task, f"tasks[{index}]")
            yield from _misplaced({name: task[name] for name in task if name not in PLAIN}, f"tasks[{index}].")
    yield from _template_faults(document.get("outputs"), "outputs")
    yield from _misplaced({name: document[name] for name in document if name in MEANT}, "")


def characters_in(document: dict[str, Any]) -> int:
    """Return the number of characters in conditions and in texts that hold expressions."""
    conditions = (task.get("when") for task in document["tasks"] if isinstance(task, dict))
    texts = (value for value in _texts(document) if OPENS in value)
    return sum(map(len, itertools.chain(texts, (each for each in conditions if isinstance(each, str)))))


def _texts(document: dict[str, Any]) -> Iterator[str]:
    """Yield every text that may hold expressions, except conditions."""
    filled = [[task.get(field) for field in _FILLED] for task in document["tasks"] if isinstance(task, dict)]
    return (value for _, _, value in walk([filled, document.get("outputs")]) if isinstance(value, str))


def _misplaced(fields: Mapping[str, Any], where: str) -> Iterator[Fault]:
    for place, _, value in walk(fields):
        if isinstance(value, str) and OPENS in value:
            yield Fault(path=f"{where}{place}", message="an expression is not allowed here")


def _syntax_faults(task: dict[str, Any], where: str) -> Iterator[Fault]:
    condition = task.get("when")
    if isinstance(condition, str):
        try:
            compile_expression(bare(condition))
        except ExpressionInvalid as error:
            yield Fault(path=f"{where}.when", message=error.message)
    for field in _FILLED:
        yield from _template_faults(task.get(field), f"{where}.{field}")
    if isinstance(task.get("forEach"), str) and not _gives_any_value(unspaced(task["forEach"])):
        yield Fault(path=f"{where}.forEach", message="expected a list, or one ${…} that gives a list")
    if task.get("concurrency") is not None and task.get("forEach") is None:
        yield Fault(path=f"{where}.concurrency", message="it means nothing without forEach")


def _gives_any_value(text: str) -> bool:
    """Return whether a template may give a value that is no text; an invalid one has been reported already."""
    try:
        return compile_template(text).whole
    except ExpressionInvalid:
        return True


def _template_faults(value: Any, where: str) -> Iterator[Fault]:
    for path, message in template_faults(value) if value is not None else ():
        joined = path if not path or path.startswith("[") else f".{path}"
        yield Fault(path=f"{where}{joined}", message=message)


def reading_faults(document: dict[str, Any], *, in_order: bool) -> Iterator[Fault]:
    """Yield the faults of expressions that read what does not exist when they are evaluated.

    Args:
        document: a document whose tasks have distinct ids.
        in_order: whether its graph is valid, so that it is known which tasks are over when another one begins. If not,
            expressions may read any task.
    """
    handlers = handlers_of(document)
    steps = [task for task in document["tasks"] if task["taskId"] not in handlers]
    edges = edges_of(steps) if in_order else {}
    every = {task["taskId"] for task in document["tasks"]}
    for index, task in enumerate(document["tasks"]):
        where, key = f"tasks[{index}]", task["taskId"]
        role = handlers.get(key)
        known = every
        if in_order and role is None:
            known = _before(edges, key)
        elif in_order and role == "fallback":
            step = next(each["taskId"] for each in steps if each.get("fallbackTaskId") == key)
            known = _before(edges, step) | {step}
        elif role is not None:
            # Handing it over changes its own status, but must not change the values of its expressions.
            known = every - {key}
        items = {"item", "index"} if task.get("forEach") is not None else set()
        names = {"input", "tasks", "session"} | ({"error"} if role is not None else set())
        yield from _unread(_condition(task.get("when")), f"{where}.when", names, known, every)
        for field in _FILLED:
            allowed = names | (items if field in _OF_ITEMS else set())
            yield from _unread(expressions_in(task.get(field)), f"{where}.{field}", allowed, known, every)
    outputs = expressions_in(document.get("outputs"))
    yield from _unread(outputs, "outputs", {"input", "tasks", "session"}, every, every)


def _unread(
    read: Sequence[Expression], where: str, names: set[str], known: set[str], every: set[str]
) -> Iterator[Fault]:
    for name in sorted({name for each in read for name in each.names} - names):
        yield Fault(path=where, message=f"{name!r} can't be read here, only {', '.join(sorted(names))}")
    for key in sorted({key for each in read for key in each.task_keys} - known):
        why = "is not over when this is evaluated" if key in every else "does not exist"
        yield Fault(path=where, message=f"task {key!r} {why}")
    for said in dict.fromkeys(said for each in read for said in each.missing):
        yield Fault(path=where, message=said)


def _condition(value: Any) -> Sequence[Expression]:
    """Return the expression of a condition, if it is valid; an invalid one has been reported already."""
    try:
        return (compile_expression(bare(value)),) if isinstance(value, str) else ()
    except ExpressionInvalid:
        return ()


def _before(edges: dict[str, set[str]], key: str) -> set[str]:
    """Return the steps that are over when a step begins: all that it waits for, directly or not."""
    found, waiting = set[str](), list(edges[key])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += edges[each]
    return found
