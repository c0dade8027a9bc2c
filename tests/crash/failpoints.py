"""Named moments at which a server kills itself, and wrappers of its ports that pass them.

Failpoints are not in the code of the runtime, but in wrappers of its ports: the writer, the deliveries to agents and
the ASGI application.
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
from opscore.runtime.journal.writer import Writer
from opscore.runtime.models import Agent, Assignment
from opscore.runtime.store import Outcomes, Submission


class Moment(StrEnum):
    """Where a server can be killed from inside."""

    RECOVERY_BEGUN = "recovery.begun"
    """The store is open, and recovery has not begun."""
    RECOVERY_DONE = "recovery.done"
    """Recovery is done, and nothing is served yet."""
    COMMIT_BEFORE = "commit.before"
    """A batch has reached the writer, and is not applied."""
    COMMIT_DURING = "commit.during"
    """The writer's thread is somewhere within the batch."""
    COMMIT_AFTER = "commit.after"
    """The batch is synced, and nobody has been answered."""
    COMMIT_ANSWERED = "commit.answered"
    """The actors have been answered, and hardly any has acted on it."""
    DELIVERY_BEFORE = "delivery.before"
    """An attempt is about to be delivered to its agent."""
    DELIVERY_AFTER = "delivery.after"
    """The agent has answered, and the node does not know yet."""
    REPLY_BEFORE = "reply.before"
    """The node has acted on a request, and no part of the answer is sent."""
    REPLY_AFTER = "reply.after"
    """The answer to a request that may change something is sent."""


def strike_now() -> None:
    """Die as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    # The signal may be taken by another thread; nothing more may happen in this one.
    threading.Event().wait()


@attrs.define
class Failpoint:
    """Kills the process when a moment is passed for the Nth time.

    Args:
        moment: the moment; None to live until killed from outside.
        after: N.
        delay_s: for `commit.during`, how far into the commit the kill comes.
        say: called with the phase (`recovery` or `serving`) right before the kill.
    """

    moment: Moment | None
    after: int
    delay_s: float
    say: Callable[[str], None]
    recovering: bool = True
    passings: int = 0

    def passed(self, moment: Moment) -> None:
        """Count a passing, and kill the process if it is the Nth."""
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
    """A delivery to agents that passes the moments of a delivery."""

    def __init__(self, inner: Delivery, failpoint: Failpoint) -> None:
        self._inner = inner
        self._failpoint = failpoint

    def reaches(self, agent: Agent) -> bool:
        """Whether this agent can be reached."""
        return self._inner.reaches(agent)

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Deliver the attempt."""
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
