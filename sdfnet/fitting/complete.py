"""Complete shapes of which a part is observed: find code, place and correction of each, and say how sure they are."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

from sdfnet.decoders.refined import UNIT_WEIGHT, refined_decoder
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fitting.config import CompletionConfig
from sdfnet.fitting.ensemble import FieldEnsemble, ensemble_residual
from sdfnet.fitting.family import FamilyPrior, Symmetry, learned_rows, symmetry_of
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.fitting.posterior import Posterior, Problem, find_posterior
from sdfnet.fitting.refine import RESIDUAL_STD, Evidence, ResidualProcess, fit_residual
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape
from sdfnet.runs.extract import extract_shape

_MOST_ROWS = 60_000
_LEAST_STD = 5e-4
"""Deviation of the data below which a grid of residuals cannot follow them, unit frame."""

_RESIDUALS_IN_MISFIT, _LEAST_RESIDUAL_STD = 1.5, 0.002
"""Deviation of residuals: half more than the misfit of the data beyond their noise, and at least so much. It is never
below the noise itself, which can hide as much: the voxels of slices do."""

_MIRROR_TURNS, _MIRROR_APART, _LEAST_MIRRORED = 2, 0.03, 0.05
"""How often the mirror image is found anew, how far from the seen surface it must lie to say something new, unit frame,
and the share of a part below which it is not asked."""

_FAR = 4.0
"""Data this many deviations from the code, of their own and of the residual together, are outliers."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Completed shapes, in the order of their observations.

    Attributes
    ----------
    run : Run
    prior : FamilyPrior
    config : CompletionConfig
    parts : tuple of PartObservation
    posteriors : tuple of Posterior
        What is known of code and place of each, with the covariance.
    residuals : tuple of Tensor or None
        The correction of each, a grid (R, R, R) over [-1.05, 1.05]³, [x, y, z]; None with `refine=code`.

    >>> import numpy as np
    >>> from sdfnet.fitting.observations import surface_part
    >>> from sdfnet.runs import load_run
    >>> run, part = load_run("runs/chairs"), surface_part(np.eye(3), noise_std=1.0)
    >>> Fit(run, FamilyPrior.of(run), CompletionConfig(), (part,), (), ()).similarities
    ()
    """

    run: Run
    prior: FamilyPrior
    config: CompletionConfig
    parts: tuple[PartObservation, ...]
    posteriors: tuple[Posterior, ...]
    residuals: tuple[Tensor | None, ...]

    @property
    def latents(self) -> Tensor:
        """The most likely codes, (B, L) float32."""
        return torch.stack([self.prior.latents(each.coordinates) for each in self.posteriors])

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        """The place of each: from the world of its observation to the unit frame."""
        return tuple(each.similarity for each in self.posteriors)

    @property
    def fields(self) -> tuple[NeuralField, ...]:
        """The completed shapes as fields, unit frame."""
        pairs = [
            refined_shape(self.run, latent, residual)
            for latent, residual in zip(self.latents, self.residuals, strict=True)
        ]
        return tuple(NeuralField(run.decoder, latent) for run, latent in pairs)

    def shape(self, index: int, name: str) -> RunShape:
        """Return the description with which a completed shape joins a run: with as many pieces as most learned ones."""
        part, posterior = self.parts[index], self.posteriors[index]
        pieces = Counter(self.run.shapes[row].num_surfaces for row in learned_rows(self.run)).most_common(1)[0][0]
        known = part.source, part.content_hash
        return RunShape(name, posterior.similarity, *known, closed=True, num_surfaces=pieces, learned=False)

    def mesh(self, index: int = 0, *, resolution: int = 128) -> Mesh:
        """Return the mesh of a completed shape, where its part lies, without loose pieces.

        Raises
        ------
        ValueError
            There is no surface.

        >>> import sdfnet
        >>> from sdfnet.fitting.observations import surface_part
        >>> part = surface_part(sdfnet.read_mesh("chairs/chair_00.obj").vertices, noise_std=0.5)
        >>> done = fit(sdfnet.load_run("runs/chairs"), part, config=CompletionConfig("none", frame_of="chair_00"))
        >>> done.mesh(resolution=24).to_trimesh().is_watertight
        True
        """
        run, latent = refined_shape(self.run, self.latents[index], self.residuals[index])
        shape = self.shape(index, f"completed {index}")
        return extract_shape(run, shape, latent=latent, resolution=resolution).mesh


def fit(
    run: Run,
    observations: PartObservation | Sequence[PartObservation],
    *,
    config: CompletionConfig | None = None,
    progress: bool = False,
) -> Fit:
    """Complete the shape of each observation: the most likely code and place under the family of the run.

    With `refine="shape"`, a grid of residuals then corrects the shape where there are data.

    Raises
    ------
    ValueError
        No observation; no frame for `align=none`; a part of another size than the family.

    >>> import numpy as np
    >>> import sdfnet
    >>> from sdfnet.fitting.observations import surface_part
    >>> run = sdfnet.load_run("runs/chairs")
    >>> chair = sdfnet.read_mesh("chairs/chair_00.obj").vertices
    >>> part = surface_part(chair[chair[:, 1] > np.median(chair[:, 1])], noise_std=0.5)
    >>> fit(run, part, config=CompletionConfig("none", frame_of="chair_00")).latents.shape
    torch.Size([1, 2])
    """
    config = config or CompletionConfig()
    run.check_is_family("a fit")
    parts = [observations] if isinstance(observations, PartObservation) else list(observations)
    if not parts:
        raise ValueError("observations must hold at least one, got none")
    prior = FamilyPrior.of(run)
    problem, symmetry = Problem(run, prior, config), symmetry_of(run, config)
    known, posteriors, residuals = [], [], []
    for part in tqdm(parts, desc="fitting", unit="shape", delay=2, leave=False, disable=not progress):
        posterior = find_posterior(run, part, prior=prior, config=config)
        if symmetry is not None:
            part, posterior = with_mirror_image(problem, part, posterior, symmetry)
        known.append(part)
        posteriors.append(posterior)
        residuals.append(_refined(problem, part, posterior) if config.refine == "shape" else None)
    return Fit(run, prior, config, tuple(known), tuple(posteriors), tuple(residuals))


def with_mirror_image(
    problem: Problem, part: PartObservation, posterior: Posterior, symmetry: Symmetry
) -> tuple[PartObservation, Posterior]:
    """Return the part with its mirror image, where it was not seen, and the posterior given both.

    The plane of the mirror is known only through the place of the part. So both are found in turn.
    """
    both = part
    for _ in range(_MIRROR_TURNS):
        place = posterior.similarity
        unit = place.to_unit(part.points)
        mirrored = symmetry.mirrored(unit)
        apart, _ = cKDTree(unit[part.is_surface]).query(mirrored)
        unseen = np.flatnonzero(apart > _MIRROR_APART)
        if len(unseen) < _LEAST_MIRRORED * len(unit):
            return both, posterior
        both = part.with_known(place.to_world(mirrored[unseen]), unseen, noise_std=symmetry.std / place.scale)
        posterior = problem.again(both, posterior)
    note = f"the family is symmetric along {'xyz'[symmetry.axis]}: what is seen on one side is known on the other"
    return dataclasses.replace(both, notes=(*both.notes, note)), posterior


def _refined(problem: Problem, part: PartObservation, posterior: Posterior) -> Tensor:
    """Return the residual (R, R, R) of a part: by the ensemble of the learned shapes where slices and family allow."""
    if not (part.is_dense and FieldEnsemble.of(problem.run).is_useful):
        return part_residual(problem, part, posterior)
    code = NeuralField(problem.run.decoder, problem.prior.latents(posterior.coordinates))
    return ensemble_residual(problem.run, code, _evidence(problem, part, posterior)[0])


def part_residual(
    problem: Problem,
    part: PartObservation,
    posterior: Posterior,
    *,
    process: ResidualProcess | None = None,
    perturb: torch.Generator | None = None,
) -> Tensor:
    """Return the residual (R, R, R) that the part asks for, given code and place; see `fit_residual`."""
    evidence, sdf = _evidence(problem, part, posterior)
    return fit_residual(evidence, sdf, process or residual_process(part, posterior), perturb=perturb)


def _evidence(problem: Problem, part: PartObservation, posterior: Posterior) -> tuple[Evidence, Tensor]:
    """Return what a part says where the code is not far off, and the distances (N,) of the code there."""
    rows = problem.rows(part.thinned(_MOST_ROWS), posterior.similarity)
    sdf = problem.values(rows.points, posterior.coordinates[None])[0]
    std = rows.noise_std.clamp(min=_LEAST_STD)
    excess = (sdf - rows.upper).clamp(min=0) - (rows.lower - sdf).clamp(min=0)
    usable = excess.abs() < _FAR * torch.hypot(std, torch.tensor(RESIDUAL_STD))
    # Points beside the surface that a normal implies help the code, but are too rough to correct by.
    usable &= (std <= 2 * std[rows.is_surface].median()) | (rows.lower != rows.upper) | (rows.lower == 0)
    kept = torch.nonzero(usable)[:, 0]
    return Evidence(*(each[kept].float() for each in (rows.points, rows.lower, rows.upper, std))), sdf[kept].float()


def residual_process(part: PartObservation, posterior: Posterior) -> ResidualProcess:
    """Return the prior of the residuals of a part: what the code misses at the data, beyond their noise.

    >>> import numpy as np
    >>> from sdfnet.fitting.observations import surface_part
    >>> from sdfnet.geometry.similarity import Similarity
    >>> some = torch.zeros(1), Similarity((0.0, 0.0, 0.0), 1.0), torch.eye(8)
    >>> posterior = Posterior(*some, objective=0.0, misfit=0.004, weights=np.ones(3))
    >>> for noise_std in (1e-5, 0.004, 0.01):
    ...     print(round(residual_process(surface_part(np.eye(3), noise_std=noise_std), posterior).std, 4))
    0.0089
    0.0066
    0.01
    """
    noise = float(np.median(part.noise_std[part.is_surface])) * posterior.similarity.scale
    missed = max((posterior.misfit / 0.6745) ** 2 - noise**2, 0.0) ** 0.5  # The median of a normal distribution.
    std = min(max(_RESIDUALS_IN_MISFIT * missed, noise, _LEAST_RESIDUAL_STD), RESIDUAL_STD)
    return dataclasses.replace(ResidualProcess.for_parts(), std=std)


def refined_shape(run: Run, latent: Tensor, residual: Tensor | None) -> tuple[Run, Tensor]:
    """Return a run with the residual (R, R, R), [x, y, z], of one more shape, and the code of this shape in it."""
    if residual is None:
        return run, latent
    joined = with_residuals(run, [residual])
    code = torch.zeros_like(joined.latents[0])
    code[: len(latent)], code[-1] = latent, UNIT_WEIGHT
    return joined, code


def with_residuals(run: Run, residuals: Sequence[Tensor]) -> Run:
    """Return the run with a refined decoder that has `residuals`, and with codes that do not use them.

    Grids of different resolutions are brought to the highest one.
    """
    own = getattr(run.decoder, "residuals", None)
    sizes = [len(each) for each in residuals] + ([] if own is None else [own.shape[-1]])
    resize = partial(torch.nn.functional.interpolate, size=[max(sizes)] * 3, mode="trilinear", align_corners=True)
    resized = [resize(each[None, None].float()) for each in residuals]
    grids = torch.cat([each[0].permute(0, 3, 2, 1) for each in resized])
    settings = run.document.get("config", {})
    options = settings.get("decoder", {})
    decoder, config = refined_decoder(run.decoder, options, grids.to(run.latents))
    latents = torch.cat([run.latents, run.latents.new_zeros(len(run.latents), len(grids))], dim=1)
    document = {**run.document, "config": {**settings, "decoder": dataclasses.asdict(config)}}
    return dataclasses.replace(run, decoder=decoder.to(run.device), latents=latents, document=document)
