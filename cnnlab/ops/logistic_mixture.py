"""A mixture of discretised logistics for the C channels of a pixel (Salimans et al. 2017, arXiv 1701.05517, section 2.1).

The components are shared by the channels; the mean of a channel is shifted by a linear function of the channels before it
(section 2.2, written there for red, green and blue). Values are levels on [−1, 1].

Letters in shapes: P parameters of a pixel, K components, C channels.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops.bounds import at_least

LOWEST_LOG_SCALE = -7.0
"""Lowest logarithm of a scale, as in the authors' code: narrower than any of 256 levels."""


def parameter_count(channels: int, components: int) -> int:
    """Returns P, how many parameters describe a pixel: 3 K for grey, 10 K for colour."""
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


def split_parameters(parameters: jax.Array, channels: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Splits f32 [..., P] into logits [..., K], means [..., C, K], log-scales [..., C, K], slopes [..., C (C − 1) / 2, K].

    The slopes are those of channel 1 on 0, 2 on 0, 2 on 1, …
    """
    pairs = channels * (channels - 1) // 2
    components = parameters.shape[-1] // parameter_count(channels, 1)
    # [..., P] -> [..., 1 + 2 C + C (C − 1) / 2, K]
    parts = parameters.reshape(*parameters.shape[:-1], 1 + 2 * channels + pairs, components)
    means, scales = parts[..., 1 : 1 + channels, :], parts[..., 1 + channels : 1 + 2 * channels, :]
    return parts[..., 0, :], means, at_least(scales, LOWEST_LOG_SCALE), jnp.tanh(parts[..., 1 + 2 * channels :, :])


def conditional_means(means: jax.Array, slopes: jax.Array, values: jax.Array, channel: int) -> jax.Array:
    """Returns the means [..., K] of one channel, given the values [..., C] of the channels before it (eq. 3)."""
    mean, first = means[..., channel, :], channel * (channel - 1) // 2
    for earlier in range(channel):
        mean = mean + slopes[..., first + earlier, :] * values[..., earlier, None]
    return mean


def log_probability(parameters: jax.Array, values: jax.Array, *, levels: int) -> jax.Array:
    """Returns log p f32 [...] of a pixel, in nats.

    Args:
        parameters: f32 [..., P], see `split_parameters`.
        values: f32 [..., C] in [−1, 1], on one of `levels` evenly spaced levels.
        levels: number of levels; the lowest reaches down to −∞ and the highest up to ∞, so that all add up to 1.
    """
    channels, half = values.shape[-1], 1.0 / (levels - 1)
    logits, means, log_scales, slopes = split_parameters(parameters, channels)
    total = jax.nn.log_softmax(logits)  # [..., K]: log p of the component, then of each channel given the component
    for channel in range(channels):
        value = values[..., channel, None]
        centred = value - conditional_means(means, slopes, values, channel)
        inverse = jnp.exp(-log_scales[..., channel, :])
        high, low = (centred + half) * inverse, (centred - half) * inverse
        # σ(h) − σ(l) = σ(h) σ(−l) (1 − exp(l − h)) has no difference of near equals, hence needs no separate case as in the
        # authors' code.
        each = jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + jnp.log(-jnp.expm1(-2 * half * inverse))
        each = jnp.where(value > half - 1, each, jax.nn.log_sigmoid(high))
        total = total + jnp.where(value < 1 - half, each, jax.nn.log_sigmoid(-low))
    return jax.nn.logsumexp(total, axis=-1)  # [..., K] -> [...]


def draw(parameters: jax.Array, key: jax.Array, temperature: jax.Array, *, channels: int, levels: int) -> jax.Array:
    """Draws the values f32 [C] of a pixel, each on a level: a component first, then channel after channel.

    Args:
        parameters: f32 [P].
        key: PRNG key of the pixel.
        temperature: f32 []; divides the logits of the components and those of the logistics, whose scales it multiplies.
        channels: C.
        levels: number of evenly spaced levels in [−1, 1].
    """
    logits, means, log_scales, slopes = split_parameters(parameters, channels)
    # Channels use the streams 0 … C − 1 of the key, the component the stream C.
    component = jax.random.categorical(jax.random.fold_in(key, channels), logits / temperature)
    values = jnp.zeros(channels, parameters.dtype)
    for channel in range(channels):
        noise = jax.random.logistic(jax.random.fold_in(key, channel), (), parameters.dtype)
        mean = conditional_means(means, slopes, values, channel)[component]
        value = mean + jnp.exp(log_scales[channel, component]) * temperature * noise
        level = jnp.round((jnp.clip(value, -1.0, 1.0) + 1) / 2 * (levels - 1))
        values = values.at[channel].set(2 * level / (levels - 1) - 1)
    return values
