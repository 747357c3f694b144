"""Tracked morphs of surfaces whose motion is known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sdfnet.correspondence import track as tracking
from sdfnet.correspondence.advect import advect
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import OnTopologyEvent, TrackConfig, TrackedMorph
from sdfnet.correspondence.track import extract_even_mesh, track_surface
from sdfnet.correspondence.tracked_mesh import TrackedMesh
from sdfnet.fields.base import Field, Union, evaluate
from sdfnet.fields.primitives import Box, Sphere
from sdfnet.fields.transforms import Transformed, rotation_about
from sdfnet.geometry.bounds import UNIT_BOUNDS
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus

CONFIG = TrackConfig(resolution=18)
TIMES = np.linspace(0, 1, 9).tolist()


def moving_ball(time: float) -> Field:
    return Sphere(0.4 + 0.2 * time, center=[0.5 * time - 0.25, 0.1 * time, 0.0])


def turning_box(time: float) -> Field:
    return Transformed(Box([0.6, 0.3, 0.4]), rotation=rotation_about([0, 0, 1], 40 * time))


def distances(field: Field, vertices: np.ndarray) -> np.ndarray:
    return evaluate(field, torch.from_numpy(vertices)).abs().numpy()


def worst_distance(morph: TrackedMorph, field_at: FieldAt, times: list[float] = TIMES) -> float:
    return max(float(distances(field_at(time), morph.mesh(i).vertices).max()) for i, time in enumerate(times))


def test_a_moving_and_growing_ball_carries_each_vertex_where_the_motion_takes_it() -> None:
    morph = track_surface(moving_ball, TIMES, config=CONFIG)
    assert len(morph.segments) == 1
    assert not morph.cuts
    (piece,) = morph.segments
    start = piece.vertices[0] - [-0.25, 0, 0]
    for time, vertices in zip(TIMES, piece.vertices, strict=True):
        expected = start * (0.4 + 0.2 * time) / 0.4 + [0.5 * time - 0.25, 0.1 * time, 0]
        assert np.linalg.norm(vertices - expected, axis=1).max() < 2e-3
    assert worst_distance(morph, moving_ball) < 1e-5
    normals = piece.vertices[-1] - [0.25, 0.1, 0]
    assert np.abs(piece.normals[-1] - normals / np.linalg.norm(normals, axis=1, keepdims=True)).max() < 1e-4


def test_a_turning_box_is_not_cut_and_turns_its_vertices() -> None:
    morph = track_surface(turning_box, TIMES, config=CONFIG)
    assert not morph.cuts
    assert worst_distance(morph, turning_box) < 1e-4
    (piece,) = morph.segments
    expected = piece.vertices[0] @ rotation_about([0, 0, 1], 40).T
    assert np.linalg.norm(piece.vertices[-1] - expected, axis=1).mean() < 0.01
    nearest = np.linalg.norm(piece.vertices[0] - expected, axis=1).mean()
    assert nearest > 0.2  # where the vertices would be without sliding along


class BentBall(Field):
    """A ball whose z axis is bent into an arc of curvature `amount`."""

    def __init__(self, amount: float) -> None:
        self.bounds, self.accuracy, self.amount = UNIT_BOUNDS, "approximate", amount

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        if self.amount == 0:
            return points.norm(dim=-1) - 0.5
        x, y, z = points.unbind(-1)
        radius = 1 / self.amount
        straight = [radius - torch.hypot(radius - x, z), y, radius * torch.atan2(z, radius - x)]
        return torch.stack(straight, dim=-1).norm(dim=-1) - 0.5


def test_a_sphere_that_bends_takes_its_vertices_along() -> None:
    """The first surface cannot tell a bend from a pinch; by it alone the error would be 0.44 of the nearest point's."""
    (piece,) = track_surface(BentBall, TIMES, config=TrackConfig(resolution=20)).segments
    x, y, z = piece.vertices[0].T
    expected = np.stack([1 - (1 - x) * np.cos(z), y, (1 - x) * np.sin(z)], axis=1)
    nearest = MeshDistance(piece.mesh(8)).unsigned(piece.vertices[0]).closest_points
    error, worst = (np.linalg.norm(found - expected, axis=1).mean() for found in (piece.vertices[-1], nearest))
    assert error < 0.3 * worst


def test_vertices_of_a_given_mesh_keep_their_order_and_their_seams() -> None:
    even = extract_even_mesh(moving_ball(0), resolution=24)
    seam = Mesh(np.concatenate([even.vertices, even.vertices[even.faces[0]]]), even.faces)
    faces = seam.faces.copy()
    faces[0] = len(even.vertices) + np.arange(3)
    morph = track_surface(moving_ball, TIMES, Mesh(seam.vertices, faces), config=CONFIG)
    (piece,) = morph.segments
    assert np.array_equal(piece.faces, faces)
    assert np.abs(piece.vertices[0] - seam.vertices).max() < 1e-4
    assert np.array_equal(piece.vertices[-1, even.faces[0]], piece.vertices[-1, -3:])


def test_even_meshes_have_even_triangles_on_the_surface() -> None:
    mesh = extract_even_mesh(turning_box(0), resolution=48)
    assert components_and_genus(mesh).genus == 0
    assert distances(turning_box(0), mesh.vertices).max() < 1e-3
    areas = mesh.face_areas
    assert areas.std() / areas.mean() < 0.3


def with_a_thin_finger(time: float) -> Field:
    return Union(Sphere(0.4), Box([0.025, 0.025, 0.15 + 0.02 * time], rounding=0.022, center=[0, 0, 0.5]))


@pytest.mark.parametrize("on_change", ["cut", "keep"])
def test_a_finger_that_only_a_finer_lattice_sees_is_there_from_the_start(on_change: OnTopologyEvent) -> None:
    coarse = extract_even_mesh(with_a_thin_finger(0), resolution=28, edge_length=0.75)
    assert coarse.vertices[:, 2].max() < 0.6
    times = TIMES[::4]
    morph = track_surface(with_a_thin_finger, times, config=TrackConfig(resolution=28, on_change=on_change))
    assert len(morph.segments) == 1
    assert morph.mesh(0).vertices[:, 2].max() > 0.63
    assert morph.mesh(2).vertices[:, 2].max() > 0.65
    assert worst_distance(morph, with_a_thin_finger, times) < 1e-3


def test_a_frame_that_comes_out_unsound_is_tried_again_in_shorter_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[float, int]] = []
    asked: list[float] = []

    def noted_advect(*arguments: Any, refinement: int, **options: Any) -> tuple[TrackedMesh, float]:
        tried.append((arguments[2][0], refinement))
        return advect(*arguments, refinement=refinement, **options)

    fault = TrackedMesh.fault

    def unsound(mesh: TrackedMesh, **options: Any) -> str:
        return "unsound" if tried and tried[-1] == (TIMES[2], 1) else fault(mesh, **options)

    def noted(time: float) -> Field:
        asked.append(time)
        return moving_ball(time)

    monkeypatch.setattr(tracking, "advect", noted_advect)
    monkeypatch.setattr(TrackedMesh, "fault", unsound)
    morph = track_surface(noted, TIMES[:4], config=CONFIG)
    assert len(morph.segments) == 1
    assert [finer for time, finer in tried if time == TIMES[2]] == [1, 3]
    assert [finer for time, finer in tried if time != TIMES[2]] == [1] * 2
    third = TIMES[2] + (TIMES[3] - TIMES[2]) / 3
    assert any(abs(time - third) < 1e-9 for time in asked)  # no eighth: the search for changes asks for these


def test_times_must_increase() -> None:
    with pytest.raises(ValueError, match=r"times must increase .* got \[0.0, 0.0"):
        track_surface(moving_ball, [0, 0, 1])


def test_a_mesh_of_something_else_is_refused() -> None:
    far = extract_even_mesh(Sphere(0.9), resolution=24)
    with pytest.raises(ValueError, match="must lie on the surface at the first time, but the field is up to 0"):
        track_surface(moving_ball, TIMES, far)


def test_two_runs_agree_to_the_bit() -> None:
    first, again = (track_surface(moving_ball, TIMES[:3], config=CONFIG) for _ in range(2))
    assert np.array_equal(first.segments[0].vertices, again.segments[0].vertices)
