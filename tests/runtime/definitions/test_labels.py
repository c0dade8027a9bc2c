# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Runs are found by labels and business keys, alone and together with where they stand."""

import random
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from opscore.runtime.errors import InvalidDocument
from opscore.runtime.journal.tables import SESSIONS_BY_BUSINESS_KEY, SESSIONS_BY_LABEL, labelled
from opscore.runtime.limits import Limits
from opscore.runtime.models import Session, SessionStatus
from opscore.runtime.node import Node
from tests.runtime.world import World, begin, one_task

EMPTY: dict[str, Any] = {"id": "empty", "tasks": []}


def found(node: Node, **filters: Any) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = node.sessions(limit=3, cursor=cursor, **filters)
        ids += [session.session_id for session in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return ids


async def test_a_run_has_the_labels_of_its_trigger_and_those_of_its_definition_that_it_does_not_give(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path).node() as node:
        definition = {**EMPTY, "labels": {"team": "blue", "stage": "prod"}}
        session = await node.trigger(definition, labels={"team": "red", "tenant": "x:y"}, business_key="order-7")
        assert session.labels == {"team": "red", "tenant": "x:y", "stage": "prod"}
        assert session.business_key == "order-7"
        plain = await node.trigger(EMPTY)
        assert (plain.labels, plain.business_key) == ({}, None)
    async with World(tmp_path).node() as node:
        assert node.session(session.session_id).session == session


async def test_what_can_be_no_label_of_a_run_stays_a_note_of_its_definition(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    notes = {"a:b": "x", "": "x", "n" * 65: "x", "long": "x" * 257, "number": 5, "list": ["x"], "none": None}
    many = {f"m{number}": "x" for number in range(30)}
    async with World(tmp_path, limits=Limits(labels_max=4)).node() as node:
        session = await node.trigger({**EMPTY, "labels": {**notes, "team": "blue"}})
        assert session.labels == {"team": "blue"}
        crowded = await node.trigger({**EMPTY, "labels": many}, labels={"team": "red"})
        assert crowded.labels == {"team": "red", "m0": "x", "m1": "x", "m2": "x"}


async def test_labels_and_business_keys_are_refused_each_by_its_limit(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = Limits(labels_max=2, label_name_bytes_max=4, label_value_bytes_max=5, business_key_bytes_max=6)
    async with World(tmp_path, limits=limits).node() as node:
        fits = await node.trigger(EMPTY, labels={"äb": "äb", "c": ""}, business_key="äbcde")
        assert fits.labels == {"äb": "äb", "c": ""}
        wrong: list[tuple[dict[str, Any], list[str]]] = [
            ({"labels": {"a": "1", "b": "2", "c": "3"}}, ["labels: labels_max allows 2, found 3"]),
            ({"labels": {"äbcd": "", "": ""}}, ["label_name_bytes_max", "label_name_bytes_max"]),
            ({"labels": {"a:b": ""}}, ["without a colon"]),
            ({"labels": {"a": "äöü"}}, ["label_value_bytes_max"]),
            ({"business_key": ""}, ["business_key_bytes_max"]),
            ({"business_key": "äöüx", "labels": {"a": "123456"}}, ["labels.a", "businessKey: expected 1 to 6 bytes"]),
        ]
        for arguments, messages in wrong:
            with pytest.raises(InvalidDocument) as refused:
                await node.trigger(EMPTY, **arguments)
            told = [f"{fault.path}: {fault.message}" for fault in refused.value.faults]
            assert len(told) == len(messages)
            assert all(part in line for part, line in zip(messages, told, strict=True)), told


async def test_runs_are_found_by_any_of_what_they_have_together_newest_first(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    rng = random.Random(7)
    async with World(tmp_path).node() as node:
        runs: list[Session] = []
        for _ in range(120):
            await trio.sleep(1)
            labels = {name: rng.choice(("blue", "red")) for name in ("team", "stage") if rng.random() < 0.7}
            document = rng.choice((EMPTY, one_task("waits")))
            key = rng.choice((None, "order-1", "order-2"))
            runs.append(await begin(node, document, labels=labels, business_key=key))
        newest_first = [node.session(run.session_id).session for run in reversed(runs)]
        for _ in range(200):
            labels = {name: rng.choice(("blue", "red")) for name in ("team", "stage") if rng.random() < 0.4}
            status = rng.choice((None, SessionStatus.COMPLETED, SessionStatus.STARTED))
            workflow_id = rng.choice((None, "empty", "waits"))
            key = rng.choice((None, "order-1"))
            expected = [
                run.session_id
                for run in newest_first
                if (status is None or run.status is status)
                and (workflow_id is None or run.workflow_id == workflow_id)
                and (key is None or run.business_key == key)
                and all(run.labels.get(name) == value for name, value in labels.items())
            ]
            filters = {"status": status, "workflow_id": workflow_id, "labels": labels, "business_key": key}
            assert found(node, **filters) == expected


async def test_labels_and_business_keys_are_looked_up_and_not_looked_for(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        rare = await node.trigger(EMPTY, labels={"team": "red"}, business_key="order-7")
        for _ in range(30):
            await node.trigger(EMPTY, labels={"team": "blue"})
        monkeypatch.setattr("opscore.runtime.views.SCANNED_MAX", 5)
        for filters in ({"labels": {"team": "red"}}, {"business_key": "order-7"}):
            page = node.sessions(**filters)
            assert ([each.session_id for each in page.items], page.next_cursor) == ([rare.session_id], None)


@given(*[st.tuples(st.text(max_size=70), st.text(max_size=70))] * 2)
def test_no_place_of_a_label_begins_another(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert one == other or not labelled(*one).startswith(labelled(*other))


async def test_what_a_run_was_found_by_goes_with_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=Limits(sessions_keep_s=100, idempotency_keep_s=0))
    async with world.node() as node:
        await node.trigger(EMPTY, labels={"team": "red"}, business_key="order-7")
        with node._core.store.snapshot() as view:  # noqa: SLF001 (an index is seen in the store alone)
            assert len(list(SESSIONS_BY_LABEL.lines(view))) == len(list(SESSIONS_BY_BUSINESS_KEY.lines(view))) == 1
        await trio.sleep(500)
        with node._core.store.snapshot() as view:  # noqa: SLF001
            assert [*SESSIONS_BY_LABEL.lines(view), *SESSIONS_BY_BUSINESS_KEY.lines(view)] == []


async def test_a_list_refuses_what_is_no_page_of_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path).node() as node:
        session = await node.trigger(EMPTY)
        with pytest.raises(InvalidDocument, match="cursor: expected the cursor of a page of sessions"):
            node.sessions(cursor="bogus")
        for limit in (0, -1, 501, True, "5"):
            told = f"limit: expected a whole number from 1 to 500, found {limit!r}"
            lists: list[Any] = [node.sessions, node.agents, node.definitions, node.schedules, node.dead_letters]
            for read in lists:
                with pytest.raises(InvalidDocument, match=told):
                    read(limit=limit)
            with pytest.raises(InvalidDocument, match=told):
                node.history(session.session_id, limit=limit)  # type: ignore[arg-type]
