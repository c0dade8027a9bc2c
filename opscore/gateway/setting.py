"""The kinds of setting: what each allows, and how `--help` and a refusal speak of it.

typed-settings converts the values and attrs validates them. What stands here is what neither can know: what a host,
a network or a size with a unit looks like, and the words for people.
"""

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs
import cattrs
import typed_settings
from attrs import validators
from typed_settings.converters import PathConverter, get_default_cattrs_converter

KIND: Final = "opscore.kind"
"""Where the metadata of a setting's field holds its `Kind`."""

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE: Final = re.compile(r"\s*(\d+)\s*(B|KiB|MiB|GiB|TiB|)\s*", re.IGNORECASE)
_NAME: Final = r"(?i:([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?)"

_P = TypeVar("_P", bound=Path)


@attrs.frozen(kw_only=True)
class Kind:
    """One kind of setting."""

    expected: str
    """What is allowed, completing the sentence "expected …"."""

    metavar: str | None = None
    """The placeholder in `--help`; a switch has none."""

    validator: Callable[[Any, Any, Any], Any] | None = None
    """Raises when a value of the right type is not allowed."""

    converter: Callable[[Any], Any] | None = None
    """Reads what the setting's type alone does not say how to read."""

    show: Callable[[Any], str] = str
    """Writes a value as a person would."""

    secret: bool = False
    """Whether the value must never be shown."""


def option(default: object, kind: Kind, text: str) -> Any:
    """A field of the settings: its default, its kind and its help."""
    declare: Callable[..., Any] = typed_settings.secret if kind.secret else typed_settings.option
    return declare(
        default=default,
        validator=kind.validator,
        converter=kind.converter,
        metadata={KIND: kind},
        help=text,
        click={"metavar": kind.metavar},
    )


def make_converter() -> cattrs.Converter:
    """typed-settings' converter, which also takes `~` and commas, and never a truth value or a fraction for a number."""
    converter = get_default_cattrs_converter()
    typed_settings.register_strlist_hook(converter, fn=_between_commas)
    converter.register_structure_hook(Path, _HomePath())
    converter.register_structure_hook(int, _number)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(str, _text)
    return converter


def whole_number(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""
    return Kind(expected=f"a whole number from {low} to {high}", metavar="N", validator=_within(low, high))


def seconds(low: float, high: float) -> Kind:
    """A duration in seconds from `low` to `high`."""
    return Kind(
        expected=f"a number of seconds from {low} to {high}",
        metavar="SECONDS",
        validator=_within(low, high),
        show="{:g}".format,
    )


def byte_size(low: int, high: int) -> Kind:
    """A size in bytes from `low` to `high`, with or without a unit: `65536`, `64KiB`, `8 GiB`."""
    return Kind(
        expected=f"a size from {in_units(low)} to {in_units(high)}, in bytes or as in 64KiB",
        metavar="BYTES",
        validator=_within(low, high),
        converter=size_bytes,
        show=in_units,
    )


def choice(names: type[StrEnum]) -> Kind:
    """One of the names of an enumeration."""
    *others, last = list(names)
    return Kind(expected=f"{', '.join(others)} or {last}", metavar="|".join(names))


def size_bytes(value: object) -> int:
    """Read a size, with or without a unit."""
    if not isinstance(value, str):
        return _number(value, int)
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(value)
    power = [unit.lower() for unit in _UNITS].index(match[2].lower() or "b")
    return int(match[1]) * 1024**power


def in_units(size: int) -> str:
    """A size as a person writes it, in the largest unit that divides it: 65536 is `64KiB`."""
    for power in range(len(_UNITS) - 1, 0, -1):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{_UNITS[power]}"
    return str(size)


class _HomePath(PathConverter):
    """Paths as typed-settings reads them, from where their source is; `~` is the home directory."""

    def __call__(self, value: Path | str, cls: type[_P]) -> _P:
        if not str(value).strip():
            raise ValueError(value)
        return super().__call__(cls(value).expanduser(), cls)


def _between_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(value: Any, kind: type[Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | kind):
        raise TypeError(value)
    return kind(value)


def _text(value: object, kind: type[str]) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return kind(value.strip())


def _within(low: float, high: float) -> Any:
    return validators.and_(validators.ge(low), validators.le(high))


def _is_address(_settings: object, _field: object, value: str) -> None:
    ipaddress.ip_address(value)


def _is_network(_settings: object, _field: object, value: str) -> None:
    ipaddress.ip_network(value)


def _is_base_url(_settings: object, _field: object, value: str) -> None:
    parts = urlsplit(value)
    # Asking for the port is what raises when it is none.
    well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if value and (not well_formed or parts.query or parts.fragment):
        raise ValueError(value)


SWITCH: Final = Kind(expected="true or false", show=lambda on: "on" if on else "off")
PATH: Final = Kind(expected="a path", metavar="PATH")
HOST: Final = Kind(
    expected="an IP address or a host name",
    metavar="HOST",
    validator=validators.or_(_is_address, validators.matches_re(_NAME)),
)
URL: Final = Kind(expected="a URL that starts with http:// or https://", metavar="URL", validator=_is_base_url)
TARGETS: Final = Kind(
    expected="host names, *.domains, IP addresses or networks, separated by commas (in TOML a list)",
    metavar="HOST,...",
    # Digits and dots that are no network are a slip (10.1.2.3/16, 10.1.2), never the name of a host.
    validator=validators.deep_iterable(
        validators.or_(_is_network, validators.matches_re(rf"(?![\d.]+\Z)(\*\.)?{_NAME}"))
    ),
    show=",".join,
)
SECRET: Final = Kind(
    expected="printable ASCII characters without spaces",
    metavar="SECRET",
    # It has to travel in an HTTP header.
    validator=validators.optional(validators.matches_re(r"[!-~]+")),
    secret=True,
)
