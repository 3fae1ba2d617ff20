"""Colours: brightness, contrast, saturation and hue, each by the formula of torchvision's ColorJitter, and grey images.

The results are clipped to [0, 1]. Letters in shapes: B batch, H W space, C channels.
"""

from typing import Annotated

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.errors import UsageError
from cnnlab.values import NonNegative, Probability, Range

Turn = Annotated[float, Range(0, 0.5)]
"""A part of the circle of hues, of which 0.5 is the opposite one."""
Strength = Annotated[float, Range(0, 2.5)]
"""A strength of `color_distortion`, at whose largest value the hue may turn anywhere."""
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601, as in torchvision)."""
RGB = 3


def brightness(images: Array, keys: Array, *, amount: NonNegative = 0.4) -> Array:
    """Multiplies each image by a factor, uniform in [1 - amount, 1 + amount] and not below 0.

    Args:
        amount: largest change of the factor.
    """
    return blended(images, jnp.zeros_like(images), _factors(keys, amount))


def contrast(images: Array, keys: Array, *, amount: NonNegative = 0.4) -> Array:
    """Blends each image with its mean grey level; the factor of the image is uniform in [1 - amount, 1 + amount].

    Args:
        amount: largest change of the factor.
    """
    return blended(images, mean_grey(images), _factors(keys, amount))


def saturation(images: Array, keys: Array, *, amount: NonNegative = 0.4) -> Array:
    """Blends each image with its grey version; the factor of the image is uniform in [1 - amount, 1 + amount].

    Args:
        amount: largest change of the factor.
    """
    _require_colours("saturation", images)
    return blended(images, grey(images), _factors(keys, amount))


def hue(images: Array, keys: Array, *, amount: Turn = 0.1) -> Array:
    """Turns the hue of each image by a part of the circle that is uniform in [-amount, amount].

    Args:
        amount: largest turn; 0.5 reaches the opposite colour.
    """
    _require_colours("hue", images)
    return hue_turned(images, _symmetric(keys) * amount)


def color_jitter(
    images: Array,
    keys: Array,
    *,
    brightness: NonNegative = 0.4,
    contrast: NonNegative = 0.4,
    saturation: NonNegative = 0.4,
    hue: Turn = 0.1,
) -> Array:
    """Changes brightness, contrast, saturation and hue, in this order; of images without three channels only the first two.

    Deviation: torchvision draws the order of the four for each image; here it is fixed, since an order for each image would
    compute all of them four times.

    Args:
        brightness: largest change of the factor of the brightness.
        contrast: largest change of the factor of the contrast.
        saturation: largest change of the factor of the saturation.
        hue: largest turn of the hue, as a part of the circle.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0))(keys)  # [B, 4]
    by_image = draws[:, :, None, None, None]  # [B, 4] -> [B, 4, 1, 1, 1]
    images = blended(images, jnp.zeros_like(images), _factor(by_image[:, 0], brightness))
    images = blended(images, mean_grey(images), _factor(by_image[:, 1], contrast))
    if images.shape[-1] != RGB:
        return images
    images = blended(images, grey(images), _factor(by_image[:, 2], saturation))
    return hue_turned(images, by_image[:, 3] * hue)


def grayscale(images: Array, keys: Array, *, probability: Probability = 0.2) -> Array:
    """Replaces images by their grey version, which has the same three channels.

    Args:
        probability: probability that an image becomes grey (0.2 in Chen et al. 2020, arXiv:2002.05709, appendix A).
    """
    _require_colours("grayscale", images)
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
    return jnp.where(chosen[:, None, None, None], grey(images), images)


def color_distortion(
    images: Array, keys: Array, *, strength: Strength = 0.5, probability: Probability = 0.8, grey_share: Probability = 0.2
) -> Array:
    """Changes the colours of most images, and makes some of them grey, as contrastive learning needs it.

    Chen et al. (2020, arXiv 2002.05709) take strength 1 on ImageNet (appendix A) and 0.5 on CIFAR-10 (appendix B.9). Images of
    one channel only change in brightness and contrast. Deviation: the order of the changes is fixed (`color_jitter`).

    Args:
        strength: s: brightness, contrast and saturation change by up to 0.8 s, the hue by up to 0.2 s of the circle.
        probability: probability that the colours of an image change.
        grey_share: probability that an image becomes grey, after that.
    """
    amounts = {"brightness": 0.8 * strength, "contrast": 0.8 * strength, "saturation": 0.8 * strength, "hue": 0.2 * strength}
    chosen = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 0), probability))(keys)
    folded = jax.vmap(jax.random.fold_in, in_axes=(0, None))
    images = jnp.where(chosen[:, None, None, None], color_jitter(images, folded(keys, 1), **amounts), images)
    return grayscale(images, folded(keys, 2), probability=grey_share) if images.shape[-1] == RGB else images


def drop_channel(images: Array, keys: Array, *, probability: Probability = 0.2) -> Array:
    """Sets one channel of an image, drawn at random, to zero.

    Args:
        probability: probability that an image loses a channel.
    """
    channels = images.shape[-1]
    if channels < 2:
        raise UsageError(
            "--augment=drop_channel: the images have 1 channel, without which nothing is left.\n"
            "Expected two or more. Leave drop_channel out."
        )

    def dropped(key: Array) -> Array:
        number = jax.random.randint(jax.random.fold_in(key, 0), (), 0, channels)
        chosen = jax.random.bernoulli(jax.random.fold_in(key, 1), probability)
        return chosen & (jnp.arange(channels) == number)

    return jnp.where(jax.vmap(dropped)(keys)[:, None, None, :], 0.0, images)


def blended(images: Array, others: Array, factors: Array) -> Array:
    """Returns factor · image + (1 - factor) · other, clipped to [0, 1]; factors f32 [B, 1, 1, 1]."""
    return jnp.clip(factors * images + (1.0 - factors) * others, 0.0, 1.0)


def grey(images: Array) -> Array:
    """Returns the grey level of every pixel in all channels: the luma of RGB, else the mean of the channels, f32 [..., C]."""
    channels = images.shape[-1]
    if channels == 1:
        return images
    weights = jnp.asarray(LUMA if channels == RGB else (1 / channels,) * channels, images.dtype)
    # The sum is written out, since a product with a vector would be a slow matrix product: [..., C] -> [..., 1]
    levels = sum((images[..., i : i + 1] * weights[i] for i in range(1, channels)), images[..., :1] * weights[0])
    return jnp.broadcast_to(levels, images.shape)


def mean_grey(images: Array) -> Array:
    """Returns the mean grey level of each image, f32 [..., 1, 1, 1] in all its pixels."""
    return jnp.broadcast_to(jnp.mean(grey(images)[..., :1], axis=(-3, -2, -1), keepdims=True), images.shape)


def hue_turned(images: Array, turns: Array) -> Array:
    """Returns RGB images f32 [..., 3] whose hue is turned by parts of the circle, f32 [..., 1, 1, 1], in the model HSV."""
    red, green, blue = (images[..., i] for i in range(RGB))
    value, low = jnp.maximum(jnp.maximum(red, green), blue), jnp.minimum(jnp.minimum(red, green), blue)
    chroma = value - low
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    # Channels are compared with each other, not with the maximum: XLA may compute them for it once more, rounded otherwise.
    sextant = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / divisor,
        jnp.where(green >= blue, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    turned = sextant + 6.0 * turns[..., 0]

    def channel(start: float) -> Array:
        place = (start + turned) % 6.0
        return value - chroma * jnp.clip(jnp.minimum(place, 4.0 - place), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def _require_colours(name: str, images: Array) -> None:
    if images.shape[-1] != RGB:
        raise UsageError(
            f"--augment={name}: it changes colours, and the images have {images.shape[-1]} channel(s).\n"
            f"Expected the three channels of RGB. Leave {name} out; color_jitter changes brightness and contrast of any images."
        )


def _factors(keys: Array, amount: float) -> Array:
    """Draws a factor for each image, f32 [B, 1, 1, 1]."""
    return _factor(_symmetric(keys), amount)


def _factor(draw: Array, amount: float) -> Array:
    """Returns the factor in [max(0, 1 - amount), 1 + amount] at a draw in [-1, 1)."""
    low = jnp.maximum(1.0 - jnp.asarray(amount, draw.dtype), 0.0)
    return low + (draw + 1.0) / 2.0 * (1.0 + amount - low)


def _symmetric(keys: Array) -> Array:
    """Draws uniformly from [-1, 1) for each image, f32 [B, 1, 1, 1]."""
    return jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1), minval=-1.0, maxval=1.0))(keys)
