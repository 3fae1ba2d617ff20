"""Pooling over space, [B, H, W, C] -> [B, H', W', C], with the conventions of torch.nn.functional."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops.convolve import Pairs


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
    """Largest value of each window; padding never wins."""
    return jax.lax.reduce_window(
        x, np.asarray(-np.inf, x.dtype), jax.lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
    )


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
    inside = np.ones((1, x.shape[1] + sum(rows), x.shape[2] + sum(columns), 1), np.float32)
    outside = [(p[0] - c[0], p[1] - c[1]) for p, c in zip(padding, (rows, columns), strict=True)]
    counts = _count(inside[0, :, :, 0], window, strides, (outside[0], outside[1]))
    return total / jnp.asarray(counts[None, :, :, None], x.dtype)


def _sum(x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> jax.Array:
    zero = np.zeros((), x.dtype)
    return jax.lax.reduce_window(x, zero, jax.lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))


def _count(inside: np.ndarray, window: tuple[int, int], strides: tuple[int, int], padding: Pairs) -> np.ndarray:
    """How many ones of inside [H, W] each window sees, on the host."""
    sides = []
    for axis in (0, 1):
        line = np.pad(np.ones(inside.shape[axis]), padding[axis])
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
