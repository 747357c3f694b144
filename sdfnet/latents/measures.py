"""What is measured of each frame of a morph while it is made. World units; `report` turns it into shares and sums.

Travel is from the frame before: the distance from places on each of the two surfaces to the other surface, exact to
the meshes, over both ways. For a surface that moves along its normal it is how far it moves; where something appears
or goes it is how far that is from what is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.evaluation.matching import bounding_radius
from sdfnet.evaluation.topology import components_and_genus
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.triangles import triangle_quality
from sdfnet.latents.sequence import MadeFrame


def measure_frame(made: MadeFrame, before: Mesh | None) -> dict[str, Any]:
    """Return the measures of one frame, plain numbers; `before` is the frame before it, None for the first."""
    mesh = made.mesh
    topology, triangles = components_and_genus(mesh), triangle_quality(mesh)
    mean, largest = (None, None) if before is None else surface_travel_between(before, mesh)
    return {
        "volume": mesh.signed_volume,
        "area": float(mesh.face_areas.sum()),
        "radius": bounding_radius(mesh),
        "components": topology.num_components,
        "genus": topology.genus,
        "extra_pieces": made.num_extra,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "worst_angle": triangles.worst_angle,
        "good_triangles": triangles.good_share,
        "self_intersections": triangles.self_intersections,
        "travel_mean": mean,
        "travel_max": largest,
        "removed": [
            {"share": piece.share, "center": list(piece.center), "is_cavity": piece.is_cavity} for piece in made.removed
        ],
    }


def surface_travel_between(before: Mesh, after: Mesh) -> tuple[float, float]:
    """Return mean (by area, over both ways) and largest distance between two surfaces, in their unit of length.

    >>> from sdfnet.fields.primitives import Sphere
    >>> from sdfnet.surfacing.extract import extract_mesh
    >>> small, large = (extract_mesh(Sphere(r), resolution=64) for r in (0.5, 0.6))
    >>> [round(travel, 3) for travel in surface_travel_between(small, large)]
    [0.1, 0.1]
    """
    ways = [(before, MeshDistance(after)), (after, MeshDistance(before))]
    found = [(other.unsigned(mesh.vertices).distance, vertex_areas(mesh)) for mesh, other in ways]
    means = [float((distances * areas).sum() / areas.sum()) for distances, areas in found]
    return sum(means) / 2, max(float(distances.max()) for distances, _ in found)


def vertex_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Return a third of the area of the faces around each vertex, (V,)."""
    thirds = np.repeat(mesh.face_areas / 3, 3)
    return np.asarray(np.bincount(mesh.faces.ravel(), weights=thirds, minlength=len(mesh.vertices)), dtype=np.float64)
