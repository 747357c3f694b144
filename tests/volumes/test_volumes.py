"""Label volumes: their place in the world, what is smoothed and how far, and files that cannot be labels."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import check_folder, load_shape
from sdfnet.volumes import LabelVolume, label_surface, read_label_volume

OBLIQUE = np.array([[0.8, -0.6, 0.0, 10.0], [0.6, 0.8, 0.0, -4.0], [0.0, 0.0, 2.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
"""Voxels of 1 × 1 × 2 mm, turned about z."""


def ball(radius: float, shape: tuple[int, int, int] = (24, 24, 14), affine: np.ndarray = OBLIQUE) -> np.ndarray:
    """A ball of `radius` mm about the middle voxel of a volume, labels 0 and 1."""
    middle = (np.array(shape) - 1) / 2
    away = (np.moveaxis(np.indices(shape), 0, -1) - middle) @ affine[:3, :3].T
    return (np.linalg.norm(away, axis=-1) < radius).astype(np.int16)


def save_nifti(path: Path, labels: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    nibabel.save(nibabel.Nifti1Image(labels, affine), path)
    return path


def test_an_oblique_affine_brings_the_surface_to_its_place_with_outward_faces(tmp_path: Path) -> None:
    volume = read_label_volume(save_nifti(tmp_path / "ball.nii.gz", ball(8.0)))
    np.testing.assert_allclose(volume.spacing, [1, 1, 2], rtol=1e-6)
    mesh = label_surface(volume).mesh
    middle = OBLIQUE[:3, :3] @ [11.5, 11.5, 6.5] + OBLIQUE[:3, 3]
    radii = np.linalg.norm(mesh.vertices - middle, axis=1)
    assert abs(radii.mean() - 8) < 0.25
    assert radii.std() < 0.25
    assert mesh.to_trimesh().is_watertight
    assert mesh.signed_volume == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.06)
    mirrored = OBLIQUE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    assert label_surface(LabelVolume(ball(8.0).astype(np.int64), mirrored)).mesh.signed_volume > 0


def test_the_surface_never_crosses_a_voxel_centre_and_thin_lines_stay() -> None:
    labels = np.zeros((12, 12, 12), dtype=np.int64)
    labels[6, 2:10, 5] = 1
    found = label_surface(LabelVolume(labels, np.eye(4)))
    assert found.mesh.to_trimesh().body_count == 1
    assert found.mesh.bounds.extent[1] == pytest.approx(8, abs=1)
    assert 0 < found.moved_mean < found.moved_most < 0.5
    assert "surface moved by" in found.notes[0]


def test_a_slanted_plane_loses_its_stairs() -> None:
    i, j, k = np.indices((30, 30, 30))
    inside = (i + 0.37 * j < 22) & (k > 3) & (k < 26)
    mesh = label_surface(LabelVolume(inside.astype(np.int64), np.eye(4))).mesh
    x, y, z = mesh.vertices.T
    middle = (y > 8) & (y < 22) & (z > 8) & (z < 21) & (x > 5)
    off = (x + 0.37 * y - 22)[middle] / np.hypot(1, 0.37)
    assert off.std() < 0.12  # 0.27 with the stairs


def test_nrrd_and_nifti_of_one_volume_give_one_surface(tmp_path: Path) -> None:
    labels = ball(8.0)
    header = {
        "space": "left-posterior-superior",
        "space directions": (np.diag([-1.0, -1.0, 1.0]) @ OBLIQUE[:3, :3]).T,
        "space origin": np.diag([-1.0, -1.0, 1.0]) @ OBLIQUE[:3, 3],
    }
    nrrd.write(str(tmp_path / "a.nrrd"), labels, header)
    volumes = [read_label_volume(path) for path in (tmp_path / "a.nrrd", save_nifti(tmp_path / "b.nii", labels))]
    np.testing.assert_allclose(volumes[0].affine, volumes[1].affine, atol=1e-6)
    np.testing.assert_array_equal(volumes[0].labels, volumes[1].labels)


def test_floats_are_rounded_and_labels_chosen(tmp_path: Path) -> None:
    labels = ball(8.0).astype(np.float32) * 2
    labels[0, 0, 0] = 1.0001
    volume = read_label_volume(save_nifti(tmp_path / "a.nii", labels))
    assert int(volume.solid().sum()) == int(volume.solid(2).sum()) + 1 == int(volume.solid([1, 2]).sum())
    with pytest.raises(ValueError, match=re.escape("no voxel has a label in [5]; it has 0, 1, 2. Give label= one")):
        volume.solid(5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4, 4), 0.5, np.float32), "its values are not whole numbers, so it is an image"),
        (np.full((4, 4, 4), np.nan, np.float32), "64 voxels are NaN or infinite; replace them by 0"),
        (np.zeros((4, 4, 4, 2), np.int16), "it must have three axes, got shape (4, 4, 4, 2)"),
    ],
)
def test_what_is_no_label_volume_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", values)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read_label_volume(path)


def test_damaged_files_and_missing_spacings_name_the_file_and_the_cure(tmp_path: Path) -> None:
    whole = save_nifti(tmp_path / "a.nii.gz", ball(8.0)).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.nrrd").write_text("not a volume")
    for name in ("cut.nii.gz", "no.nrrd"):
        with pytest.raises(ValueError, match=rf"{name}: damaged, or not what its suffix says"):
            read_label_volume(tmp_path / name)
    np.save(tmp_path / "a.npy", ball(8.0))
    with pytest.raises(ValueError, match=r"a\.npy: a \.npy file has no spacing of its own; give spacing="):
        read_label_volume(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"spacing= belongs to \.npy files"):
        read_label_volume(tmp_path / "a.nii.gz", spacing=(1, 1, 1))


def test_a_folder_of_volumes_is_checked_and_sampled_beside_meshes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "left").mkdir(parents=True)
    save_nifti(folder / "left" / "a.b.nii.gz", ball(8.0))
    save_nifti(folder / "c.nii", 2 * ball(6.0))
    reports = {report.name: report for report in check_folder(folder)}
    assert set(reports) == {"left/a.b", "c"}
    assert "surface moved by" in reports["c"].notes[0]
    refused = {report.name: report.reason for report in check_folder(folder, rule=SolidRule(label=(2,)))}
    assert refused["c"] is None
    assert refused["left/a.b"] == "no voxel has a label in [2]; it has 0, 1. Give label= one of these"
    done = prepare_samples(
        folder,
        tmp_path / "samples",
        config=SamplerConfig(num_samples=500, num_surface=100, num_heldout=0),
        num_workers=1,
        progress=False,
    )
    assert done.names == ("c", "left/a.b")
    assert (
        load_shape(folder / "c.nii").content_hash
        != load_shape(folder / "c.nii", rule=SolidRule(label=(2,))).content_hash
    )


def test_a_rule_with_labels_comes_back_from_its_document() -> None:
    rule = SolidRule(label=(1, 2))
    assert SolidRule.from_dict(rule.to_dict()) == rule
    assert "label" not in SolidRule().to_dict()
