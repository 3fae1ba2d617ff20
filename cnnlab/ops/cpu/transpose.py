"""The transposed convolution on a CPU: the windows of all pixels by one matrix product, then added up where they overlap."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.ops.cpu.chunks import CHUNK, in_chunks
from cnnlab.ops.cpu.dense import over_channels
from cnnlab.ops.cpu.passes import Passes
from cnnlab.ops.lax_convolution import TURNED, lax_convolve_transpose
from cnnlab.ops.windows import Geometry


def _spread(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes the windows of all pixels by one matrix product, then what its taps give to each phase, then the phases.

    A phase is the rows and columns of the result that lie a stride apart: within it the taps lie side by side, so that adding
    up overlapping windows is adding up padded arrays.
    """
    (height, width, channels, features), (batch, *size, _) = kernel.shape, x.shape
    down, right = geometry.strides
    # [h, w, C, O] flipped -> [h, w, O, C] -> [h·w·O, C]; then [B, H, W, C] -> [B, H, W, h·w·O] -> h·w taps [B, H, W, O]
    matrix = jnp.moveaxis(kernel[::-1, ::-1], 2, 3).reshape(-1, channels)
    windows = lax.split(over_channels(x, matrix, 1), [features] * (height * width), axis=3)
    # A phase has I = H + (h − 1) // down rows and J = W + (w − 1) // right columns.
    reach = [(k - 1) // s for k, s in zip((height, width), geometry.strides, strict=True)]
    zero = jnp.zeros((), x.dtype)
    empty = jnp.zeros((batch, *(n + most for n, most in zip(size, reach, strict=True)), features), x.dtype)
    phases = [empty] * (down * right)
    for tap, window in enumerate(windows):
        i, j = divmod(tap, width)
        sides = [(at, most - at, 0) for at, most in zip((i // down, j // right), reach, strict=True)]
        phase, padded = i % down * right + j % right, lax.pad(window, zero, ((0, 0, 0), *sides, (0, 0, 0)))
        phases[phase] = padded if phases[phase] is empty else phases[phase] + padded
    if len(phases) > 1:
        # [B, I, J, down·right·O] -> [B, I, J, down, right, O] -> [B, I, down, J, right, O] -> [B, I·down, J·right, O]
        y = lax.concatenate(phases, 3).reshape(*empty.shape[:3], down, right, features).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, empty.shape[1] * down, empty.shape[2] * right, features)
    else:
        y = phases[0]
    # Phases end at a whole stride; the result ends where its last window does, less the padding that is cut off.
    ends = [(n - 1) * s + k for n, s, k in zip(size, geometry.strides, (height, width), strict=True)]
    sides = [(-low, end - high - made, 0) for end, made, (low, high) in zip(ends, y.shape[1:3], geometry.padding, strict=True)]
    return lax.pad(y, zero, ((0, 0, 0), *sides, (0, 0, 0)))


def _kernel_by_spread(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Does the same a few images at a time; its transpose by the kernel is the weight gradient."""
    exact = np.promote_types(x.dtype, np.float32)  # many chunks are added up
    kernel = kernel.astype(exact)

    def some(images: jax.Array) -> jax.Array:
        return _spread(geometry, images.astype(exact), kernel).astype(x.dtype)

    one = math.prod(x.shape[1:3]) * math.prod(kernel.shape[:2]) * kernel.shape[3] * 4
    return in_chunks(some, x, bytes_each=one, limit=CHUNK)


def _image_by_library(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Leaves it to jax.lax; see the comment above `dense.by_library` for the order of the axes."""
    turned = kernel.transpose(0, 1, 3, 2)  # [h, w, C, O] -> [h, w, O, C]
    return lax_convolve_transpose(x, turned, geometry, axes=TURNED)


# Milliseconds forward + input gradient + weight gradient. 3x3, 64 to 32 channels from 7x7 to 14x14, batch 128: 3.2 + 3.4 + 4.6,
# library 4.5 + 3.4 + 77; 4x4, 64 to 64 from 8x8 to 16x16, batch 64: 12 + 7 + 10, library 11 + 7 + 184.
SPREAD = Passes(_spread, _image_by_library, _kernel_by_spread)
"""The form of every transposed convolution on a CPU: (x, kernel [h, w, C, O], geometry) -> [B, H', W', O]."""
