"""Rows keep their shape, or get a new schema number and a way up from the old one."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from opscore.runtime import codec
from opscore.runtime.errors import StoreDamaged
from opscore.runtime.journal.tables import ALL_TABLES, RECORDS
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.store import Stored

SHAPES: dict[str, dict[str, dict[str, str]]] = json.loads(
    (Path(__file__).parent / "stores" / "schemas.json").read_text(encoding="utf-8")
)
"""The fields of every row in every schema there ever was; a schema that has been written is never changed."""


def shape(kind: Any) -> dict[str, str]:
    """The fields of a row, whether each may be missing, and its type; those of rows within it under their path."""
    fields: dict[str, str] = {}
    for field in attrs.fields(kind):
        written = "required" if field.default is attrs.NOTHING else "optional"
        named = field.type.__name__ if isinstance(field.type, type) else str(field.type).replace("typing.", "")
        fields[field.name] = f"{written} {named}"
        for inner in (field.type, *getattr(field.type, "__args__", ())):
            if attrs.has(inner):
                fields |= {f"{field.name}.{name}": text for name, text in shape(inner).items()}
    return fields


@pytest.mark.parametrize("table", [*ALL_TABLES, RECORDS], ids=lambda table: table.name)
def test_a_row_has_the_shape_that_its_schema_was_given(table: Table[Any]) -> None:
    known = SHAPES[table.name]
    assert shape(table.kind) == known[str(table.schema)], (
        f"rows of {table.name} have changed: raise the table's schema, write an upcaster from the one before, keep a "
        "data file of the release before in the folder `stores` (see make_store.py), and add the new shape there"
    )
    assert sorted(map(int, known)) == list(range(1, table.schema + 1)), "no schema is left out or forgotten"


@attrs.frozen(kw_only=True)
class Parcel:
    """A row that has been changed twice: at first it had a weight in pounds, then no height."""

    name: str
    weight_kg: float
    height_m: float


def _in_kilograms(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "weight_kg": document.pop("pounds") / 2}


PARCELS = Table(
    name="parcels",
    kind=Parcel,
    schema=3,
    key=lambda row: row.name,
    upcasters={1: _in_kilograms, 2: lambda document: {**document, "height_m": 1.0}},
)


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (1, {"name": "a", "pounds": 4}),
        (2, {"name": "a", "weight_kg": 2.0}),
        (3, {"name": "a", "weight_kg": 2.0, "height_m": 1.0}),
    ],
)
def test_a_row_of_any_earlier_schema_is_brought_up_step_by_step(schema: int, body: dict[str, Any]) -> None:
    stored = Stored(codec.encode_json(body), schema, 7)
    assert PARCELS.decode(b"a", stored) == Parcel(name="a", weight_kg=2.0, height_m=1.0)


def test_an_earlier_row_that_cannot_be_brought_up_is_named_as_damaged() -> None:
    with pytest.raises(StoreDamaged, match="parcels b'a' is damaged: it can't be read as Parcel"):
        PARCELS.decode(b"a", Stored(b'{"name":"a"}', 1, 7))
