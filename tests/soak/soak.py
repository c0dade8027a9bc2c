"""A soak: a server under a steady load, sampled every few seconds, and then left to come to rest."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.crash.process import PATIENCE_S, ROOT
from tests.crash.wire import Gone, Wire
from tests.soak import verdict, workflows
from tests.soak.agents import Claimer, Mortal, Pushed
from tests.soak.clients import Client, Customer, Dropper, Operator, Reader, Scheduler, Stopwatch
from tests.soak.looking import Looker
from tests.soak.notes import Notes
from tests.soak.office import Office, open_office
from tests.soak.process import Soaked, logged
from tests.soak.trend import Sample

REST_S: Final = 60.0
"""How long everything may take to end once nothing new begins."""
QUIET_S: Final = 1.5
"""How often the server at rest is sampled, while actors leave and threads end."""
_UNFINISHED: Final = ("started", "running", "paused", "failing", "cancelling")


@attrs.frozen(kw_only=True)
class Plan:
    """The parameters of a soak."""

    seconds: float
    seed: int
    runs_min: int = 0
    """The load goes on until at least this many runs have begun, however long a slow machine takes."""
    every_s: float = 5.0
    """The seconds between two samples."""
    load: float = 1.0
    """A factor on the usual load."""
    kills: int = 0
    """How often the server is killed and restarted, at even intervals."""
    keep_s: float = 20.0
    """How long ended runs and records are kept."""
    timed: bool = True
    """Whether slower calls and runs count as a fault, which needs a machine without other load."""
    rest_s: float = 10.0
    """How long to wait at most until everything that ends by itself has ended."""
    leak: str = ""
    """The name of the leak that is planted in the server, or an empty string."""

    def options(self, office: Office) -> list[str]:
        """Return the options of `opscore serve`."""
        settings = {
            "lease-s": 3,
            "push-timeout-s": 3,
            "sessions-keep-s": self.keep_s,
            "records-keep-s": self.keep_s,
            "sessions-ended-max": 5_000,
            "records-max": 50_000,
            "map-bytes": "512MiB",
            "dispatch-limits": "capability:scarce=2,workflow:limited=20/s",
            "agentkit-api-url": office.url,
            "agentkit-poll-s": 1,
            "log-format": "json",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


@attrs.define
class Result:
    """The findings of a soak so far."""

    plan: Plan
    lives: list[list[Sample]] = attrs.field(factory=lambda: [[]])
    """The samples of each life of the server."""
    counts: dict[str, int] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)
    """What is wrong; empty if all is well."""
    at_rest: bool = False
    """Whether the server came to rest, and was sampled then."""


class Soak:
    """Soaks one server.

    Args:
        plan: its parameters.
        on_sample: called with the result so far after each sample.
    """

    def __init__(self, plan: Plan, *, on_sample: Callable[[Result], object] = lambda _: None) -> None:
        self.result = Result(plan=plan)
        self.folder = Path(tempfile.mkdtemp(prefix="opscore-soak-"))
        self.notes = Notes()
        self._plan = plan
        self._on_sample = on_sample
        self._mortals: list[Mortal] = []
        self._threads: list[threading.Thread] = []
        self._before: dict[str, float] = {}

    def run(self) -> Result:
        """Run the soak, and return its result; the folder is kept if something is wrong."""
        with open_office(self.notes) as office:
            server = Soaked(self.folder, self._plan.options(office), leak=self._plan.leak)
            try:
                self._soak(server, office)
            except (RuntimeError, Gone, TimeoutError) as error:
                self.result.faults.append(f"the server is gone, or does not answer: {error!r}")
                self.result.faults += self.notes.surprises
            finally:
                self.notes.over.set()
                server.kill()
                self.result.counts = dict(self.notes.counted())
        if not self.result.faults:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.result

    def _soak(self, server: Soaked, office: Office) -> None:
        looker = Looker(server, self.notes)
        server.begin()
        self._before = looker.rest()
        self._prepare(server.port)
        self._begin(server, office)
        self._under_load(server, looker)
        if not any(self.result.lives):
            self.result.faults.append("the server was never seen")
        for samples in self.result.lives:
            self.result.faults += verdict.of_samples(samples, timed=self._plan.timed)
        self._to_rest(server, looker)
        if server.stop() != 0:
            self.result.faults.append("the server that was told to stop did not end with 0")
        stood_still = self._plan.kills > 0 or not self._plan.timed
        self.result.faults += verdict.of_log(logged(server.log), stood_still=stood_still)
        self.result.faults += self.notes.surprises
        self.result.faults += _verified(server.data)
        self.result.at_rest = True

    def _prepare(self, port: int) -> None:
        wire = Wire(port)
        for document in workflows.WORKFLOWS:
            self.notes.expect("the workflow", wire.post("/workflow", document), 201)
        # This run stays at the front of a line for as long as the load lasts.
        self.notes.expect("the first", wire.post("/workflow/waits/trigger", {}), 202)
        wire.close()

    # --- the load -----------------------------------------------------------------------------------------

    def _clients(self, office: Office) -> Iterator[Client]:
        notes, seed, load = self.notes, f"soak {self._plan.seed}", self._plan.load
        for number in range(2):
            yield Customer(f"customer-{number}", notes, seed, pause_s=0.08 / load)
        for number in range(4):
            yield Claimer(f"claimer-{number}", notes, seed)
        yield Claimer("scarce-0", notes, seed, capabilities=(workflows.SCARCE,))
        self._mortals = [Mortal(f"mortal-{number}", notes, seed) for number in range(2)]
        yield from self._mortals
        for number in range(3):
            pushed = Pushed(f"pushed-{number}", notes, seed, endpoint=f"{office.url}/{number}")
            office.agents[f"/{number}"] = pushed
            yield pushed
        yield Stopwatch("stopwatch", notes, seed, pause_s=0.1)
        yield Operator("operator", notes, seed, pause_s=0.15 / load)
        yield Scheduler("scheduler", notes, seed, pause_s=0.4)
        yield Reader("reader", notes, seed, pause_s=0.2 / load)
        yield Dropper("dropper", notes, seed, pause_s=0.1 / load)

    def _begin(self, server: Soaked, office: Office) -> None:
        wire = Wire(server.port)
        for agent_id in ("customer-0", "customer-1", "left-0", "left-1", "left-2"):
            self.notes.expect(agent_id, wire.post("/agent", {"agentId": agent_id, "capabilities": ["none"]}), 201)
        wire.close()
        for client in self._clients(office):
            if isinstance(client, Dropper):
                client.port = server.port
            thread = threading.Thread(target=self._keep_doing, args=(client, server), name=client.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _keep_doing(self, client: Client, server: Soaked) -> None:
        wire = Wire(server.port)
        while not self.notes.over.is_set():
            try:
                client.act(wire)
                client.rest()
            except (Gone, TimeoutError) as error:
                wire.close()
                wire = Wire(server.port)
                if not self.notes.away.is_set():
                    self.notes.surprise(f"{client.name} was cut off: {error!r}")
                self.notes.over.wait(0.2)
            except Exception:  # noqa: BLE001 (whatever it was, the soak has to say so)
                self.notes.surprise(f"{client.name} failed: {traceback.format_exc()}")
                self.notes.over.wait(0.2)
        wire.close()

    def _runs(self) -> int:
        return self.notes.counted().get("runs", 0)

    def _under_load(self, server: Soaked, looker: Looker) -> None:
        began = time.monotonic()
        kill_at = [self._plan.seconds * (number + 1) / (self._plan.kills + 1) for number in range(self._plan.kills)]
        while (at := time.monotonic() - began) < self._plan.seconds or self._runs() < self._plan.runs_min:
            if kill_at and at >= kill_at[0]:
                del kill_at[0]
                self._kill(server)
            self.notes.over.wait(self._plan.every_s)
            if not server.is_alive:
                raise RuntimeError(f"the server ended by itself: see {server.log}")
            sample = looker.sample(time.monotonic() - began)
            if sample is not None:
                self.result.lives[-1].append(sample)
                with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as samples:
                    samples.write(json.dumps(attrs.asdict(sample)) + "\n")
            self.result.counts = dict(self.notes.counted())
            self._on_sample(self.result)

    def _kill(self, server: Soaked) -> None:
        self.notes.away.set()
        server.kill()
        server.begin()
        self.result.lives.append([])
        self.notes.count("kills")
        # Clients that lost their connection reconnect within a moment.
        threading.Timer(2.0, self.notes.away.clear).start()

    # --- and rest -----------------------------------------------------------------------------------------

    def _to_rest(self, server: Soaked, looker: Looker) -> None:
        self.notes.calm.set()
        wire = Wire(server.port)
        self._end_what_waits(wire)
        # From the list, because a kill may have cost their creators the answer.
        self._forget_all(wire, "schedule")
        open_ = self._until_all_ended(wire)
        if open_:
            self.result.faults.append(f"{open_} runs and schedules have not ended within {REST_S:g} s")
        self.notes.over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            if thread.is_alive():
                self.result.faults.append(f"{thread.name} hangs")
        self._say_goodbye(wire)
        wire.close()
        # Some of what is left may still be about to end, so only what stays counts.
        left = {}
        deadline = time.monotonic() + self._plan.rest_s
        while time.monotonic() < deadline:
            time.sleep(QUIET_S)
            left = verdict.left(self._before, looker.rest())
            if not left:
                break
        self.result.faults += left.values()

    def _end_what_waits(self, wire: Wire) -> None:
        for workflow_id in ("waits", "signal"):
            for session_id in self._open(wire, f"&workflowId={workflow_id}"):
                self.notes.expect("the last", wire.post(f"/session/{session_id}/cancel", {}), 200, 404)

    def _open(self, wire: Wire, more: str = "") -> list[str]:
        found = []
        for status in _UNFINISHED:
            answer, page = wire.get(f"/session?limit=100&status={status}{more}")
            if self.notes.expect("a look", (answer, page), 200):
                found += [each["sessionId"] for each in page["items"]]
        return found

    def _until_all_ended(self, wire: Wire) -> int:
        deadline, open_ = time.monotonic() + REST_S, 1
        while open_ and time.monotonic() < deadline:
            time.sleep(0.2)
            found = self._open(wire)
            # A remaining schedule would start another run.
            self._forget_all(wire, "schedule")
            schedules = wire.get("/schedule?limit=500")[1]["items"]
            for session_id in found:
                # Its operator may not know that it is paused, because a kill cost the answer.
                with contextlib.suppress(KeyError):
                    wire.post(f"/session/{session_id}/resume", {})
            open_ = len(found) + len(schedules)
        return open_

    def _say_goodbye(self, wire: Wire) -> None:
        for mortal in self._mortals:
            mortal.leave(wire)
        for name in ("agent", "schedule"):
            self._forget_all(wire, name)

    def _forget_all(self, wire: Wire, name: str) -> None:
        for each in wire.get(f"/{name}?limit=500")[1]["items"]:
            self.notes.expect(name, wire.delete(f"/{name}/{each[f'{name}Id']}"), 204, 404)


def _verified(data: Path) -> list[str]:
    """Return what `opscore verify` finds in a directory."""
    command = [sys.executable, "-m", "opscore", "verify", "--data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return [] if done.returncode == 0 else [f"opscore verify: {done.returncode}: {done.stdout} {done.stderr}"]
