"""Numbers on a grid of few integers: scales and zero points, quantisation that is simulated in floats, and ranges.

A number x has the code q = round(x / scale) + zero, cut to the limits of its bits, and stands for (q − zero) · scale. Rounding
is to the even integer at ties, and 0 has a code of its own. Formulas are those of torch.ao.quantization (observers and
fake_quantize; tests/parity/test_quantize.py): affine grids have zero points and all 2^b codes, symmetric ones have none and
leave the lowest code out (quant_min = 1 − 2^(b − 1) there), so that a weight and its negative are alike, and what was
quantised keeps its codes when it is quantised again.

Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only inference, arXiv
1712.05877; Krishnamoorthi 2018, Quantizing deep convolutional networks for efficient inference, arXiv 1806.08342.

Letters in shapes: B examples of a batch, O output channels.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops import collectives

Limits = tuple[int, int]
"""Least and most code."""
Ranges = Literal["minmax", "average", "percentile"]
"""How the range of activations is found: their extremes over all batches; the average, over batches, of their extremes; or
the average, over images, of a percentile and its counterpart."""

COLLECTION = "quantization"
"""Name, in the model state of a quantised network, of `is_on`, bool [], whether numbers are rounded yet, and of `ranges`, {path
of a layer: {low f32 [], high f32 []} of its input}."""
LEAST_SCALE = float(np.finfo(np.float32).eps)
"""Scale of a range that holds nothing but 0."""
RATE = 0.01
"""Share of a new batch in a moving average of ranges, `averaging_constant` of torch's observers."""


class Grid(NamedTuple):
    """Where the codes lie: one grid for all numbers, [], or one for each output channel, [O]."""

    scale: jax.Array
    """Distance of neighbouring codes, f32 or f64."""
    zero: jax.Array
    """Code of the number 0, a whole number of the same type."""


class Extent(NamedTuple):
    """The numbers between which activations lie, f32 []."""

    low: jax.Array
    high: jax.Array


def limits(bits: int, *, symmetric: bool) -> Limits:
    """Returns the least and most code of a number of bits, signed; symmetric ones leave the lowest out."""
    most = 2 ** (bits - 1) - 1
    return (-most if symmetric else -most - 1), most


def affine(extent: Extent, codes: Limits) -> Grid:
    """Returns the grid that spans a range, widened to hold 0, with all its codes.

    Args:
        extent: low and high [] or [O].
        codes: least and most code.
    """
    least, most = codes
    low, high = (jnp.asarray(each) for each in extent)
    low, high = jnp.where(low < 0, low, jnp.zeros_like(low)), jnp.where(high > 0, high, jnp.zeros_like(high))
    scale = _divided(high - low, most - least)
    zero = jnp.asarray(least, low.dtype) - jnp.round(low / scale)
    return Grid(scale, jnp.clip(zero, *(jnp.asarray(code, low.dtype) for code in codes)))


def symmetric(extent: Extent, codes: Limits) -> Grid:
    """Returns the grid that spans a range to both sides of 0, whose code is 0; arguments as in `affine`."""
    least, most = codes
    low, high = (jnp.asarray(each) for each in extent)
    furthest = jnp.where(-low > high, -low, high)
    scale = _divided(furthest, (most - least) / 2)
    return Grid(scale, jnp.zeros_like(scale))


def _divided(span: jax.Array, parts: float) -> jax.Array:
    """Returns the scale of a span that is divided into parts, at least LEAST_SCALE."""
    # Without the barrier XLA multiplies by the inverse of a number by which it divides all, which may round otherwise.
    scale = span / jax.lax.optimization_barrier(jnp.full_like(span, parts))
    return jnp.where(scale > LEAST_SCALE, scale, jnp.asarray(LEAST_SCALE, scale.dtype))


def of_weights(kernel: jax.Array, codes: Limits, by: Literal["channel", "tensor"]) -> Grid:
    """Returns the symmetric grid of a kernel [..., O]: one for each output channel, [O], or one for all, [].

    No gradient passes through it.
    """
    axes = tuple(range(kernel.ndim - 1)) if by == "channel" else None
    kernel = jax.lax.stop_gradient(kernel)
    return symmetric(Extent(jnp.min(kernel, axes), jnp.max(kernel, axes)), codes)


def codes_of(x: jax.Array, grid: Grid, codes: Limits) -> jax.Array:
    """Returns the codes of numbers x [...] or [..., O], whole numbers of the type of x."""
    return jnp.clip(_uncut(x, grid), *(jnp.asarray(code, x.dtype) for code in codes))


def _uncut(x: jax.Array, grid: Grid) -> jax.Array:
    """Returns the codes without limits. As torch does, it multiplies by the inverse: x / scale may round to another code."""
    scale, zero = (_over(each, x) for each in grid)
    return zero + jnp.round(x * (jnp.ones_like(scale) / scale))


def values_of(codes: jax.Array, grid: Grid) -> jax.Array:
    """Returns the numbers for which codes [...] or [..., O], floats, stand."""
    scale, zero = (_over(each, codes) for each in grid)
    return (codes - zero) * scale


def _over(each: jax.Array, x: jax.Array) -> jax.Array:
    """Returns numbers [] or [O] with as many axes as x [..., O], and of its type."""
    return each.astype(x.dtype).reshape((1,) * (x.ndim - each.ndim) + each.shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def quantized(x: jax.Array, grid: Grid, codes: Limits) -> jax.Array:
    """Returns x [...] or [..., O] rounded to its grid; the gradient passes straight through, and is 0 outside of the limits.

    Bengio et al. 2013, arXiv 1308.3432, section 4, for the gradient. None passes to the grid.
    """
    return values_of(codes_of(x, grid, codes), grid)


@quantized.defjvp
def _straight_through(codes: Limits, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    """Implements the derivative of `quantized`."""
    (x, grid), moved = primals, tangents[0]
    found = _uncut(x, grid)
    inside = (found >= codes[0]) & (found <= codes[1])
    return quantized(x, grid, codes), jnp.where(inside, moved, jnp.zeros_like(moved))


def extent_of(x: jax.Array, how: Ranges, percentile: float) -> Extent:
    """Returns what a batch says of the range of activations x [B, …], over the global batch; no gradient passes.

    Args:
        x: activations.
        how: as in Ranges.
        percentile: percentile of the values of an image that its range reaches up to, in (50, 100]; its counterpart is
            100 − percentile.
    """
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    if how != "percentile":
        return Extent(*collectives.global_extremes(jnp.min(x), jnp.max(x)))
    of_images = x.reshape(x.shape[0], -1)  # [B, …] -> [B, product of the other axes]
    shares = jnp.asarray([1.0 - percentile / 100, percentile / 100], jnp.float32)
    low, high = jnp.mean(jnp.quantile(of_images, shares, axis=1), axis=1)  # [2, B] -> [2]
    return Extent(*collectives.global_mean((low, high)))


def first_extent(batches: Sequence[Extent], how: Ranges) -> Extent:
    """Returns the range that several batches give, on the host."""
    lows, highs = (np.asarray(each, np.float32) for each in zip(*batches, strict=True))  # [batches]
    if how == "minmax":
        return Extent(lows.min(), highs.max())
    return Extent(lows.mean(dtype=np.float32), highs.mean(dtype=np.float32))


def next_extent(old: Extent, batch: Extent, how: Ranges) -> Extent:
    """Returns the range after a batch of training: wider where its extremes are further, or moved by RATE towards it."""
    if how == "minmax":
        low = jnp.where(batch.low < old.low, batch.low, old.low)
        return Extent(low, jnp.where(batch.high > old.high, batch.high, old.high))
    low, high = (before + RATE * (new - before) for before, new in zip(old, batch, strict=True))
    return Extent(low, high)
