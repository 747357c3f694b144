"""Damaged twins of the shipped chairs: faults of files from the internet, with the whole chair as the truth.

Every kind leaves the surface that can be seen from outside in its place, within 0.5 % of the radius, or removes a part
that a reader can restore (an underside, the ends of a tube). The same seed gives the same twins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import label_connected
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh

Parts = dict[str, tuple[int, int]]
"""The first face of each labelled part, and the one after its last."""

Damage = Callable[[Mesh, Parts, np.random.Generator], Mesh]

CRACK, GAP, OVERLAP = 5e-5, 4e-3, 0.02
"""Widths as shares of the radius: of a hairline crack, of a gap between parts, of how deep parts reach into others."""


def load_chair(path: Path) -> tuple[Mesh, Parts]:
    """Return a shipped chair, world frame, with the ranges of faces of its parts."""
    labels = json.loads(path.with_suffix(".parts.json").read_text(encoding="utf-8"))
    return read_mesh(path), {label: (int(first), int(stop)) for label, (first, stop) in labels.items()}


def damage(mesh: Mesh, parts: Parts, *, kind: int, seed: int) -> Mesh:
    """Return the twin of a chair with the damage of number `kind` (an index of KINDS)."""
    return list(KINDS.values())[kind](mesh, parts, np.random.default_rng([seed, kind]))


def _radius(mesh: Mesh) -> float:
    return float(np.linalg.norm(mesh.vertices - mesh.bounds.center, axis=1).max())


def _compact(mesh: Mesh, faces: NDArray[np.int64]) -> Mesh:
    """Return the chosen faces with the vertices that they use."""
    used, numbers = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices[used], numbers.reshape(-1, 3))


def _joined(pieces: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0] + [len(piece.vertices) for piece in pieces[:-1]])
    faces = [piece.faces + offset for piece, offset in zip(pieces, offsets, strict=True)]
    return Mesh(np.concatenate([piece.vertices for piece in pieces]), np.concatenate(faces))


def _cut(mesh: Mesh, parts: Parts) -> dict[str, Mesh]:
    """Return each labelled part alone, open where it was joined to others."""
    return {label: _compact(mesh, mesh.faces[first:stop]) for label, (first, stop) in parts.items()}


def _boundary_loops(mesh: Mesh) -> list[list[int]]:
    """Return the vertices of each boundary loop, in the order in which its faces run along it."""
    sides = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    known = {(int(one), int(other)) for one, other in sides}
    following = {one: other for one, other in known if (other, one) not in known}
    loops = []
    while following:
        start, place = next(iter(following.items()))
        loop = [start]
        del following[start]
        while place != start and place in following:
            loop.append(place)
            place = following.pop(place)
        loops.append(loop)
    return loops


def _capped(mesh: Mesh, *, reach: float) -> Mesh:
    """Close every hole with a fan whose middle lies `reach` beyond the hole, away from the part."""
    vertices, faces = [mesh.vertices], [mesh.faces]
    count = len(mesh.vertices)
    for loop in _boundary_loops(mesh):
        if len(loop) < 3:
            continue
        ring = mesh.vertices[loop]
        middle = ring.mean(axis=0)
        normal = np.cross(ring - middle, np.roll(ring, -1, axis=0) - middle).sum(axis=0)
        normal /= max(float(np.linalg.norm(normal)), 1e-12)
        vertices.append((middle - reach * normal)[None])
        faces.append(
            np.array([[second, first, count] for first, second in zip(loop, loop[1:] + loop[:1], strict=True)])
        )
        count += 1
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def single_sided_sheets(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """The back and the seat are six sheets each, one for each direction, wound either way and a little apart."""
    pieces = []
    for label, part in _cut(mesh, parts).items():
        if label not in ("back", "seat"):
            pieces.append(part)
            continue
        normals = part.face_normals
        direction = np.abs(normals).argmax(axis=1)
        side = 2 * direction + (np.take_along_axis(normals, direction[:, None], 1)[:, 0] > 0)
        for number in np.unique(side):
            faces = part.faces[side == number]
            sheet = _compact(part, faces if random.random() < 0.5 else faces[:, ::-1])
            axis = np.eye(3)[number // 2] * (1 if number % 2 else -1)
            pieces.append(Mesh(sheet.vertices + 1e-3 * _radius(mesh) * axis, sheet.faces))
    return _joined(pieces)


def doubled_faces(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """Every face of the back and the seat is there twice, wound both ways."""
    doubled = [mesh.faces[slice(*parts[label])][:, ::-1] for label in ("back", "seat")]
    faces = np.concatenate([mesh.faces, *doubled])
    return Mesh(mesh.vertices, random.permutation(faces))


def open_tubes(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """Legs and arms are tubes without ends: cut from the seat, and without the faces on the floor."""
    floor = mesh.vertices[:, 1].min() + 0.004 * _radius(mesh)
    pieces = []
    for part in _cut(mesh, parts).values():
        on_floor = part.triangles[:, :, 1].max(axis=1) < floor
        whole = _compact(part, part.faces[~on_floor])
        pieces.append(Mesh(whole.vertices + 1e-4 * _radius(mesh) * random.normal(size=3), whole.faces))
    return _joined(pieces)


def missing_undersides(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """The seat has no underside, and the legs do not end on the floor."""
    down = mesh.face_normals[:, 1] < -0.9
    gone = np.zeros(len(mesh.faces), dtype=bool)
    gone[slice(*parts["seat"])] = True
    gone |= mesh.triangles[:, :, 1].max(axis=1) < mesh.vertices[:, 1].min() + 0.004 * _radius(mesh)
    return _compact(mesh, mesh.faces[~(gone & down)])


def interpenetrating_parts(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """Every part is closed by itself and reaches into its neighbours."""
    return _joined([_capped(part, reach=OVERLAP * _radius(mesh)) for part in _cut(mesh, parts).values()])


def _components(mesh: Mesh) -> list[Mesh]:
    """Return the connected components of a mesh."""
    start, stop = mesh.faces[:, :2].reshape(-1), mesh.faces[:, 1:].reshape(-1)
    count, label = label_connected(start, stop, len(mesh.vertices))
    return [_compact(mesh, mesh.faces[label[mesh.faces[:, 0]] == number]) for number in range(count)]


def self_crossing_parts(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """The same, with all parts sewn to one surface by tubes that run inside: one component that crosses itself."""
    pieces = [piece for part in _cut(mesh, parts).values() for piece in _components(part)]
    capped = [_capped(piece, reach=OVERLAP * _radius(mesh)) for piece in pieces]
    whole = _joined(capped)
    stops = np.cumsum([len(piece.faces) for piece in capped])
    counts = [len(after.faces) - len(before.faces) for before, after in zip(pieces, capped, strict=True)]
    caps = np.concatenate([np.arange(stop - count, stop) for stop, count in zip(stops, counts, strict=True)])
    piece_of = np.repeat(np.arange(len(pieces)), counts)
    middles = whole.triangles.mean(axis=1)[caps]
    distances = np.linalg.norm(middles[:, None] - middles, axis=2)
    is_sewn, is_free = piece_of == 0, np.ones(len(caps), dtype=bool)
    drop: list[int] = []
    added: list[list[int]] = []
    while not is_sewn.all():  # The two nearest faces of caps: each lies inside the neighbour.
        allowed = np.where(np.outer(is_sewn & is_free, ~is_sewn), distances, np.inf)
        near, far = np.unravel_index(int(allowed.argmin()), allowed.shape)
        one, other = whole.faces[caps[near]], whole.faces[caps[far]]
        for first, second in ((0, 1), (1, 2), (2, 0)):
            added.append([one[first], one[second], other[(3 - second) % 3]])
            added.append([one[first], other[(3 - second) % 3], other[(3 - first) % 3]])
        drop += [int(caps[near]), int(caps[far])]
        is_free[[near, far]] = False
        is_sewn |= piece_of == piece_of[far]
    return Mesh(whole.vertices, np.concatenate([np.delete(whole.faces, drop, axis=0), np.array(added)]))


def flipped_soup(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """Every face has vertices of its own, half of the faces are wound the other way, in random order."""
    faces = mesh.faces.copy()
    turned = random.random(len(faces)) < 0.5
    faces[turned] = faces[turned][:, ::-1]
    corners = mesh.vertices[random.permutation(faces)]
    return Mesh(corners.reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3))


def _patches(mesh: Mesh, count: int, random: np.random.Generator) -> list[Mesh]:
    """Cut the surface into patches about random faces."""
    middles = mesh.triangles.mean(axis=1)
    seeds = middles[random.choice(len(middles), count, replace=False)]
    nearest = np.linalg.norm(middles[:, None] - seeds, axis=2).argmin(axis=1)
    return [_compact(mesh, mesh.faces[nearest == number]) for number in range(count)]


def hairline_cracks(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """Forty patches that do not quite meet: hairline cracks run between them."""
    step = CRACK * _radius(mesh)
    return _joined(
        [Mesh(part.vertices + step * random.normal(size=3), part.faces) for part in _patches(mesh, 40, random)]
    )


def tiny_gaps(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """The parts are open and stand a little apart."""
    pieces = []
    for part in _cut(mesh, parts).values():
        away = random.normal(size=3)
        step = GAP * _radius(mesh) * away / np.linalg.norm(away)
        pieces.append(Mesh(part.vertices + step, part.faces))
    return _joined(pieces)


def inner_junk(mesh: Mesh, parts: Parts, random: np.random.Generator) -> Mesh:
    """Loose faces inside the seat that nobody sees."""
    first, stop = parts["seat"]
    seat = mesh.triangles[first:stop]
    normals = mesh.face_normals[first:stop]
    top = np.flatnonzero(normals[:, 1] > 0.9)
    chosen = random.choice(top, 60)
    radius = _radius(mesh)
    middles = seat[chosen].mean(axis=1) - np.array([0, 0.03, 0]) * radius
    corners = middles[:, None] + random.uniform(-1, 1, (60, 3, 3)) * np.array([0.02, 0.008, 0.02]) * radius
    junk = Mesh(corners.reshape(-1, 3), np.arange(180).reshape(-1, 3))
    return _joined([mesh, junk])


KINDS: dict[str, Damage] = {
    "single-sided sheets": single_sided_sheets,
    "doubled faces": doubled_faces,
    "open tubes": open_tubes,
    "missing undersides": missing_undersides,
    "interpenetrating parts": interpenetrating_parts,
    "self-crossing parts": self_crossing_parts,
    "flipped soup": flipped_soup,
    "hairline cracks": hairline_cracks,
    "tiny gaps": tiny_gaps,
    "inner junk": inner_junk,
}
"""The kinds of damage, in the order of their numbers."""
