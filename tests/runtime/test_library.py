from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opscore.runtime.definitions.definition import Definition, parse
from opscore.runtime.errors import InvalidDocument, StoreDamaged
from opscore.runtime.journal.tables import REVISIONS, Revision
from opscore.runtime.library import KEPT_MAX, Library
from opscore.runtime.limits import Limits
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Submission


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    with LmdbStore(tmp_path, tables=[REVISIONS.name]) as opened:
        yield opened


def a_document(identity: str = "flow", tasks: int = 3) -> dict[str, Any]:
    return {"id": identity, "tasks": [{"taskId": f"t{n}", "agentCapability": "c"} for n in range(tasks)]}


def keep(store: LmdbStore, document: dict[str, Any]) -> Definition:
    definition = parse(document, Limits())
    revision = Revision(definition_key=definition.digest, document=document)
    store.apply([Submission(writes=(REVISIONS.put(revision),))])
    return definition


def test_a_definition_is_read_from_the_store_once_and_then_kept(store: LmdbStore) -> None:
    definition = keep(store, a_document())
    library = Library(Limits())
    with store.snapshot() as view:
        found = library.find(view, definition.digest)
        assert found == definition
    store.apply([Submission(writes=(REVISIONS.delete(definition.digest),))])
    with store.snapshot() as view:
        assert library.find(view, definition.digest) is found


def test_a_revision_that_a_run_needs_and_that_is_gone_is_named(store: LmdbStore) -> None:
    with store.snapshot() as view, pytest.raises(StoreDamaged, match="revision 0123abcd is damaged"):
        Library(Limits()).find(view, "0123abcd")


def test_a_run_keeps_its_definition_when_the_limit_becomes_smaller_than_it(store: LmdbStore) -> None:
    definition = keep(store, a_document(tasks=5))
    with store.snapshot() as view:
        assert Library(Limits(tasks_max=2)).find(view, definition.digest) == definition


def test_the_library_keeps_a_bounded_number_and_forgets_what_was_not_used_for_longest(store: LmdbStore) -> None:
    library = Library(Limits())
    kept = [parse(a_document(f"flow {number}", tasks=1), Limits()) for number in range(KEPT_MAX)]
    for definition in kept:
        library.keep(definition)
    with store.snapshot() as view:
        assert library.find(view, kept[0].digest) is kept[0]
        library.keep(parse(a_document("one more"), Limits()))
        assert library.find(view, kept[0].digest) is kept[0]
        with pytest.raises(StoreDamaged):
            library.find(view, kept[1].digest)


def test_content_that_was_validated_before_is_not_validated_again() -> None:
    library = Library(Limits(tasks_max=2))
    definition = parse(a_document(tasks=5), Limits())
    with pytest.raises(InvalidDocument):
        library.parsed(a_document(tasks=5))
    library.keep(definition)
    assert library.parsed(a_document(tasks=5)) is definition


def test_a_document_that_is_not_json_is_refused_like_any_other_fault() -> None:
    with pytest.raises(InvalidDocument):
        Library(Limits()).parsed({"id": "flow", "tasks": [{"taskId": "t", "parameters": {"x": object()}}], "more": 1})
