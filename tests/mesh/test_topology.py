"""Components, genus and holes of shapes where they are known."""

import numpy as np
import pytest
import trimesh

from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import cap_holes, components_and_genus, measure_holes


def of_trimesh(mesh: trimesh.Trimesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces)


def joined(*meshes: Mesh) -> Mesh:
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def moved(mesh: Mesh, shift: float) -> Mesh:
    return Mesh(mesh.vertices + shift, mesh.faces)


BOX = of_trimesh(trimesh.creation.box())
TORUS = of_trimesh(trimesh.creation.torus(1.0, 0.3))
SPHERE = of_trimesh(trimesh.creation.icosphere(3))


def double_torus() -> Mesh:
    """Two 3 x 3 x 1 slabs of unit cubes with a hole each, side by side: the surface of the cubes, genus 2."""
    solid = np.ones((5, 3, 1), dtype=bool)
    solid[[1, 3], 1, 0] = False
    return of_trimesh(
        trimesh.voxel.ops.matrix_to_marching_cubes(np.pad(solid.repeat(3, 0).repeat(3, 1).repeat(3, 2), 2))
    )


@pytest.mark.parametrize(
    ("mesh", "num_components", "genus"),
    [
        (BOX, 1, 0),
        (SPHERE, 1, 0),
        (TORUS, 1, 1),
        (joined(TORUS, moved(TORUS, 5), moved(SPHERE, 9)), 3, 2),
        (double_torus(), 1, 2),
    ],
)
def test_closed_surfaces_have_their_components_and_genus(mesh: Mesh, num_components: int, genus: int) -> None:
    topology = components_and_genus(mesh)
    assert (topology.num_components, topology.genus) == (num_components, genus)
    assert (topology.num_boundary_loops, topology.num_nonmanifold_edges) == (0, 0)


def test_a_soup_of_triangles_counts_as_the_surface_it_came_from() -> None:
    soup = Mesh(TORUS.triangles.reshape(-1, 3), np.arange(3 * len(TORUS.faces)))
    assert components_and_genus(soup) == components_and_genus(TORUS)


def test_orientation_does_not_matter() -> None:
    faces = TORUS.faces.copy()
    faces[::3] = faces[::3, ::-1]
    assert components_and_genus(Mesh(TORUS.vertices, faces)) == components_and_genus(TORUS)


def test_open_cylinder_has_two_holes_and_no_handle() -> None:
    tube = trimesh.creation.cylinder(1.0, 2.0)
    wall = tube.faces[np.abs(tube.face_normals[:, 2]) < 0.5]
    topology = components_and_genus(Mesh(tube.vertices, wall))
    assert (topology.num_components, topology.genus, topology.num_boundary_loops) == (1, 0, 2)
    assert (topology.num_boundary_loops, topology.num_nonmanifold_edges) != (0, 0)


def test_boxes_that_touch_in_a_corner_are_two_and_along_an_edge_have_no_genus() -> None:
    corner = components_and_genus(joined(BOX, moved(BOX, 1.0)))
    assert (corner.num_components, corner.genus) == (2, 0)
    edge = components_and_genus(joined(BOX, Mesh(np.add(BOX.vertices, [1, 1, 0]), BOX.faces)))
    assert (edge.num_components, edge.genus, edge.num_nonmanifold_edges) == (1, None, 1)


def test_a_moebius_strip_has_no_genus() -> None:
    num = 9
    top, bottom = np.arange(num), np.arange(num) + num
    next_top, next_bottom = np.append(top[1:], bottom[0]), np.append(bottom[1:], top[0])
    faces = np.concatenate([np.stack([top, bottom, next_top], 1), np.stack([bottom, next_bottom, next_top], 1)])
    topology = components_and_genus(Mesh(np.random.default_rng(0).normal(size=(2 * num, 3)), faces))
    assert (topology.num_components, topology.genus, topology.num_boundary_loops) == (1, None, 1)


def test_faces_collapsed_to_a_line_or_none_at_all_count_nothing() -> None:
    collapsed = Mesh(BOX.vertices, np.concatenate([BOX.faces, [[0, 0, 1]]]))
    assert components_and_genus(collapsed) == components_and_genus(BOX)
    assert components_and_genus(Mesh(np.zeros((0, 3)), np.zeros((0, 3)))).num_components == 0


def test_the_cap_of_a_flat_hole_has_its_area_whatever_its_shape():
    squares = [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1)]  # A U, whose fan covers what lies between its arms.
    corners = [[(x, y, 0), (x + 1, y, 0), (x + 1, y + 1, 0), (x, y + 1, 0)] for x, y in squares]
    places, numbers = np.unique(np.array(corners, dtype=float).reshape(-1, 3), axis=0, return_inverse=True)
    quads = numbers.reshape(-1, 4)
    sheet = Mesh(places, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
    caps = cap_holes(sheet)
    np.testing.assert_allclose(caps.areas, [5], rtol=1e-12)
    assert caps.triangles.shape == (12, 3, 3)
    bent = Mesh(places + [0, 0, 1] * (places[:, :1] == 0), sheet.faces)
    assert cap_holes(bent).areas[0] > 5
    assert measure_holes(bent).area == cap_holes(bent).areas.sum()
