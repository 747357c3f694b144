"""The kinds of nodes that a scene can have: for each, the class or function that makes its field.

Names of arguments, their defaults and which of them must be given are those of the class or function. So a new field
is one line of `KINDS`. Arguments that are fields by position are the operands of a node.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from sdfnet import fields
from sdfnet.fields import Field
from sdfnet.scenes.sources import learned_field, mesh_file_field, text_field

Sort = Literal["number", "whole", "numbers", "flag", "text", "path", "node"]


@dataclass(frozen=True)
class Argument:
    """One argument of a kind: what it takes, and its default (`inspect.Parameter.empty` if it must be given)."""

    name: str
    sort: Sort
    default: Any
    choices: tuple[str, ...] = ()

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Kind:
    """One kind of node.

    Attributes
    ----------
    make : callable
        Takes the operands by position and the arguments by name; returns the field.
    """

    name: str
    make: Callable[..., Field]

    @cached_property
    def _signature(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.make).parameters.values())

    @cached_property
    def operand_names(self) -> tuple[str, ...]:
        """The names of the operands; the last may stand for any number, see `takes_many`."""
        by_place = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return tuple(each.name for each in self._signature if each.annotation == "Field" and each.kind in by_place)

    @cached_property
    def takes_many(self) -> bool:
        return any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in self._signature)

    @cached_property
    def arguments(self) -> Mapping[str, Argument]:
        """The arguments by name, in order."""
        hidden = (*self.operand_names, "device")  # the device is an option of `build_scene`, not of the scene
        rest = [each for each in self._signature if each.name not in hidden]
        return {each.name: _argument(each) for each in rest}

    @cached_property
    def takes_device(self) -> bool:
        return any(each.name == "device" for each in self._signature)

    def check_operands(self, number: int) -> None:
        """Raise ValueError if the kind does not take so many operands."""
        least = len(self.operand_names)
        if number < least or (number > least and not self.takes_many):
            wanted = "no nodes below it" if not least else f"{least}{' or more' if self.takes_many else ''} under `of`"
            raise ValueError(f"it takes {wanted}, got {number}")


_MAKERS: dict[str, Callable[..., Field]] = {
    "sphere": fields.Sphere,
    "box": fields.Box,
    "cylinder": fields.Cylinder,
    "torus": fields.Torus,
    "ellipsoid": fields.Ellipsoid,
    "half_space": fields.HalfSpace,
    "tube": fields.Tube,
    "frustum": fields.Frustum,
    "ribbon": fields.Ribbon,
    "extrusion": fields.Extrusion,
    "revolution": fields.Revolution,
    "text": text_field,
    "mesh": mesh_file_field,
    "learned": learned_field,
    "union": fields.Union,
    "intersection": fields.Intersection,
    "difference": fields.Difference,
    "complement": fields.Complement,
    "smooth_union": fields.SmoothUnion,
    "smooth_intersection": fields.SmoothIntersection,
    "smooth_difference": fields.SmoothDifference,
    "local_blend": fields.LocalBlend,
    "masked_blend": fields.MaskedBlend,
    "mirrored": fields.Mirrored,
    "offset": fields.Offset,
    "shell": fields.Shell,
    "twisted": fields.Twisted,
    "bent": fields.Bent,
    "row": fields.Row,
    "ring": fields.Ring,
}

KINDS = {name: Kind(name, make) for name, make in _MAKERS.items()}
"""Every kind of node, by the name that a file gives it."""

_SORTS: dict[str, Sort] = {
    "float": "number",
    "int": "whole",
    "ArrayLike": "numbers",
    "bool": "flag",
    "str": "text",
    "Path": "path",
    "Field": "node",
}
"""What an annotation means in a file; one that may be None is the same."""


def _argument(parameter: inspect.Parameter) -> Argument:
    written = str(parameter.annotation).removesuffix(" | None")
    choices = tuple(re.findall(r'"(\w+)"|\'(\w+)\'', written)) if written.startswith("Literal") else ()
    sort = "text" if choices else _SORTS[written]
    return Argument(parameter.name, sort, parameter.default, tuple(a or b for a, b in choices))
