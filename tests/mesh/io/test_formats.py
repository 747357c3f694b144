"""The one table of mesh formats: everything that lists or chooses formats derives from it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sdfnet
from sdfnet.mesh.io import formats
from sdfnet.mesh.io.formats import MESH_FORMATS, READABLE, WRITABLE, MeshFormat
from sdfnet.mesh.io.polygons import PolygonMesh
from sdfnet.mesh.io.read import MeshError, find_meshes, read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh

TETRAHEDRON = Mesh(np.eye(4)[:, :3], [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])


def test_what_a_format_writes_it_reads_and_the_suffix_may_be_in_upper_case(tmp_path):
    for name in WRITABLE:
        save_mesh(TETRAHEDRON, tmp_path / f"a.{name.upper()}")
        back = read_mesh(tmp_path / f"a.{name.upper()}")
        np.testing.assert_array_equal(back.triangles, TETRAHEDRON.triangles)
    assert sorted(find_meshes(tmp_path)) == sorted(f"a.{name.upper()}" for name in WRITABLE)


def test_one_row_is_all_that_a_new_format_needs(tmp_path, monkeypatch):
    """A format of our own: nine numbers a line, three corners of a face."""

    def parse(data: bytes) -> PolygonMesh:
        vertices = np.array(data.split(), dtype=float).reshape(-1, 3)
        return PolygonMesh.of_triangles(vertices, np.arange(len(vertices)).reshape(-1, 3))

    def serialize(mesh: Mesh) -> bytes:
        return "\n".join(" ".join(map(str, face.ravel())) for face in mesh.triangles).encode()

    module = type(sys)("sdfnet.mesh.io.nine")
    module.parse, module.serialize = parse, serialize
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = MeshFormat("nine", reader="nine.parse", writer="nine.serialize")
    monkeypatch.setattr(formats, "MESH_FORMATS", (*MESH_FORMATS, row))
    save_mesh(TETRAHEDRON, tmp_path / "a.nine")
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.nine").triangles, TETRAHEDRON.triangles)
    assert list(find_meshes(tmp_path)) == ["a"]


def test_a_package_that_is_missing_is_named_and_the_file_is_not_called_damaged(tmp_path, monkeypatch):
    def parse(data: bytes) -> PolygonMesh:
        raise ModuleNotFoundError("No module named 'nines'", name="nines")

    module = type(sys)("sdfnet.mesh.io.nine")
    module.parse = parse
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(formats, "MESH_FORMATS", (*MESH_FORMATS, MeshFormat("nine", reader="nine.parse")))
    (tmp_path / "a.nine").write_text("9")
    with pytest.raises(
        MeshError, match=r"a\.nine: reading \.nine needs nines \(No module named 'nines'\); install it$"
    ):
        read_mesh(tmp_path / "a.nine")


def test_messages_list_what_the_table_has(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    listed = re.escape(", ".join(f".{name}" for name in READABLE))
    with pytest.raises(MeshError, match=rf"cannot read \.txt; give one of {listed}$"):
        read_mesh(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=rf"looked for files ending in {listed}$"):
        find_meshes(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"must be one of .{', .'.join(WRITABLE)}")):
        save_mesh(TETRAHEDRON, tmp_path / "a.off")


def test_no_other_module_lists_the_formats():
    package = Path(sdfnet.__file__).parent
    pattern = re.compile(r"[\"'. ]ply\b[^\n]{0,12}\bstl\b|\bstl\b[^\n]{0,12}\bply\b", re.IGNORECASE)
    listing = [path.relative_to(package) for path in package.rglob("*.py") if pattern.search(path.read_text())]
    assert not listing


def test_listing_the_formats_imports_neither_numpy_nor_torch():
    program = "import sys, sdfnet.mesh.io.formats as f; print(f.WRITABLE, {'numpy', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{WRITABLE} set()"
