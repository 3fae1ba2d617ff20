"""Masks of single objects on the device: put onto their image, counted against the true ones, and who touches whom.

Letters in shapes: H W space, D found objects, M places for true ones, B bins of a mask along each axis.
"""

import jax
import jax.numpy as jnp
from jax import lax

from cnnlab.ops.precision import at_least_f32

NOBODY = -1
"""The owner of a pixel that no object has."""
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""(down, right) to half of the eight neighbours of a pixel; the others are the same seen from them."""


def on_image(masks: jax.Array, corners: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns the masks of objects at each pixel of their image, f32 [D, H, W], as `regions.pasted` does on the host.

    A pixel's value is interpolated between the centres of the bins, with 0 beyond the outermost.

    Args:
        masks: the value of each bin, [D, B, B], which divide the box evenly.
        corners: boxes f32 [D, 4] in pixels; one without an area has no pixel.
        size: (H, W).
    """
    corners, bins = at_least_f32(corners), masks.shape[1]
    rows, columns = (_shares(corners[:, axis], corners[:, axis + 2], bins, size[1 - axis]) for axis in (1, 0))
    return jnp.einsum("dhb,dbc,dwc->dhw", rows, at_least_f32(masks), columns, precision=lax.Precision.HIGHEST)


def _shares(low: jax.Array, high: jax.Array, bins: int, length: int) -> jax.Array:
    """Returns the share of each bin in each pixel of an axis, f32 [D, L, B], for sides from `low` to `high` f32 [D]."""
    side = high - low
    is_box = side > 0
    pixels = jnp.arange(length, dtype=low.dtype) + 0.5
    place = (pixels[None] - low[:, None]) / jnp.where(is_box, side, 1.0)[:, None] * bins - 0.5  # [D, L]
    distance = jnp.abs(place[..., None] - jnp.arange(bins, dtype=low.dtype)[None, None])  # [D, L, B]
    return jnp.where(is_box[:, None, None] & (distance < 1), 1.0 - distance, 0.0)


def common_pixels(found: jax.Array, masks: jax.Array) -> jax.Array:
    """Returns how many pixels found masks bool [D, H, W] share with true ones bool [M, H, W], f32 [D, M]; exact below 2^24."""
    flat = [each.reshape(len(each), -1).astype(jnp.float32) for each in (found, masks)]  # [·, H, W] -> [·, H·W]
    return jnp.matmul(flat[0], flat[1].T, precision=lax.Precision.HIGHEST)


def owners(masks: jax.Array) -> jax.Array:
    """Returns the first of M objects that has each pixel, or NOBODY, i32 [H, W], of their masks bool [M, H, W]."""
    if not len(masks):
        return jnp.full(masks.shape[1:], NOBODY, jnp.int32)
    return jnp.where(jnp.any(masks, axis=0), jnp.argmax(masks, axis=0).astype(jnp.int32), NOBODY)


def touching(owner: jax.Array, count: int) -> jax.Array:
    """Returns which of `count` objects have a pixel next to one of another object, bool [M].

    Args:
        owner: the object of each pixel, or NOBODY, i32 [H, W]; a pixel has eight neighbours.
        count: M.
    """
    marks = jnp.zeros(count + 1, bool)  # the last place takes what is no object
    height, width = owner.shape
    for down, right in NEIGHBOURS:
        one = owner[: height - down, max(-right, 0) : width - max(right, 0)]
        other = owner[down:, max(right, 0) : width + min(right, 0)]
        meets = (one != other) & (one != NOBODY) & (other != NOBODY)
        for each in (one, other):
            marks = marks.at[jnp.where(meets, each, count)].set(True)
    return marks[:count]
