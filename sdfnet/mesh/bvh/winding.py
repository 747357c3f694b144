"""Winding numbers as sums over the faces of any mesh: near ones exactly, groups of far ones by their moments.

The solid angle of a triangle is that of van Oosterom & Strackee (1983). Its tangent's numerator and denominator are a
complex number whose argument is half the angle: such numbers are multiplied instead of adding angles, and turns are
counted. A node of the tree far enough away is summed as a whole, after Barill et al. (2018): by its area vector and the
first and second moments of it, in single precision, eight nodes at once.

numba keeps compiled code on disk and looks only at the age and size of this file, so that it must change with `lanes`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from sdfnet.mesh.bvh.lanes import BOX_LANES, FACE_LANES, INT, Code, Lanes, compiled, cross, dot, lowest_bit, minus

LANES = "4643b4a1"
"""Of the text of `lanes`, the first characters of its SHA-256; a test compares."""

NUM_MOMENTS = 23
"""Rows of a group: centre (3), squared reach, area vector (3), first moments (6), second moments (10)."""

UNSURE = 0.26
"""Sums this close to a half are made again accurately: no coarse one is off by so much that it matters elsewhere."""

_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_MIXED = ((0, 0, 1), (0, 0, 2), (1, 1, 0), (1, 1, 2), (2, 2, 0), (2, 2, 1), (0, 1, 2))
_TRIPLES = ((0, 0, 0), (1, 1, 1), (2, 2, 2), *_MIXED)
_REPEATS = (1, 1, 1, 3, 3, 3, 3, 3, 3, 6)
"""How often a triple occurs in a cube of numbers that is symmetric."""

_HALF = ir.FloatType()


def _far_sum(way: list[Lanes], rows: list[Lanes], nearness: Lanes) -> Lanes:
    """Return solid angles of groups from their moments. `way` is the unit vector to them, `nearness` 1 / distance."""
    first, second = rows[3:9], rows[9:19]
    flux = dot(rows[:3], way)
    trace, bend = first[0] + first[1] + first[2], first[0] * way[0] * way[0]
    for (i, j), moment in zip(_PAIRS[1:], first[1:], strict=True):
        bend = bend + moment * way[i] * way[j] * (1 if i == j else 2)
    third = second[0] * way[0] * way[0] * way[0]
    for (i, j, k), repeats, moment in zip(_TRIPLES[1:], _REPEATS[1:], second[1:], strict=True):
        third = third + moment * way[i] * way[j] * way[k] * repeats
    traces = (second[0] + second[5] + second[7], second[1] + second[3] + second[8], second[2] + second[4] + second[6])
    curl = third * 7.5 - dot(traces, way) * 4.5
    return nearness * nearness * (flux + nearness * (trace - bend * 3 + nearness * curl))


@intrinsic
def _add_far(typing: Any, moments: Any, node: Any, x: Any, y: Any, z: Any, apart: Any, sums: Any) -> Any:
    """Add the solid angles of a node's far children to `sums` (8,), and return which are near, as bits.

    `moments` is (nodes, NUM_MOMENTS, 8), float32, and NaN where there is no child; `apart` is the square of the least
    distance in shares of the reach.
    """
    real = types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        rows = [code.row(row, BOX_LANES, rows=NUM_MOMENTS, kind=_HALF) for row in range(NUM_MOMENTS)]
        offset = minus(rows[:3], [code.spread(axis, BOX_LANES, kind=_HALF) for axis in (2, 3, 4)])
        squared, reach = dot(offset, offset), rows[3] * code.spread(5, BOX_LANES, kind=_HALF)
        far, near = squared > reach, reach >= squared
        nearness = Lanes(builder, ir.Constant(squared.value.type, [1.0] * BOX_LANES)) / squared.root()
        angle = _far_sum([part * nearness for part in offset], rows[4:], nearness)
        zero = Lanes(builder, ir.Constant(squared.value.type, [0.0] * BOX_LANES))
        pointer = builder.bitcast(code.start(6), squared.value.type.as_pointer())
        total = Lanes(builder, builder.load(pointer, align=4)) + far.choose(angle, zero)
        builder.store(total.value, pointer, align=4)
        return near.bits()

    return types.int64(moments, types.int64, real, real, real, real, sums), write


@intrinsic
def _turn_near(typing: Any, leaves: Any, leaf: Any, x: Any, y: Any, z: Any, state: Any) -> Any:
    """Multiply a leaf's four complex numbers into `state` (3, 4): real and imaginary parts, and whole turns.

    A point in the plane of a triangle counts as on the side that the normal points away from, as in `kernels`.
    """
    real = types.float64

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code = Code(context, builder, signature, arguments)
        point = [code.spread(axis, FACE_LANES) for axis in (2, 3, 4)]
        rows = [code.row(row, FACE_LANES, rows=9) for row in range(9)]
        a, b, c = (minus(rows[k : k + 3], point) for k in (0, 3, 6))
        la, lb, lc = (dot(side, side).root() for side in (a, b, c))
        volume, all_three = dot(a, cross(b, c)), la * lb * lc
        cosine = all_three + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
        scale = all_three * 4
        zero, one = (Lanes(builder, ir.Constant(scale.value.type, [value] * FACE_LANES)) for value in (0.0, 1.0))
        known = scale > 0  # false where there is no triangle, or at a corner
        sine, cosine = known.choose(volume / scale, zero), known.choose(cosine / scale, one)
        pointers = [
            builder.bitcast(builder.gep(code.start(5), [ir.Constant(INT, 4 * row)]), scale.value.type.as_pointer())
            for row in range(3)
        ]
        old_cosine, old_sine, turns = (Lanes(builder, builder.load(pointer, align=8)) for pointer in pointers)
        new_sine = old_sine * cosine + old_cosine * sine
        was_up, is_up, goes_up = old_sine > 0, new_sine > 0, sine > 0
        over, under = was_up & goes_up & ~is_up, ~was_up & ~goes_up & is_up
        turns = turns + over.choose(one, zero) - under.choose(one, zero)
        for pointer, value in zip(pointers, (old_cosine * cosine - old_sine * sine, new_sine, turns), strict=True):
            builder.store(value.value, pointer, align=8)
        return ir.Constant(INT, 0)

    return types.int64(leaves, types.int64, real, real, real, state), write


@compiled
def _gather(group: Any, part: Any) -> None:
    """Add the moments of `part` (44,), which are about its own centre, to those of `group` (44,), about its."""
    way = 0.0
    for a in range(3):
        area, along_a = part[5 + a], part[a] - group[a]
        way += along_a * along_a
        group[5 + a] += area
        for b in range(3):
            first, along_b = part[8 + 3 * a + b], part[b] - group[b]
            group[8 + 3 * a + b] += first + area * along_b
            for c in range(3):
                along_c = part[c] - group[c]
                once = first * along_c + part[8 + 3 * a + c] * along_b
                group[17 + 9 * a + 3 * b + c] += part[17 + 9 * a + 3 * b + c] + once + area * along_b * along_c
    group[3] = max(group[3], math.sqrt(way) + part[3])


@compiled
def _measure(leaf: Any, lane: int, part: Any) -> None:
    """Write the moments of a triangle about its centroid to `part` (44,); its size is 0 where there is none."""
    part[:] = 0
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        part[k] = (leaf[k, lane] + leaf[3 + k, lane] + leaf[6 + k, lane]) / 3
        part[5 + k] = (leaf[3 + i, lane] - leaf[i, lane]) * (leaf[6 + j, lane] - leaf[j, lane]) / 2
        part[5 + k] -= (leaf[3 + j, lane] - leaf[j, lane]) * (leaf[6 + i, lane] - leaf[i, lane]) / 2
    size = math.sqrt(part[5] ** 2 + part[6] ** 2 + part[7] ** 2)
    part[4] = size if size > 0 else 0.0
    for corner in range(0, 9, 3):
        way = 0.0
        for b in range(3):
            along_b = leaf[corner + b, lane] - part[b]
            way += along_b * along_b
            for c in range(3):
                for a in range(3):
                    product = part[5 + a] * along_b * (leaf[corner + c, lane] - part[c])
                    part[17 + 9 * a + 3 * b + c] += product / 12
        part[3] = max(part[3], math.sqrt(way))


@compiled
def _combine(group: Any, parts: Any) -> None:
    """Write the moments of the `parts` (P, 44) that have a size to `group` (44,)."""
    group[:] = 0
    for part in parts:
        if part[4] > 0:
            group[4] += part[4]
            for k in range(3):
                group[k] += part[4] * part[k]
    if group[4] > 0:
        for k in range(3):
            group[k] /= group[4]
    for part in parts:
        if part[4] > 0:
            _gather(group, part)


@compiled
def measure(leaves: Any, groups: Any) -> None:
    """Write the moments of the children of all nodes, (nodes, 8, 44).

    A row is centre (3), reach, area, area vector (3), first moments (3, 3) and second moments (3, 3, 3).
    """
    flat, parts = groups.reshape(-1, 44), np.empty((4, 44))
    flat[:, 4] = 0
    for leaf in range(len(leaves)):
        for lane in range(4):
            _measure(leaves[leaf], lane, parts[lane])
        _combine(flat[len(groups) + leaf - 1], parts)
    for node in range(len(groups) - 1, 0, -1):
        _combine(flat[node - 1], groups[node])


def moments_of(leaves: NDArray[np.float64], num_nodes: int) -> NDArray[np.float32]:
    """Return what `add_up` needs of a tree: (nodes, NUM_MOMENTS, 8); NaN where there is no child."""
    groups = np.full((num_nodes, 8, 44), np.nan)
    measure(leaves, groups)
    first, second = groups[..., 8:17].reshape(-1, 8, 3, 3), groups[..., 17:].reshape(-1, 8, 3, 3, 3)
    rows = [*(groups[..., k] for k in range(3)), groups[..., 3] ** 2, *(groups[..., 5 + k] for k in range(3))]
    rows += [(first[..., i, j] + first[..., j, i]) / 2 for i, j in _PAIRS]
    rows += [(second[..., i, j, k] + second[..., j, k, i] + second[..., k, i, j]) / 3 for i, j, k in _TRIPLES]
    moments = np.stack(rows, axis=1).astype(np.float32)
    moments[:, 3][~(groups[..., 4] > 0)] = np.nan
    return moments


@compiled
def _add_up(moments: Any, leaves: Any, x: float, y: float, z: float, apart: float, room: Any) -> float:
    """Return the winding number of one point; `room` is a stack, sums and state."""
    stack, sums, state = room
    sums[:] = 0
    state[0], state[1], state[2] = 1, 0, 0
    top, stack[0] = 1, 0
    while top:
        top -= 1
        node, leaf = stack[top], stack[top] - len(moments)
        if leaf >= 0:
            _turn_near(leaves, leaf, x, y, z, state)
            continue
        near = _add_far(moments, node, x, y, z, apart, sums)
        while near:
            stack[top] = 8 * node + 1 + lowest_bit(near)
            near &= near - 1
            top += 1
    turns = sums.sum() / (4 * math.pi)
    for lane in range(4):
        angle = math.atan2(state[1, lane], state[0, lane])
        turns += state[2, lane] + (-abs(angle) if state[1, lane] <= 0 else angle) / (2 * math.pi)
    return turns


@compiled
def add_up(
    moments: Any, leaves: Any, points: Any, order: Any, winding: Any, coarse: float, fine: float, start: int, stop: int
) -> None:
    """Add the sums of points[start:stop] to winding[order[start:stop]].

    Groups of faces are summed as a whole from `coarse` times their reach on; from `fine` times where the result
    is nearer to a half than UNSURE.
    """
    room = (np.empty(256, dtype=np.int64), np.empty(8, dtype=np.float32), np.empty((3, 4)))
    for place in range(start, stop):
        row = order[place]
        x, y, z = points[place, 0], points[place, 1], points[place, 2]
        found = _add_up(moments, leaves, x, y, z, coarse * coarse, room)
        if abs(winding[row] + found - 0.5) < UNSURE:
            found = _add_up(moments, leaves, x, y, z, fine * fine, room)
        winding[row] += found
