"""Write moving meshes as USD for Houdini, Maya, Blender and Omniverse, with Pixar's library (the extra `usd`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.files import atomic_path
from sdfnet.mesh.sequence import MovingMesh, check_order


def save_usd(
    pieces: Iterable[MovingMesh],
    path: str | Path,
    *,
    order: Sequence[int],
    fps: float = 20.0,
    keys: Sequence[tuple[int, str]] = (),
    up_axis: str = "y",
) -> None:
    """Write a moving mesh as one USD mesh with time samples. The arguments are those of `save_animated_glb`.

    Time code k shows frame `order[k]`. Faces are sampled with the points, so that the faces may change. Programs
    interpolate points between two samples with the same number of points. Points are float32 offsets from the middle of
    the first frame, and the root transform stores this middle in double precision. Colours are sampled as
    `displayColor`.

    Raises
    ------
    ValueError
        usd-core is not installed, another suffix than .usd, .usda or .usdc, an order that jumps, `up_axis` x (USD knows
        y and z), colours for some pieces only.
    """
    path = Path(path)
    check_usd(up_axis=up_axis)
    from pxr import Gf, Usd, UsdGeom

    if path.suffix.lower() not in (".usd", ".usda", ".usdc"):
        raise ValueError(f"cannot write {path}: the suffix must be .usd, .usda or .usdc")
    with atomic_path(path) as temporary:
        stage = Usd.Stage.CreateNew(str(temporary))
        UsdGeom.SetStageUpAxis(stage, up_axis.upper())
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)  # as a GLB says of itself; meshes do not know their unit
        stage.SetTimeCodesPerSecond(fps)
        stage.SetFramesPerSecond(fps)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(len(order) - 1)
        root = UsdGeom.Xform.Define(stage, "/morph")
        root.GetPrim().SetCustomDataByKey("frame_names", {f"frame_{frame:04d}": name for frame, name in keys})
        stage.SetDefaultPrim(root.GetPrim())
        mesh = UsdGeom.Mesh.Define(stage, "/morph/surface")
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
        middle = _add_frames(mesh, pieces, order)
        root.AddTranslateOp().Set(Gf.Vec3d(*middle))
        stage.GetRootLayer().Save()


def check_usd(*, up_axis: str) -> None:
    """Raise ValueError if USD cannot be written: usd-core is not installed, or `up_axis` is x."""
    if importlib.util.find_spec("pxr") is None:
        raise ValueError("format usd needs the package usd-core: pip install 'sdfnet[usd]'")
    if up_axis not in ("y", "z"):
        raise ValueError(f"up_axis must be y or z in USD, got {up_axis!r}")


def _add_frames(mesh: Any, pieces: Iterable[MovingMesh], order: Sequence[int]) -> list[float]:
    """Sample `mesh`, a UsdGeom.Mesh, at every time. Return the origin of the points: the middle of the first frame."""
    from pxr import UsdGeom, Vt

    middle, stop, painted = None, 0, None
    for piece in pieces:
        if painted not in (None, piece.colors is not None):
            raise ValueError(f"in USD all pieces have colors or none has, but the one from frame {piece.start} differs")
        painted = piece.colors is not None
        middle = piece.vertices[0].mean(axis=0) if middle is None else middle
        stop = piece.stop
        corners = {
            "FaceVertexCounts": Vt.IntArray.FromNumpy(np.full(len(piece.faces), 3, dtype=np.int32)),
            "FaceVertexIndices": Vt.IntArray.FromNumpy(piece.faces.astype(np.int32).reshape(-1)),
        }
        for time in [time for time, frame in enumerate(order) if piece.start <= frame < piece.stop]:
            index = order[time] - piece.start
            points = Vt.Vec3fArray.FromNumpy((piece.vertices[index] - middle).astype(np.float32))
            normals = Vt.Vec3fArray.FromNumpy(piece.normals[index].astype(np.float32))
            extent = UsdGeom.PointBased.ComputeExtent(points)
            if piece.colors is not None:
                tints = Vt.Vec3fArray.FromNumpy(piece.linear_colors(index))
                mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(tints, time)
            for name, values in {"Points": points, "Normals": normals, "Extent": extent, **corners}.items():
                getattr(mesh, f"Create{name}Attr")().Set(values, time)
    if middle is None:
        raise ValueError("a USD file needs at least one piece, got none")
    check_order(order, num_frames=stop)
    return middle.tolist()
