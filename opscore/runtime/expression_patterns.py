"""Regular expressions in expressions: those of RE2, which the library of the parser brings along.

RE2 takes a time that is linear in the text, but times the states of the pattern, and `[ab]{999}` has a thousand
(https://github.com/google/re2/wiki/WhyRE2). So a pattern is weighed first.
"""

import functools
import math
import re
from typing import Any, Final

from cel_expr_python import cel

from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed
from opscore.runtime.expression_bounds import PATTERN_CHARACTERS_MAX, Budget
from opscore.runtime.expression_values import shown, text

_REPEATS: Final = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_REPEATS_MAX: Final = 1_000
"""RE2 repeats nothing more often."""
_CLASS: Final = re.compile(r"\\[pPxX]|\[|\(\?|[^\x00-\x7f]")
_CLASS_WEIGHT: Final = 60
_UNICODE_CLASS: Final = re.compile(r"\\[pP]")
_UNICODE_CLASS_STEPS: Final = 5_000
"""To read one: some have hundreds of ranges."""
_STEPS_TO_ASK: Final = 20
"""Of the library, whatever it is asked."""
_READING_CHARACTERS: Final = 32
"""Reading a pattern costs as much as matching so many characters."""
_MATCHED_A_STEP: Final = 5
"""Characters of a text, times the weight of a pattern, that RE2 looks at in the time of a step."""


def matches(budget: Budget, value: Any, pattern: Any) -> bool:
    """Whether a pattern fits somewhere in a text; what that may cost is spent before it is tried."""
    within, sought = text(value, "matches"), text(pattern, "matches")
    if len(sought) > PATTERN_CHARACTERS_MAX:
        raise ExpressionExhausted(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters")
    budget.spend(_STEPS_TO_ASK + _steps_of(sought, len(within)))
    try:
        found = _match().eval(data={"text": within, "pattern": sought})
    except RuntimeError:
        raise ExpressionFailed("the text or the pattern of matches holds half of a surrogate pair") from None
    if found.type() == cel.Type.BOOL:
        return bool(found.value())
    raise ExpressionFailed(f"{shown(sought)} is no pattern: {str(found.value()).rpartition('expression: ')[2]}")


@functools.cache
def _match() -> cel.Expression:
    names = {"text": cel.Type.STRING, "pattern": cel.Type.STRING}
    return cel.NewEnv(variables=names).compile("text.matches(pattern)")


def _steps_of(pattern: str, characters: int) -> int:
    """What a match may take: at most as many states as are written, each as often as anything is repeated."""
    repeats = min(_REPEATS_MAX, math.prod(max(1, int(most or least)) for least, most in _REPEATS.findall(pattern)))
    weight = (1 + len(pattern) + _CLASS_WEIGHT * len(_CLASS.findall(pattern))) * repeats
    reading = _UNICODE_CLASS_STEPS * len(_UNICODE_CLASS.findall(pattern)) * repeats
    return reading + weight * (characters + _READING_CHARACTERS) // _MATCHED_A_STEP
