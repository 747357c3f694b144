"""The work on one shape, as a worker process does it: draw its samples, or its outline, and leave the result in a file.

The file is called the part of the job. Any process may be killed at any time, yet a part that is there is finished. A
part with samples is a line of JSON, then the bytes of the record. A part with an outline is a NumPy file: the points of
a mesh that decide the similarity of a whole folder (`normalize=shared`).
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import atomic_path, write_atomic
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.sampling.shape_samples import SamplerConfig, ShapeSamples, sample_shape
from sdfnet.sampling.store import FLOAT
from sdfnet.solids.source_shape import MeshRefused, MeshReport, SourceShape, folder_similarities, load_shape

logger = logging.getLogger(__name__)

Status = Literal["used", "refused", "failed"]
"""used: the samples are there. refused: the mesh cannot be used. failed: another try may succeed."""


@dataclass(frozen=True)
class Job:
    """One shape to prepare: the mesh in `path`, whose result goes to `part`. The other names are `StoredShape`'s.

    `similarity` is the shared one; None for the shape's own.
    """

    name: str
    source: str
    content_hash: str
    key: str
    path: Path
    part: Path
    similarity: Similarity | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """The first line of a part's file, JSON, and the offset at which its record starts.

    `stored` holds similarity, closed, thickness and checksum, as in `StoredShape`.
    """

    job: Job
    status: Status
    report: dict[str, Any]
    stored: dict[str, Any] = field(default_factory=dict)
    offset: int = 0


def leave_samples(job: Job, *, config: SamplerConfig, thickness: float | None) -> None:
    """Draw the samples of one shape and leave them in the job's part, or else a report of what is wrong."""
    report = MeshReport(job.name, str(job.path), "refused", reason="not read yet")
    try:
        shape = load_shape(job.path, name=job.name, thickness=thickness)
        report = shape.report
        similarity = job.similarity or folder_similarities([shape])[0]
        samples = sample_shape(shape, similarity, config)
    except MeshRefused as error:
        write_unused_part(job, error.report, status="refused")
    except ValueError as error:
        write_unused_part(job, _refused(report, str(error)), status="refused")
    except Exception as error:  # whatever goes wrong with one mesh, a lack of memory included, must not stop the others
        logger.exception("%s could not be sampled", job.path)
        reason = f"it could not be sampled ({type(error).__name__}: {error})"
        write_unused_part(job, _refused(report, reason), status="failed")
    else:
        write_used_part(job, shape, samples, similarity)


def write_used_part(job: Job, shape: SourceShape, samples: ShapeSamples, similarity: Similarity) -> None:
    """Leave the samples of a shape in the job's part."""
    blocks = [np.ascontiguousarray(block, dtype=FLOAT) for block in (samples.sdf, samples.surface, samples.heldout)]
    checksum = 0
    for block in blocks:
        checksum = zlib.crc32(block.data, checksum)
    header = {
        "status": "used",
        "report": shape.report.to_dict(),
        "similarity": similarity.to_dict(),
        "closed": shape.closed,
        "thickness": shape.thickness,
        "checksum": checksum,
    }
    with atomic_path(job.part) as temporary, open(temporary, "wb") as handle:
        handle.write(json.dumps(header).encode("utf-8") + b"\n")
        for block in blocks:
            handle.write(block.data)


def write_unused_part(job: Job, report: MeshReport, *, status: Status) -> None:
    """Leave in the job's part that the mesh cannot be used ("refused") or could not be sampled ("failed")."""
    write_atomic(job.part, json.dumps({"status": status, "report": report.to_dict()}) + "\n")


def read_part(job: Job) -> Part:
    """Return the part of a job; a "failed" one where there is none."""
    try:
        with open(job.part, "rb") as handle:
            header = json.loads(handle.readline())
            offset = handle.tell()
    except (FileNotFoundError, ValueError):
        reason = "its samples got lost before they were stored; run the same command again"
        return Part(job, "failed", MeshReport(job.name, str(job.path), "refused", reason=reason).to_dict())
    return Part(job, header.pop("status"), header.pop("report"), header, offset)


def _refused(report: MeshReport, reason: str) -> MeshReport:
    return replace(report, status="refused", notes=(), reason=" ".join(reason.split()))


def leave_outline(job: Job, *, thickness: float | None) -> None:
    """Leave in the job's part the corners of the mesh's convex hull: the farthest point from any centre is one of them.

    A row is x, y, z (world frame) and how far the solid reaches beyond that point. A refused mesh has no rows.
    """
    try:
        shape = load_shape(job.path, name=job.name, thickness=thickness)
    except Exception:  # whatever is wrong with one mesh must not stop the others; sampling it will say what
        logger.debug("%s has no outline", job.path, exc_info=True)
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
