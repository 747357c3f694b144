"""Tracked morphs of known spheres: one mesh throughout, in the world, the same after a kill."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run
from torch import Tensor

from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs import morph as production
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphPlan, field_along, plan_frames, tracked_frames
from sdfnet.morphs.store import load_stored
from sdfnet.runs import Run

SMALL = MorphConfig(
    frames=4, resolution=24, width=64, height=48, format=("obj", "glb"), tracked=True, easing="linear", pace="code"
)
PLACES = {"small": Similarity([100, 0, 0], 1.0), "large": Similarity([0, 50, 0], 0.5)}


class PairDecoder(SphereDecoder):
    """Two spheres of one radius, apart along x by four times what the code's first number says."""

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (latents_BL,) = conditioned
        shift = torch.cat([2 * latents_BL[:, :1], torch.zeros_like(latents_BL[:, 1:3])], dim=1)[:, None]
        radius = latents_BL[:, None, 3]
        return torch.minimum((points_BN3 - shift).norm(dim=-1), (points_BN3 + shift).norm(dim=-1)) - radius


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return sphere_run({"small": 0.4, "large": 0.8}, directory=tmp_path / "run", similarities=PLACES)


def test_every_vertex_of_a_growing_sphere_goes_straight_out(run: Run, tmp_path: Path) -> None:
    result = make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    manifest = json.loads(result.manifest.read_text())
    assert [record["piece"] for record in manifest["frames"]] == [0, 0, 0, 0]
    first, *_, last = [load_stored(tmp_path / "out" / record["stored"]) for record in manifest["frames"]]
    np.testing.assert_array_equal(first.faces, last.faces)
    ends = [PLACES["small"].to_unit(first.vertices), PLACES["large"].to_unit(last.vertices)]
    assert np.abs(np.linalg.norm(ends[0], axis=1) - 0.4).max() < 1e-5
    assert np.abs(np.linalg.norm(ends[1], axis=1) - 0.8).max() < 1e-5
    # The map is known: every place keeps its direction from the centre.
    assert np.linalg.norm(ends[1] - 2 * ends[0], axis=1).max() < 0.02
    np.testing.assert_array_equal(read_mesh(result.meshes[0]).faces, first.faces)
    report = json.loads(result.report.read_text())
    assert report["tracked"] == {"pieces": 1, "cuts": [], "strays": []}
    assert report["summary"]["self_intersections"] == 0


@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_morphs_way_has_frames_at_whole_numbers_and_no_more(run: Run, num_frames: int) -> None:
    frames = plan_frames(run, ["small", "large"], config=dataclasses.replace(SMALL, frames=3))[:num_frames]
    if num_frames == 1:
        with pytest.raises(ValueError, match="frames must be at least two, got 1"):
            field_along(run, frames)
        return
    field_at, origin = field_along(run, frames), torch.zeros(1, 3)
    assert [-float(field_at(time)(origin)) for time in (0, 0.5, 1, 2)] == pytest.approx([0.4, 0.5, 0.6, 0.8])
    assert torch.equal(field_at(2.0).latent, frames[2].latent)
    for time in (-0.1, 2.1, float("nan")):
        with pytest.raises(ValueError, match=f"time must be from 0 to 2, got {time}"):
            field_at(time)


def test_where_a_sphere_splits_the_sequence_is_cut_and_says_why(run: Run, tmp_path: Path) -> None:
    codes = torch.tensor([[0.0, 0, 0, 0.3], [0.3, 0, 0, 0.3]])  # they part where 2 * code = radius, at frame 2.5
    pair = dataclasses.replace(run, decoder=PairDecoder(), latents=codes)
    config = dataclasses.replace(SMALL, frames=6, resolution=48, format=("obj",))
    result = make_morph(pair, ["small", "large"], tmp_path / "out", config=config)
    records = json.loads(result.manifest.read_text())["frames"]
    assert [record["piece"] for record in records] == [0, 0, 0, 1, 1, 1]
    assert [bool(record["cut"]) for record in records] == [False, False, False, True, False, False]
    assert "components 1 to 2" in records[3]["cut"]
    assert json.loads(result.report.read_text())["tracked"]["pieces"] == 2
    alone = dataclasses.replace(config, on_change="frames")
    result = make_morph(pair, ["small", "large"], tmp_path / "alone", config=alone)
    assert [record["piece"] for record in json.loads(result.manifest.read_text())["frames"]] == [None] * 6
    report = json.loads(result.report.read_text())["tracked"]
    assert (report["pieces"], len(report["cuts"])) == (6, 1)


class CompanionDecoder(SphereDecoder):
    """A sphere and beside it another, of the radius that the code's first number says."""

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (latents_BL,) = conditioned
        place, radii = points_BN3.new_tensor([0.7, 0.0, 0.0]), latents_BL[:, None, [3, 0]]
        distances = torch.stack([points_BN3.norm(dim=-1), (points_BN3 - place).norm(dim=-1)], dim=-1)
        return (distances - radii).amin(dim=-1)


@pytest.mark.parametrize(("largest", "on_change"), [(0.14, "cut"), (0.14, "frames"), (0.18, "cut")])
def test_loose_pieces_are_left_out_and_told_and_a_large_one_stays(
    run: Run, largest: float, on_change: Literal["cut", "frames"]
) -> None:
    """A companion comes and goes. One of 4 % of the volume is loose; one of 8 % is not, nor where it has 4 %."""
    run = dataclasses.replace(run, decoder=CompanionDecoder())
    config = dataclasses.replace(SMALL, frames=5, resolution=40, on_change=on_change, frame="unit")
    radii = [-0.1, 0.8 * largest, largest, 0.8 * largest, -0.1]
    frames = tuple(
        dataclasses.replace(frame, latent=torch.tensor([radius, 0, 0, 0.4]))
        for frame, radius in zip(plan_frames(run, ["small", "large"], config=config), radii, strict=True)
    )
    made, meshes = zip(*tracked_frames(MorphPlan(run, config, frames), range(5)), strict=True)
    there, stays = [1 <= index <= 3 for index in range(5)], largest > 0.15
    assert [components_and_genus(mesh).num_components for mesh in meshes] == [1 + (stays and has) for has in there]
    assert [len(one.removed) for one in made] == [int(has and not stays) for has in there]
    assert [one.num_extra for one in made] == [int(has and stays) for has in there]
    if not stays:
        assert made[2].removed[0].share == pytest.approx(largest**3 / (largest**3 + 0.4**3), rel=0.3)
        assert made[2].removed[0].center == pytest.approx((0.7, 0, 0), abs=0.01)
    faces = [mesh.faces for mesh in meshes[1:4]]
    assert on_change == "frames" or all(np.array_equal(faces[0], other) for other in faces)


def test_a_killed_tracked_morph_ends_with_the_same_bytes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SMALL, color="travel", overlay=True)
    whole = make_morph(run, ["small", "large"], tmp_path / "whole", config=config)
    write = production.write_frame

    def killed(out: Path, made, *rest, **options):  # type: ignore[no-untyped-def]
        if made.index == 2:
            raise KeyboardInterrupt
        return write(out, made, *rest, **options)

    monkeypatch.setattr(production, "write_frame", killed)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, ["small", "large"], tmp_path / "out", config=config)
    monkeypatch.setattr(production, "write_frame", write)
    again = make_morph(run, ["small", "large"], tmp_path / "out", config=config)
    assert 0 < again.num_skipped < 4
    written = {path.relative_to(whole.out) for path in whole.out.rglob("*") if path.is_file()}
    assert len(written) == 4 * 3 + 5  # of each frame its mesh, picture and stored mesh; and those of the whole
    for path in written:
        assert (whole.out / path).read_bytes() == (again.out / path).read_bytes(), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracked": True, "project_steps": 2}, "project_steps has no effect with tracked=true, got 2"),
        ({"on_change": "frames"}, "on_change=frames has an effect only with tracked=true"),
        ({"tracked": True, "on_change": "stop"}, "on_change must be one of cut, keep, frames, got 'stop'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MorphConfig(**options)
