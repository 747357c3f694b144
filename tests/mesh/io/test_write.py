import json
import re
import struct

import numpy as np
import pytest

from sdfnet.mesh.io.formats import WRITABLE
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh


def _sphere(*, center=(0.0, 0, 0), radius=1.0):
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=3)
    normals = sphere.vertices / np.linalg.norm(sphere.vertices, axis=1, keepdims=True)
    return Mesh(np.array(center) + radius * normals, sphere.faces, normals)


TOLERANCES = {"obj": 1.01e-8, "ply": 0.0, "stl": 2e-6, "glb": 2e-6}
"""Largest move of a vertex, as a share of the radius: nine digits of the extent, float64, float32 twice; else 0."""


@pytest.mark.parametrize("suffix", WRITABLE)
@pytest.mark.parametrize("center", [(0, 0, 0), (1e6, -2e6, 5), (0, 1e9, 0)])
@pytest.mark.parametrize("radius", [1.0, 3e-4, 5e7])
def test_save_mesh_comes_back_unharmed(tmp_path, suffix, center, radius):
    mesh = _sphere(center=np.array(center) * min(radius, 1), radius=radius)
    path = tmp_path / "deep" / f"name with = [odd] ünits.{suffix}"
    save_mesh(mesh, path)
    back = read_mesh(path)
    floor = 4 * np.spacing(np.abs(mesh.vertices).max())  # what float64 itself can hold there
    assert np.abs(back.triangles - mesh.triangles).max() <= TOLERANCES.get(suffix, 0.0) * radius + floor
    assert back.signed_volume == pytest.approx(mesh.signed_volume, rel=1e-5)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb"])
def test_save_mesh_keeps_normals_as_other_programs_read_them(tmp_path, suffix):
    import trimesh

    mesh = _sphere(center=(0, 0, 1e5))
    save_mesh(mesh, tmp_path / f"a.{suffix}")
    (theirs,) = trimesh.load_scene(tmp_path / f"a.{suffix}", process=False).geometry.values()
    assert np.allclose(theirs.vertex_normals[theirs.faces], mesh.vertex_normals[mesh.faces], atol=1e-6)


@pytest.mark.parametrize("suffix", ["stl", "ply", "glb", "obj"])
def test_save_mesh_writes_what_other_programs_read(tmp_path, suffix):
    import trimesh

    mesh = _sphere(center=(1e6, 0, 0))
    save_mesh(Mesh(mesh.vertices, mesh.faces), tmp_path / f"a.{suffix}")
    theirs = trimesh.load(tmp_path / f"a.{suffix}", force="mesh", process=False)
    assert np.allclose(theirs.triangles, mesh.triangles, rtol=0, atol=1e-6)


def test_save_mesh_writes_nine_significant_digits(tmp_path):
    third = Mesh([[1 / 3, 0, 0], [2 / 3, -1, 1e-7 / 3], [0, 1, 0]], [[0, 1, 2]])
    save_mesh(third, tmp_path / "a.obj")
    assert (tmp_path / "a.obj").read_text().splitlines()[1:3] == [
        "v 0.333333333 0 0",
        "v 0.666666667 -1 3.33333333e-08",
    ]


def test_save_mesh_writes_whole_glb_chunks(tmp_path):
    save_mesh(_sphere(), tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, length, json_length, kind = struct.unpack_from("<4sII I4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    document = json.loads(data[20 : 20 + json_length])
    positions = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert positions["max"] == pytest.approx([1, 1, 1])
    assert positions["min"] == pytest.approx([-1, -1, -1])
    assert "translation" not in document["nodes"][0]
    assert json_length % 4 == 0
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])


def test_save_mesh_leaves_the_old_file_when_it_fails(tmp_path):
    (tmp_path / "a.obj").write_text("old")
    triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]], [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"cannot write .*a\.obj: vertices are NaN or infinite"):
        save_mesh(triangle, tmp_path / "a.obj")
    assert (tmp_path / "a.obj").read_text() == "old"
    with pytest.raises(ValueError, match="the mesh has no faces"):
        save_mesh(Mesh(np.zeros((0, 3)), np.zeros((0, 3))), tmp_path / "a.obj")
    with pytest.raises(ValueError, match=re.escape(f"the suffix must be one of .{', .'.join(WRITABLE)}")):
        save_mesh(_sphere(), tmp_path / "a.fbx")
    with pytest.raises(ValueError, match=r"a\.obj"):
        save_mesh(_sphere(), tmp_path / "a.obj" / "b.obj")
