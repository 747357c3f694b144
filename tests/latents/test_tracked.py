"""Tracked morphs of known spheres: one mesh throughout, in the world, the same after a kill."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run
from torch import Tensor

from sdfnet.geometry.reading import read_mesh
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents import production
from sdfnet.latents.config import MorphConfig
from sdfnet.latents.morph import make_morph
from sdfnet.latents.sequence import load_stored
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
    records = json.loads(make_morph(pair, ["small", "large"], tmp_path / "alone", config=alone).manifest.read_text())
    assert [record["piece"] for record in records["frames"]] == [None] * 6


def test_a_killed_tracked_morph_ends_with_the_same_meshes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_morph(run, ["small", "large"], tmp_path / "whole", config=SMALL)
    write = production.write_frame

    def killed(out: Path, made, *rest, **options):  # type: ignore[no-untyped-def]
        if made.index == 2:
            raise KeyboardInterrupt
        return write(out, made, *rest, **options)

    monkeypatch.setattr(production, "write_frame", killed)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    monkeypatch.setattr(production, "write_frame", write)
    again = make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    assert 0 < again.num_skipped < 4
    for one, other in zip([*whole.meshes, *whole.films], [*again.meshes, *again.films], strict=True):
        assert one.read_bytes() == other.read_bytes()


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
