"""glTF as exporters write it: skins, morph targets, instances, hidden nodes, extensions, odd JSON and URIs."""

import json
import struct

import numpy as np
import pytest

from sdfnet.mesh.io.gltf import GlbBuffer, pack_glb
from sdfnet.mesh.io.read import MeshError, read_mesh
from sdfnet.solids.source_shape import hash_content

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype="<f4")
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
FACES = np.array([[a, b, c] for a, b, c, _ in QUADS] + [[a, c, d] for a, _, c, d in QUADS], dtype="<u2")
TURN_Z = [0, 0, 0.5**0.5, 0.5**0.5]
"""A quarter turn from x to y, as a quaternion."""


class _Box:
    """A document with the box from 0 to 1, volume 1, to which a test adds what it needs."""

    def __init__(self, **node):
        self.buffer = GlbBuffer()
        self.primitive = {"attributes": {"POSITION": self.add(CORNERS)}, "indices": self.add(FACES.reshape(-1))}
        self.mesh = {"primitives": [self.primitive]}
        self.nodes = [{"mesh": 0, **node}]
        self.document = {"scenes": [{"nodes": [0]}], "nodes": self.nodes, "meshes": [self.mesh]}

    def add(self, items):
        return self.buffer.add(np.asarray(items), target=None)

    def add_matrices(self, matrices):
        """Column-major, as the format has them."""
        index = self.add(np.concatenate([np.asarray(matrix).T for matrix in matrices]).astype("<f4"))
        self.buffer.accessors[index] |= {"type": "MAT4", "count": len(matrices)}
        return index

    def add_skin(self, joints, weights, *, nodes, inverse=None):
        self.primitive["attributes"] |= {
            "JOINTS_0": self.add(np.array(joints, dtype="<u2")),
            "WEIGHTS_0": self.add(np.array(weights, dtype="<f4")),
        }
        skin = {"joints": nodes} if inverse is None else {"joints": nodes, "inverseBindMatrices": inverse}
        self.document["skins"] = [skin]
        self.nodes[0]["skin"] = 0

    def to_bytes(self):
        return pack_glb(self.buffer, **self.document)

    def read(self, folder):
        path = folder / "a.glb"
        path.write_bytes(self.to_bytes())
        return read_mesh(path)


def _split(data):
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def _extent(mesh):
    return mesh.bounds.lower.tolist(), mesh.bounds.upper.tolist()


def _shift(x, y, z):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def test_a_skin_is_posed_by_its_joints_and_the_transform_of_its_node_does_not_count(tmp_path):
    box = _Box(translation=[0, 50, 0])
    box.nodes += [{"translation": [3, 0, 0], "children": [2]}, {"rotation": TURN_Z}]  # joint 2, in no scene
    box.add_skin([[0, 0, 0, 0]] * 8, [[1, 0, 0, 0]] * 8, nodes=[2], inverse=box.add_matrices([_shift(-1, 0, 0)]))
    mesh = box.read(tmp_path)
    np.testing.assert_allclose(_extent(mesh), [[2, -1, 0], [3, 0, 1]], atol=1e-6)  # moved by -1, turned, moved by 3
    assert mesh.signed_volume == pytest.approx(1)


def test_a_vertex_between_two_joints_moves_with_their_weighted_mean(tmp_path):
    box = _Box(scale=[0, 0, 0])  # would hide a mesh without a skin
    box.nodes += [{}, {"translation": [4, 0, 0]}]
    right = CORNERS[:, 0] == 1
    joints = np.where(right[:, None], [0, 1, 0, 0], [0, 0, 0, 0])
    weights = np.where(right[:, None], [0.5, 1.5, 0, 0], [0, 0, 0, 0])  # sum 2, and no weight at all
    box.add_skin(joints, weights, nodes=[1, 2])
    assert _extent(box.read(tmp_path)) == ([0, 0, 0], [4, 1, 1])


def test_four_more_joints_of_a_vertex_count_too(tmp_path):
    box = _Box()
    box.nodes += [{"translation": [0, 0, 8 * joint]} for joint in range(2)]
    box.add_skin([[0, 0, 0, 0]] * 8, [[0.25, 0.25, 0, 0]] * 8, nodes=[1, 2])
    box.primitive["attributes"] |= {
        "JOINTS_1": box.add(np.ones((8, 4), dtype="<u2")),
        "WEIGHTS_1": box.add(np.full((8, 4), 0.125, dtype="<f4")),
    }
    assert _extent(box.read(tmp_path)) == ([0, 0, 4], [1, 1, 5])


def test_joints_that_mirror_a_skin_keep_it_outward(tmp_path):
    box = _Box()
    box.nodes.append({"scale": [-1, 1, 1]})
    box.add_skin([[0, 0, 0, 0]] * 8, [[1, 0, 0, 0]] * 8, nodes=[1])
    assert box.read(tmp_path).signed_volume == pytest.approx(1)


def test_joints_in_a_circle_are_refused(tmp_path):
    box = _Box()
    box.nodes += [{"children": [2]}, {"children": [1]}]
    box.add_skin([[0, 0, 0, 0]] * 8, [[1, 0, 0, 0]] * 8, nodes=[1])
    with pytest.raises(MeshError, match="is its own ancestor"):
        box.read(tmp_path)


@pytest.mark.parametrize(("of_mesh", "of_node", "height"), [([1.0], None, 2), ([1.0], [0.5], 1.5), (None, None, 1)])
def test_morph_targets_have_the_weights_of_the_node_or_else_of_the_mesh(tmp_path, of_mesh, of_node, height):
    box = _Box(**({} if of_node is None else {"weights": of_node}))
    box.primitive["targets"] = [{"POSITION": box.add(CORNERS * np.float32([0, 1, 0]))}]
    if of_mesh is not None:
        box.mesh["weights"] = of_mesh
    mesh = box.read(tmp_path)
    assert mesh.signed_volume == pytest.approx(height)
    assert _extent(mesh) == ([0, 0, 0], [1, height, 1])


@pytest.mark.parametrize("listed", ["extensionsUsed", "extensionsRequired"])
def test_instances_are_read_required_or_not(tmp_path, listed):
    box = _Box(translation=[0, 0, 10])
    attributes = {
        "TRANSLATION": box.add(np.float32([[0, 0, 0], [5, 0, 0], [9, 9, 9]])),
        "ROTATION": box.add(np.float32([[0, 0, 0, 1], TURN_Z, [0, 0, 0, 1]])),
        "SCALE": box.add(np.float32([[1, 1, 1], [2, 1, 1], [0, 0, 0]])),  # the third is hidden
    }
    box.nodes[0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    box.document[listed] = ["EXT_mesh_gpu_instancing"]
    mesh = box.read(tmp_path)
    assert mesh.signed_volume == pytest.approx(1 + 2)
    np.testing.assert_allclose(_extent(mesh), [[0, 0, 10], [5, 2, 11]], atol=1e-6)


def test_a_hidden_node_hides_its_children_too(tmp_path):
    box = _Box(extensions={"KHR_node_visibility": {"visible": False}}, children=[1])
    box.nodes += [{"mesh": 0}, {"mesh": 0, "extensions": {"KHR_node_visibility": {"visible": True}}}]
    box.document["scenes"] = [{"nodes": [0, 2]}]
    box.document["extensionsRequired"] = ["KHR_node_visibility"]
    assert len(box.read(tmp_path).faces) == 12


def test_a_required_extension_that_may_change_the_shape_is_refused_and_looks_pass(tmp_path):
    looks = ["KHR_materials_unlit", "KHR_texture_transform", "EXT_texture_webp", "KHR_lights_punctual"]
    box = _Box()
    box.document["extensionsRequired"] = [*looks, "KHR_mesh_quantization"]
    assert box.read(tmp_path).signed_volume == pytest.approx(1)
    box.document["extensionsRequired"] = [*looks, "ACME_bent_space"]
    with pytest.raises(MeshError, match="it requires ACME_bent_space, which may change the shape; export it without"):
        box.read(tmp_path)


@pytest.mark.parametrize("listed", ["extensionsUsed", "extensionsRequired"])
def test_draco_is_refused_only_where_no_plain_data_is_there(tmp_path, listed):
    box = _Box()
    draco = {"bufferView": 0, "attributes": {"POSITION": 0}}
    box.primitive["extensions"] = {"KHR_draco_mesh_compression": draco}
    box.document[listed] = ["KHR_draco_mesh_compression"]
    assert box.read(tmp_path).signed_volume == pytest.approx(1)
    del box.buffer.accessors[0]["bufferView"]
    with pytest.raises(MeshError, match=r"compressed \(KHR_draco_mesh_compression\); export it without compression"):
        box.read(tmp_path)


def test_meshopt_is_refused_only_where_no_plain_data_is_there(tmp_path):
    box = _Box()
    for view in box.buffer.views:
        packed = {"buffer": 0, "byteLength": 9, "count": 8, "byteStride": 12, "mode": "ATTRIBUTES"}
        view["extensions"] = {"EXT_meshopt_compression": packed}
    box.document["extensionsRequired"] = ["EXT_meshopt_compression"]
    assert box.read(tmp_path).signed_volume == pytest.approx(1)
    document, binary = _split(box.to_bytes())
    document["buffers"].append({"byteLength": len(binary)})  # a place without data, for what is unpacked
    for view in document["bufferViews"]:
        view["buffer"] = 1
    text = json.dumps(document).encode()
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    (tmp_path / "b.glb").write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    with pytest.raises(MeshError, match=r"compressed \(meshopt\); export it without compression"):
        read_mesh(tmp_path / "b.glb")


def test_json_may_be_padded_with_nul(tmp_path):
    data = _Box().to_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    text = data[20 : 20 + length].rstrip()
    padded = text + b"\0" * 8
    whole = data[:12] + struct.pack("<I", len(padded)) + data[16:20] + padded + data[20 + length :]
    (tmp_path / "a.glb").write_bytes(whole)
    assert read_mesh(tmp_path / "a.glb").signed_volume == pytest.approx(1)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("file:box.bin", "box.bin"),
        ("file:parts/box.bin", "parts/box.bin"),
        ("file:///C:/Users/anna/my%20box.bin", "my box.bin"),
        ("C:\\Users\\anna\\box.bin", "box.bin"),
        ("parts\\box.bin", "parts/box.bin"),
        ("a%20b.bin", "a%20b.bin"),
    ],
)
def test_buffers_are_found_by_the_uris_that_exporters_write(tmp_path, uri, place):
    document, binary = _split(_Box().to_bytes())
    document["buffers"][0]["uri"] = uri
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(document))
    with pytest.raises(MeshError, match="with its vertices is missing; put it beside the mesh"):
        read_mesh(path)
    without = hash_content(path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(binary)
    assert read_mesh(path).signed_volume == pytest.approx(1)
    assert hash_content(path) != without
