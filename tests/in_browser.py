"""Real tools for files that browsers open: the Khronos validator, three.js and the system's Chromium, all offline.

The npm packages are fetched once, beforehand, by `npm ci --prefix tests/browser`; Chromium and Node come from the
system (Debian: `apt-get install chromium nodejs npm`). Tests that need what is not there are skipped and say so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.geometry.mesh import Mesh
from sdfnet.rendering.camera import Camera, camera_axes
from sdfnet.rendering.images import load_image
from sdfnet.rendering.look import Look
from sdfnet.rendering.renderer import render_mesh

FOLDER = Path(__file__).parent / "browser"
SECONDS = 300


def need_node() -> str:
    """Return the path of Node, or skip the test where it or the npm packages are missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here: install nodejs and npm, then run npm ci --prefix tests/browser")
    if not (FOLDER / "node_modules" / "three").is_dir():
        pytest.skip("the npm packages are not installed: run npm ci --prefix tests/browser")
    return node


def need_chromium() -> str:
    """Return the path of Chromium, or skip the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium here: install the package chromium")


def validate(path: Path) -> dict[str, Any]:
    """Return the Khronos validator's report on a GLB."""
    command = [need_node(), str(FOLDER / "validate.mjs"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shoot(path: Path, *, size: tuple[int, int], out: Path, **job: Any) -> dict[str, Any]:
    """Open `path` in Chromium, offline, and return what `browser/shoot.mjs` saw; pictures go to `out`."""
    told = {"file": str(path), "size": size, "out": str(out), "chromium": need_chromium(), **job}
    command = [need_node(), str(FOLDER / "shoot.mjs")]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shoot_three(
    path: Path, camera: Camera, *, size: tuple[int, int], out: Path, shares: Sequence[float]
) -> dict[str, Any]:
    """Play a GLB in three.js; `out` gets flat_0.png (black on white) and look_0.png for each share of its time."""
    turn = camera_axes(0, 0, camera.up_axis)  # the file's root turns the world like this
    view = {
        "position": (turn @ camera.position).tolist(),
        "target": (turn @ camera.target).tolist(),
        "up": [0, 1, 0],
        "distance": camera.distance,
        "field_of_view": camera.field_of_view,
    }
    return shoot(path, size=size, out=out, kind="glb", camera=view, shares=list(shares))


def silhouette(mesh: Mesh, camera: Camera, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels sdfnet's own picture of `mesh` covers, (H, W)."""
    flat = Look(color=(0, 0, 0), background=(1, 1, 1), shadows=False, roughness=1.0)
    image = render_mesh(mesh, camera=camera, size=size, look=flat, backend="rays")
    return image.mean(axis=2) < 160


def covered(path: Path) -> NDArray[np.bool_]:
    """Return which pixels of a picture are dark, (H, W)."""
    return load_image(path).mean(axis=2) < 128


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return intersection over union."""
    assert one.shape == other.shape
    return float((one & other).sum() / max((one | other).sum(), 1))
