"""What the function of an agent raises, and what that says of its attempt."""

import logging
from typing import Final

from opscore.actors.errors import text_of
from opscore.actors.groups import leaves, unwrapped
from opscore.runtime.delivery import Raised
from opscore.runtime.models import Assignment

DEFAULT_CODE: Final = "task_failed"
"""The code of a failure that has none of its own."""
TOLD_MAX: Final = 3
"""How many errors of an exception group are told."""
TOLD_CHARACTERS_MAX: Final = 500
"""Characters of each of them, so that none takes the room of all."""


class TaskFailed(Exception):
    """Raised by the function of an agent: its attempt has failed, and this is why.

    Any other exception fails the attempt as well, with its type and text and the code `task_failed`, and is retried.

    Args:
        message: A sentence for people.
        code: A name for programs, by which `nonRetryable` and the dead letters know the failure.
        retryable: Whether another attempt may do better; if not, no retry follows.

    Raises:
        TypeError: message or code is no text.
    """

    def __init__(self, message: str, *, code: str = DEFAULT_CODE, retryable: bool = True) -> None:
        if not all(isinstance(each, str) for each in (message, code)):
            raise TypeError("a task fails with a message and a code that are texts")
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable


def raised(error: BaseException) -> Raised:
    """How an attempt failed whose function raised: as a `TaskFailed` says, else by the type and text of the error.

    An exception group says nothing itself; what is in it does.
    """
    errors = leaves(error)
    if len(errors) > 1:
        told = [_named(each) for each in errors[:TOLD_MAX]]
        told = [each if len(each) <= TOLD_CHARACTERS_MAX else each[: TOLD_CHARACTERS_MAX - 1] + "…" for each in told]
        return Raised(message=f"{len(errors)} errors: {'; '.join(told)}{'; …' if len(errors) > TOLD_MAX else ''}")
    only = errors[0]
    if isinstance(only, TaskFailed):
        return Raised(message=only.message, code=only.code, retryable=only.retryable)
    return Raised(message=_named(only))


def logged(log: logging.Logger, assignment: Assignment, error: BaseException) -> Raised:
    """Log that a function raised, and return how its attempt failed."""
    failure = raised(error)
    # A `TaskFailed` was raised on purpose, so its traceback is of no use.
    expected = isinstance(unwrapped(error), TaskFailed)
    log.warning(
        "agent %s failed task %s: %s",
        assignment.agent_id,
        assignment.task_id,
        failure.message if expected else repr(error),
        exc_info=None if expected else error,
    )
    return failure


def _named(error: BaseException) -> str:
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
