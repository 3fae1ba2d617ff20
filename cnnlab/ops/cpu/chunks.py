"""The two tools of the CPU forms: a function applied to a few images at a time, and the slices of an image under a kernel."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

from cnnlab.ops.windows import Geometry

CHUNK = 3_000_000
"""Bytes of columns and results that are worked on at a time: 1 to 8 images of a CIFAR ResNet, which fit the caches."""
SHIFTED = 600_000
"""Bytes of the image that depth-wise gradients read at a time."""


def in_chunks(function: Callable[..., jax.Array], *arrays: jax.Array, bytes_each: int, limit: int) -> jax.Array:
    """Applies a function of batches to as many examples at a time as divide the batch and need at most `limit` bytes.

    The chunks stay in the caches; and what a loop makes is stored, where XLA would compute a sum of products anew within
    everything that reads it, forward and backward. A gradient computes again what is between the arrays and the result.

    Args:
        function: takes arrays [b, …] and returns an array [b, …], each example by itself.
        arrays: [B, …] each.
        bytes_each: bytes that one example needs.
        limit: bytes that a chunk may need.
    """
    batch = arrays[0].shape[0]
    most = max(limit // max(bytes_each, 1), 1)
    count = max(number for number in range(1, batch + 1) if batch % number == 0 and number <= most)
    function = jax.checkpoint(function, prevent_cse=False)
    if count == batch:
        return function(*arrays)
    chunks = [array.reshape(-1, count, *array.shape[1:]) for array in arrays]  # [B, …] -> [B / b, b, …]
    _, y = lax.scan(lambda _, some: (None, function(*some)), None, chunks)
    return y.reshape(batch, *y.shape[2:])  # [B / b, b, …] -> [B, …]


def taps(x: jax.Array, kernel: tuple[int, ...], geometry: Geometry) -> Iterator[tuple[int, int, jax.Array]]:
    """Yields (i, j, the pixels [B, H', W', C] that tap (i, j) of a kernel [h, w, …] meets), row by row of the kernel."""
    rows, columns = geometry.output_size(x.shape, kernel)
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*geometry.padding[0], 0), (*geometry.padding[1], 0), (0, 0, 0)))
    (down, right), (row_step, column_step) = geometry.strides, geometry.dilation
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            first = (0, i * row_step, j * column_step, 0)
            last = (x.shape[0], first[1] + (rows - 1) * down + 1, first[2] + (columns - 1) * right + 1, x.shape[3])
            yield i, j, lax.slice(x, first, last, (1, down, right, 1))
