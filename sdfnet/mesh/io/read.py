"""Read mesh files: find the mesh files in a folder, choose some of them by name, and read the triangles of a file.

`read_mesh` returns the triangles of the file without merging or repairing them. `sdfnet.solids.source_shape` makes a
solid.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.io.formats import READABLE, MeshFormat, find_format
from sdfnet.mesh.io.polygons import FileFacts, PolygonMesh, triangulate
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, renumber_faces

_SUFFIXES = ", ".join(f".{name}" for name in READABLE)
_DOCUMENTS = ("", ".md")
_LARGEST_COORDINATE = 1e30
"""Larger coordinates make areas or volumes overflow float32 or float64."""

_logger = logging.getLogger(__name__)


class MeshError(ValueError):
    """A mesh file that cannot be used. The message is one line: the file, then the `reason` and the cure.

    >>> issubclass(MeshError, ValueError)
    True
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives the way back from a worker process
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.reason}"


def find_meshes(folder: str | Path, *, also: tuple[str, ...] = ()) -> dict[str, Path]:
    """Find the mesh files in `folder` and below, sorted by name, and the files with a suffix of `also`.

    A mesh's name is its path below `folder` without its suffix, with "/" on every system, in Unicode's normal form C.
    Files that would share a name (`a.obj`, `a.ply`) keep their suffix in it. Hidden files and folders are skipped.
    Links are followed. Broken links are found too, so that the report on a folder mentions them.

    Raises
    ------
    ValueError
        No such folder, or no mesh file in it.

    >>> list(find_meshes("chairs"))[:2]
    ['chair_00', 'chair_01']
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "there is no such folder"
        raise ValueError(f"cannot read meshes from {folder}: {found}. Give a folder that holds mesh files.")
    paths = [path for path in _walk(folder, on_error=_report_folder) if _is_readable(path, also)]
    if not paths:
        skipped = describe_skipped(folder, also=also)
        found = f" ({skipped})" if skipped else ""
        raise ValueError(
            f"no meshes in {folder} or below it{found}; looked for files ending in {', '.join([_SUFFIXES, *also])}"
        )
    below = [path.relative_to(folder) for path in paths]
    composed = [Path(_compose(str(path))) for path in below]
    if len(set(composed)) == len(below):  # else two files differ in nothing but the form of their names
        below = composed
    whole = [path.as_posix() for path in below]
    names = [_without_suffix(path, also).as_posix() for path in below]
    while clashing := {name for name, count in Counter(names).items() if count > 1}:
        names = [full if name in clashing else name for name, full in zip(names, whole, strict=True)]
    return dict(sorted(zip(names, paths, strict=True)))


def describe_skipped(folder: str | Path, *, also: tuple[str, ...] = ()) -> str:
    """Return how many files in `folder` and below `find_meshes` skips, by suffix. Return "" if there are none.

    Documents, hidden files and files that belong to a mesh by name (`chair.mtl`, `chair.parts.json`) are not counted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.fbx", "b.FBX", "c.blend", "d.obj", "d.mtl", "README.md"):
    ...         _ = Path(folder, name).write_text("")
    ...     describe_skipped(folder)
    '3 files skipped: 2 .fbx, 1 .blend'
    """
    paths = _walk(Path(folder), on_error=None)
    meshes = {_without_suffix(path, also) for path in paths if _is_readable(path, also)}
    others = [path for path in paths if not _is_readable(path, also)]
    counts = Counter(path.suffix.lower() for path in others if not _shorter(path) & meshes)
    counts = Counter({suffix: count for suffix, count in counts.items() if suffix not in _DOCUMENTS})
    kinds = ", ".join(
        f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda item: (-item[1], item))
    )
    files = "1 file" if counts.total() == 1 else f"{counts.total()} files"
    return f"{files} skipped: {kinds}" if counts else ""


def _shorter(path: Path) -> set[Path]:
    """Return `path` without its last suffix, without its last two, and so on."""
    dots = [index for index, letter in enumerate(path.name) if letter == "." and index > 0]
    return {path.with_name(path.name[:dot]) for dot in dots}


def select_shapes(names: Sequence[str], patterns: str | Sequence[str]) -> list[str]:
    """Return the `names` that `patterns` select, each once.

    A pattern that equals a name selects this name, whatever characters it contains. Otherwise `*`, `?` and `[…]` are
    wildcards (`*` also matches `/`). The string `all` selects every name, but in a list `all` is an ordinary name. The
    normal forms of Unicode count as equal. The result follows the order of the patterns. Matches of one pattern follow
    the order of `names`.

    Raises
    ------
    ValueError
        A pattern matches nothing (the message offers close names), or there is no pattern.

    >>> select_shapes(["chair_00", "chair_01", "a [1]"], ["a [1]", "chair_*"])
    ['a [1]', 'chair_00', 'chair_01']
    """
    if isinstance(patterns, str):
        if patterns == "all":
            return list(names)
        patterns = [patterns]
    if not patterns:
        raise ValueError("shapes is an empty list; use shapes=all or name some")
    chosen: dict[str, None] = {}
    composed = {name: _compose(name) for name in names}
    for pattern in patterns:
        if pattern in composed:
            chosen[pattern] = None
            continue
        wanted = _compose(pattern)
        matches = [name for name in names if composed[name] == wanted]
        matches = matches or [name for name in names if fnmatch.fnmatchcase(composed[name], wanted)]
        if not matches:
            raise ValueError(f"no shape is named {pattern!r}. {_suggestion(pattern, names)}")
        chosen.update(dict.fromkeys(matches))
    return list(chosen)


def _compose(name: str) -> str:
    """Return `name` in the normal form C. macOS decomposes the names of files, but keyboards type composed letters."""
    return unicodedata.normalize("NFC", name)


def _suggestion(pattern: str, names: Sequence[str]) -> str:
    parts = [part.strip() for part in pattern.split(",")]
    if len(parts) > 1 and all(part in names for part in parts):
        return f"Several values need brackets: '[{','.join(parts)}]'"
    close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {', '.join(close)}?"
    shown = ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")
    return f"There are: {shown}"


def _is_readable(path: Path, also: tuple[str, ...]) -> bool:
    found = find_format(path)
    return (found is not None and found.reader is not None) or path.name.lower().endswith(also)


def _without_suffix(path: Path, also: tuple[str, ...]) -> Path:
    """Return `path` without its suffix, which may have two dots if it is among `also`."""
    longest = max((len(suffix) for suffix in also if path.name.lower().endswith(suffix)), default=0)
    return path.with_name(path.name[:-longest]) if longest else path.with_suffix("")


def _walk(folder: Path, *, on_error: Callable[[OSError], None] | None) -> list[Path]:
    """Return the files below `folder` that are not hidden. A folder that is linked into itself is entered once."""
    seen: set[str] = set()
    files: list[Path] = []
    for current, folders, names in os.walk(folder, followlinks=True, onerror=on_error):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(current, name) for name in names if not name.startswith(".")]
    return files


def _report_folder(error: OSError) -> None:
    _logger.warning("skipped the folder %s: %s", error.filename, error.strerror)


def read_mesh(path: str | Path) -> Mesh:
    """Read the triangles of a mesh file. Its suffix names the format; `sdfnet.mesh.io.formats` lists the formats.

    All objects are joined into one mesh, and node transforms are applied. Polygons are triangulated in the file's
    order. Vertices that no face uses are dropped. Other vertices keep the file's coordinates in float64, and equal
    vertices are not merged. Vertex normals, materials and textures are not read; `read_colors` gives colours.

    Raises
    ------
    MeshError
        Unreadable or damaged file, another format, no faces (point clouds and wireframes), vertices that are NaN,
        infinite or too large, zero extent.

    >>> mesh = read_mesh("chairs/chair_00.obj")
    >>> len(mesh.vertices), len(mesh.faces)
    (3990, 8000)
    """
    return read_mesh_file(path)[0]


def read_mesh_file(path: str | Path) -> tuple[Mesh, FileFacts]:
    """Read a mesh file as `read_mesh` does, and return also the notes, the unit and the up axis.

    >>> read_mesh_file("chairs/chair_00.obj")[1].notes
    ()
    """
    mesh, polygons = _read(Path(path))
    return mesh, polygons.facts


def read_colors(path: str | Path) -> tuple[Mesh, FloatArray | None]:
    """Read a mesh file as `read_mesh` does, and return also the colours (V, 3) of its vertices, sRGB in [0, 1].

    PLY, GLB and glTF files keep colours of vertices; None without them.

    >>> read_colors("chairs/chair_00.obj")[1] is None
    True
    """
    mesh, polygons = _read(Path(path))
    if polygons.colors is None:
        return mesh, None
    return mesh, polygons.colors[renumber_faces(triangulate(polygons), len(polygons.vertices))[0]]


def _read(path: Path) -> tuple[Mesh, PolygonMesh]:
    """Return the mesh of a file, and its polygons as they are in the file."""
    found = find_format(path)
    if found is None or found.reader is None:
        raise MeshError(path, f"cannot read {path.suffix.lower() or 'a file without suffix'}; give one of {_SUFFIXES}")
    data = read_file(path)
    if not data.strip():
        raise MeshError(path, "the file is empty; export it again")
    polygons, faces = _parse(found, path, data)
    if not len(faces):
        few = f"no faces, only {len(polygons.vertices)} vertices (a point cloud or a wireframe)"
        raise MeshError(path, f"{few if len(polygons.vertices) else 'no vertices and no faces'}; export a surface")
    mesh = drop_unreferenced_vertices(Mesh(polygons.vertices, faces))
    num_bad = int((~np.isfinite(mesh.vertices)).any(axis=1).sum())
    if num_bad:
        raise MeshError(path, f"{num_bad} of {len(mesh.vertices)} vertices are NaN or infinite; remove them")
    if np.abs(mesh.vertices).max() > _LARGEST_COORDINATE:
        raise MeshError(path, f"coordinates beyond {_LARGEST_COORDINATE:g} cannot be computed with; scale it down")
    if not (mesh.bounds.extent > 0).any():
        raise MeshError(path, "all vertices are at one point, so it has no extent; export a surface")
    return mesh, polygons


def read_file(path: Path) -> bytes:
    """Return the bytes of a file, or raise MeshError. Pipes and devices are refused, because they may never end."""
    if not path.is_file():
        if path.is_symlink() and not path.exists():
            raise MeshError(path, "a link that leads nowhere; mend or remove it")
        raise MeshError(path, "it is not a file; give a file" if path.exists() else "there is no such file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeshError(path, f"cannot read it ({error.strerror or error}); check its permissions") from error


def _parse(found: MeshFormat, path: Path, data: bytes) -> tuple[PolygonMesh, NDArray[np.int64]]:
    try:
        with np.errstate(all="ignore"):  # odd floats are refused later, with a better message
            polygons = found.parse(data, folder=path.parent)
        return polygons, triangulate(polygons)
    except ImportError as error:  # a file that may be whole
        needed = error.name or "a package"
        raise MeshError(path, f"reading .{found.name} needs {needed} ({error}); install it") from error
    except Exception as error:  # damaged bytes lead a parser anywhere, and one bad file must not stop a batch
        reason = " ".join(str(error).split())[:200].rstrip(".")
        if not isinstance(error, ValueError):
            reason = f"{type(error).__name__} {reason}"
        if ";" not in reason:  # it names no cure
            reason = f"damaged, or not {found.name.upper()} ({reason}); export it again"
        raise MeshError(path, reason) from error
