"""Winding numbers of many points in any mesh: rays where that is possible, sums where it is not.

Two surfaces with the same boundary have winding numbers that differ by a whole number, and a ray counts it (closed, the
difference is between the mesh and nothing). So the mesh is exchanged for caps over its holes: fans of triangles from a
point amid each loop of its boundary, few where the mesh has many. Sums over the caps, plus the crossings of the mesh,
minus those of the caps, give what sums over the mesh would: Jacobson et al. (2013) do so to skip closed parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.bvh.tree import TriangleTree
from sdfnet.mesh.edges import label_connected, surplus_edges

MAX_SHARE = 0.25
"""More caps than this share of the faces are not worth it: the mesh itself is summed."""

COARSE, FINE, CAPS_FINE = 1.0, 1.5, 3.0
"""From how many times its reach on a group of faces is summed as a whole. Errors are up to 0.06, 0.005 and 0.0003: the
first is taken for a mesh where the result is far from ½, the second near ½ and for caps, which are few, the third for
caps near ½."""

_ASIDE = np.array([0.0131, 0.0173, 0.0127])
"""By how much of its loop's size an apex is moved: in a flat hole's middle, points of a lattice would be on edges."""


class Windings:
    """The winding numbers of one mesh, for many points. It checks nothing.

    Parameters
    ----------
    vertices : (V, 3) float64
    faces : (F, 3) int64
    tree : TriangleTree
        Of these.
    """

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int64], tree: TriangleTree) -> None:
        self._tree, self._caps = tree, None
        edges = surplus_edges(faces, len(vertices))
        self._is_summed = len(edges) > MAX_SHARE * len(faces)
        if len(edges) and not self._is_summed:
            self._caps = TriangleTree(*fans(vertices, edges))

    def __call__(self, points: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return winding numbers (N,) of `points` (N, 3), each at its place of `places`; whole for a closed mesh."""
        if self._is_summed:
            winding = np.zeros(len(points))
            self._tree.add_sums(points, places, winding, coarse=COARSE, fine=FINE)
            return winding
        winding = self._tree.crossings(points, places, less=self._caps)
        if self._caps is not None:
            self._caps.add_sums(points, places, winding, coarse=FINE, fine=CAPS_FINE)
        return winding


def fans(vertices: NDArray[np.float64], edges: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return vertices and triangles (E, 3) from each of the `edges` (E, 2) to a point amid those that hang together.

    >>> vertices, faces = fans(np.eye(3), np.array([[0, 1], [1, 2], [2, 0]]))
    >>> faces.tolist(), vertices[3].round(1).tolist()
    ([[0, 1, 3], [1, 2, 3], [2, 0, 3]], [0.3, 0.3, 0.3])
    """
    used, places = np.unique(edges, return_inverse=True)
    places = places.reshape(-1, 2)
    _, loop_of = label_connected(places[:, 0], places[:, 1], len(used))
    corners, sizes = vertices[used], np.bincount(loop_of)
    middles = np.stack([np.bincount(loop_of, weights=axis) for axis in corners.T], axis=1) / sizes[:, None]
    spread = np.bincount(loop_of, weights=np.linalg.norm(corners - middles[loop_of], axis=1)) / sizes
    apexes = middles + spread[:, None] * _ASIDE
    return np.concatenate([corners, apexes]), np.column_stack([places, len(used) + loop_of[places[:, 0]]])
