"""A mixture of discretised logistics for the C channels of a pixel (Salimans et al. 2017, arXiv 1701.05517, section 2.1).

The components are shared by the channels; the mean of a channel moves by a linear function of the channels before it (section
2.2, written there for red, green and blue). Values are levels on [−1, 1].
"""

import jax
import jax.numpy as jnp

LOWEST_LOG_SCALE = -7.0
"""As in the authors' code: narrower than any level of 256."""


def numbers_of(channels: int, components: int) -> int:
    """How many numbers describe a pixel: 3 K for grey, 10 K for colour."""
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


def divided(numbers: jax.Array, channels: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """numbers f32 [..., P] -> (logits [..., K], means [..., C, K], log-scales [..., C, K], slopes [..., C (C − 1) / 2, K]).

    slopes are those of channel 1 on 0, 2 on 0, 2 on 1, …
    """
    pairs = channels * (channels - 1) // 2
    components = numbers.shape[-1] // numbers_of(channels, 1)
    parts = numbers.reshape(*numbers.shape[:-1], 1 + 2 * channels + pairs, components)
    means, scales = parts[..., 1 : 1 + channels, :], parts[..., 1 + channels : 1 + 2 * channels, :]
    return parts[..., 0, :], means, jnp.maximum(scales, LOWEST_LOG_SCALE), jnp.tanh(parts[..., 1 + 2 * channels :, :])


def moved(means: jax.Array, slopes: jax.Array, values: jax.Array, channel: int) -> jax.Array:
    """Means [..., K] of one channel, given the values [..., C] of those before it (eq. 3)."""
    mean, first = means[..., channel, :], channel * (channel - 1) // 2
    for earlier in range(channel):
        mean = mean + slopes[..., first + earlier, :] * values[..., earlier, None]
    return mean


def log_probability(numbers: jax.Array, values: jax.Array, *, levels: int) -> jax.Array:
    """log p f32 [...] in nats of a pixel.

    Args:
        numbers: f32 [..., P], see `divided`.
        values: f32 [..., C] in [−1, 1], on one of `levels` evenly spaced levels.
        levels: how many; the lowest reaches down to −∞ and the highest up to ∞, so that all add up to 1.
    """
    channels, half = values.shape[-1], 1.0 / (levels - 1)
    logits, means, log_scales, slopes = divided(numbers, channels)
    total = jax.nn.log_softmax(logits)
    for channel in range(channels):
        value = values[..., channel, None]
        centred = value - moved(means, slopes, values, channel)
        inverse = jnp.exp(-log_scales[..., channel, :])
        high, low = (centred + half) * inverse, (centred - half) * inverse
        # σ(h) − σ(l) = σ(h) σ(−l) (1 − exp(l − h)): no difference of near equals, hence no case apart as in the authors' code.
        each = jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + jnp.log(-jnp.expm1(-2 * half * inverse))
        each = jnp.where(value > half - 1, each, jax.nn.log_sigmoid(high))
        total = total + jnp.where(value < 1 - half, each, jax.nn.log_sigmoid(-low))
    return jax.nn.logsumexp(total, axis=-1)


def draw(numbers: jax.Array, key: jax.Array, temperature: jax.Array, *, channels: int, levels: int) -> jax.Array:
    """Values f32 [C] of a pixel, each on a level: a component, then channel after channel.

    Args:
        numbers: f32 [P].
        key: of the pixel.
        temperature: divides the logits of the components and those of the logistics, whose scales it multiplies.
        channels: how many.
        levels: how many.
    """
    logits, means, log_scales, slopes = divided(numbers, channels)
    component = jax.random.categorical(jax.random.fold_in(key, channels), logits / temperature)
    values = jnp.zeros(channels, numbers.dtype)
    for channel in range(channels):
        noise = jax.random.logistic(jax.random.fold_in(key, channel), (), numbers.dtype)
        mean = moved(means, slopes, values, channel)[component]
        value = mean + jnp.exp(log_scales[channel, component]) * temperature * noise
        level = jnp.round((jnp.clip(value, -1.0, 1.0) + 1) / 2 * (levels - 1))
        values = values.at[channel].set(2 * level / (levels - 1) - 1)
    return values
