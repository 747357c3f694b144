"""The edge table and the labelling of connected components, against slow twins."""

import numpy as np
import pytest

from sdfnet.mesh.edges import EdgeTable, label_connected, label_fans, require_closed, surplus_edges
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, label_positions, renumber_faces, vertex_normals


def _painted(left, right, size):
    labels = np.arange(size)
    for _ in range(size):
        for a, b in zip(left, right, strict=True):
            labels[[a, b]] = min(labels[a], labels[b])
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_a_slow_twin(seed):
    random = np.random.default_rng(seed)
    left, right = random.integers(0, 30, size=(2, 20))
    count, labels = label_connected(left, right, 30)
    slow = _painted(left, right, 30)
    assert count == len(np.unique(slow)) == labels.max() + 1
    np.testing.assert_array_equal(labels[:, None] == labels, slow[:, None] == slow)


def test_an_edge_given_many_times_joins_and_no_edges_join_nothing():
    assert label_connected([0] * 256, [1] * 256, 2)[0] == 1
    count, labels = label_connected([], [], 3)
    assert (count, sorted(labels)) == (3, [0, 1, 2])
    assert label_connected([], [], 0)[0] == 0


def random_faces(seed: int, num_vertices: int = 9, count: int = 14) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(num_vertices)[:3] for _ in range(count)])


def half_edges_at(faces: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """The half-edges along each edge, found one by one."""
    found: dict[tuple[int, int], list[int]] = {}
    for face, corners in enumerate(faces.tolist()):
        for corner in range(3):
            ends = corners[corner], corners[(corner + 1) % 3]
            found.setdefault((min(ends), max(ends)), []).append(3 * face + corner)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_edge_table_of_any_faces_is_that_of_a_slow_twin(seed):
    faces = random_faces(seed)
    table, slow = EdgeTable.of(faces, 9), half_edges_at(faces)
    assert [tuple(ends) for ends in table.ends.tolist()] == sorted(slow)
    assert table.order.tolist() == [half for ends in sorted(slow) for half in slow[ends]]
    assert table.counts.tolist() == [len(slow[ends]) for ends in sorted(slow)]
    runs = {half: (*faces[half // 3], faces[half // 3][0])[half % 3 :][:2] for half in range(3 * len(faces))}
    for number, ends in enumerate(sorted(slow)):
        assert (table.edge_of[slow[ends]] == number).all()
        assert table.balance[number] == sum(1 if runs[half] == ends else -1 for half in slow[ends])
        assert (table.is_boundary[slow[ends]] == (len(slow[ends]) == 1)).all()
        others = slow[ends][::-1] if len(slow[ends]) == 2 else [-1] * len(slow[ends])
        assert table.twins[slow[ends]].tolist() == others
    assert table.pairs.tolist() == [slow[ends] for ends in sorted(slow) if len(slow[ends]) == 2]
    count, component = table.label_faces()
    pairs = [(a // 3, b // 3) for halves in slow.values() for a in halves for b in halves]
    assert count == len(np.unique(_painted(*np.array(pairs).T, len(faces))))
    assert len(component) == len(faces)


@pytest.mark.parametrize("num_vertices", [9, 2**20, 2**31 - 1])
def test_the_edge_table_is_the_same_for_vertex_numbers_too_large_to_sort_in_one_word(num_vertices):
    faces = random_faces(3)
    table, small = EdgeTable.of(faces + num_vertices - 9, num_vertices), EdgeTable.of(faces, 9)
    assert (table.ends - (num_vertices - 9)).tolist() == small.ends.tolist()
    assert table.order.tolist() == small.order.tolist()
    assert table.edge_of.tolist() == small.edge_of.tolist()
    assert EdgeTable.of(faces[:0], num_vertices).order.tolist() == []


def test_the_sides_of_a_closed_mesh_run_forward_and_back():
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    table = EdgeTable.of(faces, 4)
    for (low, high), (face, other), opposite in zip(table.ends, table.beside, table.opposite, strict=True):
        assert (low, high) in [tuple(np.roll(faces[face], -corner)[:2]) for corner in range(3)]
        assert (high, low) in [tuple(np.roll(faces[other], -corner)[:2]) for corner in range(3)]
        assert [{*faces[face]} - {low, high}, {*faces[other]} - {low, high}] == [{one} for one in opposite]
    assert table.lengths(np.eye(4)[:, :3]).round(6).tolist() == pytest.approx(
        [2**0.5, 2**0.5, 1, 2**0.5, 1, 1], abs=1e-6
    )


def test_surplus_edges_are_counted_in_their_direction_and_a_face_that_names_a_vertex_twice_has_none():
    faces = np.array([[0, 1, 2], [3, 1, 0], [1, 0, 4], [0, 0, 2]])
    assert surplus_edges(faces, 5).tolist() == surplus_twin(faces)
    assert surplus_edges(np.array([[0, 1, 2]] * 2), 3).tolist() == [[0, 1]] * 2 + [[2, 0]] * 2 + [[1, 2]] * 2


def surplus_twin(faces: np.ndarray) -> list[list[int]]:
    found = []
    for low, high in sorted(half_edges_at(faces)):
        runs = [tuple(np.roll(face, -corner)[:2]) for face in faces for corner in range(3)]
        surplus = runs.count((low, high)) - runs.count((high, low))
        found += [[low, high] if surplus > 0 else [high, low]] * abs(surplus)
    return found


def test_two_tetrahedra_that_touch_in_a_vertex_have_two_fans_there():
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    both = np.concatenate([faces, np.where(faces == 0, 0, faces + 3)])
    table = EdgeTable.of(both, 7)
    count, fan_of = label_fans(both, table.pairs)
    assert count == 8
    assert len(np.unique(fan_of[both.ravel() == 0])) == 2
    assert table.label_faces()[0] == 2


@pytest.mark.parametrize(
    ("faces", "num_bad"), [([[0, 1, 2]], 3), ([[0, 1, 2], [0, 1, 2]], 6), ([[0, 2, 1], [0, 1, 3], [0, 3, 2]], 3)]
)
def test_a_mesh_that_is_not_closed_is_refused_with_the_number_of_unpaired_half_edges(faces, num_bad):
    with pytest.raises(ValueError, match=f"got {num_bad} unpaired of {3 * len(faces)} half-edges"):
        require_closed(np.array(faces), 4)


def test_unreferenced_vertices_go_and_the_others_keep_their_order_and_normals():
    mesh = Mesh(np.arange(15.0).reshape(5, 3), [[4, 1, 3]], np.arange(15.0).reshape(5, 3) + 1)
    found = drop_unreferenced_vertices(mesh)
    assert found.faces.tolist() == [[2, 0, 1]]
    assert found.vertices[:, 0].tolist() == [3, 9, 12]
    assert found.vertex_normals[:, 0].tolist() == [4, 10, 13]
    assert drop_unreferenced_vertices(found) is found
    assert [part.tolist() for part in renumber_faces(mesh.faces, 5)] == [[1, 3, 4], [[2, 0, 1]]]


@pytest.mark.parametrize("seed", range(3))
def test_positions_are_numbered_as_numpy_sorts_rows(seed):
    random = np.random.default_rng(seed)
    vertices, groups = random.integers(0, 3, size=(40, 3)).astype(float) * -1.0, random.integers(0, 2, size=40)
    rows, labels = np.unique(vertices, axis=0, return_inverse=True)
    first, numbers = label_positions(vertices)
    np.testing.assert_array_equal(numbers, labels.reshape(-1))
    np.testing.assert_array_equal(vertices[first], rows)
    assert first.tolist() == [int(np.flatnonzero(numbers == number)[0]) for number in range(len(rows))]
    rows, labels = np.unique(np.column_stack([vertices, groups]), axis=0, return_inverse=True)
    np.testing.assert_array_equal(label_positions(vertices, groups)[1], labels.reshape(-1))


def test_the_normal_of_a_vertex_without_faces_is_zero_and_others_are_means_by_area():
    vertices = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1], [9, 9, 9]])
    normals = vertex_normals(vertices, np.array([[0, 1, 2], [0, 2, 3]]))
    assert normals[4].tolist() == [0, 0, 0]
    assert normals[0] == pytest.approx(np.array([2, 0, 4]) / np.hypot(2, 4))
