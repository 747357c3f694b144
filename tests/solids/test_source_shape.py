import hashlib
import json
import pickle

import numpy as np
import pytest

from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.io.read import MeshError
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import MeshRefused, folder_similarities, hash_content, load_shape


def _box(lower, upper):
    import trimesh

    box = trimesh.creation.box(bounds=[lower, upper])
    return Mesh(box.vertices, box.faces)


SHEET = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])


def test_load_shape_gives_the_solid_in_world_units(tmp_path):
    path = tmp_path / "a.ply"
    save_mesh(_box([1e6, 0, 0], [1e6 + 1, 2, 0.5]), path)
    shape = load_shape(path, name="box")
    assert (shape.name, shape.path, shape.closed, shape.rule) == ("box", path, True, SolidRule())
    assert shape.mesh.signed_volume == pytest.approx(1)
    assert shape.mesh.bounds.lower.tolist() == [1e6, 0, 0]
    assert shape.report.status == "used"
    assert shape.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_shape(path).name == "a"


def test_load_shape_names_the_mesh_that_is_refused(tmp_path):
    save_mesh(SHEET, tmp_path / "sheet.obj")
    with pytest.raises(MeshRefused, match=r"sheet\.obj: the mesh is a sheet") as caught:
        load_shape(tmp_path / "sheet.obj", name="s", rule=SolidRule("winding"))
    assert (caught.value.report.name, caught.value.report.status) == ("s", "refused")
    assert isinstance(caught.value, MeshError)


def test_mesh_errors_survive_the_way_back_from_a_worker_process(tmp_path):
    with pytest.raises(MeshRefused) as caught:
        load_shape(tmp_path / "gone.obj")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) == f"{tmp_path / 'gone.obj'}: there is no such file"
    assert copy.report == caught.value.report
    assert str(pickle.loads(pickle.dumps(MeshError("a.obj", "why")))) == "a.obj: why"


def test_hash_content_changes_with_all_that_makes_the_shape(tmp_path):
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps({"buffers": [{"uri": "a%20b.bin", "byteLength": 4}, {"uri": "data:;base64,AAAA"}]}))
    hashes = [hash_content(path)]
    (tmp_path / "a b.bin").write_bytes(b"1234")
    hashes.append(hash_content(path))
    (tmp_path / "a b.bin").write_bytes(b"1235")
    hashes.append(hash_content(path))
    rules = [("auto", 0.1), ("auto", 0.2), ("winding", 0.1), ("winding", 0.2), ("outer", None)]
    hashes += [hash_content(path, rule=SolidRule(solid, thickness)) for solid, thickness in rules]
    path.write_text("damaged")
    hashes.append(hash_content(path))
    assert len(set(hashes)) == len(hashes)
    with pytest.raises(MeshError, match=r"gone\.obj: there is no such file"):
        hash_content(tmp_path / "gone.obj")


def test_folder_similarities_normalise_each_or_all_together(tmp_path):
    save_mesh(_box([1e6, 0, 0], [1e6 + 1, 1, 1]), tmp_path / "a.ply")
    save_mesh(_box([1e6 + 3, -2, 0], [1e6 + 5, 3, 1]), tmp_path / "b.ply")
    shapes = [load_shape(tmp_path / name) for name in ("a.ply", "b.ply")]
    for shape, similarity in zip(shapes, folder_similarities(shapes), strict=True):
        unit = shape.mesh.to_unit(similarity)
        assert np.allclose(unit.bounds.center, 0, atol=1e-9)
        assert np.linalg.norm(unit.vertices, axis=1).max() == pytest.approx(UNIT_RADIUS)
        assert np.allclose(similarity.to_world(unit.vertices), shape.mesh.vertices, rtol=0, atol=1e-9)
    first, second = folder_similarities(shapes, normalize="shared")
    assert (first.center.tolist(), first.scale) == (second.center.tolist(), second.scale)
    assert first.center.tolist() == [1e6 + 2.5, 0.5, 0.5]
    assert first.scale == pytest.approx(UNIT_RADIUS / np.sqrt(2.5**2 + 2.5**2 + 0.5**2))
    with pytest.raises(ValueError, match="normalize must be one of each, shared, got 'both'"):
        folder_similarities(shapes, normalize="both")
    with pytest.raises(ValueError, match="there are no shapes"):
        folder_similarities([])
