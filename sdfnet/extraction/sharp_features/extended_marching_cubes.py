"""The steps of sharpening in their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.extraction.sharp_features.close_holes import Ridges, close_gaps
from sdfnet.extraction.sharp_features.detect import inspect, join_patches, look_at
from sdfnet.extraction.sharp_features.qef import Slope
from sdfnet.extraction.sharp_features.triangulate import with_fans
from sdfnet.extraction.sparse import Sample
from sdfnet.mesh.mesh import renumber_faces


@dataclass(frozen=True, eq=False)
class SharpMesh:
    """A mesh with features.

    Attributes
    ----------
    mesh : LatticeMesh
    is_feature : (V,) bool
        Vertices on sharp edges and corners.
    """

    mesh: LatticeMesh
    is_feature: NDArray[np.bool_]


def sharpen(mesh: LatticeMesh, sample: Sample, slope: Slope) -> SharpMesh:
    """Put the sharp edges and corners of the surface back into `mesh`, as `marching` gives it for `sample`.

    Only patches that hold a feature are changed, and the vertices on their rims put exactly onto the surface.
    """
    surface = inspect(mesh, sample, slope)
    seen = join_patches(surface, look_at(surface, surface.patch_of, sample, slope), sample, slope)
    if not seen.sharp.any():
        return SharpMesh(mesh, np.zeros(len(mesh.vertices), dtype=bool))
    places, loops = seen.features.places[seen.sharp], seen.loops.rows(seen.sharp)
    fans = with_fans(surface.mesh, surface.normals, seen.patch_of, loops, places)
    ridges = Ridges(
        len(mesh.vertices) + np.arange(len(places)),
        surface.mesh.vertices[loops.rims],
        surface.normals[loops.rims],
        loops.used,
    )
    aside = np.ones(len(fans.vertices), dtype=bool)
    aside[loops.rims] = False
    aside[len(mesh.vertices) :] = False
    fans.vertices[aside] = mesh.vertices[aside[: len(mesh.vertices)]]
    vertices, features = close_gaps(fans.vertices, fans.faces, ridges, sample, slope)
    used, compact = renumber_faces(fans.faces, len(vertices))
    return SharpMesh(LatticeMesh(vertices[used], compact), np.isin(used, features))
