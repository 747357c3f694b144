"""What lies on either side of a surface: solid and air as it should be, or air on both (a sheet), or solid on both.

The winding number is looked at just beside points spread over the surface. This tells zero-volume sheets from solids,
and finds what lies buried after all repairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.winding import SURFACE_STEP, WindingNumber, spread_over_surface

INSIDE_MARGIN = 0.1
"""How far from ½ a winding number must be to be called inside or outside: beside a nearly flat open sheet it is ½."""

NUM_PROBES = 2000


@dataclass(frozen=True)
class Sides:
    """Shares of the area of a surface, together at most 1.

    Attributes
    ----------
    solid : float
        Solid behind the surface and air before it.
    reversed : float
        The other way round.
    buried : float
        Solid on both sides.
    """

    solid: float
    reversed: float
    buried: float


def probe_sides(mesh: Mesh, *, step: float = SURFACE_STEP, num_probes: int = NUM_PROBES) -> Sides:
    """Probe `mesh` (unit frame) at a distance of `step` on both sides, at `num_probes` places.

    >>> flat = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> probe_sides(flat)
    Sides(solid=0.0, reversed=0.0, buried=0.0)
    """
    points, faces = spread_over_surface(mesh, num_probes)
    normals = mesh.face_normals[faces]
    winding = WindingNumber(mesh)(np.concatenate([points - step * normals, points + step * normals]))
    inside, outside = winding > 0.5 + INSIDE_MARGIN, winding < 0.5 - INSIDE_MARGIN
    behind, before = slice(0, num_probes), slice(num_probes, None)
    return Sides(
        solid=float((inside[behind] & outside[before]).mean()),
        reversed=float((outside[behind] & inside[before]).mean()),
        buried=float((inside[behind] & inside[before]).mean()),
    )
