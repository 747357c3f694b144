"""One mesh carried along a moving surface: the same faces in every frame, and vertex k the same place throughout.

In each of a few sub-steps between frames vertices move along the normal as the surface does, the whole slides in the
smoothest way that agrees with that (`motion`), and Newton steps put the vertices back onto the surface. Where the
topology of the surface changes (`transitions`), or triangles fold or stretch too much, no mesh can go on: there the
sequence is cut, and the next piece starts from an extraction of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.bounds import check_resolution
from sdfnet.geometry.mesh import Mesh
from sdfnet.surfacing.carrying import carry, fault, settle
from sdfnet.surfacing.extract import extract_mesh
from sdfnet.surfacing.starting import even_mesh, without_small_pieces
from sdfnet.surfacing.transitions import Change, Transitions, find_changes
from sdfnet.surfacing.window import FieldAt

_QUANTILE = 0.99
"""Of the given mesh's vertices so many must be near the surface."""

_FINER = 2
"""Of the lattice on which a piece after a change of topology starts."""

OnChange = Literal["cut", "frames"]
"""What to do where no mesh can go on: start a new tracked piece, or mesh every frame of the sequence on its own."""


@dataclass(frozen=True)
class TrackConfig:
    """How a mesh is carried along.

    Attributes
    ----------
    resolution : int
        Samples per axis of the lattice on which pieces start, and on which changes of topology are looked for.
    edge_length : float
        Of the meshes that pieces start from, in spacings of that lattice.
    substeps : int
        How often between two frames a change of topology is looked for.
    smallest : float
        Pieces and cavities below this share of the volume are removed from meshes and do not count as topology.
    on_change : OnChange
        "cut", or "frames": one extraction for each frame as soon as one cut is needed.
    normals : bool
        Whether to take a normal for every vertex from the field's gradient.
    """

    resolution: int = 96
    edge_length: float = 1.0
    substeps: int = 8
    smallest: float = 1e-4
    on_change: OnChange = "cut"
    normals: bool = True

    def __post_init__(self) -> None:
        check_resolution(self.resolution, least=8)
        if not self.edge_length > 0:
            raise ValueError(f"edge_length must be positive, got {self.edge_length}")
        if self.substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {self.substeps}")
        if not 0 <= self.smallest < 1:
            raise ValueError(f"smallest must be from 0 to below 1, got {self.smallest}")
        if self.on_change not in get_args(OnChange):
            raise ValueError(f"on_change must be one of {', '.join(get_args(OnChange))}, got {self.on_change!r}")


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
    """

    pieces: tuple[TrackedPiece, ...]
    cuts: tuple[Cut, ...]
    transitions: Transitions

    def piece_at(self, frame: int) -> int:
        """Return the number of the piece that holds a frame."""
        return int(np.searchsorted([piece.last_frame for piece in self.pieces], frame))

    def mesh(self, frame: int) -> Mesh:
        """Return the mesh of a frame, unit frame."""
        return self.pieces[self.piece_at(frame)].mesh(frame)


def track_surface(
    field_at: FieldAt,
    times: Sequence[float],
    mesh: Mesh | None = None,
    *,
    config: TrackConfig | None = None,
    progress: bool = False,
) -> TrackedMorph:
    """Carry a mesh of the surface of `field_at(times[0])` along to all `times` (T,), increasing.

    Every vertex of every frame lies on that frame's surface. Deterministic.

    Parameters
    ----------
    field_at : function
        From a time to the field at that time, unit frame, differentiable with respect to points. Neighbouring times
        give neighbouring fields.
    mesh : Mesh, optional
        Of the surface at the first time, unit frame; closed, but vertices at one place may be several (as texture
        coordinates want). Its vertices keep their order, and are put onto the surface. By default an even mesh from an
        extraction at `config.resolution`.

    Raises
    ------
    ValueError
        Times that do not increase; a mesh that is open or not near the surface; a frame without a surface.
    """
    config = config or TrackConfig()
    times = [float(time) for time in times]
    if not times or any(b <= a for a, b in itertools.pairwise(times)):
        raise ValueError(f"times must increase and be at least one, got {times[:3]} and so on")
    even_start = _even_mesh(field_at(times[0]), config) if mesh is None else mesh
    _check_start(even_start, field_at(times[0]))
    transitions = find_changes(
        field_at,
        times,
        resolution=config.resolution,
        substeps=config.substeps,
        smallest=config.smallest,
        progress=progress,
    )
    pieces: list[TrackedPiece] = []
    cuts: list[Cut] = []
    with tqdm(total=len(times), desc="track", unit="frame", disable=not progress) as bar:
        while not pieces or pieces[-1].last_frame < len(times) - 1:
            first = pieces[-1].last_frame + 1 if pieces else 0
            if first and _change_after(transitions.changes, first) is not None:  # one frame: need not be even
                piece, cut = _single(field_at(times[first]), first, config), _change_after(transitions.changes, first)
                bar.update()
            else:
                # Just after a change gaps and necks are narrow: what the lattice cannot tell apart, a finer one can.
                finer = _FINER if cuts and cuts[-1].topology else 1
                start = even_start if first == 0 else _even_mesh(field_at(times[first]), config, finer=finer)
                piece, cut = _track_piece(field_at, times, first, start, transitions.changes, config, bar)
            pieces.append(piece)
            if cut is not None:
                cuts.append(cut)
    if cuts and config.on_change == "frames":
        pieces = [_single(field_at(time), frame, config) for frame, time in enumerate(times)]
    return TrackedMorph(tuple(pieces), tuple(cuts), transitions)


def _track_piece(
    field_at: FieldAt,
    times: list[float],
    first: int,
    start: Mesh,
    changes: Sequence[Change],
    config: TrackConfig,
    bar: tqdm,
) -> tuple[TrackedPiece, Cut | None]:
    """Carry `start` from the frame `first` as far as it goes; return the piece and why it ends before the last."""
    carried = settle(start, field_at(times[first]))
    frames = [carried]
    bar.update()
    cut = None
    for frame in range(first, len(times) - 1):
        cut = _change_after(changes, frame)
        if cut is None:
            moved, reached = carry(carried, field_at, (times[frame], times[frame + 1]))
            reason = fault(moved)
            cut = Cut(frame, reached, reason, False) if reason else None
        if cut is not None:
            break
        carried = moved
        frames.append(carried)
        bar.update()
    normals = np.stack([one.expanded(one.normals) for one in frames]) if config.normals else None
    vertices = np.stack([one.expanded(one.vertices) for one in frames])
    return TrackedPiece(first, first + len(frames) - 1, start.faces, vertices, normals), cut


def _check_start(mesh: Mesh, field: Field) -> None:
    """Refuse a mesh that is not of this surface."""
    sides = mesh.vertices[mesh.faces] - mesh.vertices[np.roll(mesh.faces, 1, axis=1)]
    edge_length = float(np.linalg.norm(sides, axis=2).mean())
    values = evaluate(field, torch.from_numpy(mesh.vertices).float()).double().numpy()
    worst = float(np.quantile(np.abs(values), _QUANTILE))
    if worst > 2 * edge_length:
        raise ValueError(
            f"mesh must lie on the surface at the first time, but the field is up to {worst:.3g} at its vertices; "
            "is it in the unit frame, and of the first shape?"
        )


def _change_after(changes: Sequence[Change], frame: int) -> Cut | None:
    reasons = [change for change in changes if change.frame == frame]
    if not reasons:
        return None
    return Cut(frame, reasons[0].time, "; ".join(change.reason for change in reasons), True)


def _even_mesh(field: Field, config: TrackConfig, *, finer: int = 1) -> Mesh:
    return even_mesh(
        field,
        resolution=finer * config.resolution,
        edge_length=finer * config.edge_length,
        smallest=config.smallest,
    )


def _single(field: Field, frame: int, config: TrackConfig) -> TrackedPiece:
    """Return one frame meshed on its own."""
    mesh = extract_mesh(field, resolution=config.resolution, vertex_normals=config.normals)
    mesh = without_small_pieces(mesh, smallest=config.smallest)
    normals = None if mesh.vertex_normals is None else mesh.vertex_normals[None]
    return TrackedPiece(frame, frame, mesh.faces, mesh.vertices[None], normals)
