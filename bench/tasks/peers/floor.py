"""The floor: the writes of opscore's sessions, made by its store alone.

A real session is recorded as it is committed: its submissions, each with preconditions, rows, index lines and journal
records. Then each waiter commits the same submissions under ids of its own, one after the other, and waits for each to
be durable. Between waiters and store is only `HandOver` of the durability benchmark, which makes one commit of all that
wait: no actors, no decisions, no codec, no results. Rows and ids are built before the clock starts. Any Python program
that keeps these promises with this store has to do at least as much, and has to decide and encode as well.
"""

import gc
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

import opscore
from bench.durability.waiters import HandOver, Outcome, run_waiters
from bench.tasks.protocol import WARM_UP_SHARE, Figures, Parameters, answer, figures
from bench.tasks.sessions import CAPABILITY, MAP_BYTES, TASKS_EACH, check_completed, workflow
from opscore.runtime.identity import new_id
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.writer import ThreadWriter
from opscore.runtime.store import ABSENT, Delete, Expect, Outcomes, Put, Store, Submission, Vacant

SEED: Final = 7
AGENT: Final = "agent-00000"
COMMITS_AHEAD: Final = 8_000
"""Sessions prepared for each second of the measurement; any more are built while the clock runs."""

Versions = dict[tuple[str, bytes], int]


@attrs.frozen(kw_only=True)
class Recording:
    """The writes of one session, and what has to exist before them."""

    definition: Submission
    agent: Submission
    session: tuple[Submission, ...]
    session_id: str


class _RecordingWriter:
    """The real writer; it also records what it wrote."""

    def __init__(self, store: Store, seen: list[Submission]) -> None:
        self._writer = ThreadWriter(store)
        self._seen = seen

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        self._seen.extend(batch)
        return await self._writer.apply(batch)

    async def settled(self) -> None:
        await self._writer.settled()

    def close(self) -> None:
        self._writer.close()


async def recorded(tasks: int) -> Recording:
    """Run two sessions and record the second: the first also writes what is written only once."""

    async def count(task: opscore.Assignment) -> int:
        return int(task.input["number"]) + 1

    seen: list[Submission] = []
    with tempfile.TemporaryDirectory(prefix="opscore-tasks-") as path:
        async with opscore.open_runtime(path, make_writer=lambda store: _RecordingWriter(store, seen)) as runtime:
            await runtime.register_agent(AGENT, capabilities=[CAPABILITY], handler=count)
            saved = await runtime.save_definition(workflow(tasks))
            agent, definition = seen
            first = await runtime.trigger(saved.workflow_id, payload={"number": 1_000})
            await runtime.wait(first.session_id)
            seen.clear()
            second = await runtime.trigger(saved.workflow_id, payload={"number": 1_001})
            await runtime.wait(second.session_id)
            written = tuple(seen)
    return Recording(definition=definition, agent=agent, session=written, session_id=second.session_id)


def renamed(submission: Submission, names: Sequence[tuple[bytes, bytes]]) -> Submission:
    """Return the same submission with other ids, which have the same length."""

    def of(text: bytes) -> bytes:
        for old, new in names:
            text = text.replace(old, new)
        return text

    return Submission(
        expects=tuple(
            Vacant(expect.table, of(expect.prefix))
            if isinstance(expect, Vacant)
            else Expect(expect.table, of(expect.key), expect.version)
            for expect in submission.expects
        ),
        writes=tuple(
            Delete(write.table, of(write.key))
            if isinstance(write, Delete)
            else Put(write.table, of(write.key), of(write.body), write.schema, write.entries)
            for write in submission.writes
        ),
        records=tuple(attrs.evolve(line, body=of(line.body)) for line in submission.records),
        new_work=submission.new_work,
    )


@attrs.frozen
class Step:
    """A submission to commit, and the versions that this waiter's rows have so far."""

    submission: Submission
    versions: Versions

    def current(self) -> Submission:
        """Return the submission with the versions that were written here, in place of the recorded ones."""
        expects = tuple(
            expect
            if isinstance(expect, Vacant) or expect.version == ABSENT
            else Expect(expect.table, expect.key, self.versions[expect.table, expect.key])
            for expect in self.submission.expects
        )
        own = self.submission
        return Submission(expects, own.writes, own.records, own.new_work)

    def committed(self, version: int) -> None:
        for write in self.submission.writes:
            if isinstance(write, Delete):
                self.versions.pop((write.table, write.key), None)
            else:
                self.versions[write.table, write.key] = version


class Commits:
    """The store, in the thread that `HandOver` gives it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        self._opened = open_store(self._path, map_bytes=MAP_BYTES)
        self._store = self._opened.__enter__()

    def apply(self, steps: Sequence[Step]) -> None:
        outcomes = self._store.apply([step.current() for step in steps])
        for step, outcome in zip(steps, outcomes, strict=True):
            if not isinstance(outcome, int):
                raise outcome
            step.committed(outcome)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)


class Sessions:
    """The sessions to write: copies of the recorded one, with new ids.

    Args:
        recording: the session to copy.
        waiters: number of waiters that write sessions.
        ahead: number of sessions to build beforehand for each waiter.
    """

    def __init__(self, recording: Recording, waiters: int, ahead: int) -> None:
        self._recording = recording
        self._random = Random(SEED)
        self._ahead = [[self._session(waiter) for _ in range(ahead)] for waiter in range(waiters)]

    def next_of(self, waiter: int) -> tuple[str, tuple[Submission, ...]]:
        ahead = self._ahead[waiter]
        return ahead.pop() if ahead else self._session(waiter)

    def agent_of(self, waiter: int) -> Submission:
        return renamed(self._recording.agent, [self._agent(waiter)])

    def _agent(self, waiter: int) -> tuple[bytes, bytes]:
        return AGENT.encode(), f"agent-{waiter:05}".encode()

    def _session(self, waiter: int) -> tuple[str, tuple[Submission, ...]]:
        session_id = new_id("ses", time.time(), self._random)
        names = [(self._recording.session_id.encode(), session_id.encode()), self._agent(waiter)]
        return session_id, tuple(renamed(submission, names) for submission in self._recording.session)


async def run(parameters: Parameters, acknowledged: set[str]) -> tuple[Outcome, int, int]:
    """Return the outcome, the number of submissions of a session, and the batches."""
    recording = await recorded(TASKS_EACH[parameters.workload])
    ahead = int(COMMITS_AHEAD * parameters.seconds) // len(recording.session) // parameters.clients
    sessions, batch_seconds = Sessions(recording, parameters.clients, ahead), list[float]()
    hand_over = HandOver(Commits(Path(parameters.folder)), batch_seconds)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hand_over.gather)
            shared: Versions = {}
            await hand_over.submit(Step(recording.definition, shared))
            versions = [dict(shared) for _ in range(parameters.clients)]
            for waiter, own in enumerate(versions):
                await hand_over.submit(Step(sessions.agent_of(waiter), own))

            async def submit(waiter: int, _: int) -> None:
                session_id, submissions = sessions.next_of(waiter)
                for submission in submissions:
                    await hand_over.submit(Step(submission, versions[waiter]))
                acknowledged.add(session_id)

            numbers = itertools.count(1)

            async def waited(seconds: float) -> Outcome:
                return await run_waiters(submit, waiters=parameters.clients, seconds=seconds, numbers=numbers)

            await waited(parameters.seconds * WARM_UP_SHARE)
            batch_seconds.clear()
            gc.collect()
            outcome = await waited(parameters.seconds)
            nursery.cancel_scope.cancel()
    finally:
        hand_over.close()
    return outcome, len(recording.session), len(batch_seconds)


def measure(parameters: Parameters) -> Figures:
    acknowledged: set[str] = set()
    outcome, submissions, batches = trio.run(run, parameters, acknowledged)
    tasks = TASKS_EACH[parameters.workload]
    check_completed(Path(parameters.folder), acknowledged, tasks)
    done = len(outcome.acknowledged) * tasks
    return figures(outcome, tasks) | {"commits": submissions / tasks, "syncs": batches / done}


if __name__ == "__main__":
    answer(measure)
