"""Real tools for files that browsers open: the Khronos validator, three.js and the system's Chromium, all offline.

The npm packages are fetched once, beforehand, by `npm ci --prefix tests/browser`; Chromium and Node come from the
system (Debian: `apt-get install chromium nodejs npm`). Tests that need what is not there are skipped and say so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Box
from sdfnet.mesh.mesh import Mesh, vertex_normals
from sdfnet.rendering.camera import Camera, camera_axes, pixel_directions
from sdfnet.rendering.embree_backend import RayTracer, draw_by_rays
from sdfnet.rendering.images import load_image
from sdfnet.rendering.scene import PaintedMesh, make_scene
from sdfnet.rendering.style import GAMMA

FOLDER = Path(__file__).parent / "browser"
SECONDS = 300


def need_node() -> str:
    """Return the path of Node, or skip the test where it or the npm packages are missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here: install nodejs and npm, then run npm ci --prefix tests/browser")
    if not (FOLDER / "node_modules" / "three").is_dir():
        pytest.skip("the npm packages are not installed: run npm ci --prefix tests/browser")
    return node


def need_chromium() -> str:
    """Return the path of Chromium, or skip the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium here: install the package chromium")


def validate(path: Path) -> dict[str, Any]:
    """Return the Khronos validator's report on a GLB."""
    command = [need_node(), str(FOLDER / "validate.mjs"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shoot(path: Path, *, size: tuple[int, int], out: Path, **job: Any) -> dict[str, Any]:
    """Open `path` in Chromium, offline, and return what `browser/shoot.mjs` saw; pictures go to `out`."""
    told = {"file": str(path), "size": size, "out": str(out), "chromium": need_chromium(), **job}
    command = [need_node(), str(FOLDER / "shoot.mjs")]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shoot_three(
    path: Path,
    camera: Camera,
    *,
    size: tuple[int, int],
    out: Path,
    shares: Sequence[float],
    looks: Sequence[str] = ("flat",),
) -> dict[str, Any]:
    """Play a GLB in three.js; `out` gets flat_0.png and so on for each look (see three.html) and share of its time."""
    turn = camera_axes(0, 0, camera.up_axis)  # the file's root turns the world like this
    view = {
        "position": (turn @ camera.position).tolist(),
        "target": (turn @ camera.target).tolist(),
        "up": [0, 1, 0],
        "distance": camera.distance,
        "field_of_view": camera.field_of_view,
    }
    return shoot(path, size=size, out=out, kind="glb", camera=view, shares=list(shares), looks=list(looks))


def chair(lean: float, *, num_spindles: int = 5) -> Mesh:
    """Return a chair of thin rods, two pixels wide in a small picture, whose back leans over by `lean`."""
    feet = [(x, -0.45, z) for x in (-0.3, 0.3) for z in (-0.3, 0.25)]
    rods = [((0, 0, 0), (0.35, 0.02, 0.33))] + [(foot, (0.015, 0.45, 0.015)) for foot in feet]
    rods += [((x, 0.45, -0.3), (0.008, 0.45, 0.008)) for x in np.linspace(-0.3, 0.3, num_spindles)]
    rods += [((0, 0.9, -0.3), (0.34, 0.05, 0.02)), ((0.1, -0.6, -0.02), (0.2, 0.01, 0.01))]
    box = extract_mesh(Box([1, 1, 1]), resolution=6)
    vertices = np.concatenate([box.vertices * half + center for center, half in rods])
    vertices[:, 2] -= lean * np.maximum(vertices[:, 1], 0) ** 2
    faces = [box.faces + number * len(box.vertices) for number in range(len(rods))]
    return Mesh(vertices, np.concatenate(faces))


@dataclass(frozen=True, eq=False)
class Seen:
    """What sdfnet's camera sees of a mesh, by rays.

    Attributes
    ----------
    coverage : (H, W)
        Share of each pixel that is covered, from 64 rays along outlines.
    normals, colors : (H, W, 3)
        In the middles of pixels: unit, to the right, up and back; sRGB. NaN where nothing is and along edges.
    """

    coverage: NDArray[np.float64]
    normals: NDArray[np.float64]
    colors: NDArray[np.float64]


def see(mesh: Mesh, camera: Camera, size: tuple[int, int], *, colors: NDArray[np.float64] | None = None) -> Seen:
    """Look at `mesh`, whose vertices may have `colors`, (V, 3) sRGB."""
    width, height = size
    if mesh.vertex_normals is None:  # those that a moving mesh is given
        mesh = Mesh(mesh.vertices, mesh.faces, vertex_normals(mesh.vertices, mesh.faces))
    scene = make_scene([PaintedMesh(mesh, vertex_colors=colors)], camera, color=(0, 0, 0))
    tracer = RayTracer(scene)
    fine = draw_by_rays(tracer, camera, (4 * width, 4 * height), roughness=1.0)
    coverage = fine.coverage.reshape(height, 4, width, 4).mean(axis=(1, 3), dtype=float)
    rows, columns = np.mgrid[:height, :width]
    directions = pixel_directions(camera, size, rows, columns).reshape(-1, 3)
    hits = tracer.first_hits(camera, directions)
    corners = scene.faces[hits.faces]
    normals, albedo = np.full((2, height * width, 3), np.nan)
    blended = np.einsum("kij,ki->kj", scene.normals[corners], hits.weights) @ camera.axes.T
    normals[hits.rays] = blended / np.linalg.norm(blended, axis=1, keepdims=True)
    albedo[hits.rays] = np.einsum("kij,ki->kj", scene.albedo[corners], hits.weights) ** (1 / GAMMA)
    normals, albedo = normals.reshape(height, width, 3), albedo.reshape(height, width, 3)
    steps = np.stack([np.abs(normals - np.roll(normals, way, axis)).max(axis=2) for way in (1, -1) for axis in (0, 1)])
    edge = ~(steps.max(axis=0) < 0.2)
    normals[edge] = albedo[edge] = np.nan
    return Seen(coverage, normals, albedo)


def covered(path: Path) -> NDArray[np.float64]:
    """Return the share of each pixel of a picture in black on white that is black, (H, W)."""
    return 1 - load_image(path).mean(axis=2) / 255


def check_outlines(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Assert that two coverages (H, W) of one shape differ by what four samples a pixel differ from many, and no more.

    Overlap says nothing of thin shapes, which are all outline. This holds for them as well: pixels differ only where
    an outline runs through them or beside them; there by a few percent of a pixel in the mean; neither is shifted
    against the other, and neither has more area.
    """
    assert ours.shape == theirs.shape
    assert 0.01 < ours.mean() < 0.7
    padded = np.pad(ours, 1, mode="edge")
    around = sliding_window_view(padded, (3, 3))
    outline = around.max(axis=(2, 3)) > around.min(axis=(2, 3))
    difference = theirs - ours
    assert np.abs(difference[~outline]).max() < 0.02
    assert np.abs(difference).max() < 0.5
    assert np.abs(difference[outline]).mean() < 0.05
    assert np.abs(_shift(ours, difference)).max() < 0.03
    assert abs(difference.sum()) < 0.005 * ours.sum()


def _shift(ours: NDArray[np.float64], difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how many pixels, down and to the right, `ours` is moved to explain a difference best."""
    slopes = np.stack([slope.ravel() for slope in np.gradient(ours)], axis=1)
    return -np.linalg.lstsq(slopes, difference.ravel(), rcond=None)[0]


def check_normals(seen: Seen, path: Path) -> None:
    """Assert that a picture of normals by three.js shows those of `seen`: 99 in 100 pixels within 3 degrees."""
    theirs = load_image(path)[..., :3] / 255 * 2 - 1
    inside = ~np.isnan(seen.normals[..., 0])
    assert inside.mean() > 0.01
    cosines = np.einsum("ij,ij->i", seen.normals[inside], theirs[inside])
    cosines /= np.linalg.norm(theirs[inside], axis=1)
    assert np.quantile(np.degrees(np.arccos(np.clip(cosines, -1, 1))), 0.99) < 3
