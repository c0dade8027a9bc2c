"""Turns the tree of an expression into steps that evaluate it: one closure per node, with a shared budget.

As in CEL, `&&`, `||`, `all` and `exists` ignore the failure of one operand if another decides: `1 / 0 > 0 && false` is
false. An exceeded bound is never ignored.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed
from opscore.runtime.expressions.bounds import ITEMS_MAX, Budget
from opscore.runtime.expressions.operations import OPERATIONS
from opscore.runtime.expressions.tree import Call, Constant, Field, ListOf, Macro, MapOf, Name, Node
from opscore.runtime.expressions.values import MadeList, MadeMap, boolean, kind, shown, whole_of


class Frame:
    """The scope and the budget of one evaluation."""

    __slots__ = ("bound", "budget", "scope")

    def __init__(self, scope: Mapping[str, Any], budget: Budget) -> None:
        self.scope = scope
        self.budget = budget
        self.bound: Any = None
        """Value of the variable of the current macro; one is enough, because the body of a macro has no other macro."""


Step: TypeAlias = Callable[[Frame], Any]
_STEPS_TO_MAKE: Final = 3
"""Steps of a list, an object, or a macro's loop, without their items."""
_STEPS_AN_ITEM: Final = 2
_STEPS_A_FAILURE: Final = 20
"""Steps of a failure that is ignored: its message was formatted, and it was raised and caught."""


def steps_of(node: Node, variable: str | None = None) -> Step:
    """Build the steps of a node; `variable` is that of the macro in whose body it is, or None."""
    match node:
        case Constant(value=value):
            return lambda _frame: value
        case Name(name=name):
            return _name(name) if name != variable else lambda frame: frame.bound
        case Field():
            return _field(node, variable)
        case ListOf(items=items):
            parts = [steps_of(item, variable) for item in items]
            return lambda frame: MadeList(part(frame) for part in parts)
        case MapOf(entries=entries):
            return _map([(steps_of(name, variable), steps_of(value, variable)) for name, value in entries])
        case Call():
            return _call(node, variable)
        case Macro():
            return _macro(node)


def cost_of(node: Node) -> int:
    """Return the steps to evaluate a tree once, without those that operations and the items of macros spend."""
    match node:
        case Field(operand=operand):
            return 1 + cost_of(operand)
        case ListOf(items=items):
            return _STEPS_TO_MAKE + sum(map(cost_of, items))
        case MapOf(entries=entries):
            return _STEPS_TO_MAKE + sum(2 + cost_of(name) + cost_of(value) for name, value in entries)
        case Call(arguments=arguments):
            return 1 + sum(map(cost_of, arguments))
        case Macro(over=over):
            return _STEPS_TO_MAKE + cost_of(over)
        case _:
            return 1


def _said(node: Node) -> str:
    """Return a node as it is written, for messages; anything but a path is 'the value'."""
    match node:
        case Name(name=name):
            return name
        case Field(operand=operand, name=name):
            return f"{_said(operand)}.{name}"
        case Call(function="_[_]", arguments=(operand, Constant(value=str(key)))):
            return f"{_said(operand)}[{shown(key)}]"
        case Call(function="_[_]", arguments=(operand, _)):
            return f"{_said(operand)}[…]"
        case _:
            return "the value"


def _name(name: str) -> Step:
    def read(frame: Frame) -> Any:
        try:
            return frame.scope[name]
        except KeyError:
            raise ExpressionFailed(f"{name} does not exist here") from None

    return read


def _field(node: Field, variable: str | None) -> Step:
    operand, name, said = steps_of(node.operand, variable), node.name, _said(node.operand)

    def read(frame: Frame) -> Any:
        return _entry(operand(frame), name, said)

    def tested(frame: Frame) -> bool:
        container = operand(frame)
        if not isinstance(container, Mapping):
            raise ExpressionFailed(f"{said} has no fields: it is {kind(container)}")
        return name in container

    return tested if node.tested else read


def _entry(container: Any, name: str, said: str) -> Any:
    try:
        return container[name]
    except KeyError:
        raise ExpressionFailed(f"{said} has no field {shown(name)}") from None
    except TypeError:
        raise ExpressionFailed(f"{said} has no field {shown(name)}: it is {kind(container)}") from None


def _item(container: Any, key: Any, said: str) -> Any:
    if isinstance(container, Mapping):
        if not isinstance(key, str):
            raise ExpressionFailed(f"{said} is an object: expected the name of a field, not {kind(key)}")
        return _entry(container, key, said)
    if not isinstance(container, list):
        raise ExpressionFailed(f"{said} has no items: it is {kind(container)}")
    place = whole_of(key, "a list index")
    if not 0 <= place < len(container):
        raise ExpressionFailed(f"{said} has no item {place}: it has {len(container):,} items, counted from 0")
    return container[place]


def _map(parts: list[tuple[Step, Step]]) -> Step:
    def build(frame: Frame) -> Any:
        made = MadeMap()
        for name_part, value_part in parts:
            name = name_part(frame)
            if not isinstance(name, str):
                raise ExpressionFailed(f"the names of an object must be text, not {kind(name)}")
            if name in made:
                raise ExpressionFailed(f"an object has {shown(name)} twice")
            made[name] = value_part(frame)
        return made

    return build


def _call(node: Call, variable: str | None) -> Step:
    arguments = [steps_of(argument, variable) for argument in node.arguments]
    match node.function:
        case "_&&_":
            return _decided_by(arguments[0], arguments[1], decisive=False, sign="&&")
        case "_||_":
            return _decided_by(arguments[0], arguments[1], decisive=True, sign="||")
        case "_?_:_":
            return _choice(*arguments)
        case "_[_]":
            container, key = arguments
            said = _said(node.arguments[0])
            return lambda frame: _item(container(frame), key(frame), said)
        case function:
            return _operation(OPERATIONS[function], arguments)


def _operation(operation: Callable[..., Any], arguments: list[Step]) -> Step:
    if len(arguments) == 1:
        (only,) = arguments
        return lambda frame: operation(frame.budget, only(frame))
    left, right = arguments
    return lambda frame: operation(frame.budget, left(frame), right(frame))


def _choice(condition: Step, then: Step, otherwise: Step) -> Step:
    return lambda frame: then(frame) if boolean(condition(frame), "?:") else otherwise(frame)


def _decided_by(left: Step, right: Step, *, decisive: bool, sign: str) -> Step:
    def decide(frame: Frame) -> bool:
        try:
            if boolean(left(frame), sign) is decisive:
                return decisive
        except ExpressionExhausted:
            raise
        except ExpressionFailed:
            frame.budget.spend(_STEPS_A_FAILURE)
            if boolean(right(frame), sign) is decisive:
                return decisive
            raise
        return boolean(right(frame), sign)

    return decide


def _macro(node: Macro) -> Step:
    over, said = steps_of(node.over), _said(node.over)
    condition = steps_of(node.condition, node.variable) if node.condition is not None else None
    yields = steps_of(node.yields, node.variable) if node.yields is not None else None
    cost = _STEPS_AN_ITEM + sum(cost_of(part) for part in (node.condition, node.yields) if part is not None)

    def items(frame: Frame) -> Any:
        """Return what the macro goes over; the steps of all items are spent before the first is evaluated."""
        walked = over(frame)
        if not isinstance(walked, list | Mapping):
            raise ExpressionFailed(f"{said} is neither a list nor an object: it is {kind(walked)}")
        if len(walked) > ITEMS_MAX:
            raise ExpressionExhausted(f"{said} has {len(walked):,} items, and {node.kind} takes at most {ITEMS_MAX:,}")
        frame.budget.spend(cost * len(walked))
        return walked

    if yields is not None:
        return _gathering(items, condition, yields)
    assert condition is not None, "every macro but map has a condition"
    if node.kind == "exists_one":
        return _counting(items, condition)
    return _asking(items, condition, decisive=node.kind == "exists", sign=node.kind)


def _gathering(items: Step, condition: Step | None, yields: Step) -> Step:
    def gather(frame: Frame) -> Any:
        made = MadeList()
        for item in items(frame):
            frame.bound = item
            if condition is None or boolean(condition(frame), "a condition"):
                made.append(yields(frame))
        return made

    return gather


def _counting(items: Step, condition: Step) -> Step:
    def count(frame: Frame) -> bool:
        found = 0
        for item in items(frame):
            frame.bound = item
            found += boolean(condition(frame), "exists_one")
        return found == 1

    return count


def _asking(items: Step, condition: Step, *, decisive: bool, sign: str) -> Step:
    def ask(frame: Frame) -> bool:
        failure: ExpressionFailed | None = None
        for item in items(frame):
            frame.bound = item
            try:
                if boolean(condition(frame), sign) is decisive:
                    return decisive
            except ExpressionExhausted:
                raise
            except ExpressionFailed as error:
                frame.budget.spend(_STEPS_A_FAILURE)
                failure = failure or error
        if failure is not None:
            raise failure
        return not decisive

    return ask
