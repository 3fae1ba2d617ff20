"""Distributions over the values of a pixel, given the parameters that a network outputs: log p, and how to draw from them.

Letters in shapes: P parameters of a pixel, C channels, L levels.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from cnnlab.ops import draws, logistic_mixture
from cnnlab.values import Count, Range

Levels = Annotated[int, Range(2, 256)]


@dataclasses.dataclass(frozen=True)
class PixelDistribution:
    """A distribution over the values of a pixel."""

    parameter_count: Callable[[int], int]
    """Channels -> P."""
    levels: int
    """Number of levels that a value may take, evenly from 0 to 1."""
    autoregressive_channels: bool
    """Whether the network makes the parameters of a channel from the channels before it; otherwise it makes those of all
    channels at once and the distribution itself models how they depend on one another."""
    targets: Callable[[jax.Array, jax.Array], jax.Array]
    """(image f32 [H, W, C] in [0, 1], key) -> the values to be predicted, f32 [H, W, C], on the levels."""
    resample_targets: bool
    """Whether training draws the targets anew in every step; otherwise those of an example never change."""
    log_p: Callable[[jax.Array, jax.Array], jax.Array]
    """(parameters f32 [..., P], values f32 [..., C]) -> log p f32 [...] of the pixel in nats."""
    draw: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]
    """(parameters f32 [P], key of the pixel, temperature f32 [], C) -> values f32 [C]; with `autoregressive_channels` the
    value of a channel depends on its own parameters alone."""


def on_levels(image: jax.Array, levels: int) -> jax.Array:
    """Rounds values in [0, 1] to the nearest of `levels` evenly spaced levels."""
    return jnp.round(image * (levels - 1)) / (levels - 1)


def bernoulli(*, binarize: Literal["dynamic", "static", "threshold"] = "dynamic") -> PixelDistribution:
    """Returns the distribution of black or white channels, by one logit for each.

    Args:
        binarize: how grey levels become black and white: by a draw with the grey as probability of white, in training a new
            draw in every step (dynamic; Salakhutdinov and Murray 2008) or one that never changes (static), or by comparing
            with ½ (threshold). The draw of a held-out image never changes.
    """

    def targets(image: jax.Array, key: jax.Array) -> jax.Array:
        level = 0.5 if binarize == "threshold" else draws.uniform(key, image.shape, image.dtype)
        return (image > level).astype(image.dtype)

    def log_p(parameters: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(values * parameters - jax.nn.softplus(parameters), axis=-1)

    def draw(parameters: jax.Array, key: jax.Array, temperature: jax.Array, channels: int) -> jax.Array:
        noise = draws.uniform(key, (channels,), parameters.dtype)
        return (noise < jax.nn.sigmoid(parameters / temperature)).astype(parameters.dtype)

    return PixelDistribution(lambda channels: channels, 2, True, targets, binarize == "dynamic", log_p, draw)


def softmax(*, levels: Levels = 256) -> PixelDistribution:
    """Returns `levels` levels by a softmax for each channel (van den Oord et al. 2016, arXiv 1601.06759, section 2.2).

    Args:
        levels: number of grey levels.
    """

    def log_p(parameters: jax.Array, values: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(parameters.reshape(*values.shape, levels))  # [..., C·L] -> [..., C, L]
        level = jnp.round(values * (levels - 1)).astype(jnp.int32)  # [..., C]
        # [..., C, L] at [..., C, 1] -> [..., C, 1] -> [...]
        return jnp.sum(jnp.take_along_axis(log_p, level[..., None], axis=-1), axis=(-2, -1))

    def draw(parameters: jax.Array, key: jax.Array, temperature: jax.Array, channels: int) -> jax.Array:
        level = jax.random.categorical(key, parameters.reshape(channels, levels) / temperature)  # [C·L] -> [C, L] -> [C]
        return level.astype(parameters.dtype) / (levels - 1)

    return PixelDistribution(
        lambda channels: channels * levels, levels, True, lambda image, key: on_levels(image, levels), False, log_p, draw
    )


def mixture(*, components: Count = 5, levels: Levels = 256) -> PixelDistribution:
    """Returns `levels` levels by a mixture of discretised logistics (Salimans et al. 2017, arXiv 1701.05517).

    Args:
        components: number of logistics in the mixture.
        levels: number of grey levels.
    """

    def log_p(parameters: jax.Array, values: jax.Array) -> jax.Array:
        return logistic_mixture.log_probability(parameters, 2 * values - 1, levels=levels)

    def draw(parameters: jax.Array, key: jax.Array, temperature: jax.Array, channels: int) -> jax.Array:
        return (logistic_mixture.draw(parameters, key, temperature, channels=channels, levels=levels) + 1) / 2

    def parameter_count(channels: int) -> int:
        return logistic_mixture.parameter_count(channels, components)

    return PixelDistribution(parameter_count, levels, False, lambda image, key: on_levels(image, levels), False, log_p, draw)


PIXEL_DISTRIBUTIONS: dict[str, Callable[..., PixelDistribution]] = {
    "bernoulli": bernoulli,
    "softmax": softmax,
    "mixture": mixture,
}
