"""Pooling over space, [B, H, W, C] -> [B, H', W', C], with the conventions of torch.nn.functional.

These are windowed reductions of jax.lax; on a CPU, sums over windows of ordinary size and the
gradient of their maximum are taken from slices (ops/cpu/pooling.py).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.ops.bounds import largest
from cnnlab.ops.collectives import by_device
from cnnlab.ops.cpu.pooling import max_pool_from_slices, sum_pool_from_slices
from cnnlab.ops.windows import Geometry, Pairs

LARGEST_SLICED = 8
"""Side of the largest window that a CPU pools from slices, of which there is one for each place in the window."""


def max_pool(x: jax.Array, *, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> jax.Array:
    """Returns the largest value of each window; padding never wins. Among equals the first, row by row, gets the gradient."""
    if _from_slices(window):
        return by_device(functools.partial(max_pool_from_slices, window, Geometry(strides, padding)), x)
    lowest = np.asarray(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))


def dilated_max_pool(x: jax.Array, *, window: int, dilation: int) -> jax.Array:
    """Returns the largest of window² pixels, `dilation` apart, at every pixel: [B, H − (window − 1) · dilation, …, C]."""
    height, width = (side - (window - 1) * dilation for side in x.shape[1:3])
    starts = [(i * dilation, j * dilation) for i in range(window) for j in range(window)]
    return largest(jnp.stack([x[:, i : i + height, j : j + width] for i, j in starts]), axis=0)


def average_pool(
    x: jax.Array,
    *,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Pairs,
    counted: Pairs | None = None,
) -> jax.Array:
    """Returns the mean of each window over the image and the `counted` padding (None: over the image alone)."""
    if _from_slices(window):
        total = sum_pool_from_slices(x, window, strides, padding)
    else:
        zero = np.zeros((), x.dtype)
        total = lax.reduce_window(x, zero, lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))
    # What is counted is the image and a frame of `counted` padding; what of the padding is beyond the frame counts nothing.
    rows, columns = counted or ((0, 0), (0, 0))
    size = (x.shape[1] + sum(rows), x.shape[2] + sum(columns))
    outside = [(p[0] - c[0], p[1] - c[1]) for p, c in zip(padding, (rows, columns), strict=True)]
    counts = _window_counts(size, window, strides, (outside[0], outside[1]))
    return total / jnp.asarray(counts[None, :, :, None], x.dtype)  # [H', W'] -> [1, H', W', 1]


def blur_pool(x: jax.Array) -> jax.Array:
    """Returns means by the weights (1, 2, 1) / 4, down and across, at every second pixel from the first.

    The border is repeated by a pixel, and an odd last row or column is left out: [B, H, W, C] -> [B, ⌊H / 2⌋, ⌊W / 2⌋, C].
    """
    for axis in (1, 2):
        cells = x.shape[axis] // 2
        framed = jnp.pad(x, [(1, 1) if each == axis else (0, 0) for each in range(4)], mode="edge")
        before, at, after = (
            lax.slice_in_dim(framed, start, start + 2 * cells - 1, stride=2, axis=axis) for start in (0, 1, 2)
        )  # pixels 2i − 1, 2i and 2i + 1
        x = (before + 2 * at + after) / 4
    return x


def adaptive_average_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Averages over a grid of `size` cells, cell i of n spanning rows ⌊iH/n⌋ to ⌈(i+1)H/n⌉: [B, H, W, C] -> [B, *size, C]."""
    for axis, cells in zip((1, 2), size, strict=True):
        length = x.shape[axis]
        if length == cells:
            continue
        weights = np.zeros((cells, length))
        for cell in range(cells):
            low, high = cell * length // cells, -(-(cell + 1) * length // cells)
            weights[cell, low:high] = 1.0 / (high - low)
        # [cells, length] x […, length, …] -> [cells, …] -> […, cells, …]
        x = jnp.moveaxis(jnp.tensordot(jnp.asarray(weights, x.dtype), x, axes=(1, axis)), 0, axis)
    return x


def _from_slices(window: tuple[int, int]) -> bool:
    return jax.default_backend() == "cpu" and max(window) <= LARGEST_SLICED


def _window_counts(size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> np.ndarray:
    """Counts, f64 [H', W'], the places of an image of `size` that each window covers, on the host."""
    sides = []
    for axis in (0, 1):
        line = np.pad(np.ones(size[axis]), padding[axis])
        starts = range(0, len(line) - window[axis] + 1, strides[axis])
        sides.append(np.array([line[start : start + window[axis]].sum() for start in starts]))
    return np.outer(*sides)
