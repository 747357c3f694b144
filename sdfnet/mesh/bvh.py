"""A bounding volume hierarchy over the triangles of a mesh. It finds closest points, and winding numbers by rays.

Pass the points in Morton order, because each search starts from the closest face of the previous point. The results do
not depend on the other points, on the number of threads (IGL_NUM_THREADS) or on the shape of the tree.

The tree consists of two arrays. `boxes` (2 * L - 1, 6) holds the lower and upper corners of the nodes' boxes. The
children of node i are 2 * i + 1 and 2 * i + 2. The last L nodes are the leaves, and L is a power of two. `corners` (L,
9) holds one triangle for each leaf. Empty leaves have a lower corner at infinity, so that no search enters them.

numba compiles the loops at their first use, in about three seconds, and keeps the compiled code on disk. All arithmetic
is double precision in the order written, so that two faces with a common edge get equal numbers for that edge. Only
`distance` imports this module, and only at first use, because importing numba takes a third of a second.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

CHUNK_SIZE = 4096
"""One thread processes this many points at a time, which takes some milliseconds."""

STACK_SIZE = 128
"""Capacity of the stack of nodes during a search: twice the largest number of levels of the tree."""

_ROUNDING = 1e-14
"""Rounding errors of distances to triangles and boxes stay below this share of the distance and of the unit frame."""

_UNCERTAIN = 2e-15
"""The sign of a determinant is uncertain if its size is below this share of the sum of its products' sizes."""

_NO_TRIANGLES = np.array([[np.inf] * 3 + [-np.inf] * 3]), np.full((1, 9), np.nan)
"""Boxes and corners of a tree without triangles."""


class TriangleBVH:
    """A search tree over triangles. It is built once, answers queries from any thread, and does not check its input.

    The vertices (V, 3) must be about as large as the unit frame, and there must be a face.

    >>> bvh = TriangleBVH(np.eye(3), np.array([[0, 1, 2]]))
    >>> distance, faces, closest = bvh.closest(np.array([[2.0, 0, 0], [1, 1, 1]]), np.array([1, 0]))
    >>> distance.round(12).tolist(), faces.tolist(), closest.round(12).tolist()[1]
    ([1.154700538379, 1.0], [0, 0], [1.0, 0.0, 0.0])
    """

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> None:
        num_leaves = 1 << (len(faces) - 1).bit_length()
        face_of_leaf = np.minimum(np.arange(num_leaves), len(faces) - 1)  # The last face also fills the empty leaves.
        corners = vertices.take(faces.take(face_of_leaf, axis=0).ravel(), axis=0).reshape(-1, 9)
        order = _halved(np.ascontiguousarray(corners.reshape(-1, 3, 3).sum(axis=1).T))
        self._faces, self._corners = face_of_leaf.take(order), corners.take(order, axis=0)
        self._boxes = _boxes(self._corners, is_empty=order >= len(faces))

    def closest(
        self, points: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return distances (N,), faces (N,) and closest points (N, 3). The result for `points[i]` is in row `rows[i]`.

        Of several faces that are equally near, the one with the lowest number is returned.
        """
        distance, faces = np.empty(len(points)), np.empty(len(points), dtype=np.int64)
        closest = np.empty_like(points)
        results = (distance, faces, closest)
        _in_chunks(find_closest, self._boxes, self._corners, self._faces, points, rows, *results)
        return results

    def crossings(
        self, points: NDArray[np.float64], rows: NDArray[np.int64], *, minus: TriangleBVH | None = None
    ) -> NDArray[np.float64]:
        """Return how often a ray from each point leaves the surface minus how often it enters it, (N,).

        If the mesh is closed, this number is the winding number. For an open mesh, pass a second tree whose mesh has
        the same boundary (`surplus_edges`). Then the result is the difference between the winding numbers of the two
        meshes.
        """
        winding = np.empty(len(points))
        other = _NO_TRIANGLES if minus is None else (minus._boxes, minus._corners)
        _in_chunks(count_crossings, self._boxes, self._corners, *other, points, rows, winding)
        return winding


def _halved(centers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order (L,) of `centers` (3, L) in the leaves. Each node is split at the median of its longest axis."""
    order, size = np.arange(centers.shape[1]), centers.shape[1]
    while size > 1:
        nodes = centers.take(order, axis=1).reshape(3, -1, size)
        axes = (nodes.max(axis=2) - nodes.min(axis=2)).argmax(axis=0)
        halves = np.argpartition(nodes[axes, np.arange(len(axes))], size // 2, axis=1)
        order, size = np.take_along_axis(order.reshape(-1, size), halves, axis=1).ravel(), size // 2
    return order


def _boxes(corners: NDArray[np.float64], *, is_empty: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return lower and upper corners of the boxes of all nodes, (2 * L - 1, 6)."""
    a, b, c = corners[:, :3], corners[:, 3:6], corners[:, 6:]
    lower = [np.where(is_empty[:, None], np.inf, np.minimum(np.minimum(a, b), c))]
    upper = [np.where(is_empty[:, None], -np.inf, np.maximum(np.maximum(a, b), c))]
    while len(lower[-1]) > 1:
        lower.append(np.minimum(lower[-1][::2], lower[-1][1::2]))
        upper.append(np.maximum(upper[-1][::2], upper[-1][1::2]))
    return np.column_stack([np.concatenate(lower[::-1]), np.concatenate(upper[::-1])])


def _in_chunks(kernel: Callable[..., None], *arguments: Any) -> None:
    """Call `kernel(*arguments, start, stop)` for chunks of the rows of the last argument, in several threads."""
    num_rows = len(arguments[-1])
    num_threads = int(os.environ.get("IGL_NUM_THREADS", "1"))
    if num_threads <= 1 or num_rows <= CHUNK_SIZE:
        kernel(*arguments, 0, num_rows)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        starts = range(0, num_rows, CHUNK_SIZE)
        for done in [pool.submit(kernel, *arguments, i, min(i + CHUNK_SIZE, num_rows)) for i in starts]:
            done.result()


def compiled(function: Callable[..., Any]) -> Any:
    """Return `function`, compiled at its first call without blocking other threads and cached on disk if possible."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # Neither the package's folder nor the user's cache can be written.
        return njit(nogil=True, error_model="numpy")(function)


@compiled
def _to_edge(x: float, y: float, z: float, ex: float, ey: float, ez: float, length: float) -> Any:
    """Return the squared distance from (x, y, z) to the edge from 0 to (ex, ey, ez), and the offset from the edge."""
    along = min(max((x * ex + y * ey + z * ez) / length, 0.0), 1.0)
    x, y, z = x - along * ex, y - along * ey, z - along * ez
    return x * x + y * y + z * z, x, y, z


@compiled
def _to_triangle(corners: Any, x: float, y: float, z: float) -> Any:
    """Return the squared distance of a point to a triangle, and the offset (x, y, z) from the closest point.

    The distance is that to the nearest edge or, above the inside, to the plane. The height above the plane is measured
    from the closest point of the nearest edge, because the normal of a needle is inaccurate. The squared distance is
    never less than that to the nearest edge minus the squared width of the triangle.
    """
    ax, ay, az = corners[3] - corners[0], corners[4] - corners[1], corners[5] - corners[2]
    bx, by, bz = corners[6] - corners[3], corners[7] - corners[4], corners[8] - corners[5]
    cx, cy, cz = corners[0] - corners[6], corners[1] - corners[7], corners[2] - corners[8]
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    longest = 0.0
    inside = True
    squared, dx, dy, dz = np.inf, 0.0, 0.0, 0.0
    for k in range(3):
        px, py, pz = x - corners[3 * k], y - corners[3 * k + 1], z - corners[3 * k + 2]
        ex, ey, ez = (ax, ay, az) if k == 0 else (bx, by, bz) if k == 1 else (cx, cy, cz)
        length = ex * ex + ey * ey + ez * ez
        longest = max(longest, length)
        inside &= (ey * pz - ez * py) * nx + (ez * px - ex * pz) * ny + (ex * py - ey * px) * nz >= 0
        found, qx, qy, qz = _to_edge(px, py, pz, ex, ey, ez, length)
        if k == 0 or found < squared:
            squared, dx, dy, dz = found, qx, qy, qz
    if inside:
        normal = nx * nx + ny * ny + nz * nz
        height = dx * nx + dy * ny + dz * nz
        plane, least = height * height / normal, squared - normal / longest
        if plane >= least and plane < squared:
            share = height / normal
            return plane, share * nx, share * ny, share * nz
        if plane < least and least < squared:
            return least, dx, dy, dz
    return squared, dx, dy, dz


@compiled
def _to_box(box: Any, x: float, y: float, z: float) -> float:
    """Return the squared distance of a point to a box. It is 0 inside the box."""
    dx = max(box[0] - x, x - box[3], 0.0)
    dy = max(box[1] - y, y - box[4], 0.0)
    dz = max(box[2] - z, z - box[5], 0.0)
    return dx * dx + dy * dy + dz * dz


@compiled
def _search_limit(squared: float) -> float:
    """Return the squared distance above which no triangle can be as near as `squared`, even with rounding errors."""
    return (math.sqrt(squared) * (1 + _ROUNDING) + _ROUNDING) ** 2


@compiled
def find_closest(
    boxes: Any, corners: Any, faces: Any, points: Any, rows: Any, distance: Any, face: Any, closest: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write distance, face and closest point of points[start:stop] to the rows rows[start:stop] of the results.

    `faces` (L,) has the number of each leaf's face. Of several nearest faces the one with the lowest number is taken.
    Each search starts with the face found for the previous point, so consecutive points should be neighbours.
    """
    stack, heights = np.empty(STACK_SIZE, dtype=np.int64), np.empty(STACK_SIZE)
    first_leaf = len(corners) - 1
    nearest = 0
    for i in range(start, stop):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        best, dx, dy, dz = _to_triangle(corners[nearest], x, y, z)
        limit = _search_limit(best)
        tried, node, top = nearest, 0, 0
        while True:
            leaf = node - first_leaf
            if leaf >= 0:
                if leaf != tried:
                    found, qx, qy, qz = _to_triangle(corners[leaf], x, y, z)
                    if found < best or (found == best and faces[leaf] < faces[nearest]):
                        best, nearest, dx, dy, dz = found, leaf, qx, qy, qz
                        limit = _search_limit(best)
            else:
                near, far = 2 * node + 1, 2 * node + 2
                near_height, far_height = _to_box(boxes[near], x, y, z), _to_box(boxes[far], x, y, z)
                if far_height < near_height:
                    near, far, near_height, far_height = far, near, far_height, near_height
                if far_height < limit:
                    stack[top], heights[top] = far, far_height
                    top += 1
                if near_height < limit:
                    node = near
                    continue
            while top > 0 and heights[top - 1] >= limit:
                top -= 1
            if top == 0:
                break
            top -= 1
            node = stack[top]
        row = rows[i]
        distance[row], face[row] = math.sqrt(best), faces[nearest]
        closest[row, 0], closest[row, 1], closest[row, 2] = x - dx, y - dy, z - dz


@compiled
def _projected_turn(triangle: Any, u: int, v: int, at_u: float, at_v: float) -> int:
    """Return 1 or -1 if the triangle, projected on axes u and v, runs round the point (1: counter-clockwise), else 0.

    Both faces at an edge treat the edge alike. Whether the edge crosses the line through the point along u is decided
    exactly. The side of the crossing comes from a product that only changes its sign with the direction of the edge.
    """
    rising, falling = False, False
    start_u, start_v = triangle[6 + u] - at_u, triangle[6 + v] - at_v
    for k in range(3):
        stop_u, stop_v = triangle[3 * k + u] - at_u, triangle[3 * k + v] - at_v
        if (start_v > 0) != (stop_v > 0):
            turn = start_u * stop_v - start_v * stop_u
            rising |= stop_v > 0 and turn > 0
            falling |= start_v > 0 and turn < 0
        start_u, start_v = stop_u, stop_v
    return int(rising) - int(falling)


@compiled
def _is_above(triangle: Any, point: Any, axis: int, turn: int) -> Any:
    """Return whether a triangle whose `_projected_turn` is `turn` is above the point, and whether this is sure."""
    low = min(triangle[axis], triangle[axis + 3], triangle[axis + 6])
    high = max(triangle[axis], triangle[axis + 3], triangle[axis + 6])
    if low > point[axis] or high < point[axis]:
        return low > point[axis], True
    ax, ay, az = triangle[0] - point[0], triangle[1] - point[1], triangle[2] - point[2]
    bx, by, bz = triangle[3] - point[0], triangle[4] - point[1], triangle[5] - point[2]
    cx, cy, cz = triangle[6] - point[0], triangle[7] - point[1], triangle[8] - point[2]
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    size = abs(ax) * (abs(by * cz) + abs(bz * cy)) + abs(ay) * (abs(bz * cx) + abs(bx * cz))
    size += abs(az) * (abs(bx * cy) + abs(by * cx))
    return (volume > 0) == (turn > 0), abs(volume) > _UNCERTAIN * size


@compiled
def _cast_ray(boxes: Any, corners: Any, stack: Any, point: Any, axis: int, direction: int) -> Any:
    """Return how often a ray along `axis` leaves the surface minus how often it enters, and whether the result is sure.

    It runs upwards if `direction` is 1 and downwards if it is -1.
    """
    u, v, far = (axis + 1) % 3, (axis + 2) % 3, axis + 3 if direction > 0 else axis
    at_u, at_v, at_w = point[u], point[v], point[axis]
    first_leaf = len(corners) - 1
    count, sure, top, stack[0] = 0, True, 1, 0
    while top > 0:
        top -= 1
        node = stack[top]
        if node < first_leaf:
            for child in range(2 * node + 1, 2 * node + 3):
                box = boxes[child]
                beside = (box[u] <= at_u) & (at_u <= box[u + 3]) & (box[v] <= at_v) & (at_v <= box[v + 3])
                stack[top] = child
                top += int(beside & ((box[far] - at_w) * direction >= 0))  # Adding is quicker than branching.
            continue
        triangle = corners[node - first_leaf]
        turn = _projected_turn(triangle, u, v, at_u, at_v)
        if turn != 0:
            above, certain = _is_above(triangle, point, axis, turn)
            sure &= certain
            if above == (direction > 0):
                count += turn * direction
    return count, sure


@compiled
def count_crossings(
    boxes: Any, corners: Any, other_boxes: Any, other_corners: Any, points: Any, rows: Any, winding: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write a tree's crossings minus another tree's for rays from points[start:stop] to winding[rows[start:stop]].

    Both trees get the same ray, because only then the difference equals that of the winding numbers. The ray takes the
    shortest way out of the first tree's box. If rounding might decide on which side of a face the point lies, other
    axes are tried.
    """
    stack = np.empty(STACK_SIZE, dtype=np.int64)
    for i in range(start, stop):
        point = points[i]
        axis, direction, shortest = 0, 1, np.inf
        for k in range(3):
            if boxes[0, k + 3] - point[k] < shortest:
                axis, direction, shortest = k, 1, boxes[0, k + 3] - point[k]
            if point[k] - boxes[0, k] < shortest:
                axis, direction, shortest = k, -1, point[k] - boxes[0, k]
        for step in range(3):
            count, sure = _cast_ray(boxes, corners, stack, point, (axis + step) % 3, direction)
            other, other_sure = _cast_ray(other_boxes, other_corners, stack, point, (axis + step) % 3, direction)
            winding[rows[i]] = count - other
            if sure and other_sure:
                break
