"""Tracking through a template, where the place of every vertex is known in closed form."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from moved_ball import CODES, Family, MovedBall, moved_balls
from torch import Tensor

from sdfnet.correspondence import TrackConfig, TrackedMorph, track_template
from sdfnet.correspondence import template_track as production
from sdfnet.decoders import DeepSDFConfig, build_decoder
from sdfnet.fields.adaptors import NeuralField
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs import MorphConfig
from sdfnet.morphs.plan import plan_morph, tracked_frames

CONFIG = TrackConfig(resolution=24)


class MovedBallOnly(MovedBall):
    """The same family, which says that it has no second ball."""

    adds_to_template = False


def way(start: str | list[float], end: str | list[float], frames: int = 5) -> list[Tensor]:
    ends = [torch.tensor(CODES[each] if isinstance(each, str) else each) for each in (start, end)]
    return [torch.lerp(*ends, share) for share in np.linspace(0, 1, frames).tolist()]


def followed(decoder: MovedBall, codes: list[Tensor], config: TrackConfig = CONFIG) -> TrackedMorph:
    def field_at(time: float) -> NeuralField:
        before = min(int(time), max(len(codes) - 2, 0))
        return NeuralField(decoder, torch.lerp(codes[before], codes[min(before + 1, len(codes) - 1)], time - before))

    return track_template(decoder, codes, field_at, config=config)


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return moved_balls(tmp_path)


@pytest.mark.parametrize("kind", [MovedBall, MovedBallOnly])
def test_every_vertex_goes_where_the_displacement_takes_it(family: Family, kind: type[MovedBall]) -> None:
    morph = followed(kind().eval(), way("long", "bent"))
    assert (len(morph.segments), morph.cuts, morph.deviations) == (1, (), ())
    first, last = morph.mesh(0), morph.mesh(4)
    to_world = {name: family.run.similarity(name) for name in ("long", "bent")}
    truth = family.truth("long", "bent", to_world["long"].to_world(first.vertices))
    assert np.linalg.norm(to_world["bent"].to_world(last.vertices) - truth, axis=1).max() < 2e-4
    for frame in range(5):
        assert components_and_genus(morph.mesh(frame)) == components_and_genus(first)
        assert morph.mesh(frame).signed_volume > 0


def test_without_a_flow_and_without_a_lattice_where_the_topology_cannot_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(production, "find_topology_events", None)
    monkeypatch.setattr(production, "track_surface", None)
    morph = followed(MovedBallOnly().eval(), way("long", "bent", 3))
    assert [str(topology) for topology in morph.topology.topologies] == ["components 1, genus 0"] * 3


def test_where_the_decoder_adds_a_component_an_advected_mesh_takes_over() -> None:
    morph = followed(MovedBall().eval(), [*way("ball", "bent", 3), *way("two", "two", 2)])
    assert [(segment.first_frame, segment.last_frame) for segment in morph.segments] == [(0, 2), (3, 4)]
    assert components_and_genus(morph.mesh(2)).num_components == 1
    assert components_and_genus(morph.mesh(4)).num_components == 2
    (cut,) = morph.cuts
    assert (cut.frame, cut.topology) == (2, True)
    assert "does not fit: components 2, genus 0, not components 1, genus 0" in cut.reason


def test_where_the_displacement_folds_the_mesh_does_not_fit() -> None:
    folded = [-8.0, 0.0, 0.0]  # x goes to -1.4 x
    morph = followed(MovedBallOnly().eval(), [torch.zeros(3), torch.tensor(folded), torch.zeros(3)])
    assert [cut.frame for cut in morph.cuts] == [0, 1]
    assert "the displacement folds at" in morph.cuts[0].reason
    assert "fits again" in morph.cuts[1].reason
    np.testing.assert_array_equal(morph.segments[0].faces, morph.segments[2].faces)
    assert np.abs(morph.mesh(1).vertices[:, 0]).max() == pytest.approx(0.5 / 1.4, abs=5e-3)


def test_surface_without_mesh_is_refused() -> None:
    """A decoder that adds a component although it says that it adds nothing is found out."""
    morph = followed(MovedBallOnly().eval(), [*way("ball", "ball", 2), *way("two", "two", 2)])
    assert "of the surface has no mesh near it" in morph.cuts[0].reason
    assert components_and_genus(morph.mesh(3)).num_components == 2


def test_on_change_frames_gives_up_the_template_too() -> None:
    config = dataclasses.replace(CONFIG, on_change="frames")
    morph = followed(MovedBall().eval(), [*way("ball", "ball", 2), *way("two", "two", 1)], config)
    assert len(morph.segments) == 3


def test_a_decoder_without_a_template_is_refused() -> None:
    decoder = build_decoder(DeepSDFConfig(latent_size=4))
    with pytest.raises(ValueError, match="DeepSDFDecoder has no template; use track_surface"):
        track_template(decoder, [torch.zeros(4)], lambda time: NeuralField(decoder, torch.zeros(4)))


def test_a_morph_takes_the_template_of_its_decoder(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdfnet.morphs import plan as morphs

    monkeypatch.setattr(morphs, "track_surface", None)
    config = MorphConfig(frames=3, tracked=True, resolution=24, easing="linear")
    made: list[Mesh] = [
        mesh for _, mesh in tracked_frames(plan_morph(family.run, ["long", "bent"], config=config), range(3))
    ]
    truth = family.truth("long", "bent", made[0].vertices)
    assert np.linalg.norm(made[2].vertices - truth, axis=1).max() < 2e-4 * family.run.similarity("bent").scale ** -1 * 5
