"""Max pooling that remembers where each maximum was (its switch), and the unpooling that puts values back there.

Zeiler and Fergus 2014, arXiv 1311.2901, section 2.1. The windows do not overlap; for these the functions equal torch's
`max_pool2d(return_indices=True)` and `max_unpool2d`.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops.bounds import largest
from cnnlab.ops.upsample import nearest


def max_pool_with_switches(x: jax.Array, window: int = 2, *, ceil: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns the largest value of each window of x [B, H, W, C] and its place: (f32, i32) [B, ⌊H / window⌋, ⌊W / window⌋, C].

    A switch is row · W + column of the image; among equals it is the first, row by row, which also gets the gradient.

    Args:
        window: side of the windows.
        ceil: whether an incomplete last row or column of windows is pooled too; otherwise it is left out.
    """
    height, width = x.shape[1:3]
    if ceil:
        below, right = -height % window, -width % window
        x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), constant_values=-jnp.inf)
    rows, columns = x.shape[1] // window, x.shape[2] // window
    inside = x[:, : rows * window, : columns * window]
    places = [(i, j) for i in range(window) for j in range(window)]
    taps = jnp.stack([inside[:, i::window, j::window] for i, j in places])  # [window², B, H', W', C]
    first = jnp.argmax(taps, axis=0)  # i32 [B, H', W', C]: number of the place in its window
    down, across = jnp.divmod(first.astype(jnp.int32), jnp.int32(window))
    row = jnp.arange(rows, dtype=jnp.int32)[None, :, None, None] * window + down
    column = jnp.arange(columns, dtype=jnp.int32)[None, None, :, None] * window + across
    return largest(taps, axis=0), row * width + column


def max_unpool(x: jax.Array, switches: jax.Array, size: tuple[int, int], window: int = 2) -> jax.Array:
    """Puts values x [B, H', W', C] back to their switches in maps of zeros, [B, H, W, C] of `size` (H, W)."""
    height, width = size
    own = jnp.arange(height, dtype=jnp.int32)[:, None] * width + jnp.arange(width, dtype=jnp.int32)[None, :]  # [H, W]
    missing = [max(side - small * window, 0) for side, small in zip(size, x.shape[1:3], strict=True)]
    frame = ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0))
    # A pixel holds its window's value where its own number is the switch: no scattering, which is slow on most devices.
    values, chosen = jnp.pad(nearest(x, window), frame), jnp.pad(nearest(switches, window), frame, constant_values=-1)
    values, chosen = values[:, :height, :width], chosen[:, :height, :width]
    return jnp.where(chosen == own[None, :, :, None], values, jnp.zeros((), x.dtype))  # [H, W] -> [1, H, W, 1]
