"""Animated GLB of things whose motion is known, read back by a reader of a few lines that shares nothing with it."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.primitives import Sphere
from sdfnet.mesh.io import gltf_animation as animated_glb
from sdfnet.mesh.io import write as writing
from sdfnet.mesh.io.gltf_animation import save_animated_glb
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh, vertex_normals
from sdfnet.mesh.sequence import MovingMesh, join_frames

THERE_AND_BACK = [0, 1, 2, 3, 2, 1]


def moving_sphere(num_frames: int, *, start: int = 0, place: float = 0.0, **options: Any) -> MovingMesh:
    """A sphere of radius 1 + frame / 10 whose centre is at (place + frame, 0, 0)."""
    unit = extract_mesh(Sphere(0.5), resolution=8, project_steps=3)
    frames = range(start, start + num_frames)
    outward = unit.vertices / np.linalg.norm(unit.vertices, axis=1, keepdims=True)
    vertices = [outward * (1 + frame / 10) + [place + frame, 0, 0] for frame in frames]
    return MovingMesh(start, vertices, unit.faces, normals=[outward] * num_frames, **options)


class Player:
    """Shows what a file's animation makes visible at a time; handles what the format asks for and no more."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        self.document = json.loads(data[20 : 20 + size])
        self.binary = data[20 + size + 8 :]

    def items(self, index: int) -> np.ndarray:
        accessor = self.document["accessors"][index]
        view = self.document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5125: "<u4", 5123: "<u2"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        items = np.frombuffer(self.binary, dtype, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
        assert items.nbytes == view["byteLength"]
        if "min" in accessor:
            assert (items.min(axis=0) == accessor["min"]).all()
            assert (items.max(axis=0) == accessor["max"]).all()
        return items

    @property
    def duration(self) -> float:
        (animation,) = self.document["animations"]
        return max(float(self.items(sampler["input"])[-1, 0]) for sampler in animation["samplers"])

    def value(self, node: int, path: str, time: float) -> np.ndarray | None:
        (animation,) = self.document["animations"]
        for channel in animation["channels"]:
            if channel["target"] == {"node": node, "path": path}:
                sampler = animation["samplers"][channel["sampler"]]
                times = self.items(sampler["input"])[:, 0]
                assert (np.diff(times) > 0).all()
                values = self.items(sampler["output"]).reshape(len(times), -1)
                if sampler["interpolation"] == "STEP":
                    return values[max(np.searchsorted(times, time, side="right") - 1, 0)]
                return np.array([np.interp(time, times, column) for column in values.T])
        return None

    def shown(self, time: float) -> list[tuple[int, Mesh]]:
        """Visible nodes with their meshes, in the frame of the root."""
        found = []
        for index in self.document["nodes"][0]["children"]:
            node = self.document["nodes"][index]
            scale = self.value(index, "scale", time)
            if (np.array(node.get("scale", [1, 1, 1])) if scale is None else scale).any():
                (primitive,) = self.document["meshes"][node["mesh"]]["primitives"]
                arrays = {
                    name: self.items(accessor).astype(float) for name, accessor in primitive["attributes"].items()
                }
                for weight, target in zip(self.weights(index, time), primitive.get("targets", []), strict=True):
                    for name, accessor in target.items():
                        arrays[name] = arrays[name] + weight * self.items(accessor)
                vertices = arrays["POSITION"] + node.get("translation", [0, 0, 0])
                faces = self.items(primitive["indices"]).reshape(-1, 3)
                found.append((index, Mesh(vertices, faces, arrays["NORMAL"])))
                self.colors = arrays.get("COLOR_0")  # of what was found last
        return found

    def weights(self, node: int, time: float) -> np.ndarray:
        weights = self.value(node, "weights", time)
        return np.zeros(0) if weights is None else weights


def save(path: Path, pieces: list[MovingMesh], **options: Any) -> Player:
    save_animated_glb(pieces, path, **options)
    return Player(path)


def test_a_tracked_sphere_is_where_it_should_be_on_and_between_frames(tmp_path: Path) -> None:
    player = save(tmp_path / "a.glb", [moving_sphere(4)], order=range(4), fps=2)
    assert player.duration == 2
    for time, frame in ((0, 0), (0.5, 1), (0.625, 1.25), (1.5, 3), (1.99, 3), (2, 3)):
        ((_, mesh),) = player.shown(time)
        radii = np.linalg.norm(mesh.vertices - [frame, 0, 0], axis=1)
        assert radii == pytest.approx(np.full(len(radii), 1 + frame / 10), abs=1e-6)
        assert mesh.signed_volume > 0
        assert np.abs(mesh.vertex_normals * radii[:, None] - (mesh.vertices - [frame, 0, 0])).max() < 1e-6


def test_only_neighbouring_weights_are_ever_non_zero(tmp_path: Path) -> None:
    player = save(tmp_path / "a.glb", [moving_sphere(4)], order=THERE_AND_BACK, fps=1)
    for time in np.linspace(0, 6, 61):
        used = np.flatnonzero(player.weights(1, time))
        assert len(used) <= 2
        assert np.diff(used).tolist() in ([], [1])


def test_there_and_back_leads_on_to_the_first_frame_and_a_loop_stands_still(tmp_path: Path) -> None:
    back = save(tmp_path / "a.glb", [moving_sphere(4)], order=THERE_AND_BACK, fps=1)
    centers = [back.shown(time)[0][1].bounds.center[0] for time in (3, 4.5, 5, 5.5, 6)]
    assert centers == pytest.approx([3, 1.5, 1, 0.5, 0], abs=1e-6)
    loop = save(tmp_path / "b.glb", [moving_sphere(4)], order=range(4), fps=1)
    assert [loop.shown(time)[0][1].bounds.center[0] for time in (3, 3.5, 4)] == pytest.approx([3, 3, 3], abs=1e-6)


@pytest.mark.parametrize("order", [range(6), [0, 1, 2, 3, 4, 5, 4, 3, 2, 1]])
def test_exactly_one_piece_is_visible_at_any_time_and_it_is_the_right_one(tmp_path: Path, order: list[int]) -> None:
    pieces = [moving_sphere(1), moving_sphere(3, start=1), moving_sphere(1, start=4), moving_sphere(1, start=5)]
    node_of_frame = [1, 2, 2, 2, 3, 4]
    player = save(tmp_path / "a.glb", pieces, order=order, fps=4)
    assert player.duration == len(order) / 4
    for place, frame in enumerate(order):
        for late in (0, 0.12, 0.24):
            ((node, mesh),) = player.shown(place / 4 + late)
            assert node == node_of_frame[frame]
            if late == 0:
                assert mesh.bounds.center[0] == pytest.approx(frame, abs=1e-6)
    assert len(player.shown(len(order) / 4)) == 1
    still = [index for index, node in enumerate(player.document["nodes"]) if node.get("scale") == [0, 0, 0]]
    assert still == [2, 3, 4]  # a program that plays nothing shows the first


def test_a_long_piece_is_cut_into_meshes_that_share_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animated_glb, "MOST_TARGETS", 2)
    player = save(tmp_path / "a.glb", [moving_sphere(4)], order=THERE_AND_BACK, fps=1)
    assert [len(mesh["primitives"][0]["targets"]) for mesh in player.document["meshes"]] == [2, 1]
    for time, frame in ((0, 0), (1.5, 1.5), (2, 2), (2.5, 2.5), (3, 3), (3.75, 2.25), (4, 2), (4.25, 1.75), (6, 0)):
        ((_, mesh),) = player.shown(time)
        assert mesh.bounds.center[0] == pytest.approx(frame, abs=1e-6)


def test_a_million_units_from_the_origin_a_part_keeps_six_digits_of_its_extent(tmp_path: Path) -> None:
    pieces = [moving_sphere(2, place=1e6), moving_sphere(1, start=2, place=1e6)]
    player = save(tmp_path / "a.glb", pieces, order=range(3), fps=1)
    for time, frame in ((0, 0), (1, 1), (2, 2)):
        ((_, mesh),) = player.shown(time)
        piece = pieces[frame // 2]
        assert np.abs(mesh.vertices - piece.vertices[frame - piece.start]).max() < 1e-6


def test_the_root_turns_up_to_y_and_leaves_coordinates_alone(tmp_path: Path) -> None:
    for axis, up in (("x", [1, 0, 0]), ("y", [0, 1, 0]), ("z", [0, 0, 1])):
        player = save(tmp_path / "a.glb", [moving_sphere(2)], order=range(2), fps=1, up_axis=axis)
        x, y, z, w = player.document["nodes"][0].get("rotation", [0, 0, 0, 1])
        assert x * x + y * y + z * z + w * w == pytest.approx(1)
        vector, turn = np.array(up, dtype=float), np.array([x, y, z])
        turned = vector + 2 * np.cross(turn, np.cross(turn, vector) + w * vector)
        assert turned == pytest.approx([0, 1, 0], abs=1e-12)
        assert player.shown(0)[0][1].bounds.center == pytest.approx([0, 0, 0], abs=1e-6)


def test_names_of_shapes_and_their_times_travel_along(tmp_path: Path) -> None:
    keys = [(0, "chair/ä"), (3, "stool")]
    player = save(tmp_path / "a.glb", [moving_sphere(4)], order=THERE_AND_BACK, fps=2, keys=keys)
    extras = player.document["nodes"][0]["extras"]
    assert extras == {"fps": 2, "frames": 4, "key_names": ["chair/ä", "stool"], "key_times": [0, 1.5]}
    assert player.document["meshes"][0]["name"] == "frame 0 chair/ä"
    assert player.document["meshes"][0]["extras"]["targetNames"] == ["frame 1", "frame 2", "frame 3 stool"]
    assert player.document["asset"] == {"version": "2.0", "generator": "sdfnet"}


def test_colors_are_written_linear(tmp_path: Path) -> None:
    sphere = moving_sphere(2)
    colors = np.full((sphere.vertices.shape[1], 3), [0.0, 0.5, 1.0])
    player = save(tmp_path / "a.glb", [moving_sphere(2, colors=colors)], order=range(2), fps=1)
    attributes = player.document["meshes"][0]["primitives"][0]["attributes"]
    assert player.items(attributes["COLOR_0"])[0] == pytest.approx([0, 0.21404114, 1], abs=1e-6)  # the sRGB curve


def test_colors_change_from_frame_to_frame_and_a_plain_piece_keeps_its_material(tmp_path: Path) -> None:
    num_vertices = moving_sphere(1).vertices.shape[1]
    tints = np.array([[0.0, 0.5, 1.0], [1.0, 0.25, 0.0], [0.5, 0.5, 0.5]])
    colors = np.repeat(tints[:, None], num_vertices, axis=1)
    pieces = [moving_sphere(1), moving_sphere(3, start=1, colors=colors), moving_sphere(1, start=4, colors=colors[:1])]
    player = save(tmp_path / "a.glb", pieces, order=range(5), fps=1)
    linear = np.array([[0, 0.21404114, 1], [1, 0.05087609, 0], [0.21404114] * 3])  # the sRGB curve
    for time, expected in ((1, linear[0]), (2, linear[1]), (2.5, (linear[1] + linear[2]) / 2), (4, linear[0])):
        player.shown(time)
        assert player.colors[7] == pytest.approx(expected, abs=1e-6)
    primitives = [mesh["primitives"][0] for mesh in player.document["meshes"]]
    shades = [material["pbrMetallicRoughness"]["baseColorFactor"][0] for material in player.document["materials"]]
    assert [shades[primitive["material"]] for primitive in primitives] == [0.8, 1, 1]  # colours are multiplied with it
    assert "COLOR_0" not in primitives[0]["attributes"]


def test_one_frame_stands_still_and_other_programs_see_the_first_frame_only(tmp_path: Path) -> None:
    player = save(tmp_path / "a.glb", [moving_sphere(1)], order=[0], fps=1)
    assert "animations" not in player.document
    save(tmp_path / "b.glb", [moving_sphere(1), moving_sphere(1, start=1)], order=range(2), fps=1)
    seen = read_mesh(tmp_path / "b.glb")
    assert len(seen.faces) == len(moving_sphere(1).faces)
    assert seen.bounds.center == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_same_sequence_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.glb", [moving_sphere(3), moving_sphere(1, start=3)], order=range(4), fps=1)
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_indices_take_two_bytes_while_they_can(tmp_path: Path) -> None:
    rows = np.arange(65537, dtype=float)
    many = np.stack([rows, rows % 2, 0 * rows], axis=1)
    for num_vertices, kind in ((65535, 5123), (65536, 5125)):
        piece = MovingMesh(0, [many[:num_vertices]], [[0, 1, num_vertices - 1]])
        save_animated_glb([piece], tmp_path / "a.glb", order=[0], fps=1)
        data = (tmp_path / "a.glb").read_bytes()
        document = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
        assert document["accessors"][document["meshes"][0]["primitives"][0]["indices"]]["componentType"] == kind


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"pieces must follow each other: frame 2 was due, got one from frame 3"):
        save_animated_glb([moving_sphere(2), moving_sphere(1, start=3)], path, order=range(3))

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_atomic", full)
    with pytest.raises(ValueError, match=r"cannot write .*a\.glb: No space left on device"):
        save_animated_glb([moving_sphere(2)], path, order=range(2))
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.glb"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": [0, 2]}, r"order must go frame by frame, got 0 and then 2 at place 1"),
        ({"order": [2, 3, 4]}, r"order must name frames 0 to 3, got 4 at place 2"),
        ({"order": []}, r"order must name at least one frame, got none"),
        ({"fps": 0}, r"fps must be positive, got 0"),
        ({"fps": float("nan")}, r"fps must be positive, got nan"),
        ({"keys": [(4, "late")]}, r"keys must name frames 0 to 3, got 4"),
        ({"up_axis": "w"}, r"up_axis must be x, y or z, got 'w'"),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_animated_glb([moving_sphere(4)], tmp_path / "a.glb", **{"order": range(4), **options})
    assert not any(tmp_path.iterdir())


def test_no_pieces_and_another_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs at least one piece, got none"):
        save_animated_glb([], tmp_path / "a.glb", order=[0])
    with pytest.raises(ValueError, match=r"the suffix of an animated GLB must be \.glb"):
        save_animated_glb([moving_sphere(1)], tmp_path / "a.gltf", order=[0])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[0, 0, 0]], [[0, 0, 0]]), {}, r"vertices must have shape \(T, V, 3\), T and V at least 1, got \(1, 3\)"),
        (([[[0, 0, np.inf]]], [[0, 0, 0]]), {}, r"vertices of the piece from frame 5 on are NaN or infinite"),
        (([[[0, 0, 0]]], []), {}, r"the piece from frame 5 on has no faces"),
        (([[[0, 0, 0]]], [[0, 0, 1]]), {}, r"faces must name vertices 0 to 0, got 0 to 1"),
        (([[[0, 0, 0]]], [[0, 0, 0]]), {"normals": [[0, 0, 1]]}, r"normals must be finite and have shape \(1, 1, 3\)"),
        (([[[0, 0, 0]]], [[0, 0, 0]]), {"colors": [[0, 0, 2]]}, r"colors must be in \[0, 1\], got 0\.0 to 2\.0"),
        (
            ([[[0, 0, 0]]], [[0, 0, 0]]),
            {"colors": [0, 0, 1]},
            r"colors must have shape \(1, 3\) or \(1, 1, 3\), got \(3,\)",
        ),
    ],
)
def test_a_moving_mesh_checks_itself(arguments: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MovingMesh(5, *arguments, **options)


def test_meshes_join_if_their_faces_are_the_same() -> None:
    sphere = moving_sphere(2)
    meshes = [Mesh(vertices, sphere.faces) for vertices in sphere.vertices]
    joined = join_frames(7, meshes)
    assert (joined.start, joined.stop) == (7, 9)
    assert (joined.vertices == sphere.vertices).all()
    assert np.einsum("tij,tij->ti", joined.normals, sphere.normals).min() > 0.98
    with pytest.raises(ValueError, match="must have the same faces, but frame 8 has others"):
        join_frames(7, [meshes[0], Mesh(sphere.vertices[1], sphere.faces[:, ::-1])])


def test_vertex_normals_are_means_by_area() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3], [9, 9, 9]], dtype=float)
    normals = vertex_normals(vertices, np.array([[0, 1, 2], [0, 2, 3]]))
    assert normals[0] == pytest.approx(np.array([3, 0, 1]) / 10**0.5)
    assert normals[4].tolist() == [0, 0, 0]
