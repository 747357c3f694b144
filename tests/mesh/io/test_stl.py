"""Binary STL whose length is not that of its count: read where it explains itself, with a note, or else refused."""

import struct

import numpy as np
import pytest

from sdfnet.mesh.io.read import MeshError, read_mesh_file
from sdfnet.mesh.io.stl import format_stl
from sdfnet.mesh.mesh import Mesh
from sdfnet.solids.source_shape import inspect_mesh

TETRAHEDRON = Mesh(np.eye(4)[:, :3], [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
WHOLE = format_stl(TETRAHEDRON)
TEXT = format_stl(Mesh(TETRAHEDRON.vertices + np.array([1e9, 0, 0]), TETRAHEDRON.faces))  # so far away that it is text


def _read(folder, data):
    path = folder / "a.stl"
    path.write_bytes(data)
    mesh, facts = read_mesh_file(path)
    return mesh.triangles, facts.notes


def _with_count(count, data=WHOLE):
    return data[:80] + struct.pack("<I", count) + data[84:]


def _with_attributes(lengths):
    records = [WHOLE[84 + 50 * index :][:48] for index in range(4)]
    return WHOLE[:84] + b"".join(
        record + struct.pack("<H", length) + b"\x41" * length for record, length in zip(records, lengths, strict=True)
    )


@pytest.mark.parametrize("count", [0, 1, 3, 5, 2**32 - 1])
def test_a_wrong_count_gives_way_to_the_size_with_a_note(tmp_path, count):
    triangles, notes = _read(tmp_path, _with_count(count))
    np.testing.assert_array_equal(triangles, TETRAHEDRON.triangles)
    assert notes == (f"its header promises {count} triangles, but its size is that of 4: all 4 read",)


def test_the_report_has_the_notes_of_the_reader(tmp_path):
    (tmp_path / "a.stl").write_bytes(_with_count(0))
    report = inspect_mesh(tmp_path / "a.stl")[0]
    assert report.status == "noted"
    assert report.notes[0].startswith("its header promises 0 triangles")


def test_a_file_that_was_cut_between_two_triangles_is_refused(tmp_path):
    with pytest.raises(MeshError, match="promises 4 triangles, but it ends after 3"):
        _read(tmp_path, WHOLE[:-50])


@pytest.mark.parametrize("more", [b"\0" * 100, b"\x7f" * 100, b"A" * 20], ids=["zeros", "bits", "letters"])
def test_other_data_behind_the_triangles_is_left_out_with_a_note(tmp_path, more):
    triangles, notes = _read(tmp_path, WHOLE + more)
    np.testing.assert_array_equal(triangles, TETRAHEDRON.triangles)
    assert notes == (f"{len(more)} bytes after its triangles left out",)


def test_more_data_than_triangles_is_refused_with_a_true_message(tmp_path):
    with pytest.raises(MeshError, match="promises 0 triangles, but 201 more bytes follow"):
        _read(tmp_path, _with_count(0) + b"A")


@pytest.mark.parametrize("lengths", [(2, 2, 2, 2), (50, 50, 50, 50), (0, 7, 0, 100), (0, 0, 0, 300)])
def test_attributes_behind_each_triangle_are_walked_by_their_lengths(tmp_path, lengths):
    triangles, notes = _read(tmp_path, _with_attributes(lengths))
    np.testing.assert_array_equal(triangles, TETRAHEDRON.triangles)
    assert notes == ()


def test_an_attribute_that_is_a_colour_is_not_a_length(tmp_path):
    colored = bytearray(WHOLE)
    for index in range(4):
        colored[84 + 50 * index + 48 : 84 + 50 * index + 50] = b"\x1f\x80"
    np.testing.assert_array_equal(_read(tmp_path, bytes(colored))[0], TETRAHEDRON.triangles)


def test_joined_files_are_read_whole(tmp_path):
    shifted = Mesh(TETRAHEDRON.vertices + 5, TETRAHEDRON.faces)
    triangles, notes = _read(tmp_path, WHOLE + format_stl(shifted) + WHOLE)
    expected = np.concatenate([each.triangles for each in (TETRAHEDRON, shifted, TETRAHEDRON)])
    np.testing.assert_array_equal(triangles, expected)
    assert notes == ("3 STL files joined into one: all read",)
    assert len(_read(tmp_path, TEXT + TEXT)[0]) == 8
    named = b"solid of one program".ljust(80) + WHOLE[80:]
    assert len(_read(tmp_path, named + named)[0]) == 8


JOINED = {
    "binary, text": WHOLE + TEXT,
    "text, binary": TEXT + WHOLE,
    "named solid, text": b"solid".ljust(80) + WHOLE[80:] + TEXT,
}


@pytest.mark.parametrize("order", JOINED)
def test_text_and_binary_files_joined_are_refused(tmp_path, order):
    with pytest.raises(MeshError, match="as separate files"):
        _read(tmp_path, JOINED[order])
