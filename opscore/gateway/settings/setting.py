"""How a setting is declared: a field with a default, a help text, the values allowed, and words for these.

typed-settings converts the values and attrs validates them. This module adds what neither knows: how a host, a network
or a size with a unit is written.
"""

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import cattrs
import typed_settings
from attrs import validators
from typed_settings.converters import PathConverter, get_default_cattrs_converter

EXPECTED: Final = "opscore.expected"
"""The key of a field's metadata under which the values allowed are described, completing "expected …"."""

SHOWN: Final = "opscore.shown"
"""The key of a field's metadata under which the default stands as a person writes it."""

_SIZE: Final = re.compile(r"\s*(\d+)\s*([kmgt]i)?b?\s*", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOST: Final = r"(?i:([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?)"
# Digits and dots that are no network are a typing error (10.1.2.3/16, 10.1.2), never a host name.
_HOSTS: Final = rf"(?![\d.]+\Z)(\*\.)?{_HOST}"

_P = TypeVar("_P", bound=Path)


def option(
    default: object,
    text: str,
    *,
    expected: str,
    metavar: str | None = None,
    shown: str | None = None,
    declare: Callable[..., Any] = typed_settings.option,
    **checks: Callable[..., Any],
) -> Any:
    """A setting.

    Args:
        default: The value if no source has one.
        text: The help.
        expected: The values allowed, completing the sentence "expected …".
        metavar: The placeholder for the value in `--help`; a switch has none.
        shown: The default as a person writes it, if Python writes it differently.
        declare: typed-settings' `option` or `secret`.
        checks: attrs' `validator` and `converter`.
    """
    metadata = {EXPECTED: expected, SHOWN: shown or str(default or "none")}
    return declare(default=default, help=text, click={"metavar": metavar}, metadata=metadata, **checks)


def secret(text: str) -> Any:
    """A secret that is sent in an HTTP header; None by default."""
    visible = validators.optional(validators.matches_re(r"[!-~]+"))
    expected = "printable ASCII characters without spaces"
    return option(None, text, expected=expected, declare=typed_settings.secret, validator=visible)


def whole_number(default: int, low: int, high: int, text: str) -> Any:
    """A whole number from `low` to `high`."""
    expected = f"a whole number from {low} to {high}"
    return option(default, text, metavar="N", expected=expected, validator=_within(low, high))


def seconds(default: float, low: float, high: float, text: str) -> Any:
    """A duration in seconds from `low` to `high`."""
    expected, shown = f"a number of seconds from {low} to {high}", f"{default:.10g}"
    return option(default, text, metavar="SECONDS", expected=expected, shown=shown, validator=_within(low, high))


def byte_size(default: int, low: int, high: int, text: str) -> Any:
    """A size in bytes from `low` to `high`, with or without a unit: `65536`, `64KiB`, `8 GiB`."""
    expected = f"a size from {in_units(low)} to {in_units(high)}, in bytes or as in 64KiB"
    checks = {"converter": size_bytes, "validator": _within(low, high)}
    return option(default, text, metavar="BYTES", expected=expected, shown=in_units(default), **checks)


def choice(default: StrEnum, text: str) -> Any:
    """One name of the default's enumeration."""
    *others, last = type(default)
    expected = f"{', '.join(others)} or {last}"
    return option(default, text, metavar="|".join(type(default)), expected=expected)


def check_host(_settings: object, _field: object, value: str) -> None:
    """Accept an IP address or a host name."""
    if not re.fullmatch(_HOST, value):
        ipaddress.ip_address(value)


def check_targets(_settings: object, _field: object, values: tuple[str, ...]) -> None:
    """Accept hosts, `*.domains`, IP addresses and networks."""
    for value in values:
        if not re.fullmatch(_HOSTS, value):
            ipaddress.ip_network(value)


def check_url(_settings: object, _field: object, value: str) -> None:
    """Accept the base URL of an HTTP service, or nothing."""
    parts = urlsplit(value)
    # Reading `parts.port` raises ValueError if it is not a port.
    well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if value and (not well_formed or parts.query or parts.fragment):
        raise ValueError(value)


def size_bytes(value: object) -> int:
    """Read a size, with or without a unit."""
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise ValueError(value)
    return int(match[1]) << 10 * ("", "ki", "mi", "gi", "ti").index((match[2] or "").lower())


def in_units(size: int) -> str:
    """A size as a person writes it, in the largest unit that divides it: 65536 is `64KiB`."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def about(size: float) -> str:
    """A size as a person reads it, rounded."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,.0f} bytes"


def make_converter() -> cattrs.Converter:
    """Make typed-settings' converter, with support for `~` and lists between commas, and with strict numbers.

    It refuses `true`, and a fraction for a whole number.
    """
    converter = get_default_cattrs_converter()
    typed_settings.register_strlist_hook(converter, fn=_between_commas)
    converter.register_structure_hook(Path, _HomePath())
    converter.register_structure_hook(int, _number)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(str, _text)
    return converter


class _HomePath(PathConverter):
    def __call__(self, value: Path | str, cls: type[_P]) -> _P:
        if not str(value).strip():
            # An empty path is a forgotten variable, and does not mean the base directory.
            raise ValueError(value)
        if _CONTROL.search(str(value)):
            # "/data\r" comes from a file that was written on Windows: it would make a new store beside /data.
            raise ValueError(value)
        if str(value) != str(value).strip():
            # " /data" would make a new store as well, in the base directory.
            raise ValueError(value)
        return super().__call__(cls(value).expanduser(), cls)


def _between_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(value: object, kind: type[Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | kind):
        raise TypeError(value)
    return kind(value)


def _text(value: object, kind: type[str]) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return kind(value.strip())


def _within(low: float, high: float) -> Any:
    return validators.and_(validators.ge(low), validators.le(high))
