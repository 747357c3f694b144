"""The user's choice of what the inside of a mesh is. Samples, runs and fits hold it, and their hashes depend on it.

`solid.py` applies the rule. This module imports nothing heavy, because `run.json` and `--help` need it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

READING_VERSION = 3
"""Increased whenever the same file and rule may give another solid. Samples of an older version are inspected again."""

SolidChoice = Literal["auto", "winding", "outer"]


@dataclass(frozen=True)
class SolidRule:
    """What the inside of a mesh is.

    Attributes
    ----------
    solid : auto, winding or outer
        auto: surfaces without an inside become walls; winding: they are dropped; outer: all that is closed off is full.
    thickness : number
        Thickness of a whole wall, above 0, in the meshes' own units; null is 1.7 % of the radius (winding: no walls).
    gap : number
        With solid=outer, gaps below this width are closed, in the meshes' own units; null is 2 % of the radius.
    label : list
        Labels of a label volume (.nii, .nii.gz, .nrrd) that are the solid, together; null is every label above 0.

    Raises
    ------
    ValueError
        An unknown choice; a width that is not above 0; a width that the choice does not use.

    >>> SolidRule(thickness=0.5).to_dict()
    {'solid': 'auto', 'thickness': 0.5, 'gap': None}
    """

    solid: SolidChoice = "auto"
    thickness: float | None = None
    gap: float | None = None
    label: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.solid not in get_args(SolidChoice):
            raise ValueError(f"solid must be one of {', '.join(get_args(SolidChoice))}, got {self.solid!r}")
        for name in ("thickness", "gap"):
            width = getattr(self, name)
            if width is not None and not 0 < width < math.inf:
                raise ValueError(f"{name} must be above 0 or null, got {width}")
        if self.gap is not None and self.solid != "outer":
            raise ValueError(f"gap={self.gap:g} has an effect only with solid=outer, got solid={self.solid}")
        if self.thickness is not None and self.solid == "outer":
            raise ValueError(f"thickness={self.thickness:g} has no effect with solid=outer, which makes no walls")

    def __str__(self) -> str:
        widths = [f"{name}={width:g}" for name in ("thickness", "gap") if (width := getattr(self, name)) is not None]
        labels = [] if self.label is None else [f"label={list(self.label)}"]
        return " ".join([f"solid={self.solid}", *widths, *labels])

    @property
    def hash_text(self) -> str:
        """The text that this rule adds to the content of a file when it is hashed; empty for the plain rules.

        Versions without `auto` knew only half the thickness of a wall; their hashes stay valid.
        """
        if self.solid == "winding" and self.label is None:
            return "" if self.thickness is None else f"thickness={self.thickness / 2!r}"
        return "" if self == SolidRule() else str(sorted(self.to_dict().items()))

    def repeats(self, earlier: SolidRule) -> bool:
        """Tell whether the same keys gave the rule `earlier` in a version whose only choice was solid=winding.

        That version took `thickness` as half a wall.

        >>> SolidRule(thickness=0.5).repeats(SolidRule("winding", thickness=1.0))
        True
        """
        thickness = None if self.thickness is None else 2 * self.thickness
        return self.solid == "auto" and earlier == SolidRule("winding", thickness=thickness)

    def to_dict(self) -> dict[str, Any]:
        """Return keys for a JSON document, `label` only where it is given. `from_dict` reads the rule back exactly."""
        document = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "label"}
        return document if self.label is None else document | {"label": list(self.label)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SolidRule:
        """Return the rule whose keys are among those of `document`.

        A document without the key `solid` was written when winding was the only choice, with half walls.

        >>> SolidRule.from_dict({"thickness": 0.25, "name": "leaf"})
        SolidRule(solid='winding', thickness=0.5, gap=None, label=None)
        """
        if "solid" not in document:
            half = document.get("thickness")
            return cls("winding", thickness=None if half is None else 2 * half)
        label = document.get("label")
        widths = {name: document[name] for name in ("solid", "thickness", "gap")}
        return cls(**widths, label=None if label is None else tuple(label))

    def with_given(self, *, solid: SolidChoice | None, thickness: float | None, gap: float | None) -> SolidRule:
        """Return this rule with the values that are not None. A given choice starts anew, without this rule's widths.

        >>> SolidRule("outer", gap=0.1).with_given(solid=None, thickness=None, gap=0.2).gap
        0.2
        """
        base = self if solid is None else SolidRule(solid)
        return SolidRule(
            base.solid,
            thickness=base.thickness if thickness is None else thickness,
            gap=base.gap if gap is None else gap,
            label=self.label,
        )


AUTO = SolidRule()
"""The rule where the user gives none."""
