"""Checks of a request's fields beyond their types; the faults of all fields are found at once, like wrong types.

A check is in its field's metadata. It gets the value as it was sent, and ignores one of another type, because that
is reported already.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import attrs

from opscore.gateway.outbound.contacts import ContactPolicy, ForbiddenContact
from opscore.runtime import codec
from opscore.runtime.agents import reports
from opscore.runtime.definitions.labels import business_key_faults, label_faults
from opscore.runtime.errors import Fault, InvalidDocument, LimitExceeded
from opscore.runtime.identity import unusable
from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, shown_text
from opscore.runtime.schedules import cron, zones
from opscore.runtime.values import check_value

DocumentT = TypeVar("DocumentT", bound=attrs.AttrsInstance)

CAPABILITIES_MAX: Final = 100
NAME_CHARACTERS_MAX: Final = 256
REASON_CHARACTERS_MAX: Final = 1_000


@attrs.frozen(kw_only=True)
class Rules:
    """The limits and the policy that checks apply."""

    limits: Limits
    contacts: ContactPolicy


Check = Callable[[Any, Rules], Iterator[Fault]]
"""Yields faults, with paths that are relative to the field."""


def checked(check: Check, **options: Any) -> Any:
    """Make an attrs field with a check."""
    return attrs.field(metadata={"check": check}, **options)


def of_any_length(**options: Any) -> Any:
    """Make an attrs field of a text that is cut to what the runtime keeps: a report of any length has to count."""
    return attrs.field(converter=attrs.converters.optional(shown_text), **options)


def faults(document: Any, kind: type[attrs.AttrsInstance], rules: Rules, path: str = "") -> Iterator[Fault]:
    """Run the checks of a kind of document on the document that was sent.

    A kind that allows only some combinations of fields has a static method `contradictions`, which yields messages.
    """
    if not isinstance(document, dict):
        return
    for field in attrs.fields(kind):
        name = str(field.metadata.get("wire", codec.camel_case(field.name)))
        value = document.get(name)
        if attrs.has(field.type or object):
            yield from faults(value, field.type, rules, f"{path}{name}.")
        for fault in field.metadata.get("check", _nothing)(value, rules):
            yield attrs.evolve(fault, path=f"{path}{name}{fault.path}")
    for message in getattr(kind, "contradictions", _no_contradiction)(document):
        yield Fault(path=path.removesuffix("."), message=message)


def structured(document: Any, kind: type[DocumentT], rules: Rules, what: str) -> DocumentT:
    """Turn a document that was read into a strict value.

    Raises:
        InvalidDocument: with every fault.
    """
    found = tuple(faults(document, kind, rules))
    try:
        value = codec.structure_wire(document, kind, what)
    except InvalidDocument as error:
        raise InvalidDocument(error.what, (*error.faults, *found)) from error
    if found:
        raise InvalidDocument(what, found)
    return value


def _nothing(_: Any, __: Rules) -> Iterator[Fault]:
    return iter(())


def _no_contradiction(_: dict[str, Any]) -> Iterator[str]:
    return iter(())


def an_id(value: Any, rules: Rules) -> Iterator[Fault]:
    """An id that can stand in a path, and is not too long."""
    if not isinstance(value, str):
        return
    most = rules.limits.id_bytes_max
    fault = unusable(value)
    if fault is not None:
        yield Fault(path="", message=f"expected an id of 1 to {most} bytes that can stand in a path; this one {fault}")
    elif len(value.encode()) > most:
        yield Fault(path="", message=f"expected an id of 1 to {most} bytes")


def a_claim_id(value: Any, rules: Rules) -> Iterator[Fault]:
    """Any name of 1 to `id_bytes_max` bytes, because it is part of no path."""
    if isinstance(value, str) and not 0 < len(value.encode(errors="replace")) <= rules.limits.id_bytes_max:
        yield Fault(path="", message=f"expected 1 to {rules.limits.id_bytes_max} bytes")


def a_name(value: Any, _: Rules) -> Iterator[Fault]:
    """A short text."""
    if isinstance(value, str) and len(value) > NAME_CHARACTERS_MAX:
        yield Fault(path="", message=f"expected {NAME_CHARACTERS_MAX} characters at most")


def a_reason(value: Any, _: Rules) -> Iterator[Fault]:
    """The reason for a move, in words; listings show it."""
    if isinstance(value, str) and len(value) > REASON_CHARACTERS_MAX:
        yield Fault(path="", message=f"expected {REASON_CHARACTERS_MAX:,} characters at most")


def a_given_reason(value: Any, rules: Rules) -> Iterator[Fault]:
    """A reason that is required and not blank, because nothing else will say why."""
    yield from a_reason(value, rules)
    if isinstance(value, str) and not value.strip():
        yield Fault(path="", message=f"expected 1 to {REASON_CHARACTERS_MAX:,} characters, not blanks alone")


def capabilities(value: Any, _: Rules) -> Iterator[Fault]:
    """The names of an agent's capabilities."""
    if not isinstance(value, list):
        return
    if len(value) > CAPABILITIES_MAX:
        yield Fault(path="", message=f"expected {CAPABILITIES_MAX} at most")
    for index, capability in enumerate(value[:CAPABILITIES_MAX]):
        if isinstance(capability, str) and not 0 < len(capability) <= NAME_CHARACTERS_MAX:
            yield Fault(path=f"[{index}]", message=f"expected 1 to {NAME_CHARACTERS_MAX} characters")


def labels(value: Any, rules: Rules) -> Iterator[Fault]:
    """The labels of a run."""
    if isinstance(value, dict):
        yield from label_faults(value, rules.limits)


def a_business_key(value: Any, rules: Rules) -> Iterator[Fault]:
    """The business key of a run."""
    if isinstance(value, str):
        yield from business_key_faults(value, rules.limits)


def contact(value: Any, rules: Rules) -> Iterator[Fault]:
    """A URL that may be contacted; an empty one counts as none."""
    if isinstance(value, str) and value:
        try:
            rules.contacts.check(value)
        except ForbiddenContact as error:
            yield Fault(path="", message=str(error))


def stored(value: Any, rules: Rules) -> Iterator[Fault]:
    """JSON within the limits of size and depth."""
    try:
        check_value(value, rules.limits)
    except LimitExceeded as error:
        yield Fault(path="", message=str(error))


def a_state(value: Any, _: Rules) -> Iterator[Fault]:
    """The name of an agent's state."""
    if isinstance(value, str):
        try:
            reports.normalise(value)
        except ValueError as error:
            yield Fault(path="", message=str(error))


def a_time(value: Any, _: Rules) -> Iterator[Fault]:
    """An ISO 8601 time."""
    if isinstance(value, str):
        try:
            read_time(value)
        except (ValueError, OverflowError):
            message = f"expected an ISO 8601 time such as 2026-01-31T12:00:00Z, found {value[:NAME_CHARACTERS_MAX]!r}"
            yield Fault(path="", message=message)


def a_cron(value: Any, _: Rules) -> Iterator[Fault]:
    """A cron expression that is due at some time."""
    if isinstance(value, str):
        yield from (Fault(path="", message=message) for message in cron.faults(value))


def a_zone(value: Any, _: Rules) -> Iterator[Fault]:
    """The name of a time zone."""
    if isinstance(value, str):
        try:
            zones.named(value)
        except ValueError as error:
            yield Fault(path="", message=str(error))


def a_policy(value: Any, _: Rules) -> Iterator[Fault]:
    """The policy for missed due times."""
    if isinstance(value, str) and value not in Missed.__members__.values():
        expected = f"expected one of {', '.join(Missed)}, found {value[:NAME_CHARACTERS_MAX]!r}"
        yield Fault(path="", message=expected)


def read_time(text: str) -> float:
    """Read an ISO 8601 time, as Unix seconds; one without a zone is UTC, as Ops-Core's SDK wrote it.

    Raises:
        ValueError, OverflowError: it is not one, or can't be converted to UTC.
    """
    moment = datetime.fromisoformat(text.strip())
    return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
