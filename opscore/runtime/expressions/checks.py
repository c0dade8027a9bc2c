"""What an expression may say: the names that exist, the functions, and one walk at a time."""

import difflib
from collections.abc import Iterable
from typing import Any, Final

import attrs

from opscore.runtime.errors import ExpressionInvalid
from opscore.runtime.expressions.tree import Call, Constant, Field, ListOf, Macro, MapOf, Name, Node

ROOTS: Final = ("input", "tasks", "item", "index", "session", "error")
"""The names of a scope."""
TASKS: Final = "tasks"
_FAILURE: Final[dict[str, Any]] = {"message": {}, "code": {}}
_TASK: Final[dict[str, Any]] = {"result": None, "status": {}, "error": _FAILURE}
_FIELDS: Final[dict[str, Any]] = {
    "session": {"id": {}, "workflowId": {}, "agentId": {}, "createdAt": {}},
    "error": _FAILURE,
}
"""What the names of a scope hold, as far as that is known: by field what that holds, or None for any JSON."""
FUNCTIONS: Final = {
    "size": (1, "either"),
    "contains": (2, "target"),
    "startsWith": (2, "target"),
    "endsWith": (2, "target"),
    "matches": (2, "either"),
    "int": (1, "plain"),
    "double": (1, "plain"),
    "string": (1, "plain"),
    "bool": (1, "plain"),
    "dyn": (1, "plain"),
}
"""How many arguments each takes, its target being one, and whether it is written `f(a)`, `a.f()` or either."""
OPERATORS: Final = frozenset(
    [
        "_&&_",
        "_||_",
        "_?_:_",
        "_[_]",
        "_==_",
        "_!=_",
        "_<_",
        "_<=_",
        "_>_",
        "_>=_",
        "@in",
        "_+_",
        "_-_",
        "_*_",
        "_/_",
        "_%_",
        "-_",
        "!_",
    ]
)
"""What the parser calls them; nobody can write such a name."""
MACROS: Final = {"has": "has(a.b)", "all": "a.all(x, …)", "exists": "a.exists(x, …)"} | {
    name: f"a.{name}(x, …)" for name in ("exists_one", "map", "filter")
}
"""Calls of these that the parser left as they were have other arguments than a macro takes."""
BEYOND_JSON: Final = frozenset({"bytes", "duration", "timestamp", "type", "uint"})
"""Functions of CEL whose values are no JSON."""
COMPARED_CHARACTERS_MAX: Final = 64
"""Of a name that the nearest known one is looked for."""


@attrs.frozen
class Reads:
    """What an expression reads of its scope."""

    names: frozenset[str]
    task_keys: frozenset[str]
    missing: tuple[str, ...] = ()
    """The fields that it reads and no scope has, as a sentence for each."""


def check(node: Node) -> Reads:
    """Look through a whole expression.

    Raises:
        ExpressionInvalid: it names what does not exist, or walks a list for each item of another.
    """
    checker = _Checker()
    checker.visit(node, None)
    return Reads(frozenset(checker.names), frozenset(checker.task_keys), tuple(checker.missing))


def operand_of_task(node: Node) -> str | None:
    """The task's id in `tasks.id` and `tasks["id"]`, else nothing."""
    match node:
        case Field(operand=Name(name="tasks"), name=key):
            return key
        case Call(function="_[_]", arguments=(Name(name="tasks"), Constant(value=str(key)))):
            return key
        case _:
            return None


def _field_of(node: Node) -> tuple[Node, str] | None:
    """The object and the name in `a.b` and `a["b"]`, else nothing; `has(a.b)` asks, and reads nothing."""
    match node:
        case Field(operand=operand, name=name, tested=False):
            return operand, name
        case Call(function="_[_]", arguments=(operand, Constant(value=str(name)))):
            return operand, name
        case _:
            return None


class _Checker:
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.task_keys: set[str] = set()
        self.missing: dict[str, None] = {}

    def visit(self, node: Node, variable: str | None) -> None:
        """Check a node inside of the body of a macro with this variable, or of none."""
        self._look(node)
        key = operand_of_task(node)
        if key is not None:
            self.names.add(TASKS)
            self.task_keys.add(key)
            return
        match node:
            case Constant():
                pass
            case Name():
                self._name(node, variable)
            case Field():
                self.visit(node.operand, variable)
            case Call():
                _check_function(node)
                self._all(node.arguments, variable)
            case ListOf():
                self._all(node.items, variable)
            case MapOf():
                for name, value in node.entries:
                    if isinstance(name, Constant) and not isinstance(name.value, str):
                        raise ExpressionInvalid("the names of an object are strings", position=name.at)
                    self._all((name, value), variable)
            case Macro():
                self._macro(node, variable)

    def _look(self, node: Node) -> tuple[str, dict[str, Any] | None]:
        """Note a field that is not there; answers what the node is called, and what it holds as far as is known."""
        match node:
            case Name(name=name) if name in _FIELDS:
                return name, _FIELDS[name]
            case _ if (key := operand_of_task(node)) is not None:
                return f"task {_shown(key)}", _TASK
        found = _field_of(node)
        if found is None:
            return "", None
        said, fields = self._look(found[0])
        if fields is None:
            return "", None
        if found[1] not in fields:
            self.missing[f"{said} has no field {_shown(found[1])}{_nearest(found[1], fields)}"] = None
            return "", None
        return f"{said}.{found[1]}", fields[found[1]]

    def _all(self, nodes: Iterable[Node], variable: str | None) -> None:
        for node in nodes:
            self.visit(node, variable)

    def _name(self, node: Name, variable: str | None) -> None:
        if node.name == variable:
            return
        if node.name == TASKS:
            raise ExpressionInvalid(
                'after tasks the id of a task has to be written out, as in tasks.scan or tasks["scan"]',
                position=node.at,
            )
        if node.name not in ROOTS:
            known = ROOTS if variable is None else (*ROOTS, variable)
            raise ExpressionInvalid(f"there is no {_shown(node.name)}{_nearest(node.name, known)}", position=node.at)
        self.names.add(node.name)

    def _macro(self, node: Macro, variable: str | None) -> None:
        if variable is not None:
            raise ExpressionInvalid("a macro may not stand inside of another one's body", position=node.at)
        if node.variable in ROOTS:
            raise ExpressionInvalid(f"{node.variable!r} is a name already: call the variable else", position=node.at)
        self.visit(node.over, None)
        self._all((part for part in (node.condition, node.yields) if part is not None), node.variable)


def _check_function(node: Call) -> None:
    name = node.function
    if name in OPERATORS:
        return  # The parser counts what they are applied to.
    if name in BEYOND_JSON:
        raise ExpressionInvalid(f"{name}() does not exist here: its values are no JSON", position=node.at)
    if name in MACROS:
        raise ExpressionInvalid(f"{name} is written {MACROS[name]}", position=node.at)
    if name not in FUNCTIONS:
        raise ExpressionInvalid(
            f"there is no function {_shown(name)}{_nearest(name, (*FUNCTIONS, *MACROS))}", position=node.at
        )
    count, form = FUNCTIONS[name]
    if len(node.arguments) != count or (form != "either" and node.on_target != (form == "target")):
        shape = f"{name}(value)" if count == 1 else f"text.{name}(text)"
        raise ExpressionInvalid(f"{name} is written {shape}", position=node.at)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:COMPARED_CHARACTERS_MAX], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _shown(name: Any) -> str:
    return repr(name if len(name) <= COMPARED_CHARACTERS_MAX else name[:COMPARED_CHARACTERS_MAX] + "…")
