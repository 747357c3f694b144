"""Drawing through GL: pyrender off screen, on a graphics card or on Mesa's software driver.

pyrender is imported where it is first used: it reads `PYOPENGL_PLATFORM` then, and `import sdfnet` must not need GL.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import numpy as np

from sdfnet.rendering.camera import Camera
from sdfnet.rendering.scene import Layer, Scene
from sdfnet.rendering.style import AMBIENT, LIGHTS


class GLUnavailableError(RuntimeError):
    """No GL library, no driver or no display; the message says what to install.

    >>> raise GLUnavailableError("no driver")
    Traceback (most recent call last):
        ...
    sdfnet.rendering.pyrender_backend.GLUnavailableError: no driver
    """


class GLCanvas:
    """A GL context that draws any number of pictures. Call `close` after use, because few contexts can exist at once.

    Raises
    ------
    GLUnavailableError
        No context can be made here.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        if sys.platform.startswith("linux"):  # work without a display, unless the user has chosen otherwise
            os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
            os.environ.setdefault("PYGLET_HEADLESS", "1")
        # PyOpenGL warns at each start that an optional accelerator is missing; nothing here would be faster with it.
        logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)
        try:
            import pyrender

            self._pyrender: Any = pyrender
            self._renderer: Any = pyrender.OffscreenRenderer(*size)
            self._light_node = _ordered_node(pyrender)
        # PyOpenGL, pyglet and the driver each fail in their own ways: a missing library as ImportError, AttributeError
        # or OSError, a missing driver as GLError, IndexError or AssertionError, a missing display as pyglet's own.
        except Exception as error:
            raise GLUnavailableError(
                f"{_what_is_missing(error)}. On Debian or Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri"
            ) from error

    @property
    def driver(self) -> str:
        """The name of the driver, as GL gives it."""
        from OpenGL.GL import GL_RENDERER, glGetString

        self._renderer._platform.make_current()
        return str(glGetString(GL_RENDERER).decode("utf-8", "replace"))

    def draw(self, scene: Scene, camera: Camera, *, roughness: float) -> Layer:
        """Draw `scene` with four samples per pixel."""
        stage = self._stage(scene, camera, roughness)
        image, depth = self._renderer.render(stage, flags=self._pyrender.RenderFlags.RGBA)
        image = image.astype(np.float32) / 255
        far = np.where(depth > 0, depth, np.inf).astype(np.float32)  # pyrender says 0 where there is nothing
        return Layer(np.ascontiguousarray(image[..., :3]), np.ascontiguousarray(image[..., 3]), far)

    def close(self) -> None:
        """Delete the context. Closing twice does nothing."""
        if self._renderer is not None:
            self._renderer.delete()
            self._renderer = None

    def _stage(self, scene: Scene, camera: Camera, roughness: float) -> Any:
        pyrender, axes = self._pyrender, camera.axes
        stage = pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 0.0], ambient_light=list(AMBIENT))
        material = pyrender.MetallicRoughnessMaterial(
            baseColorFactor=[1.0, 1.0, 1.0, 1.0], metallicFactor=0.0, roughnessFactor=roughness, doubleSided=True
        )
        opaque = np.ones((len(scene.albedo), 1), dtype=np.float32)
        primitive = pyrender.Primitive(
            positions=scene.vertices,
            normals=scene.normals,
            color_0=np.hstack([scene.albedo, opaque]),
            indices=scene.faces,
            material=material,
        )
        stage.add(pyrender.Mesh([primitive]))
        depths = 1 - scene.vertices @ axes[2].astype(np.float32)
        near, far = max(float(depths.min()) * 0.95, 1e-3), max(float(depths.max()) * 1.05, 2e-3)
        slopes = camera.slopes((self._renderer.viewport_width, self._renderer.viewport_height))
        lens = pyrender.PerspectiveCamera(
            yfov=2 * float(np.arctan(slopes[1])), aspectRatio=float(slopes[0] / slopes[1]), znear=near, zfar=far
        )
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = axes.T, axes[2]
        stage.add(lens, pose=pose)
        for number, light in enumerate(LIGHTS):
            lamp = pyrender.DirectionalLight(color=list(light.color), intensity=light.intensity)
            stage.add_node(self._light_node(name=str(number), light=lamp, matrix=_pose_of_light(light.unit @ axes)))
        return stage


def _ordered_node(pyrender: Any) -> Any:
    """Return a class of nodes whose hash is their name, a number.

    pyrender adds its lights up in the order of a set. The default hash of an object is its address, so that order
    changes from picture to picture. The last bit of the sum would change too, and two equal pictures could differ in a
    byte.
    """

    class OrderedNode(pyrender.Node):
        def __hash__(self) -> int:
            return int(self.name)

    return OrderedNode


def _pose_of_light(toward: np.ndarray) -> np.ndarray:
    """Return a pose (4, 4) whose z axis points `toward` the light: a lamp shines along its own -z."""
    other = np.eye(3)[np.abs(toward).argmin()]
    across = np.cross(other, toward)
    across /= np.linalg.norm(across)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([across, np.cross(toward, across), toward], axis=1)
    return pose


def _what_is_missing(error: Exception) -> str:
    """Return in words why there is no context, with the original message."""
    message = " ".join(str(error).split())[:160]
    detail = f"({type(error).__name__}: {message})"
    platform = os.environ.get("PYOPENGL_PLATFORM")
    if platform not in (None, "egl", "osmesa"):
        return f"PYOPENGL_PLATFORM={platform} is not one that draws off screen {detail}; unset it, or set it to egl"
    if isinstance(error, ImportError | AttributeError | OSError):
        return f"the GL libraries are missing {detail}"
    return f"no GL driver or display answers {detail}"
