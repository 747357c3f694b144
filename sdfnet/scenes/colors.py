"""The colour of a scene at points of its surface: that of the node whose surface it is.

Where nodes are combined, the operand that gives the value gives the colour, too; a smooth blend mixes the two as it
mixes the values. A node without a colour has that of the node above it. Nodes that only cut, in a difference or an
intersection, leave the colour of what they cut, unless they have one.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from sdfnet.fields import MaskedBlend
from sdfnet.geometry.arrays import FloatArray
from sdfnet.rendering.style import Style
from sdfnet.scenes.build import BuiltNode

_CHUNK = 1 << 16
_SIGNS = {"union": 1, "intersection": -1, "smooth_union": 1, "smooth_intersection": -1, "local_blend": 1}
"""1 where the lowest value of the operands counts, -1 where the highest counts."""


def has_colors(built: BuiltNode) -> bool:
    """Tell whether any node of a scene has a colour.

    >>> from sdfnet.scenes import build_scene, parse_scene
    >>> has_colors(build_scene(parse_scene("shape: {union: [{box: [1, 1, 1], color: red}, {sphere: 1.2}]}")))
    True
    """
    return any(node.color is not None for node in built.node.walk())


def colors_at(built: BuiltNode, points: Tensor) -> FloatArray:
    """Return the colours (N, 3) of a scene at `points` (N, 3): sRGB in [0, 1].

    >>> from sdfnet.scenes import build_scene, parse_scene
    >>> built = build_scene(parse_scene("shape: {union: [{box: [1, 1, 1], color: red}, {sphere: 1.2, color: lime}]}"))
    >>> colors_at(built, torch.tensor([[1.0, 1.0, 1.0], [1.2, 0.0, 0.0]])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    default = points.new_tensor(Style().color)
    with torch.inference_mode():
        parts = [_colors(built, part, default) for part in points.split(_CHUNK)]
    return np.asarray(torch.cat(parts).double().cpu().numpy()) if parts else np.zeros((0, 3))


def _colors(built: BuiltNode, points: Tensor, above: Tensor) -> Tensor:
    """Return the colours (N, 3) of a node at `points` (N, 3). `above` is the colour of the node above it, (3,)."""
    node = built.node
    own = above if node.color is None else points.new_tensor(as_rgb(node.color))
    if not any(below.node.color is not None or has_colors(below) for below in built.operands):
        return own.expand(len(points), 3)
    if built.field is not built.unplaced:
        points = built.field.inner_points(points)  # type: ignore[attr-defined]
    if len(built.operands) == 1:
        inner = getattr(built.unplaced, "inner_points", None)
        return _colors(built.operands[0], points if inner is None else inner(points), own)
    operands = built.operands
    if node.kind in ("difference", "smooth_difference", "intersection", "smooth_intersection"):
        base = operands[:1] if "difference" in node.kind else ()
        operands = (*base, *(below for below in operands[len(base) :] if has_colors(below)))
    colors = torch.stack([_colors(below, points, own) for below in operands])
    if isinstance(built.unplaced, MaskedBlend):
        return torch.lerp(colors[0], colors[1], built.unplaced.weight(points)[:, None].to(colors))
    values = torch.stack([below.field(points) for below in operands])
    if node.kind in ("difference", "smooth_difference"):
        values[0] = -values[0]
    else:
        values = values * _SIGNS[node.kind]
    width = getattr(built.unplaced, "width", None)
    if width is None or len(values) < 2:
        return colors.gather(0, values.argmin(dim=0)[None, :, None].expand(1, -1, 3))[0]
    share = (0.5 + (values[1] - values[0]) / (2 * width)).clamp(0, 1)[:, None]
    return share * colors[0] + (1 - share) * colors[1]


def as_rgb(color: str | tuple[float, ...]) -> tuple[float, ...]:
    """Return a colour of a node as three numbers from 0 to 1.

    >>> as_rgb("#ff0000"), as_rgb((0.5, 0.5, 1.0))
    ((1.0, 0.0, 0.0), (0.5, 0.5, 1.0))
    """
    if not isinstance(color, str):
        return color
    return tuple(channel / 255 for channel in ImageColor.getrgb(color)[:3])
