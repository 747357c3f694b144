"""What a chair of the family is in numbers, and how they are drawn. `chair_parts` makes the fields from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

LEG_STYLES = ("round", "square", "round", "sled", "round", "square", "pedestal", "cantilever")
BACK_STYLES = ("ladder", "panel", "spindles", "hoop", "barrel")


@dataclass(frozen=True)
class ChairDesign:
    """The numbers of one chair, in centimetres and degrees."""

    width: float
    depth: float
    height: float
    """Of the seat's upper side."""
    thickness: float
    squareness: float
    """Exponent of the seat's superellipse: 2 is round, 6 nearly square."""
    narrowing: float
    """Share by which the seat is narrower behind than in front."""
    dish: float
    """Depth of the hollow in the seat."""
    legs: str
    leg_radius: float
    splay: float
    """How far a foot stands outside the top of its leg."""
    stretchers: bool
    back: str
    back_height: float
    """From the seat to the top."""
    tilt: float
    sag: float
    """How far the middle of the back lies behind its sides."""
    num_slats: int
    arms: bool
    position: tuple[float, float]
    """Where in the room it stands: x and z."""


def draw_design(index: int, *, generator: torch.Generator) -> ChairDesign:
    """Draw the numbers of the chair of that index, whose styles take turns so that every few chairs show them all."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    legs, back = LEG_STYLES[index % len(LEG_STYLES)], BACK_STYLES[index % len(BACK_STYLES)]
    return ChairDesign(
        width=between(42, 50),
        depth=between(41, 47),
        height=between(43, 47),
        thickness=between(3.2, 4.6),
        squareness=between(2.2, 3.2) if legs in ("pedestal", "round") else between(3.5, 6),
        narrowing=between(0.02, 0.16),
        dish=between(0, 1.2),
        legs=legs,
        leg_radius=between(1.7, 2.3),
        splay=between(1.5, 6) if legs == "round" else between(0, 2),
        stretchers=legs in ("round", "square") and between(0, 1) < 0.5,
        back=back,
        back_height=between(30, 36) if back == "barrel" else between(36, 54),
        tilt=between(7, 14),
        sag=between(2, 5.5),
        num_slats=round(between(1.6, 4.4)),
        arms=back != "barrel" and legs != "pedestal" and between(0, 1) < 0.45,
        position=(between(60, 400), between(60, 300)),
    )
