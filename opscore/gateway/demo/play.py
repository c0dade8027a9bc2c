"""The demo's play: a server, three agents and a few runs; then the server is killed, and nothing is lost."""

import os
import secrets
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import trio
from rich.markup import escape

from opscore.gateway.demo.progress import (
    COMPLETED,
    OPEN,
    AgentNote,
    AgentProgress,
    Outcome,
    RunProgress,
    after_note,
    completed_ids,
    count_tasks,
    faults,
    half_way,
    read_note,
    read_run,
)
from opscore.gateway.demo.screen import Board, Display, LogLine, tell_name
from opscore.gateway.demo.stage import Lines, Stage, free_port
from opscore.gateway.demo.workflows import INCIDENTS, incident_workflow, sample_workflow
from opscore.gateway.sdk.client import ClientError, OpscoreClient

TICK_S = 0.1
READY_S_MAX = 30.0
PLAY_S_MAX = 180.0
"""Far more time than the play needs on a slow machine; one that takes longer hangs."""
DEAD_S = 1.2
"""How long the server stays dead, in seconds, so that one can watch it being away."""
BANNER_S = 3.0
HEAR_S_MAX = 5.0
HOST = "127.0.0.1"
SERVER = "server"
SERVER_MODULE = "opscore"


class PlayFailed(Exception):
    """The demo did not come to its end; the message says why."""


@attrs.frozen(kw_only=True)
class CastMember:
    """One agent of the play."""

    agent_id: str
    kind: str
    way: str
    capabilities: tuple[str, ...]


CAST = (
    CastMember(
        agent_id="scout",
        kind="reporting",
        way="push, then reports",
        capabilities=("collect", "test_capability"),
    ),
    CastMember(
        agent_id="analyst",
        kind="answering",
        way="push, answers",
        capabilities=("analyse", "another_capability"),
    ),
    CastMember(agent_id="scribe", kind="claiming", way="long-poll", capabilities=("write",)),
)


class Play:
    """One performance.

    Args:
        stage: Where its processes live.
        display: Where it is shown.
        incidents: How many incident reports are run beside the sample.
    """

    def __init__(self, stage: Stage, display: Display, incidents: int) -> None:
        self._stage = stage
        self._display = display
        self._incidents = incidents
        self._port = free_port()
        self._key = secrets.token_urlsafe(32)
        self._client = OpscoreClient(f"http://{HOST}:{self._port}", self._key)
        self._started_at = trio.current_time()
        self._board = Board(
            agents=tuple(
                AgentProgress(agent_id=one.agent_id, way=one.way, capabilities=one.capabilities) for one in CAST
            )
        )
        self._works: Counter[str] = Counter()
        self._keys_expected: dict[str, tuple[str, ...]] = {}
        self._server: trio.Process | None = None
        self._agents: list[trio.Process] = []

    async def perform(self) -> Outcome:
        """Perform the play, from the first process to the last task.

        Raises:
            PlayFailed: in an exception group, if it cannot continue.
        """
        async with self._client, trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_showing)
            try:
                with trio.fail_after(PLAY_S_MAX):
                    outcome = await self._perform(nursery)
            except trio.TooSlowError:
                raise PlayFailed(f"The runs were not completed within {PLAY_S_MAX:.0f} s.") from None
            except ClientError as error:
                # If the server died, that is the error to report, and not the call that did not reach it.
                await trio.sleep(TICK_S)
                self._require_processes()
                raise PlayFailed(f"A call failed: {error}") from error
            self._display.show(self._now())
            nursery.cancel_scope.cancel()
        return outcome

    async def _perform(self, nursery: trio.Nursery) -> Outcome:
        ready_s = await self._start_server()
        self._say(f"server started as process {self._board.pid}, ready after {ready_s:.2f} s")
        await self._start_agents(nursery)
        await self._trigger_runs()
        await self._follow(half_way)
        at_kill, killed_at = self._board.runs, trio.current_time()
        await self._kill()
        recovery_s = await self._recover()
        outage_s = trio.current_time() - killed_at
        recovered = await self._compare(at_kill, recovery_s)
        nursery.start_soon(self._clear_banner)
        await self._follow(lambda runs: all(run.ended for run in runs))
        await self._hear_out()
        return Outcome(
            at_kill=at_kill,
            recovered=recovered,
            runs=self._board.runs,
            agents=self._board.agents,
            recovery_s=recovery_s,
            outage_s=outage_s,
            took_s=self._elapsed_s(),
            faults=faults(self._board.runs, self._keys_expected, self._works),
        )

    async def _start_server(self) -> float:
        """Start the server; returns the seconds until it was ready for work."""
        started_at = trio.current_time()
        arguments = ["serve", "--data", "data", "--host", HOST, "--port", str(self._port)]
        server = await self._stage.start(SERVER, SERVER_MODULE, arguments, {"OPSCORE_API_KEY": self._key})
        self._server = server
        self._put(pid=server.pid)
        with trio.move_on_after(READY_S_MAX):
            while True:
                self._require_processes()
                try:
                    await self._client.ready()
                except ClientError:
                    await trio.sleep(TICK_S / 4)
                    continue
                took_s = trio.current_time() - started_at
                self._put(server="up")
                return took_s
        raise PlayFailed(f"The server was not ready within {READY_S_MAX:.0f} s.")

    async def _start_agents(self, nursery: trio.Nursery) -> None:
        for one in CAST:
            arguments = ["--kind", one.kind, "--id", one.agent_id, "--url", f"http://{HOST}:{self._port}"]
            for capability in one.capabilities:
                arguments += ["--capability", capability]
            process = await self._stage.start(
                one.agent_id,
                "opscore.gateway.demo.agents",
                arguments,
                {"OPSCORE_API_KEY": self._key},
                talks=True,
            )
            self._agents.append(process)
            nursery.start_soon(self._listen, process)
        while any(agent.state == "starting" for agent in self._board.agents):
            self._require_processes()
            await trio.sleep(TICK_S)

    async def _trigger_runs(self) -> None:
        sample, incident = sample_workflow(), incident_workflow()
        await self._client.save_workflow(sample)
        await self._client.save_workflow(incident)
        started = await self._client.trigger(CAST[0].agent_id, sample["id"], idempotency_key="demo-sample")
        runs = [await self._expect(started.session_id, sample["name"], sample)]
        for index in range(self._incidents):
            title = INCIDENTS[index % len(INCIDENTS)]
            started = await self._client.trigger(
                None, incident["id"], {"incident": title}, idempotency_key=f"demo-incident-{index}"
            )
            runs.append(await self._expect(started.session_id, title, incident))
        self._put(runs=tuple(runs))
        tasks = count_tasks(self._board.runs).total()
        self._say(f"{len(self._board.runs)} runs accepted, {tasks} tasks to do")

    async def _expect(self, session_id: str, title: str, definition: dict[str, Any]) -> RunProgress:
        self._keys_expected[session_id] = tuple(task["taskId"] for task in definition["tasks"])
        return await self._ask(RunProgress(session_id=session_id, title=title, status="started"))

    async def _follow(self, enough: Callable[[tuple[RunProgress, ...]], bool]) -> None:
        while True:
            self._require_processes()
            await self._refresh()
            if enough(self._board.runs):
                return
            if all(run.ended for run in self._board.runs):
                raise PlayFailed("Every run ended before the server could be killed halfway.")
            await trio.sleep(TICK_S)

    async def _refresh(self) -> None:
        runs = []
        for run in self._board.runs:
            newest = run if run.ended else await self._ask(run)
            if newest.ended and not run.ended:
                self._say(f"{tell_name(run.title)} {newest.status}")
            runs.append(newest)
        self._put(runs=tuple(runs))

    async def _ask(self, run: RunProgress) -> RunProgress:
        return read_run(await self._client.session(run.session_id), run.title)

    async def _kill(self) -> None:
        server = self._server
        assert server is not None
        counts = count_tasks(self._board.runs)
        open_attempts = sum(counts[status] for status in OPEN)
        what = f"{counts[COMPLETED]} of {counts.total()} tasks done, {open_attempts} with an agent"
        os.kill(server.pid, signal.SIGKILL)
        self._put(server="killed", banner=f"[bold red]kill -9 {server.pid}[/]   {what}")
        self._say(f"[bold red]kill -9 {server.pid}[/] with {what}")
        await server.wait()
        await trio.sleep(DEAD_S)

    async def _recover(self) -> float:
        self._put(server="recovering")
        self._say("a new server starts on the same directory and port")
        return await self._start_server()

    async def _compare(self, at_kill: tuple[RunProgress, ...], recovery_s: float) -> tuple[RunProgress, ...]:
        """Fetch all runs again, including those that had ended."""
        recovered = tuple([await self._ask(run) for run in at_kill])
        done = completed_ids(at_kill)
        kept = f"{len(done & completed_ids(recovered))} of {len(done)} finished tasks are still finished"
        self._say(f"[bold green]recovered in {recovery_s:.2f} s[/]: {kept}")
        self._put(banner=f"[bold green]recovered in {recovery_s:.2f} s[/]   {kept}")
        return recovered

    async def _hear_out(self) -> None:
        """Wait for the agents' last lines, because the server may know the end of a task before these are read."""
        with trio.move_on_after(HEAR_S_MAX):
            while self._works.total() < count_tasks(self._board.runs).total():
                self._require_processes()
                await trio.sleep(TICK_S)

    async def _clear_banner(self) -> None:
        await trio.sleep(BANNER_S)
        self._put(banner="")

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        async for line in Lines(process.stdout):
            note = read_note(line)
            if note is not None:
                self._note(note)

    def _note(self, note: AgentNote) -> None:
        agents = tuple(
            after_note(agent, note) if agent.agent_id == note.agent_id else agent for agent in self._board.agents
        )
        self._put(agents=agents)
        name, task = tell_name(note.agent_id), escape(str(note.facts.get("task", "")))
        match note.event:
            case "ready":
                self._say(f"{name} is registered and idle")
            case "took":
                self._say(f"{name} took {task}", passing=True)
            case "did":
                self._works[str(note.facts.get("taskId"))] += 1
            case "again":
                self._say(f"{name} was handed {task} again, the same attempt, and did not do it twice")
            case "away":
                self._say(f"{name} cannot reach the server, and keeps trying", passing=True)
            case "back":
                self._say(f"{name} got through again after {note.facts.get('afterSeconds')} s")

    def _require_processes(self) -> None:
        if self._server is not None and self._server.returncode is not None:
            raise PlayFailed(f"The server ended by itself with code {self._server.returncode}.")
        for one, process in zip(CAST, self._agents, strict=False):
            if process.returncode is not None:
                raise PlayFailed(f"The agent {one.agent_id} ended by itself with code {process.returncode}.")

    async def _keep_showing(self) -> None:
        while True:
            self._display.show(self._now())
            await trio.sleep(TICK_S)

    def _now(self) -> Board:
        return attrs.evolve(self._board, elapsed_s=self._elapsed_s())

    def _elapsed_s(self) -> float:
        return trio.current_time() - self._started_at

    def _put(self, **changes: Any) -> None:
        self._board = attrs.evolve(self._board, **changes)

    def _say(self, markup: str, *, passing: bool = False) -> None:
        line = LogLine(at_s=self._elapsed_s(), markup=markup, passing=passing)
        self._put(lines=(*self._board.lines, line))
