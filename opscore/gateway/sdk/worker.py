"""An agent that claims: a function does each task, and the worker claims, sends heartbeats and reports the outcome."""

import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import anyio
import httpx

from opscore.actors.groups import unwrapped
from opscore.gateway.sdk.agent_calls import AgentCalls, Claim
from opscore.gateway.sdk.calls import ClientError, ProblemError
from opscore.runtime.agents.context import TaskContext, working_on
from opscore.runtime.agents.raised import logged, raised
from opscore.runtime.delivery import Raised
from opscore.runtime.models import Assignment, shown_text
from opscore.runtime.values import RESULT_TOO_LARGE

Work = Callable[[Assignment], Awaitable[Any]]
"""Takes an attempt and returns its result (JSON), or raises to fail it: a `TaskFailed`, or anything else."""

Report = Callable[[Claim], Awaitable[None]]
"""Reports the outcome of an attempt."""

CLAIM_WAIT_S: Final = 30.0
"""How long a claim waits at the server, in seconds."""
STOP_WITHIN_S: Final = 20.0
"""How long an attempt may continue after the signal to stop, in seconds."""
OFFLINE_S: Final = 5.0
"""How long a worker that ends tries to report that, in seconds."""
_OVER: Final = frozenset({httpx.codes.NOT_FOUND, httpx.codes.CONFLICT})
_UNUSABLE: Final = frozenset({httpx.codes.UNPROCESSABLE_ENTITY, httpx.codes.REQUEST_ENTITY_TOO_LARGE})

_log = logging.getLogger("opscore.worker")


class Worker:
    """One agent, which works on one attempt at a time.

    Args:
        client: makes the calls.
        agent_id: the agent.
        work: the function.
        introduce: registers the agent.
    """

    def __init__(self, client: AgentCalls, agent_id: str, work: Work, introduce: Callable[[], Awaitable[Any]]) -> None:
        self._client = client
        self._agent_id = agent_id
        self._work = work
        self._introduce = introduce
        self._stopping = False
        self._over = False
        """Whether the server said that the current attempt is over."""
        self._reporting = False
        """Whether the function has ended and its outcome is being reported."""
        self._claiming = anyio.CancelScope()
        self._working = anyio.CancelScope()

    async def run(self) -> None:
        """Claim and work until `stop` is called. Cancelling this cancels the function as well.

        An unfinished attempt is given back, which spends no retry.

        Raises:
            ClientError: the server refuses the agent, or was away for longer than the client repeats its calls.
        """
        try:
            await self._begin()
            while not self._stopping:
                claim = await self._claimed()
                if claim is not None and not self._stopping:
                    await self._attempt(claim)
        finally:
            # Gives back the current attempt, or one in an answer that did not arrive, so that others get it at once.
            with anyio.move_on_after(OFFLINE_S, shield=True):
                try:
                    await self._client.report_state(self._agent_id, "offline")
                except ClientError as error:
                    _log.warning("agent %s could not report that it ends: %s", self._agent_id, error)

    def stop(self, within_s: float) -> None:
        """Stop claiming, and cancel the current attempt unless it ends within so many seconds."""
        self._stopping = True
        self._claiming.cancel()
        self._working.deadline = min(self._working.deadline, anyio.current_time() + within_s)

    async def run_until(self, signals: Sequence[signal.Signals], within_s: float) -> None:
        """Run until a signal comes, then at most `within_s` longer to finish the attempt; a second signal ends that."""
        try:
            async with anyio.create_task_group() as tasks:
                if signals:
                    tasks.start_soon(self._heed, signals, within_s)
                await self.run()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise unwrapped(group) from None

    async def _heed(self, signals: Sequence[signal.Signals], within_s: float) -> None:
        with anyio.open_signal_receiver(*signals) as received:
            async for number in received:
                left_s = 0.0 if self._stopping else within_s
                _log.info("agent %s stops within %g s, because of %s", self._agent_id, left_s, number.name)
                self.stop(left_s)

    async def _begin(self) -> None:
        await self._introduce()
        # Gives back the attempt that an earlier process of this agent had when it crashed.
        await self._client.report_state(self._agent_id, "initializing")

    async def _claimed(self) -> Claim | None:
        try:
            with anyio.CancelScope() as self._claiming:
                if self._stopping:
                    return None
                return await self._client.claim(self._agent_id, wait_s=CLAIM_WAIT_S)
        except ProblemError as error:
            if error.code != "agent_not_found":
                raise
            _log.warning("agent %s was deregistered and registers again", self._agent_id)
            await self._begin()
        return None

    async def _attempt(self, claim: Claim) -> None:
        deadline = anyio.current_time() + claim.timeout_s
        task = TaskContext(
            assignment=_assignment(self._agent_id, claim),
            say=lambda progress: self._say(claim, progress),
            time_left_s=lambda: deadline - anyio.current_time(),
        )
        self._working, self._over, self._reporting = anyio.CancelScope(deadline=deadline), False, False
        report: Report | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._show_life, claim)
                with self._working:
                    report = await self._outcome(task)
                if report is not None and not self._over:
                    self._reporting = True
                    await self._reported(claim, report)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise unwrapped(group) from None

    async def _outcome(self, task: TaskContext) -> Report:
        """Run the function; returns the report of its outcome."""
        try:
            with working_on(task):
                result = await self._work(task.assignment)
        except Exception as error:  # noqa: BLE001 (whatever the function raises fails its attempt)
            failure = raised(error) if self._over else logged(_log, task.assignment, error)
            return lambda claim: self._fail(claim, failure)
        return lambda claim: self._complete(claim, result)

    async def _reported(self, claim: Claim, report: Report) -> None:
        try:
            await report(claim)
        except ProblemError as error:
            if error.status not in _OVER:
                raise
            _log.warning("the outcome of task %s was reported too late: %s", claim.task_id, error.detail)

    async def _complete(self, claim: Claim, result: Any) -> None:
        try:
            await self._client.complete(claim.task_id, claim.attempt, result)
        except (TypeError, ValueError) as error:
            await self._fail(claim, Raised(message=f"the result is not JSON: {error}", retryable=False))
        except ProblemError as error:
            if error.status not in _UNUSABLE:
                raise
            refused = f"the result was refused: {error.detail}"
            await self._fail(claim, Raised(message=refused, code=RESULT_TOO_LARGE, retryable=False))

    async def _fail(self, claim: Claim, failure: Raised) -> None:
        message, code = shown_text(failure.message), shown_text(failure.code)
        await self._client.fail(claim.task_id, claim.attempt, message, code=code, retryable=failure.retryable)

    async def _show_life(self, claim: Claim) -> None:
        while True:
            try:
                await self._say(claim, None)
            except ProblemError as error:
                if error.status not in _OVER:
                    raise
                return
            await anyio.sleep(claim.heartbeat_every_s)

    async def _say(self, claim: Claim, progress: Any) -> None:
        try:
            await self._client.heartbeat(claim.task_id, claim.attempt, progress)
        except ProblemError as error:
            if error.status in _OVER:
                # A heartbeat that crosses with the report that ends the attempt is refused as well.
                if not self._over and not self._reporting:
                    _log.warning("agent %s stops task %s: %s", self._agent_id, claim.task_id, error.detail)
                self._over = True
                self._working.cancel()
            raise


def _assignment(agent_id: str, claim: Claim) -> Assignment:
    task = claim.task
    return Assignment(
        task_id=claim.task_id,
        task_key=task["taskKey"],
        name=task["name"],
        session_id=task["sessionId"],
        workflow_id=task["workflowId"],
        agent_id=agent_id,
        attempt=claim.attempt,
        parameters=task["parameters"],
        input=task["input"],
        tool=task.get("type") == "tool",
        lease_s=claim.lease_s,
        timeout_s=claim.timeout_s,
    )
