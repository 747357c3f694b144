"""Pictures of a space: strips along components and attributes, thumbnails, and why a shape is unusual."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from tqdm import tqdm

from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.latents.attributes import Attributes
from sdfnet.latents.config import SpaceConfig
from sdfnet.latents.families import ComparedGroups
from sdfnet.latents.new_shapes import NewShapes, whole_mesh
from sdfnet.latents.statistics import fit_components
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, vertex_normals
from sdfnet.rendering.camera import Camera, fit_camera
from sdfnet.rendering.colormap import diverging_colors
from sdfnet.rendering.images import contact_sheet, save_image
from sdfnet.rendering.renderer import Image, Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.rendering.style import Style
from sdfnet.runs.extract import extract_shape
from sdfnet.runs.run import Run
from sdfnet.runs.space import ShapeSpace, latent_of, placed_code, placed_codes, similarity_of

_SIZE = (260, 260)

_NEW_PICTURES = 24

_SIGNIFICANT = 0.05
"""Corrected p-value below which a difference of groups is coloured."""

STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Standard deviations in a strip."""

_TYPICAL_SHARE = 0.9
"""The share of the variance in the components that stand for what the other shapes lead one to expect."""


class Pictures:
    """Draws the pictures of a space and keeps them for the report; a context manager.

    Attributes
    ----------
    images : dict of str to (H, W, 3) uint8
        `pc1`, `pc2`, …: strips; `shape/NAME`: thumbnails; `outlier/NAME`: a shape beside the expected one.
    notes : list of str
        Shapes that could not be drawn, and why.
    """

    def __init__(
        self,
        run: Run,
        space: ShapeSpace,
        metric: FloatArray,
        out: Path,
        config: SpaceConfig,
        *,
        progress: bool = False,
    ) -> None:
        self._run, self._space, self._metric, self._out, self._config = run, space, metric, out, config
        self._progress = progress
        self._renderer = Renderer(size=_SIZE, style=Style(), backend=config.backend)
        self.images: dict[str, Image] = {}
        self.notes: list[str] = []

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renderer.close()

    def draw_component(self, number: int) -> None:
        """Draw the strip of component `number`, counted from 1, about the mean or the shape that stands for it."""
        start, label = self._middle
        own = float(self._space.scores(start)[number - 1])
        codes = [self._space.moved(scores={number: own + step}, start=start) for step in STEPS]
        self.draw_strip(f"pc{number}", codes, [f"{step:+g} sd" if step else label for step in STEPS], middle=True)

    def draw_attributes(self, table: Attributes) -> None:
        """Draw a strip along each attribute of a table: from low to high within the table, or the classes."""
        for column in table.columns:
            if column.classes:
                values: list[float | str] = list(column.classes)
            else:
                row = table.rows[:, table.labels.index(column.name)]
                steps = row.mean() + np.array(STEPS) * row.std(ddof=1)
                values = [float(f"{value:.3g}") for value in np.clip(steps, row.min(), row.max())]
            codes = [self._space.moved(attributes={column.name: value}) for value in values]
            labels = [f"{column.name} {value}" for value in values]
            self.draw_strip(f"attribute/{column.name}", codes, labels, middle=not column.classes)

    def draw_groups(self, pair: ComparedGroups) -> None:
        """Draw where two groups differ, from two sides: warm where the second is farther out; grey: not significant."""
        found, mesh = pair.difference, pair.mesh
        outward = np.einsum("vi,vi->v", found.differences, vertex_normals(mesh.vertices, mesh.faces))
        shown = np.where(found.vertex_p_values < _SIGNIFICANT, outward, 0.0)
        limit = max(float(np.abs(shown).max()), float(np.quantile(np.abs(outward), 0.99)), 1e-9)
        painted = PaintedMesh(mesh, vertex_colors=diverging_colors(shown, limit=limit))
        camera = self._camera([mesh])
        images = [self._renderer.render(painted, camera=camera.turned(camera.azimuth + turn)) for turn in (0, 180)]
        labels = [f"up to {100 * limit:.2g} % of the radius", f"p = {found.p_value:.3g}"]
        self._keep(f"groups/{pair.second}", contact_sheet(images, columns=2, labels=labels))

    def draw_new(self, new: NewShapes) -> None:
        """Draw a contact sheet of the first new shapes."""
        names = list(new.meshes)[:_NEW_PICTURES]
        images = [self._renderer.render(new.meshes[name], camera=self._camera([new.meshes[name]])) for name in names]
        self._keep("new", contact_sheet(images, columns=min(6, len(images)), labels=names))

    def draw_strip(self, key: str, codes: Sequence[FloatArray], labels: Sequence[str], *, middle: bool = False) -> None:
        """Draw shapes of placed codes (L + 7,) side by side at one scale, each about its own centre.

        With `middle`, colours show how far each surface is outside (warm) or inside (cold) that in the middle, unit
        frame; its label says up to how far.
        """
        meshes = [self._mesh(f"{key} {label}", code) for code, label in zip(codes, labels, strict=True)]
        drawn = [mesh for mesh in meshes if mesh is not None]
        if not drawn:
            return
        camera, told = self._camera(drawn), list(labels)
        painted: Sequence[Mesh | PaintedMesh | None] = meshes
        if middle and meshes[len(meshes) // 2] is not None:
            painted, limit = _painted(meshes, [similarity_of(code) for code in codes])
            told[len(told) // 2] += f"; colours: up to {100 * limit / UNIT_RADIUS:.2g} %"
        blank = np.full((*_SIZE[::-1], 3), round(255 * Style().background[0]), dtype=np.uint8)
        images = [blank if each is None else self._renderer.render(each, camera=camera) for each in painted]
        self._keep(key, contact_sheet(images, columns=len(images), labels=told))

    def draw_shapes(self, names: Sequence[str], rows: Sequence[int]) -> None:
        """Draw thumbnails of some of the shapes `names`, each as large as fits."""
        bar = tqdm(rows, desc="pictures", unit="shape", delay=2, leave=False, disable=not self._progress)
        for row in bar:
            mesh = self._learned(names[row])
            if mesh is not None:
                self.images[f"shape/{names[row]}"] = self._renderer.render(mesh, camera=self._camera([mesh]))

    def draw_outlier(self, names: Sequence[str], codes: FloatArray, name: str) -> None:
        """Draw a shape, coloured where it differs from what the other shapes lead one to expect, and the expected one.

        Expected is the nearest shape in the components of the others, with scores of at most 2 standard deviations.
        """
        row = list(names).index(name)
        others = fit_components(np.delete(codes, row, axis=0), metric=self._metric)
        shares = np.cumsum(others.variances) / others.variances.sum()
        num = int(np.searchsorted(shares, _TYPICAL_SHARE)) + 1
        placement = self._run.similarity(name)
        expected = others.codes(np.clip(others.scores(codes[row])[:num], -2, 2))
        placed = placed_code(expected, placement)
        found, usual = self._learned(name), self._mesh(f"{name} as expected", placed)
        if found is None or usual is None:
            return
        away = MeshDistance(usual)(found.vertices).sdf
        limit = max(float(np.quantile(np.abs(away), 0.99)), 1e-9)
        painted = PaintedMesh(found, vertex_colors=diverging_colors(away, limit=limit))
        camera = self._camera([found, usual])
        images = [self._renderer.render(each, camera=camera) for each in (painted, usual)]
        percent = 100 * limit * placement.scale
        sheet = contact_sheet(
            images, columns=2, labels=[f"{name}: up to {percent:.2g} % of the radius off", "expected"]
        )
        self._keep(f"outlier/{name}", sheet)

    @functools.cached_property
    def _middle(self) -> tuple[FloatArray, str]:
        """The placed code about which components are drawn, and its label: the mean if it is a whole shape, or else the
        learned shape with the nearest surface."""
        mean, names = self._space.mean, self._space.names
        shape = replace(self._run.shape(names[0]), name="mean", similarity=similarity_of(mean), source="")
        mesh, _ = whole_mesh(self._run, shape, mean, resolution=self._config.resolution)
        if mesh is not None:
            return mean, "mean"
        placed = placed_codes(self._run, names)
        away = np.linalg.norm((placed - mean)[:, : self._metric.shape[1]] @ self._metric.T, axis=1)
        return placed[away.argmin()], names[away.argmin()]

    def _camera(self, meshes: Sequence[Mesh]) -> Camera:
        config = self._config
        return fit_camera(
            meshes, size=_SIZE, azimuth=config.azimuth, elevation=config.elevation, up_axis=config.up_axis
        )

    def _learned(self, name: str) -> Mesh | None:
        try:
            found = extract_shape(self._run, name, resolution=self._config.resolution)
        except ValueError as error:
            self.notes.append(f"{name}: {error}")
            return None
        return _about_center(found.mesh, self._run.similarity(name).center)

    def _mesh(self, what: str, code: FloatArray) -> Mesh | None:
        similarity = similarity_of(code)
        shape = replace(self._run.shape(self._space.names[0]), name=what, similarity=similarity, source="")
        try:
            found = extract_shape(
                self._run, shape, latent=latent_of(code, self._run), resolution=self._config.resolution
            )
        except ValueError as error:
            self.notes.append(f"{what}: {error}")
            return None
        return _about_center(found.mesh, similarity.center)

    def _keep(self, key: str, image: Image) -> None:
        self.images[key] = image
        save_image(image, self._out / f"{re.sub(r'[^-+.=@/0-9A-Za-z_]', '_', key)}.png")


def _painted(
    meshes: Sequence[Mesh | None], similarities: Sequence[Similarity]
) -> tuple[list[PaintedMesh | None], float]:
    """Return meshes, each about its own centre, coloured by the distance from the one in the middle, unit frame.

    The second result is the distance of the strongest colour.
    """
    in_unit = [
        None if mesh is None else Mesh(similarity.to_unit(mesh.vertices + similarity.center), mesh.faces)
        for mesh, similarity in zip(meshes, similarities, strict=True)
    ]
    middle = in_unit[len(in_unit) // 2]
    assert middle is not None
    distance = MeshDistance(middle)
    away = [None if mesh is None else distance(mesh.vertices).sdf for mesh in in_unit]
    sizes = np.abs(np.concatenate([each for each in away if each is not None]))
    limit = max(float(np.quantile(sizes, 0.99)), 1e-9)
    painted = [
        None if mesh is None or each is None else PaintedMesh(mesh, vertex_colors=diverging_colors(each, limit=limit))
        for mesh, each in zip(meshes, away, strict=True)
    ]
    return painted, limit


def _about_center(mesh: Mesh, center: FloatArray) -> Mesh:
    return Mesh(mesh.vertices - center, mesh.faces, mesh.vertex_normals)
