"""Reads YAML like `plain_yaml`, with the place of each value in the text."""

from typing import Any

import yaml

from opscore.gateway.parsing.document_positions import Field, Part, Span, SyntaxFault
from opscore.gateway.parsing.plain_yaml import MERGE, PlainLoader


def read(text: str) -> tuple[Any, Part]:
    """Read a document.

    Raises:
        SyntaxFault: it is not YAML, or has a value that JSON can't express.
    """
    loader = None
    try:
        loader = PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, Part(span=Span(0, 0))
        part = _part(loader, node)
        return loader.construct_document(node), part
    except yaml.reader.ReaderError as error:
        raise SyntaxFault(f"this is not YAML: {error.reason}", _spanning(text, error.position, 1)) from error
    except yaml.MarkedYAMLError as error:
        raise _located(text, error) from error
    except Exception as error:
        why = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise SyntaxFault(f"this is not YAML: {why}", _spanning(text, loader.index if loader else 0)) from error


def _located(text: str, error: yaml.MarkedYAMLError) -> SyntaxFault:
    said = (error.context, error.problem) if "expected" in (error.context or "") else (error.problem, error.context)
    message = f"this is not YAML: {', '.join(each for each in said if each)}"
    mark = error.problem_mark or error.context_mark
    at = _spanning(text, 0 if mark is None else mark.index)
    began = None if error.context_mark is None else _spanning(text, error.context_mark.index)
    return SyntaxFault(message, at, began if began != at else None)


def _spanning(text: str, offset: int, length: int = 0) -> Span:
    start = min(offset, len(text))
    return Span(start, min(start + length, len(text)))


def _part(loader: PlainLoader, node: yaml.Node) -> Part:
    span = _span(node)
    if isinstance(node, yaml.MappingNode):
        first = next((_span(key) for key, _ in node.value), None)
        return Part(span=_opening(span, node, first), fields=tuple(_fields(loader, node)))
    if isinstance(node, yaml.SequenceNode):
        return Part(span=_opening(span, node, None), items=tuple(_part(loader, item) for item in node.value))
    return Part(span=span)


def _fields(loader: PlainLoader, node: yaml.MappingNode) -> list[Field]:
    """The fields of an object, after those that it merges and does not define itself."""
    own = sum(key.tag != MERGE for key, _ in node.value)
    loader.flatten_mapping(node)
    fields = [
        Field(name=str(loader.construct_object(key, deep=True)), span=_span(key), part=_part(loader, value))
        for key, value in node.value
    ]
    merged, said = fields[: len(fields) - own], fields[len(fields) - own :]
    names = {field.name for field in said}
    return [*({field.name: field for field in merged if field.name not in names}.values()), *said]


def _span(node: yaml.Node) -> Span:
    return Span(node.start_mark.index, node.end_mark.index)


def _opening(span: Span, node: yaml.CollectionNode, first: Span | None) -> Span:
    """The opening of a collection: its bracket; for an object in block style its first name, for a list its dash."""
    if first is not None and not node.flow_style:
        return first
    return Span(span.start, min(span.start + 1, span.end))
