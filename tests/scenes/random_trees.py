"""Random scenes: trees of every kind of node that needs no file, for the axioms of scenes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from sdfnet.scenes import Node

Make = Callable[[random.Random, int], Node]
_COLORS = ("tomato", "#3070c0", (0.2, 0.7, 0.3), None)


def random_tree(seed: int, depth: int = 3) -> Node:
    """Return a random solid of a size of about 1, of at most `depth` levels; twists and bends are among the nodes."""
    return _node(random.Random(seed), depth)


def _node(source: random.Random, depth: int) -> Node:
    make = source.choice(_LEAVES) if depth == 0 else source.choice((*_COMBINATIONS, *_CHANGES))
    node = make(source, depth)
    placing = {}
    if source.random() < 0.5:
        placing["scale"] = source.uniform(0.6, 1.2)
    if source.random() < 0.3:
        placing["orient"] = source.choice(("x", "z", (1.0, 2.0, -1.0)))
    if source.random() < 0.5:
        placing["rotate"] = {"axis": source.choice("xyz"), "degrees": source.uniform(-180, 180)}
    if source.random() < 0.7:
        placing["move"] = tuple(source.uniform(-0.5, 0.5) for _ in range(3))
    return dataclasses.replace(node, placing=placing, color=source.choice(_COLORS))


def _leaf(kind: str, **sizes: object) -> Make:
    def make(source: random.Random, depth: int) -> Node:
        drawn = {name: size(source) if callable(size) else size for name, size in sizes.items()}
        return Node(kind, arguments=drawn)

    return make


def _size(source: random.Random) -> float:
    return source.uniform(0.3, 0.9)


def _sizes(source: random.Random) -> tuple[float, ...]:
    return tuple(source.uniform(0.3, 0.9) for _ in range(3))


_LEAVES = (
    _leaf("sphere", radius=_size),
    _leaf("box", half_extents=_sizes, rounding=0.1),
    _leaf("box", half_extents=_sizes),
    _leaf("cylinder", radius=_size, half_height=_size),
    _leaf("torus", major_radius=0.7, minor_radius=lambda source: source.uniform(0.15, 0.4)),
    _leaf("ellipsoid", semi_axes=_sizes),
    _leaf("frustum", start=(0, -0.5, 0), end=(0, 0.5, 0), start_radius=_size, end_radius=_size),
    _leaf("tube", curve=((-0.6, 0, 0), (0, 0.5, 0.2), (0.6, 0, 0)), radius=0.2),
    _leaf("ribbon", curve=((-0.6, 0), (0, 0.4), (0.6, 0)), half_height=_size, radius=0.2),
    _leaf("extrusion", polygon=((-0.7, -0.5), (0.7, -0.5), (0.2, 0.0), (0.0, 0.7)), half_height=_size),
    _leaf("revolution", polygon=((0, -0.6), (0.7, -0.6), (0.4, 0.1), (0.0, 0.6))),
)


def _binary(kind: str, **arguments: object) -> Make:
    def make(source: random.Random, depth: int) -> Node:
        return Node(kind, (_node(source, depth - 1), _node(source, depth - 1)), dict(arguments))

    return make


def _drilled(source: random.Random, depth: int) -> Node:
    hole = Node("cylinder", arguments={"radius": 0.2, "half_height": 3.0}, placing={"orient": source.choice("xyz")})
    solid, kind = _node(source, depth - 1), source.choice(("difference", "smooth_difference", "intersection"))
    if kind == "intersection":
        return Node(kind, (solid, Node("complement", (hole,))))
    return Node(kind, (solid, hole), {"width": 0.1} if kind == "smooth_difference" else {})


def _rounded(source: random.Random, depth: int) -> Node:
    room = Node("sphere", arguments={"radius": 1.5})
    return Node("smooth_intersection", (_node(source, depth - 1), room), {"width": 0.1})


def _local(source: random.Random, depth: int) -> Node:
    where = Node("sphere", arguments={"radius": 0.8})
    arguments = {"width": 0.3, "where": where, "fade": 0.4}
    return Node("local_blend", (_node(source, depth - 1), _node(source, depth - 1)), arguments)


def _masked(source: random.Random, depth: int) -> Node:
    arguments = {"mask": Node("sphere", arguments={"radius": 0.8}), "seam": 0.3}
    return Node("masked_blend", (_node(source, depth - 1), _node(source, depth - 1)), arguments)


_COMBINATIONS = (
    _binary("union"),
    _binary("union"),
    _binary("smooth_union", width=0.3),
    _drilled,
    _rounded,
    _local,
    _masked,
)


def _unary(kind: str, **arguments: object) -> Make:
    def make(source: random.Random, depth: int) -> Node:
        drawn = {name: value(source) if callable(value) else value for name, value in arguments.items()}
        return Node(kind, (_node(source, depth - 1),), drawn)

    return make


def _bent(source: random.Random, depth: int) -> Node:
    """Bend a node that is cut to a size which the circle can take."""
    room = Node("box", arguments={"half_extents": (2.5, 1.0, 1.0)})
    return Node("bent", (Node("intersection", (_node(source, depth - 1), room)),), {"radius": 1.5})


_CHANGES = (
    _unary("offset", radius=lambda source: source.uniform(-0.05, 0.2)),
    _unary("shell", thickness=0.25),
    _unary("mirrored", axis="x"),
    _unary("twisted", degrees_per_unit=lambda source: source.uniform(-60, 60)),
    _unary("row", count=2, step=(0.9, 0.1, 0.0)),
    _unary("ring", count=3, axis="y"),
    _bent,
)
