"""Forms of a convolution in which every channel meets every feature: columns and one matrix product, or channel by channel."""

import math

import jax
import numpy as np
from jax import lax

from cnnlab.ops.cpu.chunks import CHUNK, SHIFTED, in_chunks, taps
from cnnlab.ops.lax_convolution import TURNED, lax_convolve
from cnnlab.ops.windows import Geometry


def by_columns(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies the columns of x by the kernel as one matrix."""
    matrix = kernel.reshape(-1, kernel.shape[-1])  # [h, w, C, O] -> [h·w·C, O]
    return over_channels(_columns(x, kernel.shape, geometry), matrix, 0)


def by_columns_in_chunks(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Does the same a few images at a time, so that the columns stay in the caches."""
    one = _bytes_of_columns(x, kernel, geometry)
    return in_chunks(lambda images: by_columns(geometry, images, kernel), x, bytes_each=one, limit=CHUNK)


def by_channels(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Adds up every channel of every tap times its row of the kernel."""

    def some(images: jax.Array) -> jax.Array:
        products = [
            # [b, H', W', 1] x ([O] -> [1, 1, 1, O]) -> [b, H', W', O]
            lax.slice_in_dim(tap, channel, channel + 1, axis=3) * kernel[i, j, channel].reshape(1, 1, 1, -1)
            for i, j, tap in taps(images, kernel.shape, geometry)
            for channel in range(x.shape[3])
        ]
        return sum(products[1:], products[0])

    one = math.prod(geometry.output_size(x.shape, kernel.shape)) * kernel.shape[3] * 4
    return in_chunks(some, x, bytes_each=one, limit=SHIFTED)


# XLA:CPU has a kernel for convolutions whose axes are in the order NHWC, HWIO, NHWC. Those of a gradient are not, and XLA turns
# them in the entry computation of a program alone: in the body of a loop (lax.scan, lax.fori_loop, lax.map) it runs them as
# plain loops, 2 to 20 times slower. Hence `image_by_library` and `kernel_by_library`, which compute what `by_library` does with
# axes such that JAX, which transposes them to gradients, finds that order. Forward and both gradients in a scan over four
# batches of 64, 3x3, two cores: 32 to 64 at 28x28 21.5 s, turned 3.4; 64 to 64 at 16x16 with stride 2 2.7 s, turned 0.12.


def by_library(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Leaves it to jax.lax."""
    return lax_convolve(x, kernel, geometry)


def image_by_library(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Leaves it to jax.lax, so that the input gradient is a convolution of [B, H', W', O] with [h, w, O, C]."""
    turned = kernel.transpose(0, 1, 3, 2)  # [h, w, C, O] -> [h, w, O, C]
    return lax_convolve(x, turned, geometry, axes=TURNED)


def kernel_by_library(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Leaves it to jax.lax, so that the weight gradient is a convolution of [C, H, W, B] with [H', W', B, O]."""
    x = x.transpose(3, 1, 2, 0)  # [B, H, W, C] -> [C, H, W, B]
    kernel = kernel.transpose(2, 0, 1, 3)  # [h, w, C, O] -> [C, h, w, O]
    y = lax_convolve(x, kernel, geometry, axes=("CHWN", "IHWO", "HWNC"))
    return y.transpose(2, 0, 1, 3)  # [H', W', B, O] -> [B, H', W', O]


# A convolution is linear in its kernel, so the weight gradient is the transpose of the forward-mode derivative by the kernel.
# The function below is that derivative, written so that its transpose is the fast weight gradient: sums run over
# chunks, and the kernel is transposed outside of the product, because XLA multiplies [O, pixels] by [pixels, C] at full speed
# but at less than half when the result has to be turned afterwards (128 to 256 1x1: 17 against 34 ms).


def kernel_by_chunks(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves from the columns of a few images at a time, whose transpose by the kernel is the fast weight gradient."""
    exact = np.promote_types(x.dtype, np.float32)  # many chunks are added up
    transposed = kernel.reshape(-1, kernel.shape[-1]).T.astype(exact)  # [h, w, C, O] -> [O, h·w·C]

    def some(images: jax.Array) -> jax.Array:
        return over_channels(_columns(images.astype(exact), kernel.shape, geometry), transposed, 1).astype(x.dtype)

    return in_chunks(some, x, bytes_each=_bytes_of_columns(x, kernel, geometry), limit=CHUNK)


def over_channels(x: jax.Array, matrix: jax.Array, axis: int) -> jax.Array:
    """Contracts the channels of x [B, H, W, C] with the axis `axis` of a matrix: [B, H, W, the other axis]."""
    return lax.dot_general(x, matrix, (((3,), (axis,)), ((), ())))


def _columns(x: jax.Array, kernel: tuple[int, ...], geometry: Geometry) -> jax.Array:
    """Returns [B, H', W', h·w·C]: the pixels of each window, in the order of a kernel [h, w, C, O]."""
    pixels = [tap for _, _, tap in taps(x, kernel, geometry)]
    return pixels[0] if len(pixels) == 1 else lax.concatenate(pixels, 3)  # h·w x [B, H', W', C] -> [B, H', W', h·w·C]


def _bytes_of_columns(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> int:
    """Bytes in f32 of the columns of one image and of the result."""
    return math.prod(geometry.output_size(x.shape, kernel.shape)) * (math.prod(kernel.shape[:3]) + kernel.shape[3]) * 4
