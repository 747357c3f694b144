"""Sparse extraction gives the mesh of dense extraction, whatever the surface looks like, and visits little else."""

from __future__ import annotations

import logging
import re
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.extraction import extract, sparse
from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Box, GridField, MeshField, NeuralField, Transformed, Union, rotation_about
from sdfnet.fields.base import Accuracy, Field
from sdfnet.fields.primitives import HalfSpace, Sphere, Torus
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.mesh.mesh import Mesh

SYMMETRIC = Bounds.cube(1 / 1.05)
"""Its lattice spans exactly [-1, 1]."""


class Watched(Field):
    """`field` with another accuracy, its values changed by `change`, and its evaluations counted."""

    def __init__(self, field: Field, accuracy: Accuracy | None = None, change=lambda sdf, points: sdf) -> None:
        self.bounds = field.bounds
        self.accuracy = accuracy or field.accuracy
        self.num_evaluations = 0
        self._field, self._change = field, change

    def __call__(self, points: Tensor) -> Tensor:
        self.num_evaluations += points[..., 0].numel()
        return self._change(self._field(points), points)


def canonical(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices sorted by place; faces sorted, each from its lowest vertex on."""
    order = np.lexsort(np.round(mesh.vertices, 9).T)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    faces = rank[mesh.faces]
    turns = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turns, axis=1)
    return mesh.vertices[order], faces[np.lexsort(faces.T)]


def assert_equal_to_dense(
    field: Field, resolution: int, *, bounds: Bounds | None = None, falls_back: bool = False, **options
) -> Mesh:
    """Extract both ways and compare; `falls_back` says whether sparse extraction should end up dense itself."""
    box = field.bounds if bounds is None else bounds
    with mock.patch.object(extract, "_march_dense", wraps=extract._march_dense) as dense_way:
        found = extract_mesh(field, resolution=resolution, bounds=box, vertex_normals=False, **options)
    assert dense_way.called == falls_back
    dense = extract_mesh(field, resolution=resolution, bounds=box, vertex_normals=False, sparse=False, **options)
    vertices, faces = canonical(found)
    vertices_dense, faces_dense = canonical(dense)
    assert vertices.shape == vertices_dense.shape
    spacing = Lattice.over(box, resolution).spacing
    assert np.abs(vertices - vertices_dense).max() <= 1e-5 * spacing
    np.testing.assert_array_equal(faces, faces_dense)
    return found


def boxed(field: Field) -> Bounds:
    return field.bounds if field.bounds.is_finite else Bounds.cube(2.5)


def every_point(bounds: Bounds, resolution: int) -> int:
    return int(np.prod(Lattice.over(bounds, resolution).shape))


@pytest.mark.parametrize("resolution", [40, 64])
def test_every_field_has_the_mesh_of_dense_extraction(example, resolution: int) -> None:
    field = example.make()
    # The lattice of a flat field can be too small to choose from.
    few = every_point(boxed(field), resolution) <= extract._FEW
    assert_equal_to_dense(field, resolution, bounds=boxed(field), falls_back=few)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [128, 192])
def test_every_field_has_the_mesh_of_dense_extraction_at_high_resolution(example, resolution: int) -> None:
    field = example.make()
    assert_equal_to_dense(field, resolution, bounds=boxed(field))


@pytest.mark.parametrize("turn", [0, 31])
@pytest.mark.parametrize("half_thickness", [0.002, 0.02])
def test_thin_sheets(turn: float, half_thickness: float) -> None:
    """Thinner than the spacing: level with samples a whole sheet, turned a swarm of crumbs."""
    sheet = Transformed(Box([0.8, 0.7, half_thickness]), rotation=rotation_about([1, 2, 0.5], turn))
    mesh = assert_equal_to_dense(sheet, 65, bounds=SYMMETRIC)
    assert len(mesh.faces) > 100
    assert_equal_to_dense(Watched(sheet, "approximate"), 65, bounds=SYMMETRIC)


@pytest.mark.parametrize("accuracy", ["bound", "approximate"])
def test_small_separate_pieces(accuracy: Accuracy) -> None:
    """Balls little wider than the spacing, all over the box, beside a large one."""
    places = np.random.default_rng(5).uniform(-0.95, 0.95, size=(60, 3))
    crumbs = [Sphere(0.6 * 2 / 64, center=place) for place in places]
    mesh = assert_equal_to_dense(Watched(Union(Sphere(0.4), *crumbs), accuracy), 65, bounds=SYMMETRIC)
    assert mesh.to_trimesh().body_count > 40


@pytest.mark.parametrize(
    "field",
    [
        Box([0.5, 0.25, 0.75]),
        Box([0.53125, 0.28125, 0.78125], center=[0.03125, 0, 0]),
        Union(Box([0.25] * 3, center=[0.25, 0.25, 0.25]), Box([0.25] * 3, center=[-0.25, -0.25, -0.25])),
        Union(Sphere(0.375, center=[0.375, 0, 0]), Sphere(0.375, center=[-0.375, 0, 0])),
        Torus(0.5, 0.25),
    ],
    ids=["box", "box on odd samples", "boxes at a corner", "balls at a point", "torus"],
)
@pytest.mark.parametrize("accuracy", ["bound", "approximate"])
def test_surfaces_through_samples(field: Field, accuracy: Accuracy) -> None:
    """Spacing 1/32: all these run exactly through samples, where signs are zero and vertices merge."""
    mesh = assert_equal_to_dense(Watched(field, accuracy), 65, bounds=SYMMETRIC)
    assert mesh.to_trimesh().is_watertight


def test_noise_with_every_ambiguous_cell() -> None:
    """Random values at the samples: many cells get a vertex inside."""
    values = torch.rand(44, 44, 44, generator=torch.Generator().manual_seed(2)) - 0.5
    box = Bounds.cube(1.0)
    field = GridField(values, bounds=Bounds.cube(1.05))
    mesh = assert_equal_to_dense(field, 44, bounds=box)
    between = (mesh.vertices + 1.05) / Lattice.over(box, 44).spacing
    inner = (np.abs(between - np.rint(between)) > 1e-3).sum(axis=1) == 3
    assert inner.sum() > 100


@pytest.mark.parametrize(
    "change",
    [
        lambda sdf, points: 0.1 * torch.tanh(sdf / 0.1),
        lambda sdf, points: sdf.clamp(-0.1, 0.1) + 0.01 * torch.sin(7 * points).sum(dim=-1),
        lambda sdf, points: 40 * sdf,
        lambda sdf, points: sdf**3,
        lambda sdf, points: torch.where(sdf > 0, 5 * sdf, 0.2 * sdf),
    ],
    ids=["saturating", "clamped with drift", "steep", "flat at the surface", "bent at the surface"],
)
def test_approximate_fields(change) -> None:
    shape = Union(Torus(0.6, 0.1), Box([0.02, 0.5, 0.3], center=[0.1, 0, 0]), Sphere(0.06, center=[-0.7, 0.7, 0.7]))
    assert_equal_to_dense(Watched(shape, "approximate", change), 80, bounds=SYMMETRIC)


def test_a_network_untrained() -> None:
    """A noisy level set, with values that must not depend on the points they are evaluated with."""
    torch.manual_seed(4)
    decoder = build_decoder(VolumeConfig(latent_size=8, channels=(16, 8, 8), base_resolution=4))
    field = NeuralField(decoder, 3 * torch.randn(8))
    points = torch.from_numpy(Lattice.over(UNIT_BOUNDS, 16).slab(0, 16)).float()
    level = float(field(points).detach().median())
    for resolution in (57, 96):
        assert_equal_to_dense(field, resolution, level=level)


@pytest.mark.parametrize("accuracy", ["exact", "approximate"])
def test_other_levels_frames_and_lattices(accuracy: Accuracy) -> None:
    far = Transformed(Box([1, 0.3, 0.12]), translation=[1000, -300, 20])
    assert_equal_to_dense(Watched(far, accuracy), 90)
    assert_equal_to_dense(Watched(far, accuracy), 131, level=0.03, dtype=torch.float64, project_steps=1)
    assert_equal_to_dense(Watched(Sphere(0.8), accuracy), 41, level=-0.35)


def test_a_surface_that_leaves_the_lattice_is_open_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for normal in ([0, 1, 0], [0.3, -1, 0.2]):
        caplog.clear()
        mesh = assert_equal_to_dense(HalfSpace(normal), 40, bounds=Bounds.cube(1.0))
        assert [record.getMessage()[:31] for record in caplog.records] == ["the surface leaves the lattice "] * 2
        assert not mesh.to_trimesh().is_watertight
    caplog.clear()
    extract_mesh(Sphere(0.9), resolution=40)
    assert caplog.text == ""


def test_an_inside_at_the_border_is_warned_of_where_no_surface_is(caplog: pytest.LogCaptureFixture) -> None:
    class Cavity(Field):
        bounds, accuracy = Bounds.cube(1.0), "exact"

        def __call__(self, points: Tensor) -> Tensor:
            return 0.3 - points.norm(dim=-1)

    assert_equal_to_dense(Cavity(), 40)
    assert caplog.text.count("leaves the lattice") == 2


@pytest.mark.parametrize("accuracy", ["exact", "approximate"])
def test_a_surface_is_followed_wherever_it_goes(
    accuracy: Accuracy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One block to begin with is enough to find a whole piece; the value at its centre is not asked for again."""

    def one_block(sample, *args, **kwargs) -> sparse._BlockChoice:
        # Of the ring with its axis along y, the torus's place at x = -0.6: sample 13, hence block 6.
        block = np.array([[6, 17, 16]], dtype=np.int32)
        others = np.indices([32] * 3, dtype=np.int32).reshape(3, -1).T
        others = others[(others != block).any(axis=1)]
        skipped = sparse._SkippedBlocks(2, others, sample(2 * others + 1) <= 0)
        return sparse._BlockChoice(block, sample(2 * block + 1), (skipped,))

    monkeypatch.setattr(sparse, "_choose_blocks", one_block)
    with caplog.at_level(logging.DEBUG, logger="sdfnet"):
        assert_equal_to_dense(Watched(Torus(0.6, 0.1), accuracy), 65, bounds=SYMMETRIC)
    # How blocks are found is nothing that a user can act on.
    levels = {record.levelno for record in caplog.records if "enters" in record.getMessage()}
    assert levels == {logging.DEBUG}


def test_of_a_plane_every_block_is_chosen_and_few_others(caplog: pytest.LogCaptureFixture) -> None:
    """A plane's slopes are the same everywhere, so its blocks are known before the surface is followed."""
    generator = np.random.default_rng(0)
    shares = []
    for normal in [[1, 0, 0], [0, 1, 0], [1, 1, 1], [1, -1, 0], *generator.normal(size=(20, 3))]:
        plane = HalfSpace(normal, point=generator.uniform(-0.3, 0.3, 3))
        field = Watched(plane, "approximate")
        with caplog.at_level(logging.DEBUG, logger="sdfnet"):
            extract_mesh(field, resolution=129, bounds=SYMMETRIC, vertex_normals=False)
        assert "enters" not in caplog.text
        shares.append(field.num_evaluations / 129**3)
    # 0.0666 in the mean; 0.0716 where a gradient is taken to point at a corner of every block.
    assert np.mean(shares) < 0.068


def _hidden(sdf: Tensor, points: Tensor) -> Tensor:
    """Put a steep hollow at every eighth sample of a lattice with spacing 1/32, between the centres of all blocks."""
    nearest = torch.round(points * 4) / 4
    return torch.where((points - nearest).abs().amax(dim=-1) < 0.01, -sdf, sdf)


def test_what_the_audit_finds_makes_it_dense_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert_equal_to_dense(Watched(Sphere(0.6), "approximate", _hidden), 65, bounds=SYMMETRIC, falls_back=True)
    assert re.search(r"\d+ of the skipped blocks that were audited hold a surface.*whole lattice", caplog.text)
    assert caplog.text.count("whole lattice") == 1


@pytest.mark.parametrize("accuracy", ["exact", "approximate"])
@pytest.mark.parametrize("sparsely", [True, False])
def test_refusals_are_those_of_dense_extraction(accuracy: Accuracy, sparsely: bool) -> None:
    with pytest.raises(ValueError, match=re.escape("no surface at level 5: field is in [-0.8")):
        extract_mesh(Watched(Sphere(0.9), accuracy), resolution=40, level=5, sparse=sparsely)
    broken = Watched(Sphere(0.9), accuracy, lambda sdf, points: torch.where(sdf.abs() < 0.1, torch.nan, sdf))
    with pytest.raises(ValueError, match=r"the field is not finite at \d+ of \d+ "):
        extract_mesh(broken, resolution=40, sparse=sparsely)


@pytest.mark.parametrize(("accuracy", "share"), [("exact", 0.065), ("approximate", 0.1)])
def test_little_is_evaluated(accuracy: Accuracy, share: float) -> None:
    field = Watched(Sphere(0.6), accuracy)
    extract_mesh(field, resolution=128, bounds=UNIT_BOUNDS, vertex_normals=False)
    assert field.num_evaluations < share * 128**3


def test_a_mesh_field_is_found_with_few_distances() -> None:
    ball = extract_mesh(Sphere(0.7), resolution=24)
    field = Watched(MeshField(Mesh(ball.vertices, ball.faces)))
    assert_equal_to_dense(field, 72)


@pytest.mark.slow
def test_memory_is_that_of_the_surface() -> None:
    """1024³ values would be 4.3 GB; four times the surface is four times the memory."""
    peaks = []
    for resolution in (512, 1024):
        field = Watched(Sphere(0.6), "approximate")
        tracemalloc.start()
        extract_mesh(field, resolution=resolution, bounds=UNIT_BOUNDS, vertex_normals=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5e9
    assert peaks[1] < 5 * peaks[0]
    assert field.num_evaluations < 0.008 * 1024**3


def test_slopes_beyond_a_clamp_cost_nothing_near_the_surface() -> None:
    def clamped(sdf: Tensor, points: Tensor) -> Tensor:
        """As a network of clamped distances: right near the surface, steep without meaning beyond."""
        beyond = (sdf.abs() - 0.05).clamp(min=0)
        return sdf + 2 * sdf.sign() * beyond * torch.sin(20 * points[..., 0]) ** 2

    field = Watched(Sphere(0.6), "approximate", clamped)
    mesh = extract_mesh(field, resolution=256, bounds=UNIT_BOUNDS, vertex_normals=False)
    assert field.num_evaluations < 0.05 * 256**3
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.6).max() < 1e-3
