"""The base of a node's calls: access to the core, reading from a snapshot, and refusal of calls made elsewhere."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import trio

from opscore.runtime.agents.home import Home
from opscore.runtime.agents.local import LocalAgents
from opscore.runtime.core import Core, open_nursery
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.store import Snapshot

ResultT = TypeVar("ResultT")
CallsT = TypeVar("CallsT", bound="Calls")
ChoiceT = TypeVar("ChoiceT", bound=StrEnum)
ArgumentsT = ParamSpec("ArgumentsT")

CALLED_IN_TRIO: Final = "a node's methods are called in the trio that opened it"


def in_trio(
    method: Callable[Concatenate[CallsT, ArgumentsT], Awaitable[ResultT]],
) -> Callable[Concatenate[CallsT, ArgumentsT], Coroutine[Any, Any, ResultT]]:
    """Wrap a method so that it refuses a caller outside of the node's trio run before it does anything."""
    call = f"node.{method.__name__}, …"

    @functools.wraps(method)
    async def checked(self: CallsT, /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ResultT:
        self._home.require_task(CALLED_IN_TRIO, call)
        self._core.refuse_stopped()
        return await method(self, *args, **kwargs)

    return checked


class Calls:
    """The base of a node's calls. Every public async method, here and in subclasses, is awaited in the node's trio run.

    Raises:
        RuntimeError: by each of them, if it is awaited elsewhere; nothing was done.
        NotReady: by each of them, if the node has stopped, or stops while they wait.
        StoreError: by each of them, if the store can't be read or written.
        ActorError: by async methods, if what does the work crashes or does not answer in time.
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
        """Do the work and return its result; if the node drains meanwhile, cancel the work and return None.

        Args:
            work: an async function without arguments, such as `lambda: node.wait(session_id)`.
        """
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
    """Return the member of an enumeration that a text names. An unknown text could be stored, but not read again.

    Raises:
        InvalidDocument: there is no such member.
    """
    try:
        return kind(value)
    except ValueError:
        fault = Fault(path=path, message=f"expected one of {', '.join(kind)}, found {value!r}")
        raise InvalidDocument(what, (fault,)) from None
