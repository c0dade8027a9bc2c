"""Named moments at which a server kills itself, and the ports that pass them.

A failpoint is no code of the runtime: it stands in wrappers of the ports that production has, which are the writer, the
ways to agents and the ASGI application.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import attrs
import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore.runtime.delivery import Delivery, Fact
from opscore.runtime.models import Agent, Assignment
from opscore.runtime.store import Outcomes, Submission
from opscore.runtime.writer import Writer


class Moment(StrEnum):
    """Where a server can be killed from inside."""

    RECOVERY_BEGUN = "recovery.begun"
    """The store is open, and nothing is taken up yet."""
    RECOVERY_DONE = "recovery.done"
    """Everything is taken up, and nothing is served yet."""
    COMMIT_BEFORE = "commit.before"
    """A batch is handed to the writer, and not applied."""
    COMMIT_DURING = "commit.during"
    """The writer's thread is at the batch, wherever it may be."""
    COMMIT_AFTER = "commit.after"
    """The batch is synced, and nobody is answered."""
    COMMIT_ANSWERED = "commit.answered"
    """The actors are answered, and hardly a task has acted on it."""
    DELIVERY_BEFORE = "delivery.before"
    """An attempt is about to be handed to its agent."""
    DELIVERY_AFTER = "delivery.after"
    """The agent has answered, and the node does not know yet."""
    REPLY_BEFORE = "reply.before"
    """The node has acted on a request, and nothing of the answer is sent."""
    REPLY_AFTER = "reply.after"
    """The answer to a request that may change something is sent."""


def strike_now() -> None:
    """Die as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    # The signal may be taken by another thread; nothing more may happen in this one.
    threading.Event().wait()


@attrs.define
class Failpoint:
    """Kills the process at the Nth passing of its moment.

    Args:
        moment: which one; with none the process lives until it is killed from outside.
        after: N.
        delay_s: for `commit.during`, how long the thread is given.
        say: called with the phase (`recovery` or `serving`) right before the end.
    """

    moment: Moment | None
    after: int
    delay_s: float
    say: Callable[[str], None]
    recovering: bool = True
    passings: int = 0

    def passed(self, moment: Moment) -> None:
        """Count a passing, and strike if it is the one."""
        if moment is not self.moment:
            return
        self.passings += 1
        if self.passings != self.after:
            return
        self.say("recovery" if self.recovering else "serving")
        if moment is Moment.COMMIT_DURING:
            threading.Thread(target=self._strike_soon, daemon=True).start()
        else:
            strike_now()

    def _strike_soon(self) -> None:
        until = time.perf_counter() + self.delay_s
        # A sleep would be too coarse for moments within a commit, which takes less than a millisecond.
        while time.perf_counter() < until:
            pass
        strike_now()


class FailingWriter:
    """A writer that passes the moments of a commit."""

    def __init__(self, inner: Writer, failpoint: Failpoint) -> None:
        self._inner = inner
        self._failpoint = failpoint

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch."""
        self._failpoint.passed(Moment.COMMIT_BEFORE)
        self._failpoint.passed(Moment.COMMIT_DURING)
        outcomes = await self._inner.apply(batch)
        self._failpoint.passed(Moment.COMMIT_AFTER)
        # The journal answers everyone of the batch before it waits again, and this comes after that.
        trio.lowlevel.current_trio_token().run_sync_soon(self._failpoint.passed, Moment.COMMIT_ANSWERED)
        return outcomes

    async def settled(self) -> None:
        """Wait until no batch is under way."""
        await self._inner.settled()

    def close(self) -> None:
        """Take no more batches."""
        self._inner.close()


class FailingDelivery:
    """A way to agents that passes the moments of a delivery."""

    def __init__(self, inner: Delivery, failpoint: Failpoint) -> None:
        self._inner = inner
        self._failpoint = failpoint

    def reaches(self, agent: Agent) -> bool:
        """Whether there is a way to this agent."""
        return self._inner.reaches(agent)

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Hand the attempt over."""
        self._failpoint.passed(Moment.DELIVERY_BEFORE)
        fact = await self._inner.deliver(assignment, agent)
        self._failpoint.passed(Moment.DELIVERY_AFTER)
        return fact


class FailingApp:
    """An application that passes the moments of an answer to a request that may change something."""

    def __init__(self, inner: ASGIApp, failpoint: Failpoint) -> None:
        self._inner = inner
        self._failpoint = failpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] == "GET":
            await self._inner(scope, receive, send)
            return

        async def passing(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._failpoint.passed(Moment.REPLY_BEFORE)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._failpoint.passed(Moment.REPLY_AFTER)

        await self._inner(scope, receive, passing)


def say(line: str) -> None:
    """Write a line that survives the process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
