"""The kinds of value a setting can have: how text becomes one, what is allowed, and how to say so.

A source that is text by nature (a variable, an option) is read by the kind first; a TOML file brings typed
values, which are only checked. Both ways end in the same check: a setting means the same wherever it is set.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from typed_settings import SecretStr

_BYTES_PER_UNIT = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_BYTES = re.compile(r"\s*(\d+)\s*([a-z]*)\s*", re.IGNORECASE)
_SWITCH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Kind:
    """One kind of value."""

    expected: str
    """What is allowed, completing the sentence "expected …"."""

    metavar: str
    """The placeholder in `--help`."""

    read: Callable[[str], Any]
    """Makes a value of text; raises ValueError when it cannot."""

    check: Callable[[Any], Any]
    """Gives back the value in its final type; raises ValueError or TypeError when it is not allowed."""

    show: Callable[[Any], str] = str
    """Writes a value as a person would."""

    secret: bool = False
    """Whether the value must never be shown."""


def whole_number(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return Kind(expected=f"a whole number from {low} to {high}", metavar="N", read=int, check=check)


def seconds(low: float, high: float) -> Kind:
    """A duration in seconds from `low` to `high`."""

    def check(value: object) -> float:
        if type(value) not in (int, float) or not math.isfinite(number := float(str(value))):
            raise ValueError
        if not low <= number <= high:
            raise ValueError
        return number

    expected = f"a number of seconds from {low:g} to {high:,g}".replace(",", "")
    return Kind(expected=expected, metavar="SECONDS", read=float, check=check)


def byte_size(low: int, high: int) -> Kind:
    """A size in bytes from `low` to `high`, with or without a unit: `65536`, `64KiB`, `8 GiB`."""

    def read(text: str) -> int:
        match = _BYTES.fullmatch(text)
        if match is None or match[2].lower() not in _BYTES_PER_UNIT:
            raise ValueError
        return int(match[1]) * _BYTES_PER_UNIT[match[2].lower()]

    def check(value: object) -> int:
        size = read(value) if isinstance(value, str) else value
        if type(size) is not int or not low <= size <= high:
            raise ValueError
        return size

    expected = f"a size from {in_units(low)} to {in_units(high)}, in bytes or as in 64KiB"
    return Kind(expected=expected, metavar="BYTES", read=read, check=check, show=in_units)


def in_units(size_bytes: int) -> str:
    """A size as a person writes it, in the largest unit that divides it: 65536 is `64KiB`."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def switch() -> Kind:
    """On or off."""

    def read(text: str) -> bool:
        value = _SWITCH.get(text.strip().lower())
        if value is None:
            raise ValueError
        return value

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Kind(expected="true or false", metavar="", read=read, check=check)


def choice(names: type[StrEnum]) -> Kind:
    """One of the names of an enumeration."""
    listed = [name.value for name in names]
    expected = f"{', '.join(listed[:-1])} or {listed[-1]}"
    return Kind(expected=expected, metavar="|".join(listed), read=str.strip, check=names)


def path() -> Kind:
    """A path; `~` is the home directory. Whoever loads it decides what a relative one starts from."""

    def check(value: object) -> Path:
        if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
            raise ValueError
        return Path(value).expanduser()

    return Kind(expected="a path", metavar="PATH", read=str, check=check)


def host() -> Kind:
    """An address to listen on: an IP address or a host name."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not (_is_address(value) or _HOST.fullmatch(value)):
            raise ValueError
        if value.startswith("*"):
            raise ValueError
        return value

    return Kind(expected="an IP address or a host name", metavar="HOST", read=str.strip, check=check)


def url() -> Kind:
    """The base URL of an HTTP service, or nothing; a final slash is dropped."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise TypeError
        parts = urlsplit(value)
        # Asking for the port is what raises when it is none.
        well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if value and (not well_formed or parts.query or parts.fragment):
            raise ValueError
        return value.rstrip("/")

    return Kind(
        expected="a URL that starts with http:// or https://", metavar="URL", read=str.strip, check=check
    )


def targets() -> Kind:
    """Hosts and networks: `agents.example.com`, `*.example.com`, `10.1.0.0/16`; as text, between commas."""

    def read(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    def one(value: object) -> str:
        if not isinstance(value, str):
            raise TypeError
        try:
            return str(ipaddress.ip_network(value))
        except ValueError:
            # Digits and dots that are no network are a slip (10.1.2.3/16, 10.1.2), never the name of a host.
            if not _HOST.fullmatch(value) or value.replace(".", "").isdigit():
                raise
            return value.lower()

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(one(part) for part in value)

    expected = "host names, *.domains, IP addresses or networks, separated by commas (in TOML a list)"
    return Kind(expected=expected, metavar="HOST,...", read=read, check=check)


def secret() -> Kind:
    """A secret that has to travel in an HTTP header."""

    def check(value: object) -> SecretStr:
        if not isinstance(value, str) or not value or not all("!" <= character <= "~" for character in value):
            raise ValueError
        return SecretStr(value)

    expected = "printable ASCII characters without spaces"
    return Kind(expected=expected, metavar="SECRET", read=str.strip, check=check, secret=True)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
