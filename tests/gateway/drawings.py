"""Reads a drawing of a task graph back: which boxes its lines join, as a reader's eye follows them."""

import re

UP, DOWN, LEFT, RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)
WAYS = {
    "│": (UP, DOWN),
    "╎": (UP, DOWN),
    "─": (LEFT, RIGHT),
    "┄": (LEFT, RIGHT),
    "┘": (UP, LEFT),
    "└": (UP, RIGHT),
    "┐": (DOWN, LEFT),
    "┌": (DOWN, RIGHT),
    "┤": (UP, DOWN, LEFT),
    "├": (UP, DOWN, RIGHT),
    "┴": (UP, LEFT, RIGHT),
    "┬": (DOWN, LEFT, RIGHT),
    "┼": (UP, DOWN, LEFT, RIGHT),
}
"""Where a line goes on from each sign."""


def joined_in(text: str) -> set[tuple[str, str, bool]]:
    """The pairs of labels that lines join from the bottom of one box to a head on another, and whether it is dashed.

    Boxes have one line, or two of which the first is the label, and are of the kind that agents have.
    """
    rows = text.splitlines()
    cells = {(row, column): sign for row, line in enumerate(rows) for column, sign in enumerate(line)}
    boxes = _boxes(rows)
    found = set()
    for label, top, bottom, left, right in boxes:
        for column in range(left + 1, right):
            if cells[bottom, column] == "┬":
                for row, arrived in _followed(cells, (bottom, column)):
                    (target,) = [each[0] for each in boxes if each[1] == row and each[3] < arrived < each[4]]
                    found.add((label, target, cells[row, arrived] == "▽"))
        assert top < bottom
    return found


def _boxes(rows: list[str]) -> list[tuple[str, int, int, int, int]]:
    boxes = []
    for row, line in enumerate(rows):
        for match in re.finditer(r"│ +(n\d+) +│", line):
            left, right = match.start(), match.end() - 1
            bottom = next(each for each in range(row, len(rows)) if rows[each][left] == "└")
            boxes.append((match[1], row - 1, bottom, left, right))
    return boxes


def _followed(cells: dict[tuple[int, int], str], start: tuple[int, int]) -> list[tuple[int, int]]:
    """Follow a line down from the bottom of a box, and every way that it parts; it never goes back up to a box."""
    heads = []
    waiting = [((start[0] + 1, start[1]), DOWN)]
    seen = set()
    while waiting:
        place, way = waiting.pop()
        sign = cells.get(place, " ")
        if (place, way) in seen:
            continue
        seen.add((place, way))
        if sign in "▼▽":
            assert way == DOWN
            heads.append(place)
            continue
        crossed = (sign in "│╎" and way in (LEFT, RIGHT)) or (sign in "─┄" and way in (UP, DOWN))
        ways = (way,) if crossed else WAYS[sign]
        back = (-way[0], -way[1])
        assert crossed or back in ways, f"a line is broken at {place}"
        # At a level line others may join from above: whoever comes from there goes on, but not up into them.
        onward = (each for each in ways if each not in (back, UP))
        waiting.extend(((place[0] + each[0], place[1] + each[1]), each) for each in onward)
    return heads
