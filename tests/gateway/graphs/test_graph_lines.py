"""The lines of a drawing in the places where they could go wrong: crossings, narrow ways, layers listed crosswise."""

import itertools
import random

import pytest

from opscore.gateway.graphs.layout import NotDrawable, layered, placed
from opscore.gateway.graphs.tasks import Edge, EdgeKind, Node, TaskGraph, graph_of
from opscore.gateway.graphs.text import drawn
from opscore.gateway.process.terminal import Terminal
from opscore.runtime.definitions.definition import restore
from opscore.runtime.limits import Limits
from tests.gateway.drawings import joined_in

Pairs = list[tuple[int, int]]

CROSSING: Pairs = [(0, 3), (0, 4), (1, 4), (1, 5), (2, 3), (2, 5)]
CROSSING_DRAWN = """\
┌─────┐   ┌─────┐   ┌─────┐
│ n0  │   │ n1  │   │ n2  │
└─┬─┬─┘   └─┬─┬─┘   └─┬─┬─┘
  │ └───────│┬│───────┘ │
  └┬────────┘│└────────┬┘
┌──▼──┐   ┌──▼──┐   ┌──▼──┐
│ n4  │   │ n3  │   │ n5  │
└─────┘   └─────┘   └─────┘
"""
LEAVES_ABOVE_WHERE_ANOTHER_ARRIVES: Pairs = [(0, 2), (0, 3), (1, 3), (2, 4), (1, 5), (2, 5), (0, 6), (3, 6)]
ONLY_ONE_COLUMN_IS_FREE: Pairs = [(0, 2), (0, 3), (1, 3), (2, 3), (1, 4), (2, 4), (1, 5), (3, 5)]


def graph(pairs: Pairs) -> TaskGraph:
    count = max(later for _, later in pairs) + 1
    edges = tuple(Edge(source=f"n{earlier}", target=f"n{later}") for earlier, later in pairs)
    return TaskGraph(name="x", nodes=tuple(Node(key=f"n{number}") for number in range(count)), edges=edges)


def test_where_lines_cross_the_upright_one_goes_over() -> None:
    assert drawn(graph(CROSSING), Terminal()) + "\n" == CROSSING_DRAWN
    assert "  └┬│───────┘ └───────│┬┘" in drawn(graph(CROSSING[::-1]), Terminal()).splitlines()


@pytest.mark.parametrize("pairs", [CROSSING, LEAVES_ABOVE_WHERE_ANOTHER_ARRIVES, ONLY_ONE_COLUMN_IS_FREE])
def test_lines_that_have_little_room_join_what_their_edges_join(pairs: Pairs) -> None:
    joined = joined_in(drawn(graph(pairs), Terminal(width=120)))
    assert joined == {(f"n{earlier}", f"n{later}", False) for earlier, later in pairs}


def test_dense_graphs_are_drawn_and_not_listed() -> None:
    chance = random.Random(7)
    for _ in range(100):
        count = chance.randint(3, 8)
        pairs = [(a, b) for b in range(count) for a in range(b) if chance.random() < 0.35] or [(0, 1)]
        joined = joined_in(drawn(graph(pairs), Terminal(width=300)))
        assert joined == {(f"n{earlier}", f"n{later}", False) for earlier, later in pairs}


def test_what_is_listed_crosswise_is_drawn_straight() -> None:
    layers = layered(graph([(0, 5), (1, 4), (2, 3)])).layers
    assert [[slot.key for slot in layer] for layer in layers] in (
        [["n0", "n1", "n2"], ["n5", "n4", "n3"]],
        [["n2", "n1", "n0"], ["n3", "n4", "n5"]],
    )


def test_slots_keep_their_order_and_distance_and_chains_are_straight() -> None:
    layout = layered(graph([(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (0, 7)]))
    middles = placed(layout, lambda slot: 1.0 if slot.passing is not None else 5.0, 3.0, 100.0)
    for layer in layout.layers:
        for left, right in itertools.pairwise(layer):
            widths = [1.0 if slot.passing is not None else 5.0 for slot in (left, right)]
            assert middles[right] - middles[left] >= sum(widths) / 2 + 3.0 - 1e-9
    by_key = {slot.key: middles[slot] for layer in layout.layers for slot in layer if slot.passing is None}
    assert by_key["n2"] == pytest.approx(by_key["n5"], abs=1.0)
    assert by_key["n3"] == pytest.approx(by_key["n6"], abs=1.0)
    assert min(middles[slot] - (0.5 if slot.passing is not None else 2.5) for slot in middles) == pytest.approx(0.0)
    with pytest.raises(NotDrawable):
        placed(layout, lambda _: 30.0, 3.0, 100.0)


def test_edges_in_a_circle_are_not_drawn_but_listed() -> None:
    ends = (Edge(source="a", target="b"), Edge(source="b", target="a", kind=EdgeKind.FALLBACK))
    circle = TaskGraph(name="x", nodes=(Node(key="a"), Node(key="b")), edges=ends)
    assert drawn(circle, Terminal()).splitlines() == [
        "x: its edges form a cycle, which is too tangled to be drawn in 80 columns",
        "",
        "a, fallback of b",
        "b, after a",
    ]


def test_a_box_tells_what_its_kind_of_task_is_about() -> None:
    kinds = {"signal": {"name": "approved"}, "delay": {"seconds": 30}, "workflow": {"workflowId": "billing"}}
    tasks = [{"taskId": f"a_{kind}", "type": kind, "parameters": given} for kind, given in kinds.items()]
    drawing = drawn(graph_of(restore({"id": "x", "tasks": tasks}, Limits())), Terminal())
    assert [said for said in ("signal: approved", "delay: 30 s", "workflow: billing") if said not in drawing] == []


def test_a_condition_and_a_list_that_yaml_writes_on_lines_of_their_own_are_told_without_the_end_of_the_line() -> None:
    task = {"taskId": "a", "agentCapability": "x", "when": "true\n", "forEach": "${[1, 2]}\n"}
    (node,) = graph_of(restore({"id": "w", "tasks": [task]}, Limits())).nodes
    assert node.notes == ("when true", "for each ${[1, 2]}")
