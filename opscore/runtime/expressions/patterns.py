"""Regular expressions within expressions: those of RE2, which comes with the parser's library.

RE2 takes time in proportion to the length of the text times the number of states of the pattern, and `[ab]{999}` has a
thousand (https://github.com/google/re2/wiki/WhyRE2). So the states of a pattern are estimated before it is used:
sequences and alternatives add up their states, and only repetition multiplies them.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, Final

from cel_expr_python import cel

from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed
from opscore.runtime.expressions.bounds import PATTERN_CHARACTERS_MAX, Budget
from opscore.runtime.expressions.values import shown, text

_PART: Final = re.compile(
    r"""
      \{(?P<least>\d+)(?P<open>,(?P<most>\d*))?\}
    | \\[pP](?:\{[^}]*\} | .) | \\x\{[^}]*\} | \\Q.*?(?:\\E|\Z) | \\.
    | \[\^?\]?(?:\[:\^?\w+:\] | \\. | [^\]\\])*(?:\]|\Z)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
"""A repeat count, an escape, a character class, or a character."""
_RANGE: Final = re.compile(r"[!-Z^-~]-[!-Z^-~]")
_OPTIONAL: Final = "?"
_ONCE_AND_MORE: Final = ("*", "+", _OPTIONAL)
_WIDE: Final = re.compile(r"\A\.|\[:?\^|\\[DSW]")
"""Parts that match nearly every character: they have states for every length of a character in UTF-8."""
_WIDE_STATES: Final = 5
_UNICODE_CLASS: Final = re.compile(r"\\[pP]")
_UNICODE_CLASS_STATES: Final = 60
_UNICODE_CLASS_STEPS: Final = 5_000
"""Steps to compile one: some have hundreds of ranges."""
_FOLDING: Final = re.compile(r"\(\?[a-zA-Z-]*i")
_FOLDED_STATES: Final = 4
"""Factor on the states of a pattern that ignores case."""
_REPEATS_MAX: Final = 1_000
"""RE2's maximum repeat count."""
_STEPS_TO_ASK: Final = 20
"""Fixed steps of each call of the library."""
_STEPS_A_CHARACTER: Final = 4
"""Steps to estimate the states of a pattern, for each of its characters."""
_STEPS_A_STATE: Final = 2
"""Steps to compile a pattern, for each of its states; the library compiles it at every call."""
_OPTIONAL_A_STEP: Final = 150
"""Compiling takes time in the square of the optional parts, which is divided by this to give steps: `a{0,500}a{0,500}`
takes four times as long as `a{0,500}`."""
_MATCHED_A_STEP: Final = 16
"""Characters of the text, times states of the pattern, that RE2 processes in the time of a step."""


def matches(budget: Budget, value: Any, pattern: Any) -> bool:
    """Return whether a pattern matches somewhere in a text; the steps that this may cost are spent first."""
    return fits(text(value, "matches"), text(pattern, "matches"), budget.spend)


def fits(within: str, pattern: str, spend: Callable[[int], object]) -> bool:
    """Return whether a pattern matches somewhere in a text.

    Args:
        within: the text.
        pattern: a regular expression of RE2.
        spend: called with the steps that matching may cost, before it begins; it may raise.

    Raises:
        ExpressionFailed: the pattern is not valid, or it or the text can't be encoded in UTF-8.
        ExpressionExhausted: the pattern is too long.
    """
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ExpressionExhausted(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters")
    states, reading = _weighed(pattern)
    spend(_STEPS_TO_ASK + reading + states * len(within) // _MATCHED_A_STEP)
    try:
        found = _match().eval(data={"text": within, "pattern": pattern})
    except RuntimeError:
        raise ExpressionFailed("the text or the pattern of matches holds half of a surrogate pair") from None
    if found.type() == cel.Type.BOOL:
        return bool(found.value())
    raise ExpressionFailed(f"{shown(pattern)} is not a pattern: {str(found.value()).rpartition('expression: ')[2]}")


@functools.cache
def _match() -> cel.Expression:
    names = {"text": cel.Type.STRING, "pattern": cel.Type.STRING}
    return cel.NewEnv(variables=names).compile("text.matches(pattern)")


@functools.lru_cache(maxsize=256)
def _weighed(pattern: str) -> tuple[int, int]:
    """Return the number of states that a pattern has at most, and the steps to compile it."""
    states = 1 + _added_up(pattern, _states_of)
    if _FOLDING.search(pattern):
        states *= _FOLDED_STATES
    optional = _added_up(pattern, _optional_of)
    classes = _added_up(pattern, _unicode_classes_of) if _UNICODE_CLASS.search(pattern) else 0
    reading = _STEPS_A_CHARACTER * len(pattern) + _STEPS_A_STATE * states + _UNICODE_CLASS_STEPS * classes
    return states, reading + optional**2 // _OPTIONAL_A_STEP


def _added_up(pattern: str, count: Callable[[str], int]) -> int:
    """Add up a count over the parts of a pattern, each times its repeat count and those of the groups around it."""
    groups, last = [0], 0
    for part in _PART.finditer(pattern):
        written = part[0]
        before = last
        if part["least"] is not None:
            times = max(1, min(_REPEATS_MAX, int(part["most"] or part["least"])))
            last = (last + (count(_OPTIONAL) if part["open"] else 0)) * times
        elif written in _ONCE_AND_MORE:
            last += count(written)
        elif written == "(":
            groups.append(0)
            before, last = 0, count(written)
        elif written == ")" and len(groups) > 1:
            before, last = 0, groups.pop() + count(written)
        else:
            before, last = 0, count(written)
        groups[-1] += last - before
    return sum(groups)


def _states_of(part: str) -> int:
    """Return the number of states of a part: its length in bytes, where a range counts as one, and those of classes."""
    written = len(_RANGE.sub("-", part).encode(errors="replace"))
    return written + _WIDE_STATES * len(_WIDE.findall(part)) + _UNICODE_CLASS_STATES * _unicode_classes_of(part)


def _optional_of(part: str) -> int:
    return int(part == _OPTIONAL)


def _unicode_classes_of(part: str) -> int:
    return len(_UNICODE_CLASS.findall(part))
