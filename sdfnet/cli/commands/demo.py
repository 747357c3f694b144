"""`sdfnet demo`: the whole way on the shipped chairs, each step by the command that does it.

Examples:

    sdfnet demo out=demo
    sdfnet demo out=quick budget=30s resolution=96
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sdfnet.cli.commands.evaluate import EvaluateCommand, run_evaluate
from sdfnet.cli.commands.extract import ExtractCommand, run_extract
from sdfnet.cli.commands.morph import MorphCommand, run_morph
from sdfnet.cli.commands.render import RenderCommand, run_render
from sdfnet.cli.commands.sample import SamplingKeys
from sdfnet.cli.commands.train import TrainCommand, run_train
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.conf import meshes_folder
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.evaluation.quality import EvaluationConfig
from sdfnet.files import ensure_folder
from sdfnet.morphs.config import MorphConfig, MorphFormat
from sdfnet.rendering import RenderConfig
from sdfnet.runs import ExtractConfig, Run, load_run
from sdfnet.training import parse_duration

_NUM_KEYS = 4
_COARSE = 32
_MORPH_FORMATS: tuple[MorphFormat, ...] = ("obj", "glb", "html", "mp4")


@dataclass(frozen=True)
class DemoCommand:
    """The keys of `sdfnet demo`.

    Attributes
    ----------
    out : path
        Where everything goes. The same command goes on where it was interrupted.
    budget : time
        Time for training, such as 2min; the other steps take about two minutes more on two cores.
    shapes : names
        all, or a list of names and globs of the shipped shapes.
    resolution : whole number
        Samples along each axis of the lattice from which the meshes are extracted, 8 or more.
    frames : whole number
        Meshes in the morph, 4 or more.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    seed : whole number
        Fixes all randomness, 0 or more.
    """

    out: Path = Path("demo")
    budget: str = "2.5min"
    shapes: str | tuple[str, ...] = "all"
    resolution: int = 128
    frames: int = 36
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        parse_duration(self.budget)
        if self.resolution < 8:
            raise ValueError(f"resolution must be 8 or more, got {self.resolution}")
        if self.frames < _NUM_KEYS:
            raise ValueError(f"frames must be {_NUM_KEYS} or more, got {self.frames}")


def run_demo(config: DemoCommand) -> None:
    """Sample, train, extract, morph, render and evaluate; then print the folders of the results."""
    began = time.monotonic()
    out = ensure_folder(config.out)
    meshes, run = meshes_folder(), out / "run"
    sampling = SamplingKeys(shapes=config.shapes, seed=config.seed)
    training = TrainCommand(run=run, meshes=meshes, device=config.device, budget=config.budget, sampling=sampling)
    _step(f"train meshes={meshes} run={run} budget={config.budget}", partial(run_train, may_fail=True), training)
    keys = _alike(load_run(run), _NUM_KEYS)
    shared: dict[str, Any] = {"run": run, "device": config.device}
    extraction = ExtractConfig(resolution=config.resolution)
    extract_command = ExtractCommand(**shared, out=out / "meshes", extraction=extraction)
    done = _step(f"extract run={run} out={out / 'meshes'}", partial(run_extract, keep=True), extract_command)
    morph = MorphConfig(frames=config.frames, pace="surface", format=_MORPH_FORMATS)
    _step(
        f"morph run={run} 'shapes=[{','.join(keys)}]' frames={config.frames} pace=surface "
        f"'format=[{','.join(_MORPH_FORMATS)}]' out={out / 'morph'}",
        run_morph,
        MorphCommand(**shared, shapes=keys, out=out / "morph", overwrite=True, morph=morph),
    )
    _step(
        f"render meshes={out / 'meshes'} out={out / 'pictures'} width=320 height=320",
        run_render,
        RenderCommand(meshes=out / "meshes", out=out / "pictures", rendering=RenderConfig(width=320, height=320)),
    )
    evaluation = EvaluationConfig(resolution=config.resolution)
    evaluate_command = EvaluateCommand(**shared, out=out / "evaluation", evaluation=evaluation)
    measure = partial(run_evaluate, extracted=done.extracted)  # The same numbers as without, and sooner.
    _step(f"evaluate run={run} out={out / 'evaluation'}", measure, evaluate_command)
    say()
    say(f"All done in {(time.monotonic() - began) / 60:.1f} minutes.")
    for place, what in (
        ("meshes", "every chair as OBJ, in centimetres, where its source stands"),
        ("morph", f"{config.frames} meshes from chair to chair; morph.html plays them, morph.glb, morph.mp4"),
        ("pictures", "a picture of every chair, contact_sheet.png"),
        ("evaluation", "how good they are: evaluation.csv, evaluation.json"),
        ("run", "the trained network, for sdfnet extract, morph, render and evaluate"),
    ):
        say(f"  {f'{out / place}':<24} {what}")
    say_where(out)


def _step(line: str, command: Callable[[Any], Any], config: Any) -> Any:
    """Run one command after showing how it is called, and say how long it took."""
    say()
    say(f"$ sdfnet {line}")
    began = time.monotonic()
    result = command(config)
    say(f"({time.monotonic() - began:.0f} s)")
    return result


def _alike(run: Run, count: int) -> tuple[str, ...]:
    """Return a chain of shapes, each near the one before: a morph between alike ones holds together half-way.

    Nearness is the mean difference of the fields on a coarse lattice. Of the greedy chains from every shape, the one
    with the shortest longest step is taken.
    """
    import torch

    from sdfnet.fields import evaluate
    from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice

    lattice = Lattice.over(UNIT_BOUNDS, _COARSE)
    points = torch.from_numpy(lattice.slab(0, _COARSE).reshape(-1, 3)).to(run.latents)
    values = torch.stack([evaluate(run.field(name), points) for name in run.names]).clamp(-0.05, 0.05)
    apart = torch.cdist(values, values, p=1)
    chains = []
    for start in range(len(run.names)):
        chain = [start]
        while len(chain) < min(count, len(run.names)):
            chain.append(min(set(range(len(run.names))) - set(chain), key=lambda other: float(apart[chain[-1], other])))
        longest = max((float(apart[a, b]) for a, b in itertools.pairwise(chain)), default=0.0)
        chains.append((longest, chain))
    return tuple(run.names[k] for k in min(chains)[1])


COMMAND = Command(
    "demo",
    DemoCommand,
    run_demo,
    interrupted=lambda config: f"What is finished is kept in {config.out}; the same command goes on.",
)
