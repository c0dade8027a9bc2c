"""Ids: making new ones, which are ordered by time so that listings by id are by age, and checking given ones."""

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
    """Make the id of one of several parts of something; the ids sort in the order of the parts.

    Args:
        above: the id of the whole.
        place: the place of the part, from 0.
        count: how many parts there are; all ids have as many digits as the last.

    Returns:
        an id such as `ses_01jdcz….07`.
    """
    return f"{above}.{place:0{len(str(count - 1))}}"


def unusable(identity: str) -> str | None:
    """Return what keeps a chosen id from being part of the path of a URL, if anything does.

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
