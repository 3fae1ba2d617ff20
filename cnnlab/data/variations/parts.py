"""Random parts of an image: rectangles of a drawn area and shape, as torchvision draws them."""

import math

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.errors import UsageError

TRIES = 10
"""Number of rectangles that are drawn to find one that fits into the image."""


def random_part(
    key: Array, size: tuple[int, int], area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array, Array]:
    """Draws a rectangle: the first of ten draws that fits into the image, at a uniform place.

    Args:
        key: PRNG key [].
        size: (H, W) of the image.
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width over height; its logarithm is uniform.

    Returns (corner f32 [2], extent f32 [2], whether one fits): (top, left) and (height, width) in whole pixels.
    """
    draws = jax.random.uniform(key, (TRIES + 1, 2))
    whole = jnp.asarray(size, jnp.float32)
    areas = (area[0] + draws[:TRIES, 0] * (area[1] - area[0])) * (size[0] * size[1])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = jnp.exp(low + draws[:TRIES, 1] * (high - low))
    sides = jnp.round(jnp.sqrt(jnp.stack([areas / ratios, areas * ratios], axis=1)))  # [TRIES, 2]: height, width
    fits = jnp.all((sides >= 1) & (sides <= whole[None]), axis=1)
    extent = sides[jnp.argmax(fits)]
    room = jnp.maximum(whole - extent, 0.0)
    return jnp.minimum(jnp.floor(draws[TRIES] * (room + 1)), room), extent, jnp.any(fits)


def inside(size: tuple[int, int], low: Array, high: Array) -> Array:
    """Returns whether each pixel lies in a rectangle, bool [H, W]; its corners (row, column) are f32 [2], `high` excluded."""
    rows, columns = (jnp.arange(side, dtype=jnp.float32) for side in size)
    in_rows, in_columns = ((place >= low[i]) & (place < high[i]) for i, place in enumerate((rows, columns)))
    return in_rows[:, None] & in_columns[None, :]


def require_range(name: str, limits: tuple[float, float], *, high: float = math.inf) -> None:
    """Raises UsageError unless the two numbers of a knob are a range of positive numbers."""
    if not 0 < limits[0] <= limits[1] <= high:
        most = f" up to {high:g}" if high < math.inf else ""
        raise UsageError(
            f"--{name}={limits[0]:g},{limits[1]:g}: no range.\n"
            f"Expected LOW,HIGH with 0 < LOW <= HIGH{most}. Write the smaller number first."
        )
