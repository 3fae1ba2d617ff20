"""Occlusion: how far the score falls when a window is covered (Zeiler and Fergus 2013, arXiv 1311.2901, section 4.2)."""

import functools
import math

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.explain.attribution import target_scores
from cnnlab.explain.network import Network, scores


def window_of(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Returns (side of the window, stride) in pixels for an image: a seventh of its shorter side, and half of that."""
    side = max(1, round(min(image_shape[:2]) / 7))
    return side, max(1, side // 2)


def places(size: int, window: int, stride: int) -> list[int]:
    """Returns the first row of every window; the last one may hang over the border, so that every row is covered."""
    return [number * stride for number in range(math.ceil(max(size - window, 0) / stride) + 1)]


@functools.partial(jax.jit, static_argnames="window")
def _fall(network: Network, images: Array, target: Array, top: Array, left: Array, *, window: int) -> tuple[Array, Array]:
    """Returns (score [B] with a window at 0, bool [H, W] of the window)."""
    rows, columns = (jnp.arange(size) for size in images.shape[1:3])
    inside = ((rows >= top) & (rows < top + window))[:, None] & ((columns >= left) & (columns < left + window))[None]
    covered = jnp.where(inside[None, :, :, None], jnp.zeros((), images.dtype), images)  # [H, W] -> [1, H, W, 1]
    return target_scores(network.logits(covered), target), inside


def occlusion(network: Network, images: Array, target: Array, *, window: int | None = None, stride: int | None = None) -> Array:
    """Returns the mean fall of the score over all windows that cover a pixel, [B, H, W]; negative where covering raises it.

    Args:
        network: the network.
        images: f32 [B, H, W, C], normalised; covered pixels are 0 there.
        target: i32 [B].
        window: side of the square window in pixels; None: that of `window_of`.
        stride: distance between windows in pixels; None: that of `window_of`.
    """
    usual = window_of(network.image_shape)
    window, stride = window or usual[0], stride or usual[1]
    height, width = images.shape[1:3]
    before = target_scores(scores(network, images), target)  # [B]
    total = jnp.zeros(images.shape[:3], images.dtype)
    count = jnp.zeros((height, width), images.dtype)
    for top in places(height, window, stride):
        for left in places(width, window, stride):
            after, inside = _fall(network, images, target, jnp.asarray(top), jnp.asarray(left), window=window)
            covered = inside.astype(images.dtype)
            total += (before - after)[:, None, None] * covered[None]  # [B] and [H, W] -> [B, H, W]
            count += covered
    return total / count[None]
