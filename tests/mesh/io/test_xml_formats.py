"""3MF and COLLADA: objects placed where their scene has them, units and up axis, and what is refused."""

import importlib.util
import io
import zipfile

import numpy as np
import pytest

from sdfnet.mesh.io.read import MeshError, read_mesh, read_mesh_file

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
TRIANGLES = [[a, b, c] for a, b, c, _ in QUADS] + [[a, c, d] for a, _, c, d in QUADS]
CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
MIRRORED = "-2 0 0 0 1 0 0 0 1 10 0 0.123456789"


def _3mf(attributes="", corners=CORNERS, items="", triangle="<triangle v1='{}' v2='{}' v3='{}'/>"):
    mesh = "".join("<vertex x='{}' y='{}' z='{}'/>".format(*map(repr, corner)) for corner in corners.tolist())
    faces = "".join(triangle.format(*face) for face in TRIANGLES)
    box = f"<object id='1' name='body'><mesh><vertices>{mesh}</vertices><triangles>{faces}</triangles></mesh></object>"
    pair = f"<object id='2'><components><component objectid='1' transform='{MIRRORED}'/></components></object>"
    model = f"<model xmlns='{CORE}' {attributes}><resources>{box}{pair}</resources><build>{items}</build></model>"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("3D/3dmodel.model", "<?xml version='1.0' encoding='UTF-8'?>" + model)
    return file.getvalue()


BOTH = "<item objectid='1'/><item objectid='2'/>"


def _dae(*, unit="<unit name='inch' meter='0.0254'/>", up="Z_UP", faces=None, instance="geometry url='#box'"):
    faces = "<p>" + " ".join(str(corner) for quad in QUADS for corner in quad) + "</p>" if faces is None else faces
    counts = "4 " * len(QUADS)
    positions = " ".join(f"{number:g}" for number in CORNERS.ravel())
    return f"""<?xml version="1.0"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset>{unit}<up_axis>{up}</up_axis></asset>
<library_geometries><geometry id="box"><mesh>
<source id="s"><float_array id="a" count="24">{positions}</float_array><technique_common>
<accessor source="#a" count="8" stride="3"><param name="X" type="float"/><param name="Y" type="float"/>
<param name="Z" type="float"/></accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#s"/></vertices>
<polylist count="6"><input semantic="VERTEX" source="#v" offset="0"/><vcount>{counts}</vcount>{faces}</polylist>
</mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="scene">
<node><translate>5 0 0</translate><scale>-2 1 1</scale><instance_{instance}/></node>
<node><instance_geometry url="#box"/></node>
</visual_scene></library_visual_scenes>
<scene><instance_visual_scene url="#scene"/></scene></COLLADA>""".encode()


needs_3mf = pytest.mark.skipif(
    not importlib.util.find_spec("lxml"), reason="lxml is not installed: pip install -e '.[formats]'"
)
needs_dae = pytest.mark.skipif(
    not importlib.util.find_spec("collada"), reason="pycollada is not installed: pip install -e '.[formats]'"
)


def _read(folder, name, data):
    (folder / name).write_bytes(data)
    return read_mesh_file(folder / name)


@needs_3mf
def test_3mf_is_read_as_its_build_says(tmp_path):
    mesh, facts = _read(tmp_path, "a.3mf", _3mf(items=BOTH))
    assert mesh.signed_volume == pytest.approx(1 + 2)  # the mirrored one is outward too
    np.testing.assert_array_equal(mesh.bounds.lower, [0, 0, 0])
    np.testing.assert_array_equal(mesh.bounds.upper, [10, 1, 1.123456789])
    assert (facts.unit, facts.up_axis, facts.notes) == ("mm", "z", ())
    assert _read(tmp_path, "b.3mf", _3mf("unit='inch'", items=BOTH))[1].unit == "in"
    with pytest.raises(MeshError, match="export it again"):
        _read(tmp_path, "c.3mf", _3mf())  # nothing is to be built


@needs_3mf
@pytest.mark.filterwarnings("default")  # as outside of these tests
def test_3mf_refuses_required_extensions_and_damage(tmp_path):
    production = "xmlns:p='http://schemas.microsoft.com/3dmanufacturing/production/2015/06' requiredextensions='p'"
    assert len(_read(tmp_path, "a.3mf", _3mf(production, items=BOTH))[0].faces) == 24
    beams = "xmlns:b='http://schemas.microsoft.com/3dmanufacturing/beamlattice/2017/02' requiredextensions='b'"
    with pytest.raises(MeshError, match=r"it requires http.*beamlattice/2017/02, which may change the shape"):
        _read(tmp_path, "b.3mf", _3mf(beams, items=BOTH))
    with pytest.raises(MeshError, match=r"could not be read.*; export it again"):
        _read(tmp_path, "c.3mf", _3mf(items=BOTH, triangle="<triangle v1='{}' v2='{}' v3='{},0'/>"))
    with pytest.raises(MeshError, match="export it again"):
        _read(tmp_path, "d.3mf", _3mf(items=BOTH)[:200])


@needs_dae
def test_dae_is_read_with_its_transforms_unit_and_up_axis(tmp_path):
    mesh, facts = _read(tmp_path, "a.dae", _dae())
    assert mesh.signed_volume == pytest.approx(1 + 2)
    np.testing.assert_array_equal([mesh.bounds.lower, mesh.bounds.upper], [[0, 0, 0], [5, 1, 1]])
    assert (facts.unit, facts.up_axis, facts.notes) == ("in", "z", ())
    assert _read(tmp_path, "b.dae", _dae(unit="<unit meter='2'/>", up="Y_UP"))[1].unit == "2 m"


@needs_dae
@pytest.mark.filterwarnings("default")
def test_dae_says_what_it_leaves_out_and_refuses_what_it_cannot_pose(tmp_path):
    mesh, facts = _read(tmp_path, "a.dae", _dae(instance="geometry url='#nowhere'"))
    assert mesh.signed_volume == pytest.approx(1)
    assert "nowhere" in facts.notes[0]
    with pytest.raises(MeshError, match="it has a skin or a morph, which is not read in DAE; export it as GLB or OBJ"):
        _read(tmp_path, "b.dae", _dae(instance="controller url='#rig'"))
    with pytest.raises(MeshError, match="polygons with holes"):
        _read(tmp_path, "c.dae", _dae(faces="<ph><p>0 1 2</p><h>3 4 5</h></ph>"))
    with pytest.raises(MeshError, match="export it again"):
        _read(tmp_path, "d.dae", _dae()[:-40])
    with pytest.raises(MeshError, match=r"Corrupted float array.*; export it again"):
        _read(tmp_path, "e.dae", _dae().replace(b">0 0 0 0 0 1", b">0 0 0 0 O 1"))


@needs_dae
def test_dae_keeps_the_area_of_a_concave_polygon(tmp_path):
    arrow = "<p>0 1 2 3</p>"
    data = _dae(faces=arrow, instance="light url='#none'").replace(b"<vcount>" + b"4 " * 6, b"<vcount>4 ")
    corners = "0 0 0 4 2 0 0 4 0 1 2 0"  # a fan from the first corner covers more than the arrow
    start, end = data.index(b'count="24">') + len(b'count="24">'), data.index(b"</float_array>")
    data = data[:start] + (corners + " 0" * 12).encode() + data[end:]
    (tmp_path / "a.dae").write_bytes(data)
    assert read_mesh(tmp_path / "a.dae").face_areas.sum() == pytest.approx(8 - 2)


@pytest.mark.parametrize(
    ("name", "data", "packages"), [("a.3mf", b"PK", "lxml, networkx"), ("a.dae", b"<", "pycollada")]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch, name, data, packages):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(MeshError, match=rf"reading \{name[1:]} needs {packages}; pip install 'sdfnet\[formats\]'"):
        _read(tmp_path, name, data)
