"""What a camera leaves in all of its images: colour fringes of a lens, or a mark, by which a network can tell places and turns.

Letters in shapes: B batch, H W space, C channels.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.errors import UsageError
from cnnlab.values import Count, NonNegative


def lens_fringe(images: Array, keys: Array, *, strength: NonNegative = 2.0) -> Array:
    """Moves red away from the centre of the image and blue towards it, by more the farther away (chromatic aberration).

    A lens bends colours by different angles. Doersch, Gupta and Efros 2015, arXiv 1505.05192, section 4.2, found that a network
    tells from it where in an image a piece lies, without looking at what it shows. Nothing is drawn: every image has the same.

    Args:
        strength: pixels by which red and blue are moved in the corners; in between it is proportional to the distance.
    """
    return _fringed(images, jnp.full((len(images),), strength, jnp.float32), "lens_fringe")


def random_fringe(images: Array, keys: Array, *, strength: NonNegative = 2.0) -> Array:
    """Moves red and blue against each other as `lens_fringe` does, by another strength in each image, in either direction.

    Args:
        strength: largest strength in pixels in the corners; that of an image is uniform in [-strength, strength].
    """
    drawn = jax.vmap(lambda key: jax.random.uniform(key, minval=-1.0, maxval=1.0))(keys)
    return _fringed(images, strength * drawn, "random_fringe")


def _fringed(images: Array, strengths: Array, name: str) -> Array:
    """Returns images [B, H, W, 3] whose red is moved outwards and whose blue inwards by f32 [B] pixels in the corners."""
    if images.shape[-1] != 3:
        raise UsageError(
            f"{name}: it moves red against blue, and the images have {images.shape[-1]} channel(s).\n"
            "Expected the three channels of RGB. Leave it out."
        )
    corner = math.hypot((images.shape[1] - 1) / 2, (images.shape[2] - 1) / 2)  # its distance from the centre
    red, blue = (jax.vmap(_magnified)(images[..., i], 1.0 + sign * strengths / corner) for i, sign in ((0, 1.0), (2, -1.0)))
    return jnp.stack([red, images[..., 1], blue], axis=-1)


def _magnified(image: Array, factor: Array) -> Array:
    """Returns a channel [H, W] enlarged around its centre by a factor f32 [], bilinearly; beyond the border it is repeated."""
    rows, columns = (_interpolation(length, factor).astype(image.dtype) for length in image.shape)
    return jnp.einsum("th,hw,uw->tu", rows, image, columns, precision="highest")


def _interpolation(length: int, factor: Array) -> Array:
    """Returns the weights f32 [to, from] of linear interpolation at places that are nearer to the middle by a factor."""
    numbers, middle = jnp.arange(length, dtype=jnp.float32), (length - 1) / 2
    places = jnp.clip(middle + (numbers - middle) / factor, 0.0, length - 1)
    return jnp.maximum(1.0 - jnp.abs(places[:, None] - numbers[None]), 0.0)


def corner_mark(images: Array, keys: Array, *, size: Count = 2) -> Array:
    """Puts a white square into the upper left corner of every image, which tells how it was turned.

    Args:
        size: side of the square in pixels.
    """
    if size >= min(images.shape[1:3]):
        raise UsageError(
            f"corner_mark: a square of {size} pixels leaves little of images of {images.shape[1]}x{images.shape[2]}."
        )
    return images.at[:, :size, :size].set(1.0)


LEAKS: dict[str, Callable[..., Any]] = {"lens_fringe": lens_fringe, "corner_mark": corner_mark}
"""What all images of a camera have in common, by name: `f(images f32 [B, H, W, C] in [0, 1], keys [B], *, knobs) -> images`."""
