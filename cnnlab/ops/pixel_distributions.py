"""What a network's numbers for a pixel mean: a distribution over its values, with log p, and how to draw from it.

Letters in shapes: P numbers for a pixel, C channels, L levels.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from cnnlab.ops import logistic_mixture
from cnnlab.values import Count, Range

Levels = Annotated[int, Range(2, 256)]


@dataclasses.dataclass(frozen=True)
class PixelDistribution:
    """A distribution over the values of a pixel."""

    numbers: Callable[[int], int]
    """Channels -> P."""
    levels: int
    """That a value may take, evenly from 0 to 1."""
    ordered: bool
    """Whether the network tells channels from those before them; otherwise the distribution orders them itself."""
    values: Callable[[jax.Array, jax.Array], jax.Array]
    """(image f32 [H, W, C] in [0, 1], key) -> what is to be told, f32 [H, W, C], on the levels."""
    fresh: bool
    """Whether training draws `values` anew in every step; otherwise each example has its own for ever."""
    log_p: Callable[[jax.Array, jax.Array], jax.Array]
    """(numbers f32 [..., P], values f32 [..., C]) -> log p f32 [...] of the pixel in nats."""
    draw: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]
    """(numbers f32 [P], key of the pixel, temperature, C) -> values f32 [C]; the value of a channel depends on its own numbers
    alone where the network orders them."""


def on_levels(image: jax.Array, levels: int) -> jax.Array:
    """The nearest of `levels` levels, evenly from 0 to 1."""
    return jnp.round(image * (levels - 1)) / (levels - 1)


def bernoulli(*, binarize: Literal["dynamic", "static", "threshold"] = "dynamic") -> PixelDistribution:
    """Black or white, one logit for each channel.

    Args:
        binarize: grey levels to black and white: by a draw with the grey as probability of white, in training a new one for
            every step (dynamic; Salakhutdinov and Murray 2008) or one for ever (static), or at a half (threshold). Held-out
            images have one draw for ever.
    """

    def values(image: jax.Array, key: jax.Array) -> jax.Array:
        level = 0.5 if binarize == "threshold" else jax.random.uniform(key, image.shape, image.dtype)
        return (image > level).astype(image.dtype)

    def log_p(numbers: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(values * numbers - jax.nn.softplus(numbers), axis=-1)

    def draw(numbers: jax.Array, key: jax.Array, temperature: jax.Array, channels: int) -> jax.Array:
        noise = jax.random.uniform(key, (channels,), numbers.dtype)
        return (noise < jax.nn.sigmoid(numbers / temperature)).astype(numbers.dtype)

    return PixelDistribution(lambda channels: channels, 2, True, values, binarize == "dynamic", log_p, draw)


def softmax(*, levels: Levels = 256) -> PixelDistribution:
    """One of `levels` levels, a softmax for each channel (van den Oord et al. 2016, arXiv 1601.06759, section 2.2).

    Args:
        levels: of grey.
    """

    def log_p(numbers: jax.Array, values: jax.Array) -> jax.Array:
        logits = jax.nn.log_softmax(numbers.reshape(*values.shape, levels))
        level = jnp.round(values * (levels - 1)).astype(jnp.int32)
        return jnp.sum(jnp.take_along_axis(logits, level[..., None], axis=-1), axis=(-2, -1))

    def draw(numbers: jax.Array, key: jax.Array, temperature: jax.Array, channels: int) -> jax.Array:
        level = jax.random.categorical(key, numbers.reshape(channels, levels) / temperature)
        return level.astype(numbers.dtype) / (levels - 1)

    return PixelDistribution(
        lambda channels: channels * levels, levels, True, lambda image, key: on_levels(image, levels), False, log_p, draw
    )


def mixture(*, components: Count = 5, levels: Levels = 256) -> PixelDistribution:
    """One of `levels` levels, by a mixture of discretised logistics (Salimans et al. 2017, arXiv 1701.05517).

    Args:
        components: of the mixture.
        levels: of grey.
    """

    def log_p(numbers: jax.Array, values: jax.Array) -> jax.Array:
        return logistic_mixture.log_probability(numbers, 2 * values - 1, levels=levels)

    def draw(numbers: jax.Array, key: jax.Array, temperature: jax.Array, channels: int) -> jax.Array:
        return (logistic_mixture.draw(numbers, key, temperature, channels=channels, levels=levels) + 1) / 2

    def numbers_of(channels: int) -> int:
        return logistic_mixture.numbers_of(channels, components)

    return PixelDistribution(numbers_of, levels, False, lambda image, key: on_levels(image, levels), False, log_p, draw)


PIXEL_DISTRIBUTIONS: dict[str, Callable[..., PixelDistribution]] = {
    "bernoulli": bernoulli,
    "softmax": softmax,
    "mixture": mixture,
}
