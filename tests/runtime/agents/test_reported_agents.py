# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Agents that report before anybody has said who they are: what is said of them counts, whenever it comes."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import InvalidDocument, LimitExceeded
from opscore.runtime.models import AgentSource
from tests.runtime.calls.test_directory_calls import KIT, Kit, SlowWriter, said, webhook
from tests.runtime.world import World, begin, ended, hire, quiet, writers_of


async def test_a_webhook_that_crosses_with_the_first_report_counts(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = writers_of(SlowWriter, monkeypatch)
    async with World(tmp_path).node() as node:
        writers[-1].held = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(webhook, node, "a")
            await quiet()
            # The report found nobody, because the webhook is not committed yet.
            nursery.start_soon(node.register_if_unknown, "a")
            await quiet()
            writers[-1].held.set()
        agent = node.agent("a")
        assert (agent.source, agent.capabilities, agent.version) == (KIT, ("work",), "1")


async def test_a_report_registers_nobody_who_is_known(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        await hire(node, "a", result="done")
        known = node.agent("a")
        assert await node.register_if_unknown("a") == known == node.agent("a")
        assert (await ended(node, await begin(node))).result == {"only": "done"}


async def test_a_list_introduces_whom_only_a_report_has_made_known(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await node.register_if_unknown("a")
        await node.report_state("a", "idle")
        assert node.agent("a").source is AgentSource.API
    async with world.node() as node:
        assert (await node.reconcile(Kit((said("a"),)))).registered == ("a",)
        agent = node.agent("a")
        assert (agent.source, agent.capabilities, agent.state) == (KIT, ("work",), "idle")
        assert (await node.reconcile(Kit((said("a"),)))).registered == (), "it has been introduced"
        assert (await node.reconcile(Kit())).forgotten == ("a",)


async def test_a_list_forgets_nobody_whom_only_a_report_has_made_known(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path).node() as node:
        await node.register_if_unknown("a")
        assert (await node.reconcile(Kit())).forgotten == ()
        assert (await node.register_agent("a")).introduced
        assert (await node.reconcile(Kit((said("a"),)))).registered == (), "somebody else has introduced it"


@pytest.mark.parametrize(("agent_id", "error"), [("a/b", InvalidDocument), ("x" * 200, LimitExceeded)])
async def test_an_id_that_no_agent_may_have_is_refused_where_it_reports_as_well(
    tmp_path: Path, autojump_clock: MockClock, agent_id: str, error: type[Exception]
) -> None:
    async with World(tmp_path).node() as node:
        with pytest.raises(error):
            await node.register_if_unknown(agent_id)
