"""Boxes as arrays: areas, overlaps, codes of boxes against anchors, clipping.

A box is f32 [4], its corners (x1, y1, x2, y2) in pixels, x to the right and y down, continuous, so that its width is x2 − x1.
Everything is computed in f32 at least: in bf16 the overlap of two boxes is wrong in its second digit.

Letters in shapes: N boxes, M other boxes; a leading `...` is any number of axes.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cnnlab.ops.bounds import at_least, at_most
from cnnlab.ops.precision import at_least_f32

VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""Units of the codes (x, y, width, height) of SSD (Liu et al. 2016, arXiv 1512.02325) and of Fast R-CNN's boxes, in whose code
they are standard deviations of the targets; 1 / variance is torchvision's weight. Those of a proposal network are 1."""
LARGEST_LOG_SCALE = math.log(1000 / 16)
"""Logarithm of the largest factor by which a decoded box may exceed its anchor, as in torchvision and detectron2."""


def areas(boxes: jax.Array) -> jax.Array:
    """Returns the areas of boxes [..., 4] in square pixels, f32 [...]; 0 where a side is not positive."""
    boxes = at_least_f32(boxes)
    return _area(boxes[..., :2], boxes[..., 2:])


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the intersection over union of every pair of boxes, f32 [..., N, M]; 0 where the union is empty.

    Args:
        a: corners [..., N, 4].
        b: corners [..., M, 4], with the same number of axes.
    """
    return iou_of_pairs(a[..., :, None, :], b[..., None, :, :])  # [..., N, 1, 4] and [..., 1, M, 4] -> [..., N, M]


def iou_of_pairs(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the intersection over union of each box of a [..., 4] with that in its place of b [..., 4], f32 [...]."""
    intersection, union = _overlap(at_least_f32(a), at_least_f32(b))
    return _ratio(intersection, union)


def covered(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the share of the area of each box of a [..., N, 4] that lies in each of b [..., M, 4], f32 [..., N, M]."""
    one, other = at_least_f32(a)[..., :, None, :], at_least_f32(b)[..., None, :, :]
    return _ratio(_overlap(one, other)[0], areas(one))  # [..., N, M] and [..., N, 1]


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the generalised IoU of each box of a [..., 4] with that in its place of b [..., 4], f32 [...] in [-1, 1].

    It is IoU − (C − U) / C, U the area of the union and C that of the smallest box around both (Rezatofighi et al. 2019, arXiv
    1902.09630, algorithm 1), and 0 where C is empty.
    """
    a, b = at_least_f32(a), at_least_f32(b)
    intersection, union = _overlap(a, b)
    hull = _area(at_most(a[..., :2], b[..., :2]), at_least(a[..., 2:], b[..., 2:]))
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def centres(boxes: jax.Array) -> jax.Array:
    """Returns corners [..., 4] as (centre x, centre y, width, height), f32 [..., 4]."""
    boxes = at_least_f32(boxes)
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([0.5 * (low + high), high - low], axis=-1)


def corners(boxes: jax.Array) -> jax.Array:
    """Returns (centre x, centre y, width, height) [..., 4] as corners, f32 [..., 4]."""
    boxes = at_least_f32(boxes)
    middle, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return jnp.concatenate([middle - half, middle + half], axis=-1)


def encode(boxes: jax.Array, anchors: jax.Array, variances: Sequence[float] = VARIANCES) -> jax.Array:
    """Returns boxes as codes: the shift of the centre by anchor sides and the log of the scale, each divided by its variance.

    Girshick et al. 2014 (arXiv 1311.2524), appendix C, eq. 6 to 9. The log of a side is 0 where it or the anchor's is not
    positive, so that places without a box give finite codes and gradients.

    Args:
        boxes: corners [..., 4].
        anchors: corners [..., 4] of positive area, which broadcast to boxes.
        variances: units of the four numbers.

    Returns:
        f32 [..., 4], (x, y, width, height).
    """
    boxes, anchors = centres(boxes), centres(anchors)
    usable = anchors[..., 2:] > 0
    sides = jnp.where(usable, anchors[..., 2:], 1.0)
    shift = (boxes[..., :2] - anchors[..., :2]) / sides
    has_side = usable & (boxes[..., 2:] > 0)
    scale = jnp.log(jnp.where(has_side, boxes[..., 2:], 1.0) / jnp.where(has_side, sides, 1.0))
    codes = jnp.concatenate([shift, scale], axis=-1)
    return codes / _row(variances, codes)


def decode(codes: jax.Array, anchors: jax.Array, variances: Sequence[float] = VARIANCES) -> jax.Array:
    """Returns the corners f32 [..., 4] of codes f32 [..., 4] of `encode` against anchors [..., 4], which broadcast to them.

    A box is at most e^LARGEST_LOG_SCALE = 62.5 times as wide or high as its anchor, which keeps it finite.
    """
    codes, anchors = at_least_f32(codes), centres(anchors)
    codes = codes * _row(variances, codes)
    middle = anchors[..., :2] + codes[..., :2] * anchors[..., 2:]
    sides = anchors[..., 2:] * jnp.exp(at_most(codes[..., 2:], LARGEST_LOG_SCALE))
    return corners(jnp.concatenate([middle, sides], axis=-1))


def clipped(boxes: jax.Array, size: tuple[int, int] | jax.Array) -> jax.Array:
    """Returns boxes [..., 4] without what is beyond the image, f32 [..., 4]; one that is wholly beyond has no area.

    Args:
        boxes: corners [..., 4].
        size: (H, W) in pixels, a tuple or an array [2].
    """
    boxes = at_least_f32(boxes)
    height, width = size[0], size[1]
    sides = jnp.stack([jnp.asarray(side, boxes.dtype) for side in (width, height, width, height)])
    bound = jnp.broadcast_to(sides, boxes.shape)  # [4] -> [..., 4]
    return at_most(at_least(boxes, 0.0), bound)


def _area(low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns the areas [...] between the corners low and high [..., 2]."""
    sides = at_least(high - low, 0.0)
    return sides[..., 0] * sides[..., 1]


def _overlap(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the areas of the intersections and of the unions of boxes [..., 4], each [...]."""
    intersection = _area(at_least(a[..., :2], b[..., :2]), at_most(a[..., 2:], b[..., 2:]))
    return intersection, areas(a) + areas(b) - intersection


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns part / whole where the whole is positive, else 0 with the gradient 0."""
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1.0), 0.0)


def _row(numbers: Sequence[float], like: jax.Array) -> jax.Array:
    """Returns numbers [4] as an array with the axes [1, …, 1, 4] and the dtype of another."""
    return jnp.asarray(numbers, like.dtype).reshape((1,) * (like.ndim - 1) + (4,))
