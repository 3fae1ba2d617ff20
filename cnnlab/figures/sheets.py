"""Plain sheets of many images without words, and a film of sheets: what a generative model makes, as it learns."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

GAP = 2
"""Pixels between two images, before enlargement."""
PAPER = 255
SMALLEST = 56
"""Pixels that an image is enlarged to at least, by whole factors."""
FILM_SECONDS = 6.0
LAST_SECONDS = 2.0
"""How long the last sheet of a film stands."""


def sheet(images: np.ndarray, *, columns: int | None = None) -> np.ndarray:
    """u8 [rows, columns, 3]: images f32 [N, H, W, C] in [0, 1] side by side, as square as may be.

    Args:
        images: values outside [0, 1] are clipped, NaN is black; C = 1 is drawn grey, C = 3 in colour.
        columns: images in a row; None: about the square root of their number, with full rows where that can be.
    """
    count, height, width, channels = images.shape
    columns = columns or _columns(count)
    rows = math.ceil(count / columns)
    pixels = np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)) if channels == 1 else pixels
    page = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), PAPER, np.uint8)
    for number, image in enumerate(pixels):
        top, left = (GAP + place * (side + GAP) for place, side in zip(divmod(number, columns), (height, width), strict=True))
        page[top : top + height, left : left + width] = image
    factor = max(1, math.ceil(SMALLEST / height))
    return page.repeat(factor, axis=0).repeat(factor, axis=1)


def _columns(count: int) -> int:
    root = math.ceil(math.sqrt(count))
    return next((columns for columns in range(root, 2 * root) if count % columns == 0), root)


def animate(frames: Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """A WebP film of pictures of one size, with a bar beneath that grows from the first to the last."""
    images = []
    for number, path in enumerate(frames):
        picture = np.asarray(Image.open(path).convert("RGB"))
        bar = np.full((6, picture.shape[1], 3), PAPER, np.uint8)
        bar[2:, : round(picture.shape[1] * (number + 1) / len(frames))] = 96
        images.append(Image.fromarray(np.concatenate([picture, bar])))
    each = round(1000 * FILM_SECONDS / len(images))
    durations = [*[each] * (len(images) - 1), round(1000 * LAST_SECONDS)]
    images[0].save(target, save_all=True, append_images=images[1:], duration=durations, loop=0, lossless=True)
