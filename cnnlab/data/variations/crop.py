"""Crops: of the padded example at whole pixels, and of a part that is enlarged."""

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.data.motion import Edge, Motion, resized_crop, window
from cnnlab.data.variations.examples import Examples, folded, moved
from cnnlab.data.variations.mirror import alternating_flip, flip
from cnnlab.errors import UsageError
from cnnlab.values import Count, Probability

TRIES = 10
"""Number of parts that `random_resized_crop` draws to find one that fits, as torchvision does."""


def pad_crop(examples: Examples, keys: Array, *, pad: Count = 4, edge: Edge = "zeros") -> Examples:
    """Pads on all sides and crops the old size at a random place: shifts of up to `pad` whole pixels.

    He et al. (2016, arXiv:1512.03385, section 4.2) pad CIFAR images by 4.

    Args:
        pad: pixels on each side.
        edge: what they hold: zeros, the image reflected, or its mean.
    """

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
        return window(size, top, left, pad=pad, edge=edge)

    return moved(examples, keys, draw)


def flip_crop(
    examples: Examples, keys: Array, *, probability: Probability = 0.5, pad: Count = 4, edge: Edge = "zeros"
) -> Examples:
    """Mirrors (`flip`), then crops (`pad_crop`): the usual augmentation for CIFAR.

    Args:
        probability: probability that an example is mirrored.
        pad: pixels on each side.
        edge: what they hold: zeros, the image reflected, or its mean.
    """
    return pad_crop(flip(examples, folded(keys, 0), probability=probability), folded(keys, 1), pad=pad, edge=edge)


def alternating_flip_crop(
    examples: Examples, keys: Array, *, index: Array, epoch: Array, pad: Count = 2, edge: Edge = "reflect"
) -> Examples:
    """Mirrors in every second epoch (`alternating_flip`), then crops (`pad_crop`).

    Args:
        index: place of each example in the split, i32 [B].
        epoch: number of times that training has shown each example before, i32 [B].
        pad: pixels on each side.
        edge: what they hold: zeros, the image reflected, or its mean.
    """
    return pad_crop(alternating_flip(examples, keys, index=index, epoch=epoch), keys, pad=pad, edge=edge)


def random_resized_crop(
    examples: Examples, keys: Array, *, area: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (0.75, 4 / 3)
) -> Examples:
    """Enlarges a random part of the example to the whole size (Szegedy et al. 2014, arXiv:1409.4842, section 6).

    Area and ratio of the part are drawn as in torchvision's RandomResizedCrop: of ten draws the first that fits is taken, and
    if none does, the largest part in the middle with the nearest possible ratio.

    Args:
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width over height; its logarithm is uniform.
    """
    require_range("area", area, high=1.0)
    require_range("ratio", ratio)

    def draw(key: Array, size: tuple[int, int]) -> Motion:
        height, width = size
        draws = jax.random.uniform(key, (TRIES + 1, 2))
        areas = (area[0] + draws[:TRIES, 0] * (area[1] - area[0])) * height * width
        low, high = jnp.log(ratio[0]), jnp.log(ratio[1])
        ratios = jnp.exp(low + draws[:TRIES, 1] * (high - low))
        sides = jnp.round(jnp.sqrt(jnp.stack([areas / ratios, areas * ratios], axis=1)))  # [TRIES, 2]: height, width
        whole = jnp.asarray(size, jnp.float32)
        fits = jnp.all((sides >= 1) & (sides <= whole[None]), axis=1)
        extent = jnp.where(jnp.any(fits), sides[jnp.argmax(fits)], jnp.asarray(_largest(size, ratio), jnp.float32))
        room = whole - extent
        at_random = jnp.minimum(jnp.floor(draws[TRIES] * (room + 1)), room)
        return resized_crop(size, jnp.where(jnp.any(fits), at_random, jnp.floor(room / 2)), extent)

    return moved(examples, keys, draw)


def _largest(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Returns (height, width) of the largest part of an image whose ratio lies in the range."""
    height, width = size
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    return (height, round(height * ratio[1])) if width / height > ratio[1] else size


def require_range(name: str, limits: tuple[float, float], *, high: float = jnp.inf) -> None:
    """Raises UsageError unless the two numbers of a knob are an increasing range of positive numbers."""
    if not 0 < limits[0] <= limits[1] <= high:
        most = f" up to {high:g}" if high < jnp.inf else ""
        raise UsageError(
            f"--{name}={limits[0]:g},{limits[1]:g}: no range.\n"
            f"Expected LOW,HIGH with 0 < LOW <= HIGH{most}. Write the smaller number first."
        )
