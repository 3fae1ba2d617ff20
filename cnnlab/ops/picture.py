"""Regularisers of synthesised pictures: smoothness, blur and random shifts, all differentiable.

Letters in shapes: B batch, H W space, C channels.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

REACH = 3
"""Standard deviations to either side that the weights of a blur reach."""


def total_variation(pictures: jax.Array) -> jax.Array:
    """Returns the mean squared difference of neighbouring pixels, f32 [B], of pictures f32 [B, H, W, C].

    It is the total variation of Mahendran and Vedaldi 2015 (arXiv 1412.0035, section 3) with the exponent β = 2, as a mean.
    """
    down, right = pictures[:, 1:] - pictures[:, :-1], pictures[:, :, 1:] - pictures[:, :, :-1]
    return jnp.mean(down**2, (1, 2, 3)) + jnp.mean(right**2, (1, 2, 3))


def gaussian_blur(pictures: jax.Array, deviation: float) -> jax.Array:
    """Blurs pictures [B, H, W, C] by a Gaussian; pixels beyond the border are those of the border.

    Args:
        pictures: values of any range.
        deviation: standard deviation in pixels; 0 leaves the pictures as they are.
    """
    if deviation == 0:
        return pictures
    reach = math.ceil(REACH * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (1, 2):
        padding = [(reach, reach) if place == axis else (0, 0) for place in range(4)]
        wide, size = jnp.pad(pictures, padding, mode="edge"), pictures.shape[axis]
        parts = [jax.lax.slice_in_dim(wide, start, start + size, axis=axis) for start in range(len(weights))]
        pictures = sum((weight * part for weight, part in zip(weights.tolist(), parts, strict=True)), jnp.zeros_like(pictures))
    return pictures


def jitter(pictures: jax.Array, keys: jax.Array, most: int) -> jax.Array:
    """Shifts each picture by up to `most` pixels in both directions, at random; what leaves on one side enters on the other.

    Args:
        pictures: f32 [B, H, W, C].
        keys: one PRNG key for each picture, keys [B]; the same keys shift other pictures alike.
        most: largest shift in pixels; 0 leaves the pictures as they are.
    """
    if most == 0:
        return pictures
    shifts = jax.vmap(lambda key: jax.random.randint(key, (2,), -most, most + 1, jnp.int32))(keys)  # [B, 2]
    return jax.vmap(lambda picture, shift: jnp.roll(picture, shift, axis=(0, 1)))(pictures, shifts)
