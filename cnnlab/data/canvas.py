"""Images of unequal sizes on one canvas: each keeps its aspect ratio and lies in the upper left corner, padded with zeros.

Training takes random crops of the canvas (variations/crop.py), evaluation all of it. What lies outside of an image is ignored
in masks, so an image counts at its own size. The column `extent` says how much of the canvas it fills.
"""

import dataclasses
import functools

import numpy as np

from cnnlab.data.kinds.extent import EXTENT, Extent
from cnnlab.data.normalize import Normalisation
from cnnlab.data.placement import scaled_side
from cnnlab.data.resize import Fit, canvas, settings_of
from cnnlab.data.source import Source, Split, sizes_of
from cnnlab.errors import DataError, UsageError

SIDES = ("height", "width")


def on_canvas(source: Source, fit: Fit, size: int | None) -> tuple[Source, Fit, int | None]:
    """Returns a source with the column `extent`, the rule with the size of the canvas, and the longer side of it.

    Where the rule is another one, all three come back as they are. Raises UsageError for an --image_size beside it and for a
    canvas that is too small, DataError where the sizes of images are not known before they are decoded.
    """
    settings = settings_of(fit)
    if settings["name"] != "canvas":
        return source, fit, size
    if size:
        raise UsageError(
            f"--image_size={size}: --image_fit=canvas keeps the sizes of images, on a canvas as large as the largest one.\n"
            "Leave --image_size out. Images become smaller by --image_fit.scale=0.5, say, and training takes crops of one size "
            "by --augment=random_crop."
        )
    extents = {split: _scaled(source.name, part, settings["scale"]) for split, part in source.splits.items()}
    largest = np.max([sides.max(axis=0) for sides in extents.values()], axis=0).tolist()  # [height, width]
    sides = {name: settings[name] or _rounded_up(side, settings["multiple"]) for name, side in zip(SIDES, largest, strict=True)}
    if any(sides[name] < side for name, side in zip(SIDES, largest, strict=True)):
        raise UsageError(
            f"--image_fit=canvas: the canvas has {sides['height']} x {sides['width']} pixels (height x width), and the images "
            f"of {source.name} up to {largest[0]} x {largest[1]}.\n"
            "Leave --image_fit.height and --image_fit.width out, or give a smaller --image_fit.scale."
        )
    height, width = (sides[name] for name in SIDES)
    rule: Fit = functools.partial(canvas, scale=settings["scale"], multiple=settings["multiple"], height=height, width=width)
    splits = {split: part.having(**{EXTENT: extents[split]}) for split, part in source.splits.items()}
    found = dataclasses.replace(source, splits=splits, kinds={**source.kinds, EXTENT: Extent()})
    return found, rule, max(sides.values())


def _scaled(name: str, part: Split, scale: float) -> np.ndarray:
    """Returns (H, W) of each image of a split after it was scaled, i32 [N, 2]."""
    sizes = sizes_of(part.images)
    if sizes is None:
        raise DataError(
            f"--image_fit=canvas: the sizes of the images of {name} are not known before they are decoded.\n"
            "Expected images in files, in an array, or LazyImages with `sizes` i32 [N, 2]. Give --image_size, and take "
            "--image_fit=resize."
        )
    sides = [[scaled_side(side, scale) for side in size] for size in sizes.tolist()]
    return np.array(sides, np.int32).reshape(-1, 2)


def _rounded_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def without_padding(normalisation: Normalisation, extents: np.ndarray, shape: tuple[int, ...]) -> Normalisation:
    """Returns mean and deviation of the channels of images without the zeros around them.

    Args:
        normalisation: mean and deviation f32 [1, 1, 1, C] of whole canvases.
        extents: (H, W) of each image, i32 [N, 2].
        shape: (H, W, C) of the canvas.
    """
    share = float(np.mean(np.prod(extents.astype(np.float64), axis=1)) / (shape[0] * shape[1]))
    mean, deviation = (part.astype(np.float64) for part in normalisation[:2])
    squares = (np.square(deviation) + np.square(mean)) / share  # zeros add nothing to the sum of squares
    own = np.sqrt(np.maximum(squares - np.square(mean / share), 0.0))
    return (mean / share).astype(np.float32), np.where(own > 0, own, deviation).astype(np.float32)
