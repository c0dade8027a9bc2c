"""New ids: ordered by time, so that listings by id are listings by age, and random enough never to meet."""

import random
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS: Final = 10
_RANDOM_DIGITS: Final = 16


def new_id(prefix: str, now: float, rng: random.Random) -> str:
    """Make an id such as `ses_01jdcz…`: milliseconds, then 80 random bits, in Crockford's base 32 (as ULID does)."""
    return f"{prefix}_{_digits(int(now * 1000), _TIME_DIGITS)}{_digits(rng.getrandbits(80), _RANDOM_DIGITS)}"


def _digits(number: int, count: int) -> str:
    digits = []
    for _ in range(count):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
