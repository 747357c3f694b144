"""The viewer in the browser, on viser (the extra `viewer`): sliders at the side, the shape in the middle.

A slider gives a coarse mesh at once, and a fine one when the hand rests (`latest`). All browsers that are connected see
the same. Nothing is fetched from elsewhere, and the server listens on this machine alone unless another host is asked
for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import shutil
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.files import write_atomic
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.camera import UpAxis
from sdfnet.rendering.images import save_image
from sdfnet.rendering.style import Style
from sdfnet.runs import Run
from sdfnet.scenes import SceneFile
from sdfnet.viewer.latest import LatestAnswers
from sdfnet.viewer.section import distance_lines, faces_below
from sdfnet.viewer.subject import Shown, State, Subject, error_colors, open_subject, spread_colors, with_sharp_edges

_LOGGER = logging.getLogger(__name__)

_LOCAL = ("127.0.0.1", "localhost", "::1")
_REST = 0.3
"""Seconds without a new request before the fine mesh is made."""

_NONE = "—"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PLAY_SECONDS = 4.0
_FRAME_SECONDS = 0.15


@dataclass(frozen=True)
class ViewConfig:
    """How a viewer shows and where it listens.

    >>> ViewConfig(coarse=48).fine
    128
    """

    coarse: int = 64
    """Samples along each axis while a slider moves, 8 or more."""
    fine: int = 128
    """Samples along each axis when the hand rests, at least those of coarse."""
    host: str = "127.0.0.1"
    """The address to listen at. Any other than this machine's own lets other people look, and is warned of."""
    port: int = 8080
    """The port to listen at; a busy one becomes the next free one."""
    up_axis: UpAxis = "y"
    """x, y or z."""

    def __post_init__(self) -> None:
        if not 8 <= self.coarse <= self.fine:
            raise ValueError(f"coarse must be from 8 to fine={self.fine}, got {self.coarse}")
        if self.up_axis not in ("x", "y", "z"):
            raise ValueError(f"up_axis must be x, y or z, got {self.up_axis!r}")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be from 0 to 65535, got {self.port}")


def view(
    thing: Run | SceneFile | Subject | str | Path, *, config: ViewConfig | None = None, shape: str | None = None
) -> Viewer:
    """Show a run, a scene or a folder of meshes in the browser, and return the viewer at once.

    In a notebook, the viewer shows itself as the value of a cell. `close()` ends it.

    Raises
    ------
    ValueError
        viser is not installed, an unknown `shape`, or nothing to show.

    >>> from sdfnet.scenes import parse_scene
    >>> viewer = view(parse_scene("shape: {sphere: 2}"), config=ViewConfig(coarse=16, fine=16))
    >>> viewer.url.startswith("http://127.0.0.1:")
    True
    >>> viewer.close()
    """
    subject = thing if isinstance(thing, Subject) else open_subject(thing)
    if shape is not None and shape not in subject.names:
        raise ValueError(f"no shape is named {shape!r}; there are {', '.join(subject.names[:8])}")
    return Viewer(subject, config or ViewConfig(), shape=shape or subject.names[0])


def _free_port(host: str, port: int) -> int:
    """Return `port`, or the next one that nobody listens at."""
    for candidate in range(port, min(port + 200, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise ValueError(f"no free port from {port} on at {host}; give another port=")


class Viewer:
    """A running viewer. `url` is its address; `answers` makes the meshes.

    >>> viewer = view("chairs", shape="chair_01")
    >>> viewer.state.shape
    'chair_01'
    >>> viewer.close()
    """

    def __init__(self, subject: Subject, config: ViewConfig, *, shape: str) -> None:
        try:
            import viser
        except ModuleNotFoundError as error:
            raise ValueError("the viewer needs viser; pip install 'sdfnet[viewer]'") from error
        self.subject, self.config, self.state = subject, config, State(shape)
        self.shown: tuple[State, Shown] | None = None
        self.is_settled = threading.Event()
        self._setting, self._playing = False, threading.Event()
        port = _free_port(config.host, config.port)
        if config.host not in _LOCAL:
            _LOGGER.warning("host=%s lets others on the network look at and change what is shown", config.host)
        with contextlib.redirect_stdout(io.StringIO()):  # The command says the address itself.
            self._server = viser.ViserServer(config.host, port, label=f"sdfnet: {subject.title}", verbose=False)
        shown_host = "127.0.0.1" if config.host in (*_LOCAL, "0.0.0.0") else config.host
        self.url = f"http://{shown_host}:{self._server.get_port()}"
        self._server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(59, 125, 216))
        self._server.gui.main_panel.dock_right()
        self._server.scene.set_up_direction(f"+{config.up_axis}")  # type: ignore[arg-type]
        self._make_controls()
        self._drawn: set[str] = set()
        self.answers = LatestAnswers[State, Shown](self._make, self._deliver, self._fail, rest=_REST)
        self._aimed = False
        self._ask()

    def close(self) -> None:
        """End the viewer: its threads, and its server."""
        self._playing.clear()
        self.answers.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    @property
    def num_browsers(self) -> int:
        """How many browsers look at the viewer."""
        return len(self._server.get_clients())

    def wait(self) -> None:
        """Return when Ctrl-C is pressed."""
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            self.close()

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" width="100%" height="640" style="border: 0"></iframe>'

    # ---- the side panel ----

    def _make_controls(self) -> None:
        gui, subject = self._server.gui, self.subject
        self._search: Any = None
        self._shape: Any = None
        self._other: Any = None
        self._share: Any = None
        self._hypothesis: Any = None
        self._spread: Any = None
        if len(subject.names) > 1:
            self._search = gui.add_text("search", "", hint="Part of a name; Enter lists the shapes that have it.")
            self._shape = gui.add_dropdown("shape", subject.names, initial_value=self.state.shape)
            self._search.on_update(self._on_search)
            self._shape.on_update(self._on_shape)
        if subject.can_mix:
            self._other = gui.add_dropdown("mix with", (_NONE, *subject.names), initial_value=_NONE)
            self._share = gui.add_slider("share", 0.0, 1.0, 0.01, 0.0, disabled=True)
            self._other.on_update(self._on_shape)
            self._share.on_update(self._on_shape)
        if any(map(subject.hypotheses, subject.names)):
            self._hypothesis = gui.add_dropdown(
                "hypothesis",
                self._hypothesis_options(),
                initial_value=_NONE,
                hint="Another shape that agrees with the input as well, and its probability.",
            )
            self._hypothesis.on_update(self._on_hypothesis)
        self._sliders: dict[str, Any] = {}
        values = subject.values_of(self.state)
        for group in dict.fromkeys(control.group for control in subject.controls):
            with gui.add_folder(group):
                for control in (each for each in subject.controls if each.group == group):
                    start, step = control.nearest(values.get(control.key, control.low)), control.step
                    slider = gui.add_slider(
                        control.key, control.low, control.high, step, start, hint=control.about or None
                    )
                    slider.on_update(partial(self._on_slider, control.key))
                    self._sliders[control.key] = slider
                gui.add_button("reset").on_click(lambda event: self._on_shape(None))
        playable = [*(["share"] if subject.can_mix else []), *self._sliders]
        if playable:
            with gui.add_folder("timeline"):
                self._timeline = gui.add_dropdown("moves", playable)
                self._play: Any = gui.add_checkbox("play", False)
                self._play.on_update(self._on_play)
        with gui.add_folder("look", expand_by_default=True):
            self._beside = gui.add_checkbox("source beside it", False, hint="The colour is then the error.")
            if subject.spread is not None:
                self._spread = gui.add_checkbox(
                    "spread", False, hint="The colour is how far the surface of a completed shape may be off."
                )
                self._spread.on_update(lambda event: self._redraw())
            self._cut = gui.add_dropdown("cut", (_NONE, "x", "y", "z"), initial_value=_NONE)
            self._place = gui.add_slider("at", 0.0, 1.0, 0.01, 0.5)
            for handle in (self._beside, self._cut, self._place):
                handle.on_update(lambda event: self._redraw())
        with gui.add_folder("export", expand_by_default=True):
            for suffix in ("obj", "glb", "png"):
                button = gui.add_button(suffix.upper())
                button.on_click(partial(self._on_export, suffix))
            self._command: Any = gui.add_text("command", subject.command(self.state), multiline=True)
        self._status = gui.add_markdown("")

    def _on_search(self, event: Any) -> None:
        word = self._search.value.strip().lower()
        found = [name for name in self.subject.names if word in name.lower()]
        self._shape.options = tuple(found or self.subject.names)

    def _hypothesis_options(self) -> tuple[str, ...]:
        found = self.subject.hypotheses(self.state.shape)
        return (_NONE, *(f"{number} ({probability:.0%})" for number, probability in enumerate(found, start=1)))

    def _on_hypothesis(self, event: Any) -> None:
        """Show a hypothesis, or the shape itself again."""
        if not self._setting:
            options = self._hypothesis_options()
            number = options.index(self._hypothesis.value) if self._hypothesis.value in options else 0
            self.state = State(self.state.shape, hypothesis=number)
            self._place_sliders()
            self._ask()

    def _on_shape(self, event: Any) -> None:
        """Take the chosen shapes; the sliders go to where these have them."""
        if self._setting:
            return
        shape = self.state.shape if self._shape is None else self._shape.value
        other, share = "", 0.0
        if self._other is not None and self._share is not None:
            other = "" if self._other.value in (_NONE, shape) else self._other.value
            share = self._share.value if other else 0.0
            self._share.disabled = not other
        self.state = State(shape, other, float(share))
        if self._hypothesis is not None:
            self._setting = True
            self._hypothesis.options, self._hypothesis.value = self._hypothesis_options(), _NONE
            self._setting = False
        self._place_sliders()
        self._ask()

    def _place_sliders(self) -> None:
        values = self.subject.values_of(self.state)
        self._setting = True
        try:
            for control in self.subject.controls:
                self._sliders[control.key].value = control.nearest(values[control.key])
        finally:
            self._setting = False

    def _on_slider(self, key: str, event: Any = None) -> None:
        if not self._setting:
            values = {**self.state.values, key: float(self._sliders[key].value)}
            self.state = dataclasses.replace(self.state, values=values, hypothesis=0)
            self._ask()

    def _on_play(self, event: Any) -> None:
        if self._play.value and not self._playing.is_set():
            self._playing.set()
            threading.Thread(target=self._run_timeline, daemon=True).start()
        elif not self._play.value:
            self._playing.clear()

    def _run_timeline(self) -> None:
        """Move the chosen slider there and back until `play` is off."""
        began = time.monotonic()
        while self._playing.is_set():
            key = self._timeline.value
            handle: Any = self._share if key == "share" else self._sliders[key]
            phase = ((time.monotonic() - began) / _PLAY_SECONDS) % 2
            handle.value = handle.min + (handle.max - handle.min) * (phase if phase < 1 else 2 - phase)
            if key == "share":
                self._on_shape(None)
            else:
                self._on_slider(key)
            time.sleep(_FRAME_SECONDS)

    # ---- meshes ----

    def _ask(self) -> None:
        self.is_settled.clear()
        self._command.value = self.subject.command(self.state)
        self.answers.ask(self.state)

    def _make(self, state: State, fine: bool) -> Shown:
        return self.subject.show(state, self.config.fine if fine else self.config.coarse)

    def _fail(self, state: State, error: Exception) -> None:
        self._status.content = f"**No surface.** {error}"
        self.is_settled.set()

    def _deliver(self, state: State, shown: Shown, fine: bool) -> None:
        self.shown = (state, shown)
        told = f"{len(shown.mesh.faces):,} faces, {'fine' if fine else 'coarse'}"
        self._status.content = told
        self._redraw(fine=fine)
        if fine:
            self.is_settled.set()

    def _redraw(self, *, fine: bool = True) -> None:
        """Send what is shown to the browsers, cut and coloured as the panel says."""
        if self.shown is None:
            return
        state, shown = self.shown
        mesh, source, colors = shown.mesh, None, shown.colors
        if self._beside.value and not (state.other or state.values or state.hypothesis):
            source = self.subject.source(state)
        if fine:
            colors, told = self._painted(state, shown, source)
            self._status.content = told or self._status.content
        box = mesh.bounds
        cut = "xyz".find(self._cut.value)
        place = float(box.lower[cut] + self._place.value * box.extent[cut]) if cut >= 0 else 0.0
        with self._server.atomic():
            self._draw("/shape", mesh.vertices, mesh.faces if cut < 0 else faces_below(mesh, cut, place), colors)
            if source is not None:
                shift = np.eye(3)[0] * 1.15 * float(box.extent[0])
                drawn = with_sharp_edges(source)
                self._draw("/source", drawn.vertices + shift, drawn.faces, None)
            else:
                self._remove("/source")
            self._draw_lines(shown, box, cut, place)
        if not self._aimed:
            self._aim(box)

    def _painted(self, state: State, shown: Shown, source: Mesh | None) -> tuple[FloatArray | None, str]:
        """Return the colours that the panel asks for, and what they mean."""
        faces = f"{len(shown.mesh.faces):,} faces"
        if source is not None:
            colors, limit = error_colors(shown.mesh, source)
            return colors, f"{faces}; colours to ±{limit:.2g} of the radius: warm outside the source"
        if self._beside.value:
            return shown.colors, "No source here: a mix or a changed shape has none, or its file is gone."
        if self._spread is not None and self._spread.value and self.subject.spread is not None:
            spread = self.subject.spread(state, shown.mesh.vertices)
            if spread is None:
                return shown.colors, "No spread here: only a completed shape has one, as it was found."
            colors, limit = spread_colors(spread)
            return colors, f"{faces}; colours from 0 (grey) to {limit:.2g} (dark red): how far the surface may be off"
        return shown.colors, ""

    def _remove(self, name: str) -> None:
        if name in self._drawn:
            self._drawn.discard(name)
            self._server.scene.remove_by_name(name)

    def _draw(self, name: str, vertices: Any, faces: Any, colors: Any) -> None:
        self._drawn.add(name)
        if colors is not None:  # Only this way takes colours, and it costs more.
            import trimesh

            painted = trimesh.Trimesh(vertices, faces, vertex_colors=np.uint8(255 * colors), process=False)
            self._server.scene.add_mesh_trimesh(name, painted, cast_shadow=False, receive_shadow=False)
            return
        red, green, blue = (round(255 * channel) for channel in Style().color)
        self._server.scene.add_mesh_simple(
            name,
            np.asarray(vertices, dtype=np.float32),
            np.asarray(faces, dtype=np.uint32),
            color=(red, green, blue),
            side="double",
            cast_shadow=False,  # Shadows cost more than everything else.
            receive_shadow=False,
        )

    def _draw_lines(self, shown: Shown, box: Bounds, cut: int, place: float) -> None:
        segments = np.zeros((0, 2, 3))
        if cut >= 0 and shown.field is not None:
            grown = box.grown(0.1 * float(box.extent.max()))
            segments, colors = distance_lines(shown.field, grown, cut, place)
        if len(segments):
            self._drawn.add("/lines")
            self._server.scene.add_line_segments(
                "/lines",
                segments.astype(np.float32),
                np.asarray(255 * colors, dtype=np.uint8),
                thickness=2.0,
                thickness_units="screen",
            )
        else:
            self._remove("/lines")

    def _aim(self, box: Bounds) -> None:
        """Point the camera of every browser at the first shape."""
        self._aimed = True
        direction = np.array([0.55, 0.4, 0.85]) if self.config.up_axis == "y" else np.array([0.85, -0.55, 0.4])
        place = box.center + 1.25 * float(np.linalg.norm(box.extent)) * direction / np.linalg.norm(direction)
        self._server.initial_camera.position = place
        self._server.initial_camera.look_at = box.center
        for client in self._server.get_clients().values():
            client.camera.position, client.camera.look_at = place, box.center

    # ---- results ----

    def _on_export(self, suffix: str, event: Any) -> None:
        client, name = event.client, "".join(c if c.isalnum() or c in "-_." else "_" for c in self.state.shape)
        if suffix == "png":
            picture = client.get_render(height=960, width=1280)
            with tempfile.TemporaryDirectory() as folder:
                save_image(np.ascontiguousarray(picture[..., :3]), Path(folder) / "picture.png")
                client.send_file_download(
                    f"{name}.png", (Path(folder) / "picture.png").read_bytes(), save_immediately=True
                )
            return
        client.send_file_download(f"{name}.{suffix}", self.exported(suffix), save_immediately=True)

    def exported(self, suffix: str) -> bytes:
        """Return the bytes of a mesh file of what is shown, in the units of its source."""
        found = self.subject.export(self.state, self.config.fine)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"shape.{suffix}"
            save_mesh(found.mesh, path, vertex_colors=found.colors)
            return path.read_bytes()


def screenshot(viewer: Viewer, path: str | Path, *, size: tuple[int, int] = (1280, 800), seconds: float = 60.0) -> Path:
    """Take a picture of the whole page with the system's Chromium, once the fine mesh is drawn.

    Raises
    ------
    ValueError
        There is no Chromium or no Playwright, or the page is not drawn in time.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise ValueError("screenshot= needs playwright; pip install 'sdfnet[viewer]'") from error
    viewer.is_settled.wait(timeout=seconds)
    path = Path(path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.goto(viewer.url)
        page.wait_for_selector("canvas", timeout=1000 * seconds)
        page.add_style_tag(content="[class*=Notifications-root] { display: none }")  # such as of WebGL without a GPU
        before, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:  # The page tells nobody when it has drawn: two equal pictures say it.
            page.wait_for_timeout(1500)
            picture = page.screenshot()
            if picture == before and viewer.num_browsers:
                break
            before = picture
        browser.close()
    write_atomic(path, picture)
    return path


def find_chromium() -> str:
    """Return the path of the system's Chromium. Raise ValueError if there is none."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise ValueError(f"screenshot= needs one of {', '.join(_BROWSERS)}; install the package chromium")
    return found


CHROMIUM_FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars")
"""The flags with which Chromium draws WebGL without a display."""
