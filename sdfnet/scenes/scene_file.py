"""Read and write scene files: YAML, with the line of every key for messages.

A node is a mapping with the name of its kind, and beside it the keys that place, colour or name it:

    difference:
      - {box: [20, 5, 20], color: steelblue}
      - {cylinder: {radius: hole, half_height: 6}, move: [10, 0, 0]}

Below the name stand the arguments. The nodes that it combines stand under `of`; where a kind has nothing but nodes,
they may stand there directly, and so may the value of the first argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from PIL import ImageColor

from sdfnet.files import write_atomic
from sdfnet.scenes.expressions import names_in
from sdfnet.scenes.kinds import KINDS, Argument, Kind
from sdfnet.scenes.node import PLACING, Node, Parameter, SceneFile, Value

_TOP = ("parameters", "shape")
_BESIDE = (*PLACING, "color", "name")
_OF = "of"
_MOST_NODES = 10_000


def load_scene(path: str | Path) -> SceneFile:
    """Read a scene file. The meshes and runs that it names are read when it is built.

    Raises
    ------
    ValueError
        No such file, no YAML, an unknown key or kind, a value of the wrong sort, an unknown parameter in an expression.
        The message names the file, the line and the key.

    >>> _ = Path("ball.yaml").write_text("parameters: {width: 4}\\nshape: {sphere: width / 2}\\n")
    >>> load_scene("ball.yaml").shape
    Node(kind='sphere', operands=(), arguments={'radius': 'width / 2'}, placing={}, color=None, name=None)
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read the scene {path}: {reason}") from error
    return parse_scene(text, folder=path.parent, file=str(path))


def parse_scene(text: str, *, folder: str | Path = ".", file: str = "the scene") -> SceneFile:
    """Return the scene that the YAML `text` describes. `file` is its name in messages. See `load_scene`.

    >>> parse_scene("shape: {union: [{box: [1, 1, 1]}, {sphere: 1.2}]}").shape.operands[1].arguments
    {'radius': 1.2}
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{file}{line}: no YAML: {getattr(error, 'problem', None) or error}") from error
    reader = _Reader(file)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{file}: expected the keys parameters and shape")
    top = reader.keys(root, _TOP, what="a scene")
    if "shape" not in top:
        raise ValueError(f"{file}: shape must be given, the node of the whole scene")
    parameters = reader.parameters(top["parameters"]) if "parameters" in top else ()
    reader.known = {parameter.name for parameter in parameters}
    return SceneFile(reader.node(top["shape"]), parameters, Path(folder), file)


def save_scene(scene: SceneFile, path: str | Path) -> None:
    """Write `scene` as a file that `load_scene` reads back as an equal scene. Comments of an earlier file are lost.

    >>> ball = SceneFile(Node("sphere", arguments={"radius": 1 / 3}))
    >>> save_scene(ball, "ball.yaml")
    >>> load_scene("ball.yaml") == ball
    True
    """
    write_atomic(Path(path), format_scene(scene).encode())


def format_scene(scene: SceneFile) -> str:
    """Return the YAML of a scene.

    >>> print(format_scene(SceneFile(Node("sphere", arguments={"radius": 2.0}, color="red"))), end="")
    shape: {sphere: 2.0, color: red}
    """
    document: dict[str, Any] = {}
    if scene.parameters:
        document["parameters"] = {each.name: _parameter_document(each) for each in scene.parameters}
    document["shape"] = _node_document(scene.shape)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def summarize_node(node: Node) -> str:
    """Return one node in a line, without those that it combines.

    >>> summarize_node(Node("sphere", arguments={"radius": "width / 2"}, color="red", name="knob"))
    'knob: sphere radius=width / 2 color=red'
    """
    parts = {**node.arguments, **node.placing} | ({} if node.color is None else {"color": node.color})
    told = [f"{key}={_inline(_document(value))}" for key, value in parts.items()]
    return " ".join([*([f"{node.name}:"] if node.name else []), node.kind, *told])


def _inline(document: Any) -> str:
    if isinstance(document, str):
        return document
    text = yaml.safe_dump(document, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return text if len(text) <= 60 else f"{text[:56]} …"


class _Dumper(yaml.SafeDumper):
    """A dumper without anchors, which would make one node of a file stand for two."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _parameter_document(parameter: Parameter) -> Any:
    if parameter.range is None and not parameter.about:
        return parameter.value
    document: dict[str, Any] = {"value": parameter.value}
    if parameter.range is not None:
        document["range"] = list(parameter.range)
    return document | ({"about": parameter.about} if parameter.about else {})


def _node_document(node: Node) -> dict[str, Any]:
    kind = KINDS[node.kind]
    body: Any = {name: _document(value) for name, value in node.arguments.items()}
    operands = [_node_document(below) for below in node.operands]
    first = next(iter(kind.arguments), None)
    if operands and body:
        body = {_OF: operands if len(operands) > 1 else operands[0], **body}
    elif operands:
        body = operands
    elif list(body) == [first]:
        body = body[first]
    document = {node.kind: body} | {key: _document(node.placing[key]) for key in PLACING if key in node.placing}
    if node.color is not None:
        document["color"] = _document(node.color)
    return document | ({"name": node.name} if node.name is not None else {})


def _document(value: Value) -> Any:
    if isinstance(value, Node):
        return _node_document(value)
    if isinstance(value, Mapping):
        return {key: _document(each) for key, each in value.items()}
    return [_document(each) for each in value] if isinstance(value, tuple) else value


class _Reader:
    """Turns the nodes of YAML into those of a scene. Every error names the line."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.known: set[str] = set()
        self._num_nodes = 0

    def error(self, node: yaml.Node, message: str) -> ValueError:
        return ValueError(f"{self.file}, line {node.start_mark.line + 1}: {message}")

    def keys(self, node: yaml.Node, allowed: Any, *, what: str) -> dict[str, yaml.Node]:
        """Return the values of a mapping by key; refuse keys that are not `allowed` or stand twice."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} must be a mapping of keys to values, got {_told(node)}")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _told(key)
            if allowed is not None and name not in allowed:
                close = get_close_matches(name, list(allowed), n=1)
                hint = f"; did you mean {close[0]}?" if close else "."
                raise self.error(key, f"{what} has no key {name}{hint} It takes {', '.join(allowed)}")
            if name in found:
                raise self.error(key, f"{name} stands twice")
            found[name] = value
        return found

    def parameters(self, node: yaml.Node) -> tuple[Parameter, ...]:
        found = []
        for name, value in self.keys(node, None, what="parameters").items():
            options: dict[str, Any] = {}
            if isinstance(value, yaml.MappingNode):
                parts = self.keys(value, ("value", "range", "about"), what=f"the parameter {name}")
                if "value" not in parts:
                    raise self.error(value, f"the parameter {name} needs a value")
                if "range" in parts:
                    options["range"] = self.value(parts["range"], f"the range of {name}")
                    if not isinstance(options["range"], tuple) or len(options["range"]) != 2:
                        raise self.error(parts["range"], f"the range of {name} must be two numbers")
                if "about" in parts:
                    options["about"] = str(parts["about"].value)
            else:
                parts = {"value": value}
            number = self.value(parts["value"], name)
            try:
                if not _is_number(number) or not all(map(_is_number, options.get("range") or ())):
                    raise ValueError(f"{name} must be a number, got {_told(parts['value'])}")
                found.append(Parameter(name, number, **options))
            except ValueError as error:
                raise self.error(value, str(error)) from error
        return tuple(found)

    def value(self, node: yaml.Node, key: str) -> Value:
        """Return a plain value: a number, a text, true or false, a tuple, or a dict for `rotate`."""
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(each, key) for each in node.value)
        if isinstance(node, yaml.MappingNode):
            return {name: self.value(each, key) for name, each in self.keys(node, None, what=key).items()}
        constructor = yaml.constructor.SafeConstructor()
        try:
            value = constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise self.error(node, f"{key}: {error}") from error
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise self.error(node, f"{key} must be a number or a text, got {_told(node)}")
        return value

    def numbers(self, node: yaml.Node, key: str, value: Value) -> Value:
        """Check that a value is a number, an expression on known parameters, or a tuple of such; return it."""
        if isinstance(value, tuple):
            below = node.value if isinstance(node, yaml.SequenceNode) else [node] * len(value)
            return tuple(self.numbers(each, key, part) for each, part in zip(below, value, strict=True))
        if isinstance(value, str):
            try:
                unknown = names_in(value) - self.known
            except ValueError as error:
                raise self.error(node, f"{key}: {error}") from error
            if unknown:
                there = f"the scene has {', '.join(sorted(self.known))}" if self.known else "the scene has none"
                raise self.error(node, f"{key}: unknown parameter {sorted(unknown)[0]!r} in {value!r}; {there}")
        elif not _is_number(value):
            raise self.error(node, f"{key} must be a number, got {_told(node)}")
        return value

    def node(self, node: yaml.Node) -> Node:
        """Return the node of a scene that a mapping describes."""
        self._num_nodes += 1
        if self._num_nodes > _MOST_NODES:
            raise self.error(node, f"a scene may have {_MOST_NODES} nodes, this one has more")
        parts = self.keys(node, (*KINDS, *_BESIDE), what="a node")
        kinds = [key for key in parts if key in KINDS]
        if len(kinds) != 1:
            told = "none" if not kinds else " and ".join(kinds)
            raise self.error(node, f"a node has one kind, such as sphere or union, this one has {told}")
        kind = KINDS[kinds[0]]
        lines = {"": node.start_mark.line + 1}
        operands, arguments = self._body(kind, parts[kind.name], lines)
        try:
            kind.check_operands(len(operands))
        except ValueError as error:
            raise self.error(parts[kind.name], f"{kind.name}: {error}") from error
        placing, others = {}, {}
        for key in _BESIDE:
            if key in parts:
                lines[key] = parts[key].start_mark.line + 1
                value = self.value(parts[key], key)
                if key in PLACING:
                    placing[key] = self._placing(parts[key], key, value)
                else:
                    others[key] = self._look(parts[key], key, value)
        return Node(kind.name, operands, arguments, placing, lines=lines, **others)

    def _body(self, kind: Kind, body: yaml.Node, lines: dict[str, int]) -> tuple[tuple[Node, ...], dict[str, Value]]:
        """Return the operands and the arguments below the name of a kind."""
        first = next(iter(kind.arguments), None)
        if isinstance(body, yaml.MappingNode):
            keys = [key.value for key, _ in body.value]
            if kind.operand_names and _OF not in keys and any(key in KINDS for key in keys):
                return (self.node(body),), {}
            allowed = [*([_OF] if kind.operand_names else []), *kind.arguments]
            parts = self.keys(body, allowed, what=kind.name)
        elif kind.operand_names and isinstance(body, yaml.SequenceNode):
            parts = {_OF: body}
        elif isinstance(body, yaml.ScalarNode) and body.tag == "tag:yaml.org,2002:null":
            parts = {}
        elif first is not None and not kind.operand_names:
            parts = {first: body}
        else:
            raise self.error(body, f"{kind.name} takes nodes, got {_told(body)}")
        below = parts.pop(_OF, None)
        nodes = [] if below is None else below.value if isinstance(below, yaml.SequenceNode) else [below]
        arguments = {}
        for name, value in parts.items():
            lines[name] = value.start_mark.line + 1
            arguments[name] = self._argument(kind, kind.arguments[name], value)
        missing = [each.name for each in kind.arguments.values() if each.is_required and each.name not in arguments]
        if missing:
            raise self.error(body, f"{kind.name} needs {' and '.join(missing)}")
        return tuple(self.node(each) for each in nodes), arguments

    def _argument(self, kind: Kind, argument: Argument, node: yaml.Node) -> Value:
        key = f"{kind.name}: {argument.name}"
        if argument.sort == "node":
            return self.node(node)
        value = self.value(node, key)
        if argument.sort in ("number", "whole", "numbers"):
            if argument.sort != "numbers" and isinstance(value, tuple):
                raise self.error(node, f"{key} must be one number, got a list")
            return self.numbers(node, key, value)
        if argument.sort == "flag" and not isinstance(value, bool):
            raise self.error(node, f"{key} must be true or false, got {_told(node)}")
        if argument.sort in ("text", "path"):
            value = node.value if isinstance(node, yaml.ScalarNode) else value
            if not isinstance(value, str) or (argument.choices and value not in argument.choices):
                wanted = f"one of {', '.join(argument.choices)}" if argument.choices else f"a {argument.sort}"
                raise self.error(node, f"{key} must be {wanted}, got {_told(node)}")
        return value

    def _placing(self, node: yaml.Node, key: str, value: Value) -> Value:
        if key == "orient" and value in ("x", "y", "z"):
            return value
        if key == "rotate" and isinstance(value, Mapping):
            if set(value) != {"axis", "degrees"}:
                raise self.error(node, f"rotate takes axis and degrees, got {', '.join(value)}")
            axis = value["axis"]
            axis = axis if axis in ("x", "y", "z") else self.numbers(node, "rotate: axis", axis)
            return {"axis": axis, "degrees": self.numbers(node, "rotate: degrees", value["degrees"])}
        if key == "rotate" and isinstance(value, tuple) and any(isinstance(each, Mapping) for each in value):
            return tuple(self._placing(each, key, turn) for each, turn in zip(node.value, value, strict=True))
        if key != "scale" and not isinstance(value, tuple):
            wanted = {"orient": "x, y, z or a direction", "rotate": "axis and degrees, or a matrix"}
            raise self.error(node, f"{key} must be {wanted.get(key, 'three numbers')}, got {_told(node)}")
        return self.numbers(node, key, value)

    def _look(self, node: yaml.Node, key: str, value: Value) -> Value:
        if key == "name":
            return str(value)
        if isinstance(value, str):
            try:
                ImageColor.getrgb(value)
            except ValueError:
                raise self.error(node, f"color: {value!r} is no color; give a name or #rrggbb") from None
            return value
        is_rgb = isinstance(value, tuple) and len(value) == 3 and all(_is_number(each) for each in value)
        if not (is_rgb and all(0 <= each <= 1 for each in value)):
            raise self.error(node, f"color must be a name, #rrggbb or three numbers from 0 to 1, got {_told(node)}")
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(node: yaml.Node) -> str:
    """Return a value of YAML in words."""
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
