"""Pictures of many shapes as files, of a run and of a folder of meshes."""

from pathlib import Path

import numpy as np
import pytest
from exact_spheres import sphere_run
from PIL import Image

import sdfnet
from sdfnet.extraction import extract_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.rendering import RenderConfig, load_image, render_mesh

pytestmark = pytest.mark.render

CONFIG = RenderConfig(format=("png", "gif"), resolution=16, width=64, height=48, frames=3, fps=10, backend="rays")


def test_shapes_of_a_run_are_drawn_as_the_mesh_that_extraction_gives(tmp_path: Path) -> None:
    run = sphere_run({"set/ball": 0.4, "other": 0.8, "third": 0.6})
    done = sdfnet.render_shapes(run, ["set/ball", "0.5*other + 0.5*third"], tmp_path, config=CONFIG)
    assert list(done.files) == ["set/ball", "0.5other+0.5third"]
    assert done.files["set/ball"] == (tmp_path / "set/ball.png", tmp_path / "set/ball.gif")
    expected = render_mesh(extract_mesh(run.field("set/ball"), resolution=16), size=(64, 48), backend="rays")
    assert np.array_equal(load_image(tmp_path / "set/ball.png"), expected)
    with Image.open(tmp_path / "set/ball.gif") as film:
        assert (film.n_frames, film.size) == (3, (64, 48))
    assert done.sheet == tmp_path / "contact_sheet.png"
    assert load_image(done.sheet).shape[1] > 2 * 64
    assert (done.backend, done.why) == ("rays", "ray casting on the CPU, as asked")


def test_mesh_files_are_drawn_as_they_are_and_one_shape_needs_no_sheet(tmp_path: Path) -> None:
    mesh = extract_mesh(sphere_run({"ball": 0.5}).field("ball"), resolution=24)
    for name in ("ball", "other"):
        save_mesh(mesh, tmp_path / "meshes" / f"{name}.ply")
    config = RenderConfig(width=64, height=48, backend="rays")
    done = sdfnet.render_shapes(tmp_path / "meshes", "ball", tmp_path / "out", config=config)
    assert done.files == {"ball": (tmp_path / "out" / "ball.png",)}
    assert done.sheet is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ball.png"]
    assert done.num_replaced == 0
    assert sdfnet.render_shapes(tmp_path / "meshes", "all", tmp_path / "out", config=config).num_replaced == 1
    with pytest.raises(ValueError, match="no shape is named 'bell'"):
        sdfnet.render_shapes(tmp_path / "meshes", "bell", tmp_path / "out", config=config)


def test_what_cannot_be_drawn_stops_no_other_and_is_told(tmp_path: Path) -> None:
    run = sphere_run({"a": 0.5, "nothing": -1.0, "z": 0.6})
    for name in ("a", "z"):
        save_mesh(extract_mesh(run.field(name), resolution=16), tmp_path / "meshes" / f"{name}.ply")
    (tmp_path / "meshes" / "bad.obj").write_text("")
    config = RenderConfig(resolution=16, width=64, height=48, backend="rays")
    done = sdfnet.render_shapes(tmp_path / "meshes", "all", tmp_path / "files", config=config)
    assert list(done.files) == ["a", "z"]
    assert list(done.failures) == ["bad"]
    assert done.failures["bad"].startswith(f"{tmp_path / 'meshes' / 'bad.obj'}: the file is empty")
    assert done.sheet is not None
    assert not (tmp_path / "files" / "bad.png").exists()
    learned = sdfnet.render_shapes(run, "all", tmp_path / "learned", config=config)
    assert list(learned.files) == ["a", "z"]
    assert learned.failures["nothing"].startswith("nothing has no surface yet: train longer (no surface at level 0: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": ()}, "format must name at least one of png, mp4, gif, webp, got an empty list"),
        ({"width": 15}, "width must be 16 or more, got 15"),
        ({"height": 17}, "height must be even, got 17"),
        ({"frames": 1}, "frames must be 2 or more, got 1"),
        ({"resolution": 7}, "resolution must be from 8 to 4096, got 7"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RenderConfig(**options)
