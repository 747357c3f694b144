"""New shapes of a family: codes drawn from the distribution of the learned ones, broken shapes thrown away.

A code is drawn by a smoothed bootstrap: a learned code, chosen at random and pulled towards the mean, plus normal noise
with the covariance of the codes. The pull makes up for the noise, so that the new codes have the mean and the
covariance of the learned ones. With `novelty` 1, only the noise is left: a normal distribution. With less, a new shape
keeps more of a learned one. Where topology differs within a family (chairs with and without arms), far draws break. So
the novelty is by default the largest at which nearly all of a few test draws are whole.

References: Silverman and Young 1987, "The bootstrap: to smooth or not to smooth?", Biometrika 74 (section 5).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import chi2
from tqdm import tqdm

from sdfnet.files import ensure_folder
from sdfnet.geometry.arrays import FloatArray
from sdfnet.latents.statistics import Components, fit_components
from sdfnet.mesh.components import MIN_PIECE
from sdfnet.mesh.io.formats import WritableFormat
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.runs.document import RunShape, save_document
from sdfnet.runs.extract import CLOSED_WITHIN, extract_shape
from sdfnet.runs.run import Run, save_model
from sdfnet.runs.space import ShapeSpace, latent_of, placed_codes, similarity_of

MESHES_FOLDER = "meshes"

_LIKELY = 0.99
"""A code is unlikely if it is farther out than this share of a normal distribution."""

_ROUNDING = 1e-4
"""A vertex this near to the cube that closes shapes within the lattice lies on it: the shape is cut off there."""

_SPECK = 10 * MIN_PIECE
"""Loose components below this share of the volume are left out, as of learned shapes; with larger ones, a shape is
broken."""

_TRIES = 20
"""Codes that are drawn at most for each shape that is wanted."""

NOVELTIES = (0.8, 0.4, 0.2, 0.1)
_TEST_DRAWS, _TEST_WHOLE, _TEST_RESOLUTION = 10, 9, 64
"""The novelties that are tried, the codes that are drawn for each, how many must be whole, and the lattice for this."""


@dataclass(frozen=True, eq=False)
class NewShapes:
    """The result of `sample_shapes`.

    Attributes
    ----------
    run : Run
        The new shapes as a run of their own.
    meshes : dict of str to Mesh
        In world units.
    num_drawn : int
        Codes that were drawn.
    thrown_away : dict of str to int
        How many were thrown away, by reason.
    novelty : float
        As given or chosen.
    """

    run: Run
    meshes: dict[str, Mesh]
    num_drawn: int
    thrown_away: dict[str, int]
    novelty: float


@dataclass(frozen=True, eq=False)
class _Family:
    """What is drawn from: a run and its space, placed codes and components of the space's shapes, and how many surfaces
    most of them have."""

    run: Run
    space: ShapeSpace
    codes: FloatArray
    components: Components
    num_surfaces: int

    @classmethod
    def of(cls, run: Run, space: ShapeSpace) -> _Family:
        codes = placed_codes(run, space.names)
        surfaces = Counter(run.shape(name).num_surfaces for name in space.names).most_common(1)[0][0] or 1
        return cls(run, space, codes, fit_components(codes[:, : run.latents.shape[1]]), surfaces)


def sample_shapes(
    run: Run,
    space: ShapeSpace,
    out: str | Path,
    *,
    num_shapes: int,
    novelty: float | None = None,
    resolution: int = 128,
    formats: Sequence[WritableFormat] = ("obj",),
    seed: int = 0,
    progress: bool = False,
) -> NewShapes:
    """Write new shapes of a family into the folder `out`: a run of them, and their meshes in `meshes/`.

    A shape is thrown away if it has more connected components than most learned shapes, is not closed within the
    lattice, has no surface, or is unlikely. Components below a thousandth of the volume do not count and are left out.

    Parameters
    ----------
    space : ShapeSpace
        Of the learned shapes (`load_space`).
    novelty : float, optional
        Above 0 and at most 1: how far a new shape is from the learned one that it starts from. By default that of
        `choose_novelty`.

    Raises
    ------
    ValueError
        Numbers out of range, `out` is the run itself, or too few shapes are whole.

    >>> from sdfnet.latents.analysis import make_space
    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> space = make_space(run.names, placed_codes(run), fit_components(run.latents.double().numpy()))
    >>> new = sample_shapes(run, space, "new", num_shapes=2, resolution=16)
    >>> new.run.names, Path("new/meshes/new_000.obj").is_file()
    (('new_000', 'new_001'), True)
    """
    if num_shapes < 1:
        raise ValueError(f"num_shapes must be 1 or more, got {num_shapes}")
    if novelty is not None and not 0 < novelty <= 1:
        raise ValueError(f"novelty must be above 0 and at most 1, got {novelty}")
    out = ensure_folder(out)
    if out.resolve() == run.directory.resolve():
        raise ValueError(f"out={out} is the run itself; choose a folder of its own")
    novelty = choose_novelty(run, space, seed=seed) if novelty is None else novelty
    family, generator = _Family.of(run, space), torch.Generator().manual_seed(seed)
    shapes: list[RunShape] = []
    latents, meshes, reasons = [], {}, Counter[str]()
    with tqdm(total=num_shapes, desc="new shapes", unit="shape", delay=2, leave=False, disable=not progress) as bar:
        while len(shapes) < num_shapes:
            drawn = len(shapes) + reasons.total()
            if drawn == _TRIES * num_shapes:
                raise ValueError(
                    f"only {len(shapes)} of {drawn} drawn shapes are whole ({describe_thrown(reasons)}); a longer "
                    "training or a smaller novelty gives more"
                )
            name = f"new_{len(shapes):03d}"
            code, shape, mesh, reason = _draw(family, novelty, name, resolution, generator)
            if mesh is None:
                reasons[reason] += 1
                continue
            shapes.append(shape)
            latents.append(latent_of(code, run))
            meshes[name] = mesh
            for suffix in formats:
                save_mesh(mesh, out / MESHES_FOLDER / f"{name}.{suffix}")
            bar.update()
    document = {**run.document, "drawn_from": {"run": str(run.directory), "seed": seed, "novelty": novelty}}
    fresh = Run(out, document, run.decoder, torch.stack(latents), tuple(shapes), run.step)
    save_model(out, decoder_state=run.decoder.state_dict(), latents=fresh.latents, step=run.step)
    save_document(out, document, shapes)
    return NewShapes(fresh, meshes, len(shapes) + reasons.total(), dict(reasons), novelty)


def choose_novelty(run: Run, space: ShapeSpace, *, seed: int = 0) -> float:
    """Return the largest of `NOVELTIES` at which at least nine of ten drawn shapes are whole, or else the smallest.

    >>> from sdfnet.latents.analysis import make_space
    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> space = make_space(run.names, placed_codes(run), fit_components(run.latents.double().numpy()))
    >>> choose_novelty(run, space) in NOVELTIES
    True
    """
    family = _Family.of(run, space)
    for novelty in NOVELTIES:
        generator = torch.Generator().manual_seed(seed)
        broken = 0
        for number in range(_TEST_DRAWS):
            mesh = _draw(family, novelty, f"test_{number}", _TEST_RESOLUTION, generator)[2]
            broken += mesh is None
            if broken > _TEST_DRAWS - _TEST_WHOLE:
                break
        else:
            return novelty
    return NOVELTIES[-1]


def _draw(
    family: _Family, novelty: float, name: str, resolution: int, generator: torch.Generator
) -> tuple[FloatArray, RunShape, Mesh | None, str]:
    """Return a drawn placed code, its description, and its mesh in world units; or None, and why it is not whole."""
    code = draw_code(family.space, family.codes, novelty=novelty, generator=generator)
    shape = RunShape(name, similarity_of(code), "", "", closed=True, num_surfaces=family.num_surfaces, learned=False)
    if not _is_likely(family.components, code):
        return code, shape, None, "unlikely"
    return code, shape, *whole_mesh(family.run, shape, code, resolution=resolution)


def draw_code(space: ShapeSpace, codes: FloatArray, *, novelty: float, generator: torch.Generator) -> FloatArray:
    """Return a new placed code (L + 7,) with the mean and covariance of the placed codes (S, L + 7) of a space.

    >>> import numpy as np
    >>> space = ShapeSpace(np.zeros(8), np.eye(1, 8), np.eye(1))
    >>> draw_code(space, np.eye(3, 8), novelty=0.5, generator=torch.Generator()).shape
    (8,)
    """
    start = codes[int(torch.randint(len(codes), (1,), generator=generator))]
    scores = torch.randn(len(space.axes), generator=generator, dtype=torch.float64).numpy()
    kept = math.sqrt(1 - novelty**2)
    return space.mean + kept * (start - space.mean) + novelty * scores @ space.axes


def describe_thrown(reasons: dict[str, int]) -> str:
    """Return in words how many drawn shapes were thrown away and why.

    >>> describe_thrown({"not closed": 2, "unlikely": 1})
    '2 not closed, 1 unlikely'
    """
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none"


def _is_likely(components: Components, code: FloatArray) -> bool:
    """Tell whether a code is within 99 % of the normal distribution of the codes."""
    scores = components.scores(code[: len(components.mean)])
    return float((scores**2).sum()) <= chi2.ppf(_LIKELY, len(scores))


def whole_mesh(run: Run, shape: RunShape, code: FloatArray, *, resolution: int) -> tuple[Mesh | None, str]:
    """Return the mesh of a placed code (L + 7,) in world units; or None, and the reason why it is no whole shape.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> mesh, reason = whole_mesh(run, run.shapes[0], placed_codes(run)[0], resolution=16)
    >>> mesh is not None, reason
    (True, '')
    """
    try:
        found = extract_shape(run, shape, latent=latent_of(code, run), resolution=resolution)
    except ValueError:
        return None, "without a surface"
    reach = abs(found.mesh.to_unit(shape.similarity).vertices).max()
    if components_and_genus(found.mesh).num_boundary_loops or reach > CLOSED_WITHIN - _ROUNDING:
        return None, "not closed within the lattice"
    broken_off = any(piece.share > _SPECK for piece in found.removed)
    if broken_off or found.num_components > (shape.num_surfaces or 1):
        return None, "in pieces"
    return found.mesh, ""
