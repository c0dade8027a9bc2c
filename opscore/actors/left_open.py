"""Nurseries and cancel scopes left open in a task: the only place that uses trio's private record of them.

One that is entered with `async with` or `with` is closed again. One that is entered by hand, or by an async generator
that is not exhausted, stays open: it encloses whatever the task does from then on, and a task that ends inside of an
open nursery fails the nurseries around it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import trio

_LOGGER = logging.getLogger("opscore.actors")


def is_left_open(task: trio.lowlevel.Task, scope: trio.CancelScope) -> bool:
    """Return whether the task has opened a nursery or cancel scope inside of `scope` and not closed it.

    Args:
        task: The task.
        scope: A scope that the task has entered. If it has been left again, only nurseries are detected.
    """
    # Every nursery has a scope. trio has no public name for the scope that a task is in.
    own = getattr(scope, "_cancel_status", None)
    return bool(task.child_nurseries) if own is None else own is not getattr(task, "_cancel_status", own)


async def close_left_open(task: trio.lowlevel.Task, scope: trio.CancelScope, actor: str) -> None:
    """Close the nurseries and scopes open inside of `scope`, and wait for their tasks, even under cancellation.

    Args:
        task: The current task.
        scope: A scope that the task has entered and not left; neither it nor what encloses it is closed.
        actor: Path of the actor that left them open, for the log.
    """
    own, books = cast("Any", scope)._cancel_status, cast("Any", task)  # noqa: SLF001
    while books._cancel_status is not own and own.encloses(books._cancel_status):  # noqa: SLF001
        innermost: trio.CancelScope = books._cancel_status._scope  # noqa: SLF001
        nursery: Any = next((each for each in task.child_nurseries if each.cancel_scope is innermost), None)
        error: BaseException | None = None
        if nursery is not None:
            innermost.cancel()
            error = await nursery._nested_child_finished(None)  # noqa: SLF001
        try:
            told = None if innermost.__exit__(None if error is None else type(error), error, None) else error
        except Exception as left:  # noqa: BLE001 (the actor that left it open has ended, so the error is only logged)
            told = left
        _LOGGER.warning(
            "%s ended and left a %s open, which is closed",
            actor,
            "cancel scope" if nursery is None else "nursery with its tasks",
            exc_info=told,
            extra={"actor": actor},
        )
