"""The clients and operators of a world: they start, steer and signal runs, and repeat requests until answered."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import attrs
import trio

from opscore.actors.errors import ActorError
from opscore.runtime.errors import (
    Conflict,
    DeadLetterNotFound,
    InvalidDocument,
    LimitExceeded,
    OpscoreError,
    ScheduleNotFound,
    SessionNotFound,
)
from opscore.runtime.models import SESSION_ENDED, Missed, Move, Schedule
from opscore.runtime.node import Node
from opscore.runtime.runs.triggering import Body, IdempotencyKey
from opscore.runtime.simulation.history import Ledger
from opscore.runtime.simulation.network import Network, Unreachable
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Rows
from opscore.runtime.simulation.scenario import Calendar, Cordon, Look, Scenario, Steering, Sweep, Telling, Trigger
from opscore.runtime.views import PAGE_MAX, DeadLetter, Page

ResultT = TypeVar("ResultT")

AGAIN_S: Final = 1.0
AGAIN_S_MAX: Final = 16.0
"""How long a client waits at most before it repeats a refused request."""
SWEPT: Final = "somebody has looked at it"
"""The reason that is given when a dead letter is discarded."""
_ASKED: Final = ("payload", "agent_id", "labels", "business_key", "says_body")
"""The fields of a trigger that promises look at."""
_REFUSED_FOR_GOOD: Final = (Conflict, InvalidDocument, LimitExceeded)


class Operators:
    """All callers of the node that are not agents.

    Args:
        scenario: what they ask for, and when.
        network: how they reach the node.
        ledger: where the node's answers are kept.
        note: called with who and what to record in the history.
        replied: called with every reply before its caller gets it.
        answered: called when one of them has its answer.
        now: returns the wall time.
        rows: the committed rows.
    """

    def __init__(
        self,
        *,
        scenario: Scenario,
        network: Network,
        ledger: Ledger,
        note: Callable[[str, str], None],
        replied: Callable[[Reply], None],
        answered: Callable[[], None],
        now: Callable[[], float],
        rows: Rows,
    ) -> None:
        self._scenario = scenario
        self._network = network
        self._ledger = ledger
        self._note = note
        self._replied = replied
        self._answered = answered
        self._now = now
        self._rows = rows
        self._sessions: dict[int, str] = {}
        # Set once a trigger was accepted or permanently refused.
        self._accepted = [trio.Event() for _ in scenario.triggers]
        self._ledger.unanswered.update(dict.fromkeys(range(len(scenario.triggers)), "nobody has asked yet"))

    def begin(self, nursery: trio.Nursery) -> None:
        """Start all of them."""
        if self._scenario.saved:
            nursery.start_soon(self._save)
        for number, trigger in enumerate(self._scenario.triggers):
            nursery.start_soon(self._trigger, number, trigger)
        for cordon in self._scenario.cordons:
            nursery.start_soon(self._cordon, cordon)
        for steering in self._scenario.steerings:
            nursery.start_soon(self._steer, steering)
        for number, telling in enumerate(self._scenario.tellings):
            nursery.start_soon(self._tell, number, telling)
        for number, calendar in enumerate(self._scenario.calendars):
            nursery.start_soon(self._keep, number, calendar)
        for sweep in self._scenario.sweeps:
            nursery.start_soon(self._sweep if sweep.code is None else self._sweep_at_once, sweep)
        for look in self._scenario.looks:
            nursery.start_soon(self._look, look)

    async def _insist(self, who: str, ask: Callable[[Node], Awaitable[Any]], trigger: int | None = None) -> Any:
        """Repeat a request until it is answered; return None if the node refuses it permanently.

        Args:
            who: who asks.
            ask: the request.
            trigger: the number of the trigger, if it is one.
        """
        again_s = AGAIN_S
        while True:
            try:
                return await self._network.call(ask)
            except _REFUSED_FOR_GOOD as error:
                self._note(who, f"is refused for good: {error}")
                if trigger is not None:
                    self._ledger.refused[trigger] = str(error)
                return None
            except (Unreachable, OpscoreError, ActorError) as error:
                self._note(who, f"is refused: {error}")
                if trigger is not None:
                    self._ledger.unanswered[trigger] = f"it was refused last: {error}"
                if isinstance(error, SessionNotFound) and error.identity in self._rows.gone:
                    return None
                await trio.sleep(again_s)
                again_s = min(2 * again_s, AGAIN_S_MAX)

    async def _save(self) -> None:
        for document in self._scenario.saved:
            await self._insist("operator", lambda node, document=document: node.save_definition(document))  # type: ignore[misc]

    async def _trigger(self, number: int, trigger: Trigger) -> None:
        """Start a run, and repeat the request until it is accepted or permanently refused."""
        await trio.sleep(trigger.at_s)
        key = trigger.key or f"trigger-{number}"
        document = self._scenario.workflows[trigger.workflow]
        body = {"workflow": trigger.workflow, "payload": trigger.payload} if trigger.says_body else Body.WHAT_IS_ASKED

        async def ask(node: Node) -> Any:
            return await node.trigger(
                document,
                payload=trigger.payload,
                agent_id=trigger.agent_id,
                idempotency=IdempotencyKey(path="/v1/simulation", key=key, body=body),
                labels=trigger.labels,
                business_key=trigger.business_key,
            )

        arguments = {"key": key, **attrs.asdict(trigger, filter=attrs.filters.include(*_ASKED))}
        arguments["workflow_id"] = document["id"]
        with self._ledger.asking_under(key):
            session = await self._insist(f"client {number}", ask, trigger=number)
            if session is not None:
                self._replied(Reply(call="trigger", arguments=arguments, value=session))
                self._sessions[number] = session.session_id
        self._ledger.unanswered.pop(number)
        self._accepted[number].set()
        self._answered()

    async def _begun(self, trigger: int) -> str | None:
        """Wait until a trigger is accepted, and return its session id; None if it was permanently refused."""
        await self._accepted[trigger].wait()
        return self._sessions.get(trigger)

    async def _cordon(self, cordon: Cordon) -> None:
        """Cordon an agent, and uncordon it after a while."""
        await trio.sleep(cordon.at_s)
        for cordoned in (True, False):
            while True:
                try:
                    await self._network.call(
                        lambda node: node.set_cordon(cordon.agent_id, cordoned=cordoned)  # noqa: B023 (called now)
                    )
                    break
                except (Unreachable, OpscoreError, ActorError):
                    await trio.sleep(AGAIN_S)
            if cordoned and cordon.drains:
                await self._drain(cordon)
            elif cordoned:
                await trio.sleep(cordon.lasts_s)

    async def _drain(self, cordon: Cordon) -> None:
        """Drain a cordoned agent: wait until it holds no lease, for the duration of the cordon at most."""
        until = trio.current_time() + cordon.lasts_s

        async def ask(node: Node) -> None:
            began, wait_s = trio.current_time(), max(0.0, until - trio.current_time())
            found = await node.drain_agent(cordon.agent_id, wait_s=wait_s)
            waited_s = trio.current_time() - began
            arguments = {"agent_id": cordon.agent_id, "wait_s": wait_s, "waited_s": waited_s}
            # Checked here, before anything else can happen.
            self._replied(Reply(call="drain", arguments=arguments, value=found))

        while trio.current_time() < until:
            try:
                await self._network.call(ask, patience_s=2 * cordon.lasts_s)
            except (Unreachable, OpscoreError, ActorError):
                await trio.sleep(AGAIN_S)
            else:
                return

    async def _steer(self, steering: Steering) -> None:
        """Steer a run; after a pause, resume it."""
        session_id = await self._begun(steering.trigger)
        if session_id is None:
            self._answered()
            return
        await trio.sleep(steering.at_s)
        while steering.when_ended and not self._has_ended(session_id):  # noqa: ASYNC110 (as somebody would look)
            await trio.sleep(AGAIN_S)
        if steering.below:
            session_id = next(self._below(session_id), session_id)
        await self._move(session_id, steering.move, steering.reason)
        if steering.move is Move.PAUSE:
            await trio.sleep(steering.lasts_s)
            await self._move(session_id, Move.RESUME)
        self._answered()

    def _has_ended(self, session_id: str) -> bool:
        session = self._rows.session(session_id)
        return session is not None and session.status in SESSION_ENDED

    def _below(self, session_id: str) -> Iterator[str]:
        """Return the unfinished child runs that tasks of a run wait for."""
        waiting = (task.child_session_id for task in self._rows.every_task_of(session_id) if task.awaits)
        return (each for each in waiting if each is not None and each in self._rows.unfinished)

    async def _move(self, session_id: str, move: Move, reason: str | None = None) -> None:
        self._ledger.ask(session_id, move)
        session = await self._insist("operator", lambda node: node.steer(session_id, move, reason=reason))
        if session is not None:
            self._note("operator", f"{move} of {session_id}: it is {session.status}")
            self._replied(Reply(call="steer", arguments={"session_id": session_id, "move": move}, value=session))

    async def _tell(self, number: int, telling: Telling) -> None:
        """Send a signal to a run, with an id, so that it takes effect only once."""
        session_id = await self._begun(telling.trigger)
        if session_id is None:
            self._answered()
            return
        await trio.sleep(telling.at_s)
        told = await self._insist(
            f"teller {number}",
            lambda node: node.signal(session_id, telling.name, payload=telling.payload, signal_id=f"telling-{number}"),
        )
        if told is not None:
            self._replied(Reply(call="signal", arguments={"session_id": session_id}, value=told))
        self._answered()

    async def _sweep(self, sweep: Sweep) -> None:
        """Discard or retry every dead letter; skip those that somebody else has dealt with meanwhile."""
        await trio.sleep(sweep.at_s)
        for letter in (await self._insist("operator", _dead_letters)).items:
            task_id, session_id = letter.task.task_id, letter.session.session_id
            if sweep.replays:
                self._ledger.ask(session_id, Move.RETRY)
                await self._insist("operator", lambda node, task_id=task_id: _unless_gone(node.replay(task_id)))  # type: ignore[misc]
            else:
                discarded = await self._insist(
                    "operator",
                    lambda node, task_id=task_id: _unless_gone(node.discard(task_id, SWEPT)),  # type: ignore[misc]
                )
                if discarded is not None:
                    self._note("operator", f"discards {task_id}")
                    self._replied(Reply(call="discard", arguments={"task_id": task_id}, value=discarded))
        self._answered()

    async def _sweep_at_once(self, sweep: Sweep) -> None:
        """Retry all dead letters with an error code, page by page."""
        await trio.sleep(sweep.at_s)
        cursor: str | None = None
        calls, count = 0, 0

        async def ask(node: Node) -> Any:
            nonlocal count
            letters = [each for each in node.dead_letters(limit=PAGE_MAX).items if _failed_by(each, sweep.code)]
            count = len(letters) if cursor is None else count
            self._ledger.retried |= {letter.session.session_id for letter in letters}
            found = await node.replay_all(code=sweep.code, cursor=cursor)
            arguments = {"letters": letters if cursor is None else None, "calls": calls, "count": count}
            self._replied(Reply(call="replay", arguments=arguments, value=found))
            return found

        while (found := await self._insist("operator", ask)) is not None and found.next_cursor is not None:
            cursor, calls = found.next_cursor, calls + 1
        self._answered()

    async def _look(self, look: Look) -> None:
        """List runs by their labels and business key, reading all pages at one moment."""
        await trio.sleep(look.at_s)
        wanted = {"labels": look.labels, "business_key": look.business_key}

        async def ask(node: Node) -> None:
            found, cursor, more = list[str](), None, True
            while more:
                page = node.sessions(
                    limit=look.limit, cursor=cursor, labels=look.labels, business_key=look.business_key
                )
                found += [session.session_id for session in page.items]
                cursor, more = page.next_cursor, page.next_cursor is not None
            self._replied(Reply(call="look", arguments=wanted, value=found))

        await self._insist("operator", ask)
        self._answered()

    async def _keep(self, number: int, calendar: Calendar) -> None:
        """Create a schedule, pause and resume it if asked to, and delete it after a while."""
        await trio.sleep(calendar.at_s)
        schedule_id, at = f"calendar-{number}", None if calendar.in_s is None else self._now() + calendar.in_s

        async def create(missed: Missed) -> Schedule | None:
            found: Schedule | None = await self._insist(
                "operator",
                lambda node: node.create_schedule(
                    calendar.workflow_id,
                    cron=calendar.cron,
                    at=at,
                    missed=missed,
                    payload={"number": number},
                    agent_id=calendar.agent_id,
                    schedule_id=schedule_id,
                ),
            )
            if found is not None:
                arguments = {"schedule_id": schedule_id, "missed": missed}
                self._replied(Reply(call="schedule", arguments=arguments, value=found))
            return found

        made = await create(calendar.missed)
        if made is not None:
            if calendar.other is not None:
                await create(calendar.other)
            pause_s = calendar.lasts_s if calendar.pauses_after_s is None else calendar.pauses_after_s
            await trio.sleep(min(pause_s, calendar.lasts_s))
            if pause_s < calendar.lasts_s:
                await self._insist("operator", lambda node: node.pause_schedule(schedule_id))
                await trio.sleep(calendar.lasts_s - pause_s)
                await self._insist("operator", lambda node: node.pause_schedule(schedule_id, paused=False))
                await trio.sleep(calendar.lasts_s)
            await self._insist("operator", lambda node: _without(node, schedule_id))
        self._answered()


def _failed_by(letter: DeadLetter, code: str | None) -> bool:
    return letter.task.error is not None and letter.task.error.code == code


async def _dead_letters(node: Node) -> Page[DeadLetter]:
    return node.dead_letters()


async def _unless_gone(asked: Awaitable[ResultT]) -> ResultT | None:
    """Return the result of a call; None if the dead letter does not exist any more."""
    try:
        return await asked
    except DeadLetterNotFound:
        return None


async def _without(node: Node, schedule_id: str) -> None:
    """Delete a schedule; if it is gone, an earlier call deleted it, and its reply was lost."""
    with contextlib.suppress(ScheduleNotFound):
        await node.delete_schedule(schedule_id)
