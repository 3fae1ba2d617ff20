"""Segmentation without training: the threshold between dark and bright pixels that every image has of its own."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError
from cnnlab.models.dense_maps import with_output

LEVELS = 256
"""Number of grey levels between the darkest and the brightest pixel of an image."""


class Otsu(nn.Module):
    """Otsu's threshold; the side with fewer pixels is class 1. It has no parameters.

    Otsu 1979, A threshold selection method from gray-level histograms, IEEE Transactions on Systems, Man, and Cybernetics 9.

    Attributes:
        classes: number of classes, which is 2.
    """

    classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, 2] of ±1, the logits as `output`)."""
        if self.classes != 2:
            raise UsageError(
                f"a threshold divides pixels into 2 classes, and there are {self.classes}.\nTake another --model, such as unet."
            )
        grey = jnp.mean(images.astype(jnp.float32), axis=-1)
        sign = jnp.where(jax.vmap(minority_side)(grey), 1.0, -1.0)
        return with_output(jnp.stack([-sign, sign], axis=-1), {})


def minority_side(grey: jax.Array) -> jax.Array:
    """Returns the pixels of an image [H, W] on the side of Otsu's threshold that has fewer of them, bool [H, W]."""
    bright = grey > threshold(grey)
    return jnp.where(jnp.mean(bright.astype(jnp.float32)) <= 0.5, bright, ~bright)


def threshold(grey: jax.Array) -> jax.Array:
    """Returns the grey level above which pixels of an image [H, W] are bright, f32 []: between-class variance is largest there.

    The levels are LEVELS equal parts of the range of the image, as in scikit-image's threshold_otsu.
    """
    low, high = jnp.min(grey), jnp.max(grey)
    width = jnp.maximum(high - low, 1e-12) / LEVELS
    places = jnp.clip(((grey - low) / width).astype(jnp.int32), 0, LEVELS - 1)
    counts = jnp.zeros(LEVELS).at[places.reshape(-1)].add(1.0)  # [H, W] -> [H·W]
    middles = low + (jnp.arange(LEVELS, dtype=jnp.float32) + 0.5) * width
    below, above = jnp.cumsum(counts), jnp.cumsum(counts[::-1])[::-1]
    mean_below = jnp.cumsum(counts * middles) / jnp.maximum(below, 1.0)
    mean_above = (jnp.cumsum((counts * middles)[::-1]) / jnp.maximum(above[::-1], 1.0))[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return middles[jnp.argmax(between)]
