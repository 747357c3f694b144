"""Each kind of input on a sphere, whose answer is known: what it says, what it refuses, and what auto takes it for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.inputs import find_inputs, resolve_input
from sdfnet.fitting.observations import KINDS, PartObservation
from sdfnet.fitting.observations.part import estimate_noise, surface_part
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices

CENTER, RADIUS = np.array([10.0, -4.0, 7.0]), 6.0


def sphere_points(num: int = 2000) -> NDArray[np.float64]:
    directions = np.random.default_rng(0).normal(size=(num, 3))
    return CENTER + RADIUS * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def write_points(folder: Path) -> Path:
    np.savetxt(folder / "a.xyz", sphere_points())
    return folder / "a.xyz"


def write_depth(folder: Path) -> Path:
    """A camera 20 units before the sphere, looking along +x of the world."""
    turn = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # columns: right, down, forward
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, CENTER - np.array([20.0, 0.0, 0.0])
    rows, columns = np.indices((96, 96))
    rays = np.stack([(columns - 47.5) / 120, (rows - 47.5) / 120, np.ones((96, 96))], axis=-1)
    # |t ray - 20 forward| = RADIUS, the nearer solution; depth is along z, so it is t.
    a, b, c = (rays**2).sum(-1), -20.0 * rays[..., 2] * 2, 20.0**2 - RADIUS**2
    root = np.where(b**2 - 4 * a * c > 0, b**2 - 4 * a * c, np.nan)
    depth = np.nan_to_num((-b - np.sqrt(root)) / (2 * a))
    Image.fromarray(np.rint(depth * 1000).astype(np.uint16)).save(folder / "a.png")
    camera = {"fx": 120, "fy": 120, "cx": 47.5, "cy": 47.5, "depth_scale": 0.001, "camera_to_world": pose.tolist()}
    (folder / "a.json").write_text(json.dumps(camera))
    return folder / "a.png"


def write_labels(folder: Path) -> Path:
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.5, 0.5, 0.8]
    affine[:3, 3] = CENTER - affine[:3, :3] @ [15, 15, 9]
    indices = np.moveaxis(np.indices((31, 31, 19)), 0, -1)
    away = indices @ affine[:3, :3].T + affine[:3, 3] - CENTER
    labels = (np.linalg.norm(away, axis=-1) < RADIUS).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def write_contours(folder: Path) -> Path:
    rows = []
    for number, height in enumerate((-4.0, 0.0, 3.0)):
        angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radius = np.sqrt(RADIUS**2 - height**2)
        rows += [(number, radius * np.cos(each), radius * np.sin(each), height) for each in angle]
    table = np.array(rows) + np.array([0.0, *CENTER])
    np.savetxt(folder / "a.csv", table, delimiter=",", header="curve,x,y,z", comments="")
    return folder / "a.csv"


def write_grid(folder: Path) -> Path:
    places = np.moveaxis(np.indices((30, 20, 30)), 0, -1) * 0.7
    np.save(folder / "a.npy", np.linalg.norm(places - np.abs(CENTER), axis=-1) - RADIUS)
    return folder / "a.npy"


def write_scan(folder: Path) -> Path:
    mesh = extract_mesh(Sphere(RADIUS, center=CENTER.tolist()), resolution=40)
    above = mesh.triangles.mean(axis=1)[:, 1] > CENTER[1]
    save_mesh(drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[above])), folder / "a.ply")
    return folder / "a.ply"


WRITERS: dict[str, tuple[Callable[[Path], Path], ObserveConfig]] = {
    "points": (write_points, ObserveConfig()),
    "depth": (write_depth, ObserveConfig()),
    "labels": (write_labels, ObserveConfig(axis=2, every=3)),
    "contours": (write_contours, ObserveConfig()),
    "sdf": (write_grid, ObserveConfig(spacing=(0.7, 0.7, 0.7))),
    "mesh": (write_scan, ObserveConfig()),
}


def observe(kind: str, folder: Path) -> PartObservation:
    write, config = WRITERS[kind]
    return KINDS[kind].read_part(write(folder), config)


@pytest.mark.parametrize("kind", list(KINDS))
def test_all_that_a_kind_says_of_a_sphere_is_true_of_the_sphere(kind: str, tmp_path: Path) -> None:
    part = observe(kind, tmp_path)
    center = np.abs(CENTER) if kind == "sdf" else CENTER
    sdf = np.linalg.norm(part.points - center, axis=1) - RADIUS
    excess = np.maximum(sdf - part.upper, 0) + np.maximum(part.lower - sdf, 0)
    assert part.is_surface.sum() > 50
    assert np.quantile(excess / part.noise_std, 0.99) < 3.5
    assert np.abs(sdf[part.is_surface]).mean() < 0.1
    assert part.content_hash
    assert Path(part.source).is_absolute()


@pytest.mark.parametrize(("kind", "least"), [("depth", 500), ("labels", 500), ("contours", 500)])
def test_empty_space_is_known_and_lies_outside(kind: str, least: int, tmp_path: Path) -> None:
    part = observe(kind, tmp_path)
    outside = (part.lower >= 0) & (part.upper > 0)
    assert outside.sum() > least
    assert (np.linalg.norm(part.points[outside] - CENTER, axis=1) > RADIUS - 0.3).all()


def test_only_the_chosen_slices_speak(tmp_path: Path) -> None:
    path = write_labels(tmp_path)
    part = KINDS["labels"].read_part(path, ObserveConfig(axis=2, every=4, start=1))
    heights = np.unique(part.points[:, 2].round(6))
    np.testing.assert_allclose(np.diff(heights), 4 * 0.8, atol=1e-5)
    with pytest.raises(ValueError, match=r"no chosen slice \(axis=2, every=30, start=0\) meets the label"):
        KINDS["labels"].read_part(path, ObserveConfig(axis=2, every=30))
    with pytest.raises(ValueError, match="start must be from 0 to 18 along axis 2, got 19"):
        KINDS["labels"].read_part(path, ObserveConfig(axis=2, start=19))


def test_a_folder_of_depth_images_is_one_shape(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    write_depth(tmp_path / "box")
    for suffix in (".png", ".json"):
        (tmp_path / "box" / f"b{suffix}").write_bytes((tmp_path / "box" / f"a{suffix}").read_bytes())
    found = find_inputs(tmp_path)
    assert found == {"box": tmp_path / "box"}
    assert resolve_input(found["box"], config=ObserveConfig()).kind == "depth"
    both = KINDS["depth"].read_part(found["box"], ObserveConfig())
    assert (
        both.is_surface.sum() == 2 * KINDS["depth"].read_part(found["box"] / "a.png", ObserveConfig()).is_surface.sum()
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_auto_knows_each_kind_or_says_the_choices(kind: str, tmp_path: Path) -> None:
    write, config = WRITERS[kind]
    path = write(tmp_path)
    if kind == "sdf":
        with pytest.raises(ValueError, match=r"can be of several kinds; give kind=points .* kind=labels or kind=sdf"):
            resolve_input(path, config=config)
    else:
        found = resolve_input(path, config=config)
        assert (found.kind, found.is_whole) == (kind, False)


def test_a_closed_mesh_is_whole_and_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_mesh(extract_mesh(Sphere(1.0), resolution=20), tmp_path / "a.obj")
    assert resolve_input(tmp_path / "a.obj", config=ObserveConfig()).is_whole
    with pytest.raises(ValueError, match=r"a\.obj: every has no effect on an input of kind=mesh; it is for labels"):
        resolve_input(tmp_path / "a.obj", config=ObserveConfig(every=2))


def test_points_with_nan_normals_and_sensor_are_read(tmp_path: Path) -> None:
    points = sphere_points()
    normals = (points - CENTER) / RADIUS
    points[:3] = np.nan
    np.savez(tmp_path / "a.npz", points=points, normals=normals, sensor=CENTER + np.array([0, 0, 30.0]))
    part = KINDS["points"].read_part(tmp_path / "a.npz", ObserveConfig(noise_std=0.05))
    assert part.notes == ("3 of 2000 points are NaN or infinite, left out",)
    assert int(part.is_surface.sum()) == 1997
    free = (part.lower == 0) & (part.upper > 0)
    assert free.sum() == 1997
    np.testing.assert_allclose(np.linalg.norm(part.normals[part.is_surface], axis=1), 1)


def test_the_noise_of_points_is_estimated_and_outliers_hardly_change_it() -> None:
    random = np.random.default_rng(1)
    points = sphere_points(4000)
    noisy = points + random.normal(size=points.shape) * 0.1
    assert estimate_noise(noisy) == pytest.approx(0.1, rel=0.4)
    noisy[:400] = CENTER + random.uniform(-10, 10, size=(400, 3))
    assert estimate_noise(noisy) == pytest.approx(0.1, rel=0.7)


def bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Files that cannot be used: the kind, and what the message says."""
    (folder / "empty.xyz").write_text("")
    (folder / "ragged.xyz").write_text("1 2 3\n1 2\n")
    (folder / "words.txt").write_text("x y z\n1 2 3\nhello there you\n")
    np.save(folder / "flat.npy", np.zeros((3, 50)))
    np.savez(folder / "no.npz", vertices=np.zeros((5, 3)))
    np.savetxt(folder / "few.xyz", np.zeros((5, 3)))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "color.png")
    (folder / "color.json").write_text((folder / "a.json").read_text())
    Image.fromarray(np.ones((8, 8), np.uint16)).save(folder / "alone.png")
    np.savetxt(folder / "bent.csv", [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0]], delimiter=",")
    np.savetxt(folder / "three.csv", np.zeros((20, 3)), delimiter=",")
    np.save(folder / "positive.npy", np.ones((4, 4, 4)))
    return {
        "empty.xyz": ("points", "the file is empty; export it again"),
        "ragged.xyz": ("points", "its lines have [2, 3] numbers; give lines of equally many numbers"),
        "words.txt": ("points", "it has a line 'hello there you'"),
        "flat.npy": ("points", "points need 3 columns x, y, z or 6 with normals, got (3, 50). Transpose it?"),
        "no.npz": ("points", "it needs `points` of shape (N, 3), got vertices (5, 3)"),
        "few.xyz": ("points", "5 usable points; at least 10 are needed"),
        "color.png": ("depth", "a depth image has one channel of 16 bits, got mode RGB"),
        "alone.png": ("depth", "a depth image needs this file, with fx, fy, cx, cy"),
        "bent.csv": ("contours", "curve 0 leaves its plane by"),
        "three.csv": ("contours", "contours need 4 columns, curve, x, y, z, got 3"),
        "positive.npy": ("sdf", "a grid of distances needs spacing=[X,Y,Z] in world units"),
    }


def test_what_cannot_be_used_is_refused_with_the_file_and_the_cure(tmp_path: Path) -> None:
    write_depth(tmp_path)
    for name, (kind, message) in bad_files(tmp_path).items():
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            KINDS[kind].read_part(tmp_path / name, ObserveConfig())
        assert Path(name).stem in str(caught.value)
    with pytest.raises(ValueError, match="the distances have one sign everywhere known"):
        KINDS["sdf"].read_part(tmp_path / "positive.npy", ObserveConfig(spacing=(1, 1, 1)))


def test_a_part_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="noise_std must be positive and finite"):
        surface_part(sphere_points(20), noise_std=0.0)
    part = surface_part(sphere_points(20), noise_std=0.1)
    with pytest.raises(ValueError, match=re.escape("lower must have shape (20,) as there are points, got (3,)")):
        PartObservation(part.points, np.zeros(3), part.upper, part.noise_std, part.is_surface, part.normals)
