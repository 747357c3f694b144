"""From a field to a triangle mesh: marching cubes over a regular lattice.

By default only the part of the lattice that can hold the surface is visited; the mesh is the one that all of it gives.
Only the zero set of the field is needed, so any accuracy will do.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.extraction.marching_cubes import LatticeMesh, march
from sdfnet.extraction.normals import with_field_normals
from sdfnet.extraction.projection import move_without_flips, project_to_level
from sdfnet.extraction.sharp_features import SharpMesh, sharpen
from sdfnet.extraction.sharp_features.qef import SampleGradient
from sdfnet.extraction.sparse import Sample, march_sparse
from sdfnet.fields.base import Field, evaluate, gradient
from sdfnet.geometry.bounds import Bounds, Lattice
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import check_closed

_LOGGER = logging.getLogger(__name__)

_CPU_CHUNK = 32768
"""Points per call on a CPU. The default decoder takes twice as long per point with 65,536, whose activations are too
large for the allocator to keep; far smaller chunks starve the threads."""

_DEVICE_CHUNK = 1 << 19
"""Points per call on an accelerator, which wants few large calls."""

_EVEN = 256
"""Points are padded to a multiple of this. Matrix products round the last few rows of a batch otherwise than the rest.
So the sign of a value that is zero up to rounding would depend on the other points of its batch."""

_FEW = 32768
"""A lattice of at most so many points is evaluated whole."""

_REACH = 0.5
"""Spacings that Newton steps may move a vertex: as far as the surface can be from a vertex on a lattice edge."""

_LEAVES = "the surface leaves the lattice and is left open at its border; enlarge bounds to close it"


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
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
) -> Mesh:
    """Extract the surface where `field` equals `level` as a triangle mesh with outward faces.

    The mesh is watertight where the surface stays inside the lattice; a surface that leaves it is left open, and a
    warning is logged. On a sphere the error of a vertex falls as the square of the spacing; sharp edges are cut unless
    `sharp` asks for them.

    Parameters
    ----------
    resolution : int
        Samples along the longest axis of the box, at least 2.
    bounds : Bounds, optional
        The box to look in, in the field's frame; the lattice reaches 5 % beyond it. By default `field.bounds`.
    similarity : Similarity, optional
        If given, the field is in the unit frame and the mesh comes back in world units, float64 to the end.
    project_steps : int
        Newton steps that project the vertices onto the level, at most half a spacing away. A vertex stays where it is
        if its move would turn a face over.
    sharp : bool
        Whether to put the surface's sharp edges and corners back, which marching cubes cuts off: see `sharp_features`.
        Where there are none, the mesh is the same. A warning says if the mesh is less closed than without.
    vertex_normals : bool
        Whether to take a normal for each vertex from the field's gradient.
    sparse : bool
        Whether to visit only those parts of the lattice that can hold the surface. Skipped parts are proven empty where
        the field's accuracy is exact or bound. Where it is approximate, they are judged by the slopes seen, and a
        hundredth of them is audited. If the audit finds a sign that was missed, the whole lattice is visited and a
        warning is logged. The mesh is the same as without, but for the order of its vertices and faces.
    device, dtype
        Where the field lives, and the precision of its points.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        No surface (the message gives the range of values), values that are not finite, a resolution below 2, infinite
        bounds.

    >>> from sdfnet.fields.primitives import Sphere
    >>> mesh = extract_mesh(Sphere(1.0), resolution=32)
    >>> mesh.to_trimesh().is_watertight, round(float(mesh.bounds.upper[0]), 2)
    (True, 1.0)
    """
    lattice = Lattice.over(field.bounds if bounds is None else bounds, resolution)
    sharpened = None
    with tqdm(unit="points", unit_scale=True, desc="evaluate", disable=not progress) as bar:
        sample = _make_sample(field, lattice, level=level, device=torch.device(device), dtype=dtype, bar=bar)
        marched = _march_sparse(sample, lattice, field, dtype=dtype) if sparse else None
        if marched is None:
            marched = _march_dense(sample, lattice, level=level, bar=bar)
        if sharp:
            sharpened = _sharpened(marched, sample, _make_sample_gradient(field, lattice, device=device, dtype=dtype))
            marched = sharpened.mesh
    mesh = Mesh(lattice.origin + lattice.spacing * marched.vertices, marched.faces)
    if project_steps:
        mesh = _projected(mesh, field, project_steps, lattice.spacing, level, device=device, dtype=dtype)
    if vertex_normals:
        is_feature = False if sharpened is None else sharpened.is_feature
        mesh = with_field_normals(mesh, field, device=device, dtype=dtype, may_crease=is_feature)
    return mesh if similarity is None else mesh.to_world(similarity)


def _make_sample(
    field: Field, lattice: Lattice, *, level: float, device: torch.device, dtype: torch.dtype, bar: tqdm
) -> Sample:
    """Return the function from lattice coordinates to values relative to `level`; values need not be finite."""
    chunk_size = _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK

    def sample(positions: NDArray[np.number]) -> NDArray[np.float32]:
        values = np.empty(len(positions), dtype=np.float32)
        for first in range(0, len(positions), 4 * chunk_size):  # Only so many points exist at a time.
            part = positions[first : first + 4 * chunk_size].astype(np.float64)
            padded = np.concatenate([part, np.repeat(part[-1:], -len(part) % _EVEN, axis=0)])
            points = torch.from_numpy(lattice.origin + lattice.spacing * padded).to(device=device, dtype=dtype)
            sdf = evaluate(field, points, chunk_size=chunk_size)[: len(part)]
            values[first : first + len(part)] = sdf.float().cpu().numpy()
            bar.update(len(part))
        values -= np.float32(level)
        return values

    return sample


def _march_sparse(sample: Sample, lattice: Lattice, field: Field, *, dtype: torch.dtype) -> LatticeMesh | None:
    """Return the mesh in lattice coordinates, or None where all of the lattice must be visited."""
    if math.prod(lattice.shape) <= _FEW:
        return None
    size = np.abs([lattice.origin, lattice.origin + lattice.spacing * np.array(lattice.shape)]).max()
    surface = march_sparse(
        _all_finite(sample),
        lattice.shape,
        spacing=lattice.spacing,
        proven=field.accuracy != "approximate",
        slack=64 * torch.finfo(dtype).eps * float(size),
    )
    if surface is None:
        return None
    if surface.leaves_lattice:
        _LOGGER.warning(_LEAVES)
    return surface.mesh


def _all_finite(sample: Sample) -> Sample:
    def checked(positions: NDArray[np.number]) -> NDArray[np.float32]:
        values = sample(positions)
        num_bad = int(values.size - np.isfinite(values).sum())
        if num_bad:
            raise ValueError(f"the field is not finite at {num_bad} of {values.size} points; check its parameters")
        return values

    return checked


def _march_dense(sample: Sample, lattice: Lattice, *, level: float, bar: tqdm) -> LatticeMesh:
    """Return the mesh in lattice coordinates from all points of the lattice."""
    values = np.empty(lattice.shape, dtype=np.float32)
    bar.reset(total=values.size)
    for first, stop in _slabs(lattice.shape):
        indices = np.indices((stop - first, *lattice.shape[1:]), dtype=np.int32).reshape(3, -1).T
        values[first:stop] = sample(indices + np.array([first, 0, 0])).reshape(values[first:stop].shape)
    _check_values(values, level)
    marched = march(values, spacing=lattice.spacing)
    if not len(marched.faces):
        raise ValueError(_no_surface(values, level, "; it only touches the level; raise the resolution"))
    return marched


def _slabs(shape: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last (exclusive) layers of slabs of about a million points."""
    layers = max(1, (1 << 20) // (shape[1] * shape[2]))
    for first in range(0, shape[0], layers):
        yield first, min(first + layers, shape[0])


def _check_values(values: NDArray[np.float32], level: float) -> None:
    """Raise unless the values cross zero; warn where they do so at the border. `values` are relative to `level`."""
    num_bad = int(values.size - np.isfinite(values).sum())
    if num_bad:
        raise ValueError(f"the field is not finite at {num_bad} of {values.size} lattice points; check its parameters")
    if values.min() > 0 or values.max() <= 0:
        raise ValueError(_no_surface(values, level, "; enlarge bounds, raise the resolution or check the sign"))
    sides = [np.take(values, index, axis=axis) for axis in range(3) for index in (0, -1)]
    if min(float(side.min()) for side in sides) <= 0:
        _LOGGER.warning(_LEAVES)


def _no_surface(values: NDArray[np.float32], level: float, cure: str) -> str:
    low, high = float(values.min()) + level, float(values.max()) + level
    return f"no surface at level {level:g}: field is in [{low:.4g}, {high:.4g}] on the grid{cure}"


def _make_sample_gradient(
    field: Field, lattice: Lattice, *, device: torch.device | str, dtype: torch.dtype
) -> SampleGradient:
    """Return the function from positions to gradients, in lattice coordinates. Gradients not finite become zero."""

    def sample_gradient(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        points = torch.from_numpy(lattice.origin + lattice.spacing * positions).to(device=device, dtype=dtype)
        slopes = gradient(field, points, chunk_size=_CPU_CHUNK).detach().double().cpu().numpy()
        return np.nan_to_num(lattice.spacing * slopes, posinf=0.0, neginf=0.0)

    return sample_gradient


def _projected(
    mesh: Mesh,
    field: Field,
    steps: int,
    spacing: float,
    level: float,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Mesh:
    points = torch.from_numpy(mesh.vertices).to(device=device, dtype=dtype)
    moved = project_to_level(field, points, steps=steps, reach=_REACH * spacing, level=level)
    # Only the displacement passes through the lower precision.
    vertices = mesh.vertices + (moved - points).double().cpu().numpy()
    return Mesh(move_without_flips(mesh.vertices, vertices, mesh.faces), mesh.faces)


def _sharpened(marched: LatticeMesh, sample: Sample, sample_gradient: SampleGradient) -> SharpMesh:
    """Return the mesh with its sharp edges, and warn if it is less closed than without."""
    found = sharpen(marched, sample, sample_gradient)
    if found.is_feature.any():
        damage = check_closed(Mesh(found.mesh.vertices, found.mesh.faces))
        if not damage.is_clean and damage != check_closed(Mesh(marched.vertices, marched.faces)):
            _LOGGER.warning("the mesh with its sharp edges has %s; extract without them", damage)
    return found
