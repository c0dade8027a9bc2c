"""Where the values of a document stand in its text, in JSON and YAML however it is laid out."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opscore.gateway.commands.workflow_file import examined
from opscore.gateway.parsing import json_positions, plain_yaml, yaml_positions
from opscore.gateway.parsing.document_positions import Lines, Part, Positions, Span, SyntaxFault
from opscore.runtime.codec import decode_json
from opscore.runtime.limits import Limits
from opscore.runtime.simulation.strategies import definitions, values
from opscore.runtime.values import walk

OTHER = "put in its place"
READERS: dict[str, Callable[[str], tuple[Any, Part]]] = {".json": json_positions.read, ".yaml": yaml_positions.read}
PLAIN: dict[str, Callable[[str], Any]] = {".json": decode_json, ".yaml": plain_yaml.read}


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what either the library or the readers would take for more than a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base's)
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
            *plain_yaml.PlainLoader.yaml_implicit_resolvers.get(first, []),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *plain_yaml.PlainLoader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


def places(document: Any) -> dict[str, Any]:
    """The values by their paths; of those whose paths read alike the first."""
    found: dict[str, Any] = {}
    for place, _, value in walk(document):
        found.setdefault(str(place or ""), value)
    return found


def inner(value: Any) -> "list[tuple[Any, Any]]":
    return list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A workflow document with something else in some places: values, names, fields too many and too few."""
    document = json.loads(json.dumps(draw(definitions())))
    odd: st.SearchStrategy[Any] = values() | st.sampled_from(
        (None, 5, -1, 10**40, "", "t0", "${x}", [], {}, [{}], 1e300, "a\tb\n c\x85d: #")
    )
    for _ in range(draw(st.integers(0, 4))):
        holders = [value for _, _, value in walk(document) if isinstance(value, dict | list) and value]
        if not holders:
            break
        holder = draw(st.sampled_from(holders))
        key = draw(st.sampled_from([key for key, _ in inner(holder)]))
        way = draw(st.sampled_from(("replace", "remove", "add", "rename")))
        if way == "replace":
            holder[key] = draw(odd)
        elif way == "remove" or isinstance(holder, list):
            del holder[key]
        else:
            names = st.sampled_from(("taskID", "nextTaskId", "when", "a.b", "c[0]", "t\u00e4sk", "x y")) | st.text(
                st.characters(codec="utf-8"), max_size=6
            )
            holder[draw(names)] = holder.pop(key) if way == "rename" else draw(odd)
    return json.loads(json.dumps(document))


@st.composite
def written(draw: st.DrawFn, document: Any) -> tuple[str, str]:
    """A document as text, laid out in some way, and the suffix of its language."""
    if draw(st.booleans()):
        indent = draw(st.sampled_from((None, 0, 2, "\t", "\r\n ")))
        separators = draw(st.sampled_from(((",", ":"), (", ", ": "), (" ,\t", "\n:\r\n "))))
        text = json.dumps(document, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
        return ".json", draw(st.sampled_from(("", "\n", " \t\r\n"))) + text
    options: dict[str, Any] = {
        "default_flow_style": draw(st.sampled_from((None, True, False))),
        "width": draw(st.sampled_from((10, 80, 10_000))),
        "indent": draw(st.sampled_from((2, 4))),
    }
    text = yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, **options)
    if draw(st.booleans()) or plain_yaml.read(text) != document:
        # The library's writer folds some lines in ways that its reader does not undo.
        text = yaml.dump(document, Dumper=_Dumper, allow_unicode=False, sort_keys=False, **{**options, "width": 10**9})
    return ".yaml", draw(st.sampled_from(("", "# first\n", "---\n"))) + text


def check(text: str, suffix: str, document: Any, path: str, span: Span) -> None:
    """Something else in the place of a span changes the very value, or its name, that the path means."""
    value = places(document)[path]
    holder, key = next(
        (
            (outer, each)
            for place, _, outer in walk(document)
            for each, one in inner(outer)
            if one is value and _joined(str(place or ""), each) == path
        ),
        (None, None),
    )
    is_plain = not isinstance(value, dict | list)
    if not is_plain and not isinstance(key, str):
        first = next(iter(value), "") if isinstance(value, dict) else "-"
        shown = text[span.start : span.end]
        assert shown in ("{", "[", "-") or PLAIN[suffix](shown) == first
        return
    changed = PLAIN[suffix](text[: span.start] + json.dumps(OTHER) + text[span.end :])
    before, after = json.dumps(document), json.dumps(changed)
    assert before != after
    if holder is None:
        assert changed == OTHER
    elif is_plain:
        holder[key] = OTHER
        assert json.dumps(document) == after
        holder[key] = value
    else:
        renamed = {OTHER if name == key else name: one for name, one in holder.items()}
        kept = dict(holder)
        holder.clear()
        holder.update(renamed)
        assert json.dumps(document) == after
        holder.clear()
        holder.update(kept)


def _joined(path: str, step: Any) -> str:
    return f"{path}[{step}]" if isinstance(step, int) else f"{path}.{step}" if path else step


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_value_is_found_where_it_stands(data: st.DataObject) -> None:
    document = data.draw(spoilt())
    suffix, text = data.draw(written(document))
    value, part = READERS[suffix](text)
    assert json.dumps(value) == json.dumps(document)
    positions = Positions(part)
    assert positions.repeated == []
    for path in data.draw(st.lists(st.sampled_from(sorted(places(document))), max_size=6)):
        check(text, suffix, document, path, positions.span(path))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_fault_points_at_what_is_wrong(data: st.DataObject) -> None:
    document = data.draw(spoilt())
    suffix, text = data.draw(written(document))
    file = examined("a file", text.encode(), suffix, Limits())
    assert (file.definition is None) == bool(file.faults)
    assert [fault.span for fault in file.faults] == sorted(fault.span for fault in file.faults)
    for fault in file.faults:
        unknown = re.match(r"unknown field ('|\")|this release does not run '\w+'$", fault.message)
        if unknown and "type" not in fault.message:
            name = PLAIN[suffix](text[fault.span.start : fault.span.end])
            assert name in places(document)[fault.path]
            assert repr(name) in fault.message
        else:
            check(text, suffix, document, fault.path, fault.span)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"id": "x",\n "tasks": [{"taskId": "a",\n  "taskId": "b"}], "id": "y"}'),
        (".yaml", "id: x\ntasks:\n- taskId: a\n  taskId: b\n'id': y\n"),
        (".yaml", '{id: x, tasks: [{taskId: a, "taskId": b}], id: y}'),
    ],
)
def test_names_that_are_given_twice_are_found_and_the_last_one_counts(suffix: str, text: str) -> None:
    value, part = READERS[suffix](text)
    assert value == {"id": "y", "tasks": [{"taskId": "b"}]}
    positions = Positions(part)
    assert sorted((each.path, each.name) for each in positions.repeated) == [("", "id"), ("tasks[0]", "taskId")]
    for each in positions.repeated:
        assert text[each.span.start : each.span.end].strip("\"'") == each.name
        assert text[each.first.start : each.first.end].strip("\"'") == each.name
        assert each.first < each.span
    found = positions.span("tasks[0].taskId")
    assert text[found.start : found.end].strip('"') == "b"


def test_a_name_that_is_given_three_times_is_told_twice_each_with_the_first() -> None:
    text = '{"a": 1, "a": 2, "a": 3}'
    repeated = Positions(json_positions.read(text)[1]).repeated
    assert [(each.span.start, each.first.start) for each in repeated] == [(9, 1), (17, 1)]


def test_a_value_that_is_not_written_is_shown_by_its_name() -> None:
    text = "id:\ntasks:\n- {name: , taskId: a}\n-\n"
    positions = Positions(yaml_positions.read(text)[1])
    spans = [positions.span(path) for path in ("id", "tasks[0].name")]
    assert [text[each.start : each.end] for each in spans] == ["id", "name"]
    assert Lines(text).place(positions.span("tasks[1]").start) == (4, 2)


def test_of_two_paths_that_read_alike_the_first_in_the_text_is_found() -> None:
    for text, start in (('{"a.b": 1, "a": {"b": 2}}', 8), ('{"a": {"b": 2}, "a.b": 1}', 12)):
        assert Positions(json_positions.read(text)[1]).span("a.b").start == start


def test_what_yaml_merges_is_no_name_given_twice_and_stands_where_it_is_written() -> None:
    text = "<<: {id: other, name: n}\nid: x\ntasks: [{<<: [{taskId: a}, {name: c}]}]\n=: 1\n"
    value, part = yaml_positions.read(text)
    assert value == {"id": "x", "name": "n", "tasks": [{"taskId": "a", "name": "c"}], "=": 1}
    positions = Positions(part)
    assert positions.repeated == []
    spans = {path: positions.span(path) for path in places(value)}
    assert {path: text[span.start : span.end] for path, span in spans.items()} == {
        "": "<<",
        "id": "x",
        "name": "n",
        "tasks": "tasks",
        "tasks[0]": "{",
        "tasks[0].taskId": "a",
        "tasks[0].name": "c",
        "=": "1",
    }


@pytest.mark.parametrize(
    ("suffix", "text", "said", "shown"),
    [
        (".json", '{"a": NaN}', "NaN is not JSON", "NaN"),
        (".json", '{"a": [1, -1e999]}', "-1e999 is too large for a number", "-1e999"),
        (".json", '["\\\\", "\\ud800"]', "surrogates not allowed", '"\\ud800"'),
        (".json", '{"a" 5}', "Expecting ':' delimiter", "5"),
        (".json", '{"a": 5', "Expecting ',' delimiter", ""),
        (".json", '{"a": 5} x', "Extra data", "x"),
        (".json", "", "Expecting value", ""),
        (".json", "[" * 101 + "1" + "]" * 101, "nests more than 100 levels deep", "["),
        (".json", "[" * 100_000, "nests too deeply", "["),
        (".json", f"[1{'0' * 5_000}]", "a number of more than 4,300 digits is too large", f"1{'0' * 5_000}"),
        (".yaml", "a: [1, 2", "expected ',' or ']'", ""),
        (".yaml", "a: b: c", "mapping values are not allowed here", ""),
        (".yaml", "a: &x 1\nb: *x", "aliases are not taken", ""),
        (".yaml", "a: 1\nb: \x00", "special characters are not allowed", "\x00"),
        (".yaml", "a: !!bool x", "bool can't be read", ""),
        (".yaml", f"a: 1{'0' * 5_000}", "can't be read: a number of more than 4,300 digits is too large", ""),
        (".yaml", "a: !!python/name:os.system 1", "could not determine a constructor", ""),
        (".yaml", "a: 1\n--- 2", "expected a single document in the stream, but found another document", ""),
        (".yaml", '"\\U00110000"', "chr()", ""),
        (".yaml", "[" * 5_000, "nests too deeply", ""),
        (".yaml", "? [a]\n: b", "found unhashable key", ""),
    ],
)
def test_what_is_no_document_is_told_with_its_place(suffix: str, text: str, said: str, shown: str) -> None:
    with pytest.raises(SyntaxFault) as caught:
        READERS[suffix](text)
    assert said in caught.value.message
    span = caught.value.span
    assert text[span.start : span.end] == shown
    with pytest.raises(ValueError):  # noqa: PT011 (any: what is read with places is what is read without)
        PLAIN[suffix](text)


def test_where_something_began_that_does_not_end_is_told() -> None:
    with pytest.raises(SyntaxFault) as caught:
        yaml_positions.read("id: x\ntasks: [1,\n  2\nname: y")
    assert caught.value.began == Span(13, 13)


def test_lines_and_columns_are_those_of_editors() -> None:
    text = "ab\r\n\r\u2028c\u0085d\n\ne"
    lines = Lines(text)
    assert [lines.place(offset) for offset in (0, 2, 4, 5, 6, 9, 10, 11, 12)] == [
        *((1, 1), (1, 3), (2, 1), (3, 1), (3, 2), (3, 5), (4, 1), (5, 1), (5, 2)),
    ]
    around = [lines.around(offset) for offset in (0, 4, 7, 10, 11)]
    assert [text[each.start : each.end] for each in around] == ["ab", "", "\u2028c\u0085d", "", "e"]


def test_a_path_to_nothing_finds_what_would_hold_it() -> None:
    text = '{"a": {"b": [1]}}'
    positions = Positions(json_positions.read(text)[1])
    found = [positions.span(path) for path in ("a.b[7]", "a.c.d", "x", "", "a.b[0].c")]
    assert [text[each.start : each.end] for each in found] == ['"b"', '"a"', "{", "{", "1"]


def test_a_path_that_was_too_long_for_its_fault_finds_its_value() -> None:
    name = "x" * 600
    text = json.dumps({"id": "w", "tasks": [{"taskId": "a", "parameters": {name: "${y}"}}]})
    (fault,) = examined("a file", text.encode(), ".json", Limits()).faults
    assert fault.path.endswith("x…")
    assert text[fault.span.start : fault.span.end] == '"${y}"'
