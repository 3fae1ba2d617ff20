"""Drawing an image pixel by pixel, in raster order, by a network that tells each from those before it: two loops.

Both draw the same image from the same key. `cached` is what one uses; `naive` is what it is measured against.
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
"""(model, output, variables, canvas f32 [N, H, W, C], labels i32 [N], keys [N], temperature f32 [], first_row) -> images like
canvas, whose rows above `first_row` are kept."""


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
    """The whole network for every value: its time grows with the square of the number of pixels."""
    _, height, width, channels = canvas.shape
    everywhere = Place((height, width))

    def pixel(number: Array, images: Array) -> Array:
        row, column = number // width, number % width
        for turn in range(_turns(output, channels)):
            numbers, _ = model.apply(variables, as_shown(images), labels, train=False, at=everywhere)
            images = _drawn(output, images, numbers[:, row, column], row, column, turn, keys, temperature)
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
    """The network at one pixel after the other, from kept activations (Ramachandran et al. 2017, arXiv 1704.06001).

    Its time grows with the number of pixels. Rows that are given are walked through too, since what follows needs their
    activations.
    """
    _, height, width, channels = canvas.shape
    size = (height, width)

    def evaluate(images: Array, cache: PyTree, row: Array, column: Array | None) -> tuple[Array, PyTree]:
        at = Place(size, row, column)
        (numbers, _), kept = model.apply(
            {**variables, "cache": cache}, as_shown(images), labels, train=False, at=at, mutable=["cache"]
        )
        return numbers, {**cache, **kept.get("cache", {})}

    def pixel(row: Array, column: Array, carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        images, cache = carry
        for turn in range(_turns(output, channels)):
            numbers, cache = evaluate(images, cache, row, column)
            drawn = _drawn(output, images, numbers[:, 0, 0], row, column, turn, keys, temperature)
            images = jnp.where(row < first_row, images, drawn) if first_row else drawn
        return images, cache

    def next_row(row: Array, carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        images, cache = carry
        if model.by_row:
            _, cache = evaluate(images, cache, row, None)
        return jax.lax.fori_loop(0, width, functools.partial(pixel, row), (images, cache))

    def shapes(images: Array) -> PyTree:
        zero = jnp.int32(0)
        cache = evaluate(images, {}, zero, None)[1] if model.by_row else {}
        return evaluate(images, cache, zero, zero)[1]

    cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(shapes, canvas))
    return jax.lax.fori_loop(0, height, next_row, (canvas, cache))[0]


LOOPS: dict[str, Loop] = {"cached": cached, "naive": naive}


def as_shown(values: Array) -> Array:
    """[0, 1] -> [−1, 1], so that the zeros beyond the image are not black."""
    return 2.0 * values - 1.0


def evaluations(output: PixelDistribution, shape: tuple[int, int, int]) -> int:
    """How often a loop evaluates the network for an image [H, W, C]."""
    height, width, channels = shape
    return height * width * _turns(output, channels)


def _turns(output: PixelDistribution, channels: int) -> int:
    return channels if output.autoregressive_channels else 1


def _drawn(
    output: PixelDistribution,
    images: Array,
    numbers: Array,
    row: Array,
    column: Array,
    turn: int,
    keys: Array,
    temperature: Array,
) -> Array:
    """Images with channel `turn` of a pixel drawn, or all its channels where the distribution orders them; numbers [N, P]."""
    width, channels = images.shape[2:]
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, row * width + column)
    values = jax.vmap(lambda n, k: output.draw(n, k, temperature, channels))(numbers.astype(jnp.float32), own)
    chosen = slice(turn, turn + 1) if output.autoregressive_channels else slice(None)
    return images.at[:, row, column, chosen].set(values[:, chosen].astype(images.dtype))
