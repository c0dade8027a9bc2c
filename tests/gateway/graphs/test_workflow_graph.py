"""`opscore workflow graph`: boxes and lines, lists, Mermaid and SVG, of workflows and of graphs as they may be."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from opscore.gateway.graphs.mermaid import mermaid
from opscore.gateway.graphs.svg import svg
from opscore.gateway.graphs.tasks import FAILED_RUN, Edge, EdgeKind, Node, NodeKind, TaskGraph, graph_of
from opscore.gateway.graphs.text import drawn
from opscore.gateway.process.terminal import Terminal
from opscore.runtime.definitions.definition import Role, parse, restore
from opscore.runtime.limits import Limits
from opscore.runtime.simulation.strategies import definitions
from tests.gateway.drawings import joined_in

EXAMPLES = Path(__file__).parents[3] / "examples" / "workflows"
PATIENCE_S = 60.0
COMMAND = [sys.executable, "-m", "opscore", "workflow", "graph"]

SAMPLE = """\
  ┌─────────────────┐
  │     step_1      │
  │ test_capability │
  └────────┬────────┘
           │
┌──────────▼──────────┐
│       step_2        │
│ another_capability  │
└─────────────────────┘
"""
DIAMONDS = {
    "fetch": "", "parse": "fetch", "enrich": "fetch", "index": "parse", "score": "parse enrich", "audit": "enrich",
    "rank": "index score", "report": "rank audit", "notify": "report", "archive": "report fetch",
}  # fmt: skip
DIAMONDS_DRAWN = """\
                   ┌───────┐
                   │ fetch │
                   │ work  │
                   └───┬───┘
           ┌───────────┴┬─────────┐
       ┌───▼───┐   ┌────▼────┐    │
       │ parse │   │ enrich  │    │
       │ work  │   │  work   │    │
       └──┬──┬─┘   └──┬───┬──┘    │
    ┌─────┘  └──┬─────┘   └─┐     └─┐
┌───▼───┐   ┌───▼───┐   ┌───▼───┐   │
│ index │   │ score │   │ audit │   │
│ work  │   │ work  │   │ work  │   │
└───┬───┘   └───┬───┘   └───┬───┘   │
    └───────┬───┘        ┌──┘   ┌───┘
        ┌───▼───┐        │      │
        │ rank  │        │      │
        │ work  │        │      │
        └───┬───┘        │      │
            └───────┬────┘    ┌─┘
               ┌────▼────┐    │
               │ report  │    │
               │  work   │    │
               └──┬───┬──┘    │
              ┌───┘   └─────┬─┘
         ┌────▼────┐   ┌────▼────┐
         │ notify  │   │ archive │
         │  work   │   │  work   │
         └─────────┘   └─────────┘
"""
HANDLED = {
    "id": "payment",
    "onFailure": "alarm",
    "tasks": [
        {"taskId": "reserve", "agentCapability": "stock", "compensateTaskId": "release", "dependsOn": []},
        {"taskId": "approve", "type": "signal", "dependsOn": ["reserve"], "when": "${input.total > 100}"},
        {"taskId": "charge", "agentId": "till", "fallbackTaskId": "invoice", "dependsOn": ["approve"]},
        {"taskId": "ship", "type": "workflow", "forEach": "${input.items}", "dependsOn": ["charge"]},
        {"taskId": "pause", "type": "delay", "dependsOn": ["charge"]},
        {"taskId": "tell", "type": "tool", "agentCapability": "mail", "dependsOn": ["ship", "pause"]},
        {"taskId": "release", "agentCapability": "stock", "dependsOn": []},
        {"taskId": "invoice", "dependsOn": []},
        {"taskId": "alarm", "agentCapability": "pager", "dependsOn": []},
    ],
}
HANDLED_DRAWN = """\
                            ┌─────────┐                        ╭───────────────╮
                            │ reserve │                        │ the run fails │
                            │  stock  │                        ╰───────┬───────╯
                            └──┬───┬──┘                                ╎
                    ┌──────────┘   └┄┄┄┄┄┄┄┄┄┄┐                        ╎
      ╭─────────────▼─────────────╮   ┌───────▽───────┐         ┌──────▽──────┐
      │          approve          │   │    release    │         │    alarm    │
      │          signal           │   │     stock     │         │    pager    │
      │ when ${input.total > 100} │   │ compensation  │         │ on failure  │
      ╰─────────────┬─────────────╯   └───────────────┘         └─────────────┘
                    └────┐
                    ┌────▼────┐
                    │ charge  │
                    │  @till  │
                    └──┬───┬──┘
                       │   └┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┐
             ┌─────────┴──────────┐             ╎
╔════════════▼════════════╗   ╭───▼───╮   ┌─────▽─────┐
║          ship           ║   │ pause │   │  invoice  │
║        workflow         ║   │ delay │   │ fallback  │
║ for each ${input.items} ║   ╰───┬───╯   └───────────┘
╚════════════╤════════════╝       │
             └─────────┬──────────┘
                ┏━━━━━━▼━━━━━━┓
                ┃    tell     ┃
                ┃ tool: mail  ┃
                ┗━━━━━━━━━━━━━┛
"""
WIDE_LISTED = """\
wide: it is too wide to be drawn in 60 columns

task_0 (stock)
task_1 (stock)
task_2 (stock)
task_3 (stock)
task_4 (stock)
task_5 (stock)
task_6 (stock)
task_7 (stock)
end (@till), after task_0, task_1, task_2, task_3, task_4,
    task_5, task_6, task_7
"""


def run(
    *arguments: str, cwd: Path, columns: int | None = None, encoding: str = "utf-8"
) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"PYTHONIOENCODING": encoding} | ({} if columns is None else {"COLUMNS": str(columns)})
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, timeout=PATIENCE_S, check=False, env=environment)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)
    )


def written(path: Path, before: dict[str, str]) -> str:
    tasks = [
        f"- {{taskId: {key}, agentCapability: work, dependsOn: [{', '.join(each.split())}]}}"
        for key, each in before.items()
    ]
    path.write_text("\n".join(["id: drawn", "tasks:", *tasks]))
    return str(path)


def handled() -> TaskGraph:
    return graph_of(restore(HANDLED, Limits()))


def test_the_sample_is_drawn_from_the_top(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "sample_workflow.json"), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, SAMPLE, "")


def test_tasks_that_fan_out_and_join_are_drawn_within_80_columns(tmp_path: Path) -> None:
    done = run(written(tmp_path / "ten.yaml", DIAMONDS), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == DIAMONDS_DRAWN
    assert max(map(cell_len, done.stdout.splitlines())) <= 80


def test_handlers_have_dashed_lines_and_each_type_of_task_its_own_box() -> None:
    assert drawn(handled(), Terminal()) + "\n" == HANDLED_DRAWN


def test_what_is_too_wide_is_listed(tmp_path: Path) -> None:
    graph = TaskGraph(
        name="wide",
        nodes=(*(Node(key=f"task_{number}", who="stock") for number in range(8)), Node(key="end", who="@till")),
        edges=tuple(Edge(source=f"task_{number}", target="end") for number in range(8)),
    )
    assert drawn(graph, Terminal(width=60)) + "\n" == WIDE_LISTED
    assert "▼" in drawn(graph, Terminal(width=120))
    before = {**{f"a{number}": "" for number in range(12)}, "end": " ".join(f"a{number}" for number in range(12))}
    file = written(tmp_path / "wide.yaml", before)
    assert "too wide to be drawn in 50 columns" in run(file, cwd=tmp_path, columns=50).stdout
    assert "┌" in run(file, cwd=tmp_path, columns=170).stdout


def test_handlers_are_listed_with_whose_they_are() -> None:
    said = drawn(handled(), Terminal(width=20)).splitlines()
    assert said[0] == "payment: it is too"
    joined = re.sub(r"\n +", " ", "\n".join(said))
    assert "release (stock), compensation of reserve\n" in joined
    assert "invoice, fallback of charge\n" in joined
    assert "alarm (pager), on failure\n" in joined
    assert "tell (tool: mail), after ship, pause\n" in joined


def test_labels_give_way_before_the_drawing_does() -> None:
    names = [f"a task with a very long name {number}" for number in range(3)]
    graph = TaskGraph(name="x", nodes=tuple(Node(key=name) for name in names), edges=())
    assert f"│ {names[0]} " in drawn(graph, Terminal(width=120))
    narrow = drawn(graph, Terminal(width=80))
    assert "│ a task with a v…  │" in narrow
    assert len(narrow.splitlines()) == 3


def test_a_terminal_without_signs_for_lines_gets_a_list(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "sample_workflow.json"), cwd=tmp_path, encoding="latin-1")
    assert done.stdout == (
        "sample_workflow_id: the terminal has no characters for lines, so it is not drawn\n\n"
        "step_1 (test_capability)\nstep_2 (another_capability), after step_1\n"
    )


def test_signs_of_two_cells_and_marks_above_signs_keep_boxes_straight() -> None:
    graph = TaskGraph(name="x", nodes=(Node(key="支払い", who="e\u0301te\u0301"), Node(key="b\x1b[31m")), edges=())
    lines = drawn(graph, Terminal()).splitlines()
    assert lines[1].startswith("│ 支払い  │")
    assert "e\u0301te\u0301" in lines[2]
    assert "b�[31m" in lines[1]
    assert len({cell_len(line) for line in lines[:3]}) == 1


def test_a_document_that_is_not_valid_is_not_drawn_but_told_as_validate_does(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("id: x\ntasks: [{taskId: a, nextTaskId: c}]")
    done = run("bad.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bad.yaml:2:33: no task is called 'c'\n 2 | tasks: [{taskId: a, nextTaskId: c}]\n")
    nowhere = run("nowhere.yaml", cwd=tmp_path)
    assert (nowhere.returncode, nowhere.stderr) == (
        2,
        "opscore: nowhere.yaml cannot be read: No such file or directory\n",
    )


def test_mermaid_has_every_task_and_every_edge(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "sample_workflow.json"), "--format", "mermaid", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        'flowchart TD\n    n0["step_1<br/>test_capability"]\n    n1["step_2<br/>another_capability"]\n    n0 --> n1\n'
    )
    assert mermaid(handled()).splitlines() == [
        "flowchart TD",
        '    n0["reserve<br/>stock"]',
        '    n1(["approve<br/>signal<br/>when #36;#123;input.total #62; 100#125;"])',
        '    n2["charge<br/>@till"]',
        '    n3[["ship<br/>workflow<br/>for each #36;#123;input.items#125;"]]',
        '    n4("pause<br/>delay")',
        '    n5{{"tell<br/>tool: mail"}}',
        '    n6["release<br/>stock"]',
        '    n7["invoice"]',
        '    n8["alarm<br/>pager"]',
        '    n9(["the run fails"])',
        "    n0 -. compensation .-> n6",
        "    n0 --> n1",
        "    n1 --> n2",
        "    n2 -. fallback .-> n7",
        "    n2 --> n3",
        "    n2 --> n4",
        "    n3 --> n5",
        "    n4 --> n5",
        "    n9 -. on failure .-> n8",
    ]


def test_no_name_of_a_task_means_anything_to_mermaid() -> None:
    names = ['"]; click n0 "javascript:alert(1)"', "`a` #quot; <b>&amp;", "end\n%% c", "{{x}}|y|\\", "支払い"]
    lines = mermaid(TaskGraph(name="x", nodes=tuple(Node(key=name) for name in names), edges=())).splitlines()
    assert len(lines) == 1 + len(names)
    labels = [line.partition('["')[2].removesuffix('"]') for line in lines[1:]]
    assert all(re.fullmatch(r"(?:[\w .,:()@/+\-�]|#\d+;)+", label) for label in labels)
    decoded = [re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label) for label in labels]
    assert decoded == [name.replace("\n", "�") for name in names]


def test_svg_is_one_file_without_scripts_for_light_and_dark(tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "incident_report.yaml"), "--format", "svg", "--output", "report.svg", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "report.svg").read_text()
    assert text == run(str(EXAMPLES / "incident_report.yaml"), "--format", "svg", cwd=tmp_path).stdout
    root = ET.fromstring(text)  # noqa: S314 (it is ours)
    name = "{http://www.w3.org/2000/svg}"
    assert {each.tag.removeprefix(name) for each in root.iter()} == {
        *("svg", "title", "style", "defs", "marker", "path", "rect", "g", "text"),
    }
    assert not re.search(r"script|href|url\((?!#)|@import|on\w+=", text)
    assert "prefers-color-scheme: dark" in text
    assert [each.text for each in root.iter(f"{name}text")][:2] == ["alerts", "collect"]
    assert len(root.findall(f"{name}path[@class='edge']")) == 15
    boxes = [
        [float(box.attrib[side]) for side in ("x", "y", "width", "height")]
        for box in root.iter(f"{name}rect")
        if box.get("class") == "box"
    ]
    assert len(boxes) == 12
    for (x, y, width, height), (other_x, other_y, other_width, other_height) in itertools.combinations(boxes, 2):
        assert x + width < other_x or other_x + other_width < x or y + height < other_y or other_y + other_height < y
    for x, y, width, height in boxes:
        assert x > 0 < y
        assert x + width < float(root.attrib["width"])
        assert y + height < float(root.attrib["height"])


def test_svg_shows_handlers_dashed_and_any_text_as_text() -> None:
    root = ET.fromstring(svg(handled()))  # noqa: S314 (it is ours)
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}path[@class='edge handler']")) == 3
    ways = [each.text for each in root.findall(f"{name}text[@class='way']")]
    assert sorted(filter(None, ways)) == ["compensation", "fallback", "on failure"]
    assert {each.get("class") for each in root.iter(f"{name}g")} == {
        *("agent", "signal", "workflow", "delay", "tool", "failed-run"),
    }
    strange = "</text><script>alert(1)</script>&\x00\x1b\ud800"
    drawing = svg(TaskGraph(name=strange, nodes=(Node(key=strange, who=strange),), edges=()))
    root = ET.fromstring(drawing.encode())  # noqa: S314 (it is ours)
    assert [each.text for each in root.iter(f"{name}text")] == ["</text><script>alert(1)</script>&���"] * 2


def test_a_file_that_was_there_is_replaced_and_a_directory_is_not(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    assert run(str(EXAMPLES / "sample_workflow.json"), "--output", "old.txt", cwd=tmp_path).returncode == 0
    assert (tmp_path / "old.txt").read_text() == SAMPLE
    refused = run(str(EXAMPLES / "sample_workflow.json"), "--output", ".", cwd=tmp_path)
    assert (refused.returncode, refused.stderr[:24]) == (1, "opscore: . is a director")
    assert [each.name for each in tmp_path.iterdir()] == ["old.txt"]


def test_a_graph_too_large_to_be_drawn_is_said_so_and_its_mermaid_is_written(tmp_path: Path) -> None:
    before = {f"t{number}": f"t{number - 1} t{number // 2}" if number > 2 else "" for number in range(1, 400)}
    written(tmp_path / "large.yaml", before)
    refused = run("large.yaml", "--format", "svg", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == "opscore: drawn can't be drawn as SVG: it is too large; try --format mermaid\n"
    assert run("large.yaml", "--format", "mermaid", cwd=tmp_path).stdout.count("-->") == 2 * 397
    assert run("large.yaml", cwd=tmp_path).stdout.startswith("drawn: it is too large to be drawn in 80 columns")


@st.composite
def graphs(draw: st.DrawFn) -> TaskGraph:
    """Nodes of every kind, edges of every kind from earlier to later ones."""
    count = draw(st.integers(1, 9))
    labels = draw(st.lists(st.text(max_size=12).filter(str.strip), min_size=count, max_size=count, unique=True))
    nodes = tuple(
        Node(key=label, kind=draw(st.sampled_from(NodeKind)), who=draw(st.text(max_size=6))) for label in labels
    )
    pairs = list(itertools.combinations(labels, 2))
    chosen = draw(st.lists(st.tuples(st.sampled_from(pairs), st.sampled_from(EdgeKind)), unique=True)) if pairs else []
    return TaskGraph(name="x", nodes=nodes, edges=tuple(Edge(source=a, target=b, kind=kind) for (a, b), kind in chosen))


@settings(deadline=None)
@given(graph=graphs(), width=st.sampled_from((20, 40, 80, 200)))
def test_the_lines_of_a_drawing_join_what_the_edges_join(graph: TaskGraph, width: int) -> None:
    text = drawn(graph, Terminal(width=width))
    assert all(cell_len(line) <= width for line in text.splitlines())
    if text.startswith("x: it is too"):
        return
    numbered = {node.key: number for number, node in enumerate(graph.nodes)}
    plain = TaskGraph(
        name="x",
        nodes=tuple(Node(key=f"n{number}") for number in numbered.values()),
        edges=tuple(
            Edge(source=f"n{numbered[edge.source]}", target=f"n{numbered[edge.target]}", kind=edge.kind)
            for edge in graph.edges
        ),
    )
    text = drawn(plain, Terminal(width=200))
    if not text.startswith("x: it is too"):
        assert joined_in(text) == {(edge.source, edge.target, edge.kind.handles) for edge in plain.edges}


@settings(deadline=None)
@given(graph=graphs())
def test_any_graph_is_an_svg_and_a_mermaid_of_its_size(graph: TaskGraph) -> None:
    root = ET.fromstring(svg(graph).encode())  # noqa: S314 (it is ours)
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}g")) == len(graph.nodes)
    assert len([each for each in root.findall(f"{name}path") if "edge" in each.attrib["class"]]) == len(graph.edges)
    assert len(mermaid(graph).splitlines()) == 1 + len(graph.nodes) + len(graph.edges)


@settings(deadline=None)
@given(document=definitions())
def test_every_valid_definition_is_drawn_with_all_its_tasks(document: dict[str, object]) -> None:
    definition = parse(document, Limits())
    graph = graph_of(definition)
    order = {(edge.source, edge.target) for edge in graph.edges if edge.kind is EdgeKind.ORDER}
    assert order == {(key, task.key) for task in definition.tasks for key in task.depends_on}
    handlers = {task.key for task in definition.tasks if task.role is not Role.STEP}
    assert {edge.target for edge in graph.edges if edge.kind is not EdgeKind.ORDER} == handlers
    text = drawn(graph, Terminal())
    assert all(re.search(rf"\b{task.key}\b", text) for task in definition.tasks)


def test_a_run_that_fails_is_no_task() -> None:
    assert FAILED_RUN not in {task["taskId"] for task in HANDLED["tasks"]}  # type: ignore[index]
    assert [node.label for node in handled().nodes if node.kind is NodeKind.FAILED_RUN] == ["the run fails"]
