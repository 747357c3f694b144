"""Repairs and unions against closed forms: boxes and spheres whose distances are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.winding import WindingNumber, libigl, mesh_frame, probe_surface, spread_over_surface
from sdfnet.solids import walls
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.solid import Solid, make_solid

Points = NDArray[np.float64]

WINDING = SolidRule("winding")


def box(lower: tuple[float, float, float], upper: tuple[float, float, float], *, inward: bool = False) -> Mesh:
    made = trimesh.creation.box(bounds=[lower, upper])
    return Mesh(made.vertices, made.faces[:, ::-1] if inward else made.faces)


def sphere(radius: float = 1.0, *, center: tuple[float, float, float] = (0, 0, 0), inward: bool = False) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(made.vertices + np.array(center), made.faces[:, ::-1] if inward else made.faces)


def box_sdf(points: Points, lower: tuple[float, ...], upper: tuple[float, ...]) -> Points:
    middle, half = (np.array(lower) + upper) / 2, (np.array(upper) - lower) / 2
    beyond = np.abs(points - middle) - half
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solids with walls come from a coarse lattice."""
    monkeypatch.setattr(walls, "SPACING", 0.06)


def probes(num_points: int = 1500, *, half: float = 2.5) -> Points:
    return np.random.default_rng(0).uniform(-half, half, size=(num_points, 3))


def near(mesh: Mesh, *, num_points: int = 2000) -> Points:
    points, _ = spread_over_surface(mesh, num_points)
    return points + np.random.default_rng(1).normal(scale=1e-2, size=points.shape)


def inside_share(solid: Solid) -> float:
    return probe_surface(solid.mesh.to_unit(mesh_frame(solid.mesh))).solid


def flip(mesh: Mesh, share: float) -> Mesh:
    faces = mesh.faces.copy()
    rows = np.random.default_rng(2).permutation(len(faces))[: int(share * len(faces))]
    faces[rows] = faces[rows][:, ::-1]
    return Mesh(mesh.vertices, faces)


def flipped(mesh: Mesh) -> Mesh:
    return flip(mesh, 0.2)


def nearly_half_flipped(mesh: Mesh) -> Mesh:
    return flip(mesh, 0.45)


def inside_out(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def doubled(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[::5, ::-1]]))


def all_doubled(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def soup(mesh: Mesh) -> Mesh:
    triangles = mesh.triangles[np.random.default_rng(3).permutation(len(mesh.faces))]
    return Mesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))


def rounded_soup(mesh: Mesh) -> Mesh:
    apart = soup(mesh)
    return Mesh(apart.vertices + np.random.default_rng(4).uniform(-1e-8, 1e-8, apart.vertices.shape), apart.faces)


def everything(mesh: Mesh) -> Mesh:
    return soup(doubled(flipped(mesh)))


DAMAGES = [flipped, nearly_half_flipped, inside_out, doubled, all_doubled, soup, rounded_soup, everything]

SHAPES = {
    "sphere": sphere(),
    "torus": Mesh(*[getattr(trimesh.creation.torus(1.0, 0.3), name) for name in ("vertices", "faces")]),
    "hollow sphere": join_meshes([sphere(), sphere(0.5, inward=True)]),
    "two spheres": join_meshes([sphere(), sphere(0.5, center=(3, 0, 0))]),
    "ball in a hollow sphere": join_meshes([sphere(), sphere(0.7, inward=True), sphere(0.3)]),
    "far sphere": sphere(center=(1e6, 1e6, -1e6)),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", SHAPES)
def test_signs_are_those_of_the_undamaged_mesh(name: str, damage: Callable[[Mesh], Mesh]) -> None:
    mesh = SHAPES[name]
    points = near(mesh)
    middle = mesh.bounds.center
    truth = libigl().winding_number(mesh.vertices - middle, mesh.faces, points - middle) > 0.5
    solid = make_solid(damage(mesh))
    assert ((MeshDistance(solid.mesh)(points).sdf < 0) != truth).mean() <= 1e-3
    assert solid.closed
    assert solid.mesh.face_areas.sum() == pytest.approx(mesh.face_areas.sum(), rel=1e-6)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_signs_of_an_open_mesh_are_those_of_its_own_winding_number(damage: Callable[[Mesh], Mesh]) -> None:
    mesh = hemisphere()
    points = near(mesh)
    truth = libigl().winding_number(mesh.vertices, mesh.faces, points) > 0.5
    solid = make_solid(damage(mesh), rule=WINDING)
    assert ((MeshDistance(solid.mesh)(points).sdf < 0) != truth).mean() <= 1e-3
    assert not solid.closed


def test_a_good_mesh_comes_out_as_it_went_in() -> None:
    for mesh in (box((0, 0, 0), (1, 2, 3)), sphere(center=(1e6, 0, 0)), SHAPES["hollow sphere"]):
        solid = make_solid(mesh)
        assert solid.mesh is mesh
        assert solid.closed
        assert inside_share(solid) == pytest.approx(1, abs=5e-3)
    assert make_solid(sphere()).notes == ()


def test_notes_say_what_was_mended() -> None:
    mesh = sphere()
    assert make_solid(flipped(mesh)).notes == ("256 of 1280 faces turned: the winding was not consistent",)
    assert make_solid(inside_out(mesh)).notes == ("all 1280 faces turned: the winding was inward",)
    assert make_solid(doubled(mesh)).notes == ("256 duplicate faces dropped",)
    needle = Mesh(mesh.vertices, np.concatenate([mesh.faces, [[0, 0, 1]]]))
    assert make_solid(needle).notes == ("1 degenerate faces dropped",)
    assert make_solid(soup(mesh)).notes == ()
    assert make_solid(SHAPES["two spheres"]).notes == ("2 connected components",)


def test_cavities_are_kept_whatever_the_nesting() -> None:
    mesh = SHAPES["ball in a hollow sphere"]
    solid = make_solid(mesh)
    along = np.array([[0.0, 0, 0.2], [0, 0, 0.5], [0, 0, 0.85], [0, 0, 1.2]])
    assert (MeshDistance(solid.mesh)(along).sdf < 0).tolist() == [True, False, True, False]
    assert solid.num_components == 3


def test_distance_to_a_box_with_a_cavity_is_the_closed_form() -> None:
    solid = make_solid(join_meshes([box((-2, -2, -2), (2, 2, 2)), box((-1, -1, -1), (1, 1, 1), inward=True)]))
    points = probes()
    expected = np.maximum(box_sdf(points, (-2,) * 3, (2,) * 3), -box_sdf(points, (-1,) * 3, (1,) * 3))
    np.testing.assert_allclose(MeshDistance(solid.mesh)(points).sdf, expected, atol=1e-9)


def test_a_cavity_survives_the_union_with_an_overlapping_part() -> None:
    outer, cavity = box((-2, -2, -2), (2, 2, 2)), box((-1, -1, -1), (1, 1, 1), inward=True)
    solid = make_solid(join_meshes([outer, cavity, box((1.5, -1, -1), (3, 1, 1))]))
    assert solid.mesh.signed_volume == pytest.approx(64 - 8 + 1 * 2 * 2)
    points = np.array([[0.0, 0, 0], [1.4, 0, 0], [1.75, 0, 0], [2.5, 0, 0]])
    np.testing.assert_allclose(MeshDistance(solid.mesh)(points).sdf, [1, -0.4, -0.75, -0.5], atol=1e-9)
    assert solid.notes == ("3 overlapping or touching parts united into 1", "2 connected components")


def test_overlapping_boxes_are_their_union_without_buried_faces() -> None:
    solid = make_solid(join_meshes([box((-2, -1, -1), (1, 1, 1)), box((-1, -1, -1), (2, 1, 1))]))
    points = probes()
    np.testing.assert_allclose(
        MeshDistance(solid.mesh)(points).sdf, box_sdf(points, (-2, -1, -1), (2, 1, 1)), atol=1e-9
    )
    assert solid.mesh.face_areas.sum() == pytest.approx(4 * 4 * 2 + 2 * 4)
    assert solid.closed
    assert solid.num_components == 1
    assert solid.notes == ("2 overlapping or touching parts united into 1",)


def test_a_part_buried_in_another_is_no_surface() -> None:
    solid = make_solid(join_meshes([box((-2, -2, -2), (2, 2, 2)), box((-1, -1, -1), (1, 1, 1))]))
    points = probes()
    np.testing.assert_allclose(MeshDistance(solid.mesh)(points).sdf, box_sdf(points, (-2,) * 3, (2,) * 3), atol=1e-9)


@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-7, 1e-4, -1e-7])
@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_touching_boxes_are_one_box(gap: float, turn: float) -> None:
    """Different tessellations meet; rounding leaves a gap or an overlap; the common wall is no surface."""
    axis = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    left, right = box((-2, -1, -1), (0, 1, 1)), box((gap, -1, -1), (2, 1, 1))
    right = Mesh(right.vertices, np.roll(right.faces, 5, axis=0))
    joined = join_meshes([left, right])
    tilt = axis @ np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    solid = make_solid(Mesh(joined.vertices @ tilt.T, joined.faces))
    points = probes()
    found = MeshDistance(solid.mesh)(points @ tilt.T).sdf
    np.testing.assert_allclose(found, box_sdf(points, (-2, -1, -1), (2, 1, 1)), atol=max(1e-5, 2 * abs(gap)))
    assert solid.num_components == 1


def test_touching_boxes_with_the_same_wall_triangles_are_one_box() -> None:
    left = box((-1, -1, -1), (0, 1, 1))
    right = Mesh(left.vertices * [-1, 1, 1], left.faces[:, ::-1])
    walls_dropped = "2 faces of walls between touching parts dropped"
    for mesh, note in (
        (join_meshes([left, right]), "2 overlapping or touching parts united into 1"),  # each closed by itself
        (soup(join_meshes([left, right])), walls_dropped),  # or one body with a wall in it
        (soup(flip(join_meshes([left, right]), 0.05)), walls_dropped),
    ):
        solid = make_solid(mesh)
        points = probes()
        np.testing.assert_allclose(
            MeshDistance(solid.mesh)(points).sdf, box_sdf(points, (-1,) * 3, (1,) * 3), atol=1e-9
        )
        assert solid.notes[0] == note


def test_boxes_on_a_grid_are_their_union_however_they_touch() -> None:
    """Common corners, edges, walls and coincident faces, apart or as a soup, straight or turned."""
    generator = np.random.default_rng(7)
    for trial in range(25):
        lowers = generator.integers(0, 4, size=(5, 3)).astype(float)
        uppers = lowers + generator.integers(1, 3, size=(5, 3))
        turn = np.linalg.qr(generator.normal(size=(3, 3)))[0] if trial % 2 else np.eye(3)
        joined = join_meshes([box(tuple(low), tuple(high)) for low, high in zip(lowers, uppers, strict=True)])
        mesh = Mesh(joined.vertices @ turn, joined.faces if np.linalg.det(turn) > 0 else joined.faces[:, ::-1])
        solid = make_solid(soup(mesh) if trial % 3 == 0 else mesh)
        points = generator.uniform(-1, 6, size=(400, 3))
        expected = np.min([box_sdf(points, low, high) for low, high in zip(lowers, uppers, strict=True)], axis=0)
        sdf = MeshDistance(solid.mesh)(points @ turn).sdf
        np.testing.assert_allclose(sdf[expected > 0], expected[expected > 0], atol=2e-5)
        assert (sdf[expected < 0] <= expected[expected < 0] + 2e-5).all()  # no buried face is nearer than a box's own
        assert solid.closed


def test_boxes_that_share_an_edge_keep_their_distance() -> None:
    mesh = soup(join_meshes([box((-1, -1, -1), (0, 0, 1)), box((0, 0, -1), (1, 1, 1))]))
    solid = make_solid(mesh)
    points = probes()
    expected = np.minimum(box_sdf(points, (-1, -1, -1), (0, 0, 1)), box_sdf(points, (0, 0, -1), (1, 1, 1)))
    np.testing.assert_allclose(MeshDistance(solid.mesh)(points).sdf, expected, atol=1e-9)
    assert solid.closed


def crossing_balls() -> Mesh:
    """Two overlapping balls, one surface: joined by a tube between a face of one and its mirror image."""
    left = sphere()
    right = Mesh(left.vertices * [-1, 1, 1] + [1, 0, 0], left.faces[:, ::-1])
    face = int(np.argmax(left.triangles.mean(axis=1) @ [0, 0, 1]))
    a, b, c = left.faces[face].tolist()
    tube = [[i, j, j + 642] for i, j in ((a, b), (b, c), (c, a))]
    tube += [[i, j + 642, i + 642] for i, j in ((a, b), (b, c), (c, a))]
    faces = np.concatenate([np.delete(left.faces, face, 0), np.delete(right.faces, face, 0) + 642, tube])
    return Mesh(np.concatenate([left.vertices, right.vertices]), faces)


def test_with_winding_a_surface_that_crosses_itself_is_kept_and_noted() -> None:
    solid = make_solid(crossing_balls(), rule=WINDING)
    assert solid.closed
    assert solid.num_components == 1
    assert re.match(r"overlaps kept: 2\d\.\d% of the surface lies buried", solid.notes[0])  # a quarter of each ball
    assert (MeshDistance(solid.mesh)(np.array([[-0.5, 0, 0], [0.5, 0, 0], [1.5, 0, 0]])).sdf < 0).all()


def test_parts_apart_are_left_as_they_are() -> None:
    mesh = join_meshes([box((-2, -1, -1), (-0.1, 1, 1)), box((0.1, -1, -1), (2, 1, 1))])
    solid = make_solid(mesh)
    assert solid.mesh is mesh
    assert solid.num_components == 2


def test_a_part_inside_out_beside_the_others_is_turned_outward() -> None:
    apart, jutting = sphere(0.4, center=(5, 0, 0), inward=True), sphere(0.5, center=(2.2, 0, 0), inward=True)
    solid = make_solid(join_meshes([sphere(2.0), apart, jutting]))
    assert (MeshDistance(solid.mesh)(np.array([[5.0, 0, 0], [0, 0, 0], [1.9, 0, 0], [2.6, 0, 0]])).sdf < 0).all()
    assert solid.mesh.signed_volume > sphere(2.0).signed_volume + sphere(0.4).signed_volume


def cap(polar: float) -> Mesh:
    """The part of the unit sphere within `polar` (radians) of the pole, open at its rim."""
    rings, around = 20, 60
    theta, phi = np.linspace(0, polar, rings + 1)[1:], np.linspace(0, 2 * np.pi, around, endpoint=False)
    t, p = (grid.reshape(-1) for grid in np.meshgrid(theta, phi, indexing="ij"))
    vertices = np.concatenate([[[0.0, 0, 1]], np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], 1)])
    here, beside = np.arange(around), (np.arange(around) + 1) % around
    faces = [np.stack([np.zeros(around, dtype=int), 1 + here, 1 + beside], axis=1)]
    for ring in range(rings - 1):
        upper, lower = 1 + ring * around, 1 + (ring + 1) * around
        faces.append(np.stack([upper + here, lower + here, lower + beside], axis=1))
        faces.append(np.stack([upper + here, lower + beside, upper + beside], axis=1))
    return Mesh(vertices, np.concatenate(faces))


def hemisphere() -> Mesh:
    return cap(np.pi / 2)


def test_an_open_hemisphere_is_half_a_ball_and_its_hole_is_measured() -> None:
    solid = make_solid(hemisphere(), rule=WINDING)
    assert not solid.closed
    assert solid.holes.num_holes == 1
    assert solid.holes.area == pytest.approx(np.pi, rel=1e-2)
    assert solid.holes.num_edges > 30
    assert solid.notes[0].startswith(f"open: {solid.holes.num_edges} border edges around 1 holes")
    depths = np.array([[0, 0, 0.2], [0, 0, -0.2], [0.5, 0, 0.1], [0.5, 0, -0.1]])
    assert (WindingNumber(solid.mesh)(depths) > 0.5).tolist() == [True, False, True, False]


def wavy_sheet(height: float) -> Mesh:
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 30), indexing="ij"), axis=-1).reshape(-1, 2)
    vertices = np.column_stack([grid, height * np.sin(5 * grid[:, 0]) * np.cos(4 * grid[:, 1])])
    first = np.arange(29 * 30).reshape(29, 30)[:, :29].reshape(-1)
    faces = np.concatenate(
        [np.stack([first, first + 30, first + 1], 1), np.stack([first + 1, first + 30, first + 31], 1)]
    )
    return Mesh(vertices, faces)


SHEETS = {
    "flat": wavy_sheet(0.0),
    "wavy": wavy_sheet(0.1),
    "both sides": all_doubled(wavy_sheet(0.1)),
    "triangle": Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]),
    "shallow bowl": cap(0.3),
}


@pytest.mark.parametrize("name", SHEETS)
@pytest.mark.usefixtures("coarse")
def test_with_winding_sheets_are_refused_unless_a_thickness_is_given(name: str) -> None:
    with pytest.raises(ValueError, match=r"is a sheet: \d+% of its surface has an inside .*Give a thickness"):
        make_solid(SHEETS[name], rule=WINDING)
    solid = make_solid(SHEETS[name], rule=SolidRule("winding", thickness=0.2))
    assert solid.wall_thickness == pytest.approx(0.2)
    assert solid.closed
    assert any("taken as walls 0.2 thick" in note for note in solid.notes)


@pytest.mark.parametrize("choice", ["auto", "winding"])
def test_thickness_changes_nothing_on_a_solid(choice: str) -> None:
    mesh = sphere()
    solid = make_solid(mesh, rule=SolidRule(choice, thickness=0.05))
    assert solid.wall_thickness is None
    assert solid.mesh is mesh


def test_with_winding_thin_plates_are_solids() -> None:
    solid = make_solid(box((-1, -1, 0), (1, 1, 5e-4)), rule=WINDING)
    assert solid.wall_thickness is None
    assert solid.closed


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (Mesh(np.zeros((4, 3)), np.zeros((0, 3))), "no faces"),
        (Mesh([[0, 0, 0], [1, 0, 0], [0, np.inf, 0]], [[0, 1, 2]]), "1 vertices that are NaN or infinite"),
        (Mesh(np.ones((3, 3)), [[0, 1, 2]]), "zero extent"),
        (Mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]]), "all 1 faces of the mesh are degenerate"),
        (Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 1], [2, 2, 2]]), "all 2 faces of the mesh are degenerate"),
    ],
)
def test_meshes_without_a_surface_are_refused(mesh: Mesh, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_solid(mesh)


def test_needles_that_close_a_mesh_stay_and_others_go() -> None:
    """A box whose one edge has a vertex in the middle on one side only: a needle without area fills the slit."""
    mesh = box((-1, -1, -1), (1, 1, 1))
    split = Mesh(*_with_t_junction(mesh))
    solid = make_solid(split)
    assert solid.closed
    points = probes()
    np.testing.assert_allclose(MeshDistance(solid.mesh)(points).sdf, box_sdf(points, (-1,) * 3, (1,) * 3), atol=1e-9)


def _with_t_junction(mesh: Mesh) -> tuple[Points, NDArray[np.int64]]:
    a, b, c = mesh.faces[0].tolist()
    middle = len(mesh.vertices)
    vertices = np.concatenate([mesh.vertices, [(mesh.vertices[a] + mesh.vertices[b]) / 2]])
    return vertices, np.concatenate([mesh.faces[1:], [[a, middle, c], [middle, b, c], [a, b, middle]]])


@pytest.mark.usefixtures("coarse")
def test_whatever_the_faces_are_the_process_survives() -> None:
    """Random connectivity: non-manifold, non-orientable, degenerate. An answer or a ValueError, never a crash."""
    generator = np.random.default_rng(5)
    for num_vertices in (3, 4, 6, 12):
        for _ in range(10):
            faces = generator.integers(0, num_vertices, size=(generator.integers(1, 40), 3))
            mesh = Mesh(generator.integers(-2, 3, size=(num_vertices, 3)).astype(float), faces)
            try:
                solid: Solid = make_solid(mesh, rule=SolidRule(thickness=1.0))
            except ValueError:
                continue
            assert np.isfinite(MeshDistance(solid.mesh)(probes(20)).sdf).all()


def test_a_moebius_strip_is_a_sheet() -> None:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    half = np.stack([np.cos(angle / 2) * np.cos(angle), np.cos(angle / 2) * np.sin(angle), np.sin(angle / 2)], axis=1)
    circle = 2 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    vertices = np.concatenate([circle + half / 2, circle - half / 2])
    faces = []
    for i in range(40):
        one, two = (i + 1, i + 41) if i < 39 else (40, 0)
        faces += [[i, one, i + 40], [i + 40, one, two]]
    with pytest.raises(ValueError, match="is a sheet"):
        make_solid(Mesh(vertices, faces), rule=WINDING)


def test_the_open_bunny_keeps_its_signs(data_folder: Path) -> None:
    loaded = trimesh.load(data_folder / "singles" / "bunny_original_open.ply", process=False)
    mesh = Mesh(loaded.vertices, loaded.faces)
    points, _ = spread_over_surface(mesh, 3000)
    points = points + np.random.default_rng(1).normal(scale=1e-3, size=points.shape)
    truth = libigl().winding_number(mesh.vertices, mesh.faces, points) > 0.5
    for damage in (flipped, everything):
        solid = make_solid(damage(mesh))
        assert ((MeshDistance(solid.mesh)(points).sdf < 0) != truth).mean() <= 1e-3
        assert solid.holes.num_holes == 5


def test_blobs_are_united(data_folder: Path) -> None:
    """Convex decompositions with gaps of 10⁻⁴ of the radius between their pieces, some with edges of four faces."""
    for number, num_components in {0: 1, 5: 1, 14: 1, 37: 1, 101: 1, 110: 1, 121: 1, 217: 2}.items():
        loaded = trimesh.load(data_folder / "blobs" / f"{number:03d}.obj", process=False, force="mesh")
        mesh = Mesh(loaded.vertices, loaded.faces)
        solid = make_solid(mesh)
        assert any("united into 1" in note for note in solid.notes), (number, solid.notes)
        assert solid.closed
        assert solid.num_components == num_components  # flakes of rounding are none
        assert inside_share(solid) > 0.98
        points, _ = spread_over_surface(mesh, 1000)
        points = points + np.random.default_rng(1).normal(scale=0.03 * mesh.bounds.extent.max(), size=points.shape)
        truth = libigl().winding_number(mesh.vertices, mesh.faces, points) > 0.5
        assert ((MeshDistance(solid.mesh)(points).sdf < 0) != truth).mean() <= 2e-3
