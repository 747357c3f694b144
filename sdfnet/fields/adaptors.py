"""Adaptors: what is no field by itself, a triangle mesh, a grid of values or a learned code, as a field."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdfnet.decoders.base import Decoder
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.fields.extent import box_distance
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh

SURFACE_SHARE = 1e-7
"""Nearer to the surface than this share of the mesh's size, the direction to the closest point is only rounding."""


class MeshField(Field):
    """The signed distance to a triangle mesh, in the mesh's frame: distance to the closest point, sign by winding.

    Exact if `closed`, which is not checked; across the holes of an open mesh the sign jumps where the distance is not
    zero, so it is only approximate. Hand in a repaired mesh (`make_solid`): buried and flipped faces count.

    Computed on the CPU in float64 whatever the points are. Differentiable once with respect to the points: the gradient
    is the unit direction away from the closest point, or the face's normal where the point lies on the surface.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> field = MeshField(Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    >>> field(torch.tensor([[-1.0, 0.1, 0.1]])).tolist()
    [1.0]
    """

    def __init__(self, mesh: Mesh, *, closed: bool = True) -> None:
        self.mesh = mesh
        self.accuracy = "exact" if closed else "approximate"
        self.bounds = mesh.bounds
        self._distance = MeshDistance(mesh)
        self._face_normals = mesh.face_normals
        self._on_surface = SURFACE_SHARE * float(np.abs(mesh.vertices).max())

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        flat = points.reshape(-1, 3)
        points_64 = flat.detach().to("cpu", torch.float64).numpy()
        if not len(points_64):
            return points.sum(dim=-1)  # Empty, and still part of the graph.
        found = self._distance(points_64)
        sdf = torch.from_numpy(np.ascontiguousarray(found.sdf)).to(points)
        if points.requires_grad and torch.is_grad_enabled():
            offsets = points_64 - found.closest_points
            away = np.where(found.sdf < 0, -1.0, 1.0)[:, None] * offsets
            lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
            directions = np.where(
                lengths > self._on_surface, away / np.maximum(lengths, 1e-300), self._face_normals[found.faces]
            )
            # Adds zero, with the slope of the distance.
            sdf = sdf + ((flat - flat.detach()) * torch.from_numpy(directions).to(points)).sum(dim=-1)
        return sdf.reshape(points.shape[:-1])


class GridField(Field):
    """Trilinear interpolation of `values` (X, Y, Z), whose first and last samples lie on the faces of `bounds`.

    Approximate: where the samples are exact distances h apart, the error is of order h² away from edges. Beyond the
    box, the value is that at the nearest point of the box plus the distance to that point. A solid that the box cuts is
    closed there, so that the zero set stays within `bounds`. Differentiable with respect to the points.

    Raises
    ------
    ValueError
        `values` is not three-dimensional with at least two samples per axis, or not finite and floating; `bounds` is
        infinite or flat.

    >>> values = torch.linspace(-1, 1, 3)[:, None, None].expand(3, 2, 2)
    >>> GridField(values, bounds=Bounds.cube(1.0))(torch.tensor([[0.25, 0.0, 0.0]])).tolist()
    [0.25]
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, values: Tensor, *, bounds: Bounds) -> None:
        if values.ndim != 3 or min(values.shape) < 2:
            raise ValueError(f"values must have shape (X, Y, Z) with at least 2 along each, got {tuple(values.shape)}")
        if not (values.is_floating_point() and bool(values.isfinite().all())):
            raise ValueError(f"values must be finite and floating, got {values.dtype} with some not finite or not real")
        if not (bounds.is_finite and bounds.extent.min() > 0):
            raise ValueError(f"bounds must be finite with a positive extent, got {bounds}")
        self.bounds = bounds
        # grid_sample wants (batch, channel, depth, height, width), and coordinates in the order width, height, depth.
        self._volume = values.detach().clone().permute(2, 1, 0)[None, None]

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        lower, upper = points.new_tensor(self.bounds.lower), points.new_tensor(self.bounds.upper)
        flat = points.reshape(1, 1, 1, -1, 3)
        places = (2 * (flat - lower) / (upper - lower) - 1).clamp(-1, 1)
        inner = torch.nn.functional.grid_sample(
            self._volume.to(points), places, mode="bilinear", padding_mode="border", align_corners=True
        ).reshape(points.shape[:-1])
        to_box = box_distance(self.bounds, points)
        return torch.maximum(inner + to_box.clamp(min=0), to_box)


class NeuralField(Field):
    """One learned shape: `decoder` bound to `latent` (L,), unit frame. Approximate: only sign and zero set are meant.

    The decoder is conditioned on the code once, when the field is made, and put into evaluation mode. Differentiable
    with respect to the points.

    References: Park et al., "DeepSDF", CVPR 2019, section 4.2.

    Raises
    ------
    ValueError
        `latent` has another size than the codes of `decoder`.

    >>> import sdfnet
    >>> run = sdfnet.load_run("runs/chairs")
    >>> between = NeuralField(run.decoder, 0.5 * run.latent("chair_00") + 0.5 * run.latent("chair_01"))
    >>> bool(between(torch.zeros(1, 3)) < 0)
    True
    """

    accuracy: Accuracy = "approximate"
    bounds = UNIT_BOUNDS

    def __init__(self, decoder: Decoder, latent: Tensor) -> None:
        if latent.shape != (decoder.latent_size,):
            raise ValueError(f"latent must have shape ({decoder.latent_size},), got {tuple(latent.shape)}")
        self.decoder = decoder.eval()
        self.latent = latent.detach()
        with torch.no_grad():
            self._conditioned = decoder.condition(self.latent[None])

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        flat = points.reshape(1, -1, 3).to(self.latent)
        return self.decoder.decode(flat, self._conditioned).reshape(points.shape[:-1]).to(points)
