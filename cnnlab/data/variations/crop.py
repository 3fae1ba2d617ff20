"""Crops: of the padded example at whole pixels, and of a part that is enlarged."""

import jax
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.data.kinds.extent import EXTENT
from cnnlab.data.motion import Edge, Motion, cut, resized_crop, window
from cnnlab.data.variations.examples import Examples, moved
from cnnlab.data.variations.mirror import alternating_flip, flip
from cnnlab.data.variations.parts import random_part, require_range
from cnnlab.errors import UsageError
from cnnlab.ops.keys import folded
from cnnlab.values import Count, Probability


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


def random_crop(examples: Examples, keys: Array, *, size: Count = 128) -> Examples:
    """Cuts out a square at a random place: training sees crops of this size, evaluation whole images.

    On a canvas (--image_fit=canvas) the crop lies on the image; where a side of it is shorter than the crop, it begins at the
    edge and the padding fills the rest.

    Args:
        size: height and width of the crop in pixels, not more than those of the images.
    """
    height, width = examples.size
    if size > min(height, width):
        raise UsageError(
            f"--augment.random_crop.size={size}: the images have {height} x {width} pixels (height x width).\n"
            f"Expected a crop of at most {min(height, width)}. Give a smaller size."
        )
    whole = jnp.broadcast_to(jnp.asarray((height, width), jnp.int32), (len(keys), 2))
    extents = examples.columns.get(EXTENT, whole)  # i32 [B, 2]

    def draw(drawn: tuple[Array, Array], _: tuple[int, int]) -> Motion:
        key, extent = drawn
        top, left = jax.random.randint(key, (2,), 0, jnp.maximum(extent - size, 0) + 1)
        return cut((size, size), top, left)

    cropped = moved(examples, (keys, extents), draw)
    return cropped.with_columns({EXTENT: jnp.minimum(extents, size)}) if EXTENT in examples.columns else cropped


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
        corner, extent, fits = random_part(key, size, area, ratio)
        largest = jnp.asarray(_largest(size, ratio), jnp.float32)
        middle = jnp.floor((jnp.asarray(size, jnp.float32) - largest) / 2)
        return resized_crop(size, jnp.where(fits, corner, middle), jnp.where(fits, extent, largest))

    return moved(examples, keys, draw)


def _largest(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Returns (height, width) of the largest part of an image whose ratio lies in the range."""
    height, width = size
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    return (height, round(height * ratio[1])) if width / height > ratio[1] else size
