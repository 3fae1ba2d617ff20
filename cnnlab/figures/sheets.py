"""Plain sheets of many images without captions, and an animation of sheets, for generative models during training."""

import math
import pathlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image

from cnnlab.files import replace_file

GAP = 2
"""Pixels between two images, before enlargement."""
PAPER = 255
SMALLEST = 56
"""Least height in pixels to which images are enlarged, by whole factors."""
FILM_SECONDS = 6.0
LAST_SECONDS = 2.0
"""How long an animation shows its last sheet."""


def sheet(images: np.ndarray, *, columns: int | None = None) -> np.ndarray:
    """Arranges images f32 [N, H, W, C] in [0, 1] side by side, as square as possible: u8 [height, width, 3].

    Args:
        images: values outside [0, 1] are clipped, NaN is black; C = 1 is drawn grey, C = 3 in colour.
        columns: number of images in a row; None: about the square root of N, with full rows where that is possible.
    """
    count, height, width, channels = images.shape
    columns = columns or _columns(count)
    rows = math.ceil(count / columns)
    pixels = np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)) if channels == 1 else pixels  # [N, H, W, 3]
    page = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), PAPER, np.uint8)
    for number, image in enumerate(pixels):
        top, left = (GAP + place * (side + GAP) for place, side in zip(divmod(number, columns), (height, width), strict=True))
        page[top : top + height, left : left + width] = image
    factor = max(1, math.ceil(SMALLEST / height))
    # every pixel becomes factor x factor pixels
    return page.repeat(factor, axis=0).repeat(factor, axis=1)


def _columns(count: int) -> int:
    root = math.ceil(math.sqrt(count))
    return next((columns for columns in range(root, 2 * root) if count % columns == 0), root)


def animate(frames: Sequence[pathlib.Path], target: pathlib.Path) -> None:
    """Writes a WebP animation of pictures of one size, with a progress bar beneath."""
    images = []
    for number, path in enumerate(frames):
        picture = np.asarray(Image.open(path).convert("RGB"))
        bar = np.full((6, picture.shape[1], 3), PAPER, np.uint8)
        bar[2:, : round(picture.shape[1] * (number + 1) / len(frames))] = 96
        images.append(Image.fromarray(np.concatenate([picture, bar])))
    each = round(1000 * FILM_SECONDS / len(images))
    durations = [*[each] * (len(images) - 1), round(1000 * LAST_SECONDS)]

    def write(file: BinaryIO) -> None:
        images[0].save(file, format="WEBP", save_all=True, append_images=images[1:], duration=durations, loop=0, lossless=True)

    replace_file(target, write)
