"""Options and results of tracking.

A tracked morph is a sequence of segments. All frames of a segment share one mesh connectivity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from sdfnet.correspondence.topology_events import TopologyHistory
from sdfnet.geometry.arrays import FloatArray, IntArray
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.mesh import Mesh

_FINE, _SHORTEST = 128, 0.75
"""From this resolution on, edges are one spacing long. On coarser lattices, edges are at least this many spacings."""

OnTopologyEvent = Literal["cut", "keep", "frames"]
"""The action where the topology changes: start a new segment ("cut"), keep the mesh through small changes ("keep"), or
extract a new mesh for every frame ("frames")."""


@dataclass(frozen=True)
class TrackConfig:
    """How a mesh is tracked.

    Attributes
    ----------
    resolution : int
        Samples per axis of the lattice on which topology events are found. Start meshes have twice this resolution.
    substeps : int
        The number of times at which the topology is examined between two frames.
    min_share : float
        Components and cavities below this share of the volume are removed from meshes and ignored by the topology.
    on_change : OnTopologyEvent
        "cut" starts a new segment. With "keep", the mesh keeps its topology through small events, and
        `TrackedMorph.deviations` tells how far the mesh is from the surface. With "frames", one mesh is extracted for
        each frame as soon as one cut is needed.

    >>> TrackConfig(resolution=96, on_change="keep").on_change
    'keep'
    """

    resolution: int = 96
    substeps: int = 8
    min_share: float = 1e-4
    on_change: OnTopologyEvent = "cut"

    def __post_init__(self) -> None:
        check_resolution(self.resolution, least=8)
        if self.substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {self.substeps}")
        if not 0 <= self.min_share < 1:
            raise ValueError(f"min_share must be from 0 to below 1, got {self.min_share}")
        if self.on_change not in get_args(OnTopologyEvent):
            choices = ", ".join(get_args(OnTopologyEvent))
            raise ValueError(f"on_change must be one of {choices}, got {self.on_change!r}")

    @property
    def edge_length(self) -> float:
        """Return the mean edge length of start meshes, in spacings of the lattice of `resolution`."""
        return min(max(self.resolution / _FINE, _SHORTEST), 1.0)


@dataclass(frozen=True, eq=False)
class TrackedSegment:
    """Consecutive frames with one connectivity.

    Attributes
    ----------
    first_frame, last_frame : int
        The numbers of the first and the last frame. Both belong to the segment.
    faces : (F, 3) int64
    vertices : (T, V, 3) float64, unit frame
        The vertices of each frame. Vertex k is the same place of the surface in all frames.
    normals : (T, V, 3) float64
        Unit length, outward.

    >>> triangle = np.array([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])
    >>> TrackedSegment(4, 4, np.array([[0, 1, 2]]), triangle, triangle).mesh(4).vertices[0].tolist()
    [1.0, 0.0, 0.0]
    """

    first_frame: int
    last_frame: int
    faces: IntArray
    vertices: FloatArray
    normals: FloatArray

    def mesh(self, frame: int) -> Mesh:
        """Return the mesh of a frame (numbered as in the whole sequence), unit frame."""
        index = frame - self.first_frame
        return Mesh(self.vertices[index], self.faces, self.normals[index])


@dataclass(frozen=True)
class Cut:
    """A place in the sequence where one segment ends and the next begins.

    Attributes
    ----------
    frame : int
        The last frame before the cut; the next frame starts a new segment.
    time : float
        The last sub-step before the cut.
    reason : str
    topology : bool
        Whether the topology of the surface changes at the cut. Otherwise, triangles would fold or stretch.

    >>> Cut(frame=3, time=3.875, reason="a hole opens", topology=True).reason
    'a hole opens'
    """

    frame: int
    time: float
    reason: str
    topology: bool


@dataclass(frozen=True)
class Deviation:
    """How far a mesh that was kept through a topology event differs from the surface of one frame.

    Attributes
    ----------
    frame : int
    num_vertices : int
        The number of vertices off the surface. There the surface has a hole or a bridge that the mesh does not have.
    area_share : float
        Share of the mesh's area around these vertices.
    largest_distance : float
        The largest absolute field value at these vertices, unit frame.
    uncovered_share : float
        Share of the frame's surface without any mesh near it.

    >>> Deviation(frame=4, num_vertices=20, area_share=0.002, largest_distance=0.004, uncovered_share=0.0).frame
    4
    """

    frame: int
    num_vertices: int
    area_share: float
    largest_distance: float
    uncovered_share: float


@dataclass(frozen=True, eq=False)
class TrackedMorph:
    """A moving surface as tracked segments.

    Attributes
    ----------
    segments : tuple of TrackedSegment
        The segments cover all frames in order. The first segment has the vertices of the given mesh in the same order.
    cuts : tuple of Cut
        One cut between each two segments. With `on_change="frames"`, each segment is one frame, and `cuts` says why.
    topology : TopologyHistory
        The topology events, and the topology at each frame.
    deviations : tuple of Deviation
        With `on_change="keep"`, one for each frame whose mesh is not everywhere on the surface.

    >>> from sdfnet.correspondence.track import track_surface
    >>> from sdfnet.fields import Sphere
    >>> morph = track_surface(lambda time: Sphere(0.4 + time), [0.0, 0.05], config=TrackConfig(resolution=12))
    >>> len(morph.cuts), morph.segment_at(1)
    (0, 0)
    """

    segments: tuple[TrackedSegment, ...]
    cuts: tuple[Cut, ...]
    topology: TopologyHistory
    deviations: tuple[Deviation, ...] = ()

    def segment_at(self, frame: int) -> int:
        """Return the number of the segment that holds a frame."""
        return int(np.searchsorted([segment.last_frame for segment in self.segments], frame))

    def mesh(self, frame: int) -> Mesh:
        """Return the mesh of a frame, unit frame."""
        return self.segments[self.segment_at(frame)].mesh(frame)
