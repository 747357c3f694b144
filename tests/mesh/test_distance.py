"""Distances against closed forms and against a loop over all triangles; bad input never reaches native code."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.mesh.distance import JUMP_BAND, MeshDistance, SignedDistances, at_sign_jump
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import WindingNumber, libigl, morton_order, spread_over_surface

CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
BOX_FACES = np.reshape(  # two triangles for each of x, y and z, below and above
    [int(digit) for digit in "013032467475045051237276026064157173"], (12, 3)
)
HALF = np.array([1.0, 0.5, 0.25])


def box_sdf(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The closed form for the box with half extents HALF."""
    beyond = np.abs(points) - HALF
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)


@pytest.fixture
def box() -> Mesh:
    return Mesh(CORNERS * HALF, BOX_FACES)


@pytest.fixture
def points() -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(-1.5, 1.5, size=(2000, 3))


def test_distances_to_a_box_are_the_closed_form(box: Mesh, points: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(MeshDistance(box)(points).sdf, box_sdf(points), atol=1e-12)


def test_distances_stay_exact_a_million_units_from_the_origin(box: Mesh, points: NDArray[np.float64]) -> None:
    offset = np.array([1e6, -2e6, 3e6])
    found = MeshDistance(Mesh(box.vertices + offset, box.faces))(points + offset)
    np.testing.assert_allclose(found.sdf, box_sdf(points), atol=2e-9)  # float64 itself resolves 5e-10 there
    np.testing.assert_allclose(
        np.linalg.norm(found.closest_points - (points + offset), axis=1), np.abs(found.sdf), atol=2e-9
    )


def test_distances_scale_with_the_units(box: Mesh, points: NDArray[np.float64]) -> None:
    for scale in (1e-6, 1e9):
        found = MeshDistance(Mesh(box.vertices * scale, box.faces))(points * scale)
        np.testing.assert_allclose(found.sdf / scale, box_sdf(points), atol=1e-12)


def test_distance_equals_a_loop_over_all_triangles() -> None:
    generator = np.random.default_rng(1)
    soup = Mesh(generator.normal(size=(120, 3)), np.arange(120).reshape(-1, 3))
    points = generator.normal(size=(150, 3)) * 1.5
    found = MeshDistance(soup).unsigned(points)
    for point, distance, face, closest in zip(points, found.distance, found.faces, found.closest_points, strict=True):
        expected = min(_to_triangle(point, triangle) for triangle in soup.triangles)
        assert distance == pytest.approx(expected, abs=1e-12)
        assert _to_triangle(point, soup.triangles[face]) == pytest.approx(expected, abs=1e-12)
        assert np.linalg.norm(closest - point) == pytest.approx(expected, abs=1e-12)


def _to_triangle(point: NDArray[np.float64], triangle: NDArray[np.float64]) -> float:
    """The distance to one triangle: to its plane if the foot is inside, else to the nearest side."""
    normal = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
    normal /= np.linalg.norm(normal)
    foot = point - ((point - triangle[0]) @ normal) * normal
    distances = []
    inside = True
    for start, stop in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
        side = stop - start
        inside &= bool(np.cross(side, foot - start) @ normal >= 0)
        along = min(max(float((point - start) @ side / (side @ side)), 0.0), 1.0)
        distances.append(float(np.linalg.norm(start + along * side - point)))
    return abs(float((point - triangle[0]) @ normal)) if inside else min(distances)


def test_points_on_the_surface_have_distance_zero(box: Mesh) -> None:
    on_surface, _ = spread_over_surface(box, 500)
    assert np.abs(MeshDistance(box)(on_surface).sdf).max() < 1e-15


def test_sign_is_right_a_millionth_of_the_radius_from_the_surface(box: Mesh) -> None:
    on_surface, faces = spread_over_surface(box, 2000)
    step = 1e-6 * box.face_normals[faces]
    distance = MeshDistance(box)
    assert (distance(on_surface + step).sdf > 0).mean() > 0.999
    assert (distance(on_surface - step).sdf < 0).mean() > 0.999


def test_answers_come_in_the_order_of_the_questions(box: Mesh, points: NDArray[np.float64]) -> None:
    distance = MeshDistance(box)
    together = distance(points)
    for row in range(0, 2000, 97):
        alone = distance(points[row : row + 1])
        assert alone.sdf[0] == pytest.approx(together.sdf[row], abs=1e-14)
        np.testing.assert_allclose(alone.closest_points[0], together.closest_points[row], atol=1e-14)


def test_threads_may_share_one_distance(box: Mesh, points: NDArray[np.float64]) -> None:
    distance = MeshDistance(box)
    expected = distance(points)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: distance(points), range(32)):
            np.testing.assert_array_equal(found.sdf, expected.sdf)
            np.testing.assert_array_equal(found.faces, expected.faces)


def test_no_points_give_no_distances(box: Mesh) -> None:
    found = MeshDistance(box)(np.zeros((0, 3)))
    assert found.sdf.shape == (0,)
    assert found.winding.shape == (0,)
    assert found.faces.shape == (0,)
    assert found.closest_points.shape == (0, 3)
    assert MeshDistance(box).unsigned(np.zeros((0, 3))).distance.shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_points_that_are_not_finite_are_refused(box: Mesh, bad: float) -> None:
    points = np.zeros((3, 3))
    points[1, 2] = bad
    for ask in (MeshDistance(box), MeshDistance(box).unsigned, WindingNumber(box)):
        with pytest.raises(ValueError, match=r"points must be finite, got \[0\.0, 0\.0, .*\] in row 1 \(1 such rows\)"):
            ask(points)


def test_points_of_another_shape_are_refused(box: Mesh) -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\), got \(3, 100\)\. Transpose with points\.T\?"):
        MeshDistance(box)(np.zeros((3, 100)))
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        MeshDistance(box)(np.zeros(3))


def test_float32_and_strided_points_are_taken(box: Mesh, points: NDArray[np.float64]) -> None:
    strided = np.asfortranarray(points.astype(np.float32))[::3]
    np.testing.assert_allclose(MeshDistance(box)(strided).sdf, box_sdf(strided.astype(np.float64)), atol=1e-12)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((3, 3)), np.zeros((0, 3)), "no faces"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no faces"),
        (np.ones((3, 3)), [[0, 1, 2]], "zero extent"),
        ([[0, 0, 0], [1, 0, 0], [np.nan, 1, 0]], [[0, 1, 2]], "1 vertices that are NaN or infinite"),
        ([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], "all 1 faces of the mesh have zero area"),
    ],
)
def test_meshes_without_a_surface_are_refused(vertices: object, faces: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeshDistance(Mesh(vertices, faces))


def test_faces_without_area_are_passed_over(box: Mesh, points: NDArray[np.float64]) -> None:
    flat = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 0]])
    found = MeshDistance(Mesh(box.vertices, np.concatenate([flat, box.faces])))(points)
    np.testing.assert_allclose(found.sdf, box_sdf(points), atol=1e-12)
    assert found.faces.min() >= 3  # numbers count the faces of the mesh given


def test_sign_jump_is_found_across_a_hole_and_not_beside_the_surface(box: Mesh) -> None:
    open_box = Mesh(box.vertices, box.faces[box.face_normals[:, 2] < 0.5])  # without its top, at z = 0.25
    across = np.array([[0, 0, 0.2], [0, 0, 0.3], [0.3, 0.1, 0.25]])
    elsewhere = np.array([[0, 0, -0.24], [0, 0, -0.3], [0.3, 0.1, 2.0], [0.99, 0, -0.2]])
    distance = MeshDistance(open_box)
    assert at_sign_jump(distance(across)).all()
    assert not at_sign_jump(distance(elsewhere)).any()
    assert not at_sign_jump(MeshDistance(box)(np.concatenate([across, elsewhere]))).any()


def test_sign_jump_band_is_around_one_half() -> None:
    winding = np.array([0.0, 0.31, 0.5, 0.69, 1.0])
    distances = SignedDistances(np.ones(5), winding, np.zeros(5, dtype=np.int64), np.zeros((5, 3)), radius=1.0)
    assert at_sign_jump(distances).tolist() == [False, True, True, True, False]
    assert at_sign_jump(distances, band=0.1).tolist() == [False, False, True, False, False]


def test_winding_number_counts_overlapping_parts_and_cavities(box: Mesh) -> None:
    twice = Mesh(
        np.concatenate([box.vertices, box.vertices / 2, box.vertices / 4]),
        np.concatenate([box.faces, box.faces + 8, box.faces[:, ::-1] + 16]),
    )
    depths = np.array([[0, 0, 0.01], [0, 0, 0.1], [0, 0, 0.2], [0, 0, 0.3]])
    np.testing.assert_allclose(WindingNumber(twice)(depths), [1, 2, 1, 0], atol=1e-2)


def test_morton_order_is_a_permutation_that_keeps_neighbors_together(points: NDArray[np.float64]) -> None:
    order = morton_order(points)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(points)))
    steps = np.linalg.norm(np.diff(points[order], axis=0), axis=1).mean()
    assert steps < np.linalg.norm(np.diff(points, axis=0), axis=1).mean() / 3
    assert morton_order(np.ones((4, 3))).tolist() == [0, 1, 2, 3]


def test_spread_over_surface_follows_the_area(box: Mesh) -> None:
    points, faces = spread_over_surface(box, 1000)
    np.testing.assert_allclose(
        np.bincount(faces, minlength=12) / 1000, box.face_areas / box.face_areas.sum(), atol=2e-3
    )
    assert np.abs(box_sdf(points)).max() < 1e-15


@pytest.mark.parametrize(("given", "kept"), [(None, None), ("48", "48"), ("3", "3")])
def test_native_threads_are_capped_and_the_users_number_is_kept(given: str | None, kept: str | None) -> None:
    code = (
        "import os\n"
        "os.environ.pop('IGL_NUM_THREADS', None)\n"
        f"os.environ.update({{}} if {given!r} is None else dict(IGL_NUM_THREADS={given!r}))\n"
        "os.cpu_count = lambda: 96\n"
        "import sdfnet.mesh.distance\n"
        "print(os.environ['IGL_NUM_THREADS'])\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == (kept or "32")


def test_signs_and_jumps_are_those_of_exact_winding_numbers() -> None:
    generator = np.random.default_rng(2)
    angles = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    ring = np.stack([np.cos(angles), 0.15 * np.sin(angles)], axis=1)  # a flat tube, on which coarse sums are worst
    vertices = np.concatenate([np.column_stack([ring, np.full(160, z)]) for z in np.linspace(-1, 1, 80)])
    corner = (np.arange(79)[:, None] * 160 + np.arange(160)).ravel()
    right = corner - corner % 160 + (corner + 1) % 160
    faces = np.concatenate(
        [np.stack([corner, right, right + 160], axis=1), np.stack([corner, right + 160, corner + 160], axis=1)]
    )
    mesh = Mesh(vertices, faces)  # open at both ends
    points = spread_over_surface(mesh, 20_000)[0] + generator.normal(scale=0.1, size=(20_000, 3))
    found, exact = MeshDistance(mesh)(points), libigl().winding_number(mesh.vertices, mesh.faces, points)
    gap = np.abs(exact - 0.5)
    np.testing.assert_array_equal((found.sdf < 0)[gap > 1e-3], (exact > 0.5)[gap > 1e-3])
    assert (gap < JUMP_BAND).sum() > 100
    clear = np.abs(gap - JUMP_BAND) > 1e-3
    np.testing.assert_array_equal(at_sign_jump(found)[clear], (gap < JUMP_BAND)[clear])
    assert np.abs(found.winding - exact)[gap < JUMP_BAND].max() < 1e-3
