"""The field of each part of a chair.

Centimetres. A chair stands on y = 0 about the y axis, faces +z, and is its own mirror image in x: only the half with
x ≥ 0 is written down here. Radii and thicknesses are at least a centimetre to each side of a part's middle, so that the
family can be learned and meshed at a moderate resolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from chair_designs import ChairDesign
from numpy.typing import ArrayLike, NDArray

from sdfnet.fields import (
    Box,
    Cylinder,
    Ellipsoid,
    Extrusion,
    Field,
    HalfSpace,
    Mirrored,
    Ribbon,
    SmoothDifference,
    SmoothIntersection,
    SmoothUnion,
    Transformed,
    Tube,
    rotation_about,
)

LABELS = ("seat", "legs", "back", "arms", "stretchers")
FILLET = 1.2
"""Width of the blend between touching parts, cm: a fillet of at most 0.3 cm."""

Points = NDArray[np.float64]


def chair_parts(design: ChairDesign) -> dict[str, Field]:
    """Return the field of each part that the chair has, by label, about the y axis. All are bounds."""
    parts = {"seat": [_seat(design)], "legs": _legs(design), "back": _back(design)}
    if design.arms:
        parts["arms"] = [_arm(design)]
    if design.stretchers:
        parts["stretchers"] = _stretchers(design)
    return {label: Mirrored(blend(parts[label]), "x") for label in LABELS if label in parts}


def blend(fields: list[Field], width: float = FILLET) -> Field:
    """Return the smooth union of `fields`, from the first to the last."""
    return functools.reduce(lambda first, second: SmoothUnion(first, second, width=width), fields)


def _seat(design: ChairDesign) -> Field:
    rounding = 0.45 * design.thickness
    slab = Extrusion(
        _outline(design, np.linspace(0, 2 * math.pi, 64, endpoint=False), inset=rounding),
        design.thickness / 2 - rounding,
        rounding=rounding,
    )
    seat: Field = Transformed(slab, translation=[0, design.height - design.thickness / 2, 0])
    if design.dish > 0.3:
        # A flat ellipsoid whose pole hangs `dish` below the seat, and that is a third of the seat wide at its level.
        hollow = Ellipsoid(
            [0.55 * design.width, 6 * design.dish, 0.55 * design.depth],
            center=[0, design.height + 5 * design.dish, 0.04 * design.depth],
        )
        seat = SmoothDifference(seat, hollow, width=0.8)
    return seat


def _legs(design: ChairDesign) -> list[Field]:
    if design.legs == "pedestal":
        return _pedestal(design)
    radius = design.leg_radius
    (front, foot_front), (rear, foot_rear) = _leg_line(design, front=True), _leg_line(design, front=False)
    on_floor = 0.5 * radius  # Low enough for the floor to flatten the runner.
    if design.legs == "sled":
        lift = np.array([0, on_floor, 0])
        return [Tube(_rounded_corners([front, foot_front + lift, foot_rear + lift, rear], 6.0), radius)]
    if design.legs == "cantilever":
        side, level = float(front[0]), design.height - design.thickness - 0.3 * radius
        nose, tail = design.depth / 2 + 0.5, float(rear[2]) - 3
        corners = [[side, level, tail + 3], [side, level, nose], [side, on_floor, nose], [side, on_floor, tail]]
        return [Tube(_rounded_corners([*corners, [-1, on_floor, tail]], 7.0), radius)]
    legs: list[Field] = []
    for top, foot in ((front, foot_front), (rear, foot_rear)):
        below = foot + (foot - top) * (3 / top[1])  # Through the floor, which cuts it flat.
        if design.legs == "square":
            legs.append(_bar(top, below, 0.9 * radius))
        else:
            legs.append(Tube([top, below], [1.1 * radius, 0.75 * radius]))
    return legs


def _pedestal(design: ChairDesign) -> list[Field]:
    radius, collar_level = 1.4 * design.leg_radius, design.height - 0.95 * design.thickness
    column = Tube([[0, radius, 0], [0, collar_level - radius, 0]], radius)
    base = Cylinder(0.46 * design.width, 2.0, rounding=1.3, center=[0, 0.8, 0])
    collar = Cylinder(0.18 * design.width, 1.0, rounding=0.9, center=[0, collar_level - 1, 0])
    return [blend([base, column, collar], 10.0)]


def _stretchers(design: ChairDesign) -> list[Field]:
    """Return a rail from the front to the rear leg and one between the two rails, below the middle of the legs."""
    level = 0.36 * design.height
    front, rear = (_along(*_leg_line(design, front=is_front), level) for is_front in (True, False))
    middle = (front + rear) / 2
    return [Tube([front, rear], 1.2), Tube([middle, middle * [-1, 1, 1]], 1.2)]


def _back(design: ChairDesign) -> list[Field]:
    if design.back == "barrel":
        return [_barrel(design)]
    if design.back == "hoop":
        return _hoop(design)
    top = design.back_height
    if design.back == "panel":
        tall = 0.55 * top
        return [_post(design, top - 0.55 * tall), _panel(design, top - tall / 2, tall)]
    posts, crest = [_post(design, top - 2.5)], _rail(design, top - 3, 6.5, reach=_post_x(design) + 1.5)
    if design.back == "spindles":
        shares = np.linspace(-1, 1, design.num_slats + 3)[1:-1]
        spindles = [_spindle(design, float(x) * _post_x(design), top - 3) for x in shares if x > -1e-9]
        return [*posts, crest, *spindles]
    levels = np.linspace(top - 3, 0.3 * top, design.num_slats)[1:]
    return [*posts, crest, *(_rail(design, float(level), 5.5, reach=_post_x(design)) for level in levels)]


def _post(design: ChairDesign, top: float) -> Field:
    heights = np.linspace(0.9 * design.leg_radius - 0.6 * design.thickness, top, 10)
    radii = np.linspace(0.9 * design.leg_radius, 1.35, 10)
    return Tube([_on_back(design, _post_x(design), v, sag=0.0) for v in heights], radii)


def _rail(design: ChairDesign, level: float, tall: float, *, reach: float) -> Field:
    """Return a bent board from -reach to reach, `tall` high about `level` above the seat, as tilted as the back."""
    radius = 1.3
    return _on_tilt(design, Ribbon(_bend(design, reach), tall / 2 - radius, radius=radius), level)


def _panel(design: ChairDesign, level: float, tall: float) -> Field:
    """Return a bent board with the outline of a superellipse."""
    reach = _post_x(design) + 3.0
    sheet = Ribbon(_bend(design, reach), tall, radius=1.35)
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    outline = _superellipse(angles, reach, tall / 2, design.squareness)
    cut = Transformed(Extrusion(outline, 20.0), rotation=rotation_about([1, 0, 0], 90))
    return _on_tilt(design, SmoothIntersection(sheet, cut, width=2.2), level)


def _bend(design: ChairDesign, reach: float) -> Points:
    """Return the bend of the back in plan, (K, 2) x and z: through the posts, and `sag` behind them in the middle."""
    x = np.linspace(-reach, reach, 13)
    return np.stack([x, -design.sag * (1 - (x / _post_x(design)) ** 2)], axis=1)


def _spindle(design: ChairDesign, x: float, top: float) -> Field:
    foot = _on_back(design, 0.85 * x, 1.15 - 0.6 * design.thickness, sag=min(design.sag, 0.05 * design.depth))
    return Tube([foot, _on_back(design, x, top, sag=design.sag)], 1.15)


def _hoop(design: ChairDesign) -> list[Field]:
    """Return a bow from the seat over the top, and spindles within it."""
    angles = np.linspace(0, math.pi / 2, 20)
    reach, top = _post_x(design), design.back_height
    arc = _superellipse(angles, reach, top + design.thickness / 2, 3.0) - [0, design.thickness / 2]
    arc[:, 0] *= 1 + 0.3 * np.sin(angles)
    bow = Tube([_on_back(design, u, v, sag=design.sag * max(v, 0) / top) for u, v in arc], 0.85 * design.leg_radius)
    shares = np.array([0.0, 0.4]) if design.num_slats % 2 else np.array([0.2, 0.58])
    spindles = []
    for share in shares[: max(1, design.num_slats)]:
        height = (top + design.thickness / 2) * (1 - (share / 1.2) ** 3) ** (1 / 3) - design.thickness / 2
        spindles.append(_spindle(design, float(share) * reach, float(height)))
    return [bow, *spindles]


def _barrel(design: ChairDesign) -> Field:
    """Return a wall that follows the seat round the back to the sides, lower in front."""
    angles = np.linspace(-math.pi - 0.35, 0.35, 40)
    tall = design.back_height + design.thickness / 2
    wall = Ribbon(_outline(design, angles, inset=1.6), tall / 2, radius=1.35)
    raised = Transformed(wall, translation=[0, design.height + design.back_height - tall / 2, 0])
    slope = HalfSpace([0, 1, 0.42], point=[0, design.height + design.back_height, -design.depth / 2])
    return SmoothIntersection(raised, slope, width=2.2)


def _arm(design: ChairDesign) -> Field:
    """Return a rod from the back forward and down into the seat's side."""
    level = 0.42 * design.back_height if design.back == "hoop" else 21.0
    start = _on_back(design, _post_x(design), level, sag=0.0)
    seat_x = 0.93 * float(_outline(design, np.array([0.45]), inset=2.2)[0, 0])
    foot = [seat_x, design.height - design.thickness / 2, 0.22 * design.depth]
    knee = [seat_x + 3.5, design.height + level + 0.5, 0.34 * design.depth]
    return Tube(_rounded_corners([start, knee, foot], 7.0), 1.5)


def _on_back(design: ChairDesign, x: float, level: float, *, sag: float) -> Points:
    """Return the point of the back's middle surface at x, `level` above the seat: further behind as it rises."""
    share = level / design.back_height
    lean = math.tan(math.radians(design.tilt)) * level * (0.6 + 0.4 * max(share, 0.0))
    z = _leg_line(design, front=False)[0][2] - lean
    return np.array([x, design.height + level, z - sag * (1 - (x / _post_x(design)) ** 2)])


def _on_tilt(design: ChairDesign, board: Field, level: float) -> Field:
    slope = math.tan(math.radians(design.tilt)) * (0.6 + 0.8 * level / design.back_height)
    place = _on_back(design, _post_x(design), level, sag=0.0) * [0, 1, 1]
    return Transformed(board, rotation=rotation_about([1, 0, 0], -math.degrees(math.atan(slope))), translation=place)


def _post_x(design: ChairDesign) -> float:
    return float(_leg_line(design, front=False)[0][0])


def _leg_line(design: ChairDesign, *, front: bool) -> tuple[Points, Points]:
    """Return the top of a leg, inside the seat, and the middle of its foot on the floor."""
    angle = math.pi / 4 if front else -math.pi / 4
    x, z = _outline(design, np.array([angle]), inset=design.leg_radius + 1.2)[0]
    # The rounded end of the leg stays below the seat's upper side.
    top = np.array([x, design.height - 0.4 * design.thickness - 1.1 * design.leg_radius, z])
    return top, np.array([x + 0.7 * design.splay, 0.0, z + math.copysign(design.splay, z)])


def _along(top: Points, foot: Points, level: float) -> Points:
    return foot + (top - foot) * (level / top[1])


def _bar(start: Points, end: Points, radius: float) -> Field:
    """Return a square bar between two points, turned as little as possible from upright."""
    axis = (start - end) / np.linalg.norm(start - end)
    length = float(np.linalg.norm(start - end))
    tilt = np.cross([0.0, 1.0, 0.0], axis)
    rotation = rotation_about(tilt, math.degrees(math.acos(axis[1]))) if np.linalg.norm(tilt) > 1e-9 else np.eye(3)
    return Transformed(
        Box([radius, length / 2, radius], rounding=0.9), rotation=rotation, translation=(start + end) / 2
    )


def _outline(design: ChairDesign, angles: Points, *, inset: float) -> Points:
    """Return points (K, 2), x and z, of the seat's outline moved inward by about `inset`; angle pi / 2 is the front."""
    plan = _superellipse(angles, design.width / 2 - inset, design.depth / 2 - inset, design.squareness)
    plan[:, 0] *= 1 - design.narrowing * (0.5 - plan[:, 1] / design.depth)
    return plan


def _superellipse(angles: Points, half_width: float, half_height: float, exponent: float) -> Points:
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.sign(circle) * np.abs(circle) ** (2 / exponent) * [half_width, half_height]


def _rounded_corners(corners: Sequence[ArrayLike], radius: float) -> Points:
    """Return the polyline with each inner corner replaced by a quadratic curve that starts `radius` before it."""
    points = [np.asarray(corner, dtype=np.float64) for corner in corners]
    rounded = [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        enter = corner + (before - corner) * min(0.5, radius / float(np.linalg.norm(before - corner)))
        leave = corner + (after - corner) * min(0.5, radius / float(np.linalg.norm(after - corner)))
        for share in np.linspace(0, 1, 7):
            rounded.append((1 - share) ** 2 * enter + 2 * share * (1 - share) * corner + share**2 * leave)
    rounded.append(points[-1])
    keep = [0] + [i for i in range(1, len(rounded)) if np.linalg.norm(rounded[i] - rounded[i - 1]) > 1e-6]
    return np.array([rounded[i] for i in keep])
