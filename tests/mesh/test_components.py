"""Loose pieces: spheres of known volume, side by side and inside each other."""

import math

import numpy as np
import pytest

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Difference, Sphere, Union
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.components import drop_loose_components, drop_specks, nest_components
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.topology import components_and_genus


def ball(radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0), *, inward: bool = False) -> Mesh:
    mesh = extract_mesh(Sphere(1.0), resolution=24)
    faces = mesh.faces[:, ::-1] if inward else mesh.faces
    return Mesh(radius * mesh.vertices + np.array(center), faces, mesh.vertex_normals)


def side_by_side(*meshes: Mesh) -> Mesh:
    joined = join_meshes(list(meshes))
    return Mesh(joined.vertices, joined.faces, np.concatenate([mesh.vertex_normals for mesh in meshes]))


def test_shares_of_balls_are_those_of_the_cubes_of_their_radii() -> None:
    pieces = nest_components(side_by_side(ball(1.0), ball(0.5, (3, 0, 0)), ball(0.25, (0, 3, 0))))
    whole = 1 + 0.5**3 + 0.25**3
    assert pieces.shares == pytest.approx([1 / whole, 0.5**3 / whole, 0.25**3 / whole], rel=1e-9)
    assert np.bincount(pieces.is_cavity, minlength=2).tolist() == [3, 0]


def test_only_what_is_below_the_bound_is_removed_and_it_is_told() -> None:
    body = ball(1.0)
    speck, part = ball(0.04, (0.0, 2.0, 0.0)), ball(0.06, (0.0, 0.0, 2.0))  # 6.4e-5 and 2.16e-4 of the ball's volume
    clean = drop_loose_components(side_by_side(speck, body, part), min_share=1e-4)
    expected = side_by_side(body, part)
    assert (clean.mesh.vertices == expected.vertices).all()
    assert (clean.mesh.faces == expected.faces).all()
    assert (clean.mesh.vertex_normals == expected.vertex_normals).all()
    (removed,) = clean.removed
    assert removed.share == pytest.approx(0.04**3 / (1 + 0.04**3 + 0.06**3), rel=1e-9)
    assert removed.center == pytest.approx((0, 2, 0), abs=1e-9)
    assert (removed.is_cavity, clean.num_components) == (False, 2)


def test_a_mesh_without_loose_pieces_comes_back_itself() -> None:
    mesh = side_by_side(ball(1.0), ball(0.01, (2, 0, 0)))
    assert drop_loose_components(mesh, min_share=0).mesh is mesh
    assert drop_loose_components(mesh, min_share=1e-7).mesh is mesh
    assert drop_loose_components(ball(1.0)).mesh.faces.shape == ball(1.0).faces.shape


def test_a_cavity_belongs_to_what_it_lies_in() -> None:
    hollow = side_by_side(ball(0.5, (3, 0, 0)), ball(0.45, (3, 0, 0), inward=True), ball(2.0))
    pieces = nest_components(hollow)
    assert pieces.host.tolist() == [-1, 0, -1]
    net = 0.5**3 - 0.45**3
    assert pieces.shares[[0, 2]] == pytest.approx([net / (8 + net), 8 / (8 + net)])
    kept = drop_loose_components(hollow, min_share=0.003)
    assert (len(kept.removed), kept.num_components, kept.num_cavities) == (0, 2, 1)
    dropped = drop_loose_components(hollow, min_share=0.01)  # the shell goes, and what is inside it with it
    assert [piece.is_cavity for piece in dropped.removed] == [True, False]
    assert (dropped.num_components, dropped.num_cavities) == (1, 0)
    assert dropped.mesh.signed_volume == pytest.approx(ball(2.0).signed_volume)


def test_a_small_bubble_is_filled_with_what_floats_in_it() -> None:
    mesh = side_by_side(ball(1.0), ball(0.04, (0.5, 0, 0), inward=True), ball(0.02, (0.5, 0, 0)))
    clean = drop_loose_components(mesh)
    assert clean.mesh.signed_volume == pytest.approx(ball(1.0).signed_volume, rel=1e-12)
    assert [(piece.is_cavity, round(piece.share * 1e6, 1)) for piece in clean.removed] == [(True, 64), (False, 8)]


def test_a_large_piece_in_a_cavity_stays() -> None:
    nested = side_by_side(ball(1.0), ball(0.9, inward=True), ball(0.5))
    pieces = nest_components(nested)
    assert pieces.host.tolist() == [-1, 0, 1]
    assert np.bincount(pieces.is_cavity, minlength=2).tolist() == [2, 1]
    assert drop_loose_components(nested).mesh is nested


def test_between_shapes_only_so_many_pieces_stay_as_the_shapes_have() -> None:
    mesh = side_by_side(ball(1.0), ball(0.3, (2, 0, 0)), ball(0.2, (0, 2, 0)), ball(0.1, (0, 0, 2)))
    volumes = np.array([1.0, 0.3, 0.2, 0.1]) ** 3
    for allowed in (1, 2, 3, 4, 9):
        clean = drop_loose_components(mesh, num_components=allowed)
        assert clean.num_components == min(allowed, 4)
        shares = [piece.share for piece in clean.removed]
        assert shares == pytest.approx((volumes / volumes.sum())[allowed:], rel=1e-9)


@pytest.mark.parametrize(("num_surfaces", "kept"), [(None, 3), (1, 2), (2, 2), (3, 3)])
def test_a_learned_shape_has_no_specks_beyond_the_pieces_of_its_source(num_surfaces: int | None, kept: int) -> None:
    speck, part = ball(0.08, (0.0, 2.0, 0.0)), ball(0.2, (0.0, 0.0, 2.0))  # 5e-4 and 8e-3 of the ball's volume
    mesh = side_by_side(ball(1.0), ball(0.01, (2.0, 0.0, 0.0)), speck, part)
    clean = drop_specks(mesh, num_surfaces=num_surfaces)
    assert clean.num_components == kept
    assert {round(1e6 * piece.share) for piece in clean.removed} == ({1} if kept == 3 else {1, 508})
    assert drop_specks(mesh, num_surfaces=num_surfaces, min_share=0).mesh is mesh
    assert drop_specks(mesh, num_surfaces=1, min_share=1e-3).num_components == 1  # ten times that reach the part


def test_a_bubble_that_the_source_has_not_is_filled() -> None:
    mesh = side_by_side(ball(1.0), ball(0.08, (0.5, 0, 0), inward=True))
    assert [drop_specks(mesh, num_surfaces=count).num_cavities for count in (1, 2, None)] == [0, 1, 1]


def test_a_piece_that_is_half_of_the_shape_is_never_loose() -> None:
    mesh = side_by_side(ball(1.0), ball(0.9, (2.5, 0, 0)), ball(0.2, (0, 2.5, 0)))
    clean = drop_loose_components(mesh, num_components=1)
    assert (clean.num_components, len(clean.removed)) == (2, 1)


def test_open_surfaces_stay() -> None:
    flat = Mesh([[5, 0, 0], [6, 0, 0], [5, 1, 0]], [[0, 1, 2]], [[0, 0, 1]] * 3)
    clean = drop_loose_components(side_by_side(ball(1.0), flat), num_components=1)
    assert clean.removed == ()


def test_extracted_specks_go_and_the_rest_is_what_extraction_gives_without_them() -> None:
    bounds = Bounds.cube(1.2)
    hollow = Difference(Sphere(1.0), Sphere(0.6))
    specks = Union(hollow, Sphere(0.04, center=(1.1, 1.1, 1.1)))
    dirty = extract_mesh(specks, resolution=64, bounds=bounds)
    clean = drop_loose_components(dirty)
    assert components_and_genus(dirty).num_components == 3
    assert components_and_genus(clean.mesh).num_components == 2
    assert clean.mesh.signed_volume == pytest.approx(4 / 3 * math.pi * (1 - 0.6**3), rel=0.01)
    assert clean.removed[0].center == pytest.approx((1.1, 1.1, 1.1), abs=1e-3)
    alone = extract_mesh(hollow, resolution=64, bounds=bounds)
    assert np.array_equal(np.unique(alone.vertices, axis=0), np.unique(clean.mesh.vertices, axis=0))


@pytest.mark.parametrize("share", [-0.1, 0.2, math.nan])
def test_a_bound_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"min_piece must be .* got {share}"):
        drop_loose_components(ball(1.0), min_share=share)


def test_pieces_that_touch_in_a_vertex_are_apart() -> None:
    """Two octahedra with one corner in common; the small one goes, the corner stays."""
    corners = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    small = corners / 50 + np.array([1.02, 0, 0])
    touching = np.where(faces == 1, 0, faces + 6)  # its corner 1 is the large one's corner 0
    mesh = Mesh(np.concatenate([corners, small]), np.concatenate([faces, touching]))
    pieces = nest_components(mesh)
    assert pieces.closed.tolist() == [True, True]
    assert pieces.shares == pytest.approx([1 / (1 + 50**-3), 50**-3 / (1 + 50**-3)])
    clean = drop_loose_components(mesh)
    assert (clean.mesh.vertices == corners).all()
    assert (clean.mesh.faces == faces).all()


def test_a_mesh_without_faces_has_no_pieces() -> None:
    assert drop_loose_components(Mesh(np.zeros((0, 3)), np.zeros((0, 3)))).num_components == 0
