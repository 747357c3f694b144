"""Read label volumes: NIfTI, NRRD, and NumPy arrays whose spacing is given.

A label volume has one whole number for each voxel, and an affine map from voxel indices to the world. Index (i, j, k)
is the centre of a voxel. The world of NIfTI and NRRD files is in millimetres with the axes right, anterior and superior
(RAS). Nothing is resampled: `axis=0` always means the first index of the array.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import BoolArray, FloatArray

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd")
"""Suffixes of files that are label volumes wherever they lie. A .npy file is one only where its spacing is given."""

_ROUNDING = 0.05
"""Labels stored as floats may differ from whole numbers by this much."""

_TO_RAS = {"left": -1.0, "right": 1.0, "posterior": -1.0, "anterior": 1.0, "inferior": -1.0, "superior": 1.0}


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """Labels on a regular grid of voxels.

    Attributes
    ----------
    labels : (X, Y, Z) int64
        0 is the background.
    affine : (4, 4) float64
        From the indices of a voxel centre to the world.

    >>> volume = LabelVolume(np.ones((2, 2, 2), dtype=np.int64), np.diag([2.0, 1.0, 1.0, 1.0]))
    >>> volume.to_world(np.array([[1, 0, 0]])).tolist()
    [[2.0, 0.0, 0.0]]
    """

    labels: NDArray[np.int64]
    affine: FloatArray

    @property
    def spacing(self) -> FloatArray:
        """The distance between voxel centres along each index axis, world units, (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def to_world(self, indices: NDArray[np.generic]) -> FloatArray:
        """Return the world positions (..., 3) of `indices` (..., 3), which need not be whole numbers."""
        return np.asarray(indices, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def solid(self, label: int | Sequence[int] | None = None) -> BoolArray:
        """Return which voxels have one of the labels; None takes every label above 0, as one solid.

        Raises
        ------
        ValueError
            No voxel has one of the labels.
        """
        wanted = None if label is None else [label] if isinstance(label, int) else list(label)
        inside = self.labels > 0 if wanted is None else np.isin(self.labels, wanted)
        if not inside.any():
            there = ", ".join(str(each) for each in np.unique(self.labels)[:10])
            asked = "above 0" if wanted is None else f"in {wanted}"
            raise ValueError(f"no voxel has a label {asked}; it has {there}. Give label= one of these")
        return inside


def is_volume(path: str | Path) -> bool:
    """Tell whether the suffix of a file names a label volume.

    >>> is_volume("scan.NII.GZ"), is_volume("scan.npy")
    (True, False)
    """
    return str(path).lower().endswith(VOLUME_SUFFIXES)


def read_label_volume(path: str | Path, *, spacing: Sequence[float] | None = None) -> LabelVolume:
    """Read a label volume.

    Parameters
    ----------
    spacing
        Of a NumPy array only, which has no spacing of its own: world units between voxel centres along each index axis.
        Voxel (0, 0, 0) then lies at the origin.

    Raises
    ------
    ValueError
        A file that cannot be read, is no volume of three dimensions, or whose values are not whole numbers. The message
        names the file and the cure.

    >>> np.save("labels.npy", np.ones((3, 3, 3), dtype=np.uint8))
    >>> read_label_volume("labels.npy", spacing=(1, 1, 2)).spacing.tolist()
    [1.0, 1.0, 2.0]
    """
    path = Path(path)
    is_array = path.suffix.lower() == ".npy"
    if spacing is not None and not is_array:
        raise ValueError(f"{path}: spacing= belongs to .npy files; this file has its own. Leave spacing out")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        if is_array:
            values, affine = _read_array(path, spacing)
        elif path.suffix.lower() == ".nrrd":
            values, affine = _read_nrrd(path)
        else:
            values, affine = _read_nifti(path)
    except ImportError as error:
        raise ValueError(f"{path}: reading it needs {error.name}; install sdfnet[volumes]") from error
    except (OSError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged, or not what its suffix says ({error}); export it again") from error
    return LabelVolume(_whole_labels(path, values), _checked_affine(path, affine))


def _read_array(path: Path, spacing: Sequence[float] | None) -> tuple[NDArray[Any], FloatArray]:
    if spacing is None:
        raise ValueError(f"{path}: a .npy file has no spacing of its own; give spacing=[X,Y,Z] in world units")
    if len(spacing) != 3 or not all(np.isfinite(each) and each > 0 for each in spacing):
        raise ValueError(f"spacing must be three positive numbers, got {list(spacing)}")
    return load_array(path), np.diag([*map(float, spacing), 1.0])


def load_array(path: Path) -> NDArray[Any]:
    """Read a .npy file, never unpickling; raise ValueError that names the file.

    >>> np.save("three.npy", np.arange(3))
    >>> load_array(Path("three.npy")).tolist()
    [0, 1, 2]
    """
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: damaged, or not a plain .npy array ({error}); save it again") from error


def _read_nifti(path: Path) -> tuple[NDArray[Any], FloatArray]:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except (ImageFileError, ValueError) as error:
        raise OSError(str(error)) from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return values, np.asarray(image.affine, dtype=np.float64)


def _read_nrrd(path: Path) -> tuple[NDArray[Any], FloatArray]:
    import nrrd

    try:
        values, header = nrrd.read(str(path), index_order="F")
    except (nrrd.NRRDError, ValueError, IndexError, KeyError) as error:
        raise OSError(str(error)) from error
    affine = np.eye(4)
    if "space directions" in header:
        affine[:3, :3] = np.asarray(header["space directions"], dtype=np.float64)[-3:].T
    elif "spacings" in header:
        affine[:3, :3] = np.diag(np.asarray(header["spacings"], dtype=np.float64)[-3:])
    else:
        raise ValueError(f"{path}: its header has no spacing (space directions); save it with a spacing")
    affine[:3, 3] = np.asarray(header.get("space origin", np.zeros(3)), dtype=np.float64)
    words = str(header.get("space", "")).replace("_", "-").lower().split("-")
    if len(words) == 3 and all(word in _TO_RAS for word in words):
        affine = np.diag([*(_TO_RAS[word] for word in words), 1.0]) @ affine
    elif words not in ([""], ["ras"], ["lps"], ["las"]):
        raise ValueError(f"{path}: its space is {header['space']!r}; save it as left-posterior-superior")
    elif words != [""]:
        affine = np.diag([-1.0 if words[0][0] == "l" else 1.0, -1.0 if words[0][1] == "p" else 1.0, 1, 1]) @ affine
    return values, affine


def _whole_labels(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels of three axes as whole numbers; refuse what is an image rather than labels."""
    if values.ndim != 3 or min(values.shape) < 1:
        raise ValueError(f"{path}: it must have three axes, got shape {values.shape}. Save one volume of labels")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: its voxels must be numbers, got {values.dtype}. Save one volume of labels")
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{path}: {bad} voxels are NaN or infinite; replace them by 0")
    rounded = np.rint(values)
    if np.abs(values - rounded).max(initial=0) > _ROUNDING:
        raise ValueError(f"{path}: its values are not whole numbers, so it is an image; give a volume of labels")
    return rounded.astype(np.int64)


def _checked_affine(path: Path, affine: FloatArray) -> FloatArray:
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"{path}: its map from voxels to the world is {affine.tolist()}, which is flat; save it again")
    return affine
