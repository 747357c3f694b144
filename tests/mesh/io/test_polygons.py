import numpy as np
import pytest

from sdfnet.mesh.io.polygons import PolygonMesh, triangulate
from sdfnet.mesh.mesh import Mesh


def _outline(points_2d):
    """A flat polygon tilted out of every axis plane, and the normal it should keep."""
    right, up = np.array([2.0, 1, 0.5]), np.array([-1.0, 1.5, 2])
    right /= np.linalg.norm(right)
    up -= right * (up @ right)
    up /= np.linalg.norm(up)
    return np.asarray(points_2d) @ np.stack([right, up]) + [5, -3, 2], np.cross(right, up)


def _shoelace(points_2d):
    x, y = np.asarray(points_2d, dtype=float).T
    return 0.5 * float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


CONCAVE = {
    "arrow, bad diagonal first": [(0, 0), (2, 1), (0, 2), (0.5, 1)],
    "arrow, bad diagonal second": [(0.5, 1), (0, 0), (2, 1), (0, 2)],
    "L": [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)],
    "comb": [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)],
    "ring with a bridge": [(0, 0), (3, 0), (3, 3), (0, 3), (0, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1)],
}


@pytest.mark.parametrize("name", CONCAVE)
def test_triangulate_keeps_area_and_winding_of_concave_polygons(name):
    outline = CONCAVE[name]
    vertices, normal = _outline(outline)
    faces = triangulate(PolygonMesh(vertices, range(len(outline)), [len(outline)]))
    mesh = Mesh(vertices, faces)
    assert len(faces) == len(outline) - 2
    assert mesh.face_areas.sum() == pytest.approx(_shoelace(outline), rel=1e-9)
    assert (mesh.face_crosses @ normal > 0).all()


def test_triangulate_avoids_triangles_without_area_at_straight_corners():
    # Three corners in a line: a fan from the first would lose the middle one, and the neighbour's edge with it.
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]])
    mesh = Mesh(vertices, triangulate(PolygonMesh(vertices, range(5), [5])))
    assert mesh.face_areas.min() > 0.1


def test_triangulate_keeps_the_order_of_mixed_polygons():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0]])
    polygons = PolygonMesh(vertices, [0, 1, 2, 3, 4, 5, 2, 1, 0, 1, 4, 5, 1, 2], [3, 1, 4, 2, 4])
    faces = triangulate(polygons)
    assert faces[0].tolist() == [0, 1, 2]
    assert sorted(set(faces[1:3].ravel().tolist())) == [1, 2, 4, 5]
    assert len(faces) == 1 + 2 + 2
    assert faces[0].tolist() != faces[3].tolist()


def test_triangulate_survives_polygons_without_area():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [np.nan, 0, 0]])
    faces = triangulate(PolygonMesh(vertices, [0, 0, 0, 0, 0, 1, 2, 1, 0, 1, 2, 3], [4, 4, 4]))
    assert faces.shape == (6, 3)


def test_triangulate_is_quick_for_one_huge_polygon():
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    star = (1 + 0.3 * np.sin(50 * angles))[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices, _ = _outline(star)
    mesh = Mesh(vertices, triangulate(PolygonMesh(vertices, range(len(star)), [len(star)])))
    assert mesh.face_areas.sum() == pytest.approx(_shoelace(star), rel=1e-9)


@pytest.mark.parametrize("corner", [4, -1])
def test_triangulate_refuses_vertices_that_are_not_there(corner):
    square = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match=f"face 2 names vertex {corner + 1}, but there are only vertices 1 to 4"):
        triangulate(PolygonMesh(square, [0, 1, 2, 0, 2, corner], [3, 3]))
