"""Features of regions: RoI align and RoI pooling, levels of a feature pyramid, and masks cut out of images and put back.

A box is (x1, y1, x2, y2) in pixels of the image; `scale` is a feature map's size over the image's, such as 1/16. Boxes pass no
gradient, as in all public implementations.

Letters in shapes: H W space, C channels, R boxes, P Q bins down and right, S samples a bin and axis, M objects.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.errors import UsageError
from cnnlab.ops.boxes import areas
from cnnlab.ops.precision import at_least_f32

Bins = int | tuple[int, int]
"""Number of bins down and right; one number for both."""


def roi_align(
    features: jax.Array, boxes: jax.Array, size: Bins, scale: float, samples: int = 2, aligned: bool = True
) -> jax.Array:
    """Returns features of boxes by bilinear interpolation at S² points of each bin, averaged, [R, P, Q, C].

    He et al. 2017 (arXiv 1703.06870), section 3; at the border as torchvision: a point up to one cell beyond the outermost
    centres takes their value, and one further away 0. As the interpolation is separable, it is two matrix products; gathering
    the four neighbours of each point took 1 to 13 times as long with its gradient on two CPU cores.

    Args:
        features: [H, W, C]; half precision is interpolated in f32.
        boxes: corners [R, 4].
        size: P and Q.
        scale: cells over pixels.
        samples: S. torchvision's adaptive number of samples depends on the box and has no static shape.
        aligned: whether centres of cells are at half numbers, as those of pixels are; without, everything is half a cell off
            and boxes are at least one cell large, as in torchvision's Faster R-CNN.

    Raises:
        UsageError: a number of bins or samples is below 1.
    """
    down, right = _weights(features.shape[0], features.shape[1], boxes, size, scale, samples, aligned)
    rows = jnp.einsum("rph,hwc->rpwc", down, at_least_f32(features))
    return jnp.einsum("rqw,rpwc->rpqc", right, rows).astype(features.dtype)


def pyramid_align(
    maps: Sequence[jax.Array],
    boxes: jax.Array,
    level: jax.Array,
    size: Bins,
    scales: Sequence[float],
    samples: int = 2,
    aligned: bool = True,
) -> jax.Array:
    """Returns `roi_align` of each box on its own level of a feature pyramid, [R, P, Q, C].

    Every level is computed for every box and masked, which costs as many times as there are levels, and no gather.

    Args:
        maps: [H, W, C] of each level.
        boxes: corners [R, 4].
        level: which of the maps each box takes, i32 [R] from 0.
        size: P and Q.
        scales: cells over pixels of each level.
        samples: S.
        aligned: as of `roi_align`.

    Raises:
        UsageError: there are not as many scales as maps.
    """
    if len(maps) != len(scales):
        raise UsageError(f"RoI align: {len(maps)} feature maps and {len(scales)} scales.\nExpected one scale for each map.")
    total: jax.Array | None = None
    for number, (features, scale) in enumerate(zip(maps, scales, strict=True)):
        one = roi_align(features, boxes, size, scale, samples, aligned)
        own = jnp.where((level == number)[:, None, None, None], one, jnp.zeros((), one.dtype))  # [R] -> [R, 1, 1, 1]
        total = own if total is None else total + own
    if total is None:
        raise UsageError("RoI align: there is no feature map.\nExpected one at least.")
    return total


def levels(
    boxes: jax.Array, smallest: int = 2, largest: int = 5, *, canonical_side: float = 224.0, canonical_level: int = 4
) -> jax.Array:
    """Returns the level of a feature pyramid for each box, i32 [R] in [smallest, largest] (Lin et al. 2017, arXiv 1612.03144).

    Eq. 1: ⌊k₀ + log₂(√area / 224)⌋; 1e-6 is added before rounding, as in torchvision, so that a side of exactly 224 pixels
    does not depend on rounding. A map's place in `pyramid_align` is this number minus `smallest`.

    Args:
        boxes: corners [R, 4]; one without an area is on the smallest level.
        smallest: the finest level; level l has a stride of 2^l.
        largest: the coarsest level.
        canonical_side: side in pixels of a box on the canonical level.
        canonical_level: k₀.
    """
    area = areas(lax.stop_gradient(boxes))
    # At the floor of the area a box is far below the smallest level.
    exact = canonical_level + jnp.log2(jnp.sqrt(jnp.where(area > 1e-6, area, 1e-6)) / canonical_side) + 1e-6
    return jnp.clip(jnp.floor(exact).astype(jnp.int32), smallest, largest)


def roi_pool(features: jax.Array, boxes: jax.Array, size: Bins, scale: float) -> jax.Array:
    """Returns the largest features in each bin of boxes rounded to whole cells, [R, P, Q, C] (Girshick 2015, arXiv 1504.08083).

    Section 2.1, with the rounding of its code (and of torchvision): a box covers the cells round(x1) to round(x2), both
    included, and one at least; bin p of P covers ⌊p h / P⌋ to ⌈(p + 1) h / P⌉ of its h cells, so that bins may share cells. A
    bin without a cell on the map is 0. The gradient goes to the first of equal cells.

    The largest numbers of all windows with sides of powers of two are computed once, and a bin is covered by four of them:
    H · W · C · log H · log W + R · P · Q · C comparisons. A masked maximum over the map for each bin took 30 times as long for
    64 boxes on 20 x 26 cells of 128 channels, 506 against 16 ms with the gradient on two busy CPU cores.

    Deviation: bins are counted in whole numbers; in f32, as there, 3 · (7 / 3) is above 7, and a bin has a cell too many.

    Args:
        features: [H, W, C].
        boxes: corners [R, 4].
        size: P and Q.
        scale: cells over pixels.

    Raises:
        UsageError: a number of bins is below 1.
    """
    height, width, channels = features.shape
    bins_down, bins_right = _bins(size)
    # Halves are rounded away from zero, as in C.
    cells = lax.stop_gradient(at_least_f32(boxes)) * scale
    cells = (jnp.sign(cells) * jnp.floor(jnp.abs(cells) + 0.5)).astype(jnp.int32)
    top, bottom = _covered(cells[:, 1], cells[:, 3], bins_down, height)  # i32 [R, P] each
    left, right = _covered(cells[:, 0], cells[:, 2], bins_right, width)  # i32 [R, Q] each
    windows = _largest_places(lax.stop_gradient(features))  # (f32, i32) [log H, log W, H, W, C]
    (tall, *rows), (wide, *columns) = (_window(*each) for each in ((top, bottom, height), (left, right, width)))
    quarters = [
        # [log H, log W, H, W, C] at [R, P, 1] and [R, 1, Q] -> [R, P, Q, C]
        jax.tree.map(lambda table, y=y, x=x: table[tall[:, :, None], wide[:, None], y[:, :, None], x[:, None]], windows)
        for y in rows
        for x in columns
    ]
    _, place = functools.reduce(_larger, quarters)
    flat = features.reshape(height * width, channels)  # [H, W, C] -> [H·W, C]
    found = flat[place, jnp.arange(channels)[None, None, None]]  # [H·W, C] at [R, P, Q, C] -> [R, P, Q, C]
    some = (bottom > top)[:, :, None, None] & (right > left)[:, None, :, None]  # [R, P, 1, 1] and [R, 1, Q, 1]
    return jnp.where(some, found, jnp.zeros((), features.dtype))


Places = tuple[jax.Array, jax.Array]
"""Numbers, and at which of the H · W cells they are."""


def _largest_places(features: jax.Array) -> Places:
    """Returns the largest of [H, W, C] in 2^i x 2^j cells from each one on, [log H, log W, H, W, C]; past the end anything."""
    height, width, _ = features.shape
    cell = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width, 1)  # [H·W] -> [H, W, 1]
    rows = _doubled((features, jnp.broadcast_to(cell, features.shape)), height, 0)  # of [H, W, C]
    tables = [jax.tree.map(lambda *each: jnp.stack(each), *_doubled(each, width, 1)) for each in rows]
    stacked: Places = jax.tree.map(lambda *each: jnp.stack(each), *tables)
    return stacked


def _doubled(places: Places, length: int, axis: int) -> list[Places]:
    """Returns the largest of 1, 2, 4, … numbers along an axis of a length, from each of them on."""
    found = [places]
    while 2 ** len(found) <= length:
        step = 2 ** (len(found) - 1)
        found.append(_larger(found[-1], jax.tree.map(lambda each, step=step: jnp.roll(each, -step, axis), found[-1])))
    return found


def _larger(one: Places, other: Places) -> Places:
    """Returns the larger numbers with their places, of equal ones the first place."""
    (a, at), (b, by) = one, other
    takes = (b > a) | (~(a > b) & (by < at))
    return jnp.where(takes, b, a), jnp.where(takes, by, at)


def _window(begin: jax.Array, end: jax.Array, length: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns i and the two starts of windows of 2^i cells that cover those from `begin` to before `end`, i32 [R, P] each."""
    powers = np.floor(np.log2(np.arange(1, length + 1) + 1e-6)).astype(np.int32)  # of 1, 2, … cells
    power = jnp.asarray(powers)[jnp.clip(end - begin, 1) - 1]  # [L] at [R, P] -> [R, P]
    # A bin without a cell takes any.
    return power, jnp.clip(begin, 0, length - 1), jnp.clip(end - (1 << power), 0, length - 1)


def cropped_masks(masks: jax.Array, boxes: jax.Array, index: jax.Array, size: Bins, samples: int = 2) -> jax.Array:
    """Returns what the mask of an object covers of each bin of a box, f32 [R, P, Q] in [0, 1]: a mask head's targets.

    He et al. 2017 (arXiv 1703.06870), section 3, whose authors' code then takes what is at least ½ as the object.

    Args:
        masks: of the objects of an image, bool or f32 [M, H, W].
        boxes: corners [R, 4].
        index: the object of each box, i32 [R] in [0, M).
        size: P and Q.
        samples: points of a bin along each axis.
    """
    own = masks[index].astype(jnp.float32)  # [M, H, W] at [R] -> [R, H, W]
    down, right = _weights(own.shape[1], own.shape[2], boxes, size, 1.0, samples, True)
    return jnp.einsum("rqw,rpw->rpq", right, jnp.einsum("rph,rhw->rpw", down, own))


def pasted(mask: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float = 0.5) -> np.ndarray:
    """Returns a mask of an object on its image, bool [H, W], of its bins in a box; on the host, at the image's own size.

    A pixel's value is interpolated between the centres of the bins, with 0 beyond the outermost, and then compared with the
    threshold, as in detectron2.

    Args:
        mask: probabilities f32 [P, Q].
        box: its corners [4] in pixels.
        size: (H, W) of the image.
        threshold: the probability from which a pixel is the object's.
    """
    x1, y1, x2, y2 = (float(each) for each in box)
    if x2 <= x1 or y2 <= y1:
        return np.zeros(size, bool)
    weights = []
    for low, high, bins, pixels in ((y1, y2, mask.shape[0], size[0]), (x1, x2, mask.shape[1], size[1])):
        place = (np.arange(pixels) + 0.5 - low) / (high - low) * bins - 0.5  # [H] or [W], in bins from the first one's centre
        weights.append(np.maximum(1 - np.abs(place[:, None] - np.arange(bins)), 0))  # [H, P] or [W, Q]
    return np.asarray(weights[0] @ np.asarray(mask, np.float64) @ weights[1].T >= threshold)


def _bins(size: Bins) -> tuple[int, int]:
    """Returns the numbers of bins down and right; UsageError for one below 1."""
    down, right = (size, size) if isinstance(size, int) else size
    if down < 1 or right < 1:
        raise UsageError(f"regions: {down} x {right} bins.\nExpected one at least along each axis, such as 7 x 7.")
    return down, right


def _weights(
    height: int, width: int, boxes: jax.Array, size: Bins, scale: float, samples: int, aligned: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns the shares of rows in bins, f32 [R, P, H], and those of columns, f32 [R, Q, W]."""
    bins_down, bins_right = _bins(size)
    if samples < 1:
        raise UsageError(f"RoI align: samples={samples}.\nExpected 1 at least; 2 is usual.")
    cells = lax.stop_gradient(at_least_f32(boxes)) * scale - (0.5 if aligned else 0.0)
    sides = cells[:, 2:] - cells[:, :2]  # [R, 2]: width, height
    if not aligned:
        sides = jnp.where(sides < 1.0, 1.0, sides)
    return (
        _interpolation(cells[:, 1], sides[:, 1], bins_down, samples, height),
        _interpolation(cells[:, 0], sides[:, 0], bins_right, samples, width),
    )


def _interpolation(start: jax.Array, side: jax.Array, bins: int, samples: int, length: int) -> jax.Array:
    """Returns the share of each cell of an axis in each bin, f32 [R, P, L], for starts and sides f32 [R] in cells."""
    offsets = (jnp.arange(bins * samples, dtype=start.dtype) + 0.5) / samples  # [P·S], in bins
    place = start[:, None] + offsets[None] * (side / bins)[:, None]  # [R, P·S]
    is_near = (place >= -1.0) & (place <= length)
    place = jnp.clip(place, 0.0, length - 1.0)
    distance = jnp.abs(place[:, :, None] - jnp.arange(length, dtype=start.dtype)[None, None])  # [R, P·S, L]
    share = jnp.where(is_near[:, :, None] & (distance < 1.0), 1.0 - distance, 0.0)
    return jnp.mean(share.reshape(-1, bins, samples, length), axis=2)  # [R, P·S, L] -> [R, P, S, L] -> [R, P, L]


def _covered(first: jax.Array, last: jax.Array, bins: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Returns where the bins of boxes from cell `first` to `last` i32 [R] begin and end on an axis, i32 [R, P] each."""
    side = jnp.clip(last - first + 1, 1)[:, None]  # [R, 1]
    number = jnp.arange(bins, dtype=jnp.int32)[None]  # [1, P]
    begin = first[:, None] + number * side // bins
    end = first[:, None] - (-(number + 1) * side // bins)
    return jnp.clip(begin, 0, length), jnp.clip(end, 0, length)
