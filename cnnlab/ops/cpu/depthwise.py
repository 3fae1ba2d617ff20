"""Forms of a depth-wise convolution, kernel [h, w, 1, C · m]: every channel by itself, as shifted multiply-adds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnlab.ops.cpu.chunks import SHIFTED, in_chunks, taps
from cnnlab.ops.windows import Geometry


def by_shifts(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Adds up the taps times their weights; a kernel [h, w, 1, C · m] makes m channels of each. Sums are at least f32."""
    exact = np.promote_types(x.dtype, np.float32)
    kernel = kernel.astype(exact)

    def some(images: jax.Array) -> jax.Array:
        images = _repeat_channels(images.astype(exact), kernel.shape[-1])
        # [b, H', W', C·m] x ([1, C·m] -> [1, 1, 1, C·m])
        products = [tap * kernel[i, j].reshape(1, 1, 1, -1) for i, j, tap in taps(images, kernel.shape, geometry)]
        return sum(products[1:], products[0]).astype(x.dtype)

    return in_chunks(some, x, bytes_each=math.prod(x.shape[1:3]) * kernel.shape[-1] * 4, limit=SHIFTED)


def image_by_shifts(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes the same as `by_shifts`, with every pixel moved under its taps, so that the transpose reads slices.

    Rows and columns a stride apart form a plane, which meets every stride-th tap.
    """
    if geometry.dilation != (1, 1):
        return by_shifts(geometry, x, kernel)
    (height, width, _, channels), (down, right) = kernel.shape, geometry.strides
    out_height, out_width = geometry.output_size(x.shape, kernel.shape)
    below, beside = (height - 1) // down, (width - 1) // right  # rows and columns of a plane beyond the result
    exact = np.promote_types(x.dtype, np.float32)
    kernel, zero = kernel.astype(exact), np.zeros((), exact)
    sizes = ((out_height + below) * down, (out_width + beside) * right)
    sides = [(low, size - n - low, 0) for size, n, (low, _) in zip(sizes, x.shape[1:3], geometry.padding, strict=True)]

    def some(images: jax.Array) -> jax.Array:
        images = lax.pad(_repeat_channels(images.astype(exact), channels), zero, ((0, 0, 0), *sides, (0, 0, 0)))
        # With I = H' + below and J = W' + beside:
        # [b, I·down, J·right, C] -> [b, I, down, J, right, C] -> [b, I, J, down, right, C]
        strided = images.reshape(-1, out_height + below, down, out_width + beside, right, channels).transpose(0, 1, 3, 2, 4, 5)
        # [b, I, J, down, right, C] -> [b, I, J, down·right·C] -> down·right planes [b, I, J, C]
        planes = lax.split(strided.reshape(*strided.shape[:3], -1), [channels] * (down * right), axis=3)
        # Tap (i, j) meets the plane (i mod down, j mod right), moved by (i // down, j // right).
        products = [
            lax.pad(
                planes[i % down * right + j % right] * kernel[i, j].reshape(1, 1, 1, -1),  # [1, C] -> [1, 1, 1, C]
                zero,
                ((0, 0, 0), (below - i // down, i // down, 0), (beside - j // right, j // right, 0), (0, 0, 0)),
            )
            for i in range(height)
            for j in range(width)
        ]
        total = sum(products[1:], products[0])
        ends = (len(images), below + out_height, beside + out_width, channels)
        return lax.slice(total, (0, below, beside, 0), ends).astype(x.dtype)

    return in_chunks(some, x, bytes_each=math.prod(x.shape[1:]) * 4, limit=SHIFTED)


def _repeat_channels(x: jax.Array, features: int) -> jax.Array:
    """Repeats every channel features / C times, next to itself: [B, H, W, C] -> [B, H, W, features]."""
    return x if features == x.shape[-1] else jnp.repeat(x, features // x.shape[-1], axis=-1)
