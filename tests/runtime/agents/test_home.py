"""A node that is called from somewhere else than its own trio says so, and takes no harm."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from opscore import Assignment, Node, open_runtime
from opscore.runtime.hosting import open_guest
from opscore.runtime.models import SessionStatus
from tests.runtime.guests import LOOPS, Run, run_on
from tests.runtime.world import one_task

PATIENCE_S = 10.0
ELSEWHERE = r"called in the trio that opened it: from a thread `trio\.from_thread\.run\(node\.{}, …\)`, from asyncio "


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Run[Any]:
    return partial(run_on, request.param)


def async_methods() -> list[str]:
    """Everything public of a node that is awaited."""
    return [name for name, method in inspect.getmembers(Node, inspect.iscoroutinefunction) if not name.startswith("_")]


def call_of(node: Node, name: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    """A call with a text for everything that has to be given."""
    method = getattr(node, name)
    needed = [
        each
        for each in inspect.signature(method).parameters.values()
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    ]
    by_name = {each.name: "x" for each in needed if each.kind is each.KEYWORD_ONLY}
    return partial(method, *("x" for each in needed if each.kind is not each.KEYWORD_ONLY), **by_name)


async def refused(node: Node) -> None:
    """See every call refused where this runs."""
    for name in async_methods():
        with pytest.raises(RuntimeError, match=ELSEWHERE.format(name)):
            await call_of(node, name)()
    with pytest.raises(RuntimeError, match="followed in the trio that opened it"):
        await anext(node.follow())


async def echo(task: Assignment) -> Any:
    return task.input


async def works(node: Node) -> None:
    """See that the node still does what it is for."""
    with trio.fail_after(PATIENCE_S):
        session = await node.trigger(one_task(), payload="still here")
        ended = await node.wait(session.session_id)
    assert (ended.status, ended.result) == (SessionStatus.COMPLETED, {"only": "still here"})


def test_every_method_that_is_awaited_is_known_to_these_tests() -> None:
    assert {"trigger", "wait", "claim", "register_agent", "reconcile", "create_schedule"} < set(async_methods())
    assert len(async_methods()) >= 25


async def test_a_call_from_another_trio_run_is_refused_and_the_node_goes_on_and_closes(tmp_path: Path) -> None:
    with trio.fail_after(3 * PATIENCE_S):
        async with open_runtime(tmp_path) as node:
            await node.register_agent("a", capabilities=["work"], handler=echo)
            await trio.to_thread.run_sync(trio.run, refused, node)
            await works(node)


async def test_what_is_not_awaited_but_reaches_actors_is_refused_in_another_thread(tmp_path: Path) -> None:
    found: list[BaseException] = []

    def in_a_thread(node: Node) -> None:
        for call in (node.drain, partial(node.abandon_claim, "a", "clm_1")):
            try:
                call()
            except RuntimeError as error:
                found.append(error)

    async with open_runtime(tmp_path) as node:
        thread = threading.Thread(target=in_a_thread, args=(node,))
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        assert node.ready() is None
        assert ["run_sync(node.drain" in str(found[0]), "run_sync(node.abandon_claim" in str(found[1])] == [True, True]


async def test_a_thread_calls_a_node_through_trio(tmp_path: Path) -> None:
    async with open_runtime(tmp_path) as node:
        await node.register_agent("a", capabilities=["work"], handler=echo)
        await trio.to_thread.run_sync(trio.from_thread.run, works, node)
        token = trio.lowlevel.current_trio_token()
        # A thread that trio has not started says where to.
        thread = threading.Thread(target=partial(trio.from_thread.run, works, node, trio_token=token))
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        assert [session.status for session in node.sessions().items] == [SessionStatus.COMPLETED] * 2


def test_a_call_from_asyncio_that_leaves_out_the_bridge_is_refused_and_the_node_goes_on(
    tmp_path: Path, run: Run[None]
) -> None:
    async def main() -> None:
        async with asyncio.timeout(3 * PATIENCE_S), open_guest(lambda: open_runtime(tmp_path)) as guest:
            node = guest.value
            await guest.call(partial(node.register_agent, "a", capabilities=["work"], handler=echo))
            await refused(node)
            await guest.call(works, node)
            # What is not awaited may be called from the loop next to it.
            assert len(node.sessions().items) == 1
            node.drain()
            assert node.ready() == "it is shutting down"

    run(main)
