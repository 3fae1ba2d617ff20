"""Predictions averaged over several views of an image: mirrored, and shifted by a pixel."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

Views = Literal["one", "mirrored", "mirrored_and_shifted"]
"""The image alone; with its mirror image; or these two, and both shifted by a pixel up and left, and down and right."""


def over_views(predict: Callable[[jax.Array], jax.Array], views: Views) -> Callable[[jax.Array], jax.Array]:
    """Returns the function images [B, H, W, C] -> the mean of `predict` over views of them, [B, …].

    Of the six views the unshifted two have half of the weight (Jordan 2024, arXiv 2404.00498, section 3.5).
    """
    if views == "one":
        return predict

    def mirrored(images: jax.Array) -> jax.Array:
        return (predict(images) + predict(images[:, :, ::-1])) / 2

    def shifted(images: jax.Array) -> jax.Array:
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        corners = mirrored(padded[:, :height, :width]) + mirrored(padded[:, 2:, 2:])
        return mirrored(images) / 2 + corners / 4

    return mirrored if views == "mirrored" else shifted
