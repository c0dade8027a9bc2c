"""Exception groups, where a nursery is a detail that callers should not see."""


def unwrapped(error: BaseException) -> BaseException:
    """Return the one error inside groups of one; a group of several stays as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and the groups in it, in order; an error that is no group is its own leaf."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting += reversed(error.exceptions)
        else:
            found.append(error)
    return found
