"""The keys of every command that takes a scene. They import what scenes are made of, which other commands need not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.hydra_app.command import UsageError
from sdfnet.scenes import SceneFile, load_scene


@dataclass(frozen=True, kw_only=True)
class SceneKeys:
    """The keys of every command that takes a scene.

    Attributes
    ----------
    scene : path
        A scene file (sdfnet scene checks one); or null.
    set : list of texts
        Values of the scene's parameters, such as [width=40,hole=6]. Others keep the value that the file gives.
    """

    scene: Path | None = None
    set: tuple[str, ...] = ()

    def check_one_source(self, others: Sequence[str]) -> None:
        """Refuse a command line that names no source, or more than one; and `set` without a scene."""
        given = [name for name in (*others, "scene") if getattr(self, name) is not None]
        if len(given) != 1:
            hints = {"run": "run=DIR for learned shapes", "meshes": "meshes=DIR for mesh files"}
            wanted = ", ".join([*(hints[name] for name in others), "or scene=FILE.yaml for a scene"])
            raise UsageError(f"give one of {wanted}; got {' and '.join(given) or 'none'}")
        if self.set and self.scene is None:
            raise UsageError("set belongs to scene=FILE.yaml; nothing else has parameters")

    @property
    def scene_folder(self) -> Path:
        assert self.scene is not None
        return self.scene.parent

    def load_scene(self) -> tuple[SceneFile, dict[str, float]]:
        """Return the scene, and the values that `set` gives."""
        assert self.scene is not None
        scene = load_scene(self.scene)
        values = read_settings(self.set)
        scene.values(values)
        return scene, values


def read_settings(settings: Sequence[str]) -> dict[str, float]:
    """Return the values of `name=number` texts.

    >>> read_settings(["width=40", "hole = 6.5"])
    {'width': 40.0, 'hole': 6.5}
    """
    values: dict[str, float] = {}
    for text in settings:
        name, _, number = (part.strip() for part in text.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            raise UsageError(f"set takes NAME=NUMBER, as in 'set=[width=40,hole=6]', got {text!r}") from None
    return values
