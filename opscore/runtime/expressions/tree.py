"""The tree of an expression: Google's CEL parser reads the text, and its serialized tree is decoded into nodes.

The parser returns its tree as the protocol buffer `cel.expr.ParsedExpr`, inside of an `Any`
(https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto). The numbers of published fields never
change, so the few that are needed are written here, which saves a dependency on the generated code. The parser has
expanded macros into loops; these are recognized by their initial value and become macros again.
"""

import functools
import itertools
import math
import re
import struct
from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeAlias

import attrs
from cel_expr_python import cel

from opscore.runtime.errors import ExpressionInvalid
from opscore.runtime.expressions.bounds import DEPTH_MAX, EXPRESSION_CHARACTERS_MAX, NODES_MAX

_FAULT: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): ([^\n]*)")
_TOO_DEEP: Final = f"it nests deeper than {DEPTH_MAX} levels"
_SYNTAX: Final = (
    (re.compile(r"Syntax error: mismatched input '<EOF>'"), "it ends too early"),
    (re.compile(r"Syntax error: (?:extraneous|mismatched) input (.+) expecting"), r"unexpected \1"),
    (re.compile(r"Syntax error: token recognition error at: (.*)"), r"unexpected \1"),
    (re.compile(r"Syntax error: no viable alternative at input (.*)"), r"unexpected \1"),
    (re.compile(r"Syntax error: (.*)"), r"\1"),
)
"""The parser's messages and their plain words; the first pattern that matches counts."""
_BEYOND_JSON: Final = {4: "an unsigned number", 7: "bytes"}
"""Kinds of constants that JSON does not have."""


@attrs.frozen
class Constant:
    """A literal."""

    at: int | None
    value: bool | int | float | str | None


@attrs.frozen
class Name:
    """A name of the scope, or the variable of a macro."""

    at: int | None
    name: str


@attrs.frozen
class Field:
    """`operand.name`, or `has(operand.name)` if `tested`."""

    at: int | None
    operand: "Node"
    name: str
    tested: bool


@attrs.frozen
class Call:
    """An operator, under the parser's name such as `_+_`, or a function; a target is its first argument."""

    at: int | None
    function: str
    arguments: tuple["Node", ...]
    on_target: bool


@attrs.frozen
class ListOf:
    """`[a, b]`."""

    at: int | None
    items: tuple["Node", ...]


@attrs.frozen
class MapOf:
    """`{"a": b}`."""

    at: int | None
    entries: tuple[tuple["Node", "Node"], ...]


@attrs.frozen
class Macro:
    """A loop over a list, or over the names of an object."""

    at: int | None
    kind: str
    """`all`, `exists`, `exists_one` or `map`; `filter` is a `map` with a condition that yields the variable."""
    variable: str
    over: "Node"
    condition: "Node | None"
    yields: "Node | None"


Node: TypeAlias = Constant | Name | Field | Call | ListOf | MapOf | Macro


def parse(text: str) -> Node:
    """Parse an expression.

    Raises:
        ExpressionInvalid: it is not valid CEL, it is too large, or it has a literal of a kind that JSON does not have.
    """
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise ExpressionInvalid(f"an expression has at most {EXPRESSION_CHARACTERS_MAX:,} characters")
    try:
        # Types are not checked, because those of the JSON in a scope are not known.
        wrapped = _environment().compile(text, disable_check=True).serialize()
    except RuntimeError as error:
        _refuse(text, str(error))
    except TypeError:
        raise ExpressionInvalid("the text holds half of a surrogate pair") from None
    parsed = _Message(_Message(wrapped).bytes(2))
    source = _Message(parsed.bytes(3))
    positions = {entry.number(1): entry.number(2) + 1 for entry in source.messages(4)}
    return _Reader(positions).read(_Message(parsed.bytes(2)), 0)


@functools.cache
def _environment() -> cel.Env:
    return cel.NewEnv(variables={})


def _refuse(text: str, said: str) -> NoReturn:
    found = _FAULT.search(said)
    if found is None or "recursion" in said:
        raise ExpressionInvalid(_TOO_DEEP if "recursion" in said else said.partition("\n")[0]) from None
    line, column, message = int(found[1]), int(found[2]), found[3]
    before = sum(map(len, itertools.islice(text.splitlines(keepends=True), line - 1)))
    for pattern, words in _SYNTAX:
        if match := pattern.match(message):
            message = match.expand(words)
            break
    raise ExpressionInvalid(message, position=before + column) from None


class _Message:
    """The fields of one protocol buffer message."""

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        """Decode a message (https://protobuf.dev/programming-guides/encoding/)."""
        self._fields: dict[int, list[Any]] = {}
        place = 0
        while place < len(data):
            key, place = _varint(data, place)
            wire_type = key & 7
            value: int | bytes
            if wire_type == 0:
                value, place = _varint(data, place)
            else:
                size, place = _varint(data, place) if wire_type == 2 else (8 if wire_type == 1 else 4, place)  # noqa: PLR2004 - The length is given, or it is 8 or 4 bytes.
                value = data[place : place + size]
                place += size
            self._fields.setdefault(key >> 3, []).append(value)

    def kind(self, *numbers: int) -> int | None:
        """Return which of these fields is present, or None; at most one of them is."""
        return next((number for number in numbers if number in self._fields), None)

    def number(self, field: int) -> int:
        return int(self._fields.get(field, (0,))[-1])

    def bytes(self, field: int) -> bytes:
        return bytes(self._fields.get(field, (b"",))[-1])

    def text(self, field: int) -> str:
        return self.bytes(field).decode()

    def message(self, field: int) -> "_Message":
        return _Message(self.bytes(field))

    def messages(self, field: int) -> Iterator["_Message"]:
        return map(_Message, self._fields.get(field, ()))


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of seven bits per byte, lowest first; the eighth bit says that another byte follows."""
    value = data[place]
    place += 1
    shift = 7
    while value >> shift:
        value += (data[place] - 1) << shift
        place += 1
        shift += 7
    return value, place


class _Reader:
    """Decodes messages of the type `cel.expr.Expr` into nodes."""

    def __init__(self, positions: dict[int, int]) -> None:
        self._positions = positions
        self._nodes = 0

    def read(self, sent: _Message, depth: int) -> Node:
        at = self._positions.get(sent.number(2))
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise ExpressionInvalid(f"an expression has at most {NODES_MAX} operations, names and constants")
        if depth > DEPTH_MAX:
            raise ExpressionInvalid(_TOO_DEEP, position=at)
        which = sent.kind(3, 4, 5, 6, 7, 8, 9)
        assert which is not None, "the parser sends no empty expression"
        body = sent.message(which)
        match which:
            case 3:
                return _constant(body, at)
            case 4:
                return Name(at, body.text(1))
            case 5:
                operand = self.read(body.message(1), depth + 1)
                return Field(at, operand, body.text(2), tested=bool(body.number(3)))
            case 6:
                return self._call(body, at, depth)
            case 7:
                return ListOf(at, tuple(self.read(item, depth + 1) for item in body.messages(1)))
            case 8:
                return self._map(body, at, depth)
            case _:
                return self._macro(body, at, depth)

    def _call(self, body: _Message, at: int | None, depth: int) -> Node:
        target = body.kind(1) is not None
        sent = itertools.chain((body.message(1),) if target else (), body.messages(3))
        return Call(at, body.text(2), tuple(self.read(item, depth + 1) for item in sent), target)

    def _map(self, body: _Message, at: int | None, depth: int) -> Node:
        if body.text(1):
            raise ExpressionInvalid("messages are not supported: write an object as {'name': value}", position=at)
        return MapOf(
            at,
            tuple(
                (self.read(entry.message(3), depth + 1), self.read(entry.message(4), depth + 1))
                for entry in body.messages(2)
            ),
        )

    def _macro(self, body: _Message, at: int | None, depth: int) -> Node:
        """Recognize the macro of a loop by its initial value and its step.

        The initial value is true (`all`), false (`exists`), 0 (`exists_one`) or an empty list (`map`, `filter`). The
        step is `result && condition`, `result || condition`, `condition ? result + 1 : result`, `result + [yields]` or
        `condition ? result + [yields] : result`.
        """
        over = self.read(body.message(2), depth + 1)
        variable = body.text(1)
        begins, step = body.message(4), _Arguments(body.message(6))
        if begins.kind(7) is not None:
            condition = None
            if step.function == "_?_:_":
                condition = self.read(step.messages[0], depth + 1)
                step = _Arguments(step.messages[1])
            (item,) = step.messages[1].message(7).messages(1)
            return Macro(at, "map", variable, over, condition, self.read(item, depth + 1))
        constant = begins.message(3)
        if constant.kind(2) is None:
            kind, condition_place = "exists_one", 0
        else:
            kind, condition_place = ("all" if constant.number(2) else "exists"), 1
        return Macro(at, kind, variable, over, self.read(step.messages[condition_place], depth + 1), None)


class _Arguments:
    """The operator of a loop's step, and its operands."""

    __slots__ = ("function", "messages")

    def __init__(self, sent: _Message) -> None:
        call = sent.message(6)
        self.function = call.text(2)
        self.messages = tuple(call.messages(3))


def _constant(body: _Message, at: int | None) -> Constant:
    which = body.kind(1, 2, 3, 4, 5, 6, 7)
    match which:
        case 1:
            return Constant(at, None)
        case 2:
            return Constant(at, bool(body.number(2)))
        case 3:
            number = body.number(3)
            return Constant(at, number - (1 << 64) if number >> 63 else number)
        case 5:
            (double,) = struct.unpack("<d", body.bytes(5))
            if not math.isfinite(double):
                raise ExpressionInvalid("this number is too large", position=at)
            return Constant(at, double)
        case 6:
            return Constant(at, body.text(6))
        case _:
            kind = _BEYOND_JSON.get(which or 0, "this constant")
            raise ExpressionInvalid(f"{kind} is not supported: JSON has no such value", position=at)
