"""The programs on the pages about extending the project do what the pages say: one file and one line."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny_runs import learn_run

from sdfnet.decoders import DECODERS, build_decoder, decoder_config
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.fitting import CompletionConfig, MeshFitConfig, ObserveConfig, fit_inputs
from sdfnet.fitting.inputs import find_inputs, resolve_inputs
from sdfnet.fitting.observations import KINDS
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io import formats
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.runs import RunShape, load_run

PAGES = Path(__file__).resolve().parents[2] / "docs" / "extend"


def program(page: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, block: int = 0) -> ModuleType:
    """Return a Python block of a page as the module `name`."""
    text = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)[block]
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def test_the_shown_decoder_is_one_file_and_learns_a_sphere(tmp_path, monkeypatch):
    program("decoder.md", "shown_decoder", tmp_path, monkeypatch)
    monkeypatch.setitem(DECODERS, "bumps", "shown_decoder")
    with pytest.raises(ValueError, match="num_bumps must be at least 1, got 0"):
        decoder_config({"kind": "bumps", "num_bumps": 0})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = build_decoder(decoder_config({"kind": "bumps", "latent_size": 4, "num_bumps": 64}))
    points = torch.rand(2, 500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = torch.eye(2, 4)
    sdf_true = points.norm(dim=-1) - torch.tensor([[0.4], [0.7]])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-2)
    for _ in range(200):
        loss = (decoder(points, latents) - sdf_true).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert decoder(points, latents).shape == (2, 500)
    assert loss < 0.03


def test_the_shown_format_reads_what_it_writes(tmp_path, monkeypatch):
    shown = program("format.md", "shown_format", tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "sdfnet.mesh.io.tri", shown)
    row = formats.MeshFormat("tri", reader="tri.parse_tri", writer="tri.format_tri")
    monkeypatch.setattr(formats, "MESH_FORMATS", (*formats.MESH_FORMATS, row))
    monkeypatch.setattr(formats, "WRITABLE", (*formats.WRITABLE, "tri"))
    monkeypatch.setattr(formats, "READABLE", (*formats.READABLE, "tri"))
    mesh = extract_mesh(Sphere(2.0), resolution=16)
    save_mesh(mesh, tmp_path / "ball.tri")
    again = read_mesh(tmp_path / "ball.tri")
    np.testing.assert_array_equal(again.vertices[again.faces], mesh.vertices[mesh.faces])
    (tmp_path / "damaged.tri").write_text("1 2 3 4")
    with pytest.raises(ValueError, match=r"damaged\.tri.* 4 numbers"):
        read_mesh(tmp_path / "damaged.tri")


def test_the_shown_reader_through_trimesh_reads(tmp_path, monkeypatch):
    shown = program("format.md", "shown_reader", tmp_path, monkeypatch, block=1)
    xaml = b"""<Model3DGroup xmlns="http://schemas.microsoft.com/winfx/2006/xaml/presentation"><GeometryModel3D>
        <GeometryModel3D.Geometry><MeshGeometry3D Positions="0,0,0 1,0,0 0,1,0" TriangleIndices="0,1,2"
        Normals="0,0,1 0,0,1 0,0,1"/></GeometryModel3D.Geometry></GeometryModel3D></Model3DGroup>"""
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match=r"needs lxml; pip install 'sdfnet\[formats\]'"):
            shown.parse_xaml(xaml)
    pytest.importorskip("lxml")
    found = shown.parse_xaml(xaml)
    assert found.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert found.corners.tolist() == [0, 1, 2]


def test_the_shown_writer_through_trimesh_writes(tmp_path, monkeypatch):
    shown = program("format.md", "shown_reader", tmp_path, monkeypatch, block=1)
    mesh = extract_mesh(Sphere(2.0), resolution=16)
    data = shown.format_off(mesh)
    assert data == shown.format_off(mesh)
    (tmp_path / "ball.off").write_bytes(data)
    np.testing.assert_allclose(read_mesh(tmp_path / "ball.off").triangles, mesh.triangles, rtol=0, atol=1e-10)


def test_the_shown_observation_finds_the_ball_between_two_learned_ones(tmp_path, monkeypatch):
    shown = program("observation.md", "shown_observation", tmp_path, monkeypatch)
    monkeypatch.setitem(KINDS, "laser", shown.LASER)
    shapes = [RunShape(name, Similarity.identity(), f"{name}.obj", "", True, num_surfaces=1) for name in ("a", "b")]
    run = load_run(learn_run(tmp_path / "run", shapes, [Sphere(0.4), Sphere(0.8)]))
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    points = 0.6 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points[:500] = 0.1
    brightness = np.where(np.arange(2000) < 500, 1, 200)
    (tmp_path / "in" / "below").mkdir(parents=True)
    np.savetxt(
        tmp_path / "in" / "below" / "ball.pts", np.column_stack([points, brightness]), header="2000", comments=""
    )
    (tmp_path / "in" / "flat.pts").write_text("1\n1 2\n")
    inputs, _ = resolve_inputs(find_inputs(tmp_path / "in", kind="laser"), kind="laser", config=ObserveConfig())
    completion = CompletionConfig("none", frame_of="a")
    options = {"config": MeshFitConfig(resolution=32), "completion": completion}
    fits = fit_inputs(run, inputs, tmp_path / "fitted", **options)
    assert fits.failures["flat"].endswith("x, y, z and a brightness, got an array of shape (1, 2)")
    mesh = read_mesh(tmp_path / "fitted" / "meshes" / "below" / "ball.obj")
    assert components_and_genus(mesh).num_components == 1
    assert np.linalg.norm(mesh.vertices, axis=1) == pytest.approx(0.6, abs=0.1)
