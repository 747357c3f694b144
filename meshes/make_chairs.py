"""Make the family of chairs that ships with the project: closed OBJ meshes in centimetres, with a label for every face.

    python make_chairs.py --count 24 --seed 0 --out chairs

Chair number i depends on the seed and on i alone, so a larger count adds chairs and changes none. Each chair is built
as a field (`chair_designs.py`, `chair_parts.py`), meshed on a fine lattice, simplified and written as `chair_00.obj`
with its labels in `chair_00.parts.json` (see README.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from chair_designs import ChairDesign, draw_design
from chair_parts import blend, chair_parts
from numpy.typing import NDArray
from scipy.sparse import coo_array
from tqdm import tqdm

from sdfnet.extraction.marching_cubes import march
from sdfnet.extraction.projection import project_to_level
from sdfnet.fields import Field, HalfSpace, SmoothIntersection, evaluate, normals
from sdfnet.files import write_json
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh

SPACING = 0.7
"""Of the lattice, cm: a third of the thinnest part."""

NUM_FACES = (8000, 8300, 8600, 8900, 9200, 9500)
"""Of a finished chair: the first that gives a clean mesh."""

MOST_FACES = 16_000
"""Of the few chairs for which none of these does."""

ROUNDS, MORE_ROUNDS = 10, 20
"""Rounds of smoothing against folds; the second number is for chairs that keep folds after the first."""

BLOCK = 3
"""Lattice cells along the edge of the blocks that are skipped where the field says that no surface can be."""


@dataclass(frozen=True, eq=False)
class Chair:
    """A chair where it stands.

    Attributes
    ----------
    mesh : Mesh
        Closed, outward, one component, centimetres; faces are sorted by part.
    parts : dict of str to (int, int)
        The first face of each part and the one after its last.
    """

    mesh: Mesh
    parts: dict[str, tuple[int, int]]


def make_chair(design: ChairDesign) -> Chair:
    """Build the chair of `design`. Deterministic."""
    parts = chair_parts(design)
    # The blend rounds the feet, where a sharp cut would leave a ragged crease.
    chair = SmoothIntersection(blend(list(parts.values())), HalfSpace([0, -1, 0]), width=0.8)
    mesh = _simplified(chair, _projected(chair, _extract(chair), steps=1))
    centroids = torch.from_numpy(mesh.triangles.mean(axis=1))
    distances = torch.stack([evaluate(part, centroids).abs() for part in parts.values()])
    labels = distances.argmin(dim=0).numpy()
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(parts))).tolist()
    ranges = dict(zip(parts, zip([0, *ends[:-1]], ends, strict=True), strict=True))
    place = np.array([design.position[0], -mesh.vertices[:, 1].min(), design.position[1]])
    # A hundredth of a millimetre: small files, and the same ones whatever the last bits of the arithmetic.
    return Chair(Mesh(np.round(mesh.vertices + place, 3), mesh.faces[order]), ranges)


def design_of(index: int, *, seed: int = 0) -> ChairDesign:
    """Return the numbers of chair `index` of the family of `seed`, both 0 or more."""
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be 0 or more, got {index} and {seed}")
    generator = torch.Generator().manual_seed(1_000_003 * seed + index)
    return draw_design(index, generator=generator)


def make_chairs(folder: Path, *, count: int = 24, seed: int = 0, progress: bool = False) -> list[Path]:
    """Write the first `count` chairs of the family of `seed` into `folder`, and return the paths of their meshes."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    paths = [folder / f"chair_{index:02d}.obj" for index in range(count)]
    parallel = joblib.Parallel(n_jobs=-1, return_as="generator_unordered", batch_size=1)
    jobs = (joblib.delayed(_make_one)(index, seed, path) for index, path in enumerate(paths))
    for _ in tqdm(parallel(jobs), total=count, unit="chair", disable=not progress):
        pass
    return paths


def _make_one(index: int, seed: int, path: Path) -> None:
    torch.set_num_threads(1)  # The chunks are too small to share; more threads only wait for each other.
    save_chair(make_chair(design_of(index, seed=seed)), path)


def save_chair(chair: Chair, path: Path) -> None:
    """Write the mesh to `path` (.obj) and the faces of its parts to the same name with .parts.json."""
    save_mesh(chair.mesh, path)
    write_json(path.with_suffix(".parts.json"), {label: list(faces) for label, faces in chair.parts.items()})


def load_labels(path: Path) -> list[str]:
    """Return the label of each face, (F,), from the .parts.json beside the mesh at `path`."""
    parts = json.loads(path.with_suffix(".parts.json").read_text(encoding="utf-8"))
    ranges = sorted(parts.items(), key=lambda part: part[1])
    return [label for label, (first, stop) in ranges for _ in range(first, stop)]


def _extract(chair: Field) -> Mesh:
    """Return the surface of `chair`, which is symmetric in x, from a lattice with samples on the floor and on x = 0."""
    box = chair.bounds.grown(SPACING)
    lower = np.floor(box.lower / SPACING) * SPACING * [0, 1, 1]
    num_blocks = np.ceil((box.upper - lower) / (BLOCK * SPACING)).astype(int)
    half = _sample(chair, lower, num_blocks)
    values = np.concatenate([half[:0:-1], half])
    rough = march(values, spacing=SPACING)
    return Mesh(lower + SPACING * (rough.vertices - [len(half) - 1, 0, 0]), rough.faces)


def _sample(chair: Field, lower: NDArray[np.float64], num_blocks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the field on a lattice, (X, Y, Z), evaluated only in blocks that the surface can reach.

    A bound never overestimates: where the value at a block's middle exceeds half its diagonal, the block holds no
    surface, and the value at the middle stands for all of it.
    """
    if chair.accuracy == "approximate":
        raise ValueError("skipping blocks needs a field that never overestimates, got an approximate one")
    size = BLOCK * SPACING
    blocks = np.moveaxis(np.indices(tuple(num_blocks)), 0, -1)
    middles = evaluate(chair, torch.from_numpy((lower + size * (blocks + 0.5)).astype(np.float32))).numpy()
    is_near = np.abs(middles) <= 0.51 * size * np.sqrt(3)
    values = np.pad(_refined(middles), [(0, 1)] * 3, mode="edge")
    wanted = np.zeros(values.shape, dtype=bool)
    for shift in np.ndindex(2, 2, 2):  # A block's far faces belong to it too.
        window = tuple(slice(first, first + BLOCK * count) for first, count in zip(shift, num_blocks, strict=True))
        wanted[window] |= _refined(is_near)
    points = torch.from_numpy((lower + SPACING * np.argwhere(wanted)).astype(np.float32))
    values[wanted] = evaluate(chair, points, chunk_size=8192).numpy()
    return values


def _refined(blocks: NDArray) -> NDArray:
    """Return one entry per lattice cell from one per block."""
    return blocks.repeat(BLOCK, 0).repeat(BLOCK, 1).repeat(BLOCK, 2)


def _projected(chair: Field, mesh: Mesh, *, steps: int) -> Mesh:
    vertices = project_to_level(chair, torch.tensor(mesh.vertices), steps=steps, reach=SPACING / 2, chunk_size=2048)
    return Mesh(vertices.numpy(), mesh.faces)


def _simplified(chair: Field, mesh: Mesh) -> Mesh:
    """Return `mesh` with the fewest of NUM_FACES faces that leave no fold, vertices on the surface of `chair`.

    Quadric edge collapse (QSlim) folds a face over its neighbour now and then. Smoothing undoes nearly all folds; where
    one stays, a few more faces give another mesh. A chair that keeps folds even so (3 of the first 100 of seed 77) is
    smoothed longer, and then gets still more faces.
    """
    import igl

    more_faces = range(NUM_FACES[-1], MOST_FACES, NUM_FACES[1] - NUM_FACES[0])
    tries = [(count, ROUNDS) for count in NUM_FACES]
    tries += [(count, MORE_ROUNDS) for count in NUM_FACES] + [(count, ROUNDS) for count in more_faces]
    for num_faces, rounds in tries:
        vertices, faces, *_ = igl.qslim(mesh.vertices, mesh.faces.astype(np.int32), num_faces)
        simple = _unfolded(chair, _projected(chair, Mesh(vertices, faces), steps=2), rounds=rounds)
        if not _is_folded(chair, simple).any():
            return simple
    raise ValueError(f"a chair keeps folded faces even with {more_faces[-1]}")


def _unfolded(chair: Field, mesh: Mesh, *, rounds: int) -> Mesh:
    """Return `mesh` with vertices of folded faces moved to the middle of their neighbours and back onto the surface.

    After a few rounds their neighbours move with them.
    """
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).T
    joined = coo_array((np.ones(edges.shape[1]), tuple(edges)), shape=(len(mesh.vertices),) * 2).tocsr()
    num_neighbors = joined.sum(axis=1)[:, None]
    for count in range(rounds):
        folded = np.unique(mesh.faces[_is_folded(chair, mesh)])
        if not len(folded):
            break
        if count >= 4:
            folded = np.unique(mesh.faces[np.isin(mesh.faces, folded).any(axis=1)])
        vertices = mesh.vertices.copy()
        middles = torch.from_numpy((joined @ vertices / num_neighbors)[folded])
        vertices[folded] = project_to_level(chair, middles, steps=2, reach=SPACING).numpy()
        mesh = Mesh(vertices, mesh.faces)
    return mesh


def _is_folded(chair: Field, mesh: Mesh) -> NDArray[np.bool_]:
    """Return which faces look away from the field's gradient, or are slivers without a direction."""
    outward = normals(chair, torch.from_numpy(mesh.triangles.mean(axis=1)), chunk_size=2048).numpy()
    longest = np.linalg.norm(mesh.triangles - np.roll(mesh.triangles, 1, axis=1), axis=2).max(axis=1)
    return ((outward * mesh.face_normals).sum(axis=1) < 0.15) | (2 * mesh.face_areas < 0.01 * longest)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make a family of chairs as labelled OBJ meshes, in centimetres.")
    parser.add_argument("--count", type=int, default=24, help="number of chairs (default 24)")
    parser.add_argument("--seed", type=int, default=0, help="which family (default 0, the one that ships)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; made if missing")
    options = parser.parse_args(arguments)
    try:
        make_chairs(options.out, count=options.count, seed=options.seed, progress=True)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
