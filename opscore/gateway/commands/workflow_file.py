"""Reads a file with a workflow document, and finds every fault with its place in the text."""

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from opscore.gateway.parsing import json_positions, plain_yaml, yaml_positions
from opscore.gateway.parsing.document_positions import Part, Positions, Span, SyntaxFault
from opscore.runtime.definitions.definition import Definition, parse
from opscore.runtime.errors import FAULTS_MAX, InvalidDocument
from opscore.runtime.limits import Limits

FILE_BYTES_MAX: Final = 2**24
"""The largest file that is read: naming a video by mistake must not fill the memory. Few servers take larger bodies."""
STANDARD_INPUT: Final = Path("-")


class Unreadable(ValueError):
    """A file can't be read; the message says which, and why."""


@attrs.frozen(kw_only=True)
class Note:
    """Another place that concerns a fault."""

    span: Span
    message: str


@attrs.frozen(kw_only=True)
class PlacedFault:
    """A fault of a document, with its place in the text."""

    path: str
    span: Span
    message: str
    note: Note | None = None


@attrs.frozen(kw_only=True)
class WorkflowFile:
    """The content of a file: a workflow, or faults."""

    name: str
    text: str
    definition: Definition | None
    faults: tuple[PlacedFault, ...]
    """In the order of the text."""
    remark: str | None = None
    """Something that is good to know about the file and is not a fault."""


def read(path: Path, limits: Limits) -> WorkflowFile:
    """Read a file, or standard input for `-`, and find everything that is wrong with it.

    Raises:
        Unreadable: the file can't be read, or is too large.
    """
    name = "<stdin>" if path == STANDARD_INPUT else str(path)
    try:
        body = _body(path)
    except OSError as error:
        raise Unreadable(f"{name} cannot be read: {error.strerror or error}") from error
    if len(body) > FILE_BYTES_MAX:
        raise Unreadable(f"{name} is larger than {FILE_BYTES_MAX:,} bytes")
    return examined(name, body, path.suffix.lower(), limits)


def _body(path: Path) -> bytes:
    if path == STANDARD_INPUT:
        stream: BinaryIO = sys.stdin.buffer
        return stream.read(FILE_BYTES_MAX + 1)
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)


def examined(name: str, body: bytes, suffix: str, limits: Limits) -> WorkflowFile:
    """Find everything that is wrong with the bytes of a document.

    Args:
        name: the file's name, for messages.
        body: its bytes.
        suffix: `.json`, `.yaml` or `.yml` decide the language; with any other it is JSON if it is valid JSON.
        limits: the limits that the document is checked against.
    """
    try:
        text = _decoded(body)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(error.encoding, errors="replace")
        text = error.object.decode(error.encoding, errors="replace")
        fault = PlacedFault(path="", span=Span(len(before), len(before) + 1), message=f"this is not {_called(error)}")
        return WorkflowFile(name=name, text=text, definition=None, faults=(fault,))
    try:
        value, part, is_yaml = _parsed(text, suffix)
    except SyntaxFault as error:
        note = None if error.began is None else Note(span=error.began, message="it began here")
        fault = PlacedFault(path="", span=error.span, message=error.message, note=note)
        return WorkflowFile(name=name, text=text, definition=None, faults=(fault,))
    definition, faults = _validated(value, Positions(part), limits)
    remark = None
    if is_yaml and len(body) > plain_yaml.BYTES_MAX:
        remark = f"servers take at most {plain_yaml.BYTES_MAX:,} bytes of YAML, this is {len(body):,}: send it as JSON"
    return WorkflowFile(name=name, text=text, definition=definition, faults=faults, remark=remark)


def _decoded(body: bytes) -> str:
    """Decode UTF-8, or UTF-16 if it begins with that byte order mark, as YAML may."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if body.startswith(mark):
            return body.removeprefix(mark).decode(encoding)
    return body.removeprefix(codecs.BOM_UTF8).decode()


def _called(error: UnicodeDecodeError) -> str:
    return f"{error.encoding.upper()}: {error.reason} 0x{error.object[error.start]:02x}"


def _parsed(text: str, suffix: str) -> tuple[Any, Part, bool]:
    """Parse a text: its value, the places in the text, and whether it is YAML."""
    if suffix in plain_yaml.SUFFIXES:
        return *yaml_positions.read(text), True
    if suffix == ".json":
        return *json_positions.read(text), False
    try:
        return *json_positions.read(text), False
    except SyntaxFault as no_json:
        try:
            return *yaml_positions.read(text), True
        except SyntaxFault:
            if text.lstrip()[:1] in ("{", "["):
                raise no_json from None
            raise


def _validated(value: Any, positions: Positions, limits: Limits) -> tuple[Definition | None, tuple[PlacedFault, ...]]:
    """Validate a document, and find names that occur twice in one object, of which the value has only the last."""
    found = list(_repeated(positions))
    definition = None
    try:
        definition = parse(value, limits)
    except InvalidDocument as error:
        found += [
            PlacedFault(path=each.path, span=positions.span(each.path, each.field), message=each.message)
            for each in error.faults
        ]
    faults = sorted(found, key=lambda each: (each.span, each.message))[:FAULTS_MAX]
    return (None if faults else definition), tuple(faults)


def _repeated(positions: Positions) -> Iterator[PlacedFault]:
    for each in positions.repeated:
        yield PlacedFault(
            path=f"{each.path}.{each.name}" if each.path else each.name,
            span=each.span,
            message=f"{each.name!r} is given again in one object",
            note=Note(span=each.first, message=f"{each.name!r} is given here first"),
        )
