"""The viewer and the page with sliders in the system's Chromium, driven by Playwright: every control is moved once."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_browser import need_chromium, see
from PIL import Image
from tiny_runs import as_completed, four_balls

from sdfnet.geometry.arrays import IntArray
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.rendering.camera import Camera
from sdfnet.scenes import parse_scene
from sdfnet.viewer import SliderPageConfig, State, Subject, ViewConfig, Viewer, open_subject, save_slider_page, view
from sdfnet.viewer.app import CHROMIUM_FLAGS

SCENE = """
parameters:
  width: {value: 2, range: [1, 4], about: of the block}
  hole: {value: 0.4, range: [0.1, 0.8]}
shape:
  difference:
    - {box: [width / 2, 1, 1], color: tomato}
    - {cylinder: {radius: hole, half_height: 2}, orient: z}
"""
SIZE = {"width": 960, "height": 720}
SECONDS = 60


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'sdfnet[viewer]'")
    path = need_chromium()
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield opened
        opened.close()


def both_subjects() -> Subject:
    return open_subject(parse_scene(SCENE))


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    running = view(both_subjects(), config=ViewConfig(coarse=24, fine=40, port=8470))
    assert running.is_settled.wait(SECONDS)
    yield running
    running.close()


def open_page(browser: Any, url: str) -> tuple[Any, list[str]]:
    """Return a page and the list of all that it asks for, which grows."""
    page = browser.new_page(viewport=SIZE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(url)
    return page, asked


def picture(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), dtype=float)


def reddish(image: np.ndarray) -> float:
    """The share of the picture that has the colour of the block."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return float(((red > green + 40) & (red > blue + 40)).mean())


def until(condition: Any, page: Any, what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        page.wait_for_timeout(200)


def slider(page: Any, name: str) -> Any:
    """The handle of a slider of viser, by its label."""
    return (
        page.get_by_text(name, exact=True).locator("xpath=ancestor::*[.//*[@role='slider']][1]").get_by_role("slider")
    )


def test_every_control_of_the_viewer_works_and_nothing_leaves_this_machine(browser: Any, viewer: Viewer) -> None:
    page, asked = open_page(browser, viewer.url)
    page.wait_for_selector("canvas", timeout=1000 * SECONDS)
    until(lambda: reddish(picture(page)) > 0.02, page, "the block is not drawn")
    before = reddish(picture(page))

    for key, name in (("End", "width"), ("Home", "hole")):
        viewer.is_settled.clear()
        slider(page, name).first.press(key)
        until(lambda name=name: name in viewer.state.values, page, f"{name} did not arrive")
    assert viewer.state.values == {"width": 4.0, "hole": 0.1}
    assert viewer.is_settled.wait(SECONDS)
    assert viewer.shown[1].mesh.bounds.extent[0] == pytest.approx(4, abs=1e-4)
    until(lambda: reddish(picture(page)) > 1.2 * before, page, "the wider block is not drawn")
    assert "set=[width=4,hole=0.1]" in viewer.subject.command(viewer.state)

    page.get_by_role("button", name="reset").click()
    until(lambda: viewer.state == State(viewer.subject.names[0]), page, "reset did not arrive")
    page.get_by_label("play").click()
    until(lambda: "width" in viewer.state.values, page, "the timeline does not move")
    page.get_by_label("play").click()

    page.set_viewport_size({"width": 700, "height": 500})
    until(lambda: picture(page).shape[:2] == (500, 700), page, "the page was not resized")
    until(lambda: reddish(picture(page)) > 0.01, page, "the resized page shows nothing")

    with page.expect_download(timeout=1000 * SECONDS) as download:
        page.get_by_role("button", name="OBJ").click()
    assert Path(download.value.path()).read_text().count("\nf ") > 100
    assert viewer.num_browsers == 1
    page.close()
    here = (viewer.url, viewer.url.replace("http", "ws"), "data:", "blob:")
    outside = [url for url in asked if not url.startswith(here)]
    assert outside == []


@pytest.fixture
def balls(tmp_path: Path) -> Iterator[Viewer]:
    """A viewer of a fit: four balls, one of them with hypotheses and a spread."""
    fitted = as_completed(four_balls(tmp_path), tmp_path / "fitted")
    running = view(fitted, config=ViewConfig(coarse=16, fine=24, port=8490))
    assert running.is_settled.wait(SECONDS)
    yield running
    running.close()


def panel_input(page: Any, name: str) -> Any:
    """The input beside a label of viser's panel."""
    return page.get_by_text(name, exact=True).locator("xpath=ancestor::*[.//input][1]").locator("input").first


def choose(page: Any, name: str, value: str) -> None:
    panel_input(page, name).click()
    page.get_by_role("option", name=value, exact=True).click()


def check_drawn(viewer: Viewer, *others: Mesh, faces: IntArray | None = None) -> np.ndarray:
    """Assert that the browser draws the shape of the viewer's state, and `others`. Return the picture, RGBA."""
    assert viewer.is_settled.wait(SECONDS)
    mesh = viewer.subject.show(viewer.state, viewer.config.fine).mesh
    meshes = [mesh if faces is None else Mesh(mesh.vertices, faces), *others]
    client = next(iter(viewer._server.get_clients().values()))
    size = (240, 180)
    end = time.monotonic() + SECONDS
    while True:
        drawn = client.get_render(size[1], size[0], transport_format="png", timeout=SECONDS)
        target, position = client.camera.look_at, client.camera.position
        distance = float(np.linalg.norm(position - target))
        back = (position - target) / distance
        camera = Camera(
            target,
            distance,
            azimuth=np.degrees(np.arctan2(back[0], back[2])),
            elevation=np.degrees(np.arcsin(back[1])),
            field_of_view=np.degrees(client.camera.fov),
        )
        ours = see(join_meshes(meshes), camera, size).coverage
        difference = np.abs(drawn[..., 3] / 255 - ours)
        if difference.sum() < 0.04 * ours.sum():
            return drawn
        assert time.monotonic() < end, f"{difference.sum() / ours.sum():.0%} of the shape is drawn elsewhere"
        time.sleep(0.2)


def hue(picture: np.ndarray) -> np.ndarray:
    """The mean colour of what is drawn."""
    return picture[..., :3][picture[..., 3] > 200].mean(axis=0)


def test_every_control_of_a_fit_draws_what_it_says(browser: Any, balls: Viewer) -> None:
    page, _ = open_page(browser, balls.url)
    page.wait_for_selector("canvas", timeout=1000 * SECONDS)
    until(lambda: balls.num_browsers == 1, page, "the browser does not connect")
    plain = check_drawn(balls)

    panel_input(page, "search").fill("larg")
    panel_input(page, "search").press("Enter")
    until(lambda: balls._shape.options == ("large",), page, "the search did not arrive")
    panel_input(page, "search").fill("")
    panel_input(page, "search").press("Enter")
    until(lambda: len(balls._shape.options) == 4, page, "the search was not undone")
    choose(page, "shape", "large")
    until(lambda: balls.state == State("large"), page, "the shape did not arrive")
    check_drawn(balls)

    choose(page, "mix with", "small")
    until(lambda: balls.state == State("large", "small"), page, "the second shape did not arrive")

    def is_mixed() -> bool:
        slider(page, "share").first.press("End")  # until the browser has heard that the slider is on
        return balls.state == State("large", "small", 1.0)

    until(is_mixed, page, "the mix did not arrive")
    check_drawn(balls)
    choose(page, "mix with", "—")
    until(lambda: balls.state == State("large"), page, "the mix was not undone")

    for control in balls.subject.controls:
        slider(page, control.key).first.press("End")
        until(lambda key=control.key: key in balls.state.values, page, f"{control.key} did not arrive")
        check_drawn(balls)
        page.get_by_role("button", name="reset").first.click()
        until(lambda: balls.state == State("large"), page, "reset did not arrive")

    choose(page, "moves", "pc1")
    page.get_by_label("play").click()
    until(lambda: "pc1" in balls.state.values, page, "the timeline does not move")
    page.get_by_label("play").click()
    choose(page, "shape", "small")
    until(lambda: balls.state == State("small"), page, "the shape did not arrive")

    choose(page, "hypothesis", "1 (70%)")
    until(lambda: balls.state.hypothesis == 1, page, "the hypothesis did not arrive")
    check_drawn(balls)
    assert "hypotheses/small_1.ply" in page.locator("textarea").first.input_value()
    choose(page, "hypothesis", "—")
    until(lambda: balls.state == State("small"), page, "the hypothesis was not undone")
    check_drawn(balls)

    page.get_by_label("spread").click()
    until(lambda: "may be off" in balls._status.content, page, "the spread did not arrive")
    until(lambda: np.abs(hue(check_drawn(balls)) - hue(plain)).max() > 30, page, "the spread has no colour")
    page.get_by_label("spread").click()

    page.get_by_label("source beside it").click()
    until(lambda: "outside the source" in balls._status.content, page, "the source did not arrive")
    source, mesh = balls.subject.source(balls.state), balls.shown[1].mesh
    shifted = Mesh(source.vertices + 1.15 * mesh.bounds.extent[0] * np.eye(3)[0], source.faces)
    check_drawn(balls, shifted)
    page.get_by_label("source beside it").click()
    check_drawn(balls)

    before = picture(page)
    choose(page, "cut", "x")
    until(lambda: np.abs(picture(page) - before).max() > 50, page, "the cut is not drawn")
    slider(page, "at").first.press("Home")
    until(lambda: balls._place.value == 0, page, "the place of the cut did not arrive")
    choose(page, "cut", "—")
    check_drawn(balls)

    for suffix in ("OBJ", "GLB", "PNG"):
        with page.expect_download(timeout=1000 * SECONDS) as download:
            page.get_by_role("button", name=suffix).click()
        assert download.value.suggested_filename == f"small.{suffix.lower()}"
        assert Path(download.value.path()).stat().st_size > 1000
    page.close()


def test_the_page_with_sliders_opens_from_the_disk_and_asks_for_nothing(browser: Any, tmp_path: Path) -> None:
    path = save_slider_page(both_subjects(), tmp_path / "page.html", config=SliderPageConfig(steps=3, resolution=24))
    page, asked = open_page(browser, path.as_uri())
    page.wait_for_function("document.documentElement.dataset.state === 'ready'", timeout=1000 * SECONDS)
    assert page.locator("#sliders input").count() == 2
    shares = []
    for value in ("0", "1", "2"):
        page.locator("#slide-width").fill(value)
        page.wait_for_timeout(300)
        shares.append(reddish(picture(page)))
    assert shares[0] < shares[1] < shares[2]
    assert page.locator("#sliders output").all_inner_texts()[0] == "4"
    page.locator("#slide-hole").fill("2")
    assert page.locator("#slide-width").input_value() == "1"  # the others go back to where the shape has them
    assert page.locator("#sliders output").all_inner_texts() == ["2", "0.8"]
    assert page.locator("#play").is_hidden()
    page.set_viewport_size({"width": 400, "height": 700})
    page.wait_for_timeout(300)
    assert reddish(picture(page)) > 0.01
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
