"""Resizes and pads images on the host, before anything else, in NumPy, so that machines get the same pixels.

The sums run in the order of the machine's BLAS: 1 to 18 of 2.95 million values differed by one grey level between processors.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np

from cnnlab.data.source import Images
from cnnlab.errors import UsageError

Fit = Literal["resize", "pad"]
CHUNK = 1024


def fit_images(images: Images, size: int, how: Fit) -> Images:
    """Brings images to one size, [N, H, W, C] -> [N, size, size, C]; lazily decoded images stay lazy and may differ in size."""
    one = resize if how == "resize" else pad
    if not isinstance(images, np.ndarray):
        read, shape = images.read, (size, size, images.image_shape[2])
        return dataclasses.replace(
            images, read=lambda positions: [one(image[None], size)[0] for image in read(positions)], image_shape=shape
        )
    out = np.empty((len(images), size, size, images.shape[3]), images.dtype)
    for start in range(0, len(images), CHUNK):
        out[start : start + CHUNK] = one(images[start : start + CHUNK], size)
    return out


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes bilinearly, [B, H, W, C] -> [B, size, size, C]; the sides are scaled separately, so the aspect ratio may change.

    Downscaling averages over the whole area that a pixel covers (triangle filter, as Pillow's `BILINEAR`), without aliasing.
    """
    rows, columns = _weights(images.shape[1], size), _weights(images.shape[2], size)
    # [size, H] x [B, H, W, C] -> [B, size, W, C], then [size, W] x [B, size, W, C] -> [B, size, size, C]
    out = np.einsum("ah,bhwc->bawc", rows, images.astype(np.float32), optimize=True)
    out = np.einsum("dw,bawc->badc", columns, out, optimize=True)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8) if images.dtype == np.uint8 else out


def pad(images: np.ndarray, size: int) -> np.ndarray:
    """Centres images in zeros, [B, H, W, C] -> [B, size, size, C]; an odd row or column of padding goes below or to the right.

    LeCun et al. (1998, section II.B) pad digits of 28 x 28 to 32 x 32 in this way.
    """
    height, width = images.shape[1:3]
    if max(height, width) > size:
        raise UsageError(
            f"images of {height} x {width} cannot be padded to {size} x {size}.\n"
            f"Expected image_size >= {max(height, width)}. Give a larger --image_size, or --image_fit=resize."
        )
    top, left = (size - height) // 2, (size - width) // 2
    return np.pad(images, ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0)))


@functools.lru_cache(maxsize=256)
def _weights(source: int, target: int) -> np.ndarray:
    """Returns f32 [target, source]: the weight of each source pixel in each target pixel; rows sum to 1."""
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio - 0.5
    distance = np.abs(np.arange(source) - centres[:, None]) / max(ratio, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
