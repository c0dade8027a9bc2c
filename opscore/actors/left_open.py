"""Nurseries and cancel scopes that are left open in a task: the one place that reaches for trio's own books of them.

Who opens one with `async with` or `with` closes it. One that was entered by hand, or by an async generator that nobody
went through to its end, stays open: whatever the task does from then on is in its reach, and a task that ends within a
nursery fails those around it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import trio

_LOGGER = logging.getLogger("opscore.actors")


def is_left_open(task: trio.lowlevel.Task, scope: trio.CancelScope) -> bool:
    """Return whether something is open that was opened within this scope, the innermost of the task's own.

    Args:
        task: The task.
        scope: Entered by the task; where it has been left again, only nurseries are seen.
    """
    # Every nursery has a scope. trio keeps what a task stands in for itself, and has no public name for it.
    own = getattr(scope, "_cancel_status", None)
    return bool(task.child_nurseries) if own is None else own is not getattr(task, "_cancel_status", own)


async def close_left_open(task: trio.lowlevel.Task, scope: trio.CancelScope, actor: str) -> None:
    """Close what is open that was opened within a scope, and wait until its tasks are gone, whoever is cancelled.

    Args:
        task: The current task.
        scope: Entered by it, and still open; nothing beyond is closed.
        actor: Path of the actor that left it open, for the log.
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
        except Exception as left:  # noqa: BLE001 (who left it open has ended, and nobody waits for it)
            told = left
        _LOGGER.warning(
            "%s ended and left a %s open, which is closed",
            actor,
            "cancel scope" if nursery is None else "nursery with its tasks",
            exc_info=told,
            extra={"actor": actor},
        )
