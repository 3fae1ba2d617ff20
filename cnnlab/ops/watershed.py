"""Objects that touch in a mask, told apart by their shape: distances to the background, and the basins around their maxima.

All functions are of one image, with static shapes, and have no gradient. Letters in shapes: H W space.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

NOTHING = -1
"""The place of a pixel that belongs to no object."""


def distances(mask: jax.Array) -> jax.Array:
    """Returns the Euclidean distance of each pixel of a mask bool [H, W] to the nearest one outside, f32 [H, W].

    It is 0 outside of the mask. Beyond the image nothing counts as outside; where no pixel is outside, all distances are
    H + W. Along columns it is counted, and along rows the least of (j − k)² + d(i, k)² is taken over all k.
    """
    height, width = mask.shape
    far = float(height + width)
    row = jnp.arange(height, dtype=jnp.float32)[:, None]
    above = row - lax.cummax(jnp.where(mask, -far, jnp.broadcast_to(row, mask.shape)), axis=0)
    below = lax.cummin(jnp.where(mask, far + height, jnp.broadcast_to(row, mask.shape)), axis=0, reverse=True) - row
    down = jnp.minimum(jnp.minimum(above, below), far)  # [H, W]
    column = jnp.arange(width, dtype=jnp.float32)
    apart = (column[:, None] - column[None]) ** 2  # [W, W]
    square = jnp.min(down[:, None] ** 2 + apart[None], axis=2)  # [H, 1, W] and [1, W, W] -> [H, W, W] -> [H, W]
    return jnp.minimum(jnp.sqrt(square), far)


def blurred(values: jax.Array, std: float) -> jax.Array:
    """Returns values f32 [H, W] averaged with Gaussian weights of a standard deviation in pixels; 0 leaves them as they are."""
    if std <= 0:
        return values
    reach = math.ceil(3 * std)
    weights = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1, dtype=values.dtype) / std) ** 2)
    weights = weights / jnp.sum(weights)
    for axis in (0, 1):
        pads = [(reach, reach) if place == axis else (0, 0) for place in (0, 1)]
        padded = jnp.pad(values, pads, mode="edge")
        parts = [lax.slice_in_dim(padded, start, start + values.shape[axis], axis=axis) for start in range(2 * reach + 1)]
        values = sum((weight * part for weight, part in zip(weights, parts, strict=True)), jnp.zeros_like(values))
    return values


def components(mask: jax.Array) -> jax.Array:
    """Returns the connected parts of a mask bool [H, W], i32 [H, W]: the last place, row by row, of the part of each pixel.

    A pixel has eight neighbours; outside it is NOTHING.
    """
    places = _places(mask.shape)
    start = jnp.where(mask, places, NOTHING)

    def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        found, _ = state
        largest = lax.reduce_window(found, jnp.int32(NOTHING), lax.max, (3, 3), (1, 1), "SAME")
        # The pixel whose place this is may have heard of a later one already.
        after = jnp.where(mask, jnp.maximum(largest, found.reshape(-1)[largest]), NOTHING)  # [H, W] -> [H·W] at [H, W]
        return after, jnp.any(after != found)

    return lax.while_loop(lambda state: state[1], spread, (start, jnp.any(mask)))[0]


def basins(height: jax.Array, mask: jax.Array, least_distance: int = 1) -> jax.Array:
    """Returns the maximum to which each pixel of a mask bool [H, W] belongs, by its place row by row, i32 [H, W].

    From a pixel one climbs to the highest of its neighbours until none is higher: the watershed of the heights upside down
    (Vincent and Soille 1991, IEEE Transactions on Pattern Analysis and Machine Intelligence 13) without lines between basins.
    A maximum with a higher one of its connected part near it belongs to that one's basin. Of equal heights the first is higher.

    Args:
        height: f32 [H, W], such as distances to the background.
        mask: the pixels that belong to objects; outside the place is NOTHING.
        least_distance: pixels down or right, at most, to a higher maximum whose basin takes this one.
    """
    places, part = _places(mask.shape), components(mask)
    height = jnp.where(mask, height, -jnp.inf)
    found = _top(_highest(height, part, 1, places))
    is_maximum = mask & (found == places)
    peaks = _highest(jnp.where(is_maximum, height, -jnp.inf), part, least_distance, places)
    taken = _top(jnp.where(is_maximum, peaks, places))
    return jnp.where(mask, taken.reshape(-1)[found], NOTHING)  # [H·W] at [H, W]


def _places(shape: tuple[int, ...]) -> jax.Array:
    """Returns the place of each pixel row by row, i32 [H, W]."""
    return jnp.arange(shape[0] * shape[1], dtype=jnp.int32).reshape(shape[0], shape[1])  # [H·W] -> [H, W]


def _highest(height: jax.Array, part: jax.Array, reach: int, places: jax.Array) -> jax.Array:
    """Returns the place of the highest pixel of the same part within `reach` rows and columns of each, i32 [H, W]."""
    rows, columns = height.shape

    def better(number: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        corner = jnp.divmod(number, jnp.int32(2 * reach + 1))
        near, other, place = (lax.dynamic_slice(each, corner, (rows, columns)) for each in padded)
        value, at = best
        is_better = (other == part) & ((near > value) | (~(value > near) & (place < at)))
        return jnp.where(is_better, near, value), jnp.where(is_better, place, at)

    pads = (height, -jnp.inf), (part, NOTHING - 1), (places, 0)
    padded = [jnp.pad(each, reach, constant_values=value) for each, value in pads]
    return lax.fori_loop(0, (2 * reach + 1) ** 2, better, (height, places))[1]


def _top(pointers: jax.Array) -> jax.Array:
    """Returns where one ends that follows pointers i32 [H, W], which lead uphill alone, i32 [H, W]."""
    flat = pointers.reshape(-1)  # [H, W] -> [H·W]

    def follow(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        after = state[0][state[0]]
        return after, jnp.any(after != state[0])

    end, _ = lax.while_loop(lambda state: state[1], follow, (flat, jnp.asarray(True)))
    return end.reshape(pointers.shape)  # [H·W] -> [H, W]
