"""Ids: new ones, ordered by time so that listings by id are listings by age, and what no id may be."""

import random
import unicodedata
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS: Final = 10
_RANDOM_DIGITS: Final = 16


def new_id(prefix: str, now: float, rng: random.Random) -> str:
    """Make an id such as `ses_01jdcz…`: milliseconds, then 80 random bits, in Crockford's base 32 (as ULID does)."""
    return f"{prefix}_{_digits(int(now * 1000), _TIME_DIGITS)}{_digits(rng.getrandbits(80), _RANDOM_DIGITS)}"


def numbered(above: str, place: int, count: int) -> str:
    """Name one of several that belong to something, so that in the order of their names they stand as they are listed.

    Args:
        above: the id that they belong to.
        place: its place among them, from 0.
        count: how many there are; all have as many digits as the last.

    Returns:
        an id such as `ses_01jdcz….07`.
    """
    return f"{above}.{place:0{len(str(count - 1))}}"


def unusable(identity: str) -> str | None:
    """Say what keeps a chosen id from standing in the path of a URL, if anything does.

    Returns:
        the end of a sentence that begins with the id, such as `contains "/"`; None for an id that is fine.
    """
    if not identity.strip():
        return "is empty or blank"
    if "/" in identity:
        return 'contains "/"'
    if identity in {".", ".."}:
        return 'is "." or "..", which a path never keeps'
    kinds = {unicodedata.category(character) for character in identity}
    if "Cc" in kinds:
        return "contains control characters"
    return "contains half of a surrogate pair" if "Cs" in kinds else None


def _digits(number: int, count: int) -> str:
    digits = []
    for _ in range(count):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
