"""Measure how long the viewer takes from a slider to the mesh in the browser: Chromium, driven by Playwright.

    python benchmarks/viewer.py runs/chairs            # medians over 12 moves of a slider

The clock starts when the browser sends the moved slider, and stops when it has received the bytes of the mesh.
Goals on two idle cores: the coarse mesh (64³) in 200 ms, the fine one (128³) in 1.2 s after the
hand rests.
"""

from __future__ import annotations

import statistics
import sys
import time

from sdfnet.runs import load_run
from sdfnet.viewer import view
from sdfnet.viewer.app import CHROMIUM_FLAGS, find_chromium

MOVES = 12
LEAST_BYTES = 20_000
"""A message of a mesh is larger than this; messages of the panel are smaller."""


def main() -> None:
    from playwright.sync_api import sync_playwright

    viewer = view(load_run(sys.argv[1]))
    viewer.is_settled.wait(120)
    coarse, fine, made = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_FLAGS))
        page = browser.new_page()
        received: list[float] = []

        def listen(socket: object) -> None:
            socket.on(  # type: ignore[attr-defined]
                "framereceived", lambda data: len(data) > LEAST_BYTES and received.append(time.perf_counter())
            )

        page.on("websocket", listen)
        page.goto(viewer.url)
        page.wait_for_selector("canvas", timeout=120_000)
        page.wait_for_timeout(4000)
        slider = page.get_by_role("slider").nth(1)  # the first one mixes, and is off
        for move in range(MOVES):
            viewer.is_settled.clear()
            received.clear()
            start = time.perf_counter()
            slider.press("ArrowRight" if move % 2 else "ArrowLeft")
            while not (received and viewer.is_settled.is_set()):
                page.wait_for_timeout(5)
                if time.perf_counter() > start + 60:
                    sys.exit("no mesh came in a minute")
            page.wait_for_timeout(200)
            coarse.append(received[0] - start)
            fine.append(received[-1] - start)
        state = viewer.state
        for resolution in (viewer.config.coarse, viewer.config.fine):
            began = time.process_time()
            viewer.subject.show(state, resolution)
            made.append(time.process_time() - began)
        browser.close()
    viewer.close()
    print(f"coarse mesh: {1000 * statistics.median(coarse):.0f} ms after the slider, worst {1000 * max(coarse):.0f} ms")
    print(f"fine mesh: {statistics.median(fine):.2f} s after the slider, of which 0.3 s are rest")
    print(f"processor time of the meshes alone: {1000 * made[0]:.0f} ms and {made[1]:.2f} s")
    print(f"{viewer.answers.num_dropped} stale answers were dropped")


if __name__ == "__main__":
    main()
