"""All measures of one result: a mesh against its source, and for a learned shape also the extraction error."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch

from sdfnet.evaluation.closest_points import NUM_POINTS, Surface, match_surfaces
from sdfnet.evaluation.metrics import (
    SurfaceDistance,
    chamfer_of,
    chamfer_of_sampling,
    distances_of,
    f_score,
    normal_consistency,
    volume_iou,
)
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.components import MIN_PIECE, check_min_piece
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import Topology, components_and_genus
from sdfnet.runs import Run, extract_shape


@dataclass(frozen=True)
class EvaluationConfig:
    """How results are extracted and measured.

    Attributes
    ----------
    resolution : int
        Samples per axis of the lattice on [-1.05, 1.05]³, at least 8.
    project_steps : int
        Newton steps that carry the result's vertices onto the zero level; the extraction error is without them.
    min_piece : float
        Pieces and cavities of the result below this share of its volume are left out, as extraction does; 0 keeps all.
    num_points : int
        Surface samples each way, at least 100.
    num_volume_points : int
        Points in the common box, for the volume IoU, at least 100.
    floor : bool
        Whether to measure the extraction error too: the exact field of every source, extracted on the same lattice.
    seed : int
        Of all samples. A shape's numbers depend on it and on the shape's name alone, not on the other shapes.

    >>> EvaluationConfig(resolution=256).num_points
    30000
    """

    resolution: int = 128
    project_steps: int = 0
    min_piece: float = MIN_PIECE
    num_points: int = NUM_POINTS
    num_volume_points: int = 100_000
    floor: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_resolution(self.resolution, least=8)
        check_min_piece(self.min_piece)
        for name, least in (("project_steps", 0), ("num_points", 100), ("num_volume_points", 100)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Quality:
    """The measures of one mesh against its source, in the units of the functions in `metrics`.

    `cap_percent` is the share of the mesh's area that closes holes of an open source; distances, Chamfer, F-score and
    normals leave it out.
    """

    distance: SurfaceDistance
    chamfer: float
    f_score: float
    normal_consistency: float
    iou: float
    topology: Topology
    cap_percent: float
    num_faces: int


@dataclass(frozen=True)
class ShapeQuality:
    """The measures of one learned shape, or of one mesh against another.

    Attributes
    ----------
    floor : Quality or None
        The extraction error: the same measures of the exact field on the same lattice. None if not asked for.
    chamfer_floor : float
        Chamfer distance of the source to itself by two samplings.
    """

    result: Quality
    floor: Quality | None
    chamfer_floor: float
    source_topology: Topology


def measure_mesh(result: Mesh, source: Surface, *, config: EvaluationConfig, name: str = "") -> Quality:
    """Measure `result` against `source`, both in one frame (any). The samples depend on the seed and `name`.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> mesh = Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> quality = measure_mesh(mesh, Surface.of(mesh), config=EvaluationConfig(num_points=100, num_volume_points=100))
    >>> quality.f_score, quality.iou, quality.topology.num_components
    (100.0, 1.0, 1)
    """
    generator = _generator(config.seed, name)
    match = match_surfaces(Surface.of(result), source, num_points=config.num_points, generator=generator)
    return Quality(
        distance=distances_of(match),
        chamfer=chamfer_of(match),
        f_score=f_score(match),
        normal_consistency=normal_consistency(match),
        iou=volume_iou(result, source.mesh, num_points=config.num_volume_points, generator=generator),
        topology=components_and_genus(result),
        cap_percent=100 * match.hole_share,
        num_faces=len(result.faces),
    )


def result_mesh(run: Run, name: str, *, config: EvaluationConfig, extracted: Mesh | None = None) -> Mesh:
    """Return the mesh of a learned shape that is measured, unit frame.

    `extracted` replaces a new extraction. It must be `ExtractedShape.extracted`, made with the options of `config`.

    Raises
    ------
    ValueError
        The shape has no surface on the lattice.

    >>> from sdfnet.runs import load_run
    >>> mesh = result_mesh(load_run("runs/chairs"), "chair_00", config=EvaluationConfig(resolution=24))
    >>> bool(abs(mesh.vertices).max() <= 1.05)
    True
    """
    found = extract_shape(
        run,
        name,
        extracted=extracted,
        resolution=config.resolution,
        project_steps=config.project_steps,
        min_piece=config.min_piece,
        vertex_normals=False,
        frame="unit",
    )
    return found.mesh


def compare_meshes(
    result: Mesh, source: Surface, *, config: EvaluationConfig, name: str = "", floor: Mesh | None = None
) -> ShapeQuality:
    """Measure `result`, and the mesh `floor` beside it, against `source`, all in one frame.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> mesh = Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> config = EvaluationConfig(num_points=100, num_volume_points=100)
    >>> quality = compare_meshes(mesh, Surface.of(mesh), config=config)
    >>> quality.result.iou, quality.floor
    (1.0, None)
    """
    quality = measure_mesh(result, source, config=config, name=name)
    extraction_error = None if floor is None else measure_mesh(floor, source, config=config, name=name)
    generator = _generator(config.seed, name)
    chamfer_floor = chamfer_of_sampling(source.mesh, num_points=config.num_points, generator=generator)
    return ShapeQuality(quality, extraction_error, chamfer_floor, components_and_genus(source.mesh))


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
