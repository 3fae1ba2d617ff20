"""Sampling of images pixel by pixel, in raster order, from a network that predicts each pixel from those before it: two loops.

Both sample the same image from the same key. `cached` is for use; `naive` is the reference that it is measured against.

Letters in shapes: N images, H W space, C channels, P parameters of the distribution of a pixel.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Array, PyTree
from cnnlab.ops.pixel_distributions import PixelDistribution
from cnnlab.ops.raster_scan import Place

Loop = Callable[..., Array]
"""(model, output, variables, canvas f32 [N, H, W, C], labels i32 [N], keys [N], temperature f32 [], first_row) -> images of the
canvas's shape, with the rows of the canvas above `first_row`."""


def naive(
    model: nn.Module,
    output: PixelDistribution,
    variables: PyTree,
    canvas: Array,
    labels: Array,
    keys: Array,
    temperature: Array,
    first_row: int = 0,
) -> Array:
    """Evaluates the whole network for every value: the time grows with the square of the number of pixels."""
    _, height, width, channels = canvas.shape
    everywhere = Place((height, width))

    def pixel(number: Array, images: Array) -> Array:
        row, column = number // width, number % width
        for turn in range(_turns(output, channels)):
            distribution, _ = model.apply(variables, to_signed(images), labels, train=False, at=everywhere)
            # [N, H, W, P] at one pixel -> [N, P]
            images = _with_sampled_pixel(output, images, distribution[:, row, column], row, column, turn, keys, temperature)
        return images

    return jax.lax.fori_loop(first_row * width, height * width, pixel, canvas)


def cached(
    model: Any,
    output: PixelDistribution,
    variables: PyTree,
    canvas: Array,
    labels: Array,
    keys: Array,
    temperature: Array,
    first_row: int = 0,
) -> Array:
    """Evaluates the network at one pixel after the other, from kept activations (Ramachandran et al. 2017, arXiv 1704.06001).

    The time grows with the number of pixels. Rows that are given are evaluated too, since later pixels need their activations.
    """
    _, height, width, channels = canvas.shape
    size = (height, width)

    def evaluate(images: Array, cache: PyTree, row: Array, column: Array | None) -> tuple[Array, PyTree]:
        """Evaluates a pixel, or a row where column is None; returns f32 [N, 1, 1 or W, P] and the cache of activations."""
        at = Place(size, row, column)
        (distribution, _), kept = model.apply(
            {**variables, "cache": cache}, to_signed(images), labels, train=False, at=at, mutable=["cache"]
        )
        return distribution, {**cache, **kept.get("cache", {})}

    def pixel(row: Array, column: Array, carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        images, cache = carry
        for turn in range(_turns(output, channels)):
            distribution, cache = evaluate(images, cache, row, column)
            # [N, 1, 1, P] -> [N, P]
            sampled = _with_sampled_pixel(output, images, distribution[:, 0, 0], row, column, turn, keys, temperature)
            images = jnp.where(row < first_row, images, sampled) if first_row else sampled
        return images, cache

    def next_row(row: Array, carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        images, cache = carry
        if model.by_row:  # a part of the network reads the rows above alone: it is evaluated once for the whole row
            _, cache = evaluate(images, cache, row, None)
        return jax.lax.fori_loop(0, width, functools.partial(pixel, row), (images, cache))

    def cache_of(images: Array) -> PyTree:
        """Returns the cache after the first pixel; only its shapes are used."""
        zero = jnp.int32(0)
        cache = evaluate(images, {}, zero, None)[1] if model.by_row else {}
        return evaluate(images, cache, zero, zero)[1]

    cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(cache_of, canvas))
    return jax.lax.fori_loop(0, height, next_row, (canvas, cache))[0]


LOOPS: dict[str, Loop] = {"cached": cached, "naive": naive}


def to_signed(values: Array) -> Array:
    """Maps [0, 1] to [−1, 1], so that the zeros of the padding are not black."""
    return 2.0 * values - 1.0


def evaluations(output: PixelDistribution, shape: tuple[int, int, int]) -> int:
    """Returns how often a loop evaluates the network for an image [H, W, C]."""
    height, width, channels = shape
    return height * width * _turns(output, channels)


def _turns(output: PixelDistribution, channels: int) -> int:
    """Returns the number of evaluations for each pixel."""
    return channels if output.autoregressive_channels else 1


def _with_sampled_pixel(
    output: PixelDistribution,
    images: Array,
    distribution: Array,
    row: Array,
    column: Array,
    turn: int,
    keys: Array,
    temperature: Array,
) -> Array:
    """Returns images [N, H, W, C] with one pixel sampled: channel `turn` of it, or all where one evaluation gives all.

    Args:
        output: distribution of a pixel.
        images: f32 [N, H, W, C].
        distribution: its parameters [N, P] at this pixel.
        row: row of the pixel.
        column: column of the pixel.
        turn: number of the evaluation, from 0.
        keys: [N].
        temperature: 1 samples the distribution as it is.
    """
    width, channels = images.shape[2:]
    # A key for the pixel, the same in every turn: the channels of one draw agree with those drawn before.
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, row * width + column)
    # [N, P] -> [N, C]
    values = jax.vmap(lambda n, k: output.draw(n, k, temperature, channels))(distribution.astype(jnp.float32), own)
    chosen = slice(turn, turn + 1) if output.autoregressive_channels else slice(None)
    return images.at[:, row, column, chosen].set(values[:, chosen].astype(images.dtype))
