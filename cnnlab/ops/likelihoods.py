"""Likelihoods of images under a decoder, as log p in nats for each image; pixels are independent given the code.

A decoder outputs parameters f32 [..., H, W, C · outputs], `outputs` for each of the C values of a pixel; the first C are the
means or logits. Float knobs may be tracers.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from cnnlab.ops.bounds import between
from cnnlab.values import Positive, Range


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """A distribution over images, given the parameters that a decoder outputs."""

    outputs: int
    """Number of parameters for one value of an image."""
    log_p: Callable[[jax.Array, jax.Array], jax.Array]
    """(parameters f32 [..., H, W, C · outputs], images f32 [..., H, W, C] in [0, 1]) -> log p f32 [...] in nats."""
    mean: Callable[[jax.Array], jax.Array]
    """Parameters -> expected image f32 [..., H, W, C], in [0, 1] or clipped to it."""
    discrete: bool
    """Whether p is a probability, so that nats are bits; otherwise it is a density, whose logarithm may be above 0."""


def bernoulli() -> Likelihood:
    """Returns the likelihood whose values are 0 or 1.

    Grey levels count as probabilities of 1: log p is then its mean over images drawn from them.
    """

    def log_p(logits: jax.Array, images: jax.Array) -> jax.Array:
        return _over_pixels(images * logits - jax.nn.softplus(logits))

    return Likelihood(1, log_p, jax.nn.sigmoid, discrete=True)


def gaussian(*, scale: Positive = 0.1, learned: bool = False) -> Likelihood:
    """Returns the likelihood whose values are normal around the decoder's mean; p is a density over values in [0, 1].

    Args:
        scale: standard deviation; where it is learned, its lower bound, without which log p has no upper bound.
        learned: whether the decoder outputs a standard deviation for each value of each image.
    """

    def log_p(parameters: jax.Array, images: jax.Array) -> jax.Array:
        mean, spread = _split(parameters, 2) if learned else (parameters, None)
        deviation = jnp.asarray(scale, mean.dtype)
        if spread is not None:
            deviation = deviation + jax.nn.softplus(spread)
        normalised = (images - mean) / deviation
        return _over_pixels(-0.5 * normalised**2 - jnp.log(deviation) - 0.5 * math.log(2 * math.pi))

    def mean(parameters: jax.Array) -> jax.Array:
        return jnp.clip(_split(parameters, 2)[0] if learned else parameters, 0.0, 1.0)

    return Likelihood(2 if learned else 1, log_p, mean, discrete=False)


LOG_SCALES = (-7.0, 7.0)
"""Range of log-scales of a logistic: below, it is narrower than any of 256 levels; above, probabilities would round to 0."""


def discretized_logistic(*, levels: Annotated[int, Range(2)] = 256) -> Likelihood:
    """Returns the likelihood of `levels` grey levels, each with a logistic's probability of the interval around it.

    The intervals of black and white reach to infinity (Kingma et al. 2016, arXiv 1606.04934, section 6.1).

    Args:
        levels: number of grey levels, evenly from 0 to 1: 256 for photographs, 17 for scikit-learn's digits.
    """
    half = 0.5 / (levels - 1)

    def log_p(parameters: jax.Array, images: jax.Array) -> jax.Array:
        mean, log_scale = _split(parameters, 2)
        inverse = jnp.exp(-between(log_scale, *LOG_SCALES))
        grey = jnp.round(images * (levels - 1)) / (levels - 1)
        above, below = (grey + half - mean) * inverse, (grey - half - mean) * inverse
        # σ(a) − σ(b) = σ(a) σ(−b) (1 − exp(b − a)) is exact where both are near 0 or 1 and their difference cancels.
        inside = jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-below) + jnp.log(-jnp.expm1(-2 * half * inverse))
        each = jnp.where(grey <= half, jax.nn.log_sigmoid(above), inside)
        return _over_pixels(jnp.where(grey >= 1 - half, jax.nn.log_sigmoid(-below), each))

    return Likelihood(2, log_p, lambda parameters: jnp.clip(_split(parameters, 2)[0], 0.0, 1.0), discrete=True)


def _split(parameters: jax.Array, parts: int) -> list[jax.Array]:
    return jnp.split(parameters, parts, axis=-1)  # [..., H, W, C · parts] -> parts x [..., H, W, C]


def _over_pixels(each: jax.Array) -> jax.Array:
    """Sums over space and channels, [..., H, W, C] -> [...]."""
    return jnp.sum(each, axis=(-3, -2, -1))


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "discretized_logistic": discretized_logistic,
}
