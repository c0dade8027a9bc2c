"""Finds the values of a document in its text: from paths such as `tasks[2].nextTaskId` to spans of characters."""

import bisect
import re
from collections.abc import Iterator
from typing import Final

import attrs

PATH_CHARACTERS_MAX: Final = 500
"""A longer path ends with an ellipsis, here as in faults."""
_LINE_BREAK: Final = re.compile(r"\r\n|\n|\r")


class SyntaxFault(ValueError):
    """A text is not a document of its language; `span` is the place of the fault."""

    def __init__(self, message: str, span: "Span", began: "Span | None" = None) -> None:
        self.message = message
        self.span = span
        self.began = began
        """Where the faulty construct began, if that is known and another place."""
        super().__init__(message)


@attrs.frozen(order=True)
class Span:
    """Characters of a text, from an offset up to another, which is exclusive."""

    start: int
    end: int


@attrs.frozen(kw_only=True)
class Part:
    """A value of a document, as it is written."""

    span: Span
    """The whole of a string, number or word; the opening of an object or list."""
    fields: "tuple[Field, ...] | None" = None
    """The fields of an object, in the order of the text; a repeated name is here as often as in the text."""
    items: "tuple[Part, ...] | None" = None
    """The items of a list."""


@attrs.frozen(kw_only=True)
class Field:
    """A field of an object, as it is written."""

    name: str
    span: Span
    """The place of the name."""
    part: Part


@attrs.frozen(kw_only=True)
class Repeated:
    """A name that occurs more than once in one object."""

    path: str
    """The object's path."""
    name: str
    span: Span
    first: Span


@attrs.frozen(kw_only=True)
class _Place:
    part: Part
    name: Span | None
    """The place of the name of the field that has the part as its value."""

    def shown(self) -> Span:
        """What to point at: the value; or its name, if the value is an object or list, or is not written at all."""
        is_plain = self.part.fields is None and self.part.items is None
        written = self.part.span.end > self.part.span.start
        return self.part.span if self.name is None or (is_plain and written) else self.name


class Positions:
    """Finds the span of each value of a document by its path.

    A path is text, so a name with a dot or a bracket in it may look like another path; the first such value in the text
    is found then.
    """

    def __init__(self, document: Part) -> None:
        self._places: dict[str, _Place] = {}
        self.repeated: list[Repeated] = []
        """In the order of the text."""
        waiting = [("", _Place(part=document, name=None))]
        while waiting:
            path, place = waiting.pop()
            self._places.setdefault(path, place)
            waiting.extend(reversed([*self._fields(path, place.part), *_items(path, place.part)]))

    def span(self, path: str, field: str | None = None) -> Span:
        """Find the place of a fault.

        Args:
            path: as in `Fault.path`; if there is no value at the path, the innermost value that contains it is found.
            field: the name of a field of the object at the path, if the fault concerns that.
        """
        while path and path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        place = self._places[path]
        named = (each.span for each in reversed(place.part.fields or ()) if each.name == field)
        return next(named, place.shown())

    def _fields(self, path: str, part: Part) -> Iterator[tuple[str, _Place]]:
        """The fields of an object; for a repeated name the last, whose value is the one in the document."""
        found: dict[str, Field] = {}
        first: dict[str, Span] = {}
        for field in part.fields or ():
            if field.name in first:
                self.repeated.append(Repeated(path=path, name=field.name, span=field.span, first=first[field.name]))
            first.setdefault(field.name, field.span)
            found[field.name] = field
        for field in found.values():
            inner = f"{path}.{field.name}" if path else field.name
            yield _shortened(inner), _Place(part=field.part, name=field.span)


def _items(path: str, part: Part) -> Iterator[tuple[str, _Place]]:
    for index, item in enumerate(part.items or ()):
        yield _shortened(f"{path}[{index}]"), _Place(part=item, name=None)


def _shortened(path: str) -> str:
    return path if len(path) <= PATH_CHARACTERS_MAX else path[: PATH_CHARACTERS_MAX - 1] + "…"


class Lines:
    """The lines of a text as editors count them: lines and columns from 1, columns in characters."""

    def __init__(self, text: str) -> None:
        self._text = text
        breaks = list(_LINE_BREAK.finditer(text))
        self._starts = [0, *(each.end() for each in breaks)]
        self._ends = [*(each.start() for each in breaks), len(text)]

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column of a character."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def around(self, offset: int) -> Span:
        """The line of a character, without its line break."""
        line = bisect.bisect_right(self._starts, offset) - 1
        return Span(self._starts[line], max(self._ends[line], offset))
