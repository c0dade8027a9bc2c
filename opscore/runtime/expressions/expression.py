"""Expressions and templates of workflow definitions: CEL over JSON, checked when compiled and bounded when evaluated.

Google's CEL parser reads the text, and the tree is evaluated here, directly on the scope: nothing of it is converted or
copied. Every step is counted, and neither time nor randomness is read, so the same expression over the same scope has
the same value, or the same failure, everywhere. ADR 14 gives the reasons.
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
"""Compiled expressions that are cached: checking a definition compiles each of its expressions three times."""
OPENS: Final = "${"
"""What begins an expression in a text; a text without it is no template."""
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
"""A brace, or something that may contain one and is skipped: CEL's strings, also raw and multi-line, and comments.

A name in backticks contains no brace, but may contain what would otherwise begin a comment.
"""


@attrs.frozen(kw_only=True)
class Expression:
    """A checked expression; `compile_expression` creates it."""

    text: str
    names: frozenset[str]
    """Which of `input`, `tasks`, `item`, `index`, `session` and `error` it reads."""
    task_keys: frozenset[str]
    """Ids of the tasks that it reads, as `tasks.scan` or `tasks["scan"]`."""
    missing: tuple[str, ...]
    """A sentence for each field that it reads and that never exists, such as `task 'scan' has no field 'rezult'`."""
    _steps: Step = attrs.field(repr=False, eq=False)
    _cost: int = attrs.field(repr=False, eq=False)

    def evaluate(self, scope: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Evaluate the expression.

        Args:
            scope: JSON values by name, each within the limits of a payload; under `tasks` any mapping from task ids to
                objects. A missing name is a failure only when it is read.
            budget: One that several evaluations share; by default the evaluation has its own.

        Returns:
            A JSON value of at most `RESULT_BYTES_MAX`. It may share parts with the scope: change neither.

        Raises:
            ExpressionFailed: there is no value, for example because a field is missing.
            ExpressionExhausted: the evaluation or its value exceeds a bound.
        """
        budget = budget or Budget()
        budget.spend(self._cost)
        return plain(self._steps(Frame(scope, budget)), budget)

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Evaluate a condition.

        Raises:
            ExpressionFailed: as for `evaluate`, or the value is not a boolean.
        """
        return boolean(self.evaluate(scope), "a condition")


@functools.lru_cache(maxsize=_KEPT_MAX)
def compile_expression(text: str) -> Expression:
    """Parse and check an expression; recently used ones are cached.

    Raises:
        ExpressionInvalid: it is not valid CEL, uses a name that does not exist, or exceeds a bound.
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
    """A JSON value whose strings may hold `${…}`; `compile_template` creates it."""

    names: frozenset[str]
    """As for `Expression`, of all its expressions together."""
    task_keys: frozenset[str]
    constant: bool
    """Whether it has no expressions, so that its value is always the same."""
    whole: bool
    """Whether it is a text that consists of one expression, and so has the value of that expression."""
    _part: "_Part" = attrs.field(repr=False, eq=False)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Replace every expression by its value; the expressions share one budget.

        Args:
            scope: As for `Expression.evaluate`.

        Returns:
            A JSON value. It may share parts with the scope and the template: change none of them.

        Raises:
            ExpressionFailed, ExpressionExhausted: as for `Expression.evaluate`; the message begins with the path.
        """
        return self._part.fill(scope, Budget())


def compile_template(value: Any) -> Template:
    """Parse and check every expression in a JSON value.

    Raises:
        ExpressionInvalid: for the first fault, with its `path` in the value.
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
    """Yield path and message of every fault that `compile_template` would refuse, at most `FAULTS_MAX`."""
    reader = _TemplateReader()
    reader.read(value, None, 0)
    return ((fault.path, fault.message) for fault in reader.faults)


def expressions_in(value: Any) -> Sequence[Expression]:
    """Return the valid expressions of a template; `template_faults` reports the others."""
    reader = _TemplateReader()
    reader.read(value, None, 0)
    return reader.expressions


@attrs.frozen
class _Fixed:
    """A value without expressions."""

    value: Any

    def fill(self, _scope: Mapping[str, Any], _budget: Budget) -> Any:
        return self.value


@attrs.frozen
class _Text:
    """A string with expressions; if it is a single expression, the value keeps its type."""

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
    """Walks a value, and collects its expressions and faults."""

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
                self._fault(place, f"this ${{ has no closing }}{within}", start + 1)
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
    """Yield start, end and inner text of every `${…}`; for a `$${` the inner text is None.

    An expression that is not closed is the last, and its end is beyond that of the text.
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
    """Return the position of the brace that closes an expression, ignoring strings, comments and objects, or None."""
    depth = 0
    for found in _SKIPPED.finditer(text, start, start + EXPRESSION_CHARACTERS_MAX + 1):
        if found[0] == "{":
            depth += 1
        elif found[0] == "}":
            if not depth:
                return found.start()
            depth -= 1
    return None
