"""Conversion between values and bytes or wire documents: one cattrs converter for the disk, a strict one for the wire.

The converter for the disk trusts rows, which the store's checksum has already verified. The one for the wire trusts
nothing: `5` is not a string, `"7"` is not a number, `true` is neither, and all faults of a document, up to a limit, are
reported at once under the names that the sender used. JSON is the standard library's, because it keeps integers of any
size exact. Rows are written, read and shown by msgspec, which keeps them exact as well in a tenth of the time.
"""

import functools
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import attrs
import msgspec
from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.errors import AttributeValidationNote, IterableValidationNote, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import make_converter

from opscore.runtime.errors import FAULTS_MAX, Fault, InvalidDocument
from opscore.runtime.limits import NESTING_MAX

T = TypeVar("T")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


NAME_CHARACTERS_SHOWN: Final = 100
"""How many characters of a name a message shows; a name may be as long as the document."""


class _NotJson(ValueError):
    """Text that Python's parser accepts although it is not valid JSON here."""


class WrongType(ValueError):
    """A wire value has a different type than its field."""


def encode_json(value: Any) -> bytes:
    """Write compact JSON. NaN and infinities are refused, because JSON has neither.

    Raises:
        ValueError: the value is not JSON.
        TypeError: the value contains an object of a type that JSON does not have.
    """
    return _ENCODER.encode(value).encode()


def decode_json(body: bytes | str, *, names_once: bool = False) -> Any:
    """Read JSON, strictly.

    Args:
        body: the text, or its bytes in UTF-8.
        names_once: refuse an object that gives a name twice, whose first value would be lost.

    Raises:
        ValueError: it is not JSON in UTF-8, contains NaN, Infinity, half of a surrogate pair or a number that is too
            large, or nests too deeply.
    """
    # By itself the parser would also accept UTF-16, and bytes that encode half of a surrogate pair.
    text = body if isinstance(body, str) else body.decode("utf-8-sig")
    try:
        value = _parsed(text, _object_of if names_once else None)
        if isinstance(body, str) or "\\ud" in text.lower():
            # An escape can produce half of a surrogate pair, which UTF-8 can't represent.
            encode_json(value)
    except RecursionError as error:
        raise ValueError("the document nests too deeply") from error
    if text.count("[") + text.count("{") > NESTING_MAX:
        _check_depth(value)
    return value


def _parsed(text: str, object_of: Callable[[list[tuple[str, Any]]], Any] | None) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=object_of)
    except (json.JSONDecodeError, _NotJson):
        raise
    except ValueError as error:
        # The only other cause: Python limits the digits of an integer, with a message of its own.
        raise ValueError(too_large()) from error


def too_large() -> str:
    """Return the message about a whole number with more digits than Python reads or writes."""
    return f"a number of more than {sys.get_int_max_str_digits():,} digits is too large"


def _check_depth(value: Any) -> None:
    """Refuse a value that could not be written again: Python's JSON writer recurses, perhaps from a deeper stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > NESTING_MAX + 1:
            raise ValueError(f"the document nests more than {NESTING_MAX} levels deep")
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = max(counts, key=counts.__getitem__)
        raise _NotJson(f"the name {twice[:NAME_CHARACTERS_SHOWN]!r} is given twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _NotJson(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _NotJson(f"{text} is too large for a number")
    return number


@functools.cache
def disk_converter() -> Converter:
    """Return the converter from stored documents to rows. Fields of plain JSON pass through it unchanged."""
    return make_converter()


_ROW_ENCODER: Final = msgspec.json.Encoder()
FREE: Final = (Any, dict[str, Any], dict[str, Any] | None, list[Any] | None)
"""The types of fields that hold any JSON."""
_PLAIN: Final = frozenset({type(None), bool, int, str})


def encode_shown(document: Any) -> bytes:
    """Write a document that is made of rows as compact JSON, in a fifth of the time of `encode_json` or less.

    Rows were checked to be JSON when they were stored. Other values are not checked here: NaN would become null.

    Raises:
        TypeError: the document contains an object of a type that JSON does not have.
    """
    return _ROW_ENCODER.encode(document)


def encode_row(row: Any) -> bytes:
    """Turn a row into the bytes that are stored.

    Raises:
        ValueError, TypeError: a field that holds any JSON has a value that is not JSON.
    """
    kind: Any = type(row)
    for name in _free_fields(kind):
        _check_free(getattr(row, name))
    return _ROW_ENCODER.encode(row)


@functools.cache
def _free_fields(kind: Any) -> tuple[str, ...]:
    """Return the fields that hold any JSON. They are checked, because msgspec would also write what is not JSON."""
    return tuple(field.name for field in attrs.fields(kind) if field.type in FREE)


def _check_free(value: Any) -> None:
    if type(value) in _PLAIN or (type(value) is dict and _PLAIN.issuperset(map(type, value.values()))):
        return
    encode_json(value)


def decode_row(body: bytes, kind: type[T]) -> T:
    """Turn stored bytes into a row.

    Raises:
        ExceptionGroup, LookupError, TypeError, ValueError: they are not such a row.
    """
    wanted: Any = kind
    try:
        row: T = _row_decoder(wanted).decode(body)
    except msgspec.MsgspecError:
        # msgspec is stricter than cattrs, which still reads what another release, or an unchecked host, wrote.
        return structure_row(json.loads(body), kind)
    return row


@functools.cache
def _row_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def structure_row(document: Any, kind: type[T]) -> T:
    """Turn a stored document into a row."""
    return disk_converter().structure(document, kind)


def camel_case(name: str) -> str:
    """Turn `task_id` into `taskId`."""
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


@functools.cache
def wire_converter() -> Converter:
    """Return the strict converter between wire documents, in camelCase, and values, in snake_case."""
    converter = make_converter(detailed_validation=True)
    for kind, name in (
        (str, "a string"),
        (bool, "true or false"),
        (int, "a whole number"),
    ):
        converter.register_structure_hook(kind, _exactly(kind, name))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(_is_object, _object)
    converter.register_structure_hook_factory(attrs.has, functools.partial(_wire_structure, converter))
    converter.register_unstructure_hook_factory(attrs.has, functools.partial(_wire_unstructure, converter))
    converter.register_structure_hook_factory(_is_list, functools.partial(_list_hook, converter))
    return converter


def _exactly(kind: type, name: str) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise WrongType(f"expected {name}, found {type_name(value)}")
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongType(f"expected a number, found {type_name(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise WrongType("this number is too large") from None
    if not math.isfinite(number):
        raise WrongType(f"{number} is not JSON")
    return number


def _object(value: Any, _: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongType(f"expected an object, found {type_name(value)}")
    return value


def _is_object(kind: Any) -> bool:
    return kind is dict or getattr(kind, "__origin__", None) is dict


def _is_list(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) in (tuple, list)


def _list_hook(converter: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    item_kind = kind.__args__[0]
    structure_item: Callable[[Any, Any], Any] = converter.get_structure_hook(item_kind)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise WrongType(f"expected a list, found {type_name(value)}")
        items, errors, fault_count = [], [], 0
        for index, item in enumerate(value):
            try:
                items.append(structure_item(item, item_kind))
            except Exception as error:  # noqa: BLE001 (cattrs raises KeyError and more; all are reported)
                error.add_note(IterableValidationNote(f"item {index}", index, item_kind))
                errors.append(error)
                fault_count += _fault_count(error)
                if fault_count > FAULTS_MAX:
                    # One fault more than is listed shows that there are more; a long list could have half a million.
                    break
        if errors:
            raise IterableValidationError(f"structuring {kind}", errors, kind)
        return kind.__origin__(items)

    return structure


def _fault_count(error: BaseException) -> int:
    if isinstance(error, BaseExceptionGroup):
        return sum(_fault_count(inner) for inner in error.exceptions)
    return 1


def _wire_structure(converter: Converter, kind: type) -> Callable[[Any, Any], Any]:
    renames = {field.name: override(rename=_wire_name(field)) for field in attrs.fields(kind)}
    inner: Any = make_dict_structure_fn(kind, converter, **renames)  # type: ignore[arg-type]

    def structure(value: Any, target: Any) -> Any:
        return inner(_object(value, target), target)

    return structure


def _wire_unstructure(converter: Converter, kind: type) -> Callable[[Any], Any]:
    renames = {field.name: override(rename=_wire_name(field)) for field in attrs.fields(kind)}
    return make_dict_unstructure_fn(kind, converter, **renames)  # type: ignore[arg-type]


def _wire_name(field: "attrs.Attribute[Any]") -> str:
    return str(field.metadata.get("wire", camel_case(field.name)))


def type_name(value: Any) -> str:
    """Return the type of a JSON value in words, such as "a list"."""
    names = (
        (bool, "true or false"),
        (str, "a string"),
        (int | float, "a number"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null" if value is None else "another type")


def structure_wire(document: Any, kind: type[T], what: str) -> T:
    """Turn a decoded wire document into a value.

    Raises:
        InvalidDocument: the document has faults; the error lists them, each with its path in the document.
    """
    try:
        return wire_converter().structure(document, kind)
    except (ClassValidationError, IterableValidationError, WrongType) as error:
        faults = tuple(_faults(error, "", kind))
        _let_go_within(error)
        raise InvalidDocument(what, faults) from error


def _let_go_within(error: BaseException) -> None:
    """Have what is in a group refer to no frame any more: each has it at hand, and with it the document.

    They would be garbage together some day, and not be freed at once: thousands of documents that were refused later.
    """
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        inner.__traceback__ = None
        _let_go_within(inner)


def _faults(error: BaseException, path: str, kind: Any) -> list[Fault]:
    if isinstance(error, ClassValidationError):
        return [
            fault
            for inner in error.exceptions
            for fault in _faults(inner, _field_path(inner, path, error.cl), error.cl)
        ]
    if isinstance(error, IterableValidationError):
        return [fault for inner in error.exceptions for fault in _faults(inner, _item_path(inner, path), kind)]
    if isinstance(error, KeyError):
        return [Fault(path=_join(path, str(error.args[0])), message="this field is required")]
    message = str(error) if not isinstance(error, StructureHandlerNotFoundError) else "this value is not understood"
    return [Fault(path=path, message=message)]


def _field_path(error: BaseException, path: str, kind: type) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            field = getattr(attrs.fields(kind), note.name)
            # The KeyError of a missing field has the field's name itself.
            return path if isinstance(error, KeyError) else _join(path, _wire_name(field))
    return path


def _item_path(error: BaseException, path: str) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            return f"{path}[{note.index}]"
    return path


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
