"""Morphs of known spheres, as files: exact ends, world units, resuming, refusing."""

import dataclasses
import json
import os
import time
import weakref
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run
from PIL import Image

from sdfnet.extraction.extract import extract_mesh
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.morphs import export as writers
from sdfnet.morphs import plan as plan_module
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig
from sdfnet.rendering.images import load_image
from sdfnet.runs import Run, extract_shape

SMALL = MorphConfig(frames=5, resolution=16, width=64, height=48, format=("obj",), easing="linear")
PLACES = {"small": Similarity([100, 0, 0], 1.0), "large": Similarity([0, 50, 0], 0.01)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return sphere_run({"small": 0.4, "large": 0.8}, directory=tmp_path / "run", similarities=PLACES)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ends_are_byte_for_byte_what_extraction_writes(run: Run, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, format=("obj", "ply", "stl"))
    result = make_morph(run, ["small", "large"], tmp_path / "out", config=config)
    assert len(result.meshes) == 5 * 3
    for name, frame in (("small", "frame_0000"), ("large", "frame_0004")):
        mesh = extract_mesh(run.field(name), resolution=16, similarity=run.similarity(name))
        for suffix in ("obj", "ply", "stl"):
            save_mesh(mesh, tmp_path / f"{name}.{suffix}")
            assert (tmp_path / f"{name}.{suffix}").read_bytes() == (result.out / f"{frame}.{suffix}").read_bytes()


def test_frames_between_have_the_size_and_place_between(run: Run, tmp_path: Path) -> None:
    make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    middle = read_mesh(tmp_path / "out" / "frame_0002.obj")
    assert middle.bounds.center == pytest.approx([50, 25, 0], abs=1e-3)
    assert middle.bounds.extent / 2 == pytest.approx(0.6 / 0.1, rel=0.02)
    assert middle.signed_volume > 0


def test_manifest_names_every_frame_with_code_place_and_counts(run: Run, tmp_path: Path) -> None:
    result = make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    manifest = json.loads(result.manifest.read_text(encoding="utf-8"))
    assert manifest["complete"] is True
    assert manifest["settings"]["shapes"] == ["small", "large"]
    assert manifest["playback"] == [0, 1, 2, 3, 4]
    assert [frame["time"] for frame in manifest["frames"]] == [0, 0.25, 0.5, 0.75, 1]
    assert [frame["shape"] for frame in manifest["frames"]] == ["small", "", "", "", "large"]
    last = manifest["frames"][-1]
    assert torch.equal(torch.tensor(last["latent"]), run.latent("large"))
    assert last["similarity"] == run.similarity("large").to_dict()
    assert (last["measures"]["components"], last["measures"]["genus"]) == (1, 0)
    mesh = read_mesh(result.out / last["meshes"]["obj"])
    assert (last["measures"]["vertices"], last["measures"]["faces"]) == (len(mesh.vertices), len(mesh.faces))
    assert result.sheet.is_file()


@pytest.mark.render
def test_films_have_the_frames_of_the_playback(run: Run, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, frames=4, playback="pingpong", format=("gif", "webp", "mp4"), fps=10)
    result = make_morph(run, "all", tmp_path / "out", config=config)
    assert [film.name for film in result.films] == ["morph.gif", "morph.webp", "morph.mp4"]
    assert result.meshes == ()
    for film in result.films:
        if film.suffix == ".mp4":
            assert imageio_ffmpeg.count_frames_and_secs(str(film))[0] == 6
        else:
            with Image.open(film) as picture:
                assert (picture.n_frames, picture.size) == (6, (64, 48))


@pytest.mark.render
def test_the_camera_is_steady_and_sees_the_whole_morph(run: Run, tmp_path: Path) -> None:
    """The sphere keeps its place while its colour fills more of the picture; the border stays background."""
    still = dataclasses.replace(
        run, shapes=tuple(dataclasses.replace(s, similarity=PLACES["small"]) for s in run.shapes)
    )
    result = make_morph(still, "all", tmp_path / "out", config=dataclasses.replace(SMALL, frames=3))
    pictures = [load_image(result.out / "pictures" / f"frame_{i:04d}.png").astype(int) for i in range(3)]
    blue = [(picture[..., 2] - picture[..., 0] > 30).sum() for picture in pictures]
    assert blue[0] < blue[1] < blue[2]
    assert blue[2] / blue[0] == pytest.approx(4, rel=0.3)
    largest = pictures[2]
    border = np.concatenate([largest[0], largest[-1], largest[:, 0], largest[:, -1]])
    assert (border[:, 2] - border[:, 0] < 30).all()


def test_an_interrupted_morph_goes_on_and_ends_the_same(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_morph(run, "all", tmp_path / "whole", config=SMALL)
    calls = []

    def stopping(*args, **kwargs):
        if len(calls) == 4:  # both shapes, and two frames between them
            raise KeyboardInterrupt
        calls.append(args)
        return extract_shape(*args, **kwargs)

    monkeypatch.setattr(plan_module, "extract_shape", stopping)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["complete"] is False
    monkeypatch.setattr(plan_module, "extract_shape", extract_shape)
    resumed = make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert (whole.num_skipped, resumed.num_skipped) == (0, 3)
    assert folder_bytes(whole.out) == folder_bytes(resumed.out)
    again = make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert again.num_skipped == 5
    assert folder_bytes(whole.out) == folder_bytes(again.out)


def test_each_shape_is_extracted_once_and_so_is_each_frame_between(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted = []

    def counting(run, shape, **options):
        extracted.append(shape.name)
        return extract_shape(run, shape, **options)

    monkeypatch.setattr(plan_module, "extract_shape", counting)
    config = dataclasses.replace(SMALL, frames=7, color="travel", overlay=True)
    make_morph(run, ["small", "large", "small"], tmp_path / "out", config=config)
    assert sorted(extracted) == ["", "", "", "", "large", "small"]


def test_few_frames_are_in_memory_when_writing_is_slower_than_extracting(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, most = [], 0

    def remembering(run, shape, **options):
        nonlocal most
        found = extract_shape(run, shape, **options)
        made.append(weakref.ref(found.mesh))
        most = max(most, sum(mesh() is not None for mesh in made))
        return found

    def slow(mesh, path):
        time.sleep(0.05)
        save_mesh(mesh, path)

    monkeypatch.setattr(plan_module, "extract_shape", remembering)
    monkeypatch.setattr(writers, "save_mesh", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    make_morph(run, "all", tmp_path / "out", config=dataclasses.replace(SMALL, frames=40, resolution=8))
    assert len(made) == 40
    assert 8 < most <= 16


def test_a_frame_lost_where_no_mesh_is_kept_is_measured_against_the_one_before_again(run: Run, tmp_path: Path) -> None:
    """Only the pictures and the meshes of a morph without an animated file are kept; frame 1 is extracted again."""
    whole = make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert not list(whole.out.rglob("*.npz"))
    before = folder_bytes(whole.out)
    (whole.out / "frame_0002.obj").unlink()
    (whole.out / "morph.json").unlink()
    again = make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert again.num_skipped == 4
    assert folder_bytes(again.out) == before


def test_the_folder_explains_itself_before_its_first_frame(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill may come at any moment: the frames that it leaves must not look like someone else's."""
    seen = []

    def looking(mesh, path):
        seen.append((tmp_path / "out" / "manifest.json").is_file())
        save_mesh(mesh, path)

    monkeypatch.setattr(writers, "save_mesh", looking)
    make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert seen == [True] * 5


def test_a_frame_lost_or_cut_after_the_fact_is_made_again(run: Run, tmp_path: Path) -> None:
    first = make_morph(run, "all", tmp_path / "out", config=SMALL)
    before = folder_bytes(first.out)
    (first.out / "frame_0001.obj").unlink()
    (first.out / "frame_0003.obj").write_text("cut")
    first.sheet.unlink()
    second = make_morph(run, "all", tmp_path / "out", config=SMALL)
    assert second.num_skipped == 3
    assert folder_bytes(second.out) == before


def test_another_morph_in_the_folder_is_refused_by_its_difference(run: Run, tmp_path: Path) -> None:
    make_morph(run, "all", tmp_path / "out", config=SMALL)
    fewer = dataclasses.replace(SMALL, frames=3)
    with pytest.raises(ValueError, match="another morph: frames is 5 there and 3 now"):
        make_morph(run, "all", tmp_path / "out", config=fewer)
    trained = dataclasses.replace(run, latents=run.latents * 1.01)
    with pytest.raises(ValueError, match="another morph: weights is"):
        make_morph(trained, "all", tmp_path / "out", config=SMALL)
    replaced = make_morph(run, "all", tmp_path / "out", config=fewer, overwrite=True)
    assert sorted(path.name for path in replaced.out.glob("*.obj")) == [f"frame_000{i}.obj" for i in range(3)]


def test_the_manifest_has_the_easing_that_was_used(run: Run, tmp_path: Path) -> None:
    """So a folder of a version whose default was smooth at any pace goes on where it is the same morph, else not."""
    out, unsaid = tmp_path / "out", dataclasses.replace(SMALL, easing=None)
    first = make_morph(run, "all", out, config=dataclasses.replace(SMALL, easing="smooth"))
    assert make_morph(run, "all", out, config=unsaid).num_skipped == first.num_frames
    surface = dataclasses.replace(unsaid, pace="surface")
    make_morph(run, "all", tmp_path / "even", config=dataclasses.replace(surface, easing="smooth"))
    with pytest.raises(ValueError, match='another morph: easing is "smooth" there and "linear" now'):
        make_morph(run, "all", tmp_path / "even", config=surface)


def test_a_foreign_or_damaged_folder_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "frame_0007.obj").write_text("mine")
    with pytest.raises(ValueError, match=r"holds frame_0007.obj but no manifest.json"):
        make_morph(run, "all", tmp_path, config=SMALL)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        make_morph(run, "all", tmp_path, config=SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot make the folder"):
        make_morph(run, "all", tmp_path / "file" / "out", config=SMALL)


def test_a_frame_without_surface_is_named_and_finished_frames_stay(tmp_path: Path) -> None:
    class VanishingDecoder(SphereDecoder):
        """A sphere whose radius is the size of its code less 0.1: none is left half-way from 0.6 to -0.6."""

        def condition(self, latents_BL: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (torch.cat([latents_BL[:, :3], latents_BL[:, 3:].abs() - 0.1], dim=1),)

    run = dataclasses.replace(sphere_run({"here": 0.6, "there": -0.6}), decoder=VanishingDecoder())
    with pytest.raises(ValueError, match=r"frame 2 of the morph \(at time 0.500\) cannot be .*no surface at level 0"):
        make_morph(run, "all", tmp_path / "out", config=SMALL)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert [frame["index"] for frame in manifest["frames"]] == [0, 1]
    with pytest.raises(ValueError, match=r"frame 4 of the morph \(the shape nothing\) cannot be .*no surface"):
        make_morph(sphere_run({"ball": 0.5, "nothing": -0.5}), "all", tmp_path / "early", config=SMALL)


def test_names_with_slashes_and_brackets_work(tmp_path: Path) -> None:
    run = sphere_run({"set/a [1]": 0.5, "b=c": 0.6})
    result = make_morph(run, ["b=c", "set/a [1]"], tmp_path / "out", config=SMALL)
    assert json.loads(result.manifest.read_text(encoding="utf-8"))["settings"]["shapes"] == ["b=c", "set/a [1]"]


def test_a_loop_shows_each_shape_once_and_ends_before_the_first(run: Run, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, frames=4, playback="loop")
    result = make_morph(run, "all", tmp_path / "out", config=config)
    frames = json.loads(result.manifest.read_text(encoding="utf-8"))["frames"]
    assert [frame["shape"] for frame in frames] == ["small", "", "large", ""]
    there, back = frames[1]["latent"], frames[3]["latent"]
    assert there == pytest.approx(back)
