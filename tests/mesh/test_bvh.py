"""Distances from the bounding volume hierarchy against loops over all triangles, and its signs against exact sums."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.mesh import bvh as bvh_module
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.edges import surplus_edges
from sdfnet.mesh.io.read import find_meshes
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import WindingNumber, libigl
from sdfnet.solids.source_shape import folder_similarities, load_shape

BOX_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
BOX_FACES = np.reshape(  # two triangles for each of x, y and z, below and above
    [int(digit) for digit in "013032467475045051237276026064157173"], (12, 3)
)


def make_box(half: tuple[float, float, float]) -> Mesh:
    return Mesh(BOX_CORNERS * half, BOX_FACES)


def join(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]),
    )


def points_about(mesh: Mesh, spread: float) -> NDArray[np.float64]:
    random = np.random.default_rng(0)
    near = mesh.vertices[random.integers(len(mesh.vertices), size=20_000)] + spread * random.normal(size=(20_000, 3))
    return np.concatenate([near, random.uniform(-1.05, 1.05, (20_000, 3))])


def check(mesh: Mesh, spread: float) -> None:
    assert len(surplus_edges(mesh.faces, len(mesh.vertices))) == 0
    points = points_about(mesh, spread)
    found, winding = MeshDistance(mesh)(points), WindingNumber(mesh)(points)
    assert (found.sdf < 0).mean() > 0.01
    np.testing.assert_array_equal(found.sdf < 0, winding > 0.5)
    np.testing.assert_array_equal(found.winding, np.rint(winding))


def test_a_thin_box_inside_a_cavity_has_the_signs_of_all_winding_numbers() -> None:
    cavity = make_box((0.6, 0.6, 0.6))
    turned = Mesh(cavity.vertices, cavity.faces[:, ::-1])
    check(join(make_box((0.9, 0.8, 0.7)), turned, make_box((0.5, 0.01, 0.5))), spread=0.02)


def test_boxes_through_one_another_have_the_signs_of_all_winding_numbers() -> None:
    check(join(make_box((0.9, 0.2, 0.2)), make_box((0.2, 0.9, 0.3)), make_box((0.3, 0.3, 0.9))), spread=0.05)


@pytest.mark.parametrize("name", ["bodies", "blobs", "wings"])
def test_real_meshes_have_the_signs_of_all_winding_numbers(name: str, data_folder: Path) -> None:
    shape = load_shape(next(iter(find_meshes(data_folder / name).values())))
    assert shape.closed
    check(shape.mesh.to_unit(folder_similarities([shape])[0]), spread=0.005)


def test_closed_means_that_every_edge_is_run_both_ways() -> None:
    box = make_box((1, 1, 1))
    twice = np.concatenate([box.faces, box.faces])
    cancelled = np.concatenate([box.faces, box.faces[:, ::-1]])
    flipped = box.faces.copy()
    flipped[3] = flipped[3, ::-1]
    with_flat = np.concatenate([box.faces, [[0, 1, 1], [2, 2, 2]]])
    for faces in (box.faces, twice, cancelled, with_flat):
        assert len(surplus_edges(faces, 8)) == 0
    for faces in (box.faces[1:], flipped, np.concatenate([box.faces, box.faces[:1]])):
        assert len(surplus_edges(faces, 8)) > 0


def soup(num_faces: int, size: float) -> Mesh:
    random = np.random.default_rng(num_faces)
    corners = random.uniform(-1, 1, (num_faces, 1, 3)) + size * random.normal(size=(num_faces, 3, 3))
    return Mesh(corners.reshape(-1, 3), np.arange(3 * num_faces).reshape(-1, 3))


def needles(num_faces: int, width: float) -> Mesh:
    random = np.random.default_rng(5)
    start, along, aside = random.normal(size=(3, num_faces, 3))
    corners = np.stack([start, start + along, start + random.uniform(size=(num_faces, 1)) * along], axis=1)
    corners[:, 2] += width * aside
    return Mesh(corners.reshape(-1, 3), np.arange(3 * num_faces).reshape(-1, 3))


def exact_distances(mesh: Mesh, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """From all points to all triangles, in extended precision: to the plane above the inside, else to three sides."""
    corners = mesh.triangles.astype(np.longdouble)
    best = np.full(len(points), np.inf, dtype=np.longdouble)
    for a, b, c in corners:
        normal = np.cross(b - a, c - a)
        inside = np.ones(len(points), dtype=bool)
        gap = np.full(len(points), np.inf, dtype=np.longdouble)
        for start, stop in ((a, b), (b, c), (c, a)):
            side, way = stop - start, points - start
            inside &= np.cross(side, way) @ normal >= 0
            along = np.clip((way @ side) / (side @ side), 0, 1)
            gap = np.minimum(gap, np.linalg.norm((way - along[:, None] * side).astype(np.float64), axis=1))
        plane = np.abs((points - a) @ normal) / np.sqrt(normal @ normal)
        best = np.minimum(best, np.where(inside, plane, gap))
    return best.astype(np.float64)


def places_on(mesh: Mesh) -> NDArray[np.float64]:
    """Corners, middles of sides and of faces: where several triangles are equally near."""
    corners = mesh.triangles
    return np.concatenate(
        [corners.reshape(-1, 3), (corners + corners[:, [1, 2, 0]]).reshape(-1, 3) / 2, corners.mean(axis=1)]
    )


@pytest.mark.parametrize("num_faces", [1, 2, 3, 4, 5, 8, 9, 33, 300])
def test_distances_to_soups_of_any_size_are_those_of_a_loop_over_all_triangles(num_faces: int) -> None:
    mesh = soup(num_faces, 0.3)
    points = np.random.default_rng(1).uniform(-1.5, 1.5, (300, 3))
    found = MeshDistance(mesh).unsigned(points)
    np.testing.assert_allclose(found.distance, exact_distances(mesh, points), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(found.closest_points - points, axis=1), found.distance, atol=1e-14)
    for face in np.unique(found.faces):
        rows = found.faces == face
        own = exact_distances(Mesh(mesh.vertices, mesh.faces[[face]]), points[rows])
        np.testing.assert_allclose(found.distance[rows], own, atol=1e-14)
    assert np.abs(MeshDistance(mesh).unsigned(places_on(mesh)).distance).max() < 1e-15


def rational_distance(point: NDArray[np.float64], triangle: NDArray[np.float64]) -> float:
    """Without rounding but in the last root: float64 and even extended precision err on needles themselves."""
    place, *corners = ([Fraction(float(value)) for value in row] for row in (point, *triangle))

    def minus(a: list[Fraction], b: list[Fraction]) -> list[Fraction]:
        return [x - y for x, y in zip(a, b, strict=True)]

    def dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]

    def cross(a: list[Fraction], b: list[Fraction]) -> list[Fraction]:
        return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]

    normal = cross(minus(corners[1], corners[0]), minus(corners[2], corners[0]))
    squared, inside = [], True
    for start, stop in zip(corners, [*corners[1:], corners[0]], strict=True):
        side, way = minus(stop, start), minus(place, start)
        inside &= dot(cross(side, way), normal) >= 0
        along = min(max(dot(way, side) / dot(side, side), Fraction(0)), Fraction(1))
        rest = minus(way, [along * part for part in side])
        squared.append(dot(rest, rest))
    height = dot(minus(place, corners[0]), normal)
    return math.sqrt(height * height / dot(normal, normal) if inside else min(squared))


@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12])
def test_distances_to_needles_are_exact(width: float) -> None:
    mesh = needles(8, width)
    random = np.random.default_rng(2)
    weights = random.dirichlet(np.ones(3), size=(8, 3))
    on = np.einsum("fpc,fck->fpk", weights, mesh.triangles).reshape(-1, 3)
    points = np.concatenate(
        [random.normal(size=(60, 3)), places_on(mesh), on, on + width * random.normal(size=on.shape)]
    )
    found = MeshDistance(mesh).unsigned(points)
    exact = [min(rational_distance(point, triangle) for triangle in mesh.triangles) for point in points]
    np.testing.assert_allclose(found.distance, exact, atol=3e-15)
    np.testing.assert_allclose(np.linalg.norm(found.closest_points - points, axis=1), found.distance, atol=1e-14)


def test_of_faces_given_twice_the_first_is_found() -> None:
    mesh = soup(50, 0.3)
    points = np.random.default_rng(3).uniform(-1.5, 1.5, (200, 3))
    once, twice = (MeshDistance(m).unsigned(points) for m in (mesh, Mesh(mesh.vertices, np.tile(mesh.faces, (2, 1)))))
    np.testing.assert_array_equal(once.distance, twice.distance)
    np.testing.assert_array_equal(once.faces, twice.faces)  # of equal ones the lowest number


@pytest.mark.parametrize("name", ["closed", "open"])
def test_threads_and_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    box = make_box((0.9, 0.5, 0.3))
    mesh = join(box, Mesh(box.vertices * 0.5, box.faces if name == "closed" else box.faces[2:]))
    points = points_about(mesh, 0.1)
    distance = MeshDistance(mesh)
    monkeypatch.setenv("IGL_NUM_THREADS", "1")
    alone = distance(points)
    for threads, size in (("2", 4096), ("3", 17_000), ("2", 999)):
        monkeypatch.setenv("IGL_NUM_THREADS", threads)
        monkeypatch.setattr(bvh_module, "CHUNK_SIZE", size)
        found = distance(points)
        np.testing.assert_array_equal(found.sdf, alone.sdf)
        np.testing.assert_array_equal(found.winding, alone.winding)


def test_a_piece_of_the_points_is_told_what_all_are() -> None:
    mesh = soup(300, 0.3)
    points = np.random.default_rng(4).uniform(-1.2, 1.2, (500, 3))
    distance = MeshDistance(mesh)
    together = distance(points)
    for start in range(0, 500, 83):
        some = distance(points[start : start + 83])
        np.testing.assert_array_equal(some.sdf, together.sdf[start : start + 83])
        np.testing.assert_array_equal(some.winding, together.winding[start : start + 83])


def sheet(num: int) -> Mesh:
    """A wavy square in (num - 1)² cells, two triangles each."""
    u, v = (grid.ravel() for grid in np.meshgrid(*[np.linspace(-1, 1, num)] * 2, indexing="ij"))
    corner = (np.arange(num - 1)[:, None] * num + np.arange(num - 1)).ravel()
    faces = np.concatenate([[corner, corner + num, corner + num + 1], [corner, corner + num + 1, corner + 1]], axis=1).T
    return Mesh(np.column_stack([u, v, 0.2 * np.sin(3 * u) * np.cos(2 * v)]), faces)


def with_holes() -> Mesh:
    """A ball of 2,000 faces with three holes."""
    ring, turn = np.meshgrid(np.linspace(0, np.pi, 32), np.linspace(0, 2 * np.pi, 34)[:-1], indexing="ij")
    vertices = np.stack([np.sin(ring) * np.cos(turn), np.sin(ring) * np.sin(turn), np.cos(ring)], axis=-1).reshape(
        -1, 3
    )
    corner = (np.arange(31)[:, None] * 33 + np.arange(33)).ravel()
    right = corner - corner % 33 + (corner + 1) % 33
    faces = np.concatenate([[corner, corner + 33, right + 33], [corner, right + 33, right]], axis=1).T
    middles = vertices[faces].mean(axis=1)
    holes = ((1, 0, 0), (0, 0.6, 0.8), (0, -0.3, -0.95))
    kept = np.all([np.linalg.norm(middles - hole, axis=1) > 0.3 for hole in holes], axis=0)
    return Mesh(vertices, faces[kept])


def flipped(mesh: Mesh) -> Mesh:
    faces = mesh.faces.copy()
    turned = np.random.default_rng(6).random(len(faces)) < 0.2
    faces[turned] = faces[turned, ::-1]
    return Mesh(mesh.vertices, faces)


def moebius() -> Mesh:
    angle, across = np.meshgrid(np.linspace(0, 2 * np.pi, 81)[:-1], np.linspace(-0.3, 0.3, 5), indexing="ij")
    radius = 0.8 + across * np.cos(angle / 2)
    vertices = np.stack([radius * np.cos(angle), radius * np.sin(angle), across * np.sin(angle / 2)], axis=-1)
    numbers = np.arange(400).reshape(80, 5)
    numbers = np.concatenate([numbers, numbers[:1, ::-1]])
    a, b, c, d = numbers[:-1, :-1], numbers[1:, :-1], numbers[1:, 1:], numbers[:-1, 1:]
    faces = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])
    return Mesh(vertices.reshape(-1, 3), faces)


OPEN = {
    "three holes": with_holes,
    "wavy sheet": lambda: sheet(40),
    "flipped ball": lambda: flipped(with_holes()),
    "soup": lambda: soup(400, 0.3),
    "Moebius strip": moebius,
    "doubled faces": lambda: Mesh(sheet(20).vertices, np.concatenate([sheet(20).faces, sheet(20).faces[:300]])),
    "one face": lambda: soup(1, 1.0),
    "box without a face": lambda: Mesh(BOX_CORNERS, BOX_FACES[1:]),
}


@pytest.mark.parametrize("name", OPEN)
def test_winding_numbers_of_open_meshes_are_the_exact_ones(name: str) -> None:
    mesh = OPEN[name]()
    points = np.concatenate([points_about(mesh, 0.05)[::10], points_about(mesh, 0.3)[::10]])
    found, exact = MeshDistance(mesh)(points), libigl().winding_number(mesh.vertices, mesh.faces, points)
    gap = np.abs(exact - 0.5)
    assert np.abs(found.winding - exact).max() < 0.005
    np.testing.assert_array_equal((found.sdf < 0)[gap > 0.005], (exact > 0.5)[gap > 0.005])


def test_a_ray_through_edges_and_corners_counts_them_once() -> None:
    lattice = np.linspace(-1, 1, 17)
    points = np.stack(np.meshgrid(lattice, lattice, lattice, indexing="ij"), axis=-1).reshape(-1, 3)
    mesh = join(
        *(Mesh(make_box((0.25,) * 3).vertices + 0.5 * np.array(shift), BOX_FACES) for shift in np.ndindex(2, 2, 2))
    )
    inside = (np.abs(points - 0.25) < 0.5).all(axis=1)
    on = (np.abs((points - 0.25) % 0.5) < 1e-12).any(axis=1) & (np.abs(points - 0.25) <= 0.5 + 1e-12).all(axis=1)
    found = MeshDistance(mesh)(points[~on])
    np.testing.assert_array_equal(found.winding, inside[~on])
    assert inside[~on].sum() > 100


def test_rays_are_right_beside_walls_that_lean_by_rounding() -> None:
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    for angle in (np.pi / 4, 0.3):
        spun = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        for rotation in (spun, turn):
            box = make_box((0.5, 0.25, 0.75))
            lattice = np.stack(np.meshgrid(*[np.linspace(-1, 1, 17)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
            half = np.array([0.5, 0.25, 0.75])
            apart = (np.abs(np.abs(lattice) - half) > 1e-9).all(axis=1)  # on walls' planes is asked below
            found = MeshDistance(Mesh(box.vertices @ rotation.T, BOX_FACES))
            inside = (np.abs(lattice) < half).all(axis=1)
            np.testing.assert_array_equal(found(lattice[apart] @ rotation.T).winding, inside[apart])
            planes = ~apart & (np.abs(lattice) > half + 1e-9).any(axis=1)  # in the plane of a wall, off the box
            np.testing.assert_array_equal(found(lattice[planes] @ rotation.T).winding, 0)


def test_points_far_away_and_on_corners_are_answered() -> None:
    mesh = make_box((0.9, 0.5, 0.3))
    far = np.array([[1e6, 0, 0], [0, -1e9, 0], [1e30, 1e30, 1e30], [3, 0, 0]])
    found = MeshDistance(mesh)(far)
    np.testing.assert_allclose(found.sdf[[0, 1, 3]], [1e6 - 0.9, 1e9 - 0.5, 2.1], rtol=1e-14)
    assert (found.winding == 0).all()
    assert np.abs(MeshDistance(mesh)(mesh.vertices).sdf).max() == pytest.approx(0, abs=1e-15)


def test_every_face_is_in_the_tree_once() -> None:
    for num_faces in (1, 4, 5, 31, 32, 33, 1000):
        bvh = bvh_module.TriangleBVH(soup(num_faces, 0.1).vertices, soup(num_faces, 0.1).faces)
        used = np.isfinite(bvh._boxes[-len(bvh._faces) :, 0])
        np.testing.assert_array_equal(np.sort(bvh._faces[used]), np.arange(num_faces))


def test_importing_the_package_imports_no_compiler() -> None:
    program = "import sys, sdfnet, sdfnet.mesh.distance; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
def test_kernels_work_where_nothing_can_be_written(tmp_path: Path) -> None:
    program = (
        "import numba.core.caching as c\n"
        "for locator in c.CacheImpl._locator_classes: locator.from_function = classmethod(lambda *a: None)\n"
        "import numpy as np; from sdfnet.mesh.bvh import TriangleBVH\n"
        "bvh = TriangleBVH(np.eye(3), np.array([[0, 1, 2]]))\n"
        "print(bvh.closest(np.array([[2.0, 0, 0]]), np.array([0]))[0][0])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1.0"
