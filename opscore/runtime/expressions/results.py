"""Turns the value of an expression into plain JSON of a bounded size."""

import itertools
import re
from typing import Any, Final

import msgspec

from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed
from opscore.runtime.expressions.bounds import Budget
from opscore.runtime.expressions.values import MadeList, MadeMap, finite, whole
from opscore.runtime.limits import NESTING_MAX

_TOO_DEEP: Final = f"a result nests at most {NESTING_MAX} levels"
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_LEVELS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_STEPS_A_VALUE: Final = 2
_BYTES_A_STEP: Final = 64
"""Bytes of JSON that are searched for brackets in the time of a step."""


def plain(value: Any, budget: Budget, depth: int = 0) -> Any:
    """Turn lists and objects that the expression made into plain ones, and check the size of the whole as JSON.

    Values from the scope are not copied. Measuring takes a millisecond for 256 KiB, and stops at the first part that
    exceeds the bound.

    Raises:
        ExpressionFailed: a number of the result does not fit, or a value is not JSON.
        ExpressionExhausted: the result is too large, or nests too deep.
    """
    if type(value) is MadeList:
        budget.spend_result(2 + len(value))
        budget.spend(_STEPS_A_VALUE * len(value))
        return [plain(item, budget, depth + 1) for item in value]
    if type(value) is MadeMap:
        budget.spend_result(2 + sum(4 + len(name) for name in value))
        budget.spend(_STEPS_A_VALUE * len(value))
        return {name: plain(item, budget, depth + 1) for name, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        whole(value)
    elif isinstance(value, float):
        finite(value)
    body = _encoded(value)
    budget.spend_result(len(body))
    if depth:
        _check_nesting(body, depth, budget)
    return value


def text_of(value: Any) -> str:
    """Return a result as part of a text: a text unchanged, any other value as compact JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        raise ExpressionExhausted(_TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise ExpressionFailed(f"the result is not JSON: {error}") from None


def _check_nesting(body: bytes, depth: int, budget: Budget) -> None:
    """Check how deep a value from the scope nests within the lists and objects that the expression made.

    On its own, JSON that was admitted does not nest too deep.
    """
    opened = body.count(b"[") + body.count(b"{")
    if depth + opened <= NESTING_MAX:
        return
    budget.spend(opened + len(body) // _BYTES_A_STEP)
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    if depth + max(itertools.accumulate(map(_LEVELS.__getitem__, brackets)), default=0) > NESTING_MAX:
        raise ExpressionExhausted(_TOO_DEEP)
