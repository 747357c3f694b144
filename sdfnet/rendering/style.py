"""The style of pictures: colour, background and lights, and the shading that both ways of drawing share.

Colours are sRGB in [0, 1]. The lights turn with the camera, so that every frame of a turntable is well lit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import Float32Array, FloatArray

Color = tuple[float, float, float]

GAMMA = 2.2
"""Linear light is the stored colour to this power, as in pyrender's shader."""

_DIELECTRIC = 0.04  # reflectance at normal incidence, as in pyrender's shader


@dataclass(frozen=True)
class Light:
    """A directional light: the direction toward it in the camera's axes (right, up, back), linear colour, intensity.

    An intensity of pi lights a white matt surface that faces it to full white.
    """

    direction: Color
    color: Color
    intensity: float

    @property
    def unit(self) -> FloatArray:
        return np.array(self.direction) / math.hypot(*self.direction)


LIGHTS = (
    Light((-0.55, 0.75, 0.65), (1.0, 0.95, 0.88), 3.1),  # key
    Light((0.90, 0.15, 0.55), (0.84, 0.92, 1.0), 0.5),  # fill
    Light((0.45, 0.65, -0.85), (1.0, 1.0, 1.0), 1.6),  # rim
    Light((0.0, 1.0, 0.05), (0.90, 0.95, 1.0), 0.6),  # sky
)
"""Key, fill, rim and sky; pyrender takes four at most."""

AMBIENT = (0.17, 0.18, 0.20)


@dataclass(frozen=True)
class Style:
    """How a picture looks.

    Attributes
    ----------
    color : Color
        The colour of surfaces without their own colour.
    background : Color
    roughness : float
        0 is a mirror's highlight, 1 is matt.
    shadows : bool
        Whether to darken creases and to cast a soft shadow on the ground (ray casting, a few tens of milliseconds).

    >>> Style(background=(1, 1, 2))
    Traceback (most recent call last):
    ValueError: background must be three numbers in [0, 1], got (1, 1, 2)
    """

    color: Color = (0.50, 0.67, 0.86)
    background: Color = (0.965, 0.963, 0.957)
    roughness: float = 0.45
    shadows: bool = True

    def __post_init__(self) -> None:
        check_color("color", self.color)
        check_color("background", self.background)
        if not 0 <= self.roughness <= 1:
            raise ValueError(f"roughness must be in [0, 1], got {self.roughness}")


def check_color(name: str, color: Color) -> None:
    """Raise ValueError unless `color` is three numbers in [0, 1]."""
    if len(color) != 3 or not all(0 <= channel <= 1 for channel in color):
        raise ValueError(f"{name} must be three numbers in [0, 1], got {color}")


def to_linear(colors: NDArray[np.floating]) -> Float32Array:
    """Return stored colours as linear light."""
    return np.power(np.asarray(colors, dtype=np.float32), np.float32(GAMMA))


def shade(
    normals: Float32Array,
    toward: Float32Array,
    albedo: Float32Array,
    *,
    axes: FloatArray,
    roughness: float,
) -> Float32Array:
    """Return stored colours (N, 3) of surface points under LIGHTS and AMBIENT.

    The twin of pyrender's shader (metallic-roughness, not metallic), so that pictures with and without GL agree.

    Parameters
    ----------
    normals, toward : (N, 3) float32
        Unit surface normals, and unit directions to the camera.
    albedo : (N, 3) float32, linear
    axes : (3, 3)
        The camera's axes as rows, in the frame of the normals.

    References
    ----------
    B. Karis, "Real Shading in Unreal Engine 4" (2013): GGX distribution, Schlick's Fresnel and Smith terms.
    """
    a2 = np.float32(max(roughness, _DIELECTRIC) ** 4)
    k = np.float32((max(roughness, _DIELECTRIC) ** 2 + 1) ** 2 / 8)
    nv = np.clip(np.abs(np.einsum("ij,ij->i", normals, toward)), 0.001, 1)
    matt, gloss = np.zeros_like(albedo), np.zeros_like(albedo)
    for light in LIGHTS:
        direction = (light.unit @ axes).astype(np.float32)
        half = toward + direction
        half /= np.sqrt(np.einsum("ij,ij->i", half, half))[:, None]
        nl = np.clip(normals @ direction, 0.001, 1)
        nh = np.clip(np.einsum("ij,ij->i", normals, half), 0, 1)
        vh = np.clip(np.einsum("ij,ij->i", toward, half), 0, 1)
        fresnel = _DIELECTRIC + (1 - _DIELECTRIC) * (1 - vh) ** 5
        masking = nv / (nv * (1 - k) + k) * nl / (nl * (1 - k) + k)
        spread = a2 / (np.pi * (nh * nh * (a2 - 1) + 1) ** 2)
        radiance = np.array(light.color, dtype=np.float32) * np.float32(light.intensity)
        matt += (nl * (1 - fresnel) / np.pi)[:, None] * radiance
        gloss += (nl * fresnel * masking * spread / (4 * nl * nv + 0.001))[:, None] * radiance
    # pyrender multiplies everything by the vertex colour, the highlight included.
    linear = albedo * ((1 - _DIELECTRIC) * matt + np.array(AMBIENT, dtype=np.float32) + gloss)
    return np.clip(linear, 0, 1) ** np.float32(1 / GAMMA)
