"""Noise and blur."""

import math

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.data.variations.parts import require_range
from cnnlab.values import NonNegative, Probability

REACH = 3.0
"""Standard deviations to either side that the weights of a blur reach."""


def noise(images: Array, keys: Array, *, deviation: NonNegative = 0.05) -> Array:
    """Adds normal noise to every pixel and channel, and clips to [0, 1].

    Args:
        deviation: standard deviation of the noise, on images in [0, 1].
    """
    drawn = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    return jnp.clip(images + deviation * drawn, 0.0, 1.0)


def blur(images: Array, keys: Array, *, deviations: tuple[float, float] = (0.1, 2.0), probability: Probability = 0.5) -> Array:
    """Blurs images by a Gaussian whose standard deviation is uniform in a range; the image is reflected at its border.

    Chen et al. (2020, arXiv:2002.05709, appendix A) blur half of the images by 0.1 to 2 pixels.

    Args:
        deviations: smallest and largest standard deviation, in pixels.
        probability: probability that an image is blurred.
    """
    require_range("deviations", deviations)

    def draw(key: Array) -> tuple[Array, Array]:
        low, high = deviations
        return jax.random.uniform(jax.random.fold_in(key, 0), minval=low, maxval=high), jax.random.bernoulli(
            jax.random.fold_in(key, 1), probability
        )

    drawn, chosen = jax.vmap(draw)(keys)
    return jnp.where(chosen[:, None, None, None], blurred(images, drawn, math.ceil(REACH * deviations[1])), images)


def blurred(images: Array, deviations: Array, radius: int) -> Array:
    """Returns images [B, H, W, C] blurred by Gaussians of standard deviations f32 [B], cut off at `radius` pixels."""
    for axis in (1, 2):
        side = images.shape[axis]
        reach = min(radius, side - 1)  # a reflection is no longer than the image
        away = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
        weights = jnp.exp(-0.5 * (away[None] / deviations[:, None]) ** 2)  # [B, taps]
        weights = weights / jnp.sum(weights, axis=1, keepdims=True)
        widths = [(reach, reach) if place == axis else (0, 0) for place in range(4)]
        padded = jnp.pad(images, widths, mode="reflect")
        images = sum(
            (
                weights[:, tap, None, None, None] * jax.lax.slice_in_dim(padded, tap, tap + side, axis=axis)
                for tap in range(2 * reach + 1)
            ),
            jnp.zeros_like(images),
        )
    return images
