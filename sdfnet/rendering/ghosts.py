"""Ghosts: surfaces that a picture shows through, to compare what is drawn with what was or will be.

A ghost veils what lies behind it and is hidden by what lies before it; it casts no shadow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.rendering.look import Color, check_color
from sdfnet.rendering.rays import Layer
from sdfnet.rendering.scene import Drawable

_OVER_SURFACE, _OVER_NOTHING = 0.30, 0.45
"""How much of a ghost is seen before the solid surface and beside it; more would hide what it is compared with."""

_APART = 4e-3
"""How far a ghost must be before a surface to be drawn over it, in the drawing frame: where both are one it is not."""


@dataclass(frozen=True, eq=False)
class Ghost:
    """A mesh to show through.

    Attributes
    ----------
    drawable : Mesh or PaintedMesh
    tint : Color
        sRGB in [0, 1]; the ghost's own colour is not shown.
    """

    drawable: Drawable
    tint: Color

    def __post_init__(self) -> None:
        check_color("tint", self.tint)


def veil(image: NDArray[np.float32], solid: Layer, ghost: Layer) -> NDArray[np.float32]:
    """Return `image` (H, W, 3), in which `solid` is drawn, with `ghost` over it."""
    before = ghost.depth < solid.depth - np.float32(_APART)
    # At its silhouette a pixel of the ghost holds no depth in its middle: what is beside the solid decides.
    seen = np.where(np.isfinite(ghost.depth), before, solid.coverage < 0.5)
    share = seen * np.where(solid.coverage > 0.5, np.float32(_OVER_SURFACE), np.float32(_OVER_NOTHING))
    return np.asarray(image * (1 - share * ghost.coverage)[..., None] + share[..., None] * ghost.color)
