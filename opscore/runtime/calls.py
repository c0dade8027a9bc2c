"""What every call on a node stands on: the core, a snapshot to read, and the node's readiness."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import trio

from opscore.runtime.core import Core, open_nursery
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.home import Home
from opscore.runtime.local import LocalAgents
from opscore.runtime.store import Snapshot

ResultT = TypeVar("ResultT")
CallsT = TypeVar("CallsT", bound="Calls")
ChoiceT = TypeVar("ChoiceT", bound=StrEnum)
ArgumentsT = ParamSpec("ArgumentsT")

CALLED_IN_TRIO: Final = "a node's methods are called in the trio that opened it"


def in_trio(
    method: Callable[Concatenate[CallsT, ArgumentsT], Awaitable[ResultT]],
) -> Callable[Concatenate[CallsT, ArgumentsT], Coroutine[Any, Any, ResultT]]:
    """Have a method refuse whoever awaits it elsewhere, before it does anything."""
    call = f"node.{method.__name__}, …"

    @functools.wraps(method)
    async def checked(self: CallsT, /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ResultT:
        self._home.require_task(CALLED_IN_TRIO, call)
        self._core.refuse_stopped()
        return await method(self, *args, **kwargs)

    return checked


class Calls:
    """The base of a node's calls. All that are public and async, here and below, are awaited in the node's own trio.

    Raises:
        RuntimeError: of each of them, where it is awaited elsewhere; nothing was done.
        NotReady: the node has stopped, or stops while they wait for what will never be.
    """

    def __init_subclass__(cls) -> None:
        for name, method in tuple(vars(cls).items()):
            if not name.startswith("_") and inspect.iscoroutinefunction(method):
                setattr(cls, name, in_trio(method))

    def __init__(self, core: Core, local: LocalAgents) -> None:
        self._home = Home()
        self._core = core
        self._local = local
        self._drained = trio.Event()
        self._not_ready: str | None = None

    def _read(self, read: Callable[[Snapshot], ResultT]) -> ResultT:
        self._core.refuse_stopped()
        with self._core.store.snapshot() as view:
            return read(view)

    @in_trio
    async def unless_draining(self, work: Callable[[], Awaitable[ResultT]]) -> ResultT | None:
        """Do the work, but cancel it once the node drains, and answer nothing then."""
        result: ResultT | None = None
        async with open_nursery() as nursery:

            async def give_up() -> None:
                await self._drained.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            result = await work()
            nursery.cancel_scope.cancel()
        return result


def chosen(kind: type[ChoiceT], value: str, what: str, path: str) -> ChoiceT:
    """The choice that a text names: one that is none would be stored, and never be read again.

    Raises:
        InvalidDocument: it is no choice.
    """
    try:
        return kind(value)
    except ValueError:
        fault = Fault(path=path, message=f"expected one of {', '.join(kind)}, found {value!r}")
        raise InvalidDocument(what, (fault,)) from None
