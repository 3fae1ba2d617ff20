"""Tones of an image as Pillow changes them: posterised, solarised, equalised, with full contrast, sharpened.

Images are f32 [H, W, C] in [0, 1]; where grey levels are counted, there are 256 of them.
"""

import jax
import jax.numpy as jnp

from cnnlab.core import Array

LEVELS = 256


def posterized(image: Array, bits: Array) -> Array:
    """Returns the image with the `bits` highest of the eight bits of every level, f32 [] of a whole number in [0, 8]."""
    step = 2.0 ** (8.0 - bits)
    return jnp.floor(image * LEVELS / step) * step / LEVELS


def solarized(image: Array, threshold: Array) -> Array:
    """Returns the image with the pixels at or above a threshold, f32 [] in [0, 1], inverted."""
    return jnp.where(image >= threshold, 1.0 - image, image)


def with_full_contrast(image: Array) -> Array:
    """Returns the image with every channel stretched to [0, 1]; a channel of one level stays as it is."""
    low, high = (limit(image, axis=(0, 1), keepdims=True) for limit in (jnp.min, jnp.max))
    return jnp.where(high > low, (image - low) / jnp.where(high > low, high - low, 1.0), image)


def equalized(image: Array) -> Array:
    """Returns the image with the levels of every channel spread so that about as many pixels have each."""

    def channel(plane: Array) -> Array:
        levels = jnp.clip(jnp.floor(plane * LEVELS), 0, LEVELS - 1).astype(jnp.int32)
        counts = jnp.zeros(LEVELS, jnp.int32).at[levels.reshape(-1)].add(1)  # [H, W] -> [H·W] -> [LEVELS]
        last = counts[jnp.max(levels)]
        step = (plane.size - last) // (LEVELS - 1)
        below = jnp.cumsum(counts) - counts
        table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, LEVELS - 1)
        return jnp.where(step > 0, table[levels].astype(plane.dtype) / LEVELS, plane)

    return jax.vmap(channel, in_axes=2, out_axes=2)(image)


def smoothed(image: Array) -> Array:
    """Returns the image after a 3 x 3 filter whose middle counts 5 and whose neighbours count 1; the border stays as it is."""
    height, width = image.shape[:2]
    if min(height, width) < 3:
        return image
    parts = [image[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    inner = (sum(parts[1:], parts[0]) + 4.0 * image[1:-1, 1:-1]) / 13.0
    return image.at[1:-1, 1:-1].set(inner)
