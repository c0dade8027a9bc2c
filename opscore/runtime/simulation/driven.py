"""A world in which nothing happens by itself: its driver decides when the process dies or the disk fills up."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import trio

from opscore.actors.errors import ActorError
from opscore.runtime.errors import OpscoreError
from opscore.runtime.models import Move, SessionStatus
from opscore.runtime.simulation.agents import SimulatedAgent
from opscore.runtime.simulation.deaths import Deaths
from opscore.runtime.simulation.fleet import AgentModel
from opscore.runtime.simulation.history import History
from opscore.runtime.simulation.invariants import InvariantBroken, Invariants
from opscore.runtime.simulation.network import SLOW_S_MAX, Unreachable
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.scenario import Scenario
from opscore.runtime.simulation.world import AGAIN_S, CLOSING_S_MAX, World

ARRANGED: Final = (
    "actor_raises",
    "commit_refused",
    "commit_split",
    "commit_stalled",
    "commit_unanswered",
    "commit_uncertain",
    "delivery_broken",
    "delivery_lost",
    "delivery_refused",
    "delivery_rejected",
    "delivery_repeated",
    "delivery_slow",
    "delivery_unavailable",
    "reply_lost",
    "request_lost",
    "request_overlaps",
    "request_repeated",
    "request_slow",
)
"""The faults that may be arranged for their next occasion."""
_BY_HAND: Final = frozenset({"process_dies", "process_restarts", "disk_full", "disk_nearly_full", *ARRANGED})
_LOOKS_EVERY_S: Final = 5.0


class DrivenWorld(World):
    """A world that is driven from outside. It has to be created inside the trio run.

    Args:
        scenario: its seed, its limits, and its workflows.
        invariants: the promises to check.
        deaths: decides between which steps the process dies, as for any world.
    """

    def __init__(self, scenario: Scenario, invariants: Invariants, deaths: Deaths) -> None:
        super().__init__(scenario, invariants, History(), deaths)
        self.rows.faults |= _BY_HAND
        self._gone = trio.Event()
        self._gone.set()
        self._unsettled_before = 0.0

    @property
    def runs(self) -> bool:
        """Whether there is a process, including one that is opening or stopping."""
        return not self._gone.is_set()

    @property
    def broken(self) -> InvariantBroken | None:
        """The first promise that was broken, if any."""
        return self._broken

    def look(self) -> None:
        """Check the invariants over all rows, and compare the disk if it is due."""
        self._scan()

    # --- the process --------------------------------------------------------------------------------------

    async def host(self) -> None:
        """Run one process to its end."""
        assert not self.runs, "there is a process already"
        self._gone = trio.Event()
        try:
            await self._live()
        finally:
            self._gone.set()

    def kill(self, included: float) -> None:
        """Kill the process.

        Args:
            included: the share of the batch in progress that is on the disk all the same, from 0 to 1.
        """
        self.dice.count("process_dies")
        self._die(included)

    def stop(self) -> None:
        """Stop the process gracefully."""
        self.dice.count("process_restarts")
        self._stop()

    # --- the disk -----------------------------------------------------------------------------------------

    def fill_disk(self, *, nearly: bool = False) -> None:
        """Leave no room on the disk, or only the reserve, until `make_room` is called."""
        self.dice.count("disk_nearly_full" if nearly else "disk_full")
        if nearly:
            self._room.nearly_full_until = float("inf")
        else:
            self._room.full_until = float("inf")
        if self._unsettled_until < float("inf"):
            self._unsettled_before = self._unsettled_until
        self._unsettled_until = self.rows.calm_since = float("inf")

    def make_room(self) -> None:
        """Make room again; the node then takes some time to recover."""
        full = self._room.full_until or self._room.nearly_full_until
        self._room.clear()
        if full:
            # The effects of other faults may not be over yet.
            self._unsettled_until = self._unsettled_before
            self._happened("disk_full")
            self._disturbed(None if self.runs else float("inf"))

    # --- operators ----------------------------------------------------------------------------------------

    async def save(self, document: Mapping[str, Any]) -> None:
        """Save a workflow."""
        await self.network.call(lambda node: node.save_definition(document))

    async def delete(self, workflow_id: str) -> None:
        """Delete a workflow."""
        await self.network.call(lambda node: node.delete_definition(workflow_id))

    async def steer(self, session_id: str, move: Move) -> None:
        """Steer a run."""
        self.history.ledger.ask(session_id, move)
        session = await self.network.call(lambda node: node.steer(session_id, move))
        self._replied(Reply(call="steer", arguments={"session_id": session_id, "move": move}, value=session))

    async def tell(self, session_id: str, name: str, payload: Any, signal_id: str | None) -> None:
        """Send a signal to a run."""
        told = await self.network.call(lambda node: node.signal(session_id, name, payload=payload, signal_id=signal_id))
        self._replied(Reply(call="signal", arguments={"session_id": session_id}, value=told))

    # --- the end ------------------------------------------------------------------------------------------

    async def come_to_an_end(self, helpful: list[AgentModel], settle_s: float) -> None:
        """Stop the faults, add helpful agents, and check that every run ends and that the node then stops."""
        self.note("world", "nothing goes wrong any more")
        self.dice.silence.set()
        self.make_room()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._host_until_stopped)
            # Calls that are on their way have to arrive first: a late registration would replace a helpful agent's.
            await trio.sleep(SLOW_S_MAX)
            for model in helpful:
                for agent_id in model.ids():
                    nursery.start_soon(self._help, agent_id, model)
            nursery.start_soon(self._resume_all)
            with trio.move_on_after(settle_s):
                await self._everything_settled()
            self._scan(at_end=True)
            self._checked(self._invariants.at_end, self.rows)
            self._stopping = True
            self._life.cancel()
            with trio.move_on_after(CLOSING_S_MAX):
                await self._closed.wait()
            if not self._closed.is_set():
                self._found(InvariantBroken("a_node_closes", f"it takes longer than {CLOSING_S_MAX:g} s"))
            nursery.cancel_scope.cancel()

    async def _resume_all(self) -> None:
        """Resume every run that an operator has paused."""
        for session_id in list(self.rows.unfinished):
            while True:
                session = self.rows.sessions.get(session_id)
                if session is None or session.status is not SessionStatus.PAUSED or session.reason is not None:
                    break
                with contextlib.suppress(Unreachable, OpscoreError, ActorError):
                    await self.network.call(lambda node: node.steer(session_id, Move.RESUME))  # noqa: B023 (called now)
                    break
                await trio.sleep(AGAIN_S)

    async def _everything_settled(self) -> None:
        while not (self._broken or all(map(self._settled, self.rows.unfinished))):  # noqa: ASYNC110 (they come and go)
            await trio.sleep(_LOOKS_EVERY_S)

    async def _host_until_stopped(self) -> None:
        await self._gone.wait()
        await self._host()

    async def _help(self, agent_id: str, model: AgentModel) -> None:
        """Run this helpful agent, and uncordon it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(SimulatedAgent(agent_id, model, self.stage, self._scenario.seed).live)
            while True:
                with contextlib.suppress(Unreachable, OpscoreError, ActorError):
                    await self.network.call(lambda node: node.set_cordon(agent_id, cordoned=False))
                    return
                await trio.sleep(AGAIN_S)
