"""The layout of a graph: in layers from the top, with few crossings, and each node near its neighbours.

The method is Sugiyama's (K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
structures", 1981): layers by the longest path, waypoints where an edge passes a layer, an order within layers by
barycenters, swept down and up. Positions come last: of those that keep the order, the ones nearest to each node's
neighbours by least squares, which is an isotonic regression.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final

import attrs

from opscore.gateway.graphs.tasks import Edge, EdgeKind, TaskGraph

SLOTS_MAX: Final = 5_000
"""Nodes and waypoints of one drawing, at most; a larger one would be unreadable, and slow to make."""
ORDER_SWEEPS: Final = 12
PLACE_SWEEPS: Final = 12
STRAIGHT_WEIGHT: Final = 8
"""The weight of a line that should be straight; that of any other is 1."""


class NotDrawable(ValueError):
    """A graph has no drawing that a person could read; the message says why."""


@attrs.frozen(kw_only=True)
class Slot:
    """A place in a layer: that of a node, or a waypoint of edges that leave one node together and arrive together."""

    layer: int
    key: str
    """The key of the node, or of the node that the waypoint's edges leave."""
    passing: int | None = None
    """For a waypoint, the number of the group of nodes at which its edges arrive; else None."""


@attrs.frozen(kw_only=True)
class Link:
    """A connection between slots of neighbouring layers: an edge, or a part of edges."""

    upper: Slot
    lower: Slot
    kind: EdgeKind


@attrs.frozen(kw_only=True)
class Layout:
    """Layers from the top, the slots of each from the left, and the links between them."""

    layers: tuple[tuple[Slot, ...], ...]
    links: tuple[Link, ...]
    ways: Mapping[Edge, tuple[Slot, ...]]
    """The slots of each edge's path, from its source to its target."""


def layered(graph: TaskGraph, across_max: int = SLOTS_MAX) -> Layout:
    """Put each node below all nodes that lead to it.

    Args:
        graph: the graph to draw.
        across_max: how many slots a layer may have.

    Raises:
        NotDrawable: the edges form a cycle, or there would be too many slots.
    """
    depths = _depths(graph)
    if max(Counter(depths.values()).values(), default=0) > across_max:
        raise NotDrawable("it is too wide")
    arrivals = _arrivals(graph, depths)
    chains = {(edge.source, arrivals[edge]): depths[edge.target] for edge in graph.edges}
    if len(depths) + sum(last - depths[key] - 1 for (key, _), last in chains.items()) > SLOTS_MAX:
        raise NotDrawable("it is too large")
    layers: list[list[Slot]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for node in graph.nodes:
        layers[depths[node.key]].append(Slot(layer=depths[node.key], key=node.key))
    for (key, arrival), last in chains.items():
        for layer in range(depths[key] + 1, last):
            layers[layer].append(Slot(layer=layer, key=key, passing=arrival))
    ways = {
        edge: (
            Slot(layer=depths[edge.source], key=edge.source),
            *(
                Slot(layer=layer, key=edge.source, passing=arrivals[edge])
                for layer in range(depths[edge.source] + 1, depths[edge.target])
            ),
            Slot(layer=depths[edge.target], key=edge.target),
        )
        for edge in graph.edges
    }
    found = (
        Link(upper=upper, lower=lower, kind=edge.kind)
        for edge, way in ways.items()
        for upper, lower in itertools.pairwise(way)
    )
    links = tuple(dict.fromkeys(found))
    return Layout(layers=_ordered(layers, links), links=links, ways=ways)


def _depths(graph: TaskGraph) -> dict[str, int]:
    """The layer of each node: the length of the longest path to it."""
    before: dict[str, list[str]] = {node.key: [] for node in graph.nodes}
    for edge in graph.edges:
        before[edge.target].append(edge.source)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise NotDrawable("its edges form a cycle, which is too tangled") from error
    depths: dict[str, int] = {}
    for key in order:
        depths[key] = max((depths[other] + 1 for other in before[key]), default=0)
    return depths


def _arrivals(graph: TaskGraph, depths: Mapping[str, int]) -> dict[Edge, int]:
    """Number the groups of nodes at which edges arrive: nodes of one layer to which the same nodes lead.

    Edges from one node to two of these groups get separate paths. On a shared path, another edge that joins it would
    seem to lead to both.
    """
    sources: dict[tuple[str, EdgeKind], set[str]] = defaultdict(set)
    for edge in graph.edges:
        sources[edge.target, edge.kind].add(edge.source)
    met = {end: (end[1], depths[end[0]], frozenset(keys)) for end, keys in sources.items()}
    numbers = {each: number for number, each in enumerate(dict.fromkeys(met.values()))}
    return {edge: numbers[met[edge.target, edge.kind]] for edge in graph.edges}


# --- the order within layers ----------------------------------------------------------------------------------


def _neighbours(links: Sequence[Link]) -> tuple[dict[Slot, list[Slot]], dict[Slot, list[Slot]]]:
    """The neighbours of each slot in the layer above, and in the one below."""
    above: dict[Slot, list[Slot]] = defaultdict(list)
    below: dict[Slot, list[Slot]] = defaultdict(list)
    for link in links:
        above[link.lower].append(link.upper)
        below[link.upper].append(link.lower)
    return above, below


def _ordered(layers: list[list[Slot]], links: Sequence[Link]) -> tuple[tuple[Slot, ...], ...]:
    """Sweep down and up, and keep the order with the fewest crossings."""
    above, below = _neighbours(links)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(ORDER_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for layer in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            other = layers[layer - 1] if down else layers[layer + 1]
            _sort(layers[layer], other, above if down else below)
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return tuple(tuple(layer) for layer in best)


def _sort(layer: list[Slot], other: Sequence[Slot], joined: Mapping[Slot, Sequence[Slot]]) -> None:
    """Order a layer by the mean place of each slot's neighbours in another layer; a slot without neighbours stays."""
    places = {slot: place for place, slot in enumerate(other)}
    means = {
        slot: _mean([places[each] for each in joined.get(slot, ())], place * len(other) / len(layer))
        for place, slot in enumerate(layer)
    }
    layer.sort(key=means.__getitem__)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(layers: Sequence[Sequence[Slot]], below: Mapping[Slot, Sequence[Slot]]) -> int:
    """Count the pairs of links that cross, with a Fenwick tree."""
    total = 0
    for upper, lower in itertools.pairwise(layers):
        places = {slot: place for place, slot in enumerate(lower, start=1)}
        counts = [0] * (len(lower) + 1)
        seen = 0
        for slot in upper:
            ends = [places[each] for each in below.get(slot, ())]
            for end in ends:
                total += seen - _count(counts, end)
            for end in ends:
                _add(counts, end)
            seen += len(ends)
    return total


def _count(counts: Sequence[int], place: int) -> int:
    """How many were added at this place or a lower one (P. M. Fenwick, 1994)."""
    total = 0
    while place:
        total += counts[place]
        place &= place - 1
    return total


def _add(counts: list[int], place: int) -> None:
    while place < len(counts):
        counts[place] += 1
        place += place & -place


def _weighed(links: Sequence[Link]) -> tuple[dict[Slot, list[Slot]], dict[Slot, list[Slot]]]:
    """The neighbours, repeated by weight if the line to them should be straight: along a chain, and past layers."""
    above, below = _neighbours(links)
    chained = (len(above[link.lower]) == 1 and len(below[link.upper]) == 1 for link in links)
    passing = (None not in (link.upper.passing, link.lower.passing) for link in links)
    straight = [link for link, *either in zip(links, chained, passing, strict=True) if any(either)]
    return _neighbours([*links, *straight * (STRAIGHT_WEIGHT - 1)])


# --- places ---------------------------------------------------------------------------------------------------


def placed(layout: Layout, width_of: Callable[[Slot], float], gap: float, width_max: float) -> dict[Slot, float]:
    """Find the horizontal middle of each slot, from 0 to the width of the drawing.

    Args:
        layout: the layout.
        width_of: the width of a slot.
        gap: the space between two slots.
        width_max: the maximum width of the drawing.

    Raises:
        NotDrawable: a layer is wider than that.
    """
    widths = [[width_of(slot) for slot in layer] for layer in layout.layers]
    needed = max((sum(each) + gap * (len(each) - 1) for each in widths), default=0)
    if needed > width_max:
        raise NotDrawable("it is too wide")
    # The width of the slots to the left of one, and half its own. With this offset subtracted, slots do not overlap
    # exactly if their positions are in order.
    offsets = [[sum(each[:place]) + gap * place + each[place] / 2 for place in range(len(each))] for each in widths]
    middles = {
        slot: (needed - (offset[-1] + width[-1] / 2)) / 2 + own
        for layer, offset, width in zip(layout.layers, offsets, widths, strict=True)
        for slot, own in zip(layer, offset, strict=True)
    }
    above, below = _weighed(layout.links)
    for sweep in range(PLACE_SWEEPS):
        both = sweep >= PLACE_SWEEPS - 2
        down = sweep % 2 == 0
        for layer in range(len(layout.layers)) if down else reversed(range(len(layout.layers))):
            slots, offset = layout.layers[layer], offsets[layer]
            wanted = []
            for slot, own in zip(slots, offset, strict=True):
                near = [*(above[slot] if down or both else ()), *(below[slot] if not down or both else ())]
                wanted.append(_mean([middles[each] for each in near], middles[slot]) - own)
            room = width_max - (offset[-1] + widths[layer][-1] / 2)
            for slot, own, place in zip(slots, offset, _isotonic(wanted), strict=True):
                middles[slot] = own + min(max(place, 0.0), room)
    left = min((middles[slot] - width_of(slot) / 2 for slot in middles), default=0)
    return {slot: middle - left for slot, middle in middles.items()}


def _isotonic(wanted: Sequence[float]) -> list[float]:
    """The nondecreasing values nearest to those wanted, by least squares: neighbours that would decrease are pooled."""
    pools: list[tuple[float, int]] = []
    for value in wanted:
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]
