"""Do two groups of shapes differ, and where on the surface? A permutation test with one p-value a comparison.

The test takes corresponding vertices and looks at two things at every vertex: its place after rigid alignment, and the
local form around it. The local form is what an affine map of the neighbourhood cannot explain, so that a bump is seen
although limbs bend, twist and grow. The statistic is Hotelling's T², made comparable from vertex to vertex. The p-value
counts how often a random division into groups of the same sizes has a larger *maximum* over the surface, so it holds
for the surface as a whole.

References: Nichols and Holmes 2002, "Nonparametric permutation tests for functional neuroimaging", Human Brain Mapping
15 (the maximum statistic); Phipson and Smyth 2010, "Permutation p-values should never be zero" (the count of one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray
from sdfnet.latents.statistics import farthest_first

LEAST_SHAPES = 3
"""Of each group."""

_LEVEL = 0.05

_ANCHORS, _NEIGHBOURS = 2000, 40
"""Vertices, spread evenly over the surface, that stand for it in neighbourhoods, and how many of them each has."""

_RIDGE = 1e-2
"""Weight of the identity where a neighbourhood is flat, as a share of its squared size."""

_TOGETHER = 100
"""Permutations that are computed in one product of matrices."""


@dataclass(frozen=True, eq=False)
class GroupDifference:
    """The result of `compare_groups`, the second group against the first.

    Attributes
    ----------
    p_value : float
        The probability of a maximum this large if the groups did not differ.
    vertex_p_values : (V,) float64
        The same for each vertex, corrected for the whole surface: where this is below 0.05, the groups differ.
    differences : (V, 3) float64
        Mean position in the second group minus that in the first, after alignment.
    local_differences : (V, 3) float64
        The same for the local form.
    mean : (V, 3) float64
        The mean shape of all.
    """

    p_value: float
    vertex_p_values: FloatArray
    differences: FloatArray
    local_differences: FloatArray
    mean: FloatArray

    @property
    def share_that_differs(self) -> float:
        """The share of the vertices whose corrected p-value is below 0.05."""
        return float((self.vertex_p_values < _LEVEL).mean())


def compare_groups(
    vertices: FloatArray,
    in_second: BoolArray,
    *,
    num_permutations: int = 1000,
    scale: float = 0.2,
    generator: torch.Generator,
) -> GroupDifference:
    """Test whether two groups of shapes with corresponding vertices differ.

    Parameters
    ----------
    vertices : (S, V, 3) float64
        Vertex k is the same place on every shape.
    in_second : (S,) bool
        The shapes of the second group.
    num_permutations : int
        Random divisions; the smallest p-value is 1 / (1 + this number).
    scale : float
        Radius of the neighbourhoods of the local form, as a share of the radius of the mean shape. The test is best for
        local differences of half this width.

    Raises
    ------
    ValueError
        Fewer than three shapes in a group, wrong shapes of arrays, vertices that are not finite.

    >>> vertices = np.random.default_rng(0).normal(size=(12, 50, 3))
    >>> groups = np.arange(12) < 6
    >>> compare_groups(vertices, groups, num_permutations=99, generator=torch.Generator()).p_value > 0.05
    True
    """
    _check(vertices, in_second, num_permutations, scale)
    aligned = align_rigidly(vertices)
    mean = aligned.mean(axis=0)
    form = local_form(aligned, scale=scale)
    features = np.stack([_whitened(aligned), _whitened(form)])  # (2, S, V, 3)
    observed = _largest(features, in_second[None])[0]
    draws = np.argsort(torch.rand(num_permutations, len(in_second), generator=generator).numpy(), axis=1)
    parts = np.split(draws, range(_TOGETHER, len(draws), _TOGETHER))
    maxima = np.sort(np.concatenate([_largest(features, in_second[part]).max(axis=1) for part in parts]))
    as_large = num_permutations - np.searchsorted(maxima, observed, side="left")
    p_values = (1 + as_large) / (1 + num_permutations)
    return GroupDifference(
        float(p_values.min()),
        p_values,
        _difference(aligned, in_second),
        _difference(form, in_second),
        mean,
    )


def align_rigidly(vertices: FloatArray, *, num_rounds: int = 3) -> FloatArray:
    """Return vertices (S, V, 3), each shape turned and moved onto the mean of all; sizes stay (generalized Procrustes).

    The mean has the position and, roughly, the orientation of the first shape.

    >>> square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    >>> moved = square @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + 5
    >>> bool(np.allclose(*align_rigidly(np.stack([square, moved]))))
    True
    """
    centers = vertices.mean(axis=1, keepdims=True)
    turned, target = vertices - centers, vertices[0] - centers[0]
    for _ in range(num_rounds):
        left, _, right = np.linalg.svd(np.einsum("svi,vj->sij", turned, target))
        left[:, :, -1] *= np.sign(np.linalg.det(left @ right))[:, None]  # no reflections
        turned = turned @ (left @ right)
        target = turned.mean(axis=0)
    return np.asarray(turned + centers[0])


def local_form(vertices: FloatArray, *, scale: float) -> FloatArray:
    """Return the part (S, V, 3) of the vertices that no affine map of their neighbourhood on the mean shape explains.

    At each vertex, an affine map is fitted by weighted least squares from the neighbourhood on the mean shape to the
    neighbourhood on the shape. The result is the vertex minus its image.

    >>> grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
    >>> form = local_form(np.stack([grid, grid @ np.diag([1.0, 2.0, 3.0]) + 1]), scale=0.9)
    >>> bool(np.abs(form).max() < 0.05)
    True
    """
    mean = vertices.mean(axis=0)
    radius = scale * float(np.linalg.norm(mean - (mean.min(axis=0) + mean.max(axis=0)) / 2, axis=1).max())
    anchors = np.array(farthest_first(mean, _ANCHORS))
    away, near = cKDTree(mean[anchors]).query(mean, k=min(_NEIGHBOURS, len(anchors)))
    weights = np.exp(-2 * (away / radius) ** 2) + 1e-9
    offsets = mean[anchors][near] - mean[:, None]  # (V, K, 3)
    # The image of the vertex is its weighted mean plus a linear term; both are linear in the neighbours' positions.
    shares = weights / weights.sum(axis=1, keepdims=True)
    middle = np.einsum("vk,vki->vi", shares, offsets)
    spread = offsets - middle[:, None]
    moments = np.einsum("vk,vki,vkj->vij", shares, spread, spread) + _RIDGE**2 * radius**2 * np.eye(3)
    slopes = np.linalg.solve(moments, -middle[..., None])[..., 0]
    factors = shares * (1 + np.einsum("vki,vi->vk", spread, slopes))
    rows = np.repeat(np.arange(len(mean)), near.shape[1])
    images = csr_matrix((factors.ravel(), (rows, anchors[near].ravel())), shape=(len(mean), len(mean)))
    flat = vertices.transpose(1, 0, 2).reshape(len(mean), -1)
    return np.asarray((flat - images @ flat).reshape(len(mean), len(vertices), 3).transpose(1, 0, 2))


def _check(vertices: FloatArray, in_second: BoolArray, num_permutations: int, scale: float) -> None:
    if vertices.ndim != 3 or vertices.shape[2] != 3 or in_second.shape != vertices.shape[:1]:
        raise ValueError(
            f"vertices must have shape (S, V, 3) and in_second (S,), got {vertices.shape} and {in_second.shape}"
        )
    if not np.isfinite(vertices).all():
        raise ValueError("vertices must be finite")
    counts = [int((~in_second).sum()), int(in_second.sum())]
    if min(counts) < LEAST_SHAPES:
        raise ValueError(f"each group needs at least {LEAST_SHAPES} shapes, got {counts[0]} and {counts[1]}")
    if num_permutations < 19:
        raise ValueError(f"num_permutations must be 19 or more, got {num_permutations}")
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")


def _difference(values: FloatArray, in_second: BoolArray) -> FloatArray:
    return np.asarray(values[in_second].mean(axis=0) - values[~in_second].mean(axis=0))


def _whitened(values: FloatArray) -> Float32Array:
    """Return values (S, V, 3) about their mean, so that their covariance at each vertex is the identity.

    With the covariance of all shapes, which no permutation changes, the length of a difference of means rises and falls
    with Hotelling's T².
    """
    away = values - values.mean(axis=0)
    covariance = np.einsum("svi,svj->vij", away, away) / (len(values) - 1)
    size = np.trace(covariance, axis1=1, axis2=2)
    covariance += (1e-6 * size + 1e-12 * size.mean() + 1e-300)[:, None, None] * np.eye(3)
    factors = np.linalg.inv(np.linalg.cholesky(covariance))
    return np.einsum("vij,svj->svi", factors, away).astype(np.float32)


def _largest(features: Float32Array, second: BoolArray) -> Float32Array:
    """Return the larger statistic of the features (2, S, V, 3) for each division (P, S) into groups, (P, V)."""
    num = second.sum(axis=1, keepdims=True)
    weights = (second / num - (~second) / (second.shape[1] - num)).astype(np.float32)
    found = None
    for feature in features:
        sums = (weights @ feature.reshape(len(feature), -1)).reshape(len(weights), -1, 3)
        lengths = np.einsum("pvi,pvi->pv", sums, sums)
        found = lengths if found is None else np.maximum(found, lengths)
    assert found is not None
    return found
