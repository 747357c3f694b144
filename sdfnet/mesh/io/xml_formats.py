"""Read 3MF and COLLADA (DAE), and write 3MF, with other libraries (the extra `formats`).

trimesh reads and writes 3MF. pycollada reads COLLADA directly, because trimesh triangulates concave polygons by fans
and omits skins. pycollada stores positions as float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import warnings
import zipfile
from collections.abc import Iterator

import numpy as np

from sdfnet.mesh.io.polygons import FileFacts, PolygonMesh, join_parts, place_part, triangulate
from sdfnet.mesh.mesh import Mesh

_UNITS_3MF = {"micron": "µm", "millimeter": "mm", "centimeter": "cm", "inch": "in", "foot": "ft", "meter": "m"}
_UNITS_DAE = {1.0: "m", 0.01: "cm", 0.001: "mm", 0.0254: "in", 0.3048: "ft"}
_NOT_READ_DAE = {b"instance_controller": "a skin or a morph", b"ph": "polygons with holes"}


def parse_3mf(data: bytes) -> PolygonMesh:
    """Return all objects that the build of a 3MF file names, as one mesh.

    Raises
    ------
    ValueError
        lxml or networkx is not installed, or the file requires an extension that may change the shape.
    """
    _check_installed("3mf", "lxml", "networkx")
    from trimesh.exchange.threemf import load_3MF

    _check_extensions(data)
    with _no_lost_numbers():
        loaded = load_3MF(io.BytesIO(data), postprocess=False)
    parts = []
    for placed in loaded["graph"]:
        part = loaded["geometry"][placed["geometry"]]
        parts.append(place_part(part["vertices"], part["faces"], placed["matrix"]))
    unit = loaded["metadata"]["units"].removesuffix("s")
    return join_parts(parts, facts=FileFacts(unit=_UNITS_3MF.get(unit, unit), up_axis="z"))


def format_3mf(mesh: Mesh) -> bytes:
    """Return `mesh` as 3MF, whose unit is the millimetre. Normals are left out. Each call gives another identifier.

    Raises
    ------
    ValueError
        lxml or networkx is not installed.
    """
    _check_installed("3mf", "lxml", "networkx", verb="writing")
    from trimesh.exchange.threemf import export_3MF

    return bytes(export_3MF(mesh.to_trimesh()))


def parse_dae(data: bytes) -> PolygonMesh:
    """Return the scene of a COLLADA file as one mesh. Parts that pycollada cannot read are left out with a note.

    Raises
    ------
    ValueError
        pycollada is not installed, or the file has skins, morphs or polygons with holes.
    """
    _check_installed("dae", "collada")
    import collada
    from collada.polylist import Polylist
    from collada.triangleset import TriangleSet

    for tag, meaning in _NOT_READ_DAE.items():
        if re.search(rb"<(\w+:)?" + tag + rb"[\s>]", data):
            raise ValueError(f"it has {meaning}, which is not read in DAE; export it as GLB or OBJ")
    with _no_lost_numbers():
        document = collada.Collada(io.BytesIO(data), ignore=[collada.common.DaeError])
    parts = []
    for geometry in [] if document.scene is None else document.scene.objects("geometry"):
        for primitive in geometry.original.primitives:
            if isinstance(primitive, TriangleSet) and len(primitive):
                polygons = PolygonMesh.of_triangles(primitive.vertex, primitive.vertex_index)
            elif isinstance(primitive, Polylist) and len(primitive):
                polygons = PolygonMesh(primitive.vertex, primitive.vertex_index, primitive.vcounts)
            else:
                continue  # lines
            transform = geometry.matrix.astype(np.float64)
            parts.append(place_part(polygons.vertices, triangulate(polygons), transform))
    errors = [" ".join(str(error).split())[:80] for error in document.errors]
    if errors and not parts:
        raise ValueError(errors[0])
    notes = tuple(f"what is damaged was left out: {error}" for error in errors[:1])
    meters = document.assetInfo.unitmeter or 1.0
    unit = _UNITS_DAE.get(meters, f"{meters:g} m")
    return join_parts(parts, facts=FileFacts(notes, unit, (document.assetInfo.upaxis or "Y_UP")[0].lower()))


@contextlib.contextmanager
def _no_lost_numbers() -> Iterator[None]:
    """Raise an error if NumPy stops at a word that is not a number, where NumPy alone would only warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="string or file could not be read")
        yield


def _check_installed(suffix: str, *modules: str, verb: str = "reading") -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        packages = ", ".join({"collada": "pycollada"}.get(name, name) for name in missing)
        raise ValueError(f"{verb} .{suffix} needs {packages}; pip install 'sdfnet[formats]'")


def _check_extensions(data: bytes) -> None:
    """Refuse required extensions of 3MF that trimesh does not read: beams, slices, booleans, volumes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next((name for name in archive.namelist() if name.lower().endswith("3d/3dmodel.model")), None)
        if name is None:
            raise ValueError("it has no 3D/3dmodel.model")
        with archive.open(name) as file:
            head = file.read(65536)
    required = re.search(rb"""requiredextensions\s*=\s*["']([^"']*)""", head)
    for prefix in [] if required is None else required[1].split():
        found = re.search(rb"xmlns:" + re.escape(prefix) + rb"""\s*=\s*["']([^"']*)""", head)
        namespace = (prefix if found is None else found[1]).decode("utf-8", "replace")
        if not re.search("/(production|material)/", namespace):
            raise ValueError(f"it requires {namespace}, which may change the shape; export it without")
