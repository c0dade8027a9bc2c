"""What may be stored as a payload or a result: JSON, within a size."""

from typing import Any

from opscore.runtime.codec import encode_json
from opscore.runtime.delivery import Completed, Failed, Judgement
from opscore.runtime.errors import LimitExceeded
from opscore.runtime.limits import Limits
from opscore.runtime.models import Failure


def check_value(value: Any, limits: Limits) -> None:
    """Refuse what can't be stored.

    Raises:
        LimitExceeded: it is larger than `value_bytes_max`.
        ValueError, TypeError: it is not JSON.
    """
    if value is None:
        return
    size = len(encode_json(value))
    if size > limits.value_bytes_max:
        raise LimitExceeded("value_bytes_max", limits.value_bytes_max, size)


def checked(judgement: Judgement, limits: Limits) -> Judgement:
    """Turn a result that can't be stored into a failure that says so; trying again would not help it."""
    if not isinstance(judgement, Completed):
        return judgement
    try:
        check_value(judgement.result, limits)
    except LimitExceeded as error:
        return Failed(
            error=Failure(message=f"the result is too large: {error}", code="result_too_large"),
            retryable=False,
        )
    except (ValueError, TypeError, RecursionError) as error:
        return Failed(
            error=Failure(message=f"the result is not JSON: {error}", code="result_not_json"), retryable=False
        )
    return judgement
