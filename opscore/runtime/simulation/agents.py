"""Simulated agents: they register, take work, do it as their model says, and misbehave as the dice say.

An agent is one loop that outlives the node: its calls fail while no node runs, and it goes on.
"""

import contextlib
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from opscore.actors.errors import ActorError
from opscore.runtime.agents.context import current_task
from opscore.runtime.delivery import Answered, Fact, NotReached
from opscore.runtime.errors import AgentNotFound, OpscoreError, StaleAttempt
from opscore.runtime.models import Assignment
from opscore.runtime.simulation.agent_voice import AGAIN_S, Stage, Voice
from opscore.runtime.simulation.fleet import AgentModel, Skill
from opscore.runtime.simulation.network import Unreachable
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.promises.tasks import FAILURE_MESSAGE

GONE_S_MAX: Final = 120.0
HANGS_S_MAX: Final = 6 * 3_600.0
SKEW_S_MAX: Final = 6 * 3_600.0


class SimulatedAgent(Voice):
    """One agent.

    Args:
        agent_id: its id.
        model: how it works.
        stage: the world around it.
        seed: the seed of its own random numbers.
    """

    def __init__(self, agent_id: str, model: AgentModel, stage: Stage, seed: int) -> None:
        super().__init__(agent_id, model, stage, seed)
        self._send, self._work = trio.open_memory_channel[Assignment](1_000)
        self._claims = 0
        self._late = list[Callable[[], Awaitable[object]]]()
        self._doubled = False

    async def live(self) -> None:
        """Join, leave and return when the model says so, and work in between."""
        model = self._model
        await trio.sleep(model.joins_at_s)
        if self._dice.happens("agent_skews"):
            self._skew_s = self._dice.rng("agent_skews").uniform(-SKEW_S_MAX, SKEW_S_MAX)
        self._disordered = self._dice.happens("agent_disorders")
        self._doubled = "claim" in (model.kind, model.returns_as) and self._dice.happens("agent_doubles")
        while True:
            with trio.CancelScope() as life:
                if model.leaves(self.agent_id) and (model.leaves_at_s or 0.0) > trio.current_time():
                    life.deadline = model.leaves_at_s or 0.0
                await self._serve()
            self._stage.note(self.agent_id, "is gone")
            self._leave()
            if model.returns_at_s is None:
                return
            await trio.sleep(max(0.0, model.returns_at_s - trio.current_time()))
            self._kind = model.returns_as or model.kind

    def _leave(self) -> None:
        self._stage.network.inboxes.pop(self.agent_id, None)
        self._stage.reachable(self.agent_id, False)
        self._drop_work()

    def _drop_work(self) -> None:
        with contextlib.suppress(trio.WouldBlock):
            while True:
                self._work.receive_nowait()

    async def _serve(self) -> None:
        if self._kind == "local":
            await self._serve_locally()
        while True:
            await self._enter()
            with contextlib.suppress(_Crashed):
                await (self._take() if self._kind == "push" else self._claim_all())
            self._leave()
            await self._dice.pause(self._dice.rng("agent_crashes").uniform(1.0, GONE_S_MAX))

    async def _enter(self) -> None:
        """Register, and report that it is idle."""
        if self._kind == "push":
            self._stage.network.inboxes[self.agent_id] = self._receive
        await self._insist(self._register)
        if self._kind == "push":
            self._stage.reachable(self.agent_id, True)
            await self._report("idle")

    # --- taking work --------------------------------------------------------------------------------------

    async def _receive(self, assignment: Assignment) -> Fact:
        """Answer a push, with the result if the agent does this attempt at once."""
        if self._stage.network.inboxes.get(self.agent_id) is None:
            return NotReached(reason="the agent is gone")
        if self._rng.random() < self._model.answers_at_once:
            return await self._answer(assignment)
        try:
            self._send.send_nowait(assignment)
        except trio.WouldBlock:
            return Answered(status=503, retry_after_s=1.0)
        return Answered(status=202)

    async def _answer(self, assignment: Assignment) -> Fact:
        """Do the work while the push waits, however long it takes."""
        skill = self._skill(assignment)
        slow = self._dice.happens("agent_vanishes")
        await trio.sleep(assignment.lease_s * 1.5 if slow else skill.latency.draw(self._rng))
        if self._dice.happens("agent_answers_twice"):
            # It reports a failure and that it is idle, and then answers as if it had succeeded.
            await self._fail(assignment, skill)
            await self._report("idle")
            await trio.sleep(self._dice.rng("agent_answers_twice").choice((0.0, 2.0, 12.0, 60.0)))
        elif self._rng.random() < skill.failure_rate:
            return Answered(status=422, body=skill.failure_code)
        result = self._result(assignment, skill)
        self._say(assignment, "complete", result)
        return Answered(status=200, body={"status": "completed", "result": result})

    async def _take(self) -> None:
        while True:
            assignment: Assignment | None = None
            with trio.move_on_after(self._model.report_every_s):
                assignment = await self._work.receive()
            if assignment is None:
                await self._report("idle")
                if self._dice.happens("agent_wanders"):
                    # Work may be on its way to it at this moment.
                    await self._report("active")
                    await self._report("idle")
            else:
                await self._do(assignment)

    async def _claim_all(self) -> None:
        """Claim work, with two processes if it is doubled; if one crashes, so does the other."""
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(1 + self._doubled):
                    nursery.start_soon(self._claim, nursery)
        except* _Crashed:
            raise _Crashed from None

    async def _claim(self, nursery: trio.Nursery) -> None:
        while True:
            self._claims += 1
            number = self._claims
            claim_id = f"{self.agent_id}-{number}" if self._rng.random() < 0.7 else None  # noqa: PLR2004 (most do)
            try:
                granted = await self._claim_once(claim_id)
            except AgentNotFound:
                await self._enter()
                continue
            if granted is not None:
                claim = claim_id or f"{self.agent_id}#{number}"
                self._note_claim(claim, granted)
                if claim_id is not None and self._dice.happens("agent_claims_late"):
                    nursery.start_soon(self._claim_late, claim_id)
                await self._do(granted.assignment)

    async def _serve_locally(self) -> None:
        """Register as a function of each node's process."""
        network = self._stage.network
        while True:
            await network.up.wait()
            up = network.up
            with contextlib.suppress(Unreachable, OpscoreError, ActorError):
                await network.call(lambda node: self._register(node, self._run_locally))
                self._stage.reachable(self.agent_id, True)
                await network.down(up)
            self._stage.reachable(self.agent_id, False)
            await trio.sleep(AGAIN_S)

    async def _run_locally(self, assignment: Assignment) -> Any:
        at_work = self._stage.at_work
        at_work[self.agent_id] = mine = (assignment.task_id, assignment.attempt)
        self._stage.by_functions.add(mine)
        try:
            return await self._compute(assignment)
        finally:
            if at_work.get(self.agent_id) == mine:
                del at_work[self.agent_id]

    async def _compute(self, assignment: Assignment) -> Any:
        skill = self._skill(assignment)
        if self._dice.happens("agent_hangs"):
            await self._dice.pause(HANGS_S_MAX)
        seconds = skill.latency.draw(self._rng)
        until = trio.current_time() + seconds
        # A function needs no heartbeats for its lease, because the node sees that it runs.
        beat_s = seconds if self._dice.happens("agent_forgets") else self._beat_s(assignment, math.inf)
        while (left := until - trio.current_time()) > 0:
            await trio.sleep(min(left, beat_s))
            if left > beat_s:
                await current_task().progress({"left": left})
        if self._rng.random() < skill.failure_rate or self._dice.happens("agent_breaks"):
            raise RuntimeError(skill.failure_code)
        result = self._result(assignment, skill)
        self._say(assignment, "complete", result)
        return result

    # --- doing it -----------------------------------------------------------------------------------------

    async def _do(self, assignment: Assignment) -> None:
        """Work on an attempt, and report its outcome."""
        dice, rng = self._dice, self._rng
        skill = self._skill(assignment)
        if dice.happens("agent_hangs"):
            self._stage.note(self.agent_id, f"hangs with {assignment.task_id}")
            await dice.pause(dice.rng("agent_hangs").uniform(60.0, HANGS_S_MAX))
            await self._report("idle")
            return
        seconds = skill.latency.draw(rng)
        if dice.happens("agent_crashes"):
            await trio.sleep(dice.rng("agent_crashes").uniform(0.0, seconds))
            raise _Crashed
        speaks = rng.random() < 0.8  # noqa: PLR2004 (some agents say nothing before they have done their work)
        if speaks:
            await self._report("active", {"opscore_task_id": assignment.task_id})
        if dice.happens("agent_lies"):
            # By the contract this completes an attempt whose agent was active, without a result.
            self._say(assignment, "complete", None)
            await self._report("idle")
        if dice.happens("agent_vanishes"):
            await trio.sleep(assignment.lease_s * dice.rng("agent_vanishes").uniform(1.01, 2.0))
        else:
            await self._work_for(assignment, seconds)
        if dice.happens("agent_goes"):
            await self._go()
            return
        if dice.happens("agent_breaks"):
            self._say(assignment, "fail", None)
            await self._report("error", {"error": "it broke"})
            await trio.sleep(AGAIN_S)
        elif rng.random() < skill.failure_rate:
            await self._fail(assignment, skill)
        else:
            await self._complete(assignment, skill, was_active=speaks)
        await self._say_late()
        await self._report("idle")

    async def _work_for(self, assignment: Assignment, seconds: float) -> None:
        until = trio.current_time() + seconds
        beat_s = seconds if self._dice.happens("agent_forgets") else self._beat_s(assignment, assignment.lease_s)
        beats = itertools.count()
        while (left := until - trio.current_time()) > 0:
            await trio.sleep(min(left, beat_s))
            if left > beat_s:
                # Every other heartbeat reports progress.
                progress = None if next(beats) % 2 else {"left": left}
                try:
                    lease = await self._stage.network.call(
                        lambda node, progress=progress: node.heartbeat(  # type: ignore[misc]
                            assignment.task_id, assignment.attempt, progress=progress
                        )
                    )
                except StaleAttempt:
                    continue
                except (Unreachable, OpscoreError, ActorError):
                    continue
                arguments = {"task_id": assignment.task_id, "attempt": assignment.attempt}
                self._stage.replied(Reply(call="heartbeat", arguments=arguments, value=lease))

    async def _complete(self, assignment: Assignment, skill: Skill, *, was_active: bool) -> None:
        """Complete an attempt, by a call or by a report that names it.

        A report without the attempt's number counts for a later attempt only if the agent was active in that.
        """
        task_id, attempt = assignment.task_id, assignment.attempt
        result = self._result(assignment, skill)
        ways = ("call", "call", "report", "report without a number")
        way = self._rng.choice(ways if was_active or attempt == 1 else ways[:3])

        async def say() -> None:
            self._say(
                assignment, "complete without a number" if way == "report without a number" else "complete", result
            )
            if way == "call":
                if await self._finish(lambda node: node.complete(task_id, attempt, result)):
                    arguments = {"task_id": task_id, "attempt": attempt, "result": result}
                    self._stage.replied(Reply(call="complete", arguments=arguments, value=None))
                return
            details = {"opscore_task_id": task_id, "result": result}
            if way == "report":
                details["opscore_attempt"] = attempt
            await self._report("idle", details)

        await say()
        if self._dice.happens("agent_answers_twice"):
            await say()
        if self._dice.happens("agent_answers_again"):
            self._late.append(say)

    async def _fail(self, assignment: Assignment, skill: Skill) -> None:
        task_id, attempt = assignment.task_id, assignment.attempt
        self._say(assignment, "fail" if skill.retryable else "fail for good", None)
        if await self._finish(
            lambda node: node.fail(
                task_id, attempt, FAILURE_MESSAGE, code=skill.failure_code, retryable=skill.retryable
            )
        ):
            arguments = {"task_id": task_id, "attempt": attempt}
            self._stage.replied(Reply(call="fail", arguments=arguments, value=None))

    async def _say_late(self) -> None:
        """Repeat the outcome of an old attempt during a later one."""
        if self._late and self._rng.random() < 0.5:  # noqa: PLR2004 (some time)
            await self._late.pop(0)()

    async def _go(self) -> None:
        """Go offline or deregister with work in hand, and come back."""
        if self._dice.rng("agent_goes").random() < 0.5:  # noqa: PLR2004 (an even chance)
            await self._report("offline")
        else:
            with contextlib.suppress(Unreachable, OpscoreError, ActorError):
                await self._stage.network.call(lambda node: node.deregister_agent(self.agent_id))
        await self._dice.pause(self._dice.rng("agent_goes").uniform(1.0, GONE_S_MAX))
        await self._enter()


class _Crashed(Exception):
    """The agent's process is gone."""
