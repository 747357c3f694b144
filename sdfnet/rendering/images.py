"""Pictures as arrays: reading and writing their files, and contact sheets of many pictures in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import atomic_path
from sdfnet.rendering.style import Style

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

INK = (70, 72, 76)
"""The colour of letters."""

_GAP = 8  # pixels around each picture of a contact sheet


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ValueError unless `image` is (H, W, 3) uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image must have shape (H, W, 3), got {image.shape}")
    if image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8, got {image.dtype}")


def save_image(image: NDArray[np.uint8], path: str | Path) -> None:
    """Write `image` (H, W, 3) uint8 to `path`, whole or not at all; the suffix chooses the format.

    Raises
    ------
    ValueError
        A suffix not in IMAGE_SUFFIXES, an array that is no image, or a folder that cannot be written to.

    >>> save_image(np.zeros((4, 6, 3), dtype=np.uint8), "black.png")
    >>> load_image("black.png").shape
    (4, 6, 3)
    """
    from PIL import Image

    check_image(image)
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f"cannot write a picture as {Path(path).name!r}; choose one of {', '.join(IMAGE_SUFFIXES)}")
    # Pillow's "optimize" makes a PNG 5 % smaller in eight times the time.
    options: dict[str, Any] = {"quality": 92} if suffix in (".jpg", ".jpeg", ".webp") else {}
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, **options)


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Return the picture at `path` as (H, W, 3) uint8.

    Raises
    ------
    ValueError
        There is no such file, or it is no picture.

    >>> save_image(np.full((2, 2, 3), 255, dtype=np.uint8), "white.png")
    >>> int(load_image("white.png").min())
    255
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB")).copy()
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"cannot read the picture {path}: {error}") from error


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], *, columns: int | None = None, labels: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """Return one sheet with `images` (H, W, 3) uint8 of equal size, row by row, each above its label if there is one.

    Parameters
    ----------
    columns : int, optional
        By default, a number that makes the sheet about as wide as high if the pictures have the shape of a screen.
    labels : sequence of str, optional
        One label for each image. A label that is too long is shortened with an ellipsis.

    Raises
    ------
    ValueError
        No images, unequal sizes, or a number of labels that is not that of the images.

    >>> contact_sheet([np.zeros((30, 40, 3), np.uint8)] * 5, columns=3).shape
    (84, 152, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    if not len(images):
        raise ValueError("a contact sheet needs at least one image, got none")
    for number, image in enumerate(images):
        check_image(image)
        if image.shape != images[0].shape:
            raise ValueError(
                f"all images must have one size; image 0 has {images[0].shape}, image {number} has {image.shape}"
            )
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels must name each of the {len(images)} images, got {len(labels)}")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    columns = min(columns, len(images))
    height, width = images[0].shape[:2]
    letters = max(11, min(28, width // 18))
    down, right = height + _GAP + (0 if labels is None else 2 * letters), width + _GAP
    size = (columns * right + _GAP, math.ceil(len(images) / columns) * down + _GAP)
    sheet = Image.new("RGB", size, tuple(round(255 * channel) for channel in Style().background))
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=letters)
    for number, image in enumerate(images):
        left, top = _GAP + number % columns * right, _GAP + number // columns * down
        sheet.paste(Image.fromarray(image), (left, top))
        if labels is not None:
            text = _shortened(labels[number], pen, font, width)
            pen.text((left + width / 2, top + height + letters), text, fill=INK, font=font, anchor="mm")
    return np.asarray(sheet).copy()


def _shortened(label: str, pen: Any, font: Any, width: int) -> str:
    """Return `label` on one line, with its middle left out where it is wider than `width` pixels."""
    text = " ".join(label.split())
    line, kept = text, len(text)
    while kept > 1 and pen.textlength(text, font=font) > width:
        kept -= 1
        text = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
    return text
