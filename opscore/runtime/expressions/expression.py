"""Expressions and templates of workflow definitions: CEL over JSON, checked when compiled and bounded when evaluated.

Google's parser for CEL reads the text; the tree is walked here, over the scope as it is. Nothing of the scope is
converted or copied, every step is counted, and nothing reads a clock or a random number: the same expression over the
same scope has the same value, or the same failure, everywhere. ADR 14 tells why.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from opscore.runtime.errors import FAULTS_MAX, ExpressionFailed, ExpressionInvalid
from opscore.runtime.expressions.bounds import EXPRESSION_CHARACTERS_MAX, TEMPLATE_CHARACTERS_MAX, Budget
from opscore.runtime.expressions.checks import check
from opscore.runtime.expressions.results import plain, text_of
from opscore.runtime.expressions.steps import Frame, Step, cost_of, steps_of
from opscore.runtime.expressions.tree import parse
from opscore.runtime.expressions.values import boolean
from opscore.runtime.limits import NESTING_MAX
from opscore.runtime.values import Place

_KEPT_MAX: Final = 512
"""Expressions that are kept compiled: to check a definition takes each of them three times."""
OPENS: Final = "${"
"""What a text has to hold to be more than itself."""
_OPENING: Final = re.compile(r"\$?\$\{")
_SKIPPED: Final = re.compile(
    r"""
      [rR](?:\"{3}[\s\S]*?\"{3} | '{3}[\s\S]*?'{3} | "[^"\n]*" | '[^'\n]*')
    | \"{3}(?:\\[\s\S]|[^\\])*?\"{3} | '{3}(?:\\[\s\S]|[^\\])*?'{3}
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
    | `[\w./\-\ ]+`
    | //[^\n]*
    | [{}]
    """,
    re.VERBOSE,
)
"""What a brace may stand in, or a brace: strings of CEL, raw and of several lines too, and comments.

A name in backticks holds no brace, but may hold what would begin a comment.
"""


@attrs.frozen(kw_only=True)
class Expression:
    """A checked expression; `compile_expression` makes one."""

    text: str
    names: frozenset[str]
    """Which of `input`, `tasks`, `item`, `index`, `session` and `error` it reads."""
    task_keys: frozenset[str]
    """Ids of the tasks that it reads, as `tasks.scan` or `tasks["scan"]`."""
    missing: tuple[str, ...]
    """What it reads and is never there, such as `task 'scan' has no field 'rezult'`."""
    _steps: Step = attrs.field(repr=False, eq=False)
    _cost: int = attrs.field(repr=False, eq=False)

    def evaluate(self, scope: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Find the value.

        Args:
            scope: JSON values by name, each within the limits of a payload; under `tasks` any mapping from the ids of
                tasks to objects. A name that is missing fails when it is read.
            budget: Shared with other evaluations; its own when there is none.

        Returns:
            A JSON value of at most `RESULT_BYTES_MAX`. Parts of it may be parts of the scope: change neither.

        Raises:
            ExpressionFailed: there is no value, such as for a field that is missing.
            ExpressionExhausted: the evaluation or its value would go beyond the bounds.
        """
        budget = budget or Budget()
        budget.spend(self._cost)
        return plain(self._steps(Frame(scope, budget)), budget)

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Evaluate a condition.

        Raises:
            ExpressionFailed: as `evaluate`, and when the value is no boolean.
        """
        return boolean(self.evaluate(scope), "a condition")


@functools.lru_cache(maxsize=_KEPT_MAX)
def compile_expression(text: str) -> Expression:
    """Read and check an expression; the same text is read once while it is in use.

    Raises:
        ExpressionInvalid: it is no CEL, names what does not exist, or is beyond the bounds of `expression_bounds`.
    """
    tree = parse(text)
    reads = check(tree)
    return Expression(
        text=text,
        names=reads.names,
        task_keys=reads.task_keys,
        missing=reads.missing,
        steps=steps_of(tree),
        cost=cost_of(tree),
    )


@attrs.frozen(kw_only=True)
class Template:
    """A JSON value whose strings may hold `${…}`; `compile_template` makes one."""

    names: frozenset[str]
    """As those of `Expression`, of all its expressions together."""
    task_keys: frozenset[str]
    constant: bool
    """It holds no expression: its value is always the same."""
    whole: bool
    """It is a text that is one expression and nothing beside it, and has that one's value."""
    _part: "_Part" = attrs.field(repr=False, eq=False)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Fill in the value of every expression; they share one budget.

        Args:
            scope: As for `Expression.evaluate`.

        Returns:
            A JSON value. Parts of it may be parts of the scope or of the template: change none of them.

        Raises:
            ExpressionFailed, ExpressionExhausted: as `Expression.evaluate`; the message begins with the path.
        """
        return self._part.fill(scope, Budget())


def compile_template(value: Any) -> Template:
    """Read and check every expression in a JSON value.

    Raises:
        ExpressionInvalid: the first fault, with its `path` in the value.
    """
    reader = _TemplateReader()
    part = reader.read(value, None, 0)
    if reader.faults:
        raise reader.faults[0]
    return Template(
        names=frozenset().union(*(each.names for each in reader.expressions)),
        task_keys=frozenset().union(*(each.task_keys for each in reader.expressions)),
        constant=not reader.expressions,
        whole=isinstance(part, _Text) and len(part.parts) == 1,
        part=part,
    )


def template_faults(value: Any) -> Iterator[tuple[str, str]]:
    """Find everything that `compile_template` refuses in a value: paths and messages, `FAULTS_MAX` at most."""
    reader = _TemplateReader()
    reader.read(value, None, 0)
    return ((fault.path, fault.message) for fault in reader.faults)


def expressions_in(value: Any) -> Sequence[Expression]:
    """The expressions of a template, without those that `template_faults` tells of."""
    reader = _TemplateReader()
    reader.read(value, None, 0)
    return reader.expressions


@attrs.frozen
class _Fixed:
    """A value without expressions, as it stands."""

    value: Any

    def fill(self, _scope: Mapping[str, Any], _budget: Budget) -> Any:
        return self.value


@attrs.frozen
class _Text:
    """A string with expressions: one that is nothing else keeps the value's type."""

    path: str
    parts: tuple[str | Expression, ...]

    def fill(self, scope: Mapping[str, Any], budget: Budget) -> Any:
        try:
            values = [part if isinstance(part, str) else part.evaluate(scope, budget) for part in self.parts]
        except ExpressionFailed as error:
            raise type(error)(f"{self.path}: {error}" if self.path else str(error)) from None
        return values[0] if len(values) == 1 else "".join(map(text_of, values))


@attrs.frozen
class _List:
    parts: tuple["_Part", ...]

    def fill(self, scope: Mapping[str, Any], budget: Budget) -> Any:
        return [part.fill(scope, budget) for part in self.parts]


@attrs.frozen
class _Object:
    parts: dict[str, "_Part"]

    def fill(self, scope: Mapping[str, Any], budget: Budget) -> Any:
        return {name: part.fill(scope, budget) for name, part in self.parts.items()}


_Part: TypeAlias = _Fixed | _Text | _List | _Object


class _TemplateReader:
    """Goes through a value, and collects its expressions and its faults."""

    def __init__(self) -> None:
        self.expressions: list[Expression] = []
        self.faults: list[ExpressionInvalid] = []
        self._characters_left = TEMPLATE_CHARACTERS_MAX

    def read(self, value: Any, place: Place | None, depth: int) -> _Part:
        if depth > NESTING_MAX:
            self._fault(place, f"nesting_max allows {NESTING_MAX} levels")
        elif isinstance(value, str):
            return self._text(value, place)
        elif isinstance(value, dict):
            named = {name: self.read(item, Place(place, str(name)), depth + 1) for name, item in value.items()}
            if not all(_keeps(part, item) for part, item in zip(named.values(), value.values(), strict=True)):
                return _Object(named)
        elif isinstance(value, list | tuple):
            listed = tuple(self.read(item, Place(place, index), depth + 1) for index, item in enumerate(value))
            if not all(_keeps(part, item) for part, item in zip(listed, value, strict=True)):
                return _List(listed)
        return _Fixed(value)

    def _fault(self, place: Place | None, reason: str, position: int | None = None) -> None:
        if len(self.faults) < FAULTS_MAX:
            path = "" if place is None else str(place)
            self.faults.append(ExpressionInvalid(reason, position=position, path=path))

    def _text(self, text: str, place: Place | None) -> _Part:
        parts: list[str | Expression] = []
        end = 0
        for start, stop, inner in _openings(text):
            parts.append(text[end:start])
            end = stop
            if inner is None:
                parts.append(OPENS)
            elif stop > len(text):
                long = len(text) - start - 2 > EXPRESSION_CHARACTERS_MAX
                within = f" within {EXPRESSION_CHARACTERS_MAX:,} characters" if long else ""
                self._fault(place, f"this ${{ is not closed by a }} that belongs to it{within}", start + 1)
            else:
                self._expression(inner, start + 2, place, parts)
        parts.append(text[end:])
        kept = tuple(part for part in parts if part != "")
        if any(isinstance(part, Expression) for part in kept):
            return _Text("" if place is None else str(place), kept)
        return _Fixed(text if end == 0 else "".join(map(str, kept)))

    def _expression(self, text: str, before: int, place: Place | None, parts: list[str | Expression]) -> None:
        self._characters_left -= len(text)
        if self._characters_left < 0:
            if self._characters_left + len(text) >= 0:
                self._fault(place, f"the expressions of one value have at most {TEMPLATE_CHARACTERS_MAX:,} characters")
            return
        try:
            expression = compile_expression(text)
        except ExpressionInvalid as error:
            self._fault(place, error.reason, None if error.position is None else before + error.position)
        else:
            parts.append(expression)
            self.expressions.append(expression)


def _keeps(part: _Part, value: Any) -> bool:
    return isinstance(part, _Fixed) and part.value is value


def _openings(text: str) -> Iterator[tuple[int, int, str | None]]:
    """Find every `${…}`: where it starts and stops, and what stands within; nothing within for a `$${`.

    One that is not closed stops beyond the text, and is the last.
    """
    place = 0
    while opening := _OPENING.search(text, place):
        start, place = opening.span()
        if opening[0] == "$${":
            yield start, place, None
            continue
        closing = _closing(text, place)
        if closing is None:
            yield start, len(text) + 1, ""
            return
        yield start, closing + 1, text[place:closing]
        place = closing + 1


def _closing(text: str, start: int) -> int | None:
    """Where the brace is that closes an expression: not within a string, a comment or an object."""
    depth = 0
    for found in _SKIPPED.finditer(text, start, start + EXPRESSION_CHARACTERS_MAX + 1):
        if found[0] == "{":
            depth += 1
        elif found[0] == "}":
            if not depth:
                return found.start()
            depth -= 1
    return None
