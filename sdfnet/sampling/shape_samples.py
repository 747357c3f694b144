"""The samples of one shape: points with signed distances, surface points with normals, and held-out surface points.

All samples are in the unit frame, shuffled, and float32. The distance is computed in float64 at the *rounded* point, so
rounding of the point costs no accuracy. A `Target` says how to measure and draw points of a closed or an open mesh; the
mixture of points (`SamplerConfig`) is the same for both.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.geometry.bounds import LATTICE_MARGIN, Bounds
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance, at_sign_jump
from sdfnet.sampling.samplers import (
    SurfaceSamples,
    add_noise,
    sample_ball,
    sample_features,
    sample_surface,
    sample_volume,
    split_by_shares,
)
from sdfnet.solids.source_shape import SourceShape


@dataclass(frozen=True, eq=False)
class Target:
    """Functions that measure and draw points of one shape, unit frame."""

    measure: Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.bool_]]]
    """Maps points (N, 3) to their signed distances (N,) and whether each point may be used (N,)."""
    draw_surface: Callable[[int], SurfaceSamples]
    """Draws the given number of points on the surface."""
    draw_features: Callable[[int, float], Tensor]
    """Draws the given number of points, with a standard deviation, near curved places and in thin parts."""


def target_of(shape: SourceShape, similarity: Similarity, generator: torch.Generator) -> Target:
    """Build the search trees of `shape`. All random numbers come from `generator`."""
    mesh = shape.mesh.to_unit(similarity)
    distance = MeshDistance(mesh)

    def measure(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        found = distance(points)
        return found.sdf, np.ones(len(points), dtype=bool) if shape.closed else ~at_sign_jump(found)

    return Target(
        measure,
        partial(sample_surface, mesh, generator=generator),
        lambda num, noise_std: sample_features(mesh, num, noise_std=noise_std, generator=generator),
    )


Volume = Literal["cube", "ball"]
"""The region of the uniform points: the cube of the shared lattice, [-1.05, 1.05]³, or the unit ball."""

_CUBE = Bounds.cube(1 + LATTICE_MARGIN)
_ROUNDS = 50


@dataclass(frozen=True)
class SamplerConfig:
    """How many points are drawn from each shape, and where. Shares are relative: only their ratios count.

    >>> SamplerConfig(num_samples=60_000).noise_stds
    (0.005, 0.02, 0.07)
    """

    num_samples: int = 250_000
    """Points with signed distances per shape, at least 1."""
    num_surface: int = 20_000
    """Points on the surface with normals per shape, 0 or more."""
    num_heldout: int = 5_000
    """Further points on the surface, for measuring only, 0 or more."""
    noise_stds: tuple[float, ...] = (0.005, 0.02, 0.07)
    """Standard deviations of the offsets of near-surface samples, unit frame, each above 0."""
    noise_shares: tuple[float, ...] = (0.3, 0.25, 0.15)
    """Relative share of each of `noise_stds`; only the ratios of all shares count."""
    feature_share: float = 0.2
    """Share of samples about curved places and in thin parts."""
    feature_noise_std: float = 0.01
    """Largest standard deviation of their offsets, unit frame, above 0."""
    volume_share: float = 0.1
    """Share of samples spread uniformly in `volume`."""
    volume: Volume = "cube"
    seed: int = 0
    """0 or more; each shape has a stream of its own, made from it and from the content of the shape's file."""

    def __post_init__(self) -> None:
        # One spelling of each value, because a store compares settings: lists become tuples, whole numbers floats.
        for name in ("noise_stds", "noise_shares"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        for name in ("feature_share", "feature_noise_std", "volume_share"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for name, least in (("num_samples", 1), ("num_surface", 0), ("num_heldout", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if len(self.noise_stds) != len(self.noise_shares):
            raise ValueError(
                f"noise_shares must give one share for each of noise_stds, got {len(self.noise_shares)} shares "
                f"for {len(self.noise_stds)} deviations"
            )
        for name in ("noise_stds", "feature_noise_std"):
            values = getattr(self, name)
            if not all(math.isfinite(value) and value > 0 for value in _as_tuple(values)):
                raise ValueError(f"{name} must be positive and finite, got {values}")
        for name in ("noise_shares", "feature_share", "volume_share"):
            values = getattr(self, name)
            if not all(math.isfinite(value) and value >= 0 for value in _as_tuple(values)):
                raise ValueError(f"{name} must be finite and 0 or more, got {values}")
        if not math.fsum(self.shares) > 0:
            raise ValueError("noise_shares, feature_share and volume_share must not all be 0")
        if self.volume not in get_args(Volume):
            raise ValueError(f"volume must be one of {', '.join(get_args(Volume))}, got {self.volume!r}")

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of all components in the order of drawing: near-surface ones, features, volume."""
        return (*self.noise_shares, self.feature_share, self.volume_share)

    @property
    def record_floats(self) -> int:
        """The count of numbers in the samples of one shape."""
        return 4 * self.num_samples + 6 * self.num_surface + 6 * self.num_heldout

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document; `SamplerConfig(**document)` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def deepsdf_config() -> SamplerConfig:
    """Return the mixture of DeepSDF.

    250,000 surface points, each moved twice (variances 0.0025 and 0.00025 along each axis), and 25,000 uniform points
    in the unit sphere. Here every near-surface sample starts from its own surface point, which spreads them better.
    DeepSDF's published program differs: variances 0.005 and 0.0005, and a cube.

    References
    ----------
    Park et al., CVPR 2019, supplementary material B, https://arxiv.org/abs/1901.05103

    >>> config = deepsdf_config()
    >>> config.num_samples, [round(std**2, 8) for std in config.noise_stds], config.shares
    (525000, [0.0025, 0.00025], (250.0, 250.0, 0.0, 25.0))
    """
    return SamplerConfig(
        num_samples=525_000,
        noise_stds=(math.sqrt(0.0025), math.sqrt(0.00025)),
        noise_shares=(250.0, 250.0),
        feature_share=0.0,
        volume_share=25.0,
        volume="ball",
    )


@dataclass(frozen=True, eq=False)
class ShapeSamples:
    """The samples of one shape: unit frame, float32, shuffled.

    >>> from sdfnet.solids.source_shape import folder_similarities, load_shape
    >>> chair = load_shape("chairs/chair_01.obj")
    >>> config = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=10)
    >>> sample_shape(chair, folder_similarities([chair])[0], config).surface.shape
    (100, 6)
    """

    sdf: NDArray[np.float32]
    """(N, 4): x, y, z and the signed distance at this point."""
    surface: NDArray[np.float32]
    heldout: NDArray[np.float32]
    """(M, 6) and (K, 6): points on the surface with unit outward normals. The two sets are drawn independently."""


def sample_shape(shape: SourceShape, similarity: Similarity, config: SamplerConfig) -> ShapeSamples:
    """Draw exactly as many samples of `shape` as `config` says. Deterministic given the file and `config`.

    Points at the sign jump of an open mesh are replaced by others of the same kind.

    Raises
    ------
    ValueError
        Nearly all points of one kind lie at the sign jump, as with a mesh that has no inside.

    >>> from sdfnet.solids.source_shape import folder_similarities, load_shape
    >>> chair = load_shape("chairs/chair_00.obj")
    >>> config = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=0)
    >>> sample_shape(chair, folder_similarities([chair])[0], config).sdf.shape
    (1000, 4)
    """
    generator = shape_generator(shape.content_hash, config.seed)
    target = target_of(shape, similarity, generator)
    sdf = _draw_sdf(target, config, generator)
    surface = target.draw_surface(config.num_surface + config.num_heldout)
    oriented = torch.cat([surface.points, surface.normals], dim=1).to(torch.float32).numpy()
    return ShapeSamples(sdf, oriented[: config.num_surface], oriented[config.num_surface :])


def shape_generator(content_hash: str, seed: int) -> torch.Generator:
    """Return the random generator of one shape. It depends on content and seed, not on the order of preparation."""
    digest = hashlib.sha256(f"{seed}:{content_hash}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _draw_sdf(target: Target, config: SamplerConfig, generator: torch.Generator) -> NDArray[np.float32]:
    """Draw all components, measure them, redraw the points that may not be used, and shuffle: (N, 4)."""

    def draw_near(num: int, *, noise_std: float) -> Tensor:
        return add_noise(target.draw_surface(num).points, noise_std, generator=generator)

    samplers: list[Callable[[int], Tensor]] = [
        *(partial(draw_near, noise_std=noise_std) for noise_std in config.noise_stds),
        lambda num: target.draw_features(num, config.feature_noise_std),
        partial(sample_ball, generator=generator)
        if config.volume == "ball"
        else partial(sample_volume, _CUBE, generator=generator),
    ]
    wanted = split_by_shares(config.num_samples, config.shares)
    accepted: list[NDArray[np.float32]] = []
    for round_number in range(_ROUNDS):
        # Later rounds ask for a few more than are missing, so that a low rate of acceptance ends soon.
        asked = [num if round_number == 0 else 2 * num for num in wanted]
        points = torch.cat([draw(num) for draw, num in zip(samplers, asked, strict=True)]).to(torch.float32).numpy()
        sdf, usable = target.measure(points.astype(np.float64))
        rows = np.concatenate([points, sdf[:, None].astype(np.float32)], axis=1)
        ends = np.cumsum(asked)
        for k, (end, num) in enumerate(zip(ends, asked, strict=True)):
            kept = rows[end - num : end][usable[end - num : end]][: wanted[k]]
            accepted.append(kept)
            wanted[k] -= len(kept)
        if not any(wanted):
            order = torch.randperm(config.num_samples, generator=generator).numpy()
            return np.concatenate(accepted)[order]
    raise ValueError(
        f"{sum(wanted)} of {config.num_samples} samples could not be placed: the sign of the distance jumps nearly "
        "everywhere, as on a mesh without an inside. Close the mesh, or give solid=auto, which makes walls of sheets."
    )


def _as_tuple(values: float | tuple[float, ...]) -> tuple[float, ...]:
    return values if isinstance(values, tuple) else (values,)
