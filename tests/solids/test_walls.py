"""Meshes as people have them, each against the space that a person would call its inside.

Every case is the small twin of a file that went wrong: without walls, these meshes were refused, filled, or lost parts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from sdfnet.extraction import extract_mesh
from sdfnet.fields import gradient
from sdfnet.mesh.components import orient_components, split_components
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.topology import cap_holes, check_closed, components_and_genus
from sdfnet.mesh.visibility import visible_points
from sdfnet.mesh.winding import spread_over_surface
from sdfnet.rendering import render_solids
from sdfnet.solids import walls
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.solid import Solid, make_solid
from sdfnet.solids.source_shape import check_folder, load_solid, worst_solids

THICK = SolidRule(thickness=0.1)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """New surfaces come from a coarse lattice, which is quick."""
    monkeypatch.setattr(walls, "SPACING", 0.03)


def box(lower: tuple[float, ...], upper: tuple[float, ...]) -> Mesh:
    made = trimesh.creation.box(bounds=[lower, upper])
    return Mesh(made.vertices, made.faces)


def panel(lower: tuple[float, ...], upper: tuple[float, ...]) -> Mesh:
    """A rectangle without thickness: the one axis along which `lower` and `upper` agree is its normal."""
    low, high = np.array(lower, dtype=float), np.array(upper, dtype=float)
    one, two = np.flatnonzero(low != high)
    corners = np.tile(low, (4, 1))
    corners[1:3, one], corners[2:, two] = high[one], high[two]
    return Mesh(corners, [[0, 1, 2], [0, 2, 3]])


def both_sides(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def soup(mesh: Mesh) -> Mesh:
    return Mesh(mesh.triangles.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))


def bowl() -> Mesh:
    """The lower half of a sphere, open above, without thickness."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    return Mesh(ball.vertices, ball.faces[ball.triangles_center[:, 2] < 0])


def tube(height: float) -> Mesh:
    """A cylinder along z, open at both ends."""
    made = trimesh.creation.cylinder(radius=0.3, height=height, sections=24)
    return Mesh(made.vertices, made.faces[np.abs(made.face_normals[:, 2]) < 0.5])


def bowtie() -> Mesh:
    """A closed prism over two triangles that share a point: one of them is inside out."""
    outline = np.array([[-1.0, -1], [1, 1], [1, -1], [-1, 1]])
    vertices = np.concatenate([np.column_stack([outline, np.full(4, z)]) for z in (-0.5, 0.5)])
    sides = [[k, (k + 1) % 4, 4 + (k + 1) % 4] for k in range(4)] + [[k, 4 + (k + 1) % 4, 4 + k] for k in range(4)]
    middle = np.array([[0, 0, -0.5], [0, 0, 0.5]])
    caps = [[3, 0, 8], [1, 2, 8]]
    caps += [[4 + a, b + 4 if b < 8 else 9, 9 if c == 8 else c] for a, b, c in ((0, 3, 8), (2, 1, 8))]
    crossings = [[0, 1, 8], [2, 3, 8], [5, 4, 9], [7, 6, 9]]  # degenerate: they keep the caps and the sides together
    return Mesh(np.concatenate([vertices, middle]), np.array(sides + caps + crossings))


def sdf(solid: Solid, *points: tuple[float, float, float]) -> list[float]:
    return list(MeshDistance(solid.mesh)(np.array(points)).sdf)


def test_a_panel_beside_a_closed_seat_stays_as_a_wall() -> None:
    seat, back = box((-1, -1, 0), (1, 1, 0.3)), panel((-1, 1, 0.3), (1, 1, 2))
    for mesh in (join_meshes([seat, back]), join_meshes([seat, both_sides(back)])):
        solid = make_solid(mesh, rule=THICK)
        assert solid.closed
        assert solid.wall_thickness == pytest.approx(0.1)
        inside, beside, seat_inside = sdf(solid, (0, 1, 1.5), (0, 1.2, 1.5), (0, 0, 0.15))
        assert inside == pytest.approx(-0.05, abs=0.01)
        assert beside == pytest.approx(0.15, abs=0.01)
        assert seat_inside == pytest.approx(-0.15, abs=0.01)
        assert solid.visible_kept > 0.99


def test_a_plate_with_a_hole_is_a_wall_of_the_given_thickness_and_the_hole_stays_open() -> None:
    frame = [((-1, -1, 0), (1, -0.5, 0)), ((-1, 0.5, 0), (1, 1, 0)), ((-1, -0.5, 0), (-0.5, 0.5, 0))]
    plate = soup(join_meshes([panel(*sides) for sides in [*frame, ((0.5, -0.5, 0), (1, 0.5, 0))]]))
    for choice in ("auto", "winding"):
        solid = make_solid(plate, rule=SolidRule(choice, thickness=0.1))
        assert solid.mesh.bounds.extent[2] == pytest.approx(0.1, abs=0.01)
        hole, wall = sdf(solid, (0, 0, 0), (0.75, 0, 0))
        assert hole == pytest.approx(0.45, abs=0.02)
        assert wall == pytest.approx(-0.05, abs=0.01)
        assert check_closed(solid.mesh).is_clean


def test_a_bowl_is_open_above() -> None:
    solid = make_solid(bowl(), rule=THICK)
    inside_of_the_bowl, wall = sdf(solid, (0, 0, -0.5), (0, 0, -1))
    assert inside_of_the_bowl > 0.3
    assert wall < -0.03


def test_a_long_tube_is_a_solid_leg_and_a_short_one_a_wall_in_any_soup() -> None:
    for mesh in (tube(2), both_sides(tube(2)), soup(tube(2))):
        assert sdf(make_solid(mesh), (0, 0, 0)) == [pytest.approx(-0.3, abs=0.01)]
    for mesh in (tube(0.5), both_sides(tube(0.5)), soup(tube(0.5))):
        middle, wall = sdf(make_solid(mesh, rule=THICK), (0, 0, 0), (0.29, 0, 0))
        assert middle == pytest.approx(0.25, abs=0.02)
        assert wall < -0.03


def test_a_scan_without_its_bottom_is_a_solid() -> None:
    scan = box((-1, -1, -1), (1, 1, 1))
    scan = Mesh(scan.vertices, scan.faces[~(scan.triangles[:, :, 2] == -1).all(axis=1)])
    solid = make_solid(scan)
    assert solid.wall_thickness is None
    assert not solid.closed
    assert sdf(solid, (0, 0, 0)) == [pytest.approx(-1)]


def stand() -> Mesh:
    """A round foot on a column, one surface without an underside and open above: a lathe of these radii."""
    outline = [(1.0, 0.0), (1.0, 0.1), (0.25, 0.1), (0.2, 1.5)]
    made = trimesh.creation.revolve(np.array(outline), sections=48)
    return Mesh(made.vertices, made.faces)


def dish(depth: float) -> Mesh:
    """A round tray without thickness, of the radius 1 and so deep, open below."""
    made = trimesh.creation.revolve(np.array([(1.0, 0.0), (1.0, depth), (0.5, depth), (0.0, depth)]), sections=48)
    return Mesh(made.vertices, made.faces)


def test_a_flat_underside_that_is_missing_is_closed_and_trays_and_bowls_stay_open() -> None:
    caps = cap_holes(stand())
    assert caps.areas.sum() / stand().face_areas.sum() > 0.45
    solid = make_solid(stand())
    assert solid.wall_thickness is None
    under, foot, beside = sdf(solid, (0.6, 0, -0.05), (0.6, 0, 0.05), (0.6, 0, 0.15))
    assert foot < 0 < min(under, beside)
    assert "1 wide, shallow hole closed by a flat cap" in solid.notes
    assert solid.holes.num_holes == 1  # The column is open above.
    for depth in (0.1, 0.2, 0.3, 0.5, 0.9):
        assert make_solid(dish(depth), rule=THICK).wall_thickness == pytest.approx(0.1)
    assert make_solid(dish(1.2)).wall_thickness is None  # A can: its cap is less than a third of its area.


def hollow_stand() -> Mesh:
    """A round foot on a pipe, without an underside: its two flat rims lie in one plane, one within the other."""
    outline = [(1.0, 0.0), (1.0, 0.1), (0.25, 0.1), (0.25, 1.5), (0.15, 1.5), (0.15, 0.0)]
    made = trimesh.creation.revolve(np.array(outline), sections=48)
    return Mesh(made.vertices, made.faces)


def test_nested_flat_rims_are_closed_by_a_ring_and_not_by_a_disc() -> None:
    solid = make_solid(hollow_stand())
    assert (solid.closed, solid.wall_thickness, solid.holes.num_holes) == (True, None, 0)
    turns = 48 / 2 * np.sin(2 * np.pi / 48)  # of a polygon of 48 sides, times the squared radius
    assert solid.mesh.signed_volume == pytest.approx(turns * (0.1 * (1 - 0.25**2) + 1.5 * 0.25**2 - 1.5 * 0.15**2))
    assert components_and_genus(solid.mesh).genus == 1
    ring = trimesh.creation.revolve(np.array([(1.0, 0.0), (1.0, 0.3), (0.5, 0.3), (0.5, 0.0)]), sections=48)
    trough = make_solid(Mesh(ring.vertices, ring.faces), rule=THICK)
    assert trough.wall_thickness == pytest.approx(0.1), "a trough stays open, as a tray does"


def test_both_lobes_of_a_bowtie_are_inside() -> None:
    solid = make_solid(bowtie())
    assert solid.wall_thickness is None
    left, right, above = sdf(solid, (-0.7, 0, 0), (0.7, 0, 0), (0, 0.7, 0))
    assert left < -0.15
    assert right < -0.15
    assert above > 0.15
    assert not any("no inside" in note for note in solid.notes)


def test_an_inner_shell_that_faces_outward_is_filled_and_the_note_says_how_to_make_a_cavity() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    outer, inner = Mesh(ball.vertices, ball.faces), Mesh(0.5 * ball.vertices, ball.faces)
    solid = make_solid(join_meshes([outer, inner]))
    assert sdf(solid, (0, 0, 0))[0] < -0.9
    note = "1 part lies inside another part and is filled; turn the faces inward to make a cavity of it"
    assert solid.notes == (note,)
    hollow = make_solid(join_meshes([outer, Mesh(inner.vertices, inner.faces[:, ::-1])]))
    assert sdf(hollow, (0, 0, 0))[0] > 0.4
    assert not any("filled" in note for note in hollow.notes)


def test_cavities_of_solids_stay_and_hollows_between_walls_are_filled() -> None:
    shell = join_meshes([box((-1, -1, -1), (1, 1, 1)), _inward(box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)))])
    sides = [panel((2, -1, z), (4, 1, z)) for z in (-1, 1)] + [panel((x, -1, -1), (x, 1, 1)) for x in (2, 4)]
    sides += [panel((2, y, -1), (4, y, 1)) for y in (-1, 1)]
    apart = join_meshes([Mesh(side.vertices + 1e-3 * number, side.faces) for number, side in enumerate(sides)])
    solid = make_solid(join_meshes([shell, apart]), rule=SolidRule(thickness=0.3))
    cavity, hollow = sdf(solid, (0, 0, 0), (3, 0, 0))
    assert cavity == pytest.approx(0.5, abs=0.05)
    assert hollow < -0.9


def _inward(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def test_the_way_to_unite_parts_depends_on_counts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crossing boxes have one pair, with 24 faces."""
    crossing = join_meshes([box((-1, -0.3, -0.3), (1, 0.3, 0.3)), box((-0.3, -1, -0.3), (0.3, 1, 0.3))])
    parts = orient_components(split_components(crossing))
    assert not walls.exceeds_union(parts)
    exact = make_solid(crossing)
    for bound, value in (("MOST_PAIRS", 0), ("MOST_PAIR_FACES", 23)):
        with monkeypatch.context() as patch:
            patch.setattr(walls, bound, value)
            assert walls.exceeds_union(parts)
            solid = make_solid(crossing)
            assert "all 2 parts made into one new surface" in solid.notes
            assert check_closed(solid.mesh).is_clean
            points, _ = spread_over_surface(exact.mesh, 500)
            assert MeshDistance(solid.mesh).unsigned(points).distance.max() < 0.02


def test_which_parts_are_walls() -> None:
    thin = (1, 1, 0.004)
    made = {
        "cube": (box((0, 0, 0), (1, 1, 1)), False),
        "plate": (box((0, 0, 0), thin), True),
        "plate on a cube": (join_meshes([box((0, 0, 0), thin), box((0, 0, -1), (1, 1, -1e-4))]), False),
        "panel": (panel((0, 0, 0), (1, 1, 0)), True),
        "bowl": (bowl(), True),
    }
    for name, (mesh, expected) in made.items():
        parts = orient_components(split_components(mesh))
        assert walls.find_walls(parts, depth=0.008).any() == expected, name


def test_a_wall_takes_a_lattice_that_resolves_it_or_is_refused() -> None:
    sheet = panel((-1, -1, 0), (1, 1, 0))
    solid = make_solid(sheet, rule=SolidRule(thickness=0.03))
    assert solid.mesh.bounds.extent[2] == pytest.approx(0.03, abs=2e-3)
    with pytest.raises(ValueError, match=r"thickness: 0\.00\d+ of the radius is too small.*Give a larger thickness"):
        make_solid(sheet, rule=SolidRule(thickness=0.001))


@pytest.mark.parametrize("make", [lambda: walls._SolidField(box((0, 0, 0), (1, 1, 1)), is_closed=True),
                                  lambda: walls._WallField(panel((0, 0, 0.5), (1, 1, 0.5)), 0.5)])  # fmt: skip
def test_fields_of_solids_and_walls_are_bounds_with_the_gradient_of_their_distance(make: Callable[[], object]) -> None:
    field, generator = make(), torch.Generator().manual_seed(0)
    points = torch.rand(200, 3, dtype=torch.float64, generator=generator) * 3 - 1
    values = field(points)
    steps = (points[:, None] - points[None]).norm(dim=-1)
    assert ((values[:, None] - values[None]).abs() <= steps + 1e-9).all()
    slopes = gradient(field, points)
    along = field(points + 1e-6 * slopes) - values
    assert along.numpy() == pytest.approx(np.full(200, 1e-6), abs=1e-9)
    assert field(points.reshape(2, 100, 3)).shape == (2, 100)
    assert field(points[:0]).shape == (0,)
    assert extract_mesh(field, resolution=16).signed_volume > 0


def test_outer_fills_what_narrow_gaps_close_off_and_leaves_wide_openings_open() -> None:
    """A box of six loose panels with slits of 0.02 between them, and the same box without its lid."""
    slit, sides = 0.02, []
    for axis in range(3):
        for place in (-1.0, 1.0):
            low, high = np.full(3, -1 + slit), np.full(3, 1 - slit)
            low[axis] = high[axis] = place
            sides.append(panel(tuple(low), tuple(high)))
    rule = SolidRule("outer", gap=0.12)
    full = make_solid(join_meshes(sides), rule=rule)
    middle, below_the_side, outside = sdf(full, (0, 0, 0), (0, 0, 0.8), (0, 0, 1.3))
    assert middle == pytest.approx(-1, abs=0.02)
    assert below_the_side == pytest.approx(-0.2, abs=0.02)
    assert outside == pytest.approx(0.3, abs=0.02)  # The surface lies on the mesh, not half a gap outside.
    assert full.closed
    assert full.mesh.bounds.extent == pytest.approx(2, abs=0.01)
    opened = make_solid(join_meshes(sides[:-1]), rule=rule)
    assert sdf(opened, (0, 0, 0))[0] > 0.5
    assert opened.visible_kept > 0.99  # Panels that stick out become walls.
    with pytest.raises(ValueError, match=r"gap: .* of the radius is too small.*Give a larger gap"):
        make_solid(join_meshes(sides), rule=SolidRule("outer", gap=1e-3))


def test_only_what_is_seen_from_outside_counts_as_visible() -> None:
    hidden = join_meshes([box((-1, -1, -1), (1, 1, 1)), box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))])
    seen = visible_points(hidden, 1000)
    assert len(seen) == pytest.approx(800, abs=5)
    assert np.abs(seen).max(axis=1).min() > 0.99
    assert len(visible_points(panel((-1, -1, 0), (1, 1, 0)), 100)) == 100


def test_check_takes_workers_and_draws_noted_meshes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = box((0, 0, 0), (1, 1, 1))
    flipped_box = Mesh(whole.vertices, np.concatenate([whole.faces[:1, ::-1], whole.faces[1:]]))
    for number in range(3):
        save_mesh(box((0, 0, 0), (1, 1, 1 + number)), tmp_path / "meshes" / f"box_{number}.obj")
    save_mesh(flipped_box, tmp_path / "meshes" / "odd" / "flipped.obj")
    alone = check_folder(tmp_path / "meshes", num_workers=1, solids=tmp_path / "solids")
    monkeypatch.setattr("sdfnet.solids.source_shape._ALONE_SECONDS", -1.0)
    together = check_folder(tmp_path / "meshes", shapes="box_*", num_workers=2)
    assert together == alone[:3]
    assert [report.status for report in alone] == ["used"] * 3 + ["noted"]
    assert (alone[0].solid, alone[0].wall_thickness, alone[0].visible_kept) == ("auto", None, 1.0)
    (drawn,) = render_solids(alone, tmp_path / "out", size=(64, 64))
    assert drawn == tmp_path / "out" / "pictures" / "odd" / "flipped.png"
    assert drawn.stat().st_size > 500
    monkeypatch.setattr("sdfnet.rendering.shapes.inspect_mesh", lambda *_, **__: pytest.fail("read a second time"))
    assert render_solids(alone, tmp_path / "again", solids=tmp_path / "solids", size=(64, 64))


def test_only_the_solids_that_are_drawn_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdfnet.solids.source_shape.MOST_SOLIDS", 2)
    whole = box((0, 0, 0), (1, 1, 1))
    for name, faces in (("flip", whole.faces[:, ::-1]), ("open", whole.faces[1:]), ("both", whole.faces[1:, ::-1])):
        save_mesh(Mesh(whole.vertices, faces), tmp_path / f"{name}.ply")
    reports = check_folder(tmp_path, solids=tmp_path / "solids")
    assert [report.name for report in worst_solids(reports)] == ["both", "flip"]
    assert [load_solid(tmp_path / "solids", name) is not None for name in ("both", "flip", "open")] == [
        True,
        True,
        False,
    ]
