"""Unpacking exception groups, for callers that need not know that a nursery was involved."""


def unwrapped(error: BaseException) -> BaseException:
    """Return the error inside nested groups of one; a group of several is returned as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and its nested groups, in order; for an error that is no group, the error itself."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting += reversed(error.exceptions)
        else:
            found.append(error)
    return found
