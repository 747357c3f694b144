"""What a scene is, as plain data: a tree of nodes, and the parameters that its numbers may name.

A node is one field: its kind (`sphere`, `union`, …), the nodes that it combines, and its arguments. A number may be an
expression on the parameters. `build` makes fields of the data, `scene_file` reads and writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdfnet.scenes.expressions import RESERVED

Value = Any
"""A number, an expression, a text, true or false, a tuple of values, or a Node."""

PLACING = ("scale", "orient", "rotate", "move")
"""The keys that place a node, in the order in which they act."""


@dataclass(frozen=True)
class Node:
    """One field of a scene.

    Attributes
    ----------
    kind : str
        A key of `KINDS`.
    operands : tuple of Node
        The nodes that this one combines or changes, in order.
    arguments : dict
        By name, as the field's class takes them. A number may be an expression, such as "width / 2".
    placing : dict
        Any of `scale` (a number), `orient` (the axis onto which y turns: x, y, z or a direction), `rotate` (a dict of
        `axis` and `degrees`, a tuple of such dicts, or a rotation matrix) and `move` (three numbers). They act in this
        order, whatever the order in which they are written.
    color : str or tuple, optional
        A name or #rrggbb, or three numbers from 0 to 1.
    name : str, optional
        For messages and for the tree that `sdfnet scene` prints.
    lines : dict
        The line of the file in which a key stands; that of the node itself under "". Not compared.

    >>> Node("sphere", arguments={"radius": 2}) == Node("sphere", arguments={"radius": 2.0})
    True
    """

    kind: str
    operands: tuple[Node, ...] = ()
    arguments: Mapping[str, Value] = field(default_factory=dict)
    placing: Mapping[str, Value] = field(default_factory=dict)
    color: str | tuple[float, ...] | None = None
    name: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below, each before those that it combines."""
        yield self
        for below in (*self.operands, *(value for value in self.arguments.values() if isinstance(value, Node))):
            yield from below.walk()


@dataclass(frozen=True)
class Parameter:
    """A number of a scene that can be set: its value by default, its range and what it means.

    Raises
    ------
    ValueError
        No name that an expression can use; a range that is not two rising numbers, or does not hold the value.

    >>> Parameter("width", 40, (20, 80)).check(90)
    Traceback (most recent call last):
    ...
    ValueError: width must be from 20 to 80, got 90
    """

    name: str
    value: float
    range: tuple[float, float] | None = None
    about: str = ""

    def __post_init__(self) -> None:
        if not (self.name.isidentifier() and self.name not in RESERVED):
            raise ValueError(f"a parameter's name must be a word that is no function, got {self.name!r}")
        if self.range is not None and not (self.range[0] < self.range[1] and all(map(math.isfinite, self.range))):
            raise ValueError(f"the range of {self.name} must be two rising numbers, got {list(self.range)}")
        self.check(self.value)

    def check(self, value: float) -> float:
        """Return `value`, or raise ValueError if it is not finite or not in the range."""
        if not math.isfinite(value):
            raise ValueError(f"{self.name} must be finite, got {value}")
        if self.range is not None and not self.range[0] <= value <= self.range[1]:
            raise ValueError(f"{self.name} must be from {self.range[0]:g} to {self.range[1]:g}, got {value:g}")
        return value


@dataclass(frozen=True)
class SceneFile:
    """A scene as its file describes it.

    Attributes
    ----------
    shape : Node
    parameters : tuple of Parameter
    folder : Path
        Where the paths of the scene's nodes start. Not compared.
    file : str
        The file's name for messages, or "". Not compared.

    >>> SceneFile(Node("box"), (Parameter("width", 40),)).values({"width": 30})
    {'width': 30}
    """

    shape: Node
    parameters: tuple[Parameter, ...] = ()
    folder: Path = field(default=Path(), compare=False)
    file: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The name of the scene's file without its suffix, for the names of results."""
        return Path(self.file).stem if self.file.endswith((".yaml", ".yml")) else "scene"

    def values(self, given: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return the value of every parameter: the `given` one, or the scene's.

        Raises
        ------
        ValueError
            A name that no parameter has, or a value outside the range.
        """
        given = given or {}
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                told = f"the scene has {', '.join(known)}" if known else "the scene has none"
                raise ValueError(f"unknown parameter {name!r}; {told}")
        return {name: parameter.check(given.get(name, parameter.value)) for name, parameter in known.items()}

    def where(self, node: Node, key: str = "") -> str:
        """Return the place of a node's key in words, for an error: `plate.yaml, line 7: box: `."""
        line = node.lines.get(key, node.lines.get("", None))
        file = self.file or "the scene"
        called = f"{node.kind} {node.name!r}" if node.name else node.kind
        return f"{file}{'' if line is None else f', line {line}'}: {called}: "
