"""Calls on a node about single tasks, and about the attempts that agents hold."""

import logging
from typing import Any, Final

import trio

from opscore.actors.errors import ActorError
from opscore.actors.ref import Ref
from opscore.runtime import delivery, views
from opscore.runtime.calls.calls import Calls
from opscore.runtime.errors import StaleAttempt, StoreError, TaskNotFound, Unavailable
from opscore.runtime.journal.tables import LEASES, TASKS
from opscore.runtime.lease import Lease
from opscore.runtime.messages import to_agent
from opscore.runtime.messages.protocols import AgentProtocol
from opscore.runtime.models import Failure, Task, shown_text
from opscore.runtime.runs import history
from opscore.runtime.values import check_is_text, check_progress, copied, deep_copy, own
from opscore.runtime.views import PAGE_MAX, TaskView

AGAIN_S: Final = 1.0
"""How long to wait before a local function's heartbeat that could not be taken is sent again."""

_log = logging.getLogger("opscore.local")


class AttemptCalls(Calls):
    """Calls about attempts, which are named by task and number."""

    async def heartbeat(self, task_id: str, attempt: int, *, progress: Any = None) -> Lease:
        """Renew the lease of an attempt, and report its progress.

        Args:
            task_id: the task.
            attempt: its number.
            progress: JSON values, `progress_bytes_max` (4 KiB) at most, shown with the task while the attempt is open.
                None keeps the earlier progress.

        Returns:
            the lease as it is then.

        Raises:
            TaskNotFound, StaleAttempt: it is not the task's open attempt.
            LimitExceeded: the progress is larger than `progress_bytes_max`.
            ValueError, TypeError: the progress is not JSON.
        """
        check_progress(progress, self._core.limits)
        beat = to_agent.Heartbeat(task_id=task_id, attempt=attempt, progress=deep_copy(progress))
        return own(await self._speaker(task_id, attempt).ask(beat))

    async def _say_alive(self, task_id: str, attempt: int, progress: Any) -> None:
        """Send a local function's heartbeat until it is accepted: trouble with the store must not fail the function."""
        while True:
            try:
                await self.heartbeat(task_id, attempt, progress=progress)
            except (ActorError, StoreError, Unavailable) as error:
                if self._core.courier.is_cancelled(task_id, attempt):
                    raise StaleAttempt(task_id, attempt, "its function was cancelled") from error
                _log.warning("a heartbeat of %s attempt %d is sent again: %s", task_id, attempt, error)
            else:
                return
            await trio.sleep(AGAIN_S)

    async def complete(self, task_id: str, attempt: int, result: Any = None) -> None:
        """End an attempt with its result.

        Args:
            task_id: the task.
            attempt: its number.
            result: JSON values, `value_bytes_max` (256 KiB) at most, which are copied; later tasks read them as JSON.

        Raises:
            TaskNotFound, StaleAttempt: it is not the task's open attempt.
            LimitExceeded: the result is too large.
            ValueError, TypeError: the result is not JSON.
        """
        completed = delivery.Completed(result=copied(result, self._core.limits))
        await self._finish(task_id, attempt, completed)

    async def fail(
        self, task_id: str, attempt: int, error: str, *, code: str = "task_failed", retryable: bool = True
    ) -> None:
        """End an attempt as failed, which spends a retry.

        Args:
            task_id: the task.
            attempt: its number.
            error: what went wrong, for people; only its first 4,000 characters are kept, as of the code.
            code: names the kind of failure; `nonRetryable` of a definition refers to it.
            retryable: whether the task may be tried again.

        Raises:
            TaskNotFound, StaleAttempt: it is not the task's open attempt.
            TypeError: the error or the code is not a string.
        """
        for text in (error, code):
            check_is_text(text)
        # Any text is accepted, as from a function that raises; it is cut to what is kept.
        failure = Failure(message=shown_text(error), code=shown_text(code))
        failed = delivery.Failed(error=failure, retryable=retryable)
        await self._finish(task_id, attempt, failed)

    async def _finish(self, task_id: str, attempt: int, outcome: delivery.Completed | delivery.Failed) -> None:
        finish = to_agent.Finish(task_id=task_id, attempt=attempt, outcome=outcome)
        await self._speaker(task_id, attempt).ask(finish)

    def task(self, task_id: str) -> Task:
        """Return one task of a run.

        Args:
            task_id: the task.

        Raises:
            TaskNotFound: there is none.
        """
        found = self._read(lambda view: TASKS.read(view, task_id).row)
        if found is None:
            raise TaskNotFound(task_id)
        return found

    def task_view(self, task_id: str) -> TaskView:
        """Return one task of a run with the progress of its open attempt.

        Args:
            task_id: the task.

        Raises:
            TaskNotFound: there is none.
        """
        found = self._read(lambda view: views.task_view(view, task_id))
        if found is None:
            raise TaskNotFound(task_id)
        return found

    def lease(self, agent_id: str) -> Lease | None:
        """Return the lease that an agent holds, or None if it holds none or is not registered.

        Args:
            agent_id: the agent.
        """
        return self._read(lambda view: LEASES.read(view, agent_id).row)

    def holder(self, task_id: str, attempt: int) -> str | None:
        """Return the agent that has or had an attempt, or None for an attempt that has not begun.

        A past attempt is looked up in the newest 500 records of its run; if it is not among them, the agent that had
        the task last is returned. A future attempt has no agent: it may begin with any agent at any moment.

        Args:
            task_id: the task.
            attempt: the number of the attempt, from 1.

        Raises:
            TaskNotFound: there is no such task.
        """
        return self._holder(self.task(task_id), attempt)

    def _holder(self, task: Task, attempt: int) -> str | None:
        if attempt > task.attempt:
            return None
        if attempt == task.attempt or attempt < 1:
            return task.agent_id
        page = self._read(lambda view: history.history(view, task.session_id, limit=PAGE_MAX, cursor=None))
        told = [] if page is None else history.attempts_of(page.items)
        had = [each.agent_id for each in told if (each.task_id, each.number) == (task.task_id, attempt)]
        return had[0] if had else task.agent_id

    def _speaker(self, task_id: str, attempt: int) -> Ref[AgentProtocol]:
        """Return the actor of the agent that holds an attempt, whether the attempt is open or was taken back.

        Raises:
            TaskNotFound, StaleAttempt: no agent holds it.
        """
        task = self.task(task_id)
        agent_id = self._holder(task, attempt)
        is_out = task.attempt == attempt and task.is_out
        if agent_id is not None and (is_out or self._is_taken_back(agent_id, task_id, attempt)):
            return self._core.addresses.agent(agent_id)
        raise StaleAttempt(task_id, attempt, f"the task is {task.status} at attempt {task.attempt}")

    def _is_taken_back(self, agent_id: str, task_id: str, attempt: int) -> bool:
        """Whether the agent holds a revoked lease of this attempt; its actor then refuses the call and frees it."""
        lease = self.lease(agent_id)
        return lease is not None and lease.revoked and (lease.task_id, lease.attempt) == (task_id, attempt)
