"""What a viewer shows: a run, a scene or a folder of meshes, as shapes to choose and sliders to move.

The viewer and the offline page know only `Subject`. It gives a mesh for a `State` at a resolution, and the words of the
command line that make the same mesh.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.fields import Field, NeuralField
from sdfnet.fitting.fit_meshes import FIT_FOLDER
from sdfnet.geometry.arrays import FloatArray
from sdfnet.latents.analysis import make_space
from sdfnet.latents.statistics import fit_components
from sdfnet.latents.surface_metric import surface_metric
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.ply import read_ply_vertices
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.colormap import diverging_colors
from sdfnet.rendering.scene import split_creases
from sdfnet.runs import Run, RunShape, extract_shape
from sdfnet.runs.space import SPACE_FILE, ShapeSpace, latent_of, load_space, placed_codes, similarity_of
from sdfnet.scenes import Parameter, SceneFile, build_scene, extract_built

_REACH = 3.0
"""A slider of a component goes to so many standard deviations on both sides."""

_MOST_COMPONENTS = 8

_MOST_SPLIT = 200_000
"""Mesh files with more faces are shown as they are: fine meshes look right, and finding their creases takes seconds."""

_SPREAD_FOLDER = "spread"
"""Where `sdfnet fit` writes the spread of completed shapes."""


@dataclass(frozen=True)
class Control:
    """One slider: the key of its value, its range, and what it means.

    >>> pc1 = Control("pc1", -3.0, 3.0, about="standard deviations")
    >>> pc1.step, pc1.nearest(1.234), pc1.nearest(7.0)
    (0.01, 1.23, 3.0)
    """

    key: str
    low: float
    high: float
    about: str = ""
    group: str = "parameters"

    @property
    def step(self) -> float:
        """A power of ten, at most a hundredth of the range."""
        return float(10.0 ** math.floor(math.log10((self.high - self.low) / 100)))

    def nearest(self, value: float) -> float:
        """Return the place of the slider that is nearest to `value`."""
        decimals = max(0, -round(math.log10(self.step)))
        return min(max(round(value, decimals), self.low), self.high)


@dataclass(frozen=True)
class State:
    """What a user has chosen.

    Attributes
    ----------
    shape : str
        One of the subject's names.
    other : str
        A second shape to mix with; empty for none.
    share : float
        Of the second shape, from 0 to 1.
    values : dict
        The sliders that were moved; the others are where the shape has them.
    hypothesis : int
        Of a completed shape: another shape that agrees with the input, from 1; 0 is the completed shape itself.

    >>> State("chair_00", values={"pc1": 2.0}).share
    0.0
    """

    shape: str
    other: str = ""
    share: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)
    hypothesis: int = 0


@dataclass(frozen=True, eq=False)
class Shown:
    """A mesh to show, with colours (V, 3) sRGB in [0, 1] or None, and the field that it is of, in the same frame.

    >>> Shown(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])).field is None
    True
    """

    mesh: Mesh
    colors: FloatArray | None = None
    field: Field | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """Something to view.

    Attributes
    ----------
    title : str
    names : tuple of str
        The shapes to choose from.
    controls : tuple of Control
    can_mix : bool
        Whether a state may have a second shape.
    values_of : callable
        Takes a state without moved sliders; returns where the sliders stand for it.
    show : callable
        Takes a state and a resolution; returns what to show, in the frame of all shapes together.
    export : callable
        Takes the same; returns the mesh in the units of its source.
    command : callable
        Takes a state; returns the command line that writes its mesh.
    source : callable
        Takes a state; returns the mesh that the shape was learned from, in the frame of `show`, or None.
    hypotheses : callable
        Takes the name of a shape; returns the probability of each of its hypotheses, which `sdfnet fit` writes.
    spread : callable or None
        Takes a state and points (V, 3) on its surface; returns the standard deviation of the surface there, (V,), in
        the units of the source, or None. The field is None if no shape was completed.

    >>> from sdfnet.scenes import parse_scene
    >>> ball = open_subject(parse_scene("parameters: {radius: 2}\\nshape: {sphere: radius}"))
    >>> ball.show(State(ball.names[0], values={"radius": 3.0}), 16).mesh.bounds.upper.round(1).tolist()
    [3.0, 3.0, 3.0]
    """

    title: str
    names: tuple[str, ...]
    controls: tuple[Control, ...]
    can_mix: bool
    values_of: Callable[[State], dict[str, float]]
    show: Callable[[State, int], Shown]
    export: Callable[[State, int], Shown]
    command: Callable[[State], str]
    source: Callable[[State], Mesh | None]
    hypotheses: Callable[[str], tuple[float, ...]] = lambda name: ()
    spread: Callable[[State, FloatArray], FloatArray | None] | None = None


def open_subject(thing: Run | SceneFile | str | Path, *, values: Mapping[str, float] | None = None) -> Subject:
    """Return a run, a scene, or a folder of mesh files as something to view.

    The sliders of a scene start at `values`; parameters without one start where the scene has them.

    Raises
    ------
    ValueError
        No meshes in the folder, `values` of anything but a scene, an unknown parameter or a value outside its range.

    >>> open_subject("chairs").names
    ('chair_00', 'chair_01', 'chair_02', 'chair_03')
    """
    if isinstance(thing, SceneFile):
        return _scene_subject(thing, values or {})
    if values:
        raise ValueError(f"values belong to a scene; nothing else has parameters, got {', '.join(values)}")
    return _run_subject(thing) if isinstance(thing, Run) else _mesh_subject(Path(thing))


def _mesh_subject(folder: Path) -> Subject:
    paths = find_meshes(folder)

    def export(state: State, resolution: int) -> Shown:
        return Shown(read_mesh(paths[state.shape]))

    return Subject(
        title=folder.name,
        names=tuple(paths),
        controls=(),
        can_mix=False,
        values_of=lambda state: {},
        show=lambda state, resolution: Shown(with_sharp_edges(export(state, resolution).mesh)),
        export=export,
        command=lambda state: (
            f"sdfnet render meshes={shlex.quote(str(folder))} shapes={shlex.quote(state.shape)} out=."
        ),
        source=lambda state: None,
    )


def with_sharp_edges(mesh: Mesh) -> Mesh:
    """Return the `mesh` of a file so that a browser, which averages the normals of faces, shows its edges sharp.

    >>> square = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 1, 2], [1, 3, 2]])
    >>> len(with_sharp_edges(square).vertices)
    4
    """
    return mesh if len(mesh.faces) > _MOST_SPLIT else split_creases(mesh)


def _scene_subject(scene: SceneFile, given: Mapping[str, float]) -> Subject:
    """Return a scene: one shape, with a slider for each parameter, which starts at the `given` value."""
    start = scene.values(given)

    def shown(state: State, resolution: int) -> Shown:
        built = build_scene(scene, {**given, **state.values})
        found = extract_built(built, resolution=resolution, sharp=resolution > _COARSE_LIMIT, vertex_normals=False)
        return Shown(found.mesh, found.vertex_colors, built.field)

    def command(state: State) -> str:
        settings = ",".join(f"{name}={value:.6g}" for name, value in {**given, **state.values}.items())
        words = ["sdfnet", "extract", f"scene={scene.file}", *([f"set=[{settings}]"] if settings else [])]
        return shlex.join([*words, "sharp=true"])

    return Subject(
        title=scene.name,
        names=(scene.name,),
        controls=tuple(_parameter_control(each, start[each.name]) for each in scene.parameters),
        can_mix=False,
        values_of=lambda state: dict(start),
        show=shown,
        export=lambda state, resolution: shown(state, max(resolution, _COARSE_LIMIT + 1)),
        command=command,
        source=lambda state: None,
    )


_COARSE_LIMIT = 64
"""Above this resolution, a scene is shown with sharp edges; below, it must be quick."""


def _parameter_control(parameter: Parameter, start: float) -> Control:
    """Return the slider of a parameter. Without a range, it is from half to double the value, or as far as `start`."""
    value = parameter.value
    low, high = parameter.range or (sorted((value / 2, value * 2)) if value else (-1.0, 1.0))
    return Control(parameter.name, float(min(low, start)), float(max(high, start)), parameter.about)


@dataclass(frozen=True, eq=False)
class _RunSubject:
    """The shapes of a run and their space."""

    run: Run
    space: ShapeSpace | None

    def start(self, state: State) -> FloatArray:
        """Return the placed code of the chosen shape, or of the mix of two."""
        codes = placed_codes(self.run, [state.shape, *([state.other] if state.other else [])])
        return codes[0] if len(codes) == 1 else (1 - state.share) * codes[0] + state.share * codes[1]

    def values_of(self, state: State) -> dict[str, float]:
        if self.space is None:
            return {}
        scores = self.space.scores(self.start(state))
        values = {f"pc{number}": float(score) for number, score in enumerate(scores[:_MOST_COMPONENTS], start=1)}
        for column in self.space.columns:
            if not column.classes:
                values[column.name] = self._attribute(column.name, state)
        return values

    def _attribute(self, name: str, state: State) -> float:
        assert self.space is not None
        row = sum(each.num_rows for each in self.space.columns[: [c.name for c in self.space.columns].index(name)])
        table, middle = self.space.attribute_values, float(self.space.attribute_means[row])
        values = [table[each][row] if each in table else middle for each in (state.shape, state.other or state.shape)]
        return float((1 - state.share) * values[0] + state.share * values[1])

    def placed(self, state: State) -> FloatArray:
        start = self.start(state)
        if self.space is None or not state.values:
            return start
        scores = {int(key[2:]): value for key, value in state.values.items() if key[:2] == "pc" and key[2:].isdigit()}
        attributes = {key: value for key, value in state.values.items() if key in {c.name for c in self.space.columns}}
        name = "" if state.other else state.shape
        return self.space.moved(scores=scores, attributes=attributes, start=start, name=name)

    def extract(self, state: State, resolution: int, *, frame: str) -> Shown:
        if state.hypothesis:
            mesh = read_mesh(self.run.directory / self.fitted(state.shape)[state.hypothesis - 1]["file"])
            return Shown(mesh if frame == "world" else mesh.to_unit(self.run.similarity(state.shape)))
        placed = self.placed(state)
        shape = self.run.shape(state.shape)
        if state.other or state.values:
            shape = RunShape("", similarity_of(placed), source="", content_hash="", closed=True)
        latent = latent_of(placed, self.run)
        found = extract_shape(
            self.run,
            shape,
            latent=latent,
            resolution=resolution,
            vertex_normals=frame == "world",
            frame="world" if frame == "world" else "unit",
        )
        return Shown(found.mesh, None, NeuralField(self.run.decoder, latent))

    def command(self, state: State) -> str:
        if state.hypothesis:
            return (
                f"cp {shlex.quote(str(self.run.directory / self.fitted(state.shape)[state.hypothesis - 1]['file']))} ."
            )
        text = state.shape
        if state.other:
            text = f"{1 - state.share:.2f}*{state.shape} + {state.share:.2f}*{state.other}"
        if state.values:
            moved = "; ".join(f"{key}={value:.3g}" for key, value in state.values.items())
            text = f"near={text}; {moved}"
        quoted = f'shapes=["{text}"]' if state.other or state.values else f"shapes={text}"
        line = shlex.join(["sdfnet", "extract", f"run={self.run.directory}", quoted])
        needs_space = state.values and not (self.run.directory / SPACE_FILE).is_file()
        return shlex.join(["sdfnet", "space", f"run={self.run.directory}"]) + " && " + line if needs_space else line

    def fitted(self, name: str) -> list[dict[str, Any]]:
        """Return what `sdfnet fit` says of the hypotheses of a shape; nothing if the shape was not completed."""
        path = self.run.directory / FIT_FOLDER.file
        if not path.is_file():
            return []
        record = json.loads(path.read_text(encoding="utf-8"))[FIT_FOLDER.records].get(name, {})
        return [each for each in record.get("hypotheses", []) if (self.run.directory / each["file"]).is_file()]

    def spread(self, state: State, points: FloatArray) -> FloatArray | None:
        """Return the spread at the nearest vertex of the completed mesh. Other shapes have none."""
        path = self.run.directory / _SPREAD_FOLDER / f"{state.shape}.ply"
        if state.other or state.values or state.hypothesis or not path.is_file():
            return None
        columns = read_ply_vertices(path.read_bytes())
        places = np.stack([columns[axis] for axis in "xyz"], axis=1)
        from scipy.spatial import cKDTree  # Here, for a quick start (see mesh.edges).

        nearest = cKDTree(self.run.similarity(state.shape).to_unit(places)).query(points)[1]
        return np.asarray(columns["spread"], dtype=np.float64)[nearest]

    def source(self, state: State) -> Mesh | None:
        path = Path(self.run.shape(state.shape).source)
        if not path.is_file():
            return None
        return read_mesh(path).to_unit(self.run.similarity(state.shape))


def _run_subject(run: Run) -> Subject:
    """Return a run: its shapes, with sliders for the components of its space and for attributes that are numbers."""
    space = _space_of(run)
    subject = _RunSubject(run, space)
    controls: list[Control] = []
    if space is not None:
        for number in range(1, min(len(space.axes), _MOST_COMPONENTS) + 1):
            controls.append(Control(f"pc{number}", -_REACH, _REACH, "standard deviations", "principal components"))
        for row, column in _number_columns(space):
            values = [each[row] for each in space.attribute_values.values()] or [0.0, 1.0]
            controls.append(Control(column, min(values), max(values), "", "attributes"))
    return Subject(
        title=run.directory.name,
        names=run.names,
        controls=tuple(each for each in controls if each.low < each.high),
        can_mix=len(run.names) > 1,
        values_of=subject.values_of,
        show=lambda state, resolution: subject.extract(state, resolution, frame="unit"),
        export=lambda state, resolution: subject.extract(state, resolution, frame="world"),
        command=subject.command,
        source=subject.source,
        hypotheses=lambda name: tuple(each["probability"] for each in subject.fitted(name)),
        spread=subject.spread if (run.directory / _SPREAD_FOLDER).is_dir() else None,
    )


def _number_columns(space: ShapeSpace) -> list[tuple[int, str]]:
    """Return the first row and the name of each attribute that is a number."""
    found, row = [], 0
    for column in space.columns:
        if not column.classes:
            found.append((row, column.name))
        row += column.num_rows
    return found


def _space_of(run: Run) -> ShapeSpace | None:
    """Return the space that `sdfnet space` has written, or principal components alone; None of a single shape."""
    if len(run.names) < 2:
        return None
    if (run.directory / SPACE_FILE).is_file():
        return load_space(run)
    codes = placed_codes(run)
    own = codes[:, : run.latents.shape[1]]
    return make_space(run.names, codes, fit_components(own, metric=surface_metric(run, own)))


def error_colors(mesh: Mesh, source: Mesh) -> tuple[FloatArray, float]:
    """Return the colour of each vertex (V, 3) by its distance from `source`, warm outside, and the end of the scale.

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> error_colors(triangle, triangle)[1] > 0
    True
    """
    distances = MeshDistance(source)(mesh.vertices).sdf
    limit = max(float(np.quantile(np.abs(distances), 0.98)), 1e-6)
    return diverging_colors(distances, limit=limit), limit


def spread_colors(spread: FloatArray) -> tuple[FloatArray, float]:
    """Return the colour of each vertex (V, 3) by its spread (V,), pale to warm, and the end of the scale.

    >>> colors, limit = spread_colors(np.array([0.0, 0.5, 1.0]))
    >>> colors.shape, round(limit, 2)
    ((3, 3), 0.98)
    """
    limit = max(float(np.quantile(spread, 0.98)), 1e-12)
    return diverging_colors(spread, limit=limit), limit
