"""Erased parts of images: a square of fixed size, or a rectangle of random area and shape. Masks and boxes stay as they are."""

from typing import Literal

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.data.variations.parts import inside, random_part, require_range
from cnnlab.values import Fraction, Probability

Paint = Literal["zeros", "mean", "noise"]
"""What an erased part shows: black, the mean colour of the image, or uniform noise in [0, 1]."""


def cutout(images: Array, keys: Array, *, share: Fraction = 0.5, paint: Paint = "zeros") -> Array:
    """Erases a square whose middle is a random pixel; what reaches across the border is cut off.

    DeVries and Taylor (2017, arXiv:1708.04552, section 4.2) take 16 of 32 pixels on CIFAR-10, 8 on CIFAR-100.

    Args:
        share: side of the square as a share of the shorter side of the image.
        paint: what the square shows: zeros, the mean of the image, or noise.
    """
    _, height, width, _ = images.shape
    side = jnp.round(jnp.asarray(share, jnp.float32) * min(height, width))

    def draw(image: Array, key: Array) -> Array:
        middle = jnp.stack(
            [jax.random.randint(jax.random.fold_in(key, i), (), 0, length) for i, length in enumerate((height, width))]
        )
        low = middle.astype(jnp.float32) - jnp.floor(side / 2)
        return _painted(image, inside((height, width), low, low + side), paint, jax.random.fold_in(key, 2))

    return jax.vmap(draw)(images, keys)


def random_erasing(
    images: Array,
    keys: Array,
    *,
    probability: Probability = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 3.3),
    paint: Paint = "noise",
) -> Array:
    """Erases a rectangle of random area and shape (Zhong et al. 2017, arXiv:1708.04896, algorithm 1, with its numbers).

    Args:
        probability: probability that an image loses a part.
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width over height; its logarithm is uniform.
        paint: what the part shows: zeros, the mean of the image, or noise.
    """
    require_range("area", area, high=1.0)
    require_range("ratio", ratio)
    _, height, width, _ = images.shape

    def draw(image: Array, key: Array) -> Array:
        corner, extent, fits = random_part(jax.random.fold_in(key, 0), (height, width), area, ratio)
        chosen = fits & jax.random.bernoulli(jax.random.fold_in(key, 1), probability)
        return _painted(image, chosen & inside((height, width), corner, corner + extent), paint, jax.random.fold_in(key, 2))

    return jax.vmap(draw)(images, keys)


def _painted(image: Array, region: Array, paint: Paint, key: Array) -> Array:
    """Returns an image [H, W, C] with a region, bool [H, W], painted over."""
    if paint == "noise":
        fill = jax.random.uniform(key, image.shape)
    else:
        fill = jnp.mean(image, axis=(0, 1), keepdims=True) if paint == "mean" else jnp.zeros((1, 1, 1))
    return jnp.where(region[..., None], fill, image)
