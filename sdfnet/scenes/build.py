"""From the data of a scene to fields, and from fields back to data.

`build_scene` makes the field of a scene. `describe_field` is its inverse: the field that it describes has the same
values, bit for bit, when it is built again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.fields import Field, Transformed, orientation, rotation_about
from sdfnet.geometry.arrays import FloatArray
from sdfnet.scenes.expressions import evaluate_expression
from sdfnet.scenes.kinds import KINDS, Argument, Kind
from sdfnet.scenes.node import Node, SceneFile, Value

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class BuiltNode:
    """A node of a scene with the fields that were made of it.

    Attributes
    ----------
    node : Node
    field : Field
        The node's field in the frame of the node above it.
    unplaced : Field
        The same before `scale`, `orient`, `rotate` and `move`.
    operands : tuple of BuiltNode
        Their fields are in the frame of `unplaced`.

    >>> from sdfnet.scenes import parse_scene
    >>> built = build_scene(parse_scene("shape: {union: [{box: [1, 1, 1]}, {sphere: 1}], move: [3, 0, 0]}"))
    >>> built.field.bounds.center.tolist(), built.operands[1].field.bounds.center.tolist()
    ([3.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    """

    node: Node
    field: Field
    unplaced: Field
    operands: tuple[BuiltNode, ...]


def build_scene(scene: SceneFile, values: Mapping[str, float] | None = None, *, device: str = "cpu") -> BuiltNode:
    """Return the fields of a scene, with `values` for some of its parameters. `.field` is the whole scene.

    Learned shapes are asked on `device`.

    Raises
    ------
    ValueError
        An unknown parameter or a value outside its range; a node whose class refuses its arguments, a file that cannot
        be read. The message names the file, the line and the key.

    >>> from sdfnet.scenes.node import Parameter
    >>> ball = SceneFile(Node("sphere", arguments={"radius": "width / 2"}), (Parameter("width", 4),))
    >>> build_scene(ball).field.bounds.upper.tolist(), build_scene(ball, {"width": 6}).field.bounds.upper.tolist()
    ([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    """
    return _Builder(scene, scene.values(values), device).build(scene.shape)


def describe_field(field: Field, known: Mapping[Field, Node] | None = None) -> Node:
    """Return the node that `field` is. `known` are the nodes of fields that come from files.

    Raises
    ------
    ValueError
        A field of a class that no kind of node makes, such as a mesh that is not in `known`.

    >>> from sdfnet.fields import Box, Sphere
    >>> describe_field(Sphere(2.0) - Box([1, 1, 1])).operands[0]
    Node(kind='sphere', operands=(), arguments={'radius': 2.0}, placing={}, color=None, name=None)
    """
    if known and field in known:
        return known[field]
    if isinstance(field, Transformed):
        return _describe_placed(field, known)
    kind = next((kind for kind in KINDS.values() if kind.make is type(field)), None)
    if kind is None:
        raise ValueError(f"no node of a scene makes a {type(field).__name__}; give its node in `known`")
    operands: list[Field] = []
    for name in kind.operand_names:
        value = getattr(field, name)
        operands += value if isinstance(value, tuple) else [value]
    arguments = {}
    for argument in kind.arguments.values():
        value = getattr(field, argument.name)
        value = describe_field(value, known) if argument.sort == "node" else _plain(value)
        if argument.is_required or value != _plain(argument.default):
            arguments[argument.name] = value
    return Node(kind.name, tuple(describe_field(each, known) for each in operands), arguments)


def _describe_placed(field: Transformed, known: Mapping[Field, Node] | None) -> Node:
    inner = describe_field(field.field, known)
    if inner.placing:  # A union of one node is that node; it takes a second placing.
        inner = Node("union", (inner,))
    placing: dict[str, Value] = {}
    if field.scale != 1:
        placing["scale"] = field.scale
    if not np.array_equal(field.rotation, np.eye(3)):
        placing["rotate"] = _plain(field.rotation)
    if field.translation.any():
        placing["move"] = _plain(field.translation)
    return replace(inner, placing=placing)


def _plain(value: Any) -> Any:
    """Return arrays as nested tuples of numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(_plain(each) for each in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _Builder:
    """Makes the fields of one scene for one set of values."""

    scene: SceneFile
    values: Mapping[str, float]
    device: str

    def build(self, node: Node) -> BuiltNode:
        kind = KINDS[node.kind]
        operands = tuple(self.build(below) for below in node.operands)
        arguments = {name: self._argument(node, kind, name, value) for name, value in node.arguments.items()}
        unplaced = self._made(node, kind, operands, arguments)
        return BuiltNode(node, self._placed(node, unplaced), unplaced, operands)

    def _made(self, node: Node, kind: Kind, operands: tuple[BuiltNode, ...], arguments: dict[str, Any]) -> Field:
        if kind.takes_device:
            arguments["device"] = self.device
        if kind.name == "union" and len(operands) == 1:
            return operands[0].field
        try:
            kind.check_operands(len(operands))
            return kind.make(*(below.field for below in operands), **arguments)
        except (ValueError, OSError) as error:
            named = next((name for name in arguments if str(error).startswith(f"{name} ")), "")
            raise ValueError(f"{self.scene.where(node, named)}{error}") from error

    def _argument(self, node: Node, kind: Kind, name: str, value: Value) -> Any:
        argument: Argument = kind.arguments[name]
        if argument.sort == "node":
            return self.build(value).field
        if argument.sort == "path":
            return self.scene.folder / value
        if argument.sort in ("number", "whole", "numbers"):
            number = self._number(node, name, value)
            if argument.sort == "whole" and isinstance(number, float):
                if not number.is_integer():
                    raise ValueError(f"{self.scene.where(node, name)}{name} must be a whole number, got {number:g}")
                number = int(number)
            return number
        return value

    def _number(self, node: Node, key: str, value: Value) -> Any:
        """Return a number, or a list of numbers, with its expressions evaluated."""
        if isinstance(value, tuple):
            return [self._number(node, key, each) for each in value]
        if not isinstance(value, str):
            return value
        try:
            return evaluate_expression(value, self.values)
        except ValueError as error:
            raise ValueError(f"{self.scene.where(node, key)}{key}: {error}") from error

    def _placed(self, node: Node, field: Field) -> Field:
        """Return `field` where the node's placing puts it."""
        if not node.placing:
            return field
        key = ""
        try:
            options: dict[str, Any] = {}
            for key in ("scale", "move"):
                if key in node.placing:
                    options["translation" if key == "move" else key] = self._number(node, key, node.placing[key])
            rotation = np.eye(3)
            if key := "orient" if "orient" in node.placing else "":
                axis = node.placing[key]
                rotation = orientation(_AXES[axis] if axis in _AXES else self._number(node, key, axis))
            if key := "rotate" if "rotate" in node.placing else "":
                rotation = self._rotation(node, node.placing[key]) @ rotation
            return Transformed(field, rotation=rotation, **options)
        except ValueError as error:
            message = str(error)
            if message.startswith(self.scene.file or "the scene"):
                raise
            key = next((each for each in ("scale", "move") if message.startswith(f"{each} ")), key)
            raise ValueError(f"{self.scene.where(node, key)}{message}") from error

    def _rotation(self, node: Node, value: Value) -> FloatArray:
        """Return the (3, 3) matrix of a `rotate` key: a matrix, an axis with degrees, or several one after another."""
        if isinstance(value, Mapping):
            axis = value["axis"]
            direction = _AXES[axis] if axis in _AXES else self._number(node, "rotate", axis)
            return rotation_about(direction, self._number(node, "rotate", value["degrees"]))
        if value and isinstance(value[0], Mapping):
            matrix = np.eye(3)
            for turn in value:
                matrix = self._rotation(node, turn) @ matrix
            return matrix
        return np.array(self._number(node, "rotate", value), dtype=np.float64)


def scene_of(field: Field, known: Mapping[Field, Node] | None = None, *, folder: str | Path = ".") -> SceneFile:
    """Return a scene without parameters that is `field`. See `describe_field`.

    >>> from sdfnet.fields import Sphere
    >>> build_scene(scene_of(Sphere(2.0))).field.bounds.upper.tolist()
    [2.0, 2.0, 2.0]
    """
    return SceneFile(describe_field(field, known), folder=Path(folder))
