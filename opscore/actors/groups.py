"""Exception groups, where a nursery is a detail that callers should not see."""


def unwrapped(error: BaseException) -> BaseException:
    """Return the one error inside groups of one; a group of several stays as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
