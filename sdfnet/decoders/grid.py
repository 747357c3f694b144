"""The decoder of a single shape in full detail: grids of distances, dense where coarse, and sparse near the surface.

The distance at a point is the sum of trilinear look-ups on several levels, each of which corrects the coarser ones. The
fine levels exist only in the cells that the surface crosses, so the memory grows with the surface and not with the
volume. There is no network and the code has no influence: the decoder holds exactly one shape.
Legend: B shapes in a batch (all of them the one shape), N points per shape, M cells, V vertices of a level.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sdfnet.decoders.base import Decoder
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, LearningRates

_HALF_EXTENT = 1.05
"""The outermost vertices lie at ±1.05, as the lattice of extraction does."""

_FIRST_DISTANCE = 0.01
"""The distance everywhere before training. It is small, because the values move only a little in each step."""

_CORNERS = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True)
class GridConfig(DecoderConfig):
    """Options of `decoder=grid`.

    >>> GridConfig().resolution
    512
    """

    kind: str = "grid"
    latent_size: int = 1
    """Length of the code, which has no influence."""
    dense: tuple[int, ...] = (32, 64)
    """Cells per axis of the levels that fill the cube, at least one."""
    cells: int = 128
    """Cells per axis of the lattice whose cells near the surface carry the fine levels."""
    divisions: tuple[int, ...] = (2, 4)
    """Parts along each axis into which the fine levels divide such a cell; empty for no fine level."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dense", tuple(self.dense))
        object.__setattr__(self, "divisions", tuple(self.divisions))
        self.check_least(latent_size=1, cells=1)
        if not self.dense or min(self.dense) < 1 or max(self.dense) > 256:
            raise ValueError(f"dense must be at least one number of cells from 1 to 256, got {list(self.dense)}")
        if min(self.divisions, default=1) < 1 or self.resolution > 2048:
            raise ValueError(
                f"divisions must be 1 or more, and at most 2048 / cells, got {list(self.divisions)} and {self.cells}"
            )

    @property
    def resolution(self) -> int:
        """Cells per axis of the finest level."""
        return max(*self.dense, *(self.cells * parts for parts in self.divisions))


class GridDecoder(Decoder):
    """Signed distance to one shape: a sum of trilinear look-ups. It is differentiable in the points once.

    A new decoder has no fine cells. `adapt` places them where the surface is, before training. A saved decoder brings
    its cells with it. A vertex that several cells share is one number, so the distance is continuous inside the union
    of the cells. At the border of this union the distance may jump by the corrections there, away from the surface.

    References
    ----------
    Müller et al., "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", SIGGRAPH 2022 (levels that
    are learned together); Takikawa et al., "Neural Geometric Level of Detail", CVPR 2021 (features only in cells near
    the surface); Frisken et al., "Adaptively Sampled Distance Fields", SIGGRAPH 2000. Here each vertex holds one
    distance instead of features for a network, and cells have exact indices instead of hashes, which collide.
    """

    holds_one_shape = True
    cells: Tensor
    """(M,) int64, ascending: the cells that carry the fine levels. Cell (x, y, z) is (x R + y) R + z."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self._cells_per_axis, self._divisions, self._dense_cells = config.cells, config.divisions, config.dense
        first = _FIRST_DISTANCE / self._spacing(config.dense[0])
        self.dense = nn.ParameterList(
            [torch.full((1, 1, *[cells + 1] * 3), 0.0 if level else first) for level, cells in enumerate(config.dense)]
        )
        self.fine = nn.ParameterList([torch.zeros(0) for _ in config.divisions])
        self._place(torch.zeros(0, dtype=torch.int64))

    @staticmethod
    def _spacing(cells: int) -> float:
        # A level's values are in units of its spacing. So the optimizer, whose steps have one size for all parameters,
        # moves fine levels less than coarse ones.
        return 2 * _HALF_EXTENT / cells

    def adapt(self, surface_N3: Tensor) -> None:
        """Place the fine levels in the cells that contain points (N, 3) near the surface. Their values begin at 0."""
        places = ((surface_N3 / _HALF_EXTENT + 1) / 2 * self._cells_per_axis).floor().long()
        places = places.clamp(0, self._cells_per_axis - 1)
        self._place(self._flat(places, self._cells_per_axis).unique())

    @staticmethod
    def _flat(places: Tensor, count: int) -> Tensor:
        """Return the position of `places` (..., 3) in an array of `count` along each axis."""
        return (places[..., 0] * count + places[..., 1]) * count + places[..., 2]

    def _place(self, cells: Tensor) -> None:
        """Make the indices of `cells` (M,), and values of 0 for every level whose number of vertices changes."""
        count = self._cells_per_axis
        self.register_buffer("cells", cells)
        rows = torch.full((count**3,), -1, dtype=torch.int32, device=cells.device)
        rows[cells] = torch.arange(len(cells), dtype=torch.int32, device=cells.device)
        self.register_buffer("_rows", rows, persistent=False)
        lowest = torch.stack([cells // count**2, cells // count % count, cells % count], dim=-1)
        for level, parts in enumerate(self._divisions):
            along = torch.arange(parts + 1, device=cells.device)
            offsets = torch.stack(torch.meshgrid(along, along, along, indexing="ij"), dim=-1).reshape(-1, 3)
            vertices = self._flat(lowest[:, None] * parts + offsets, count * parts + 1)
            unique, table = vertices.unique(return_inverse=True)
            self.register_buffer(f"_table_{level}", table.reshape(-1).to(torch.int32), persistent=False)
            if len(unique) != len(self.fine[level]):
                self.fine[level] = nn.Parameter(self.dense[0].new_zeros(len(unique)))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        cells = state_dict.get(f"{prefix}cells")
        if cells is not None and not torch.equal(cells, self.cells.to(cells.device)):
            self._place(cells.to(self.cells.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def saved_weights(self) -> dict[str, Tensor]:
        """Return the weights with fine levels in 16 bits.

        A value is about one spacing of its level, so the distance changes by about a thousandth of a fine spacing.
        """
        weights = self.state_dict()
        return {name: weight.half() if name.startswith("fine.") else weight for name, weight in weights.items()}

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL,)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        points = points_BN3.reshape(-1, 3).to(self.dense[0])
        # The grids are indexed [x, y, z], but grid_sample wants the last axis first.
        where = (points / _HALF_EXTENT).flip(-1)[None, None, None]
        sdf = torch.zeros_like(points[:, 0])
        for cells, values in zip(self._dense_cells, self.dense, strict=True):
            found = nn.functional.grid_sample(values, where, align_corners=True, padding_mode="border")
            sdf = sdf + self._spacing(cells) * found.view(-1)
        if len(self.cells):
            sdf = self._add_fine(sdf, points)
        return sdf.view(points_BN3.shape[:-1])

    def _add_fine(self, sdf: Tensor, points: Tensor) -> Tensor:
        """Add the fine levels to `sdf` (N,) at the `points` (N, 3) that lie in cells of theirs."""
        count = self._cells_per_axis
        places = ((points / _HALF_EXTENT + 1) / 2 * count).clamp(0, count)
        lowest = places.detach().floor().clamp(max=count - 1)
        rows = self.get_buffer("_rows")[self._flat(lowest.long(), count)]
        near = (rows >= 0).nonzero()[:, 0]
        inside = (places - lowest)[near]  # 0 to 1 along each axis of the cell
        rows = rows[near].long()
        correction = torch.zeros_like(inside[:, 0])
        for level, (parts, values) in enumerate(zip(self._divisions, self.fine, strict=True)):
            scaled = inside * parts
            part = scaled.detach().floor().clamp(max=parts - 1)
            side = parts + 1
            first = rows * side**3 + self._flat(part.long(), side)
            steps = torch.tensor([self._flat(torch.tensor(corner), side) for corner in _CORNERS], device=first.device)
            vertices = self.get_buffer(f"_table_{level}")[first[:, None] + steps]
            high = scaled - part
            weights = torch.stack([1 - high, high])  # (2, N, 3)
            x, y, z = (weights[..., axis].T for axis in range(3))
            corners = (x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]).view(-1, 8)
            found = nn.functional.embedding_bag(vertices, values[:, None], per_sample_weights=corners, mode="sum")
            correction = correction + self._spacing(count * parts) * found[:, 0]
        return sdf.index_add(0, near, correction)


KIND = DecoderKind(GridConfig, GridDecoder, {"adam": LearningRates(1e-2, 1e-2)}, num_samples=2_000_000)
