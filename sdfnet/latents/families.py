"""Attributes and groups of a family: directions, their measured effects, and where groups differ on the surface."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sdfnet.correspondence.template_map import points_at, template_places
from sdfnet.geometry.arrays import BoolArray, FloatArray
from sdfnet.latents.attributes import Attributes, fit_directions, read_attributes
from sdfnet.latents.config import SpaceConfig
from sdfnet.latents.effects import measure_effects
from sdfnet.latents.generalization import code_mesh
from sdfnet.latents.groups import LEAST_SHAPES, GroupDifference, compare_groups
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs.run import Run
from sdfnet.runs.space import ShapeSpace, placed_codes


@dataclass(frozen=True, eq=False)
class ComparedGroups:
    """Two groups of shapes and their difference on the mean shape.

    Attributes
    ----------
    first, second : str
        The groups in words, such as `kind=stool`.
    sizes : tuple of int
    mesh : Mesh
        The mean shape, unit frame; its vertices are those of `difference`.
    """

    first: str
    second: str
    sizes: tuple[int, int]
    difference: GroupDifference
    mesh: Mesh

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `space.json`."""
        difference = self.difference
        largest = float(np.linalg.norm(difference.differences, axis=1).max())
        return {
            "first": self.first,
            "second": self.second,
            "sizes": list(self.sizes),
            "p_value": round(difference.p_value, 6),
            "share_of_surface": round(difference.share_that_differs, 4),
            "largest_difference_percent": round(100 * largest, 4),
        }


def with_attributes(
    run: Run, space: ShapeSpace, table: Attributes, *, seed: int, progress: bool = False
) -> tuple[ShapeSpace, dict[str, Any]]:
    """Return `space` with the directions of the attributes of a table, and what is known of them as a JSON document."""
    placed = placed_codes(run, table.names)
    found = fit_directions(placed, table.rows)
    generator = torch.Generator().manual_seed(seed)
    directions, effects = measure_effects(run, placed, table.rows, generator=generator, progress=progress)
    shift = found.projection @ (space.mean - placed.mean(axis=0))
    extended = dataclasses.replace(
        space,
        columns=table.columns,
        directions=directions,
        attribute_means=found.means + shift,
        attribute_projection=found.projection,
        attribute_values={name: row.tolist() for name, row in zip(table.names, table.rows, strict=True)},
    )
    deviations = table.rows.std(axis=0, ddof=1)
    document = {
        "rows": table.labels,
        "shapes": len(table.names),
        "means": found.means.round(6).tolist(),
        "deviations": deviations.round(6).tolist(),
        "explained": found.explained.round(4).tolist(),
        "effects": effects.to_list(),
    }
    return extended, document


def compare_all_groups(
    run: Run, space: ShapeSpace, table: Attributes, config: SpaceConfig, *, progress: bool = False
) -> list[ComparedGroups]:
    """Compare the groups of columns: two classes with each other, each of more classes with the rest.

    The correspondence is that of `corresponding_vertices`, in the unit frame. So sizes count only where the shapes were
    normalised together.
    """
    pairs = [pair for column in _columns_to_compare(table, config.groups) for pair in _pairs(table, column)]
    if not pairs:
        return []
    mean = space.mean[: run.latents.shape[1]]
    mesh = code_mesh(run, mean, like=table.names[0], resolution=config.resolution)
    vertices = corresponding_vertices(run, table.names, mesh, mean, resolution=config.resolution, progress=progress)
    compared = []
    for first, second, in_second in pairs:
        generator = torch.Generator().manual_seed(config.seed)
        found = compare_groups(vertices, in_second, num_permutations=config.num_permutations, generator=generator)
        sizes = int((~in_second).sum()), int(in_second.sum())
        compared.append(ComparedGroups(first, second, sizes, found, Mesh(found.mean, mesh.faces)))
    return compared


def corresponding_vertices(
    run: Run, names: Sequence[str], mesh: Mesh, code: FloatArray, *, resolution: int, progress: bool = False
) -> FloatArray:
    """Return the points (S, V, 3) on the shapes `names` that correspond to the vertices of a mesh, unit frame.

    `mesh` is the surface of `code` (L,). If the decoder has a template, a vertex goes to the point of the shape at its
    place of the template; where there is none, and without a template, it stays. Then it goes to the closest point of
    the shape's surface.
    """
    has_template = run.decoder.has_template
    if has_template:
        places, _ = template_places(run.decoder, torch.from_numpy(code).to(run.latents), mesh.vertices)
    found = []
    for name in tqdm(names, desc="correspondence", unit="shape", delay=2, leave=False, disable=not progress):
        latent, near = run.latent(name), mesh.vertices
        if has_template:
            mapped = points_at(run.decoder, latent, places)
            near = np.where(mapped.found[:, None], mapped.points, near)
        own = code_mesh(run, latent.double().cpu().numpy(), like=name, resolution=resolution)
        found.append(MeshDistance(own)(near).closest_points)
    return np.stack(found)


def load_attributes(config: SpaceConfig, names: Sequence[str]) -> Attributes | None:
    """Return the table of attributes, if there is one, and refuse groups that cannot be compared."""
    if config.attributes is None:
        return None
    table = read_attributes(config.attributes, names, columns=config.columns)
    for column in _columns_to_compare(table, config.groups):
        _pairs(table, column)
    return table


def _columns_to_compare(table: Attributes, groups: Sequence[str]) -> list[str]:
    known = {column.name: column for column in table.columns}
    unknown = [name for name in groups if name not in known]
    if unknown:
        raise ValueError(f"groups names {unknown[0]!r}, which is no column in use; there are: {', '.join(known)}")
    return list(groups) or [name for name, column in known.items() if column.classes]


def _pairs(table: Attributes, name: str) -> list[tuple[str, str, BoolArray]]:
    """Return the two groups of each comparison in words, and which shapes are in the second."""
    column = next(each for each in table.columns if each.name == name)
    if not column.classes:
        values = table.rows[:, table.labels.index(name)]
        middle = float(np.median(values))
        pairs = [(f"{name}<={middle:.4g}", f"{name}>{middle:.4g}", values > middle)]
    else:
        members = table.members(column)
        masks = {each: np.isin(table.names, shapes) for each, shapes in members.items()}
        if len(masks) == 2:
            (first, _), (second, mask) = masks.items()
            pairs = [(f"{name}={first}", f"{name}={second}", mask)]
        else:
            pairs = [("all others", f"{name}={each}", mask) for each, mask in masks.items()]
    for first, second, mask in pairs:
        if min(mask.sum(), (~mask).sum()) < LEAST_SHAPES:
            raise ValueError(f"{first} and {second} need at least {LEAST_SHAPES} shapes each to be compared")
    return pairs
