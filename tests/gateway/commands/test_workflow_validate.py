"""`opscore workflow validate` as a person, an editor or CI runs it."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore.gateway.commands import workflow_file
from opscore.gateway.commands.cli import main

PATIENCE_S = 60.0
COMMAND = [sys.executable, "-m", "opscore", "workflow", "validate"]
ORDERS = """\
id: orders
defaults: {priority: 12}
tasks:
  - {taskId: reserve, agentCapabilty: stock}
  - taskId: charge
    agentCapability: payment
    retry:
      maxRetries: "3"
    agentCapability: payments
    nextTaskId: shop
  - taskId: ship
    nextTaskId: charge
    dependsOn: [reserve, 支払い]
"""
ORDERS_SAID = """\
orders.yaml:2:22: 12 is greater than the maximum of 9
 2 | defaults: {priority: 12}
   |                      ^^
orders.yaml:4:23: unknown field 'agentCapabilty'; did you mean 'agentCapability'?
 4 |   - {taskId: reserve, agentCapabilty: stock}
   |                       ^^^^^^^^^^^^^^
orders.yaml:8:19: '3' is not of type 'integer'
 8 |       maxRetries: "3"
   |                   ^^^
orders.yaml:9:5: 'agentCapability' is given again in one object
 9 |     agentCapability: payments
   |     ^^^^^^^^^^^^^^^
orders.yaml:6:5: 'agentCapability' is given here first
 6 |     agentCapability: payment
   |     ---------------
orders.yaml:10:17: no task is called 'shop'; did you mean 'ship'?
 10 |     nextTaskId: shop
    |                 ^^^^
orders.yaml:13:26: no task is called '支払い'
 13 |     dependsOn: [reserve, 支払い]
    |                          ^^^^^^
"""
BROKEN = """\
{
\t"id": "orders", "id": "more",
\t"tasks": [{"taskId": "a", "dependsOn": ["b", "\\u0062b"]},\t{"nextTaskId": 5, "taskId": "b"}]
}
"""
BROKEN_SAID = """\
orders.json:2:18: 'id' is given again in one object
 2 |     "id": "orders", "id": "more",
   |                     ^^^^
orders.json:2:2: 'id' is given here first
 2 |     "id": "orders", "id": "more",
   |     ----
orders.json:3:47: no task is called 'bb'; did you mean 'b'?
 3 |     "tasks": [{"taskId": "a", "dependsOn": ["b", "\\u0062b"]},    {"nextTas…
   |                                                  ^^^^^^^^^
orders.json:3:75: 5 is not of type 'string', 'null'
 3 | … "a", "dependsOn": ["b", "\\u0062b"]},    {"nextTaskId": 5, "taskId": "b"}]
   |                                                          ^
"""


def run(
    *arguments: str, cwd: Path, stdin: bytes = b"", env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        env={**environment, "PYTHONIOENCODING": "utf-8", **(env or {})},
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def invoke(body: bytes | str) -> Any:
    return CliRunner().invoke(main, ["workflow", "validate", "-"], input=body, catch_exceptions=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "orders.yaml").write_text(ORDERS)
    (tmp_path / "orders.json").write_text(BROKEN)
    (tmp_path / "good.yaml").write_text("id: good\ntasks: [{taskId: a}, {taskId: b}]\n")
    (tmp_path / "one.json").write_text('{"id": "one", "tasks": [{"taskId": "a"}]}')
    return tmp_path


@pytest.mark.parametrize(("file", "said"), [("orders.yaml", ORDERS_SAID), ("orders.json", BROKEN_SAID)])
def test_every_fault_is_told_at_once_each_with_its_line_and_a_mark(file: str, said: str, path: Path) -> None:
    done = run(file, cwd=path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == said


def test_a_valid_file_is_told_in_one_line_with_what_it_holds(path: Path) -> None:
    done = run("good.yaml", "one.json", cwd=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "good.yaml: valid, workflow good, 2 tasks\none.json: valid, workflow one, 1 task\n"


def test_yaml_that_no_server_takes_is_valid_and_said_to_be_too_much(path: Path) -> None:
    (path / "long.yaml").write_text(
        f"id: long\ndescription: {'x' * 2**16}\ntasks: [{{taskId: a, agentCapability: x}}]\n"
    )
    done = run("long.yaml", cwd=path)
    said = "servers take at most 65,536 bytes of YAML, this is 65,600: send it as JSON"
    assert (done.returncode, done.stdout) == (0, f"long.yaml: valid, workflow long, 1 task; {said}\n")
    told = json.loads(run("long.yaml", "--format", "json", cwd=path).stdout)
    assert (told["valid"], told["files"][0]["remark"]) == (True, said)


def test_all_files_are_looked_at_and_the_worst_of_them_decides_the_exit_code(path: Path) -> None:
    done = run("one.json", "nowhere.yaml", "orders.yaml", ".", cwd=path)
    assert done.returncode == 2
    assert done.stdout == f"one.json: valid, workflow one, 1 task\n{ORDERS_SAID}"
    assert done.stderr.splitlines() == [
        "opscore: nowhere.yaml cannot be read: No such file or directory",
        "opscore: . cannot be read: Is a directory",
    ]
    assert run("orders.yaml", "one.json", cwd=path).returncode == 1
    assert run(cwd=path).returncode == 2


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"id: x\ntasks: [{taskId: a}]", 0, "<stdin>: valid, workflow x, 1 task"),
        (b'{"id": "x", "tasks": [{"taskId": "a"}]}', 0, "<stdin>: valid, workflow x, 1 task"),
        (b"{id: x, tasks: [{taskId: a}]}", 0, "<stdin>: valid, workflow x, 1 task"),
        ("\ufeffid: x\ntasks: [{taskId: ä}]".encode("utf-16"), 0, "<stdin>: valid, workflow x, 1 task"),
        ("\ufeff{}".encode(), 1, "<stdin>:1:1: id and tasks must be given"),
        (b"", 1, "<stdin>:1:1: null is not of type 'object'"),
        (b'{"id": "x",}', 1, "<stdin>:1:1"),
        (b'{"id": "x" "tasks": []}', 1, "<stdin>:1:12: this is not JSON: Expecting ',' delimiter"),
        (b"id: x\ntasks: }", 1, "<stdin>:2:8: this is not YAML: expected the node content, but found '}'"),
        (b"id: x\nna\xefme: y", 1, "<stdin>:2:3: this is not UTF-8: invalid continuation byte 0xef"),
        (b"a: &a [x]\nb: &b [*a, *a]", 1, "<stdin>:2:8: this is not YAML: aliases are not taken"),
        (b"tasks: &a [*a]", 1, "<stdin>:1:12: this is not YAML: aliases are not taken"),
        (b"id: x\n1: 2", 1, "<stdin>:1:1: expected names that are strings, found 1"),
    ],
)
def test_the_standard_input_is_json_if_it_reads_so_and_else_yaml(body: bytes, code: int, said: str) -> None:
    done = invoke(body)
    assert (done.exit_code, done.stderr) == (code, "")
    assert done.stdout.startswith(said)


def test_what_goes_on_for_long_before_it_goes_wrong_is_told_with_where_it_began(path: Path) -> None:
    (path / "open.yaml").write_text("id: x\ntasks: [{taskId: a},\n  {taskId: b}\nname: y\n")
    assert run("open.yaml", cwd=path).stdout.splitlines() == [
        "open.yaml:4:1: this is not YAML: expected ',' or ']', but got '<scalar>', while parsing a flow sequence",
        " 4 | name: y",
        "   | ^",
        "open.yaml:2:8: it began here",
        " 2 | tasks: [{taskId: a},",
        "   |        -",
    ]


def test_json_has_the_same_for_editors(path: Path) -> None:
    done = run("orders.json", "one.json", "nowhere", "--format", "json", cwd=path)
    assert done.returncode == 2
    said = json.loads(done.stdout)
    broken, one, nowhere = said["files"]
    assert said["valid"] is False
    assert broken["faults"][0] == {
        "path": "id",
        "message": "'id' is given again in one object",
        "line": 2,
        "column": 18,
        "end_line": 2,
        "end_column": 22,
        "notes": [
            {"message": "'id' is given here first", "line": 2, "column": 2, "end_line": 2, "end_column": 6},
        ],
    }
    assert [each["path"] for each in broken["faults"]] == ["id", "tasks[0].dependsOn[1]", "tasks[1].nextTaskId"]
    assert one == {"file": "one.json", "valid": True, "workflow": "one", "tasks": 1, "faults": []}
    assert nowhere["valid"] is False
    assert nowhere["unreadable"] == "nowhere cannot be read: No such file or directory"
    assert json.loads(run("one.json", "--format", "json", cwd=path).stdout)["valid"] is True


@pytest.mark.parametrize("columns", [1, 20, 33, 60, 200])
def test_a_long_line_is_cut_around_its_fault_and_fits(columns: int, path: Path) -> None:
    tasks = [{"taskId": f"タスク{number}", "dependsOn": ["nope"] if number == 50 else []} for number in range(100)]
    (path / "long.json").write_text(json.dumps({"id": "x", "tasks": tasks}, ensure_ascii=False))
    from rich.cells import cell_len

    done = run("long.json", cwd=path, env={"COLUMNS": str(columns)})
    first, line, mark = done.stdout.splitlines()
    assert re.fullmatch(r"long\.json:1:\d+: no task is called 'nope'", first)
    assert cell_len(line) <= max(columns, 20)
    assert cell_len(mark) <= max(columns, 20)
    start = len(mark) - len(mark.lstrip(" |"))
    cells = [each for sign in line for each in (sign, *[""] * (cell_len(sign) - 1))]
    assert "".join(cells[start : start + 4]) == '"nop'
    assert mark.count("^") == 6
    assert line.startswith(" 1 | …")


@pytest.mark.parametrize(
    ("text", "line", "mark"),
    [
        ("id: [" + "x, " * 100 + "]", " 1 | id: [" + "x, " * 23 + "…", "   | ^^"),
        ("name: " + "x" * 300 + "\ntasks: []\nid: x", " 1 | name: " + "x" * 68 + "…", "   |       " + "^" * 69),
        ("id: \x1b[31mx", " 1 | id: �[31mx", "   |     ^"),
    ],
)
def test_a_fault_that_is_long_itself_or_would_harm_the_terminal(text: str, line: str, mark: str) -> None:
    shown = invoke(text).stdout.splitlines()
    assert (shown[1], shown[2]) == (line, mark)


def test_no_sign_of_a_document_reaches_the_terminal_that_it_would_obey() -> None:
    text = json.dumps({"id": "x", "\x1b[2J\u202e": 1, "tasks": [{"taskId": "a\x07", "nextTaskId": "\x9b1m"}]})
    done = invoke(text.replace("\\u202e", "\u202e").replace("\\u009b", "\x9b"))
    assert done.exit_code == 1
    assert all(each.isprintable() or each == "\n" for each in done.stdout)


def on_a_terminal(cwd: Path, **environment: str) -> str:
    leader, follower = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8", **environment}
    with subprocess.Popen([*COMMAND, "orders.yaml"], cwd=cwd, stdout=follower, env=environment) as process:
        os.close(follower)
        told = b""
        try:
            while part := os.read(leader, 4_096):
                told += part
        except OSError:
            # So a terminal ends on Linux.
            pass
        process.wait(PATIENCE_S)
    os.close(leader)
    return told.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_whose_reader_has_nothing_against_them(path: Path) -> None:
    coloured = on_a_terminal(path)
    assert "\x1b[31m^^" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == ORDERS_SAID
    assert on_a_terminal(path, NO_COLOR="1") == ORDERS_SAID
    assert on_a_terminal(path, TERM="dumb") == ORDERS_SAID
    assert "\x1b" not in run("orders.yaml", cwd=path).stdout


def test_a_terminal_without_the_signs_of_a_line_shows_others(path: Path) -> None:
    done = run("orders.yaml", cwd=path, env={"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 1
    assert "no task is called '???'" in done.stdout


def test_a_file_larger_than_any_document_is_not_read(path: Path) -> None:
    with (path / "film.yaml").open("wb") as file:
        file.truncate(workflow_file.FILE_BYTES_MAX + 1)
    done = run("film.yaml", cwd=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "opscore: film.yaml is larger than 16,777,216 bytes\n"


def test_the_commands_help_loads_nothing_that_only_running_needs() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from opscore.gateway.commands.cli import main\n"
        "assert CliRunner().invoke(main, ['workflow', 'validate', '--help']).exit_code == 0\n"
        "print([name for name in ('yaml', 'jsonschema', 'rich', 'trio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


PIECES = st.sampled_from(
    (
        *(
            "id: x",
            "tasks:",
            "- ",
            "{",
            "}",
            "[",
            "]",
            ": ",
            ", ",
            "\n",
            "\n  ",
            "\t",
            '"',
            "'",
            "|\n ",
            ">-\n  ",
            "# ",
        ),
        *("taskId: a", '"taskId": "a"', '"id"', "&a ", "*a", "!!bool ", "!!binary ", "!!set ", "!x ", "? ", "<<: "),
        *(
            "null",
            "NaN",
            ".nan",
            "-1e999",
            "1" * 5_000,
            "0x1f",
            "2001-01-01",
            "\\",
            "\\u12",
            "\\ud800",
            "---\n",
            "...\n",
        ),
        *("%YAML 9.9\n", "\x00", "\ufeff", "\u2028", "\x85", "\r", "𝄞", "タ", "\ud800"),
    )
)


@settings(deadline=None)
@given(st.lists(PIECES | st.text(max_size=3), max_size=25).map("".join) | st.text() | st.binary())
def test_no_text_is_too_strange_to_be_told_what_is_wrong_with_it(text: str | bytes) -> None:
    body = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    done = invoke(body)
    assert done.exit_code in (0, 1)
    assert re.match(r"<stdin>:(\d+:\d+: .| valid, )", done.stdout)
