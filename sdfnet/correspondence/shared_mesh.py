"""One connectivity for all shapes of a run: every mesh has the same faces, and vertex k is the same place on all.

The mesh of one learned shape, the reference, is carried to every other shape: through the template where the decoder
has one, else by tracking along the straight path between the codes. A shape whose topology differs from the
reference's, or that the carried mesh does not fit, is refused by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sdfnet.correspondence.advect import place_on_surface
from sdfnet.correspondence.match import match_points
from sdfnet.correspondence.track import extract_even_mesh
from sdfnet.evaluation.closest_points import bounding_radius
from sdfnet.files import ensure_folder
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.runs import ExtractConfig, ExtractedRun, Run, extract_shape
from sdfnet.runs.document import check_overwrites
from sdfnet.runs.extract import save_summaries
from sdfnet.runs.mixes import add_mixes

_MAX_INVERTED = 1e-3
"""Share of the triangles of a carried mesh that may be inverted."""

_MAX_UNCOVERED, _UNCOVERED = 0.01, 0.03
"""A carried mesh fits if at most this share of the shape's own vertices is farther from it than the second number, a
share of the radius."""


@dataclass(frozen=True, eq=False)
class SharedMesh:
    """The mesh of one shape in the connectivity that all shapes share, or why it has none.

    Attributes
    ----------
    name : str
    mesh : Mesh or None
        World frame, with vertex normals; the vertices in the order of the reference's.
    reference : str
        The shape whose faces all share.
    refused : str
        The reason why there is no mesh; empty if there is one.

    >>> SharedMesh("chair_03", None, "chair_00", "it has genus 1, but chair_00 has genus 0").mesh is None
    True
    """

    name: str
    mesh: Mesh | None
    reference: str
    refused: str = ""


def shared_meshes(
    run: Run, names: Sequence[str], *, reference: str | None = None, resolution: int = 128, progress: bool = False
) -> Iterator[SharedMesh]:
    """Yield the mesh of each shape of `names` with the faces of the mesh of `reference`.

    Parameters
    ----------
    reference : str, optional
        The shape of the run whose mesh is carried; by default the one of `names` that `choose_reference` takes.
    resolution : int
        Samples per axis at which surfaces are extracted. Triangles are about as long as a spacing.

    Raises
    ------
    ValueError
        Unknown shapes, or a reference without a closed surface.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> [made] = shared_meshes(run, ["chair_00"], resolution=24)
    >>> made.name, made.refused
    ('chair_00', '')
    """
    wanted_names = dict.fromkeys([*names, *([] if reference is None else [reference])])
    own = {
        name: extract_shape(run, name, resolution=resolution, vertex_normals=False, frame="unit").mesh
        for name in tqdm(wanted_names, desc="extracting", unit="shape", delay=2, leave=False, disable=not progress)
    }
    reference = reference or choose_reference(run, own)
    start = extract_even_mesh(run.field(reference), resolution=resolution, mesh=own[reference])
    wanted = _kind(own[reference])
    if _kind(start) != wanted:
        raise ValueError(f"the mesh of {reference} cannot be made even at resolution {resolution}; raise it")
    in_world = run.similarity(reference).to_world(start.vertices)
    for name in tqdm(names, desc="matching", unit="shape", delay=2, leave=False, disable=not progress):
        if not _is_like(run, _kind(own[name]), wanted):
            refused = f"it has {_told(_kind(own[name]))}, but {reference} has {_told(wanted)}"
            yield SharedMesh(name, None, reference, refused)
            continue
        yield _carried(run, reference, name, Mesh(in_world, start.faces), own[name])


def choose_reference(run: Run, meshes: dict[str, Mesh]) -> str:
    """Return the shape that stands for the family: of the most common topology, and nearest to the mean code.

    With a template, it is of the fewest handles instead.

    >>> from sdfnet.runs import extract_shape, load_run
    >>> run = load_run("runs/chairs")
    >>> choose_reference(run, {"chair_01": extract_shape(run, "chair_01", resolution=24).mesh})
    'chair_01'
    """
    kinds = {name: _kind(mesh) for name, mesh in meshes.items()}
    counts = {kind: list(kinds.values()).count(kind) for kind in kinds.values()}
    if run.decoder.has_template:  # The fewest handles: lattices add some where fingers or toes are close.
        counts = {kind: -(kind[1] or 0) for kind in counts}
    mean = run.latents.mean(dim=0)
    return min(meshes, key=lambda name: (-counts[kinds[name]], float((run.latent(name) - mean).norm())))


def _kind(mesh: Mesh) -> tuple[int, int | None]:
    topology = components_and_genus(mesh)
    return topology.num_components, topology.genus


def _is_like(run: Run, kind: tuple[int, int | None], wanted: tuple[int, int | None]) -> bool:
    """Tell whether a shape of one topology may get the faces of another.

    A template has one topology for all shapes, unless it folds. Then the handles of a shape depend on the lattice only,
    and do not count.
    """
    return kind[0] == wanted[0] if run.decoder.has_template else kind == wanted


def _told(kind: tuple[int, int | None]) -> str:
    return f"{kind[0]} component{'s' if kind[0] > 1 else ''} of genus {kind[1]}"


def _carried(run: Run, reference: str, name: str, start: Mesh, own: Mesh) -> SharedMesh:
    """Carry the mesh `start` of the reference, world frame, to a shape whose own mesh is `own`, unit frame."""
    similarity = run.similarity(name)
    try:
        matched = match_points(run, reference, name, start.vertices)
        placed = place_on_surface(Mesh(similarity.to_unit(matched.points_world), start.faces), run.field(name))
    except ValueError as error:
        return SharedMesh(name, None, reference, str(error))
    fault = placed.fault(max_inverted=int(_MAX_INVERTED * len(start.faces)))
    vertices = placed.expanded(placed.vertices)
    if not fault:
        far = MeshDistance(Mesh(vertices, start.faces)).unsigned(own.vertices).distance > _UNCOVERED * bounding_radius(
            own
        )
        if far.mean() > _MAX_UNCOVERED:
            fault = f"{100 * far.mean():.2g} % of its surface is not covered"
    if fault:
        return SharedMesh(name, None, reference, f"the mesh of {reference} does not fit it: {fault}")
    mesh = Mesh(vertices, start.faces, placed.expanded(placed.normals))
    return SharedMesh(name, mesh.to_world(similarity), reference)


def extract_shared(
    run: Run,
    shapes: str | Sequence[str],
    out: str | Path,
    *,
    reference: str | None = None,
    config: ExtractConfig | None = None,
    progress: bool = False,
) -> ExtractedRun:
    """Write the `shapes` (names, globs or mixes) of `run` as meshes of one connectivity into the folder `out`.

    The result is that of `extract_run`. Shapes that are refused are among the `failures`.

    Parameters
    ----------
    reference : str, optional
        The shape whose mesh is carried; by default one of the most common topology, near the mean code.
    config : ExtractConfig, optional
        Only `resolution` and `format` may differ from their defaults.

    Raises
    ------
    ValueError
        Unknown shapes, another option, or a file to be written is a source mesh of the run.

    >>> from sdfnet.runs import load_run
    >>> config = ExtractConfig(resolution=24, format=("ply",))
    >>> done = extract_shared(load_run("runs/chairs"), "chair_00", "shared", config=config)
    >>> done.summaries["chair_00"]["reference"]
    'chair_00'
    """
    config = config or ExtractConfig()
    plain = ExtractConfig(resolution=config.resolution, format=config.format)
    changed = [key for key, value in vars(plain).items() if getattr(config, key) != value]
    if changed:
        raise ValueError(f"{', '.join(changed)} has no effect with connectivity=shared; leave it out")
    run, chosen = add_mixes(run, shapes)
    if reference is not None:
        run.latent(reference)  # refuses an unknown name
    names, out = list(dict.fromkeys(chosen)), Path(out)
    targets = {name: tuple(out / f"{name}.{suffix}" for suffix in config.format) for name in names}
    sources = [shape.source for shape in run.shapes]
    check_overwrites(out, itertools.chain(*targets.values()), sources, what="the source meshes of this run")
    ensure_folder(out)
    files, summaries, failures = {}, {}, {}
    for made in shared_meshes(run, names, reference=reference, resolution=config.resolution, progress=progress):
        if made.mesh is None:
            failures[made.name] = made.refused
            continue
        files[made.name] = targets[made.name]
        for path in files[made.name]:
            save_mesh(made.mesh, path)
        counts = {"vertices": len(made.mesh.vertices), "faces": len(made.mesh.faces)}
        summaries[made.name] = {"reference": made.reference, **counts, "removed": []}
    save_summaries(out, summaries)
    return ExtractedRun(out, files, summaries, failures, {}, {})
