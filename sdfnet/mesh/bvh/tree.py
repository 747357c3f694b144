"""A search tree over the triangles of a mesh: closest points, and winding numbers.

Built for many points at a time. They are given along a Morton curve, with the places that the answers belong to, and go
in pieces to as many threads as libigl may use (IGL_NUM_THREADS); each point starts from the closest face of the one
before. What a point is told depends on neither. The loops are compiled by numba (`kernels`, `sums`) at their first use
on a machine, which takes seconds, and kept on disk, in the package's folder or the user's cache. Processes that find
nothing there compile each for itself at the same time, which takes no longer than waiting for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 4096
"""Points that one thread does at a time: some milliseconds of work."""

_LEAF_SIZE = 4

_NO_BOXES = np.concatenate([np.full((1, 3, 8), np.inf), np.full((1, 3, 8), -np.inf)], axis=1)
_NO_LEAVES = np.full((1, 9, 4), np.nan)
"""A tree without triangles."""


class TriangleTree:
    """A tree over triangles, built once, asked many times from any thread. It checks nothing.

    Parameters
    ----------
    vertices : (V, 3) float64
    faces : (F, 3) int64, at least one

    >>> tree = TriangleTree(np.eye(3), np.array([[0, 1, 2]]))
    >>> distance, faces, closest = tree.closest(np.array([[2.0, 0, 0], [1, 1, 1]]), np.array([1, 0]))
    >>> distance.round(12).tolist(), faces.tolist(), closest.round(12).tolist()[1]
    ([1.154700538379, 1.0], [0, 0], [1.0, 0.0, 0.0])
    """

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> None:
        # Here, because numba takes a third of a second that most commands can do without.
        from sdfnet.mesh.bvh import kernels

        self._kernels = kernels
        num_faces = len(faces)
        depth = max(0, (-(-num_faces // _LEAF_SIZE) - 1).bit_length())  # halvings down to leaves
        levels = -(-depth // 3)
        corners = vertices.take(faces.ravel(), axis=0).reshape(num_faces, 9)
        centers = np.ascontiguousarray((corners[:, :3] + corners[:, 3:6] + corners[:, 6:]).T)
        self._leaves = np.full((1 << depth, 9, 4), np.nan)
        self._boxes = np.full((max(1, (8**levels - 1) // 7), 6, 8), np.inf)
        self._boxes[:, 3:] = -np.inf
        self._numbers = np.zeros(len(self._leaves) * _LEAF_SIZE, dtype=np.int64)
        order = np.arange(num_faces)
        apart = min(depth, 3)
        kernels.split(centers, order, 0, apart, 0, 1)

        def finish(start: int, stop: int) -> None:
            kernels.split(centers, order, apart, depth, start, stop)
            shift = depth - apart
            kernels.fill(corners, order, self._numbers, self._leaves, self._boxes, start << shift, stop << shift)

        _in_pieces(finish, 1 << apart, 1 if num_faces > PIECE else 1 << apart)
        kernels.enclose(self._boxes)

    def closest(
        self, points: NDArray[np.float64], places: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return distances (N,), faces (N,) and closest points (N, 3), those of each point at its place of `places`."""
        distance, slots = np.empty(len(points)), np.empty(len(points), dtype=np.int64)
        closest = np.empty_like(points)
        self._ask(
            self._kernels.search, self._boxes, self._leaves, points, places, distance, slots, closest, size=len(points)
        )
        return distance, self._numbers.take(slots), closest

    def crossings(
        self, points: NDArray[np.float64], places: NDArray[np.int64], *, less: TriangleTree | None = None
    ) -> NDArray[np.float64]:
        """Return how often rays out of `points` (N, 3) leave the surface minus how often they enter it, (N,).

        These are the winding numbers of a closed mesh. With the crossings of another tree taken off that has the same
        boundary (`surplus_edges`), they are the difference of the winding numbers of the two.
        """
        winding = np.empty(len(points))
        boxes, leaves = (_NO_BOXES, _NO_LEAVES) if less is None else (less._boxes, less._leaves)
        self._ask(
            self._kernels.wind, self._boxes, self._leaves, boxes, leaves, points, places, winding, size=len(points)
        )
        return winding

    def add_sums(
        self,
        points: NDArray[np.float64],
        places: NDArray[np.int64],
        winding: NDArray[np.float64],
        *,
        coarse: float,
        fine: float,
    ) -> None:
        """Add winding numbers by sums over the faces to `winding` (N,), more accurate where the result is near a half.

        Groups of faces count as a whole from `coarse` times their reach on, there from `fine` times.
        """
        from sdfnet.mesh.bvh import winding as sums

        self._ask(sums.add_up, self._moments, self._leaves, points, places, winding, coarse, fine, size=len(points))

    @cached_property
    def _moments(self) -> NDArray[np.float32]:
        from sdfnet.mesh.bvh import winding as sums

        return sums.moments_of(self._leaves, len(self._boxes))

    def _ask(self, kernel: Callable[..., None], *arguments: Any, size: int) -> None:
        _in_pieces(lambda start, stop: kernel(*arguments, start, stop), size, PIECE)


def _in_pieces(work: Callable[[int, int], None], size: int, piece: int) -> None:
    """Call `work(start, stop)` for pieces of range(size), in several threads if there are several."""
    starts = range(0, size, piece)
    num_threads = min(len(starts), int(os.environ.get("IGL_NUM_THREADS", "1")))
    if num_threads <= 1:
        work(0, size)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(work, start, min(start + piece, size)) for start in starts]:
            done.result()
