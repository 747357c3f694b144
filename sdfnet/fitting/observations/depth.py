"""Depth images with their cameras: 16-bit PNG or NPY, and a JSON file of the same name.

The JSON file has `fx`, `fy`, `cx`, `cy` (pixels), `depth_scale` (world units per unit of the image) and
`camera_to_world` (4 × 4). Axes are OpenCV's: x right, y down, z into the scene. Depth is along z, not along the ray. A
pixel of 0 or NaN has no depth, and says nothing. All images of a folder, each with its JSON file, show one shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations.base import ObservationKind, hash_file
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.geometry.arrays import BoolArray, FloatArray
from sdfnet.mesh.io.read import read_file
from sdfnet.volumes.label_volume import load_array

_KEYS = ("fx", "fy", "cx", "cy")
_MOST_POINTS = 100_000
_LEAST_PIXELS = 50


def read_depth(path: Path, config: ObserveConfig) -> PartObservation:
    """Read one depth image, or all those of a folder as views of one shape.

    Normals come from the neighbours of a pixel; a pixel at a jump of the depth gets none.

    Raises
    ------
    ValueError
        No JSON file of the same name, one that lacks a key, or an image without enough depth.
    """
    files = depth_files(path) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no depth image with a JSON file of the same name in this folder")
    views = [_read_view(file) for file in files]
    points, normals, sensors = (np.concatenate(parts) for parts in zip(*views, strict=True))
    if len(points) < _LEAST_PIXELS:
        raise ValueError(f"{path}: only {len(points)} pixels have a depth; at least {_LEAST_PIXELS} are needed")
    notes = [f"{len(points):,} pixels of {len(files)} image{'s' if len(files) > 1 else ''} have a depth"]
    chosen = np.sort(np.random.default_rng(0).permutation(len(points))[:_MOST_POINTS])
    return surface_part(
        points[chosen],
        normals=normals[chosen],
        sensor=sensors[chosen],
        noise_std=config.noise_std,
        source=path.resolve(),
        content_hash=hash_file(path, config),
        notes=notes,
    )


def depth_files(folder: Path) -> list[Path]:
    """Return the images of a folder that have a JSON file of the same name, sorted."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".png", ".npy")]
    return [path for path in found if path.with_suffix(".json").is_file()]


def back_project(depth: FloatArray, camera: dict[str, Any]) -> tuple[FloatArray, BoolArray]:
    """Return the points (H, W, 3), camera frame, of depths (H, W) along z, and which are known, (H, W).

    >>> camera = {"fx": 2.0, "fy": 2.0, "cx": 0.5, "cy": 0.5}
    >>> back_project(np.full((2, 2), 4.0), camera)[0][0, 0].tolist()
    [-1.0, -1.0, 4.0]
    """
    rows, columns = np.indices(depth.shape)
    x = (columns - camera["cx"]) / camera["fx"] * depth
    y = (rows - camera["cy"]) / camera["fy"] * depth
    return np.stack([x, y, depth], axis=-1), np.isfinite(depth) & (depth > 0)


def _read_view(path: Path) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return points, normals and positions of the camera, (N, 3) each, world frame."""
    camera = read_camera(path.with_suffix(".json"))
    depth = _read_image(path) * camera["depth_scale"]
    points, known = back_project(depth, camera)
    normals = _grid_normals(points, known)
    pose = camera["camera_to_world"]
    world = points[known] @ pose[:3, :3].T + pose[:3, 3]
    return world, normals[known] @ pose[:3, :3].T, np.broadcast_to(pose[:3, 3], world.shape)


def read_camera(path: Path) -> dict[str, Any]:
    """Read the JSON file of a camera; raise ValueError that names what is missing or wrong.

    >>> camera = {"fx": 1, "fy": 1, "cx": 0, "cy": 0, "depth_scale": 0.001, "camera_to_world": np.eye(4).tolist()}
    >>> _ = Path("view.json").write_text(json.dumps(camera))
    >>> read_camera(Path("view.json"))["depth_scale"]
    0.001
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: a depth image needs this file, with fx, fy, cx, cy, depth_scale and camera_to_world (4 × 4, "
            "OpenCV axes)"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in (*_KEYS, "depth_scale", "camera_to_world") if key not in document]
        if missing:
            raise ValueError(f"{path}: {', '.join(missing)} missing; add them")
        camera: dict[str, Any] = {key: float(document[key]) for key in (*_KEYS, "depth_scale")}
        pose = np.array(document["camera_to_world"], dtype=np.float64)
    except (TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}); write it again") from error
    if min(camera["fx"], camera["fy"], camera["depth_scale"]) <= 0:
        raise ValueError(f"{path}: fx, fy and depth_scale must be positive")
    turn = pose[:3, :3] if pose.shape == (4, 4) else np.zeros((3, 3))
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise ValueError(f"{path}: camera_to_world must be 4 × 4 with a rotation that does not mirror or scale")
    return {**camera, "camera_to_world": pose}


def _read_image(path: Path) -> FloatArray:
    if path.suffix.lower() == ".npy":
        values = load_array(path)
    else:
        read_file(path)
        try:
            with Image.open(path) as image:
                values = np.asarray(image)
                mode = image.mode
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: damaged, or not an image ({error}); export it again") from error
        if not mode.startswith("I"):
            raise ValueError(f"{path}: a depth image has one channel of 16 bits, got mode {mode}; export it so")
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise ValueError(f"{path}: a depth image has two axes, rows and columns, got {values.shape} of {values.dtype}")
    return values.astype(np.float64)


def _grid_normals(points: FloatArray, known: BoolArray) -> FloatArray:
    """Return unit normals (H, W, 3) that face the camera, from central differences; 0 at borders and jumps of depth."""
    normals = np.zeros_like(points)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    inner = np.cross(down, across)
    inner /= np.maximum(np.linalg.norm(inner, axis=-1, keepdims=True), 1e-300)
    toward = points[1:-1, 1:-1] / np.maximum(np.linalg.norm(points[1:-1, 1:-1], axis=-1, keepdims=True), 1e-300)
    facing = -(inner * toward).sum(axis=-1)
    whole = known[1:-1, 1:-1] & known[1:-1, 2:] & known[1:-1, :-2] & known[2:, 1:-1] & known[:-2, 1:-1]
    # Steeper than about 75 degrees to the ray, two neighbours may lie on different surfaces.
    normals[1:-1, 1:-1] = np.where(
        (whole & (np.abs(facing) > 0.25))[..., None], inner * np.sign(facing)[..., None], 0.0
    )
    return normals


DEPTH = ObservationKind(suffixes=(".png", ".npy"), read_part=read_depth)
