"""Compiled loops over a tree of triangles: building it, closest points, and crossings of rays. `tree` is their face.

The tree is a complete one of eight children a node, in one array: those of node g are 8g + 1 to 8g + 8, and numbers
from the first leaf's on are leaves, of up to four triangles. Halves of equal numbers are split off along the longest
side of the box of the faces' centres, three times a level.

- `boxes` (nodes, 6, 8): lower and upper corners of a node's children; infinite and reversed where there is none.
- `leaves` (leaves, 9, 4): corner coordinates; NaN where there is no triangle.
- `numbers` (leaves * 4): the faces' numbers, by slot, that is leaf * 4 + lane.

numba keeps compiled code on disk and looks only at the age and size of this file, so that it must change with `lanes`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdfnet.mesh.bvh.lanes import (
    boxes_along,
    boxes_within,
    compiled,
    faces_over,
    faces_within,
    lowest_bit,
    ways_from_faces,
)

LANES = "4643b4a1"
"""Of the text of `lanes`, the first characters of its SHA-256; a test compares."""

NUM_HEIGHTS = 256
"""Room on the stack of a walk: seven more for each of at most twenty levels."""

NO_SLOT = 1 << 62

_ROUNDING = 1e-14
"""More than distances to triangles and boxes are off, as a share of them and of the unit frame."""

_DOUBT = 2e-15
"""A determinant is of uncertain sign if it is below this share of the sum of its products' sizes."""


@compiled
def _select(keys: Any, order: Any, start: int, stop: int, middle: int) -> None:
    """Reorder order[start:stop] so that keys[order] are no larger before `middle` than after (Hoare's selection)."""
    low, high = start, stop - 1
    while low < high:
        a, b, c = keys[order[low]], keys[order[(low + high) >> 1]], keys[order[high]]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[order[i]] < pivot:
                i += 1
            while keys[order[j]] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@compiled
def split(centers: Any, order: Any, first_level: int, last_level: int, start_part: int, stop_part: int) -> None:
    """Halve the parts [start_part, stop_part) that `order` (F,) has after `first_level` halvings, down to `last_level`.

    `centers` is (3, F).
    """
    num_faces = len(order)
    for level in range(first_level, last_level):
        for part in range(start_part << (level - first_level), stop_part << (level - first_level)):
            start, stop = part * num_faces >> level, (part + 1) * num_faces >> level
            widest, axis = -1.0, 0
            for k in range(3):
                low, high = np.inf, -np.inf
                for i in range(start, stop):
                    value = centers[k, order[i]]
                    low, high = min(low, value), max(high, value)
                if high - low > widest:
                    widest, axis = high - low, k
            _select(centers[axis], order, start, stop, (2 * part + 1) * num_faces >> (level + 1))


@compiled
def fill(corners: Any, order: Any, numbers: Any, leaves: Any, boxes: Any, start_leaf: int, stop_leaf: int) -> None:
    """Write leaves [start_leaf, stop_leaf) and their boxes. `corners` is (F, 9); `numbers` are made from `order`."""
    num_faces, num_leaves = len(order), len(leaves)
    for leaf in range(start_leaf, stop_leaf):
        start, stop = leaf * num_faces // num_leaves, (leaf + 1) * num_faces // num_leaves
        parent, child = (len(boxes) + leaf - 1) >> 3, (len(boxes) + leaf - 1) & 7
        for i in range(start, stop):
            numbers[leaf * 4 + i - start] = order[i]
            for row in range(9):
                value, axis = corners[order[i], row], row % 3
                leaves[leaf, row, i - start] = value
                boxes[parent, axis, child] = min(boxes[parent, axis, child], value)
                boxes[parent, axis + 3, child] = max(boxes[parent, axis + 3, child], value)


@compiled
def enclose(boxes: Any) -> None:
    """Write the boxes of all nodes above those of the leaves."""
    for node in range(len(boxes) - 1, 0, -1):
        parent, child = (node - 1) >> 3, (node - 1) & 7
        for axis in range(3):
            boxes[parent, axis, child] = boxes[node, axis].min()
            boxes[parent, axis + 3, child] = boxes[node, axis + 3].max()


@compiled
def _nearer(mask: int, gaps: Any, leaf: int, best: float, slot: int) -> tuple[float, int]:
    """Return the smallest squared distance and its slot, the lower of two, of the triangles in `mask` and the known."""
    while mask:
        place = leaf * 4 + lowest_bit(mask)
        mask &= mask - 1
        gap = gaps[place & 3]
        if gap < best or (gap == best and place < slot):
            best, slot = gap, place
    return best, slot


@compiled
def _reach(best: float) -> float:
    """Return the squared distance from which on nothing can be as near as `best`, whatever rounding did to both."""
    return (math.sqrt(best) * (1 + _ROUNDING) + _ROUNDING) ** 2


@compiled
def _push(mask: int, gaps: Any, node: int, heights: Any, stack: Any, top: int) -> int:
    """Put the children in `mask` on the stack, the nearest last, and return its new height."""
    bottom = top
    while mask:
        child = lowest_bit(mask)
        mask &= mask - 1
        gap, place = gaps[child], top
        while place > bottom and heights[place - 1] < gap:
            heights[place], stack[place] = heights[place - 1], stack[place - 1]
            place -= 1
        heights[place], stack[place] = gap, 8 * node + 1 + child
        top += 1
    return top


@compiled
def search(
    boxes: Any, leaves: Any, points: Any, order: Any, distance: Any, slots: Any, closest: Any, start: int, stop: int
) -> None:
    """Write distances, slots and closest points of points[start:stop] to the places order[start:stop].

    Points that follow one another should be neighbours: each first tries the leaf of the one before. What is found does
    not depend on that: of all triangles the nearest by its computed distance, and the first of several.
    """
    gaps, ways = np.empty(8), np.empty((3, 4))
    heights, stack = np.empty(NUM_HEIGHTS), np.empty(NUM_HEIGHTS, dtype=np.int64)
    slot = 0
    for turn in range(start, stop):
        row = order[turn]
        x, y, z = points[turn, 0], points[turn, 1], points[turn, 2]
        first_leaf, best, slot = slot >> 2, np.inf, NO_SLOT
        mask = faces_within(leaves, first_leaf, x, y, z, best, gaps)
        best, slot = _nearer(mask, gaps, first_leaf, best, slot)
        limit = _reach(best)
        top, stack[0], heights[0] = 1, 0, 0.0
        while top:
            top -= 1
            node, leaf = stack[top], stack[top] - len(boxes)
            if heights[top] >= limit or leaf == first_leaf:
                continue
            if leaf < 0:
                top = _push(boxes_within(boxes, node, x, y, z, limit, gaps), gaps, node, heights, stack, top)
                continue
            mask = faces_within(leaves, leaf, x, y, z, limit, gaps)
            if mask:
                best, slot = _nearer(mask, gaps, leaf, best, slot)
                limit = _reach(best)
        if slot == NO_SLOT:
            best, slot = np.inf, 0
        ways_from_faces(leaves, slot >> 2, x, y, z, ways)
        distance[row], slots[row] = np.sqrt(best), slot
        for axis in range(3):
            closest[row, axis] = points[turn, axis] - ways[axis, slot & 3]


@compiled
def _is_ahead(leaf: Any, lane: int, point: Any, axis: int, around: int) -> tuple[bool, bool]:
    """Return whether a triangle that holds the point's projection is above it along `axis`, and whether that is sure.

    `around` is 1 if the projected triangle runs counter-clockwise, else -1.
    """
    at = point[axis]
    low = min(leaf[axis, lane], leaf[axis + 3, lane], leaf[axis + 6, lane])
    high = max(leaf[axis, lane], leaf[axis + 3, lane], leaf[axis + 6, lane])
    if low > at or high < at:
        return low > at, True
    ax, ay, az = leaf[0, lane] - point[0], leaf[1, lane] - point[1], leaf[2, lane] - point[2]
    bx, by, bz = leaf[3, lane] - point[0], leaf[4, lane] - point[1], leaf[5, lane] - point[2]
    cx, cy, cz = leaf[6, lane] - point[0], leaf[7, lane] - point[1], leaf[8, lane] - point[2]
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    size = abs(ax) * (abs(by * cz) + abs(bz * cy)) + abs(ay) * (abs(bz * cx) + abs(bx * cz))
    size += abs(az) * (abs(bx * cy) + abs(by * cx))
    return (volume > 0) == (around > 0), abs(volume) > _DOUBT * size


@compiled
def _cast(boxes: Any, leaves: Any, stack: Any, point: Any, axis: int, turn: int) -> tuple[int, bool]:
    """Return how often the surface is left minus entered along a ray, and whether no rounding decided that."""
    u, v, far = (axis + 1) % 3, (axis + 2) % 3, axis + 3 if turn > 0 else axis
    at_u, at_v, at_w, upwards = point[u], point[v], point[axis], float(turn)
    count, sure, top, stack[0] = 0, True, 1, 0
    while top:
        top -= 1
        node, leaf = stack[top], stack[top] - len(boxes)
        if leaf < 0:
            mask = boxes_along(boxes, node, u, v, far, at_u, at_v, at_w, upwards)
            while mask:
                stack[top] = 8 * node + 1 + lowest_bit(mask)
                mask &= mask - 1
                top += 1
            continue
        mask = faces_over(leaves, leaf, u, v, at_u, at_v)
        while mask:
            lane = lowest_bit(mask)
            mask &= mask - 1
            around = 1 if lane < 4 else -1
            ahead, certain = _is_ahead(leaves[leaf], lane & 3, point, axis, around)
            sure &= certain
            if ahead == (turn > 0):
                count += around * turn
    return count, sure


@compiled
def wind(
    boxes: Any,
    leaves: Any,
    other_boxes: Any,
    other_leaves: Any,
    points: Any,
    order: Any,
    winding: Any,
    start: int,
    stop: int,
) -> None:
    """Write the crossings of the shortest way out of a tree's box from points[start:stop], less another tree's.

    Both are asked along one ray: only then is the difference that of winding numbers. Where rounding might decide
    whether a face is ahead, the other two axes are tried.
    """
    stack = np.empty(NUM_HEIGHTS, dtype=np.int64)
    bounds = np.empty((2, 3))
    for k in range(3):
        bounds[0, k], bounds[1, k] = boxes[0, k].min(), boxes[0, k + 3].max()
    for place in range(start, stop):
        point = points[place]
        axis, turn, way = 0, 1, np.inf
        for k in range(3):
            if bounds[1, k] - point[k] < way:
                axis, turn, way = k, 1, bounds[1, k] - point[k]
            if point[k] - bounds[0, k] < way:
                axis, turn, way = k, -1, point[k] - bounds[0, k]
        sure = False
        for step in range(3):
            if not sure:
                count, certain = _cast(boxes, leaves, stack, point, (axis + step) % 3, turn)
                other_count, sure = _cast(other_boxes, other_leaves, stack, point, (axis + step) % 3, turn)
                sure &= certain
                winding[order[place]] = count - other_count
