"""Enlarges maps [B, H, W, C] by copying, by zeros between the pixels and by bilinear interpolation."""

import jax
import jax.numpy as jnp
import numpy as np


def nearest(x: jax.Array, factor: int = 2) -> jax.Array:
    """Copies every pixel of x [B, H, W, C] into a block: [B, H · factor, W · factor, C]."""
    batch, height, width, channels = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, factor, width, factor, channels))
    return blocks.reshape(batch, height * factor, width * factor, channels)  # [B, H, f, W, f, C] -> [B, H·f, W·f, C]


def bed_of_nails(x: jax.Array, factor: int = 2) -> jax.Array:
    """Puts every pixel of x [B, H, W, C] into the upper left corner of a block of zeros: [B, H · factor, W · factor, C]."""
    between = (0, factor - 1, factor - 1)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), between, between, (0, 0, 0)))


def bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Interpolates x [B, H, W, C] to a size (H', W') along straight lines between the centres of the pixels: [B, H', W', C].

    Beyond the outermost centres the border is repeated. It equals torch's `interpolate(align_corners=False)`; nothing is
    averaged where the image shrinks.
    """
    for axis, length in zip((1, 2), size, strict=True):
        if x.shape[axis] != length:
            weights = jnp.asarray(bilinear_weights(length, x.shape[axis]), x.dtype)
            # [H', H] x […, H, …] -> [H', …] -> […, H', …]
            x = jnp.moveaxis(jnp.tensordot(weights, x, axes=(1, axis)), 0, axis)
    return x


def bilinear_weights(to: int, of: int) -> np.ndarray:
    """Returns the weights, f64 [to, of], of the pixels of a row that is interpolated to another length."""
    centres = np.clip((np.arange(to) + 0.5) * of / to - 0.5, 0, of - 1)
    lower = np.minimum(np.floor(centres).astype(int), max(of - 2, 0))
    weights = np.zeros((to, of))
    weights[np.arange(to), lower] = 1 - (centres - lower)
    weights[np.arange(to), np.minimum(lower + 1, of - 1)] += centres - lower
    return weights


def spread(x: jax.Array, factor: int) -> jax.Array:
    """Computes the transposed convolution with `bilinear_kernel` of stride `factor`: [B, (H + 1) · factor, …, C].

    The factor is even, so that the kernel has 2 · factor rows. Without the outermost factor / 2 rows and columns the
    result is bilinear interpolation, but for a border of as many pixels, where zeros take the place of the repeated border.
    """
    for axis in (1, 2):
        count, triangle = x.shape[axis], _triangle(2 * factor)
        weights = np.zeros(((count + 1) * factor, count))
        for place in range(count):
            weights[place * factor : (place + 2) * factor, place] = triangle
        # [H', H] x […, H, …] -> [H', …] -> […, H', …]
        x = jnp.moveaxis(jnp.tensordot(jnp.asarray(weights, x.dtype), x, axes=(1, axis)), 0, axis)
    return x


def bilinear_kernel(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns the kernel [h, w, C, O] of a transposed convolution that interpolates each channel to the output of its number.

    A kernel of side 2f − f mod 2 with the stride f enlarges by the factor f (Long et al. 2015, section 3.3; the filler
    `bilinear` of Caffe). Only numbers of inputs and outputs that are equal, or either 1, make sense.
    """
    *sides, inputs, outputs = shape
    rows, columns = (np.asarray(_triangle(side)) for side in sides)
    kernel = np.outer(rows, columns)[:, :, None, None] * np.eye(inputs, outputs)[None, None]
    return jnp.asarray(kernel, dtype)


def _triangle(side: int) -> np.ndarray:
    """Returns the weights f64 [side] of linear interpolation, which fall to 0 a stride away from the middle."""
    factor = (side + 1) // 2
    centre = factor - 1 if side % 2 else factor - 0.5
    return 1 - np.abs(np.arange(side) - centre) / factor
