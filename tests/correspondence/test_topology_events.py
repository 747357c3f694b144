"""Changes of topology whose moment is known in closed form."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from sdfnet.correspondence import track as tracking
from sdfnet.correspondence.lattice_topology import LevelTopology, level_topology
from sdfnet.correspondence.narrow_band import sample_field
from sdfnet.correspondence.topology_events import TopologyEvent, find_topology_events
from sdfnet.correspondence.track import TrackConfig, track_surface
from sdfnet.extraction.marching_cubes import march
from sdfnet.fields.base import Difference, Field, Union
from sdfnet.fields.primitives import Box, Sphere, Torus
from sdfnet.fields.transforms import Offset, Transformed, rotation_about
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus

TIMES = np.linspace(0, 1, 11).tolist()
STEP = 0.1 / 8


def parting_balls(time: float) -> Field:
    """Two balls of radius 0.4 that part when their centres are 0.8 apart: at time 0.53."""
    return Union(*(Sphere(0.4, center=[side * (0.27 + time * 0.13 / 0.53), 0.011, 0.023]) for side in (-1, 1)))


def closing_torus(time: float) -> Field:
    """A torus whose hole closes as it is offset by as much as the hole is wide: at time 0.64."""
    return Offset(Torus(0.4, 0.2, center=[0.013, 0.007, 0.003]), time * 0.2 / 0.64)


def ball_and_crumb(time: float) -> Field:
    """A ball, and a crumb that grows from nothing at 0.2 to a thousandth of its volume, 0.1³, at time 1."""
    crumb = max(time - 0.2, 1e-6) / 0.8 * 0.06
    return Union(Sphere(0.6), Sphere(crumb, center=[0.8, 0.3, 0.2]))


def test_a_ball_parts_in_two_within_a_sub_step_of_the_true_time() -> None:
    found = find_topology_events(parting_balls, TIMES, resolution=48)
    (change,) = found.events
    assert (change.before, change.after) == (LevelTopology(1, 0, 0), LevelTopology(2, 0, 0))
    assert change.frame == 5
    assert change.time - STEP <= 0.53 <= change.until + STEP
    assert change.until - change.time == pytest.approx(STEP)
    assert change.reason == "components 1 to 2"


def test_a_torus_closes_its_hole_within_a_sub_step_of_the_true_time() -> None:
    (change,) = find_topology_events(closing_torus, TIMES, resolution=48).events
    assert change.reason == "genus 1 to 0"
    assert change.time - STEP <= 0.64 <= change.until + STEP


def test_small_loose_pieces_are_passed_over_until_they_are_large() -> None:
    found = find_topology_events(ball_and_crumb, TIMES, resolution=64, min_share=5e-4)
    (change,) = found.events
    radius = 0.6 * (5e-4) ** (1 / 3)  # 0.0476 at time 0.83
    assert change.reason == "components 1 to 2"
    assert abs(change.time - (0.2 + 0.8 * radius / 0.06)) < 0.1  # a radius of one spacing is measured to a tenth
    unbounded = find_topology_events(ball_and_crumb, TIMES, resolution=64, min_share=0)
    assert unbounded.events[0].time < 0.6


def test_a_turning_box_changes_nothing() -> None:
    def turning(time: float) -> Field:
        return Transformed(Box([0.6, 0.05, 0.4]), rotation=rotation_about([1, 2, 3], 90 * time))

    assert find_topology_events(turning, TIMES, resolution=48).events == ()


def test_a_gap_that_the_lattice_meets_only_later_is_no_change() -> None:
    lattice = Lattice.over(UNIT_BOUNDS, 24)

    def drifting(time: float) -> Field:
        """Two boxes with 0.7 spacings between them, first between two samples, then about one."""
        sides = (0.5 * time + side * (0.35 + 0.3 / lattice.spacing) for side in (-1, 1))
        return Union(*(Box([0.3, 0.41, 0.37], center=[lattice.spacing * side, 0, 0]) for side in sides))

    places = np.indices(lattice.shape).reshape(3, -1).T
    shown = [
        level_topology(sample_field(drifting(time), lattice, places).reshape(lattice.shape), min_share=0)
        for time in (0.0, 1.0)
    ]
    assert [topology.components for topology in shown] == [1, 2]
    assert find_topology_events(drifting, TIMES, resolution=24).events == ()


@pytest.mark.parametrize("way", [2.0, 6.0])
def test_a_gap_that_sweeps_over_the_lattice_is_no_change(way: float) -> None:
    spacing = Lattice.over(UNIT_BOUNDS, 24).spacing

    def sweeping(time: float) -> Field:
        """Two boxes with 0.7 spacings between them, which go on by `way` spacings."""
        sides = (way * time + side * (0.35 + 0.3 / spacing) for side in (-1, 1))
        return Union(*(Box([0.3, 0.41, 0.37], center=[spacing * side, 0, 0]) for side in sides))

    assert find_topology_events(sweeping, TIMES, resolution=24).events == ()


def slender_ring(gap: float) -> Field:
    """A ball with a ring through it 0.9 spacings thick, of a lattice of 28, cut by a gap of so much on either side."""
    whole = Union(Sphere(0.4), Torus(0.3, 0.034, center=[0.45, 0, 0]))
    return Difference(whole, Box([0.1, 0.1, gap], center=[0.75, 0, 0.005])) if gap > 0 else whole


def test_a_handle_thinner_than_a_spacing_is_seen_to_break() -> None:
    found = find_topology_events(lambda time: slender_ring((time - 0.53) / 2), TIMES, resolution=28)
    (change,) = found.events
    assert change.reason == "genus 1 to 0"
    assert change.time - STEP <= 0.53 <= change.until + STEP
    assert [topology.genus for topology in found.topologies] == [1] * 6 + [0] * 5


def test_a_thin_handle_that_breaks_and_joins_between_two_frames_is_seen() -> None:
    found = find_topology_events(lambda time: slender_ring(0.04 - 1.6 * abs(time - 0.55)), TIMES, resolution=28)
    opened, closed = found.events
    assert (opened.frame, closed.frame) == (5, 5)
    assert (opened.reason, closed.reason) == ("genus 1 to 0", "genus 0 to 1")
    assert opened.time - STEP <= 0.525 <= opened.until + STEP
    assert closed.time - STEP <= 0.575 <= closed.until + STEP
    assert {topology.genus for topology in found.topologies} == {1}


def test_a_tracked_sequence_is_cut_at_the_change_and_says_why() -> None:
    morph = track_surface(parting_balls, TIMES, config=TrackConfig(resolution=28))
    assert [(piece.first_frame, piece.last_frame) for piece in morph.segments] == [(0, 5), (6, 10)]
    (cut,) = morph.cuts
    assert (cut.frame, cut.reason, cut.topology) == (5, "components 1 to 2", True)
    assert [components_and_genus(morph.mesh(frame)).num_components for frame in (0, 5, 6, 10)] == [1, 1, 2, 2]
    assert [morph.segment_at(frame) for frame in (0, 5, 6, 10)] == [0, 0, 1, 1]


def test_frame_by_frame_meshes_on_request() -> None:
    config = TrackConfig(resolution=32, on_change="frames")
    morph = track_surface(parting_balls, TIMES, config=config)
    assert len(morph.segments) == len(TIMES)
    assert len(morph.cuts) == 1
    assert components_and_genus(morph.mesh(10)).num_components == 2


@pytest.mark.parametrize("seed", range(6))
def test_topology_on_a_lattice_is_that_of_the_mesh(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(random.normal(size=(24, 20, 28)), 1.8).astype(np.float32)
    values = values / values.std() + 0.4
    values[[0, -1]] = values[:, [0, -1]] = values[:, :, [0, -1]] = 1
    found = level_topology(values, min_share=0)
    mesh = march(values, spacing=1.0)
    topology = components_and_genus(Mesh(mesh.vertices, mesh.faces))
    assert topology.num_components > 1
    assert found.components + found.cavities == topology.num_components
    assert topology.genus - 1 <= found.genus <= topology.genus  # one of these has a tunnel inside a cell


def test_a_mesh_that_begins_before_the_lattice_shows_a_change_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes of the field: after frame 1, which the lattice shows after frame 6 only, and after frame 5."""
    whole = find_topology_events(lambda time: Sphere(0.5 + 0.1 * time), TIMES, resolution=10)
    one, two = LevelTopology(1, 0, 0), LevelTopology(2, 0, 0)
    late = TopologyEvent(1, 0.15, 0.1625, one, two, seen_frame=6)
    soon = TopologyEvent(5, 0.55, 0.5625, two, one, seen_frame=5)
    cases = [((late, soon), one, [1, 5, 6]), ((soon,), one, [5]), ((late,), one, [1, 6])]
    cases += [((late,), two, [1])]  # the lattice still has two where the mesh has one: it began with what is there
    for changes, counted, expected in cases:
        found = dataclasses.replace(whole, events=changes, topologies=(counted,) * len(TIMES))
        monkeypatch.setattr(tracking, "find_topology_events", lambda *rest, found=found, **options: found)
        morph = track_surface(lambda time: Sphere(0.5 + 0.1 * time), TIMES, config=TrackConfig(resolution=10))
        assert [cut.frame for cut in morph.cuts] == expected
        assert all(TIMES[cut.frame] <= cut.time < TIMES[cut.frame + 1] for cut in morph.cuts)
