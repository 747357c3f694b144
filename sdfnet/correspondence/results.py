"""A moving surface as tracked pieces: what `tracking` is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdfnet.correspondence.topology_events import Transitions
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.mesh import Mesh

_FINE, _SHORTEST = 128, 0.75
"""From this resolution on edges are as long as a spacing; and the least they are on coarser lattices."""

OnChange = Literal["cut", "keep", "frames"]
"""What to do where the topology changes: start a new tracked piece there; keep the mesh through changes that are small;
or mesh every frame of the sequence on its own."""


@dataclass(frozen=True)
class TrackConfig:
    """How a mesh is carried along.

    Attributes
    ----------
    resolution : int
        Samples per axis of the lattice on which changes of topology are looked for. Pieces start from one twice as
        fine, where that gives a sound mesh.
    edge_length : float or None
        Of the meshes that pieces start from, in spacings of the lattice of `resolution`. By default 1 from a resolution
        of 128 on, and less on coarser ones (0.75 at 96 and below), so that triangles cut off little of what is curved.
    substeps : int
        How often between two frames a change of topology is looked for.
    smallest : float
        Pieces and cavities below this share of the volume are removed from meshes and do not count as topology.
    on_change : OnChange
        "cut"; "keep", where the mesh keeps its own topology through small changes, and `TrackedMorph.strays` says how
        far it is from the surface there; "frames", one extraction for each frame as soon as one cut is needed.
    normals : bool
        Whether to take a normal for every vertex from the field's gradient.
    """

    resolution: int = 96
    edge_length: float | None = None
    substeps: int = 8
    smallest: float = 1e-4
    on_change: OnChange = "cut"
    normals: bool = True

    def __post_init__(self) -> None:
        check_resolution(self.resolution, least=8)
        if self.edge_length is not None and not self.edge_length > 0:
            raise ValueError(f"edge_length must be positive, got {self.edge_length}")
        if self.substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {self.substeps}")
        if not 0 <= self.smallest < 1:
            raise ValueError(f"smallest must be from 0 to below 1, got {self.smallest}")
        if self.on_change not in get_args(OnChange):
            raise ValueError(f"on_change must be one of {', '.join(get_args(OnChange))}, got {self.on_change!r}")

    @property
    def spacings_an_edge(self) -> float:
        """The length of edges that `edge_length` stands for."""
        if self.edge_length is not None:
            return self.edge_length
        return min(max(self.resolution / _FINE, _SHORTEST), 1.0)


@dataclass(frozen=True, eq=False)
class TrackedPiece:
    """Consecutive frames with one connectivity.

    Attributes
    ----------
    first_frame, last_frame : int
        Both included.
    faces : (F, 3) int64
    vertices : (T, V, 3) float64, unit frame
        Of each frame; vertex k is the same place in all of them.
    normals : (T, V, 3) float64 or None
        Unit length, outward.
    """

    first_frame: int
    last_frame: int
    faces: NDArray[np.int64]
    vertices: NDArray[np.float64]
    normals: NDArray[np.float64] | None

    def mesh(self, frame: int) -> Mesh:
        """Return the mesh of a frame (numbered as in the whole sequence), unit frame."""
        index = frame - self.first_frame
        return Mesh(self.vertices[index], self.faces, None if self.normals is None else self.normals[index])


@dataclass(frozen=True)
class Cut:
    """Where a sequence had to be cut.

    Attributes
    ----------
    frame : int
        The last frame before the cut; the next one starts a new piece.
    time : float
        Of the last sub-step before it.
    reason : str
    topology : bool
        Whether the topology of the surface changes there; if not, triangles would fold or stretch.
    """

    frame: int
    time: float
    reason: str
    topology: bool


@dataclass(frozen=True)
class Stray:
    """How far a mesh that was kept through a change of topology is from the surface of a frame, and the other way.

    Attributes
    ----------
    frame : int
    vertices : int
        Those off the surface: where it has a hole or a bridge that the mesh has not.
    share : float
        Of the mesh's area, around these.
    farthest : float
        The farthest of them, unit frame, as the field has it.
    bare : float
        Share of the frame's surface that has no mesh near it.
    """

    frame: int
    vertices: int
    share: float
    farthest: float
    bare: float


@dataclass(frozen=True, eq=False)
class TrackedMorph:
    """A sequence as tracked pieces.

    Attributes
    ----------
    pieces : tuple of TrackedPiece
        They cover all frames in order. Vertices of the first piece are those of the mesh that was given, in its order.
    cuts : tuple of Cut
        One between each two pieces. With `on_change="frames"` pieces are single frames and `cuts` says why.
    transitions : Transitions
        The changes of topology found, and what small pieces were left out of each frame.
    strays : tuple of Stray
        With `on_change="keep"`, of each frame whose mesh is not everywhere on the surface.
    """

    pieces: tuple[TrackedPiece, ...]
    cuts: tuple[Cut, ...]
    transitions: Transitions
    strays: tuple[Stray, ...] = ()

    def piece_at(self, frame: int) -> int:
        """Return the number of the piece that holds a frame."""
        return int(np.searchsorted([piece.last_frame for piece in self.pieces], frame))

    def mesh(self, frame: int) -> Mesh:
        """Return the mesh of a frame, unit frame."""
        return self.pieces[self.piece_at(frame)].mesh(frame)
