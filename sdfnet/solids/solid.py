"""Turn a user's mesh into a solid: a surface whose inside is where its winding number exceeds ½.

Every mesh is made a solid before distances are computed or its surface is sampled. A good mesh stays as it is.
`Solid.notes` says what was wrong, and what could not be repaired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, join_meshes
from sdfnet.mesh.orientation import OrientedComponents, orient_components, split_components
from sdfnet.mesh.repair import (
    HoleMeasures,
    drop_degenerate_faces,
    drop_duplicate_faces,
    measure_holes,
    merge_boundary_vertices,
    merge_vertices,
    orient_patches,
)
from sdfnet.mesh.union import UnionResult, unite_components
from sdfnet.mesh.winding import SURFACE_STEP, SurfaceShares, mesh_frame, probe_surface

WELD_TOLERANCE = 5e-7
"""Boundary vertices this close (share of the radius) are merged: rounding in files, below the accuracy of distances."""

MIN_INSIDE_SHARE = 0.3
"""A mesh is a thin sheet if a smaller share of its surface has an inside. Sheets have 0.0, real meshes 0.9 and more."""

FINE_STEP = 1e-5
"""A closed mesh is probed again this close before it is called a sheet, because it may be a thin plate."""

MIN_NOTED_SHARE = 0.015
"""A smaller share of the surface that is buried or inside out is not worth a note."""

MIN_NOTED_THIN_SHARE = 0.05
"""The same for the share without an inside, which is never quite zero along sharp edges."""


@dataclass(frozen=True, eq=False)
class Solid:
    """A mesh whose signed distance is well defined.

    Attributes
    ----------
    mesh : Mesh
        World frame, outward faces, float64; the very mesh given if nothing was wrong with it.
    closed : bool
        Whether it has no boundary edges; then the signed distance is exact.
    notes : tuple of str
        What was repaired and what was not, for people; empty for a good mesh.
    num_components : int
        Connected surfaces of `mesh`, cavities included.
    boundary_edges, num_holes : int
        Edges with one face, and connected groups of such edges.
    hole_area : float
        Area of triangle fans over the holes, world units squared: roughly the surface that the winding number adds.
    inside_share : float
        Share of the surface that has solid behind and air before it.
    thickness : float or None
        Not None for a sheet: the solid is then all points within this distance of `mesh`, with the field
        |d| - thickness.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> solid = make_solid(extract_mesh(Sphere(1.0), resolution=16))
    >>> solid.closed, solid.num_components, solid.notes
    (True, 1, ())
    """

    mesh: Mesh
    closed: bool
    notes: tuple[str, ...]
    num_components: int
    boundary_edges: int
    num_holes: int
    hole_area: float
    inside_share: float
    thickness: float | None


def make_solid(mesh: Mesh, *, thickness: float | None = None) -> Solid:
    """Repair `mesh` (world frame) and unite its overlapping parts.

    Equal vertices are merged, degenerate and duplicate faces dropped, the winding made consistent and outward with
    cavities kept, and closed parts that overlap or touch are united, so that buried faces are no surface.

    Parameters
    ----------
    mesh
        As read; its winding may be wrong in places.
    thickness
        For sheets, which have no volume of their own: the solid is then everything within this distance (world
        units). No effect on other meshes, so that one value serves a mixed folder.

    Raises
    ------
    ValueError
        No faces, vertices that are not finite, zero extent or area; a sheet and no `thickness`.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> make_solid(Mesh(corners, [[0, 1, 2], [0, 1, 3], [0, 3, 2], [1, 2, 3]])).notes
    ('1 of 4 faces turned: the winding was not consistent',)
    """
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        raise ValueError(f"thickness must be positive and finite, got {thickness}")
    frame = mesh_frame(mesh)
    clean, notes = _clean(mesh, radius=1 / frame.scale)
    oriented, patch = orient_patches(clean.to_unit(frame))
    parts = orient_components(split_components(oriented, patch))
    turned = _with_winding(clean, oriented, parts)
    union = unite_components(parts)
    result = _assemble(mesh, turned, parts, union, frame)
    shares, closed = _probe(result.to_unit(frame), parts), bool(parts.closed.all())
    is_sheet = shares.solid < MIN_INSIDE_SHARE
    if is_sheet and thickness is None:
        raise ValueError(
            f"the mesh is a sheet: {shares.solid:.0%} of its surface has an inside (at least {MIN_INSIDE_SHARE:.0%} "
            "wanted). Give a thickness, or close the mesh."
        )
    notes += _winding_notes(clean, turned)
    notes += _sheet_notes(shares, thickness) if is_sheet else _overlap_notes(union, shares)
    num_components = int(union.kept.sum()) + sum(len(split_components(united)) for united in union.united)
    if num_components > 1:
        notes.append(f"{num_components} connected components")
    borders = measure_holes(parts.some(~parts.closed).to_world(frame))
    if not closed and not is_sheet:
        notes.append(_open_note(borders, area=float(result.face_areas.sum())))
    return Solid(
        mesh=result,
        closed=closed and not is_sheet,
        notes=tuple(notes),
        num_components=num_components,
        boundary_edges=borders.num_edges,
        num_holes=borders.num_holes,
        hole_area=borders.area,
        inside_share=shares.solid,
        thickness=thickness if is_sheet else None,
    )


def _clean(mesh: Mesh, *, radius: float) -> tuple[Mesh, list[str]]:
    """Merge vertices and drop useless faces; return the mesh and notes on the faces dropped."""
    notes = []
    merged = merge_vertices(mesh)
    proper = drop_degenerate_faces(merged)
    single, num_walls = drop_duplicate_faces(proper)
    clean = drop_degenerate_faces(merge_boundary_vertices(single, tolerance=WELD_TOLERANCE * radius))
    if len(clean.faces) == 0 or not clean.face_areas.any():
        raise ValueError(f"all {len(mesh.faces)} faces of the mesh are degenerate: they have no area")
    if num_degenerate := len(merged.faces) - len(proper.faces):
        notes.append(f"{num_degenerate} degenerate faces dropped")
    if num_duplicates := len(proper.faces) - len(single.faces) - 2 * num_walls:
        notes.append(f"{num_duplicates} duplicate faces dropped")
    if num_walls:
        notes.append(f"{num_walls} faces of walls between touching parts dropped")
    return drop_unreferenced_vertices(clean), notes


def _with_winding(clean: Mesh, oriented: Mesh, parts: OrientedComponents) -> Mesh:
    """Return the cleaned mesh with the orientation of `parts`; coordinates and the order of faces stay."""
    faces = oriented.faces.copy()
    turn = parts.is_turned[parts.component_of]
    faces[turn] = faces[turn][:, ::-1]
    return Mesh(clean.vertices, faces)


def _winding_notes(before: Mesh, after: Mesh) -> list[str]:
    """Say how many faces were turned."""
    count = int((_from_lowest(before.faces) != _from_lowest(after.faces)).any(axis=1).sum())
    if count == 0:
        return []
    if count == len(before.faces):
        return [f"all {count} faces turned: the winding was inward"]
    return [f"{count} of {len(before.faces)} faces turned: the winding was not consistent"]


def _from_lowest(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Start every face at its lowest vertex, so that the same face with the same winding is the same row."""
    return np.take_along_axis(faces, (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3, axis=1)


def _assemble(given: Mesh, turned: Mesh, parts: OrientedComponents, union: UnionResult, frame: Similarity) -> Mesh:
    """Join the components that were kept, with their own coordinates, and those that were united; world frame."""
    if not union.united:
        is_given = turned.faces.shape == given.faces.shape and turned.vertices.shape == given.vertices.shape
        return given if is_given and (turned.triangles == given.triangles).all() else turned
    kept = Mesh(turned.vertices, turned.faces[union.kept[parts.component_of]])
    return join_meshes([drop_unreferenced_vertices(kept), *(united.to_world(frame) for united in union.united)])


def _probe(unit_mesh: Mesh, parts: OrientedComponents) -> SurfaceShares:
    """Probe both sides of the surface; a closed one that looks like a sheet is probed again from very near."""
    shares = probe_surface(unit_mesh)
    is_thin = parts.closed.all() and shares.solid < MIN_INSIDE_SHARE
    return probe_surface(unit_mesh, step=FINE_STEP) if is_thin else shares


def _overlap_notes(union: UnionResult, shares: SurfaceShares) -> list[str]:
    """Say what was united and what stayed buried or inside out."""
    notes = []
    if union.united:
        seams = f", {union.num_seams} seams between them closed" if union.num_seams else ""
        notes.append(f"{(~union.kept).sum()} overlapping or touching parts united into {len(union.united)}{seams}")
    kept = [*union.failures]
    if shares.buried > MIN_NOTED_SHARE:
        kept.append(f"{shares.buried:.1%} of the surface lies buried and still counts as surface")
    if kept:
        notes.append(f"overlaps kept: {'; '.join(kept)}")
    if shares.reversed > MIN_NOTED_SHARE:
        notes.append(f"{shares.reversed:.1%} of the surface is inside out")
    thin = 1 - shares.solid - shares.buried - shares.reversed
    if thin > MIN_NOTED_THIN_SHARE:
        notes.append(
            f"{thin:.1%} of the surface has no inside (sheets, or thinner than {SURFACE_STEP:g} of the radius)"
        )
    return notes


def _sheet_notes(shares: SurfaceShares, thickness: float | None) -> list[str]:
    return [f"a sheet ({shares.solid:.0%} of the surface has an inside): taken as all within {thickness:g} of it"]


def _open_note(borders: HoleMeasures, *, area: float) -> str:
    holes = f"{borders.num_edges} border edges around {borders.num_holes} holes"
    return f"open: {holes}; caps over them add {borders.area / area:.2%} of area"
