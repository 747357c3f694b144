"""One mesh kept through changes of topology that are known."""

from __future__ import annotations

import numpy as np
import pytest

from sdfnet.correspondence.advect import advect, place_on_surface
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import Deviation
from sdfnet.correspondence.track import TrackConfig, TrackedMorph, describe_excess, extract_even_mesh, track_surface
from sdfnet.fields import SmoothUnion, Union
from sdfnet.fields.base import Field
from sdfnet.fields.primitives import Sphere
from sdfnet.fields.swept import Tube
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.quality import smallest_angles

TIMES = np.linspace(0, 1, 13).tolist()


def touching_fingers(time: float) -> Field:
    """Two fingers on a palm, whose tips touch from about time 0.3 to 0.7 and part again."""
    apart = 0.085 + 0.12 * abs(time - 0.5)
    tips = [Tube([[side * 0.22, 0.0, 0.0], [side * apart, 0.01, 0.5]], 0.1) for side in (-1, 1)]
    return SmoothUnion(Sphere(0.42, center=[0, 0, -0.3]), Union(*tips), width=0.05)


def parting_balls(time: float) -> Field:
    """Two balls of radius 0.4 that part at time 0.53, and end far apart."""
    return Union(*(Sphere(0.4, center=[side * (0.27 + time * 0.13 / 0.53), 0.011, 0.023]) for side in (-1, 1)))


def ball_beside_ball(time: float) -> Field:
    """A ball, and another that grows from nothing."""
    return Union(Sphere(0.4), Sphere(max(0.3 * time - 0.1, 1e-6), center=[0.7, 0.1, 0.0]))


def kept(field_at: FieldAt, resolution: int = 40) -> TrackedMorph:
    return track_surface(field_at, TIMES, config=TrackConfig(resolution=resolution, on_change="keep"))


def turned_against_itself(mesh: Mesh) -> int:
    """How many triangles face against the mean of those around all three of their corners."""
    around = np.zeros_like(mesh.vertices)
    np.add.at(around, mesh.faces.ravel(), np.repeat(mesh.face_crosses, 3, axis=0))
    return int((np.einsum("fi,fci->fc", mesh.face_crosses, around[mesh.faces]) <= 0).all(axis=1).sum())


def test_fingers_that_touch_and_part_keep_one_well_shaped_mesh_and_it_is_said_where_it_is_off() -> None:
    morph = kept(touching_fingers)
    assert [change.reason for change in morph.topology.events] == ["genus 0 to 1", "genus 1 to 0"]
    assert not morph.cuts
    (piece,) = morph.segments
    for frame in range(len(TIMES)):
        mesh = piece.mesh(frame)
        assert turned_against_itself(mesh) == 0
        assert (smallest_angles(mesh.vertices, mesh.faces) > 10).mean() > 0.99
    assert morph.deviations
    touching = [change.frame for change in morph.topology.events]
    for deviation in morph.deviations:
        assert touching[0] < deviation.frame <= touching[1] + 1
        assert 0 < deviation.num_vertices < 0.02 * len(piece.vertices[0])
        assert 0 < deviation.largest_distance < 0.03
    values = touching_fingers(TIMES[-1])(_points(piece.vertices[-1]))
    assert np.abs(values.numpy()).max() < 4e-4  # all have found it again


def test_what_has_nowhere_to_go_moves_with_its_neighbours_not_to_another_part_of_the_surface() -> None:
    start = place_on_surface(extract_even_mesh(touching_fingers(0.0), resolution=40), touching_fingers(0.0))
    carried = start
    for step in range(6):
        carried, _ = advect(carried, touching_fingers, (TIMES[step], TIMES[step + 1]), keep=True)
    assert carried.detached.any()
    path = np.linalg.norm(carried.vertices - start.vertices, axis=1)
    assert path[carried.detached].max() < 0.12  # the tips go 0.06


@pytest.mark.parametrize(
    ("field_at", "reason"), [(parting_balls, "an edge is 8"), (ball_beside_ball, "has no mesh near it")]
)
def test_a_large_change_is_cut_all_the_same(field_at: FieldAt, reason: str) -> None:
    morph = kept(field_at, resolution=32)
    assert len(morph.cuts) >= 1
    assert reason in morph.cuts[0].reason
    assert morph.cuts[0].topology
    assert all(
        deviation.largest_distance <= 0.03 and deviation.uncovered_share <= 0.01 for deviation in morph.deviations
    )


def test_deviations_beyond_a_bound_are_described() -> None:
    assert describe_excess(Deviation(3, 10, 0.005, 0.01, 0.0)) == ""
    assert describe_excess(Deviation(3, 10, 0.03, 0.01, 0.0)) == "3.0 % of the mesh has no surface to go to"
    assert describe_excess(Deviation(3, 10, 0.005, 0.04, 0.0)) == "a vertex without surface to go to is 0.040 off"
    assert describe_excess(Deviation(3, 0, 0.0, 0.0, 0.02)) == "2.0 % of the surface has no mesh near it"


def _points(vertices: np.ndarray):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(vertices)
