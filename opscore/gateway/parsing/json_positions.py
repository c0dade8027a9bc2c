"""Reads JSON like `decode_json`, with the place of each value in the text."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from opscore.gateway.parsing.document_positions import Field, Part, Span, SyntaxFault
from opscore.runtime.codec import decode_json
from opscore.runtime.limits import NESTING_MAX

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


def read(text: str) -> tuple[Any, Part]:
    """Read a document.

    Raises:
        SyntaxFault: it is not JSON.
    """
    try:
        value = decode_json(text)
    except json.JSONDecodeError as error:
        raise SyntaxFault(f"this is not JSON: {error.msg}", _token_at(text, error.pos)) from error
    except ValueError as error:
        raise _located(text, error) from error
    return value, _part(_Tokens(text))


def _token_at(text: str, offset: int) -> Span:
    match = _TOKEN.match(text, offset)
    return Span(offset, match.end() if match is not None else offset)


def _located(text: str, error: ValueError) -> SyntaxFault:
    """Find the place of a fault that is not one of grammar, for which the reader gives no place."""
    depth = 0
    for match in _TOKEN.finditer(text):
        written, span = match[0], Span(*match.span())
        depth += (written in "[{") - (written in "]}")
        if depth > NESTING_MAX:
            return SyntaxFault(str(error), span)
        if written in "[]{},:":
            continue
        try:
            decode_json(written)
        except ValueError as wrong:
            return SyntaxFault(str(wrong), span)
    return SyntaxFault(str(error), Span(0, 0))


class _Token(NamedTuple):
    text: str
    span: Span


class _Tokens:
    """The tokens of a text that is known to be JSON."""

    def __init__(self, text: str) -> None:
        self._left: Iterator[_Token] = (_Token(each[0], Span(*each.span())) for each in _TOKEN.finditer(text))
        self._ahead: _Token | None = next(self._left)

    def take(self) -> _Token:
        """Take the next token."""
        token = self._ahead
        assert token is not None
        self._ahead = next(self._left, None)
        return token

    def takes(self, text: str) -> bool:
        """Skip the next token if it is this one; returns whether it was."""
        if self._ahead is None or self._ahead.text != text:
            return False
        self._ahead = next(self._left, None)
        return True


def _part(tokens: _Tokens) -> Part:
    """Read a value. Recursion is safe, because the reader has refused a text that nests too deeply."""
    opening = tokens.take()
    if opening.text == "{":
        return Part(span=opening.span, fields=tuple(_fields(tokens)))
    if opening.text == "[":
        return Part(span=opening.span, items=tuple(_items(tokens)))
    return Part(span=opening.span)


def _fields(tokens: _Tokens) -> Iterator[Field]:
    while not tokens.takes("}"):
        tokens.takes(",")
        name = tokens.take()
        tokens.takes(":")
        yield Field(name=json.loads(name.text), span=name.span, part=_part(tokens))


def _items(tokens: _Tokens) -> Iterator[Part]:
    while not tokens.takes("]"):
        tokens.takes(",")
        yield _part(tokens)
