"""Sums over windows of ordinary size, and the gradient of their maximum, from shifted slices.

XLA's CPU backend finds the gradient of a windowed maximum by a slow search. Forward and backward, one core: 28x28 of 6 channels
by 2x2, batch 128: 2.5 ms, library 7.1; of 16x16 of 64 channels by 3x3 with stride 1, batch 64, the library takes 90 ms, 7 of
them forward.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.ops.cpu.chunks import SHIFTED, in_chunks, taps
from cnnlab.ops.windows import Geometry, Pairs


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def max_pool_from_slices(window: tuple[int, int], geometry: Geometry, x: jax.Array) -> jax.Array:
    """Returns the largest value of each window, [B, H, W, C] -> [B, H', W', C]; only its gradient is found from slices."""
    lowest, padding = np.asarray(-np.inf, x.dtype), ((0, 0), *geometry.padding, (0, 0))
    return lax.reduce_window(x, lowest, lax.max, (1, *window, 1), (1, *geometry.strides, 1), padding)


@max_pool_from_slices.defjvp
def _max_pool_jvp(
    window: tuple[int, int], geometry: Geometry, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns the tangent at the first place of each window that has its maximum."""
    y = max_pool_from_slices(window, geometry, primals[0])
    one = math.prod(primals[0].shape[1:]) * 4
    some = partial(_at_first, window, geometry)
    return y, in_chunks(some, primals[0], tangents[0], bytes_each=one, limit=SHIFTED)


def _at_first(window: tuple[int, int], geometry: Geometry, x: jax.Array, x_dot: jax.Array) -> jax.Array:
    """Takes x_dot at the first place of each window of x that has its maximum: [b, H, W, C] -> [b, H', W', C]."""
    sides = ((0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0))
    x, x_dot = lax.pad(x, np.asarray(-np.inf, x.dtype), sides), lax.pad(x_dot, np.zeros((), x.dtype), sides)
    inside, zero = Geometry(geometry.strides), jnp.zeros((), x.dtype)
    # From the last tap to the first, so that the first place of equal values is written last; i32 [b, H', W', C]. Taps are
    # compared with each other, not with the result of the pooling: XLA may compute x for it once more, rounded otherwise, and
    # then no tap equals it and the gradient is lost.
    *others, (_, _, largest) = taps(x, window, inside)
    first = jnp.full(largest.shape, len(others), jnp.int32)
    for i, j, value in reversed(others):
        first = jnp.where(value >= largest, i * window[1] + j, first)
        largest = jnp.maximum(value, largest)
    if window == geometry.strides:  # no pixel is in two windows: the gradient is spread out by copying, not by adding
        (height, width), (batch, rows, columns, channels) = window, first.shape
        blocks = (batch, rows, height, columns, width, channels)
        # [b, H, W, C] -> [b, H'·h, W'·w, C] -> [b, H', h, W', w, C]
        x_dot = lax.slice(x_dot, (0, 0, 0, 0), (batch, rows * height, columns * width, channels)).reshape(blocks)
        numbers = np.arange(height)[:, None, None, None] * width + np.arange(width)[:, None]  # [h, 1, w, 1]
        chosen = first[:, :, None, :, None] == numbers.astype(np.int32)[None, None]  # [b, H', h, W', w, C]
        return jnp.sum(jnp.where(chosen, x_dot, zero), (2, 4))
    parts = [jnp.where(first == i * window[1] + j, change, zero) for i, j, change in taps(x_dot, window, inside)]
    return sum(parts[1:], parts[0])


def sum_pool_from_slices(x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> jax.Array:
    """Returns the sum of each window, zeros in the padding: [B, H, W, C] -> [B, H', W', C]."""
    (height, width), (rows, columns) = window, padding
    if height * width > 9:  # in two passes, along the rows and then down: 5x5 with stride 1 takes 1.3 ms, at once 5.2
        x = sum_pool_from_slices(x, (1, width), (1, strides[1]), ((0, 0), columns))
        width, strides, columns = 1, (strides[0], 1), (0, 0)
    slices = [tap for _, _, tap in taps(x, (height, width), Geometry(strides, (rows, columns)))]
    return sum(slices[1:], slices[0])
