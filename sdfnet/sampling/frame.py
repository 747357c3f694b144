"""The one similarity of a whole folder (`normalize=shared`), found without holding all meshes at once.

Each mesh leaves the corners of its convex hull in a file, because the farthest point from any centre is one of them;
the files are then read one after the other. The result is that of `folder_similarities`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import atomic_path
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.loading import load_shape
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.sampling.parts import Job

_logger = logging.getLogger(__name__)


def leave_outline(job: Job, *, thickness: float | None) -> None:
    """Leave in the job's part, a NumPy file, what the shared similarity needs to know of a mesh.

    The rows are x, y, z (world frame) and how far the solid reaches beyond that point; none for a refused mesh.
    """
    try:
        shape = load_shape(job.path, name=job.name, thickness=thickness)
    except Exception:  # whatever is wrong with one mesh must not stop the others; sampling it will say what
        _logger.debug("%s has no outline", job.path, exc_info=True)
        save_outline(job, np.zeros((0, 4)))
        return
    corners = _hull_corners(shape.mesh.vertices)
    save_outline(job, np.column_stack([corners, np.full(len(corners), shape.thickness or 0.0)]))


def save_outline(job: Job, outline: NDArray[np.float64]) -> None:
    """Write an outline (K, 4), whole or not at all."""
    with atomic_path(job.part) as temporary:
        np.save(temporary, outline)


def shared_similarity(jobs: Sequence[Job]) -> Similarity | None:
    """Return the similarity of all meshes whose outlines `jobs` have left; None if none of them can be used."""
    box: Bounds | None = None
    for job in jobs:
        outline = np.load(job.part)
        if len(outline):
            own = Bounds((outline[:, :3] - outline[:, 3:]).min(axis=0), (outline[:, :3] + outline[:, 3:]).max(axis=0))
            box = own if box is None else box.union(own)
    if box is None:
        return None
    reach = 0.0
    for job in jobs:
        outline = np.load(job.part)
        if len(outline):
            reach = max(reach, float((np.linalg.norm(outline[:, :3] - box.center, axis=1) + outline[:, 3]).max()))
    return Similarity(box.center, UNIT_RADIUS / reach)


def _hull_corners(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import ConvexHull, QhullError  # Here, for a quick start (see geometry.connectivity).

    # Far from the origin the hull's own tolerance would drop corners.
    try:
        return vertices[ConvexHull(vertices - vertices.mean(axis=0)).vertices]
    except QhullError:
        return vertices  # flat: it has no hull in three dimensions
