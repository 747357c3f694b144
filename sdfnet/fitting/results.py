"""Write what a completed part gives: spread at the vertices, hypotheses, a picture, and the facts for `fit.json`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.fitting.calibrate import Calibration
from sdfnet.fitting.complete import Fit, refined_shape
from sdfnet.fitting.spread import VertexSpread, draw_hypotheses, vertex_spread
from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.ply import format_ply
from sdfnet.mesh.io.write import save_mesh, write_file
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.colormap import color_bar, diverging_colors
from sdfnet.rendering.images import save_image
from sdfnet.rendering.renderer import Drawable, GLUnavailableError, Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.runs import extract_shape

_UNLIKELY_LENGTH, _POOR_MISFIT, _MANY_OUTLIERS = 1.5, 0.02, 0.35
"""Beyond these, the input does not look like the family: length of the code in standard deviations, misfit in the unit
frame, and share of points that are not believed."""

_PICTURED_POINTS = 3000
_SIZE = (480, 480)


def write_part(
    done: Fit,
    name: str,
    mesh: Mesh,
    out: Path,
    *,
    resolution: int,
    calibration: Calibration | None,
    picture: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Write spread, hypotheses and picture of the one completed shape of `done`; return the facts and the files.

    `mesh` is the completed shape, world frame. Files are named below the folder `out`.
    """
    known = vertex_spread(done, 0, mesh)
    known = known if calibration is None else calibration.applied(known)
    files = [f"spread/{name}.ply"]
    attributes = {"spread": known.spread, "seen": known.seen.astype(np.float64)}
    write_file(out / files[0], format_ply(mesh, attributes=attributes))
    hypotheses = []
    if done.config.hypotheses > 1:
        for number, each in enumerate(draw_hypotheses(done, 0, mesh, done.config.hypotheses), start=1):
            run, latent = refined_shape(done.run, done.prior.latents(each.coordinates), each.residual)
            shape = dataclasses.replace(done.shape(0, name), similarity=each.similarity)
            try:
                found = extract_shape(run, shape, latent=latent, resolution=resolution).mesh
            except ValueError:
                continue  # Without a surface it is no hypothesis.
            files.append(f"hypotheses/{name}_{number}.ply")
            save_mesh(found, out / files[-1])
            hypotheses.append({"file": files[-1], "probability": each.probability})
    files.append(f"pictures/{name}.png")
    draw_completion(done.parts[0].surface, mesh, known, out / files[-1])
    return facts_of(done, mesh, known, hypotheses, calibration), files


def facts_of(
    done: Fit, mesh: Mesh, known: VertexSpread, hypotheses: list[dict[str, Any]], calibration: Calibration | None
) -> dict[str, Any]:
    """Return what `fit.json` says of one completed part: misfit, likelihood, place, seen share, spread, warnings."""
    part, posterior = done.parts[0], done.posteriors[0]
    from_input = MeshDistance(mesh).unsigned(part.thinned(5000).surface).distance
    facts: dict[str, Any] = {
        "notes": list(part.notes),
        **posterior.to_dict(),
        "input_distance": {"median": float(np.median(from_input)), "p95": float(np.quantile(from_input, 0.95))},
        "seen_share": float(known.seen.mean()),
        "spread": {"median": float(np.median(known.spread)), "p95": float(np.quantile(known.spread, 0.95))},
        "calibrated": None if calibration is None else list(calibration.shapes),
        "hypotheses": hypotheses,
        "volume": mesh.signed_volume,
        "area": float(mesh.face_areas.sum()),
        "warnings": [],
        "start": None,
    }
    apart = posterior.misfit / posterior.similarity.scale
    if facts["code_length"] > _UNLIKELY_LENGTH:
        facts["warnings"].append(
            f"the shape is unlike the family: its code is {facts['code_length']:.1f} standard deviations long"
        )
    if posterior.misfit > _POOR_MISFIT:
        facts["warnings"].append(
            f"no place was found where a shape of the family agrees with the input (median {apart:.3g} apart); check "
            "units and up axis, or give align= and frame_of="
        )
    if facts["outlier_share"] > _MANY_OUTLIERS:
        facts["warnings"].append(f"{facts['outlier_share']:.0%} of the input lies far from every shape of the family")
    return facts


def draw_completion(points: FloatArray, mesh: Mesh, known: VertexSpread, path: Path) -> None:
    """Write a picture of the input, the completed shape and its spread, side by side."""
    camera = fit_camera(mesh, size=_SIZE)
    dots = _as_dots(points, 0.006 * float(np.linalg.norm(mesh.bounds.extent)))
    limit = max(float(np.quantile(known.spread, 0.98)), 1e-12)
    painted = PaintedMesh(mesh, vertex_colors=diverging_colors(known.spread, limit=limit))
    scenes: list[Drawable] = [PaintedMesh(dots, color=(0.2, 0.35, 0.75)), mesh, painted]
    try:
        with Renderer(size=_SIZE) as renderer:
            images = [renderer.render(scene, camera=camera) for scene in scenes]
    except GLUnavailableError:
        with Renderer(size=_SIZE, backend="rays") as renderer:
            images = [renderer.render(scene, camera=camera) for scene in scenes]
    row = np.concatenate(images, axis=1)
    bar = color_bar(
        row.shape[1], low=None, high=f"{limit:.3g}", title="input, completed shape, and its spread (world units)"
    )
    save_image(np.concatenate([row, bar]), path)


def _as_dots(points: FloatArray, size: float) -> Mesh:
    """Return a small octahedron at each of at most 3000 points."""
    chosen = points[np.random.default_rng(0).permutation(len(points))[:_PICTURED_POINTS]]
    corners = size * np.concatenate([np.eye(3), -np.eye(3)])
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    vertices = (chosen[:, None] + corners).reshape(-1, 3)
    return join_meshes([Mesh(vertices, (np.arange(len(chosen))[:, None, None] * 6 + faces).reshape(-1, 3))])
