"""What YAML says: numbers, true, false and null as JSON and YAML 1.2 have them, and anything else as it is written."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.gateway.commands.simulate_input import read_document
from opscore.gateway.parsing import plain_yaml, yaml_positions
from opscore.runtime.definitions.definition import parse
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.limits import Limits

TEXTS = (
    *("22:30", "22:30:15", "190:20:30.15", "0777", "08", "-012", "0o17", "0b101", "00", "01.5", "0123e4", "00e1"),
    *("1_000", "1_0.5", "0x_f", "-0x1f", "yes", "No", "on", "OFF", "y", "N", "tRUE", "nULL", "~x", "=", "nan"),
    *("inf", "+.nan", ".iNF", ".", "+", "1e", "e3", "1e3.5", "0x", "1.2.3", "2026-01-31", "1٣"),
)
VALUES: dict[str, Any] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "Null": None, "NULL": None, "~": None, "": None,
    "0": 0, "-0": 0, "+7": 7, "-12": -12, "10000": 10_000, "0x1F": 31, "0xff": 255,
    "1e3": 1000.0, "1E+3": 1000.0, "-2.5e-1": -0.25, ".5": 0.5, "-.5": -0.5, "1.": 1.0, "0.5": 0.5, "0e5": 0.0,
    ".inf": math.inf, "-.INF": -math.inf, "+.Inf": math.inf,
}  # fmt: skip


def both(text: str) -> Any:
    """What is read with places and without."""
    value = plain_yaml.read(text)
    assert repr(yaml_positions.read(text)[0]) == repr(value)
    return value


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_number_in_yaml_1_2_is_the_text_that_is_written(text: str) -> None:
    assert both(f"a: {text}\n{text}: b") == {"a": text, text: "b"}
    assert both(f'[{text}, "{text}"]') == [text, text]


@pytest.mark.parametrize("text", VALUES)
def test_a_number_true_false_and_null_are_what_yaml_1_2_says(text: str) -> None:
    value = both(f"a: {text}")["a"]
    assert (value, type(value)) == (VALUES[text], type(VALUES[text]))
    assert both(f"a: '{text}'") == {"a": text}


def test_what_is_not_a_number_is_known_for_that() -> None:
    assert all(math.isnan(both(f"[{text}]")[0]) for text in (".nan", ".NaN", ".NAN"))


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_what_json_says_reads_the_same_in_yaml(value: Any) -> None:
    text = json.dumps({"a": [value]})
    assert repr(plain_yaml.read(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["!!bool yes", "!!int 0777", "!!int 22:30", "!!float 1_0", "!!null none"])
def test_a_tag_makes_no_more_of_a_text_than_it_is_without(text: str) -> None:
    with pytest.raises(ValueError, match=r"can't be read: '.+' is not one"):
        plain_yaml.read(f"a: {text}")


def test_names_that_are_one_to_python_alone_are_not_said_to_be_given_twice() -> None:
    for text in ("{1: 2, true: 4}", "{1: 2, 1.0: 4}", "{0: 2, false: 4}"):
        document = plain_yaml.read(f"id: w\ntasks: [{{taskId: a, parameters: {text}}}]")
        with pytest.raises(
            InvalidDocument, match=r"tasks\[0\].parameters: expected names that are strings, found [01]$"
        ):
            parse(document, Limits())
    for text in ("{1: 2, 1: 4}", "{true: 2, True: 4}", "{a: 2, 'a': 4}"):
        with pytest.raises(ValueError, match="is given twice in one object"):
            plain_yaml.read(text)


def test_a_fleet_is_read_the_same_way(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("agents: [{name: no, leavesAt: 1e2, skills: {a: {result: 22:30}}}]")
    agent = {"name": "no", "leavesAt": 100.0, "skills": {"a": {"result": "22:30"}}}
    assert read_document(file) == {"agents": [agent]}
