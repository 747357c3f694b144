import base64
import json
import os
import re
import struct

import numpy as np
import pytest

from sdfnet.mesh.io.read import MeshError, describe_skipped, find_meshes, read_colors, read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.solids.source_shape import hash_content

CUBE_OBJ = """# a comment
mtllib missing.mtl
o cube
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
v 1 0 1
v 1 1 1
v 0 1 1
usemtl stone
f 4 3 2 1
f 5 6 7 8
f 1 2 6 5
f 2 3 7 6
f 3 4 8 7
f 4 1 5 8
"""


def _write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _assert_unit_cube(mesh):
    assert mesh.signed_volume == pytest.approx(1)
    assert mesh.face_areas.sum() == pytest.approx(6)
    assert len(mesh.faces) == 12


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: text.replace("cube", "würfel").encode("latin-1"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("v ", "v\t").replace("f ", "   f  ").encode(),
        lambda text: text.replace("f 4 3", "f 4 \\\n3").encode(),
        lambda text: text.replace("f 4 3 2 1", "f 4/7/1 3//2 2/ 1 # bottom").encode(),
        lambda text: text.replace("\nf", " 0.5 0.5 nan\nf", 0).replace("v 0 0 0", "v 0 0 0 nan nan nan").encode(),
        lambda text: text.rstrip("\n").encode(),
    ],
)
def test_read_mesh_takes_obj_in_any_dialect(tmp_path, encode):
    _assert_unit_cube(read_mesh(_write(tmp_path, "a.obj", encode(CUBE_OBJ))))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.replace("o cube", "g D:\\scans\\"),
        lambda text: text.replace("# a comment", "# from C:\\models\\").replace("mtllib missing.mtl\no cube\n", ""),
        lambda text: text.replace("usemtl stone", "usemtl C:\\stones\\  "),
        lambda text: text.replace("v 0 1 1\nusemtl stone\n", "v 0 1 1 # C:\\\n"),
        lambda text: text.replace("f 4 3 2 1", "f 4 \\\n3 \\  \n2\\\n 1"),
        lambda text: text.replace("v 0 1 1", "v 0 1 \\\n1 # C:\\"),
        lambda text: text.rstrip("\n") + " \\\n",
    ],
)
def test_read_mesh_goes_on_after_a_backslash_only_in_statements_of_numbers(tmp_path, encode, line_end):
    mesh = read_mesh(_write(tmp_path, "a.obj", encode(CUBE_OBJ).replace("\n", line_end)))
    _assert_unit_cube(mesh)
    assert len(mesh.vertices) == 8


def test_read_mesh_resolves_relative_indices_of_several_objects(tmp_path):
    one = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf -4 -2 -3\nf -4 -3 -1\nf -4 -1 -2\nf -3 -2 -1\n"
    two = one.replace("v 0", "v 5").replace("v 1", "v 6")
    mesh = read_mesh(_write(tmp_path, "a.obj", one + "o second\n" + two))
    assert mesh.signed_volume == pytest.approx(2 / 6)
    assert mesh.faces[[0, -1]].tolist() == [[0, 2, 1], [5, 6, 7]]
    mesh = read_mesh(_write(tmp_path, "b.obj", one + two + "f 1 2 3\n"))  # both kinds in one file
    assert mesh.faces[[0, 4, -1]].tolist() == [[0, 2, 1], [4, 6, 5], [0, 1, 2]]


def test_read_mesh_leaves_out_vertices_that_no_face_uses(tmp_path):
    mesh = read_mesh(_write(tmp_path, "a.obj", "v 1e9 0 0\nv nan 0 0\n" + "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 3 4 5\n"))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2]]


def _ply(kind, vertex_type, vertices, faces, count_type="uchar"):
    codes = {"float": "f", "double": "d", "uchar": "B", "uint": "I"}
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[kind]
    header = f"ply\nformat {kind} 1.0\ncomment x\nelement vertex {len(vertices)}\nproperty uchar red\n"
    header += "".join(f"property {vertex_type} {axis}\n" for axis in "xyz")
    header += (
        f"element face {len(faces)}\nproperty list {count_type} uint vertex_indices\nproperty uchar flag\nend_header\n"
    )
    if kind == "ascii":
        rows = [" ".join(map(repr, (7, *map(float, vertex)))) for vertex in vertices]
        rows += [" ".join(map(str, (len(face), *face, 9))) for face in faces]
        return (header + "\n".join(rows) + "\n").encode()
    body = b"".join(struct.pack(order + "B3" + codes[vertex_type], 7, *vertex) for vertex in vertices)
    for face in faces:
        body += struct.pack(f"{order}{codes[count_type]}{len(face)}IB", len(face), *face, 9)
    return header.encode() + body


PYRAMID = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 3]]
PYRAMID_FACES = [[3, 2, 1, 0], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("count_type", ["uchar", "uint"])
def test_read_mesh_takes_ply_of_mixed_polygons(tmp_path, kind, count_type):
    mesh = read_mesh(_write(tmp_path, "a.ply", _ply(kind, "float", PYRAMID, PYRAMID_FACES, count_type)))
    assert mesh.signed_volume == pytest.approx(1)
    assert len(mesh.faces) == 6


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_read_mesh_takes_ply_of_triangles_only(tmp_path, kind):
    faces = [[2, 1, 0], [3, 2, 0], *PYRAMID_FACES[1:]]
    mesh = read_mesh(_write(tmp_path, "a.ply", _ply(kind, "double", PYRAMID, faces)))
    assert mesh.faces.tolist() == faces
    assert mesh.signed_volume == pytest.approx(1)


@pytest.mark.parametrize("suffix", ["obj", "off", "ply", "stl"])
def test_read_mesh_keeps_text_coordinates_as_float64_far_from_the_origin(tmp_path, suffix):
    corners = np.array([[1e6, 0.1, 0.2], [1e6 + 0.123456789, 0.1, 0.2], [1e6, 0.987654321, 0.2]])
    rows = "\n".join(" ".join(map(repr, row)) for row in corners.tolist())
    text = {
        "obj": "v " + rows.replace("\n", "\nv ") + "\nf 1 2 3\n",
        "off": f"OFF\n3 1 0\n{rows}\n3 0 1 2\n",
        "ply": _ply("ascii", "float", corners.tolist(), [[0, 1, 2]]).decode(),
        "stl": "solid x\nfacet normal 0 0 1\nouter loop\nvertex " + rows.replace("\n", "\nvertex ")
        + "\nendloop\nendfacet\nendsolid x\n",
    }[suffix]  # fmt: skip
    mesh = read_mesh(_write(tmp_path, f"a.{suffix}", text))
    assert mesh.triangles[0].tolist() == corners.tolist()


def _stl(triangles, header=b"solid in name only"):
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *np.ravel(triangle), 0) for triangle in triangles)
    return header.ljust(80) + struct.pack("<I", len(triangles)) + body


def test_read_mesh_tells_binary_stl_by_its_length(tmp_path):
    triangles = np.arange(18.0).reshape(2, 3, 3) ** 2
    whole = _stl(triangles)
    assert np.array_equal(read_mesh(_write(tmp_path, "a.stl", whole)).triangles, triangles)
    assert np.array_equal(read_mesh(_write(tmp_path, "b.stl", whole + b"colour of an exporter")).triangles, triangles)
    with pytest.raises(MeshError, match=r"c\.stl.*promises 2 triangles, but it ends after 1.*export it again"):
        read_mesh(_write(tmp_path, "c.stl", _stl(triangles, header=b"binary")[:-1]))


@pytest.mark.parametrize(
    "text",
    [
        "OFF\n# comment\n5 5 0\n{vertices}\n{faces}",
        "OFF 5 5 0\n{vertices}\n{faces}",
        "  OFF5 5 0 # odd\n\n{vertices}\n\n{faces}",
        "COFF\n5 5\n{coloured}\n{faces}",
    ],
)
def test_read_mesh_takes_off_in_any_dialect(tmp_path, text):
    rows = [" ".join(map(str, vertex)) for vertex in PYRAMID]
    faces = "\n".join(f"{len(face)} {' '.join(map(str, face))} 255 0 0" for face in PYRAMID_FACES)
    coloured = "\n".join(row + " 0.1 0.2 0.3 1" for row in rows)
    content = text.format(vertices="\n".join(rows), coloured=coloured, faces=faces)
    assert read_mesh(_write(tmp_path, "a.off", content)).signed_volume == pytest.approx(1)


def _gltf(nodes, *, positions=None, primitive=None, accessors=(), scenes=({"nodes": [0]},), extra=None):
    positions = np.array(PYRAMID if positions is None else positions)
    indices = np.array([[2, 1, 0], [3, 2, 0], *PYRAMID_FACES[1:]], dtype="<u2")
    data = indices.tobytes() + positions.astype("<f4").tobytes()
    return {
        "asset": {"version": "2.0"},
        "scenes": list(scenes),
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1}, "indices": 0, **(primitive or {})}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5123, "count": indices.size, "type": "SCALAR"},
            {"bufferView": 1, "componentType": 5126, "count": len(positions), "type": "VEC3"},
            *accessors,
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": indices.nbytes},
            {"buffer": 0, "byteOffset": indices.nbytes, "byteLength": 12 * len(positions)},
        ],
        "buffers": [{"byteLength": len(data), "uri": "data:;base64," + base64.b64encode(data).decode()}],
        **(extra or {}),
    }


def test_read_mesh_flattens_gltf_scenes_with_their_node_transforms(tmp_path):
    half = 0.5**0.5
    nodes = [
        {"children": [1, 2], "translation": [1e6 + 0.25, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 10, 1]},  # column-major; mirrored
        {"mesh": 0},  # in no scene
    ]
    mesh = read_mesh(_write(tmp_path, "a.gltf", json.dumps(_gltf(nodes))))
    first, second = np.split(mesh.vertices, 2)
    assert np.allclose(first[1], [1e6 + 0.25, 2, 0], rtol=0, atol=1e-9)  # x doubled, then a quarter turn to y
    assert np.allclose(second[4], [1e6 - 0.25, 0.5, 13], rtol=0, atol=1e-9)
    assert mesh.signed_volume == pytest.approx(2 + 1)  # the mirrored one is outward too


@pytest.mark.parametrize(
    ("mode", "expected"), [(5, [[0, 1, 2], [2, 1, 3], [2, 3, 4]]), (6, [[0, 1, 2], [0, 2, 3], [0, 3, 4]])]
)
def test_read_mesh_takes_gltf_strips_and_fans(tmp_path, mode, expected):
    document = _gltf([{"mesh": 0}], primitive={"mode": mode})
    del document["meshes"][0]["primitives"][0]["indices"]
    assert read_mesh(_write(tmp_path, "a.gltf", json.dumps(document))).faces.tolist() == expected


def test_read_mesh_takes_normalised_sparse_and_strided_gltf_accessors(tmp_path):
    packed = struct.pack("<12h", 0, 0, 0, 99, 32767, 0, 0, 99, 0, 32767, 0, 99)  # stride 8
    packed += struct.pack("<HH3h", 2, 0, 0, -32768, 16384)  # vertex 2 replaced
    uri = "data:application/octet-stream;base64," + base64.b64encode(packed).decode()
    document = _gltf([{"mesh": 0}], primitive={"attributes": {"POSITION": 0}})
    del document["meshes"][0]["primitives"][0]["indices"]
    document["buffers"] = [{"byteLength": len(packed), "uri": uri}]
    document["bufferViews"] = [
        {"buffer": 0, "byteLength": 24, "byteStride": 8},
        {"buffer": 0, "byteOffset": 24, "byteLength": 2},
        {"buffer": 0, "byteOffset": 28, "byteLength": 6},
    ]
    sparse = {"count": 1, "indices": {"bufferView": 1, "componentType": 5123}, "values": {"bufferView": 2}}
    document["accessors"] = [
        {"bufferView": 0, "componentType": 5122, "count": 3, "type": "VEC3", "normalized": True, "sparse": sparse}
    ]
    mesh = read_mesh(_write(tmp_path, "a.gltf", json.dumps(document)))
    assert np.allclose(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, -1, 16384 / 32767]])


def test_read_mesh_reads_gltf_buffers_beside_the_file_and_names_missing_ones(tmp_path):
    document = _gltf([{"mesh": 0}])
    data = base64.b64decode(document["buffers"][0]["uri"].partition(",")[2])
    document["buffers"][0]["uri"] = "the%20buffer.bin"
    path = _write(tmp_path, "a.gltf", json.dumps(document))
    with pytest.raises(MeshError, match=r"the file 'the%20buffer\.bin' with its vertices is missing; put it beside"):
        read_mesh(path)
    _write(tmp_path, "the buffer.bin", data)
    assert read_mesh(path).signed_volume == pytest.approx(1)


def _looped():
    return _gltf([{"mesh": 0, "children": [1]}, {"mesh": 0, "children": [0]}])


GLTF_DAMAGE = {
    "it is glTF 1.0": lambda: _gltf([{"mesh": 0}], extra={"asset": {"version": "1.0"}}),
    "compressed .KHR_draco": lambda: _gltf(
        [{"mesh": 0}],
        primitive={"attributes": {"POSITION": 2}},
        accessors=[{"componentType": 5126, "count": 5, "type": "VEC3"}],
        extra={"extensionsRequired": ["KHR_draco_mesh_compression"]},
    ),
    "node 0 has two parents": _looped,
    "promises 4000000000 items": lambda: _gltf(
        [{"mesh": 0}],
        primitive={"attributes": {"POSITION": 2}},
        accessors=[{"componentType": 5126, "count": 4_000_000_000, "type": "VEC3", "sparse": {}}],
    ),
    "buffer view 1 is shorter": lambda: _gltf(
        [{"mesh": 0}],
        primitive={"attributes": {"POSITION": 2}},
        accessors=[{"bufferView": 1, "componentType": 5126, "count": 6, "type": "VEC3"}],
    ),
    "names vertex 4, but there are only 4": lambda: _gltf([{"mesh": 0}], positions=PYRAMID[:4]),
    "IndexError": lambda: _gltf([{"mesh": 3}]),
    "TypeError": lambda: _gltf([{"mesh": "a"}]),
}


@pytest.mark.parametrize("reason", GLTF_DAMAGE)
def test_read_mesh_refuses_damaged_gltf(tmp_path, reason):
    path = _write(tmp_path, "bad.gltf", json.dumps(GLTF_DAMAGE[reason]()))
    with pytest.raises(MeshError, match=r"bad\.gltf: .*" + reason):
        read_mesh(path)


REFUSED = {
    "empty.obj": (b" \n", "the file is empty; export it again"),
    "no_faces.obj": (b"v 0 0 0\nv 1 1 1\nl 1 2\n", "no faces, only 2 vertices .a point cloud or a wireframe"),
    "nan.obj": (b"v 0 0 0\nv nan 0 0\nv 1 1 1\nf 1 2 3\n", "1 of 3 vertices are NaN or infinite"),
    "huge.obj": (b"v 0 0 0\nv 1e200 0 0\nv 1 1 1\nf 1 2 3\n", "coordinates beyond 1e.30"),
    "point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "all vertices are at one point"),
    "zero.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "face 1 names vertex 0, but there are only vertices 1 to 3"),
    "far.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\nf 1 2 99999999999999999999\n", "whole numbers"),
    "back.obj": (b"v 0 0 0\nv 1 0 0\nf -1 -2 -3\nv 0 1 0\nf 1 2 3\n", "face 1 names vertex 0"),
    "words.obj": (b"v 0 0 zero\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "a vertex must have three numbers, got 'v 0 0 zero'"),
    "short.obj": (b"v 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "a vertex must have three numbers, got 'v 0 0'"),
    "big.off": (b"OFF\n353535235358 6 0\n0 0 0\n", "promises 353535235358 vertices and 6 faces, but 1 lines follow"),
    "png.off": (b"\x89PNG\r\n", "does not start with OFF"),
    "big.ply": (
        _ply("ascii", "float", PYRAMID, PYRAMID_FACES).replace(b"vertex 5", b"vertex 5000000000"),
        "5000000000 rows",
    ),
    "cut.ply": (_ply("binary_little_endian", "float", PYRAMID, PYRAMID_FACES)[:-3], "it ends"),
    "list.ply": (
        _ply("ascii", "float", PYRAMID, PYRAMID_FACES).replace(b"\n3 0 1 4", b"\n3e9 0 1 4"),
        "ends within a row",
    ),
    "named.ply": (
        _ply("ascii", "float", PYRAMID, PYRAMID_FACES).replace(b"vertex_indices", b"corners"),
        "must be the list vertex_indices of face, only corners of face; rename it",
    ),
    "element.ply": (
        _ply("ascii", "float", PYRAMID, PYRAMID_FACES).replace(b"element face", b"element polygon"),
        "must be the list vertex_indices of face, only vertex_indices of polygon; rename it",
    ),
    "odd.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 f 3\n", "a face must have whole numbers"),
    "head.ply": (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "no sense at 'property float x'"),
    "type.ply": (_ply("ascii", "float", PYRAMID, PYRAMID_FACES).replace(b"float z", b"quad z"), "at 'property quad z'"),
    "png.stl": (b"\x89PNG\r\n" * 40, "promises"),
    "cut.glb": (struct.pack("<4sIIII", b"glTF", 2, 99, 79, 0x4E4F534A) + b"{}", "not whole"),
    "text.gltf": (b"hello", "JSONDecodeError|Expecting value"),
    "deep.gltf": (b"[" * 100_000, "RecursionError|damaged"),
    "a.txt": (b"hello", "cannot read .txt; give one of .obj, .ply"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_read_mesh_refuses_with_one_line_that_names_the_file(tmp_path, name):
    content, reason = REFUSED[name]
    with pytest.raises(MeshError, match=reason) as caught:
        read_mesh(_write(tmp_path, name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_mesh_refuses_what_is_not_a_file(tmp_path):
    (tmp_path / "folder.obj").mkdir()
    os.mkfifo(tmp_path / "pipe.obj")  # reading it would wait for ever
    os.symlink("nowhere.obj", tmp_path / "link.obj")
    os.symlink("circle.obj", tmp_path / "circle.obj")
    for name, reason in (
        ("folder.obj", "it is not a file"),
        ("pipe.obj", "it is not a file"),
        ("nothing.obj", "there is no such file"),
        ("link.obj", "a link that leads nowhere"),
        ("circle.obj", "a link that leads nowhere"),
    ):
        for read in (read_mesh, hash_content):
            with pytest.raises(MeshError, match=f"{re.escape(name)}: {reason}"):
                read(tmp_path / name)
    assert list(find_meshes(tmp_path)) == ["circle", "link", "pipe"]


def _samples():
    yield "a.obj", CUBE_OBJ.encode()
    for kind in ("ascii", "binary_little_endian"):
        yield "a.ply", _ply(kind, "float", PYRAMID, PYRAMID_FACES)
    yield "a.stl", _stl(np.arange(36.0).reshape(4, 3, 3) ** 2)
    yield "a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    yield "a.gltf", json.dumps(_gltf([{"mesh": 0}])).encode()


def test_read_mesh_survives_damaged_bytes(tmp_path):
    random = np.random.default_rng(0)
    outcomes = set()
    for name, whole in _samples():
        for _ in range(150):
            data = bytearray(whole[: random.integers(len(whole))] if random.random() < 0.3 else whole)
            for position in random.integers(max(len(data), 1), size=random.integers(4)).tolist():
                if data:
                    data[position] = int(random.choice([0, 32, 45, 57, 255, random.integers(256)]))
            try:
                mesh = read_mesh(_write(tmp_path, name, bytes(data)))
                outcomes.add(type(mesh))
                assert np.isfinite(mesh.vertices).all()
            except MeshError as error:
                outcomes.add(MeshError if "\n" not in str(error) else str(error))
    assert outcomes == {Mesh, MeshError}


def test_find_meshes_names_by_path_and_keeps_the_suffix_where_names_clash(tmp_path):
    for name in (
        "b.OBJ",
        "a.obj",
        "a.ply",
        "sub/deep/c d=[1].stl",
        ".hidden.obj",
        ".git/x.obj",
        "notes.txt",
        "a.obj.stl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    os.symlink(tmp_path, tmp_path / "sub" / "again")
    meshes = find_meshes(tmp_path)
    assert list(meshes) == ["a.obj", "a.obj.stl", "a.ply", "b", "sub/deep/c d=[1]"]
    assert meshes["b"] == tmp_path / "b.OBJ"


def test_find_meshes_composes_names_unless_two_files_differ_only_in_that(tmp_path):
    composed, decomposed = "st\u00fchle", "stu\u0308hle"
    (tmp_path / decomposed).mkdir()
    _write(tmp_path, f"{decomposed}/{decomposed}.obj", "x")
    found = find_meshes(tmp_path)
    assert list(found) == [f"{composed}/{composed}"]
    assert found[f"{composed}/{composed}"] == tmp_path / decomposed / f"{decomposed}.obj"
    _write(tmp_path, f"{decomposed}/{composed}.obj", "x")
    assert sorted(find_meshes(tmp_path)) == sorted([f"{decomposed}/{decomposed}", f"{decomposed}/{composed}"])


def test_find_meshes_refuses_missing_and_empty_folders(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read meshes from .*nowhere: there is no such folder"):
        find_meshes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it is a file"):
        find_meshes(_write(tmp_path, "notes.txt", "x"))
    with pytest.raises(ValueError, match=r"no meshes in .*; looked for files ending in \.obj, \.ply"):
        find_meshes(tmp_path)


def test_describe_skipped_counts_what_no_reader_takes_by_suffix(tmp_path):
    assert describe_skipped(tmp_path) == ""
    belonging = ("chair.mtl", "chair.parts.json", "sub/stool.bin", "README.md", "LICENSE", ".hidden.fbx")
    for name in ("chair.obj", "sub/stool.gltf", *belonging):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert describe_skipped(tmp_path) == ""
    (tmp_path / "chair2.blend").write_text("x")
    assert describe_skipped(tmp_path) == "1 file skipped: 1 .blend"
    for name in ("a.fbx", "sub/A.FBX", "sub/chair.abc"):
        (tmp_path / name).write_text("x")
    assert describe_skipped(tmp_path) == "4 files skipped: 2 .fbx, 1 .abc, 1 .blend"
    for name in ("chair.obj", "sub/stool.gltf"):
        (tmp_path / name).unlink()
    with pytest.raises(
        ValueError, match=r"no meshes in .* below it \(7 files skipped: 2 \.fbx, 1 .*\); looked for files"
    ):
        find_meshes(tmp_path)


UNREADABLE = 37
"""Files of bad_inputs that hold no surface or not a whole one; the others must be read."""


def test_read_mesh_takes_every_good_file_of_bad_inputs_and_none_of_the_others(data_folder):
    refused = {}
    for name, path in find_meshes(data_folder / "bad_inputs").items():
        try:
            read_mesh(path)
        except MeshError as error:
            refused[name] = str(error)
    assert len(refused) == UNREADABLE, refused
    good = (
        "box_UTF16BE",
        "regr01",
        "negative_indices",
        "cube_usemtl",
        "whitespace",
        "no_indices_3storybuilding",
        "Wuson.off",
    )
    assert not [name for name in refused if name.endswith(good)]


@pytest.mark.parametrize("name", ["concave_polygon.obj", "space_in_material_name.obj"])
def test_read_mesh_keeps_the_area_of_a_real_concave_polygon(data_folder, name):
    # A ring in the plane x = -1.146; the shoelace formula over its corners gives 0.2454966872. Fans give 3.2.
    mesh = read_mesh(data_folder / "bad_inputs" / "assimp" / name)
    assert mesh.face_areas.sum() == pytest.approx(0.24549668720000, rel=1e-9)
    assert (mesh.face_normals @ [1, 0, 0] > 0.999).all()


def test_read_mesh_agrees_with_trimesh_where_all_faces_are_triangles(data_folder):
    import trimesh

    names = [
        "singles/spot.obj",
        "singles/lucy_100k.ply",
        "bad_inputs/trimesh/nested.glb",
        "bad_inputs/assimp/Wuson.stl",
    ]
    for name in names:
        ours = read_mesh(data_folder / name).triangles
        theirs = trimesh.load(data_folder / name, force="mesh", process=False).triangles
        order_ours, order_theirs = (np.lexsort(t.reshape(-1, 9).T[::-1]) for t in (ours, theirs))
        assert np.allclose(ours[order_ours], theirs[order_theirs], rtol=1e-6), name


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(("channel", "full"), [("uchar", 255), ("ushort", 65535), ("float", 1)])
def test_read_colors_takes_ply_of_any_channel_and_drops_those_of_unused_vertices(tmp_path, kind, channel, full):
    codes, order = {"uchar": "B", "ushort": "H", "float": "f"}, ">" if kind.endswith("big_endian") else "<"
    header = f"ply\nformat {kind} 1.0\nelement vertex 4\n" + "".join(f"property double {axis}\n" for axis in "xyz")
    header += "".join(f"property {channel} {name}\n" for name in ("red", "green", "blue"))
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    wanted = np.array([[0.2, 0.4, 0.6], [0, 1, 0], [0.8, 0, 1], [1, 0.2, 0]])
    stored = np.rint(full * wanted).astype(int) if full > 1 else wanted
    rows = list(zip([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0]], stored.tolist(), strict=True))
    if kind == "ascii":
        body = "\n".join(" ".join(map(str, [*place, *color])) for place, color in rows).encode() + b"\n3 1 2 3\n"
    else:
        body = b"".join(struct.pack(f"{order}3d3{codes[channel]}", *place, *color) for place, color in rows)
        body += struct.pack(order + "B3i", 3, 1, 2, 3)
    mesh, colors = read_colors(_write(tmp_path, "a.ply", header.encode() + body))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert np.allclose(colors, wanted[1:], rtol=0, atol=1e-6)


def test_read_colors_takes_linear_colours_of_gltf_and_shows_parts_without_as_white(tmp_path):
    linear = struct.pack("<4H", *[0, 65535, 14025, 65535]) * 5  # 14025 of 65535 is 0.214, half in sRGB; alpha last
    nodes = [{"mesh": 0}, {"mesh": 1, "translation": [5, 0, 0]}, {"mesh": 0, "scale": [0, 0, 0]}]
    color = {"bufferView": 2, "componentType": 5123, "normalized": True, "count": 5, "type": "VEC4"}
    painted = {"attributes": {"POSITION": 1, "COLOR_0": 2}}
    document = _gltf(nodes, accessors=[color], primitive=painted, scenes=[{"nodes": [0, 1, 2]}])
    plain = {"attributes": {"POSITION": 1}, "indices": 0}
    document["meshes"].append({"primitives": [plain]})
    document["buffers"].append({"byteLength": 40, "uri": "data:;base64," + base64.b64encode(linear).decode()})
    document["bufferViews"].append({"buffer": 1, "byteLength": 40})
    mesh, colors = read_colors(_write(tmp_path, "a.gltf", json.dumps(document)))
    assert colors.shape == mesh.vertices.shape
    left = mesh.vertices[:, 0] < 4
    assert np.allclose(colors[left], [0, 1, 0.5], atol=1e-4)
    assert np.array_equal(colors[~left], np.ones((5, 3)))
    del document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    assert read_colors(_write(tmp_path, "b.gltf", json.dumps(document)))[1] is None
