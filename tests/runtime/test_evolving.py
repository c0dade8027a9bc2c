"""Changed copies are those of `attrs.evolve`, whatever the class and the fields."""

import inspect
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.runtime import models
from opscore.runtime.evolving import evolve
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.runs.run import Run, Step


def values() -> Iterator[type[Any]]:
    for _, kind in inspect.getmembers(models, inspect.isclass):
        if attrs.has(kind):
            yield kind
    yield from (AgentAvailable, Run, Step)


def made(kind: type[Any], fields: dict[str, Any]) -> Any:
    """Make a value of any class; the classes look at no types."""
    return kind(**{field.alias: fields.get(field.alias, field.alias) for field in attrs.fields(kind) if field.init})


@given(st.sampled_from(list(values())), st.data())
def test_a_changed_copy_equals_that_of_attrs(kind: type[Any], data: st.DataObject) -> None:
    before = made(kind, {})
    names = [field.alias for field in attrs.fields(kind) if field.init]
    changes = data.draw(st.dictionaries(st.sampled_from(names), st.text(), max_size=len(names)))
    after = evolve(before, **changes)
    assert after is not before
    assert type(after) is kind
    assert attrs.asdict(after, recurse=False) == attrs.asdict(attrs.evolve(before, **changes), recurse=False)
    assert attrs.asdict(before, recurse=False) == attrs.asdict(made(kind, {}), recurse=False)


def test_a_field_that_a_class_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Task has no field 'staus'"):
        evolve(made(models.Task, {}), staus="ready")


def test_what_is_no_attrs_value_is_refused() -> None:
    with pytest.raises(attrs.exceptions.NotAnAttrsClassError):
        evolve(object())  # type: ignore[misc]


@attrs.frozen
class Checked:
    """A value whose constructor converts one field and checks another."""

    number: int = attrs.field(converter=int)
    name: str = attrs.field(validator=attrs.validators.min_len(1))


@attrs.define
class Hidden:
    """A value with a private field, and one that its constructor does not take."""

    _number: int
    double: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.double = 2 * self._number


@attrs.frozen(slots=False)
class Slotless:
    """A value without slots."""

    number: int


def test_a_constructor_that_does_more_than_keep_its_arguments_is_called() -> None:
    assert evolve(Checked("1", "a"), number="2") == Checked(2, "a")
    with pytest.raises(ValueError, match="name"):
        evolve(Checked("1", "a"), name="")
    assert evolve(Hidden(number=1), number=2) == Hidden(number=2)
    assert evolve(Slotless(1), number=2) == Slotless(2)
