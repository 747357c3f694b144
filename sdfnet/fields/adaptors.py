"""Adaptors that turn a triangle mesh, a grid of values or a learned code into a field."""

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
"""A point counts as on the surface if it is nearer than this share of the mesh's largest absolute coordinate. There the
direction to the closest point is only a rounding error."""


class MeshField(Field):
    """The signed distance to a triangle mesh, in the mesh's frame.

    The distance is to the closest point; the winding number gives the sign. The values are exact if `closed`, which is
    not checked. In a hole of an open mesh, the sign jumps although the distance is not zero, so the values are
    only approximate. Use a repaired mesh (`make_solid`), because buried and flipped faces change the values.

    The computation runs on the CPU in float64, whatever the device and dtype of the points. The field can be
    differentiated once with respect to the points. The gradient is the unit direction away from the closest point
    outside, and towards the closest point inside. On the surface, the gradient is the face's normal.

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
            return points.sum(dim=-1)  # The result is empty, but still part of the graph.
        found = self._distance(points_64)
        sdf = torch.from_numpy(np.ascontiguousarray(found.sdf)).to(points)
        if points.requires_grad and torch.is_grad_enabled():
            offsets = points_64 - found.closest_points
            away = np.where(found.sdf < 0, -1.0, 1.0)[:, None] * offsets
            lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
            directions = np.where(
                lengths > self._on_surface, away / np.maximum(lengths, 1e-300), self._face_normals[found.faces]
            )
            # This term is zero, but it gives the result the gradient of the distance.
            sdf = sdf + ((flat - flat.detach()) * torch.from_numpy(directions).to(points)).sum(dim=-1)
        return sdf.reshape(points.shape[:-1])


class GridField(Field):
    """A field that interpolates `values` (X, Y, Z) trilinearly. The outer samples lie on the faces of `bounds`.

    The field is approximate. If the samples are exact distances and their spacing is h, the error away from edges is of
    order h². Outside the box, the distance to the nearest point of the box is added to the value at this point. If the
    box cuts a solid, the solid is closed at the box, so the zero set stays within `bounds`. The field is differentiable
    with respect to the points.

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
    """The learned shape that `decoder` gives for the code `latent` (L,), in the unit frame.

    The field is approximate: only the sign and the zero set have a meaning. The decoder is conditioned on the code
    once, when the field is made, and is put into evaluation mode. The field is differentiable with respect to the
    points.

    References: Park et al., "DeepSDF", CVPR 2019, section 4.2.

    Raises
    ------
    ValueError
        The size of `latent` is not the size of the codes of `decoder`.

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
