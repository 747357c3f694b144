"""From a field to a triangle mesh: marching cubes over a regular lattice.

By default, only the part of the lattice that can hold the surface is visited. The mesh is the same as that of the whole
lattice. The method needs only the zero set of the field, so the field may have any accuracy.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.extraction.marching_cubes import LatticeMesh, march
from sdfnet.extraction.normals import with_field_normals
from sdfnet.extraction.projection import move_without_flips, project_to_level
from sdfnet.extraction.sharp_features import sharpen
from sdfnet.extraction.sharp_features.qef import LatticeField
from sdfnet.extraction.sparse import march_sparse
from sdfnet.fields.base import Field, evaluate, gradient
from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray
from sdfnet.geometry.bounds import Bounds, Lattice
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import check_closed

_LOGGER = logging.getLogger(__name__)

_CPU_CHUNK, _DEVICE_CHUNK = 32768, 1 << 19
"""Points per call. On a CPU, the default decoder takes twice as long per point with 65,536 points per call, because the
allocator cannot keep such large activations. An accelerator needs few large calls."""

_EVEN = 256
"""Batches of points are padded to a multiple of this. Matrix products round the last few rows of a batch differently.
Without padding, the sign of a value that is zero up to rounding would depend on the other points of the batch."""

_FEW = 32768
"""A lattice with at most this many points is evaluated completely."""

_REACH = 0.5
"""Newton steps may move a vertex by this many spacings. The surface is at most this far from a vertex on an edge."""

_MOST_CHECKED_FACES = 500_000
"""Up to so many faces, the whole mesh with its sharp edges is checked against the one without them; a check of more
would take longer than the sharp edges, and only what changed is looked at."""

_LEAVES = "the surface leaves the lattice and is left open at its border"


class NoSurfaceError(ValueError):
    """The field nowhere crosses the level on the lattice. `found` is the message without what to do about it.

    >>> str(NoSurfaceError("no surface at level 0: field is in [1, 2]", "; enlarge bounds"))
    'no surface at level 0: field is in [1, 2] on the grid; enlarge bounds'
    """

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found, cure)  # both, so that the error survives the way back from a worker process
        self.found = found

    def __str__(self) -> str:
        return f"{self.found} on the grid{self.args[1]}"


def extract_mesh(
    field: Field,
    *,
    resolution: int = 128,
    bounds: Bounds | None = None,
    similarity: Similarity | None = None,
    level: float = 0.0,
    project_steps: int = 0,
    sharp: bool = False,
    vertex_normals: bool = True,
    sparse: bool = True,
    warn_if_damaged: bool = True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Mesh:
    """Extract the surface where `field` equals `level` as a triangle mesh with outward faces.

    The mesh is watertight if the surface stays inside the lattice. A surface that leaves the lattice is left open, and
    a warning is logged. Sharp edges are cut off unless `sharp` is true.

    Parameters
    ----------
    resolution : int
        The number of samples along the longest axis of the box, at least 2.
    bounds : Bounds, optional
        The box of the search, in the field's frame; by default `field.bounds`. The lattice reaches 5 % beyond the box.
    similarity : Similarity, optional
        If given, the field is in the unit frame, and the mesh is returned in world units, in float64 throughout.
    project_steps : int
        The number of Newton steps that move the vertices onto the level. A vertex moves at most half a spacing, and
        stays where it is if its move would turn a face over.
    sharp : bool
        Whether to restore sharp edges and corners, which marching cubes cuts off (see `sharp_features`).
    vertex_normals : bool
        Whether to take a normal for each vertex from the field's gradient.
    sparse : bool
        Whether to visit only the parts of the lattice that can hold the surface. The mesh is the same as without
        `sparse`, except for the order of vertices and faces. If the field is exact or a bound, skipped parts are proven
        empty. For other fields, parts are skipped because of the slopes seen, and a hundredth of them is audited. If
        the audit finds a missed sign, the whole lattice is visited and a warning is logged.
    warn_if_damaged : bool
        Whether to log a warning if the mesh is less closed with `sharp` than without.
    device, dtype
        The device of the field, and the dtype of its points.

    Raises
    ------
    NoSurfaceError
        A ValueError: no surface. The message gives the range of values.
    ValueError
        A value is not finite, `resolution` is below 2, or the bounds are infinite.

    >>> from sdfnet.fields.primitives import Sphere
    >>> mesh = extract_mesh(Sphere(1.0), resolution=32)
    >>> mesh.to_trimesh().is_watertight, round(float(mesh.bounds.upper[0]), 2)
    (True, 1.0)
    """
    lattice = Lattice.over(field.bounds if bounds is None else bounds, resolution)
    is_feature: BoolArray | bool = False
    leaves = _LEAVES if bounds is None else f"{_LEAVES}; enlarge bounds to close it"
    sampled = _SampledField(field, lattice, level, torch.device(device), dtype, leaves)
    marched = _march_sparse(sampled) if sparse else None
    if marched is None:
        marched = _march_dense(sampled)
    if sharp:
        marched, is_feature = _sharpened(
            marched, LatticeField(sampled.values, sampled.gradients), warn_if_damaged=warn_if_damaged
        )
    mesh = Mesh(lattice.origin + lattice.spacing * marched.vertices, marched.faces)
    if project_steps:
        mesh = _projected(mesh, sampled, project_steps)
    if vertex_normals:
        mesh = with_field_normals(mesh, field, device=device, dtype=dtype, may_crease=is_feature)
    return mesh if similarity is None else mesh.to_world(similarity)


@dataclass(frozen=True, eq=False)
class _SampledField:
    """A field as a function of lattice coordinates."""

    field: Field
    lattice: Lattice
    level: float
    device: torch.device
    dtype: torch.dtype
    leaves: str
    """The warning about a surface that leaves the lattice."""

    def points(self, positions: NDArray[np.number]) -> Tensor:
        """Return the points of the field at `positions` (N, 3) in lattice coordinates."""
        points = self.lattice.origin + self.lattice.spacing * positions
        return torch.from_numpy(points).to(device=self.device, dtype=self.dtype)

    def values(self, positions: NDArray[np.number]) -> Float32Array:
        """Return the values (N,) minus the level. The values need not be finite."""
        chunk_size = _CPU_CHUNK if self.device.type == "cpu" else _DEVICE_CHUNK
        values = np.empty(len(positions), dtype=np.float32)
        for first in range(0, len(positions), 4 * chunk_size):  # This limits the points in memory.
            part = positions[first : first + 4 * chunk_size].astype(np.float64)
            padded = np.concatenate([part, np.repeat(part[-1:], -len(part) % _EVEN, axis=0)])
            sdf = evaluate(self.field, self.points(padded), chunk_size=chunk_size)[: len(part)]
            values[first : first + len(part)] = sdf.float().cpu().numpy()
        values -= np.float32(self.level)
        return values

    def finite_values(self, positions: NDArray[np.number]) -> Float32Array:
        values = self.values(positions)
        num_bad = int(values.size - np.isfinite(values).sum())
        if num_bad:
            raise ValueError(f"the field is not finite at {num_bad} of {values.size} points; check its parameters")
        return values

    def gradients(self, positions: FloatArray) -> FloatArray:
        """Return gradients (N, 3) with respect to lattice coordinates. Gradients that are not finite become zero."""
        slopes = gradient(self.field, self.points(positions), chunk_size=_CPU_CHUNK).double().cpu().numpy()
        return np.nan_to_num(self.lattice.spacing * slopes, posinf=0.0, neginf=0.0)


def _march_sparse(sampled: _SampledField) -> LatticeMesh | None:
    """Return the mesh in lattice coordinates, or None if the whole lattice must be visited."""
    lattice = sampled.lattice
    if math.prod(lattice.shape) <= _FEW:
        return None
    size = np.abs([lattice.origin, lattice.origin + lattice.spacing * np.array(lattice.shape)]).max()
    surface = march_sparse(
        sampled.finite_values,
        lattice.shape,
        spacing=lattice.spacing,
        proven=sampled.field.accuracy != "approximate",
        slack=64 * torch.finfo(sampled.dtype).eps * float(size),
    )
    if surface is None:
        return None
    mesh, leaves_lattice = surface
    if leaves_lattice:
        _LOGGER.warning(sampled.leaves)
    return mesh


def _march_dense(sampled: _SampledField) -> LatticeMesh:
    """Return the mesh in lattice coordinates from all points of the lattice."""
    shape = sampled.lattice.shape
    values = np.empty(shape, dtype=np.float32)
    num_layers = max(1, (1 << 20) // (shape[1] * shape[2]))  # about a million points at a time
    for first in range(0, shape[0], num_layers):
        layers = values[first : first + num_layers]
        indices = np.indices(layers.shape, dtype=np.int32).reshape(3, -1).T
        layers[...] = sampled.values(indices + np.array([first, 0, 0])).reshape(layers.shape)
    _check_values(values, sampled)
    marched = march(values, spacing=sampled.lattice.spacing)
    if not len(marched.faces):
        raise _no_surface(values, sampled.level, "; it only touches the level; raise the resolution")
    return marched


def _check_values(values: Float32Array, sampled: _SampledField) -> None:
    """Raise ValueError if a value is not finite or there is no surface. Warn if the surface leaves the lattice.

    The level is already subtracted from `values`.
    """
    num_bad = int(values.size - np.isfinite(values).sum())
    if num_bad:
        raise ValueError(f"the field is not finite at {num_bad} of {values.size} lattice points; check its parameters")
    if values.min() > 0 or values.max() <= 0:
        raise _no_surface(values, sampled.level, "; enlarge bounds, raise the resolution or check the sign")
    sides = [np.take(values, index, axis=axis) for axis in range(3) for index in (0, -1)]
    if min(float(side.min()) for side in sides) <= 0:
        _LOGGER.warning(sampled.leaves)


def _no_surface(values: Float32Array, level: float, cure: str) -> NoSurfaceError:
    low, high = float(values.min()) + level, float(values.max()) + level
    return NoSurfaceError(f"no surface at level {level:g}: field is in [{low:.4g}, {high:.4g}]", cure)


def _projected(mesh: Mesh, sampled: _SampledField, steps: int) -> Mesh:
    points = torch.from_numpy(mesh.vertices).to(device=sampled.device, dtype=sampled.dtype)
    reach = _REACH * sampled.lattice.spacing
    moved = project_to_level(sampled.field, points, steps=steps, reach=reach, level=sampled.level)
    # Only the displacement is computed in the lower precision.
    vertices = mesh.vertices + (moved - points).double().cpu().numpy()
    return Mesh(move_without_flips(mesh.vertices, vertices, mesh.faces), mesh.faces)


def _sharpened(marched: LatticeMesh, field: LatticeField, *, warn_if_damaged: bool) -> tuple[LatticeMesh, BoolArray]:
    """Return the mesh with sharp edges, and which vertices lie on them."""
    sharp = sharpen(marched, field)
    if not (warn_if_damaged and sharp.is_feature.any()):
        return sharp.mesh, sharp.is_feature
    if not sharp.is_sound or len(sharp.mesh.faces) <= _MOST_CHECKED_FACES:
        damage = check_closed(Mesh(sharp.mesh.vertices, sharp.mesh.faces))
        if not damage.is_clean and damage != check_closed(Mesh(marched.vertices, marched.faces)):
            _LOGGER.warning("the mesh with its sharp edges has %s; another resolution or sharp=false may help", damage)
    return sharp.mesh, sharp.is_feature
