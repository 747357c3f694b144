"""Ray casting on the CPU through embree: pictures without GL, and the soft shadows of all pictures.

`draw_by_rays` draws with the same camera, lights and colours as GL. `cast_shadows` darkens creases and casts a shadow
on the ground. It works at half the picture's resolution, with a few rays per pixel. The pattern of the rays repeats
every 4 x 4 pixels, and the results are averaged over such a tile, except across edges. So every pixel has in effect 16
times its rays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray, IntArray
from sdfnet.rendering.camera import Camera, pixel_directions
from sdfnet.rendering.scene import Layer, Scene
from sdfnet.rendering.style import GAMMA, LIGHTS, shade

_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Places within a pixel, in pixels from its middle."""

_PIXELS_AT_ONCE = 1 << 18
"""Pixels in one batch of rays; this bounds the memory."""

_EDGE = 0.15
"""There is an edge where the normals of two pixels, or five times their inverse distances, differ by more than this."""

_FAR = 1e30

_TILE = 4
_SKY_RAYS = 6  # per half-resolution pixel, over the hemisphere
_KEY_RAYS = 2  # per half-resolution pixel, toward the key light
_KEY_WIDTH = 0.16  # tangent of half the angle that the key light spans
_STEP_OFF = 2e-3  # how far a ray starts above its surface, in the drawing frame
_SKY_REACH = 0.18  # how far away a surface still darkens another, in the drawing frame
_CREASE_STRENGTH = 0.65  # how dark a fully hidden place becomes, linear
_KEY_STRENGTH = 0.45
_GROUND_SKY, _GROUND_KEY = 0.55, 0.30
_GROUND_REACH = 0.75  # distance from the target at which the ground has faded into the background, drawing frame

_BORDER = 0.1  # share of the picture's shorter side over which the ground fades out at the border


@dataclass(frozen=True, eq=False)
class Hits:
    """The first face that each ray meets. `weights` (K, 3) are the barycentric weights of the corners of the face."""

    rays: IntArray
    faces: IntArray
    distances: Float32Array
    weights: Float32Array

    def interpolated(self, values: Float32Array, scene: Scene) -> Float32Array:
        """Return the `values` (V, 3) of the vertices at the points that were hit, (K, 3)."""
        corners = scene.faces[self.faces]
        result = values[corners[:, 0]] * self.weights[:, 0, None]
        result += values[corners[:, 1]] * self.weights[:, 1, None]
        result += values[corners[:, 2]] * self.weights[:, 2, None]
        return result


class RayTracer:
    """A scene in embree's search tree."""

    def __init__(self, scene: Scene) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.scene = scene
        self._tree: Any = EmbreeScene()
        TriangleMesh(self._tree, scene.vertices, scene.faces)

    def first_hits(self, camera: Camera, directions: Float32Array) -> Hits:
        """Return the first hits of rays (R, 3) from the camera. The camera is one unit away from the origin."""
        origins = np.broadcast_to(camera.axes[2].astype(np.float32), directions.shape).copy()
        found = self._tree.run(origins, directions, output=True)
        rays = np.flatnonzero(found["primID"] >= 0)
        u, v = found["u"][rays], found["v"][rays]
        weights = np.stack([1 - u - v, u, v], axis=1)
        return Hits(rays, found["primID"][rays].astype(np.int64), found["tfar"][rays], weights)

    def blocked(self, origins: Float32Array, directions: Float32Array, *, reach: float = _FAR) -> BoolArray:
        """Return a mask (R,) of the rays that meet a face within `reach` times the length of their direction."""
        limits = np.full(len(origins), reach, dtype=np.float32)
        return np.asarray(self._tree.run(origins, directions, dists=limits, query="OCCLUDED")) >= 0


def draw_by_rays(tracer: RayTracer, camera: Camera, size: tuple[int, int], *, roughness: float) -> Layer:
    """Draw a scene with one ray per pixel, and four where the picture has an edge."""
    width, height = size
    rows, columns = (places.ravel() for places in np.mgrid[:height, :width])
    color = np.zeros((height * width, 3), dtype=np.float32)
    # Normal and distance of the surface in each pixel, from which edges are found; zero for the background.
    shown = np.zeros((height * width, 4), dtype=np.float32)
    for part in _parts(height * width):
        directions = pixel_directions(camera, size, rows[part], columns[part])
        hits, normals, shaded = _seen(tracer, camera, directions, roughness)
        color[part][hits.rays] = shaded
        shown[part][hits.rays] = np.hstack([normals, 5 / hits.distances[:, None]])
    coverage = (shown[:, 3] > 0).astype(np.float32)
    depth = np.divide(5, shown[:, 3], out=np.full(height * width, np.inf, np.float32), where=shown[:, 3] > 0)
    edges = np.flatnonzero(_is_edge(shown.reshape(height, width, 4)))
    color[edges] = coverage[edges] = 0
    for part in _parts(len(edges)):
        pixels = edges[part]
        for right, down in _SAMPLES:
            directions = pixel_directions(camera, size, rows[pixels] + down, columns[pixels] + right)
            hits, _, shaded = _seen(tracer, camera, directions, roughness)
            color[pixels[hits.rays]] += shaded / np.float32(len(_SAMPLES))
            coverage[pixels[hits.rays]] += 1 / len(_SAMPLES)
    return Layer(color.reshape(height, width, 3), coverage.reshape(height, width), depth.reshape(height, width))


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _PIXELS_AT_ONCE) for start in range(0, count, _PIXELS_AT_ONCE)]


def _is_edge(shown: Float32Array) -> BoolArray:
    """Return which pixels (H, W) differ from a neighbour in normal or distance; `shown` is (H, W, 4)."""
    edge = np.zeros(shown.shape[:2], dtype=bool)
    for first, second in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        jump = np.abs(shown[first] - shown[second]).max(axis=-1) > _EDGE
        edge[first] |= jump
        edge[second] |= jump
    return edge


def _seen(
    tracer: RayTracer, camera: Camera, directions: Float32Array, roughness: float
) -> tuple[Hits, Float32Array, Float32Array]:
    """Return the first hits of the rays, and the unit normals and stored colours at the hits."""
    scene, hits = tracer.scene, tracer.first_hits(camera, directions)
    toward = -directions[hits.rays]
    toward /= _lengths(toward)
    normals = hits.interpolated(scene.normals, scene)
    normals /= np.maximum(_lengths(normals), np.float32(1e-12))
    albedo = hits.interpolated(scene.albedo, scene)
    return hits, normals, shade(normals, toward, albedo, axes=camera.axes, roughness=roughness)


def _lengths(vectors: Float32Array) -> Float32Array:
    # Several times as fast as np.linalg.norm over a short axis.
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]


@dataclass(frozen=True, eq=False)
class _Spots:
    """Points (drawing frame) whose light is computed, and the pixels that show them."""

    pixels: IntArray
    points: Float32Array
    normals: Float32Array


def cast_shadows(tracer: RayTracer, camera: Camera, size: tuple[int, int]) -> tuple[Float32Array, Float32Array]:
    """Return factors in (0, 1] for the stored colours of the surface and of the ground, (H, W) each. Deterministic.

    The factors of the ground are also valid behind surfaces, so that edges can be blended.
    """
    small = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    rows, columns = 2 * np.arange(small[1]) + 0.5, 2 * np.arange(small[0]) + 0.5
    directions = pixel_directions(camera, size, rows[:, None], columns[None]).reshape(-1, 3)
    surface, depth = _surface_spots(tracer, camera, directions)
    ground = _ground_spots(camera, directions)
    key = (LIGHTS[0].unit @ camera.axes).astype(np.float32)

    facing = np.clip(surface.normals @ key, 0, 1)
    sky, lit = _light(tracer, surface, key, small[0])
    factor = (1 - _CREASE_STRENGTH * (1 - sky)) * (1 - _KEY_STRENGTH * np.sqrt(facing) * (1 - lit))
    surface_map = _smoothed(factor, surface.pixels, depth, small)

    sky, lit = _light(tracer, ground, key, small[0])
    fade = np.clip(1 - np.linalg.norm(ground.points, axis=1) / _GROUND_REACH, 0, 1) ** 0.5
    fade *= _border_fade(ground.pixels, small)
    factor = 1 - fade * (_GROUND_SKY * (1 - sky) + _GROUND_KEY * (1 - lit))
    ground_map = _smoothed(factor, ground.pixels, np.ones(len(factor), dtype=np.float32), small)
    return _enlarged(surface_map, size), _enlarged(ground_map, size)


def _surface_spots(tracer: RayTracer, camera: Camera, directions: Float32Array) -> tuple[_Spots, Float32Array]:
    """Return the surface points in the pixels and their depths. The normals of the faces point toward the camera."""
    hits = tracer.first_hits(camera, directions)
    seen = directions[hits.rays]
    points = camera.axes[2].astype(np.float32) + hits.distances[:, None] * seen
    corners = tracer.scene.vertices[tracer.scene.faces[hits.faces]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-20))
    normals *= np.where(np.einsum("ij,ij->i", normals, seen) > 0, -1, 1)[:, None].astype(np.float32)
    return _Spots(hits.rays, points, normals), hits.distances


def _ground_spots(camera: Camera, directions: Float32Array) -> _Spots:
    """Return the ground points near the target; none if the camera is below the ground or has no ground."""
    axis = "xyz".index(camera.up_axis)
    height = 0.0 if camera.ground is None else (camera.position[axis] - camera.ground) / camera.distance
    down = -directions[:, axis]
    distance = np.divide(height, down, out=np.full_like(down, np.inf), where=(down > 1e-6) & (height > 0))
    pixels = np.flatnonzero(distance < 1e3)
    points = camera.axes[2].astype(np.float32) + distance[pixels, None] * directions[pixels]
    near = np.linalg.norm(points, axis=1) < _GROUND_REACH
    normals = np.zeros_like(points[near])
    normals[:, axis] = 1
    return _Spots(pixels[near], points[near], normals)


def _border_fade(pixels: IntArray, size: tuple[int, int]) -> Float32Array:
    """Return 1 in the middle of the picture and 0 at its border, so that a shadow is not cut off there."""
    width, height = size
    rows, columns = pixels // width, pixels % width
    room = np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))
    share = np.clip(room / (_BORDER * min(size)), 0, 1).astype(np.float32)
    return share * share * (3 - 2 * share)


def _light(tracer: RayTracer, spots: _Spots, key: Float32Array, width: int) -> tuple[Float32Array, Float32Array]:
    """Return the share of the sky, weighted by cosine, and of the key light that reaches each spot, each (N,)."""
    tile = (spots.pixels // width % _TILE) * _TILE + spots.pixels % width % _TILE
    origins = spots.points + _STEP_OFF * spots.normals
    tilted = np.linalg.norm(np.cross(key, np.eye(3)), axis=1).argmax()
    across = np.cross(key, np.eye(3)[tilted])
    across /= np.linalg.norm(across)
    over = np.cross(key, across)
    sky, lit = np.zeros((2, len(origins)), dtype=np.float32)
    for ray in range(_SKY_RAYS):
        u, v = _pattern(ray, _SKY_RAYS)
        # A point on the unit sphere around the tip of the normal: cosine-weighted about it.
        turn, lift = 2 * np.pi * u[tile], 2 * v[tile] - 1
        ring = np.sqrt(1 - lift**2)
        direction = np.stack([ring * np.cos(turn), ring * np.sin(turn), lift], axis=1) + spots.normals * 1.0001
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        sky += ~tracer.blocked(origins, direction.astype(np.float32), reach=_SKY_REACH)
    for ray in range(_KEY_RAYS):
        u, v = _pattern(ray, _KEY_RAYS)
        spread, turn = _KEY_WIDTH * np.sqrt(u[tile])[:, None], 2 * np.pi * v[tile][:, None]
        direction = key + spread * (np.cos(turn) * across + np.sin(turn) * over)
        lit += ~tracer.blocked(origins, direction.astype(np.float32))
    return sky / np.float32(_SKY_RAYS), lit / np.float32(_KEY_RAYS)


def _pattern(ray: int, rays: int) -> tuple[FloatArray, FloatArray]:
    """Return two numbers in [0, 1) for each place of a tile, (16,). Over all rays, the pairs fill the square evenly.

    References
    ----------
    M. Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences" (2018): the R2 sequence.
    """
    # Neighbouring places take distant terms of the sequence, so that every part of a tile sees the whole sky.
    order = np.array([0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5])  # Bayer's ordered dither
    term = order * rays + ray + 0.5
    return term * 0.7548776662466927 % 1, term * 0.5698402909980532 % 1


def _smoothed(
    values: NDArray[np.floating], pixels: IntArray, depths: Float32Array, size: tuple[int, int]
) -> Float32Array:
    """Average `values` over tiles, but not across jumps of depth. Other pixels take a neighbour's value, else 1."""
    width, height = size
    flat = np.zeros((3, height * width), dtype=np.float32)
    flat[0, pixels], flat[1, pixels], flat[2, pixels] = values, depths, 1
    once = _tile_means(flat.reshape(3, height, width), first=-(_TILE // 2))
    flat[0, pixels] = once.reshape(-1)[pixels]
    return _tile_means(flat.reshape(3, height, width), first=1 - _TILE // 2)


def _tile_means(layers: Float32Array, *, first: int) -> Float32Array:
    """Return means over the tile that starts `first` pixels off; `layers` (3, H, W) are value, depth, presence."""
    _, height, width = layers.shape
    padded = np.zeros((3, height + 2 * _TILE, width + 2 * _TILE), dtype=np.float32)
    inner = padded[:, _TILE : _TILE + height, _TILE : _TILE + width]
    inner[:] = layers
    total, weight = np.zeros((2, height, width), dtype=np.float32)
    for down in range(_TILE):
        for right in range(_TILE):
            top, left = _TILE + down + first, _TILE + right + first
            value, depth, there = padded[:, top : top + height, left : left + width]
            alike = there * (np.abs(depth - inner[1]) < 0.02) + 1e-6 * there
            total += alike * value
            weight += alike
    return np.divide(total, weight, out=np.ones_like(total), where=weight > 0)


def _enlarged(small: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Return linear factors at half resolution as factors of stored colours at `size`, bilinear."""
    from PIL import Image

    width, height = size
    doubled = Image.fromarray(small ** np.float32(1 / GAMMA)).resize(
        (2 * small.shape[1], 2 * small.shape[0]), Image.Resampling.BILINEAR
    )
    return np.asarray(doubled, dtype=np.float32)[:height, :width]
