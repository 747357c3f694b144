"""One offline page with sliders: the player's page, with the range of each slider baked in as meshes.

A slider goes through its range while the others stay where the shape has them: a page that held all combinations would
be too large. `rendering/web_page.py` writes the page, as it writes the morph's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.rendering.camera import UpAxis, fit_camera
from sdfnet.rendering.web_page import PlayerConfig, PlayerSlider, save_player
from sdfnet.viewer.subject import Control, Shown, State, Subject


@dataclass(frozen=True)
class SliderPageConfig:
    """What a page with sliders holds.

    >>> SliderPageConfig(steps=5).resolution
    64
    """

    sliders: tuple[str, ...] = ()
    """Keys of the sliders; empty for the first three."""
    steps: int = 9
    """Meshes along each slider, 2 or more."""
    resolution: int = 64
    """Samples along each axis, 8 or more."""
    up_axis: UpAxis = "y"

    def __post_init__(self) -> None:
        for name, least in (("steps", 2), ("resolution", 8)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")


def save_slider_page(
    subject: Subject,
    path: str | Path,
    *,
    shape: str | None = None,
    config: SliderPageConfig | None = None,
    progress: bool = False,
) -> Path:
    """Write one HTML file in which some sliders of a subject move, each alone. The file needs no network.

    A subject of mesh files has no sliders: then one slider goes through the shapes.

    Raises
    ------
    ValueError
        A slider that the subject does not have, a state without a surface, a place that cannot be written to.

    >>> from sdfnet.scenes import parse_scene
    >>> from sdfnet.viewer.subject import open_subject
    >>> ball = open_subject(parse_scene("parameters: {radius: 2}\\nshape: {sphere: radius}"))
    >>> save_slider_page(ball, "ball.html", config=SliderPageConfig(steps=3, resolution=8)).name
    'ball.html'
    """
    config = config or SliderPageConfig()
    chosen = shape or subject.names[0]
    tracks = _tracks(subject, chosen, config)
    shown: list[Shown] = []
    sliders: list[PlayerSlider] = []
    with tqdm(total=sum(len(states) for _, states, _ in tracks), desc="page", delay=2, disable=not progress) as bar:
        for control, states, marks in tracks:
            sliders.append(PlayerSlider(control.key, len(shown), tuple(marks), _middle(control, states, subject)))
            for state in states:
                shown.append(subject.show(state, config.resolution))
                bar.update()
    boxes = [each.mesh.bounds for each in shown]
    seen = Bounds.of(np.concatenate([[box.lower, box.upper] for box in boxes]))
    player = PlayerConfig(sliders=tuple(sliders), keys=((0, chosen),))
    save_player(_pieces(shown), path, camera=fit_camera(seen, size=player.size, up_axis=config.up_axis), config=player)
    return Path(path)


def _tracks(
    subject: Subject, shape: str, config: SliderPageConfig
) -> list[tuple[Control, list[State], list[str | float]]]:
    """Return for each slider its states, and what each is called."""
    known = {control.key: control for control in subject.controls}
    for key in config.sliders:
        if key not in known:
            raise ValueError(f"there is no slider {key!r}; there are {', '.join(known) or 'none'}")
    if not known:
        control = Control("shape", 0, max(len(subject.names) - 1, 1))
        return [(control, [State(name) for name in subject.names], list(subject.names))]
    own, tracks = subject.values_of(State(shape)), []
    for key in config.sliders or tuple(known)[:3]:
        values = np.linspace(known[key].low, known[key].high, config.steps)
        values[_nearest(values, own[key])] = np.clip(own[key], known[key].low, known[key].high)  # the shape itself
        values = values.tolist()
        tracks.append((known[key], [State(shape, values={key: value}) for value in values], list(values)))
    return tracks


def _middle(control: Control, states: Sequence[State], subject: Subject) -> int:
    """Return the number of the state that is nearest to where the shape itself has the slider."""
    if not states[0].values:
        return 0
    own = subject.values_of(State(states[0].shape))[control.key]
    return _nearest(np.array([state.values[control.key] for state in states]), own)


def _nearest(values: FloatArray, wanted: float) -> int:
    return int(np.argmin(np.abs(values - wanted)))


def _pieces(shown: Sequence[Shown]) -> Iterator[MovingMesh]:
    for index, each in enumerate(shown):
        yield join_frames(index, [each.mesh], colors=None if each.colors is None else each.colors[None])
