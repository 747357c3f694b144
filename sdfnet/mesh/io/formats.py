"""The one table of mesh formats. Readers, writers, options, messages and folder scans all use this table.

To add a format, write a module beside this one and add one row to `MESH_FORMATS`. The module of a format is imported
when a file of that format is read or written, so the command line can list the formats without numpy.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sdfnet.geometry.arrays import FloatArray
    from sdfnet.mesh.io.polygons import PolygonMesh
    from sdfnet.mesh.mesh import Mesh


@dataclass(frozen=True)
class MeshFormat:
    """One file format of meshes. Functions are named `module.function`, with a module of this folder.

    Attributes
    ----------
    name : str
        The suffix of the format's files, without the dot.
    reader : str or None
        A function from the bytes of a file to a `PolygonMesh`. It raises ValueError without the file's name. The reader
        of a format with `companions` also takes `folder=`.
    writer : str or None
        A function from a `Mesh` to the bytes of a file.
    keeps_colors : bool
        Whether `writer` also takes `vertex_colors=`, (V, 3) sRGB in [0, 1], or None.
    companions : str or None
        A function from the bytes of a file and its folder to the other files that hold the vertices.
    """

    name: str
    reader: str | None = None
    writer: str | None = None
    keeps_colors: bool = False
    companions: str | None = None

    def parse(self, data: bytes, *, folder: Path) -> PolygonMesh:
        """Return the polygons of a file in `folder` whose bytes are `data`."""
        return _call(self.reader, data, **({} if self.companions is None else {"folder": folder}))

    def serialize(self, mesh: Mesh, vertex_colors: FloatArray | None = None) -> bytes:
        """Return the bytes of a file that holds `mesh`, and its colours if the format keeps them."""
        return _call(self.writer, mesh, **({"vertex_colors": vertex_colors} if self.keeps_colors else {}))

    def companion_files(self, data: bytes, *, folder: Path) -> list[Path]:
        """Return the other files, existing or not, that hold vertices of a file in `folder`."""
        return [] if self.companions is None else _call(self.companions, data, folder=folder)


MESH_FORMATS = (
    MeshFormat("obj", reader="obj.parse_obj", writer="obj.format_obj"),
    MeshFormat("ply", reader="ply.parse_ply", writer="ply.format_ply", keeps_colors=True),
    MeshFormat("stl", reader="stl.parse_stl", writer="stl.format_stl"),
    MeshFormat("off", reader="off.parse_off"),
    MeshFormat(
        "glb",
        reader="gltf.parse_gltf",
        writer="gltf.format_glb",
        keeps_colors=True,
        companions="gltf.external_files",
    ),
    MeshFormat("gltf", reader="gltf.parse_gltf", companions="gltf.external_files"),
    MeshFormat("3mf", reader="xml_formats.parse_3mf", writer="xml_formats.format_3mf"),
    MeshFormat("dae", reader="xml_formats.parse_dae"),
)

READABLE = tuple(each.name for each in MESH_FORMATS if each.reader is not None)
COLORED = tuple(each.name for each in MESH_FORMATS if each.keeps_colors)
WRITABLE = tuple(each.name for each in MESH_FORMATS if each.writer is not None)

if TYPE_CHECKING:
    WritableFormat = str
else:
    WritableFormat = Literal[WRITABLE]
"""The type of `format` options: the name of a format that can be written."""


def find_format(path: str | Path) -> MeshFormat | None:
    """Return the format that the suffix of `path` names in lower or upper case, or None.

    >>> find_format("meshes/chair.PLY").name
    'ply'
    """
    suffix = Path(path).suffix.lower()
    return next((each for each in MESH_FORMATS if suffix == f".{each.name}"), None)


def check_format_names(names: Sequence[str]) -> None:
    """Raise ValueError if `names` is empty, or if one of its formats cannot be written.

    >>> check_format_names(["obj", "off"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: format must be one of obj, ply, ..., got 'off'
    """
    if not names:
        raise ValueError(f"format must name at least one of {', '.join(WRITABLE)}, got an empty list")
    for name in names:
        if name not in WRITABLE:
            raise ValueError(f"format must be one of {', '.join(WRITABLE)}, got {name!r}")


def _call(function: str | None, *arguments: Any, **options: Any) -> Any:
    assert function is not None
    module, _, name = function.partition(".")
    return getattr(importlib.import_module(f"sdfnet.mesh.io.{module}"), name)(*arguments, **options)
