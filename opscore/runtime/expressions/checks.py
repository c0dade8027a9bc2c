"""Static checks of an expression: the names and functions that exist, and no macro inside another one's body."""

import difflib
from collections.abc import Iterable
from typing import Any, Final

import attrs

from opscore.runtime.errors import ExpressionInvalid
from opscore.runtime.expressions.tree import Call, Constant, Field, ListOf, Macro, MapOf, Name, Node

ROOTS: Final = ("input", "tasks", "item", "index", "session", "error")
"""The names that a scope may have."""
TASKS: Final = "tasks"
_FAILURE: Final[dict[str, Any]] = {"message": {}, "code": {}}
_TASK: Final[dict[str, Any]] = {"result": None, "status": {}, "error": _FAILURE}
_FIELDS: Final[dict[str, Any]] = {
    "session": {"id": {}, "workflowId": {}, "agentId": {}, "createdAt": {}},
    "error": _FAILURE,
}
"""The known fields of a scope's names, each with its own fields in turn; None stands for any JSON."""
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
"""For each function, the number of arguments, its target included, and whether it is written `f(a)` ("plain"), `a.f()`
("target") or either way."""
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
"""Operators under the parser's names, which can't be written in an expression."""
MACROS: Final = {"has": "has(a.b)", "all": "a.all(x, …)", "exists": "a.exists(x, …)"} | {
    name: f"a.{name}(x, …)" for name in ("exists_one", "map", "filter")
}
"""How each macro is written. The parser expands macros, so a call of one that is left has the wrong arguments."""
BEYOND_JSON: Final = frozenset({"bytes", "duration", "timestamp", "type", "uint"})
"""Functions of CEL whose values JSON does not have."""
COMPARED_CHARACTERS_MAX: Final = 64
"""Characters of an unknown name that are compared with the known ones, for a suggestion."""


@attrs.frozen
class Reads:
    """What an expression reads from its scope."""

    names: frozenset[str]
    task_keys: frozenset[str]
    missing: tuple[str, ...] = ()
    """A sentence for each field that it reads and that no scope has."""


def check(node: Node) -> Reads:
    """Check a whole expression.

    Raises:
        ExpressionInvalid: it uses a name or function that does not exist, or a macro in the body of another one.
    """
    checker = _Checker()
    checker.visit(node, None)
    return Reads(frozenset(checker.names), frozenset(checker.task_keys), tuple(checker.missing))


def operand_of_task(node: Node) -> str | None:
    """Return the task's id if the node is `tasks.id` or `tasks["id"]`, else None."""
    match node:
        case Field(operand=Name(name="tasks"), name=key):
            return key
        case Call(function="_[_]", arguments=(Name(name="tasks"), Constant(value=str(key)))):
            return key
        case _:
            return None


def _field_of(node: Node) -> tuple[Node, str] | None:
    """Return the object and the name if the node is `a.b` or `a["b"]`, else None; `has(a.b)` reads no field."""
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
        """Check a node; `variable` is that of the macro in whose body it is, or None."""
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
                        raise ExpressionInvalid("the names of an object must be strings", position=name.at)
                    self._all((name, value), variable)
            case Macro():
                self._macro(node, variable)

    def _look(self, node: Node) -> tuple[str, dict[str, Any] | None]:
        """Note a field that does not exist; return the node's name for messages, and its fields if they are known."""
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
                'tasks must be followed by a literal task id, as in tasks.scan or tasks["scan"]',
                position=node.at,
            )
        if node.name not in ROOTS:
            known = ROOTS if variable is None else (*ROOTS, variable)
            raise ExpressionInvalid(f"there is no {_shown(node.name)}{_nearest(node.name, known)}", position=node.at)
        self.names.add(node.name)

    def _macro(self, node: Macro, variable: str | None) -> None:
        if variable is not None:
            raise ExpressionInvalid("a macro can't be used in the body of another macro", position=node.at)
        if node.variable in ROOTS:
            raise ExpressionInvalid(f"{node.variable!r} is taken: give the variable another name", position=node.at)
        self.visit(node.over, None)
        self._all((part for part in (node.condition, node.yields) if part is not None), node.variable)


def _check_function(node: Call) -> None:
    name = node.function
    if name in OPERATORS:
        return  # The parser checks the number of their operands.
    if name in BEYOND_JSON:
        raise ExpressionInvalid(f"{name}() is not supported: JSON has no such values", position=node.at)
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
