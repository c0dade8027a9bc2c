"""A data directory with its clients, across the kills of its servers."""

import random
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from opscore.runtime.models import SESSION_ENDED, SessionStatus
from tests.crash import checks
from tests.crash.clients import CLERKS, Agent, Claimer, Clerk, Client, Customer
from tests.crash.history import History
from tests.crash.ledger import Ledger, Order, Work
from tests.crash.plan import Plan
from tests.crash.process import PATIENCE_S, ServerProcess
from tests.crash.pushed import Office, PushedAgent
from tests.crash.rows import Reader
from tests.crash.server import Orders
from tests.crash.wire import Gone, Wire

FINISH_S: Final = 60.0
"""How long everything may take to end after the last kill; forgotten leases expire in 1 s."""
STOPPED: Final = "none, it had stopped"
"""What the report calls the end of a server that was told to stop, and did so before it could be killed."""
_STATUSES_OPEN: Final = [status for status in SessionStatus if status not in SESSION_ENDED]


@attrs.frozen(kw_only=True)
class Death:
    """How a server ended, and what was found then."""

    how: str
    """The failpoint's name, or `outside`."""
    phase: str
    """`recovery`, up to the moment at which it listens, `serving`, or `stopping`."""
    served_s: float
    violations: list[str]


class Stage:
    """A data directory, its ledger and its clients.

    Args:
        path: the data directory.
        seed: of what the clients do.
        office: the server in front of the agents that work is pushed to.
        bug: planted in every server.
    """

    def __init__(self, path: Path, *, seed: str, office: Office, bug: str | None = None) -> None:
        self.path = path
        self.ledger = Ledger()
        self._bug = bug
        self._rng = random.Random(f"{seed} stage")
        self._reader = Reader(path)
        self._history = History()
        self._customers = [Customer(f"customer-{number}", self.ledger, seed) for number in range(2)]
        self._agents: list[Agent] = [Claimer(f"claimer-{number}", self.ledger, seed) for number in range(5)]
        self._agents += [PushedAgent(f"pushed-{number}", self.ledger, seed, office) for number in range(3)]
        clerks = [Clerk(name, self.ledger, seed) for name in CLERKS]
        self._clients: list[Client] = [*self._customers, *self._agents, *clerks]

    def live(self, process: ServerProcess, plan: Plan) -> Death:
        """Let a server serve until it dies as planned, then check what it left behind."""
        self.ledger.lives += 1
        process.begin(
            Orders(data=str(self.path), moment=plan.moment, after=plan.after, delay_s=plan.delay_s, bug=self._bug)
        )
        said = process.line(plan.wait_s if plan.starting else PATIENCE_S)
        served_s, phase = 0.0, "recovery"
        if said is not None and said.startswith("listening"):
            served_s, phase, said = self._serve(process, int(said.split()[1]), plan)
        elif said:
            # What is struck within a commit goes on for a moment.
            process.line(PATIENCE_S)
        code = process.kill()
        how, found = "outside", []
        if said:
            how, phase = str(plan.moment), said.split()[1]
        elif said is None and phase == "stopping" and code == 0:
            how = STOPPED
        elif said is None:
            how = "itself"
            found.append(f"the server ended by itself with {code}: see its log")
        elif phase == "recovery" and not plan.starting:
            found.append(f"the server did not listen within {PATIENCE_S:g} s")
        return Death(how=how, phase=phase, served_s=served_s, violations=found + self._look())

    def _serve(self, process: ServerProcess, port: int, plan: Plan) -> tuple[float, str, str | None]:
        """Load the server until it dies or its time is over; return how long, its phase, and its last line."""
        over = threading.Event()
        threads = self._load(port, over)
        began, phase = time.monotonic(), "serving"
        try:
            said = process.line(plan.wait_s)
            if said == "" and plan.stopping_s is not None:
                phase = "stopping"
                process.tell_to_stop()
                said = process.line(plan.stopping_s)
            if said:
                process.line(PATIENCE_S)
            process.kill()
            served_s = time.monotonic() - began
        finally:
            over.set()
        self._joined(threads)
        return served_s, phase, said

    def _load(self, port: int, over: threading.Event) -> list[threading.Thread]:
        doings = [(client.name, client.act) for client in self._clients]
        threads = [
            threading.Thread(target=self._keep_doing, args=(act, port, over), name=name, daemon=True)
            for name, act in doings
        ]
        threads.append(threading.Thread(target=self._ask_again, args=(port,), name="inspector", daemon=True))
        for thread in threads:
            thread.start()
        return threads

    def _keep_doing(self, act: Any, port: int, over: threading.Event) -> None:
        wire = Wire(port)
        try:
            while not over.is_set():
                act(wire, over)
        except Gone:
            pass
        except Exception:  # noqa: BLE001 (whatever it was, the campaign has to say so)
            self.ledger.surprise(f"{threading.current_thread().name} failed: {traceback.format_exc()}")
        finally:
            wire.close()

    def _joined(self, threads: Sequence[threading.Thread]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.ledger.surprise(f"{thread.name} hangs")

    def _ask_again(self, port: int) -> None:
        """Ask through the API for what was acknowledged before the kill."""
        wire = Wire(port)
        try:
            orders, works = self.ledger.to_ask_for(self._rng)
            for order in orders:
                self._ask_for_order(wire, order)
            for work in works:
                self._ask_for_work(wire, work)
        except Gone:
            pass
        except Exception:  # noqa: BLE001 (as above)
            self.ledger.surprise(f"asking again failed: {traceback.format_exc()}")
        finally:
            wire.close()

    def _ask_for_order(self, wire: Wire, order: Order) -> None:
        status, session = wire.get(f"/session/{order.session_id}")
        if status != 200 or session["payload"] != order.payload:
            self.ledger.surprise(f"order {order.key} was acknowledged, and its session is shown as {status} {session}")
        status, again = wire.post(order.path, order.body, **{"Idempotency-Key": order.key})
        # As many runs may be open as are admitted: then it is refused for now.
        if status != 503 and (status != 202 or again["sessionId"] != order.session_id):
            self.ledger.surprise(f"order {order.key} started {order.session_id}, repeated it got {status} {again}")

    def _ask_for_work(self, wire: Wire, work: Work) -> None:
        status, task = wire.get(f"/task/{work.task_id}")
        expected = ("completed", work.attempt, work.completed)
        if status != 200 or (task["status"], task["attempt"], task["result"]) != expected:
            self.ledger.surprise(f"{work} was acknowledged, and is shown as {status} {task}")

    def _look(self, *, whole: bool = False) -> list[str]:
        """Compare the ledger with the directory."""
        if not (self.path / "data.mdb").exists():
            return ["nothing was made"] if self.ledger.accepted else []
        rows = self._reader.read(whole=whole)
        found = checks.violations(self.ledger, rows, self._history)
        if whole:
            found += checks.unfinished(self.ledger, rows)
        surprises, self.ledger.surprises = self.ledger.surprises, []
        return surprises + found

    def finish(self, process: ServerProcess) -> Death:
        """Let everything end without further kills, and check all of it."""
        for customer in self._customers:
            customer.closed.set()
        for agent in self._agents:
            agent.careful.set()
        process.begin(Orders(data=str(self.path), bug=self._bug))
        said = process.line(PATIENCE_S) or ""
        if not said.startswith("listening"):
            process.kill()
            return Death(how="itself", phase="recovery", served_s=0.0, violations=["the server did not listen"])
        over = threading.Event()
        port = int(said.split()[1])
        threads, began = self._load(port, over), time.monotonic()
        try:
            self._until_all_ended(port, began + FINISH_S)
        finally:
            over.set()
        self._joined(threads)
        code = process.stop()
        found = [] if code == 0 else [f"the server that was told to stop ended with {code}"]
        served_s = time.monotonic() - began
        return Death(how=STOPPED, phase="stopping", served_s=served_s, violations=found + self._look(whole=True))

    def _until_all_ended(self, port: int, deadline: float) -> None:
        """Wait until no session is open and no order unanswered; the checks report what is open at the deadline."""
        wire = Wire(port)
        try:
            while time.monotonic() < deadline:
                waiting = any(customer.waits for customer in self._customers)
                if not waiting and not any(
                    wire.get(f"/session?limit=1&status={status}")[1]["items"] for status in _STATUSES_OPEN
                ):
                    return
                time.sleep(0.05)
        except Gone:
            self.ledger.surprise("the server ended while everything was left to finish")
        finally:
            wire.close()
