"""Pooling over space, [B, H, W, C] -> [B, H', W', C], with the conventions of torch.nn.functional.

XLA's CPU backend finds the gradient of a windowed maximum by a slow search, so there windows of ordinary size are pooled from
shifted slices. Forward and backward, one core: 28x28 of 6 channels by 2x2, batch 128: 2.5 ms, library 7.1; of 16x16 of 64
channels by 3x3 with stride 1, batch 64, the library takes 90 ms, 7 of them forward.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.ops.cpu.convolve import SHIFTED, Geometry, Pairs, in_chunks, taps

SLICED = 8
"""Side of the largest window that is pooled from slices."""


def ceil_pairs(size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> Pairs:
    """Padding that lets a last, incomplete window take part, unless it would begin in the padding (ceil mode)."""
    long = []
    for n, w, s, (low, high) in zip(size, window, strides, padding, strict=True):
        count = -(-(n + low + high - w) // s) + 1
        if (count - 1) * s >= n + low:
            count -= 1
        long.append((low, max(high, (count - 1) * s + w - n - low)))
    return long[0], long[1]


def max_pool(x: jax.Array, *, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> jax.Array:
    """Largest value of each window; padding never wins. Of equals the first, row by row, gets the gradient."""
    if jax.default_backend() != "cpu" or max(window) > SLICED:
        return _largest(x, window, strides, padding)
    return _searched(window, Geometry(strides, padding), x)


def _largest(x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> jax.Array:
    lowest = np.asarray(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _searched(window: tuple[int, int], geometry: Geometry, x: jax.Array) -> jax.Array:
    return _largest(x, window, geometry.strides, geometry.padding)


@_searched.defjvp
def _searched_jvp(
    window: tuple[int, int], geometry: Geometry, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The tangent at the first place of each window that equals its maximum."""
    y = _searched(window, geometry, primals[0])

    def some(x: jax.Array, y: jax.Array, x_dot: jax.Array) -> jax.Array:
        return _at_first(window, geometry, x, y, x_dot)

    one = math.prod(primals[0].shape[1:]) * 4
    return y, in_chunks(some, primals[0], y, tangents[0], bytes_each=one, limit=SHIFTED)


def _at_first(window: tuple[int, int], geometry: Geometry, x: jax.Array, y: jax.Array, x_dot: jax.Array) -> jax.Array:
    """x_dot at the first place of each window of x whose value is y, the maximum."""
    sides = ((0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0))
    x, x_dot = lax.pad(x, np.asarray(-np.inf, x.dtype), sides), lax.pad(x_dot, np.zeros((), x.dtype), sides)
    inside, zero = Geometry(geometry.strides), jnp.zeros((), y.dtype)
    first = jnp.full(y.shape, window[0] * window[1], jnp.int32)
    for i, j, value in reversed(list(taps(x, window, inside))):
        first = jnp.where(value == y, i * window[1] + j, first)
    if window == geometry.strides:  # no pixel is in two windows: the gradient is spread out by copying, not by adding
        (height, width), (batch, rows, columns, channels) = window, y.shape
        apart = (batch, rows, height, columns, width, channels)
        x_dot = lax.slice(x_dot, (0, 0, 0, 0), (batch, rows * height, columns * width, channels)).reshape(apart)
        numbers = np.arange(height)[:, None, None, None] * width + np.arange(width)[:, None]
        chosen = first[:, :, None, :, None] == numbers.astype(np.int32)[None, None]
        return jnp.sum(jnp.where(chosen, x_dot, zero), (2, 4))
    parts = [jnp.where(first == i * window[1] + j, change, zero) for i, j, change in taps(x_dot, window, inside)]
    return sum(parts[1:], parts[0])


def average_pool(
    x: jax.Array,
    *,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Pairs,
    counted: Pairs | None = None,
) -> jax.Array:
    """Mean of each window over the image and the `counted` padding (none: over the image alone)."""
    total = _sum(x, window, strides, padding)
    rows, columns = counted or ((0, 0), (0, 0))
    size = (x.shape[1] + sum(rows), x.shape[2] + sum(columns))
    outside = [(p[0] - c[0], p[1] - c[1]) for p, c in zip(padding, (rows, columns), strict=True)]
    counts = _count(size, window, strides, (outside[0], outside[1]))
    return total / jnp.asarray(counts[None, :, :, None], x.dtype)


def _sum(x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> jax.Array:
    if jax.default_backend() != "cpu" or max(window) > SLICED:
        zero = np.zeros((), x.dtype)
        return lax.reduce_window(x, zero, lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))
    (height, width), (above, beside) = window, padding
    if height * width > 9:  # in two passes: 5x5 with stride 1 1.3 ms, at once 5.2
        x = _sum(x, (1, width), (1, strides[1]), ((0, 0), beside))
        width, strides, beside = 1, (strides[0], 1), (0, 0)
    slices = [tap for _, _, tap in taps(x, (height, width), Geometry(strides, (above, beside)))]
    return sum(slices[1:], slices[0])


def _count(size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> np.ndarray:
    """How many places of `size` each window sees, on the host."""
    sides = []
    for axis in (0, 1):
        line = np.pad(np.ones(size[axis]), padding[axis])
        starts = range(0, len(line) - window[axis] + 1, strides[axis])
        sides.append(np.array([line[start : start + window[axis]].sum() for start in starts]))
    return np.outer(*sides)


def adaptive_average_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Mean over a grid of `size` cells, cell i of n spanning rows ⌊iH/n⌋ to ⌈(i+1)H/n⌉: [B, H, W, C] -> [B, *size, C]."""
    for axis, cells in zip((1, 2), size, strict=True):
        length = x.shape[axis]
        if length == cells:
            continue
        weights = np.zeros((cells, length))
        for cell in range(cells):
            low, high = cell * length // cells, -(-(cell + 1) * length // cells)
            weights[cell, low:high] = 1.0 / (high - low)
        x = jnp.moveaxis(jnp.tensordot(jnp.asarray(weights, x.dtype), x, axes=(1, axis)), 0, axis)
    return x
