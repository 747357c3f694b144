"""Local blends: unchanged outside the mask to the bit, smooth at the seam, and their words."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, HalfSpace, MaskedBlend, NearestPart, Sphere, gradient
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import extract_shape
from sdfnet.runs.mixes import add_mixes

PLACES = {"a": Similarity([10, 0, 0], 0.5), "b": Similarity([10.4, 0, 0], 0.25)}
"""In the world, a is a ball of radius 1 about (10, 0, 0)."""


def points(num: int = 4000) -> torch.Tensor:
    return 3 * torch.rand(num, 3, generator=torch.Generator().manual_seed(0)) - 1.5


def two_balls(folder: Path | None = None):
    sources = None if folder is None else {name: folder / f"{name}.ply" for name in PLACES}
    return sphere_run({"a": 0.5, "b": 0.7}, similarities=PLACES, sources=sources)


@pytest.mark.parametrize("mask", [Box([0.5, 0.4, 0.3]), Sphere(0.6, center=[0.5, 0, 0]), HalfSpace([1, 1, 0])])
def test_outside_the_mask_the_field_is_the_first_to_the_bit_and_deep_inside_the_other(mask) -> None:
    first, other = Sphere(0.8), Sphere(0.5, center=[0.2, 0, 0])
    blend, where = MaskedBlend(first, other, mask=mask, seam=0.2), points()
    outside, deep = mask(where) >= 0, mask(where) <= -0.2
    assert outside.any()
    assert deep.any()
    assert torch.equal(blend(where)[outside], first(where)[outside])
    assert torch.allclose(blend(where)[deep], other(where)[deep])
    between = blend(where)[~outside & ~deep]
    lower = torch.minimum(first(where), other(where))[~outside & ~deep]
    assert (between >= lower - 1e-6).all()


def test_the_gradient_is_continuous_across_the_seam() -> None:
    blend = MaskedBlend(Sphere(0.8), Sphere(0.5), mask=HalfSpace([1, 0, 0]), seam=0.3)
    for depth in (0.0, -0.3):
        sides = torch.tensor([[depth - 1e-4, 0.6, 0.1], [depth + 1e-4, 0.6, 0.1]], dtype=torch.float64)
        slopes = gradient(blend, sides)
        assert torch.allclose(slopes[0], slopes[1], atol=2e-3)


def test_the_zero_set_is_inside_the_bounds() -> None:
    blend = MaskedBlend(Sphere(0.3), Sphere(0.9), mask=Box([0.5, 0.5, 0.5], center=[0.5, 0, 0]), seam=0.1)
    assert blend.bounds.upper.tolist() == [0.9, 0.5, 0.5]
    mesh = extract_mesh(blend, resolution=48)
    assert mesh.to_trimesh().is_watertight
    assert blend.bounds.grown(1e-6).contains(mesh.vertices).all()


def test_the_mask_of_a_part_is_a_bound_of_the_distance_to_the_middle() -> None:
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mask = NearestPart(Mesh(corners, [[0, 1, 2]]), Mesh(corners + np.array([0, 0, 1]), [[0, 1, 2]]))
    where = torch.tensor([[0.2, 0.2, z] for z in (-1.0, 0.2, 0.5, 0.9)])
    assert mask(where).tolist() == pytest.approx([-0.5, -0.3, 0, 0.4])


def test_a_mask_is_in_the_world_and_the_shapes_meet_in_the_unit_frame() -> None:
    run, names = add_mixes(two_balls(), ["near=a; take=b; sphere=11,0,0,0.8; seam=0.1"])
    field, where = run.field(names[0]), points()
    world = torch.from_numpy(PLACES["a"].to_world(where.numpy()))
    away = (world - torch.tensor([11.0, 0, 0])).norm(dim=1) - 0.8
    assert torch.equal(field(where)[away > 1e-5], run.field("a")(where)[away > 1e-5])
    inside = away < -0.1
    assert torch.allclose(field(where)[inside], run.field("b")(where)[inside], atol=1e-5)
    mesh = extract_shape(run, names[0], resolution=48).mesh
    assert mesh.vertices[:, 0].min() == pytest.approx(9.0, abs=0.02)
    assert mesh.vertices[:, 0].max() == pytest.approx(11.4, abs=0.02)
    assert mesh.to_trimesh().is_watertight


def test_a_box_is_given_by_two_corners_and_a_blend_may_take_a_mix() -> None:
    run, names = add_mixes(two_balls(), ["near=a; take=0.5*a + 0.5*b; box=12,2,2,10,-2,-2; seam=0.2"])
    where = torch.tensor([[-0.3, 0.0, 0.0], [0.3, 0.0, 0.0]])  # the worlds' 9.4 and 10.6
    assert run.field(names[0])(where)[0] == run.field("a")(where)[0]
    assert run.field(names[0])(where)[1] != run.field("a")(where)[1]


def test_a_part_of_the_sources_is_a_mask(tmp_path: Path) -> None:
    ball = extract_mesh(Sphere(1.0), resolution=16)
    upper = ball.vertices[ball.faces].mean(axis=1)[:, 1] > 0
    faces = np.concatenate([ball.faces[upper], ball.faces[~upper]])
    for name, center in (("a", [10, 0, 0]), ("b", [10.4, 0, 0])):
        save_mesh(Mesh(ball.vertices + center, faces), tmp_path / f"{name}.ply")
    parts = {"back": [0, int(upper.sum())], "seat": [int(upper.sum()), len(faces)]}
    (tmp_path / "a.parts.json").write_text(json.dumps(parts))
    run, names = add_mixes(two_balls(tmp_path), ["near=a; take=b; part=back"])
    where = torch.tensor([[0.0, -0.5, 0.0], [0.0, 0.5, 0.0]])
    values, own = run.field(names[0])(where), run.field("a")(where)
    assert values[0] == own[0]
    assert values[1] != own[1]
    with pytest.raises(ValueError, match="no part is named 'leg': there are back, seat"):
        add_mixes(two_balls(tmp_path), ["near=a; take=b; part=leg"])
    (tmp_path / "a.parts.json").write_text('{"back": [0, 100000]}')
    with pytest.raises(ValueError, match=r"do not fit its \d+ faces: 0 to 100000"):
        add_mixes(two_balls(tmp_path), ["near=a; take=b; part=back"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("near=a; take=b", "needs take=SHAPE and one of box, sphere, part, got take"),
        ("near=a; box=0,0,0,1,1,1", "needs take=SHAPE and one of box, sphere, part, got box"),
        ("near=a; take=b; box=0,0,0,1,1,1; part=back", "got take, box, part"),
        ("near=a; take=b; box=0,0,0,1,1", "box takes 6 numbers, got '0,0,0,1,1'"),
        ("near=a; take=b; box=0,0,0,1,0,1", "is flat"),
        ("near=a; take=b; sphere=0,0,0,-1", "must be above 0"),
        ("near=a; take=b; sphere=0,0,0,1; seam=0", "seam must be above 0, got 0"),
        ("near=a; take=c; sphere=0,0,0,1", "no shape is named 'c'"),
        ("near=a; take=b; part=back", "no part is named 'back': no NAME.parts.json is beside the sources"),
    ],
)
def test_a_blend_that_says_too_little_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_mixes(two_balls(), [text])


def test_a_local_blend_has_no_code() -> None:
    run, names = add_mixes(two_balls(), ["near=a; take=b; sphere=11,0,0,1"])
    with pytest.raises(
        ValueError, match="is a local blend: it has a field, but no code, so it cannot be mixed or morphed"
    ):
        run.latent(names[0])
