"""`sdfnet scene`: check a scene file and print its tree and its parameters.

Examples:

    sdfnet scene scene=bracket.yaml
    sdfnet scene scene=bracket.yaml 'set=[width=40,hole=6]'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sdfnet.cli.commands.scene_keys import SceneKeys
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import counted, say
from sdfnet.scenes import BuiltNode, build_scene
from sdfnet.scenes.scene_file import summarize_node


@dataclass(frozen=True, kw_only=True)
class SceneCommand(SceneKeys):
    """The keys of `sdfnet scene`.

    Attributes
    ----------
    scene : path
        A scene file: see the guide on scenes.
    set : list of texts
        Values of parameters, such as [width=40,hole=6]. Others keep the value that the file gives.
    """

    scene: Path = field()


def run_scene(command: SceneCommand) -> None:
    """Print the parameters, the tree and the box of a scene; all its meshes and runs are read."""
    scene, values = command.load_scene()
    built = build_scene(scene, values)
    if scene.parameters:
        say("parameters:")
    width = max((len(parameter.name) for parameter in scene.parameters), default=0)
    for parameter in scene.parameters:
        value = scene.values(values)[parameter.name]
        reach = "" if parameter.range is None else f"  from {parameter.range[0]:g} to {parameter.range[1]:g}"
        about = f"  {parameter.about}" if parameter.about else ""
        say(f"  {parameter.name:<{width}}  {value:g}{reach}{about}")
    say("tree:")
    for line in tree_lines(built):
        say(line)
    bounds = built.field.bounds
    if bounds.is_finite:
        lower, upper = (", ".join(f"{number:.6g}" for number in corner) for corner in (bounds.lower, bounds.upper))
        say(f"box: ({lower}) to ({upper})")
    else:
        say("box: infinite, so it cannot be extracted; intersect it with a box")
    number = sum(1 for _ in scene.shape.walk())
    say(f"{counted(number, 'node')}, distances are {built.field.accuracy}")


def tree_lines(built: BuiltNode, depth: int = 1) -> Iterator[str]:
    """Yield a line for each node: what it is, and how far its distances can be trusted."""
    told = summarize_node(built.node)
    yield f"{'  ' * depth}{told}  [{built.field.accuracy}]"
    for below in built.operands:
        yield from tree_lines(below, depth + 1)


COMMAND = Command("scene", SceneCommand, run_scene, output_key=None)
