"""Frames between shapes without their loose pieces, on fields whose pieces are known."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdfnet.decoders.base import Decoder
from sdfnet.extraction import extract_mesh
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig, MorphPlan, extract_frame, extracted_frames, plan_morph
from sdfnet.runs import Run, RunShape
from sdfnet.runs.mixes import add_mixes

CENTERS = torch.tensor([[0.0, 0, 0], [0.75, 0, 0], [0, 0.75, 0], [0, 0, 0.75]])
CONFIG = MorphConfig(frames=3, resolution=49, width=64, height=48, format=("obj",), easing="linear")


class BallsDecoder(Decoder):
    """The union of four balls; the code is their radii, and what is not positive is not there."""

    latent_size = 4

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL,)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (latents_BL,) = conditioned
        return (torch.cdist(points_BN3, CENTERS) - latents_BL[:, None]).amin(dim=-1)


def balls_run(radii: dict[str, Sequence[float]]) -> Run:
    shapes = tuple(RunShape(name, Similarity.identity(), source="", content_hash="", closed=True) for name in radii)
    return Run(Path("balls"), {}, BallsDecoder(), torch.tensor(list(radii.values())), shapes, 1)


def plan_with(run: Run, names: list[str], config: MorphConfig, latent: list[float] | None = None) -> MorphPlan:
    """A plan whose middle frame has the code `latent`, if any is given."""
    plan = plan_morph(run, names, config=config)
    if latent is None:
        return plan
    middle = dataclasses.replace(plan.frames[1], latent=torch.tensor(latent))
    return dataclasses.replace(plan, frames=(plan.frames[0], middle, *plan.frames[2:]))


def num_components(mesh: Mesh) -> int:
    return components_and_genus(mesh).num_components


def test_between_shapes_of_one_component_one_stays_and_what_went_is_told() -> None:
    """Half-way between balls of different radii a third ball shows, which neither shape has."""
    run = balls_run({"a": [0.4, 0.2, -0.2, -0.2], "b": [0.4, -0.12, 0.2, -0.2]})
    ((_, mesh),) = extracted_frames(plan_with(run, ["a", "b"], CONFIG), [0])
    assert num_components(mesh) == 2
    run = balls_run({"a": [0.4, 0.24, -0.2, -0.2], "b": [0.4, -0.14, -0.2, -0.2]})
    ((half, mesh),) = extracted_frames(plan_with(run, ["a", "b"], CONFIG), [1])
    assert (num_components(mesh), half.removed) == (2, ())  # the shape before has two
    run = balls_run({"a": [0.4, -0.2, -0.2, -0.2], "b": [0.4, -0.2, -0.2, -0.2]})
    ((made, mesh),) = extracted_frames(plan_with(run, ["a", "b"], CONFIG, [0.4, 0.12, 0.02, -0.2]), [1])
    assert (num_components(mesh), made.num_extra) == (1, 0)
    assert made.removed[0].share == pytest.approx(0.12**3 / (0.4**3 + 0.12**3), rel=0.1)
    assert made.removed[0].center == pytest.approx((0.75, 0, 0), abs=0.01)


def test_components_that_the_shapes_have_stay_and_only_what_is_more_goes() -> None:
    """A set of parts: two balls in one shape, three in the other."""
    run = balls_run({"two": [0.4, 0.15, -0.2, -0.2], "three": [0.4, 0.15, 0.15, -0.2]})
    ((made, mesh),) = extracted_frames(plan_with(run, ["two", "three"], CONFIG, [0.4, 0.15, 0.1, 0.06]), [1])
    assert (num_components(mesh), made.num_extra) == (3, 0)
    assert [piece.center for piece in made.removed] == [pytest.approx((0, 0, 0.75), abs=0.01)]


def test_a_large_component_too_many_stays_and_is_counted() -> None:
    run = balls_run({"a": [0.4, -0.2, -0.2, -0.2], "b": [0.4, -0.2, -0.2, -0.2]})
    plan = plan_with(run, ["a", "b"], CONFIG, [0.4, 0.25, -0.2, -0.2])
    ((made, mesh),) = extracted_frames(plan, [1])
    assert (num_components(mesh), made.num_extra, made.removed) == (2, 1, ())
    every = dataclasses.replace(plan, config=dataclasses.replace(CONFIG, min_piece=0))
    assert extract_frame(every, every.frames[1]).num_components == 2


def test_a_mix_has_no_more_loose_components_than_its_shapes_and_neither_has_what_leads_to_it(tmp_path: Path) -> None:
    """Its code has three balls more than any shape: two small ones that go, and one too large that is counted."""
    codes = {"a": [0.4, 0.2, -0.2, -0.2], "b": [0.4, -0.2, 0.2, -0.2], "c": [0.4, 0.1, -0.29, -0.2]}
    run = balls_run(codes)
    shapes = tuple(dataclasses.replace(shape, source="there", num_surfaces=2) for shape in run.shapes)
    run = dataclasses.replace(run, shapes=shapes)
    balls = torch.tensor([0.4, 0.25, 0.2, 0.1])
    mixed, (_, name) = add_mixes(run, ["a", "0.5*a + 0.5*b"])
    assert (mixed.shape(name).is_mix, mixed.shape(name).num_surfaces) == (True, 2)
    mixed = dataclasses.replace(mixed, latents=torch.cat([mixed.latents[:-1], balls[None]]))
    plan = plan_with(mixed, ["a", name], CONFIG, [0.4, 0.25, 0.1, 0.08])
    (between, mesh_between), (made, mesh) = extracted_frames(plan, [1, 2])
    assert [piece.center for piece in made.removed] == [pytest.approx((0, 0, 0.75), abs=0.01)]
    # That of 0.2 has a share of 9 %: too large to be called loose.
    assert (num_components(mesh), made.num_extra) == (3, 1)
    assert (num_components(mesh_between), between.num_extra, len(between.removed)) == (2, 0, 2)


def test_a_shape_is_what_extraction_gives_but_for_specks(tmp_path: Path) -> None:
    run = balls_run({"a": [0.4, 0.15, -0.2, -0.2], "b": [0.7, -0.2, -0.2, 0.03]})
    result = make_morph(run, "all", tmp_path / "out", config=CONFIG)
    save_mesh(extract_mesh(run.field("a"), resolution=49), tmp_path / "a.obj")
    assert (tmp_path / "a.obj").read_bytes() == (result.out / "frame_0000.obj").read_bytes()
    assert components_and_genus(extract_mesh(run.field("b"), resolution=49)).num_components == 2
    assert components_and_genus(read_mesh(result.out / "frame_0002.obj")).num_components == 1
    report = json.loads(result.report.read_text(encoding="utf-8"))
    (removed,) = report["frames"][2]["removed"]
    assert removed["share"] == pytest.approx(
        0.03**3 / (math.pi * 0.7**3), rel=0.1
    )  # an octahedron around one lattice point
    assert report["summary"]["removed"]["pieces"] >= 1
    assert "a mix has no source" in report["ends"][0]["absent"]


def test_the_shapes_around_a_frame_are_found_also_over_the_seam_of_a_loop() -> None:
    run = balls_run({"a": [0.4, -0.2, -0.2, -0.2], "b": [0.5, -0.2, -0.2, -0.2]})
    plan = plan_morph(run, ["a", "b"], config=dataclasses.replace(CONFIG, frames=6, playback="loop"))
    assert [plan.indices_around(index) for index in range(6)] == [(0, 0), (0, 3), (0, 3), (3, 3), (3, 0), (3, 0)]
