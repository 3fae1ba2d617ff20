"""Where an image lies within the fitted one: by this, masks, boxes and points follow images that are brought to one size."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlab.errors import DataError, UsageError

AREA_UNIT = 2.0**16
"""Parts into which the side of a pixel is divided when areas are measured."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """A point (x, y) of the image lies at (x * scale[1] + offset[1], y * scale[0] + offset[0]) of the fitted one."""

    scale: tuple[float, float]
    """(down, right)."""
    offset: tuple[float, float]
    """(down, right) in pixels of the fitted image."""
    size: tuple[int, int]
    """(H, W) of the fitted image."""
    image: tuple[int, int]
    """(H, W) of the image itself."""


def placement(fit: Mapping[str, Any], shape: tuple[int, int], size: int) -> Placement:
    """Returns where an image of `shape` (H, W) lies after one of the rules of resize.py, given its settings."""
    height, width = shape
    name, target = fit["name"], (size, size)
    if name == "none":
        return Placement((1.0, 1.0), (0.0, 0.0), shape, shape)
    if name == "resize":
        return Placement((size / height, size / width), (0.0, 0.0), target, shape)
    if name == "pad":
        return Placement((1.0, 1.0), (float((size - height) // 2), float((size - width) // 2)), target, shape)
    if name == "crop":
        short = int(size / fit["fraction"])
        tall, wide = (short * side // min(height, width) for side in (height, width))
        top, left = round((tall - size) / 2), round((wide - size) / 2)
        return Placement((tall / height, wide / width), (-float(top), -float(left)), target, shape)
    if name == "canvas":
        down, right = (scaled_side(side, fit["scale"]) / side for side in shape)
        return Placement((down, right), (0.0, 0.0), (fit["height"], fit["width"]), shape)
    raise UsageError(
        f"--image_fit={name}: masks, boxes and points cannot follow images through a rule that cnnlab does not know.\n"
        "Expected resize, pad, crop or canvas. Choose one of them, or bring images and columns to one size in the data set."
    )


def scaled_side(side: int, scale: float) -> int:
    """Returns a side of an image on the canvas, in pixels: one at least."""
    return max(1, int(side * scale + 0.5))


def moved_points(points: np.ndarray, place: Callable[[int], Placement]) -> np.ndarray:
    """Returns the points f32 [N, …, 2], (x, y), of N images on their fitted images."""
    places = [place(number) for number in range(len(points))]
    middle = (1,) * (points.ndim - 2)
    scale = np.array([one.scale[::-1] for one in places], np.float32).reshape(-1, *middle, 2)  # [N, 2] -> [N, …, 2]
    offset = np.array([one.offset[::-1] for one in places], np.float32).reshape(-1, *middle, 2)  # as scale
    return points * scale + offset


def inside(points: np.ndarray, place: Callable[[int], Placement]) -> np.ndarray:
    """Returns whether each of the points f32 [N, M, 2] lies on the fitted image, bool [N, M]."""
    sides = np.array([place(number).size[::-1] for number in range(len(points))], np.float32)  # [N, 2]: width, height
    return np.all((points >= 0) & (points < sides[:, None]), axis=-1)


def nearest(values: Any, place: Callable[[int], Placement], *, outside: int) -> Any:
    """Brings maps [N, …, H, W] onto the fitted images by the nearest pixel; maps that are decoded on request stay lazy."""
    return _each_map(values, place, lambda value, one: _nearest(value, one, outside))


def by_area(values: Any, place: Callable[[int], Placement], *, classes: int, outside: int) -> Any:
    """Brings masks [N, H, W] onto the fitted images: each pixel is the class of the largest part of its area.

    Of classes with equal parts it is the last one, so that thin objects stay. Masks that are decoded on request stay lazy.

    Args:
        values: numbers of classes, or `outside`.
        place: position in the split -> where the image lies within the fitted one.
        classes: number of classes.
        outside: value of pixels that do not count, and of what lies outside of the image.
    """
    return _each_map(values, place, lambda value, one: _by_area(value, one, classes, outside))


def _each_map(values: Any, place: Callable[[int], Placement], fit: Callable[[np.ndarray, Placement], np.ndarray]) -> Any:
    """Returns maps [N, …, H, W] brought onto the fitted images by a function of one map and its placement."""
    if isinstance(values, np.ndarray):
        return np.stack([_fitted(value, place(number), fit, f"mask {number}") for number, value in enumerate(values)])

    def read(positions: list[int]) -> list[np.ndarray]:
        return [
            _fitted(value, place(position), fit, values.names[position] if values.names else f"mask {position}")
            for position, value in zip(positions, values.read(positions), strict=True)
        ]

    size = place(0).size if len(values) else values.image_shape[-2:]
    return dataclasses.replace(values, read=read, image_shape=(*values.image_shape[:-2], *size))


def _fitted(value: np.ndarray, place: Placement, fit: Callable[[np.ndarray, Placement], np.ndarray], name: str) -> np.ndarray:
    """Brings one map [..., H, W] onto the fitted image; raises DataError where its image has another size."""
    if value.shape[-2:] != tuple(place.image):
        (height, width), (high, wide) = value.shape[-2:], place.image
        raise DataError(
            f"{name} is {width} x {height} pixels, and its image {wide} x {high}.\n"
            "Expected a value for each pixel of the image. Write both at one size."
        )
    return fit(value, place)


def _nearest(value: np.ndarray, place: Placement, outside: int) -> np.ndarray:
    """Brings one map [..., H, W] onto the fitted image by the nearest pixel."""
    chosen, is_inside = [], []
    for axis, target in enumerate(place.size):
        length = value.shape[axis - 2]
        # The middle of each pixel of the result, in pixels of the map.
        source = np.floor((np.arange(target) + 0.5 - place.offset[axis]) / place.scale[axis]).astype(int)
        is_inside.append((source >= 0) & (source < length))
        chosen.append(np.clip(source, 0, length - 1))
    # [..., H, W] at rows [H', 1] and columns [1, W'] -> [..., H', W']
    found = value[..., chosen[0][:, None], chosen[1][None, :]]
    return np.where(is_inside[0][:, None] & is_inside[1][None, :], found, np.asarray(outside, value.dtype))


def _by_area(mask: np.ndarray, place: Placement, classes: int, outside: int) -> np.ndarray:
    """Brings one mask [H, W] onto the fitted image by the largest part of each pixel's area, u8 [H', W']."""
    down, right = (
        _covered(mask.shape[axis], place.size[axis], place.scale[axis], place.offset[axis]) for axis in (0, 1)
    )  # [H', H] and [W', W]
    parts = [down @ (mask == number).astype(np.float64) @ right.T for number in range(classes)]
    rest = AREA_UNIT**2 - sum(parts)  # what is ignored, or lies outside of the image
    # K + 1 of [H', W'] -> [H', W']: the largest part; of equal ones the last class, since the first is the background as a rule
    found = classes - 1 - np.argmax(np.stack([*parts[::-1], rest]), axis=0)
    return np.where(found < 0, outside, found).astype(mask.dtype)


def _covered(length: int, target: int, scale: float, offset: float) -> np.ndarray:
    """Returns how much of each pixel of the result each pixel of an axis covers, f64 [target, length].

    The parts are whole numbers of 1 / AREA_UNIT, so that sums of their products are exact and the same on every machine.
    """
    edges = np.arange(length + 1) * scale + offset
    start = np.arange(target)[:, None]
    low, high = np.maximum(edges[None, :-1], start), np.minimum(edges[None, 1:], start + 1)
    return np.rint(np.maximum(high - low, 0.0) * AREA_UNIT)
