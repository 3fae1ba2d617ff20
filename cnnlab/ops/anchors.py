"""Anchors: the boxes against which a detector predicts, NumPy constants of the static shapes of its feature maps.

They are built while a program is traced, f32 [N, 4], corners (x1, y1, x2, y2) in pixels. Cells are in the order of a feature
map's rows, and the boxes of one cell lie next to each other: [H, W, A, 4] -> [H·W·A, 4], A boxes a cell.
"""

import math
from collections.abc import Sequence

import numpy as np

from cnnlab.errors import UsageError

Size = tuple[int, int]
"""(H, W) of a feature map or an image."""

SSD300_SIZES: tuple[Size, ...] = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
SSD300_STEPS = (8, 16, 32, 64, 100, 300)
SSD300_SMALLEST = (30, 60, 111, 162, 213, 264)
SSD300_LARGEST = (60, 111, 162, 213, 264, 315)
SSD300_RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
"""The feature maps and default boxes of SSD300 on VOC, in pixels, as its authors' ssd_pascal.py sets them: 8,732 boxes."""


def default_boxes(
    feature_sizes: Sequence[Size],
    image_size: Size,
    smallest: Sequence[float],
    largest: Sequence[float],
    ratios: Sequence[Sequence[float]],
    steps: Sequence[float] | None = None,
    clip: bool = False,
) -> np.ndarray:
    """Returns SSD's default boxes of several feature maps, f32 [N, 4] (Liu et al. 2016, arXiv 1512.02325, section 2.2).

    Each cell has a square of side s, one of side √(s · l), and for each ratio r the boxes of s√r x s/√r and s/√r x s√r.

    Args:
        feature_sizes: (H, W) of each feature map.
        image_size: (H, W) of the image in pixels.
        smallest: s of each map in pixels; in the paper s_k = 0.2 to 0.9 of the image, evenly spaced.
        largest: l of each map in pixels, usually s of the next one.
        ratios: width over height of each map's other boxes, each above 1; its inverse comes along.
        steps: distance in pixels between cells of each map; None: the image's sides divided by the map's. The first centre is
            half a step inside.
        clip: whether the sides are at most the image's, as in torchvision. Boxes may reach beyond the image in any case, as
            in the authors' code.

    Raises:
        UsageError: the lists differ in length, or a number is not positive.
    """
    _require_equal_lengths(feature_sizes=feature_sizes, smallest=smallest, largest=largest, ratios=ratios, steps=steps)
    _require_positive(smallest=smallest, largest=largest, steps=steps, ratios=[each for row in ratios for each in row])
    found = []
    for number, feature_size in enumerate(feature_sizes):
        side, between = smallest[number], math.sqrt(smallest[number] * largest[number])
        sides = [(side, side), (between, between)]  # (width, height)
        for ratio in ratios[number]:
            root = math.sqrt(ratio)
            sides += [(side * root, side / root), (side / root, side * root)]
        extents = np.asarray(sides, np.float64)  # [A, 2]
        if clip:
            extents = np.minimum(extents, np.asarray(image_size[::-1], np.float64))
        by_sides = (image_size[0] / feature_size[0], image_size[1] / feature_size[1])
        step = by_sides if steps is None else (steps[number], steps[number])
        found.append(_spread(feature_size, step, 0.5, np.concatenate([-extents, extents], axis=1) / 2))
    return np.concatenate(found)


def grid_anchors(
    feature_size: Size,
    stride: float | tuple[float, float],
    sizes: Sequence[float],
    ratios: Sequence[float],
    *,
    rounded: bool = True,
    offset: float = 0.0,
) -> np.ndarray:
    """Returns the anchors of a proposal network on one feature map, f32 [N, 4] (Ren et al. 2015, arXiv 1506.01497, 3.1.1).

    Args:
        feature_size: (H, W) of the feature map.
        stride: distance in pixels between cells, or (down, right).
        sizes: square roots of the areas in pixels.
        ratios: height over width (the inverse of `default_boxes`); the boxes of a cell go through the ratios, and for each of
            them through the sizes.
        rounded: whether corners are whole pixels around the centre, as in torchvision, where size 32 at ratio 1/2 is 46 x 22
            instead of 45.25 x 22.63.
        offset: place of a centre in its cell, in strides: 0 is the cell's upper left corner, as in torchvision; 0.5 its middle.

    Raises:
        UsageError: a number is not positive, or a list is empty.
    """
    _require_positive(sizes=sizes, ratios=ratios)
    heights = np.sqrt(np.asarray(ratios, np.float32))[:, None] * np.asarray(sizes, np.float32)[None]  # [R, S]
    widths = (1 / np.sqrt(np.asarray(ratios, np.float32)))[:, None] * np.asarray(sizes, np.float32)[None]
    extents = np.stack([widths.reshape(-1), heights.reshape(-1)], axis=1)  # [R, S] twice -> [R·S, 2]
    around = np.concatenate([-extents, extents], axis=1) / 2
    step = stride if isinstance(stride, tuple) else (stride, stride)
    return _spread(feature_size, step, offset, np.round(around) if rounded else around)


def _spread(feature_size: Size, step: tuple[float, float], offset: float, around: np.ndarray) -> np.ndarray:
    """Returns boxes [A, 4] around the origin at every cell, f32 [H·W·A, 4]."""
    down, right = ((np.arange(cells) + offset) * each for cells, each in zip(feature_size, step, strict=True))
    y, x = np.meshgrid(down, right, indexing="ij")  # [H, W] each
    middle = np.stack([x, y, x, y], axis=-1)
    boxes = middle[:, :, None, :] + around[None, None]  # [H, W, 1, 4] and [1, 1, A, 4] -> [H, W, A, 4]
    return np.asarray(boxes.reshape(-1, 4), np.float32)  # [H, W, A, 4] -> [H·W·A, 4]


def _require_equal_lengths(**lists: Sequence[object] | None) -> None:
    lengths = {name: len(each) for name, each in lists.items() if each is not None}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UsageError(f"default boxes: the lists differ in length: {told}.\nExpected one entry for each feature map.")


def _require_positive(**lists: Sequence[float] | None) -> None:
    for name, numbers in lists.items():
        if numbers is not None and any(not number > 0 for number in numbers):
            raise UsageError(f"anchors: {name} are {list(numbers)}.\nExpected numbers above 0: pixels, or sides over sides.")
        if numbers is not None and not len(numbers) and name == "sizes":
            raise UsageError("anchors: there are no sizes.\nExpected one number of pixels at least, such as sizes=(32,).")
