"""The HTML player as a file: what is packed into it comes out again, and nothing in it reaches for the network."""

import base64
import html.parser
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.rendering import web_page as player
from sdfnet.rendering.camera import Camera, fit_camera
from sdfnet.rendering.style import Style
from sdfnet.rendering.web_page import PlayerConfig, save_player


class Page(html.parser.HTMLParser):
    """The texts of the scripts of a page by their ids, and its title."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.meta = json.loads(self.texts["meta"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def unfolded(data: bytes, width: int) -> list[int]:
    """Slowly: numbers from planes of their bytes, lowest first; even ones are positive."""
    count = len(data) // width
    numbers = [sum(data[k * count + i] << (8 * k) for k in range(width)) for i in range(count)]
    return [number // 2 if number % 2 == 0 else -(number + 1) // 2 for number in numbers]


def unpacked(page: Page) -> list[dict[str, Any]]:
    """Faces, vertices in world units and colours of each piece, by a loop over every number."""
    data = zlib.decompress(base64.b64decode(page.texts["data"]))
    pieces = []
    for head in page.meta["pieces"]:
        at, num_vertices, num_indices = head["offset"], head["vertices"], 3 * head["faces"]
        faces = np.cumsum(unfolded(data[at : at + 4 * num_indices], 4)).reshape(-1, 3)
        at += 4 * num_indices
        places = summed(data[at:], head["count"], num_vertices, 2)
        at += 6 * num_vertices * head["count"]
        drawn = np.array(head["lower"]) + np.array(head["extent"]) * places / 65535
        colors = summed(data[at:], head["tints"], num_vertices, 1)
        pieces.append({"faces": faces, "drawn": drawn, "colors": colors})
    return pieces


def summed(data: bytes, num_frames: int, num_vertices: int, width: int) -> np.ndarray:
    """Numbers of `width` bytes from their differences from vertex to vertex and from frame to frame, (T, V, 3)."""
    frames = np.zeros((num_frames, num_vertices, 3), dtype=np.int64)
    before, at = np.zeros((num_vertices, 3), dtype=np.int64), 0
    for frame in frames:
        for axis in range(3):
            before[:, axis] += np.cumsum(unfolded(data[at : at + width * num_vertices], width))
            at += width * num_vertices
        before %= 256**width
        frame[:] = before
    return frames


@pytest.fixture
def moving(ring: Mesh) -> MovingMesh:
    rising = [ring.vertices * [1, 1 + frame, 1] + [100, 10 * frame, 0] for frame in range(3)]
    return MovingMesh(0, rising, ring.faces)


@pytest.fixture
def camera(moving: MovingMesh) -> Camera:
    return fit_camera(Mesh(moving.vertices.reshape(-1, 3), [[0, 1, 2]]).bounds)


def test_meshes_come_out_as_they_went_in(ring: Mesh, moving: MovingMesh, camera: Camera, tmp_path: Path) -> None:
    colors = np.linspace(0, 1, ring.vertices.size).reshape(-1, 3)
    painted = MovingMesh(3, moving.vertices[:1], ring.faces[::2], colors=colors)
    flat = MovingMesh(4, [[[100, 0, 0], [101, 0, 0], [100, 1, 0]]], [[0, 1, 2]])
    changing = np.random.default_rng(0).uniform(size=moving.vertices.shape)
    recolored = MovingMesh(5, moving.vertices, moving.faces, colors=changing)
    pieces = [moving, painted, flat, recolored]
    save_player(pieces, tmp_path / "a.html", camera=camera)
    page = Page(tmp_path / "a.html")
    assert (page.meta["frames"], [head["start"] for head in page.meta["pieces"]]) == (8, [0, 3, 4, 5])
    assert [head["tints"] for head in page.meta["pieces"]] == [0, 1, 0, 3]
    for piece, found in zip(pieces, unpacked(page), strict=True):
        assert (found["faces"] == piece.faces).all()
        world = found["drawn"] * camera.distance + camera.target
        step = np.ptp(piece.vertices.reshape(-1, 3), axis=0) / 65535
        assert (np.abs(world - piece.vertices) <= 0.5001 * step + 1e-9).all()
        if piece.colors is not None:
            assert np.abs(found["colors"] / 255 - piece.colors).max() <= 0.5001 / 255


def test_a_million_units_away_the_picture_is_the_same(ring: Mesh, tmp_path: Path) -> None:
    for name, place in (("near", 0.0), ("far", 1e6)):
        mesh = Mesh(ring.vertices + place, ring.faces)
        save_player([join_frames(0, [mesh])], tmp_path / f"{name}.html", camera=fit_camera(mesh))
    near, far = (unpacked(Page(tmp_path / f"{name}.html"))[0] for name in ("near", "far"))
    assert np.abs(near["drawn"] - far["drawn"]).max() < 2e-5  # one or two steps of 16 bits
    center, radius = (Page(tmp_path / "far.html").meta[name] for name in ("center", "radius"))
    assert np.linalg.norm(far["drawn"] - center, axis=-1).max() <= radius


def test_the_page_is_told_how_it_plays_and_looks(moving: MovingMesh, camera: Camera, tmp_path: Path) -> None:
    keys = ((0, "a"), (2, "</script><b>"))
    style = Style(color=(0.1, 0.2, 0.3), roughness=0.9)
    config = PlayerConfig(fps=12.5, playback="pingpong", keys=keys, size=(1920, 1080), style=style)
    save_player([moving], tmp_path / "a.html", camera=camera, config=config)
    page = Page(tmp_path / "a.html")
    assert page.meta["keys"] == [{"frame": 0, "name": "a"}, {"frame": 2, "name": "</script><b>"}]
    assert (page.meta["fps"], page.meta["playback"], page.meta["size"]) == (12.5, "pingpong", [1920, 1080])
    assert (page.meta["color"], page.meta["roughness"]) == ([0.1, 0.2, 0.3], 0.9)
    assert page.meta["ground"] * camera.distance + camera.target[1] == pytest.approx(camera.ground)
    assert page.texts["title"] == "a → </script><b>"
    assert "<b>" not in page.text


def test_nothing_in_the_file_names_another_place(moving: MovingMesh, camera: Camera, tmp_path: Path) -> None:
    save_player([moving], tmp_path / "a.html", camera=camera)
    text = Page(tmp_path / "a.html").text
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+|\b(?:src|href)\s*=|@import|url\(", text)
    assert "default-src 'none'" in text
    assert "%%" not in text


def test_the_same_pieces_give_the_same_bytes_and_small_ones(moving: MovingMesh, camera: Camera, tmp_path: Path) -> None:
    for name in "ab":
        save_player([moving], tmp_path / f"{name}.html", camera=camera)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    raw = moving.vertices.size * 4 + moving.faces.size * 4
    assert len(Page(tmp_path / "a.html").texts["data"]) < 0.4 * raw


def test_a_failed_write_leaves_what_was_there(
    moving: MovingMesh, camera: Camera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(b"before")

    def full(path: Path, content: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(player, "write_atomic", full)
    with pytest.raises(ValueError, match=r"cannot write .*a\.html: No space left on device"):
        save_player([moving], path, camera=camera)
    assert path.read_bytes() == b"before"


def test_what_cannot_be_played_is_refused(moving: MovingMesh, camera: Camera, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    with pytest.raises(ValueError, match=r"the suffix of a player must be \.html"):
        save_player([moving], tmp_path / "a.glb", camera=camera)
    with pytest.raises(ValueError, match="needs at least one piece, got none"):
        save_player([], path, camera=camera)
    with pytest.raises(ValueError, match="frame 3 was due, got one from frame 0"):
        save_player([moving, moving], path, camera=camera)
    with pytest.raises(ValueError, match="keys must name frames 0 to 2, got 3"):
        save_player([moving], path, camera=camera, config=PlayerConfig(keys=((3, "c"),)))
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps must be positive, got 0"),
        ({"playback": "twice"}, "playback must be one of once, loop, pingpong, got 'twice'"),
        ({"size": (0, 5)}, r"size must be two positive numbers, got \(0, 5\)"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlayerConfig(**options)
