"""The one way from a learned shape to a mesh: frames, loose components, decimation, files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run

import sdfnet
import sdfnet.runs.extract
from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.runs import ComponentCounts, ExtractConfig, RunShape, extract_run, extract_shape

FAR = Similarity([100.0, 0.0, -7.0], 0.1)


def test_a_mesh_lies_in_the_world_or_in_the_unit_frame() -> None:
    run = sphere_run({"ball": 0.5}, similarities={"ball": FAR})
    world, unit = (extract_shape(run, "ball", resolution=32, frame=frame).mesh for frame in ("world", "unit"))
    np.testing.assert_allclose(np.linalg.norm(unit.vertices, axis=1), 0.5, atol=2e-3)
    np.testing.assert_allclose(world.vertices, FAR.to_world(unit.vertices))
    outward = (world.vertices - FAR.center) / 5.0
    assert world.vertex_normals is not None
    np.testing.assert_allclose(world.vertex_normals, outward, atol=0.02)


def test_a_code_of_ones_own_is_extracted_in_its_own_frame() -> None:
    run = sphere_run({"ball": 0.5})
    shape = RunShape("new", FAR, source="new.obj", content_hash="", closed=True)
    found = extract_shape(run, shape, latent=torch.tensor([0.1, 0.0, 0.0, 0.3]), resolution=32)
    np.testing.assert_allclose(found.mesh.bounds.center, [101.0, 0.0, -7.0], atol=0.05)
    assert found.mesh.signed_volume == pytest.approx(4 / 3 * np.pi * 27, rel=0.05)


def beside(*radii: float) -> Mesh:
    """Return balls side by side, none touching another."""
    balls = [extract_mesh(Sphere(radius, center=[3.0 * at, 0, 0]), resolution=16) for at, radius in enumerate(radii)]
    joined = join_meshes(balls)
    return Mesh(joined.vertices, joined.faces)


@pytest.mark.parametrize(
    ("num_surfaces", "source", "allowed", "kept"),
    [
        (1, "a.obj", None, 2),  # 8e-4 of the volume: a speck, since the source has one component; 2.7e-2 is not
        (3, "a.obj", None, 3),
        (None, "a.obj", None, 3),
        (1, "", None, 1),  # Nobody has learned a mix: all goes that is not too large.
        (1, "", ComponentCounts(2, 0), 2),
        (3, "a.obj", ComponentCounts(1, 0), 1),
    ],
)
def test_the_source_says_how_many_components_stay(
    monkeypatch: pytest.MonkeyPatch, num_surfaces: int | None, source: str, allowed: ComponentCounts | None, kept: int
) -> None:
    monkeypatch.setattr(sdfnet.runs.extract, "extract_mesh", lambda field, **options: beside(1.0, 0.3, 0.092))
    shape = RunShape("a", FAR, source=source, content_hash="", closed=True, num_surfaces=num_surfaces)
    run = sphere_run({"ball": 0.5})
    found = extract_shape(run, shape, latent=run.latents[0], allowed=allowed)
    assert (found.num_components, len(found.removed)) == (kept, 3 - kept)
    assert [each.share for each in found.removed] == sorted((each.share for each in found.removed), reverse=True)
    everything = extract_shape(run, shape, latent=run.latents[0], allowed=allowed, min_piece=0)
    assert everything.num_components == 3


def test_decimation_keeps_the_normals_of_the_field_and_says_its_error() -> None:
    run = sphere_run({"ball": 0.5}, similarities={"ball": FAR})
    found = extract_shape(run, "ball", resolution=32, max_faces=300)
    assert found.decimated is not None
    assert found.decimation_error is not None
    assert len(found.mesh.faces) <= 300 < found.decimated.num_faces_before
    assert found.decimated.distance == pytest.approx(10 * found.decimation_error)
    outward = found.mesh.vertices - FAR.center
    np.testing.assert_allclose(
        found.mesh.vertex_normals, outward / np.linalg.norm(outward, axis=1, keepdims=True), atol=1e-3
    )
    assert extract_shape(run, "ball", resolution=32, max_faces=300, vertex_normals=False).mesh.vertex_normals is None


class _OnAnotherDevice(SphereDecoder):
    """The spheres, for points of the device `meta` only: nothing can be computed there, but calls can be counted."""

    def decode(self, points_BN3: torch.Tensor, conditioned: tuple[torch.Tensor, ...]) -> torch.Tensor:
        raise AssertionError(f"points on {points_BN3.device}")


def test_points_are_made_where_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []

    def extract(field: object, *, device: torch.device, **options: object) -> Mesh:
        seen.append(device)
        return beside(1.0)

    def with_normals(mesh: Mesh, field: object, *, device: torch.device, **options: object) -> Mesh:
        seen.append(device)
        return mesh

    monkeypatch.setattr(sdfnet.runs.extract, "extract_mesh", extract)
    monkeypatch.setattr(sdfnet.runs.extract, "with_field_normals", with_normals)
    run = sphere_run({"ball": 0.5})
    shape = RunShape("a", FAR, source="a.obj", content_hash="", closed=True)
    elsewhere = type(run)(run.directory, {}, _OnAnotherDevice(), run.latents.to("meta"), run.shapes, 0)
    extract_shape(elsewhere, shape, latent=elsewhere.latents[0], max_faces=100)
    assert seen == [torch.device("meta")] * 2


class _ScrapDecoder(SphereDecoder):
    """The spheres, and a scrap of surface that leaves the lattice."""

    def decode(self, points_BN3: torch.Tensor, conditioned: tuple[torch.Tensor, ...]) -> torch.Tensor:
        scrap = (points_BN3 - 1.05).norm(dim=-1) - 0.2
        return torch.minimum(super().decode(points_BN3, conditioned), scrap)


@pytest.mark.parametrize("shape", [{"source": "a.obj", "learned": False}, {"source": ""}])
def test_a_scrap_at_the_border_of_the_lattice_is_left_out_of_a_shape_that_was_not_learned(
    shape: dict[str, Any],
) -> None:
    run = dataclasses.replace(sphere_run({"ball": 0.5}), decoder=_ScrapDecoder())
    described = RunShape("new", FAR, content_hash="", closed=True, num_surfaces=1, **shape)
    found = extract_shape(run, described, latent=run.latents[0], resolution=32)
    assert found.mesh.to_trimesh().is_watertight
    assert (found.num_components, [each.is_cavity for each in found.removed]) == (1, [False])


def test_one_bad_shape_does_not_stop_the_others(tmp_path: Path) -> None:
    run = sphere_run({"nothing": -1.0, "ball": 0.5, "small": 0.2})
    config = ExtractConfig(resolution=16, format=("obj", "ply"))
    done = sdfnet.extract_run(run, ["nothing", "ball", "ball"], tmp_path / "out", config=config)
    assert list(done.failures) == ["nothing"]
    assert re.fullmatch(
        r"nothing has no surface yet: train longer \(no surface at level 0: field is in \[1\.121, 2\.819\]\)",
        done.failures["nothing"],
    )
    assert done.files == {"ball": (tmp_path / "out" / "ball.obj", tmp_path / "out" / "ball.ply")}
    assert all(path.is_file() for path in done.files["ball"])
    extract_run(run, "small", done.out, config=config)
    shapes = json.loads((done.out / "extract.json").read_text(encoding="utf-8"))["shapes"]
    assert set(shapes) == {"ball", "small"}
    assert shapes["ball"] == done.summaries["ball"]


def test_longer_training_is_no_advice_for_a_mix_or_a_fitted_shape() -> None:
    run = sphere_run({"ball": 0.5})
    mix = RunShape("mix", FAR, source="", content_hash="", closed=True)
    fitted = RunShape("fitted", FAR, source="a.obj", content_hash="", closed=True, learned=False)
    found = r"no surface at level 0: field is in \[[^]]*\]"
    told = {
        mix: rf"^mix has no surface \({found}\): take a mix that is nearer to the learned shapes$",
        fitted: f"^{found}$",
    }
    for shape, message in told.items():
        with pytest.raises(ValueError, match=message):
            extract_shape(run, shape, latent=torch.tensor([0.0, 0.0, 0.0, -1.0]), resolution=16)


def test_source_meshes_are_not_overwritten(tmp_path: Path) -> None:
    names = ["a", "set/b", "c", "d"]
    sources = {name: tmp_path / "objs" / f"{name}.obj" for name in names}
    for path in sources.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    run = sphere_run(dict.fromkeys(names, 0.5), sources=sources)
    config = ExtractConfig(resolution=16)
    (tmp_path / "link").symlink_to(tmp_path / "objs", target_is_directory=True)
    for out in (tmp_path / "objs", tmp_path / "link"):
        told = re.escape(f"out={out} holds the source meshes of this run (set/b.obj); give another out")
        with pytest.raises(ValueError, match=f"^{told}$"):
            extract_run(run, ["set/b", "0.5*a + 0.5*c"], out, config=config)
        with pytest.raises(ValueError, match=re.escape("(a.obj, set/b.obj, c.obj, …); give another out")):
            extract_run(run, "all", out, config=config)
    assert {path.read_text() for path in sources.values()} == {"mine"}
    assert not (tmp_path / "objs" / "extract.json").exists()
    extract_run(run, "a", tmp_path / "objs", config=ExtractConfig(resolution=16, format=("stl",)))
    assert (tmp_path / "objs" / "a.stl").is_file()
    assert extract_run(run, "a", tmp_path / "out", config=config).files


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"project_steps must be 0 or more, got -2"):
        ExtractConfig(project_steps=-2)
    with pytest.raises(ValueError, match=r"max_faces must be at least 4 \(a tetrahedron\), got 2"):
        ExtractConfig(max_faces=2)
